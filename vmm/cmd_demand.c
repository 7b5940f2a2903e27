/*
 * Console command `mem demand`: VMs with Dynamic Memory, what they have and what they want; and the same of one VM as a
 * part of `mem NAME`.
 */
#include "lib/format.h"
#include "mm/dynmem.h"
#include "vmm/command.h"
#include "vmm/pairs.h"
#include "vmm/vm.h"

#define ROWS_PER_PIECE 16U

static u64 to_bytes(u64 pages)
{
	return pages << PAGE_SHIFT;
}

void cmd_demand_print_vm(struct pairs *p, const struct gspace *gs)
{
	const struct dynmem *d = &gs->dyn;

	if (!d->maximum)
		return;
	pairs_number(p, "minimum", d->minimum);
	pairs_number(p, "maximum", d->maximum);
	pairs_number(p, "buffer", d->buffer);
	pairs_format(p, "demand-mode", "%s", d->fixed ? "fixed" : "auto");
	pairs_number(p, "committed", READ_ONCE(d->committed));
	pairs_number(p, "wanted", dynmem_wanted(gs));
	pairs_number(p, "has", dynmem_have(gs));
	pairs_number(p, "pressure", dynmem_pressure(gs));
	pairs_format(p, "demand-status", "%s", dynmem_status_name(dynmem_status(gs)));
	pairs_number(p, "offered", READ_ONCE(d->offered) > gs->pages ? d->offered - gs->pages : 0);
	pairs_number(p, "grown", d->grown);
	pairs_end(p);
}

static void row(struct console_out *o, const struct vm *vm)
{
	char minimum[FORMAT_SIZE_BYTES], maximum[FORMAT_SIZE_BYTES], has[FORMAT_SIZE_BYTES];
	char committed[FORMAT_SIZE_BYTES], wanted[FORMAT_SIZE_BYTES];
	const struct gspace *gs = &vm->gs;
	const struct dynmem *d = &gs->dyn;

	console_printf(o, "%-15s %7s %7s %9s %7s %7s %7u%% %-7s %s\n", vm->config.name,
		       format_size(minimum, to_bytes(d->minimum)), format_size(maximum, to_bytes(d->maximum)),
		       format_size(committed, to_bytes(READ_ONCE(d->committed))),
		       format_size(wanted, to_bytes(dynmem_wanted(gs))), format_size(has, to_bytes(dynmem_have(gs))),
		       dynmem_pressure(gs), dynmem_status_name(dynmem_status(gs)), d->fixed ? "fixed" : "auto");
}

static bool any_to_show(void)
{
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm))
		if (vm->gs_valid && vm->gs.dyn.maximum)
			return true;
	return false;
}

int cmd_mem_demand(struct command_run *r)
{
	struct vm *vm = command_vm_at(r->at);

	if (r->at == 0 && !any_to_show()) {
		console_printf(r->out, "no VM that runs has Dynamic Memory (maximum=)\n");
		return 0;
	}
	if (r->at == 0)
		console_printf(r->out, "%-15s %7s %7s %9s %7s %7s %8s %-7s %s\n", "name", "minimum", "maximum",
			       "committed", "wanted", "has", "pressure", "status", "mode");
	for (u32 i = 0; vm && i < ROWS_PER_PIECE; i++, vm = vm_next(vm)) {
		if (vm->gs_valid && vm->gs.dyn.maximum)
			row(r->out, vm);
		r->at++;
	}
	if (vm)
		r->more = cmd_mem_demand;
	return 0;
}
