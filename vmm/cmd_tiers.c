/*
 * Console commands about single tiers of reclaim: share, swap. The host's line as in `mem`, and a row for each VM that has
 * memory: what the tier holds of it, what it moved since the VM's start and, by the monitor's last sample, moves now.
 */
#include "lib/format.h"
#include "vmm/command.h"
#include "vmm/monitor.h"
#include "vmm/vm.h"

#define ROWS_PER_PIECE 16U

#define SIZE(pages) format_size((char[FORMAT_SIZE_BYTES]){0}, (u64)(pages) << PAGE_SHIFT)

/* Rows from slot r->at on, one piece. True when it was the last. */
static bool rows(struct command_run *r, void (*row)(struct console_out *o, const struct monitor_vm *m))
{
	for (u32 n = 0; r->at < VM_MAX && n < ROWS_PER_PIECE; r->at++) {
		const struct monitor_vm *m = monitor_at(r->at);

		if (!m || !m->now.live)
			continue;
		row(r->out, m);
		n++;
	}
	return r->at == VM_MAX;
}

/* ---- share ---- */

static void share_row(struct console_out *o, const struct monitor_vm *m)
{
	const struct vm_figures *f = &m->now;
	const struct vm *vm = vm_find(m->name);

	console_printf(o, "%-11s %-8s %6s %6s %6s %8lu %9lu %10lu %5u\n", m->name,
		       vm && vm->config.share_group[0] ? vm->config.share_group : "-", SIZE(f->count[PAGE_ZERO]),
		       SIZE(f->count[PAGE_SHARED]), SIZE(figures_vm_saved(f, &monitor_host()->now)), f->stats.zero_in,
		       f->stats.shared_in, f->stats.cow_breaks, m->rate.cow_breaks);
}

static int share_some(struct command_run *r)
{
	if (!rows(r, share_row))
		r->more = share_some;
	return 0;
}

int cmd_share(struct command_run *r)
{
	cmd_mem_print_share(r->out);
	console_printf(r->out, "\n%-11s %-8s %6s %6s %6s %8s %9s %10s %5s\n", "name", "group", "zero", "shared", "saved", "zero-in",
		       "shared-in", "cow-breaks", "cow-s");
	return share_some(r);
}

/* ---- swap ---- */

static void swap_row(struct console_out *o, const struct monitor_vm *m)
{
	const struct vm_figures *f = &m->now;

	console_printf(o, "%-12s %7s %8s %8lu %8lu %7lu %6u %6u %4u.%u%%\n", m->name,
		       SIZE(f->count[PAGE_SWAPPED] + f->count[PAGE_SWAPPING_IN]), SIZE(f->swap_reserved), f->stats.swap_out,
		       f->stats.swap_in, f->stats.swap_rescued, m->rate.swap_out, m->rate.swap_in,
		       m->rate.wait_permille / 10, m->rate.wait_permille % 10);
}

static int swap_some(struct command_run *r)
{
	if (!rows(r, swap_row))
		r->more = swap_some;
	return 0;
}

int cmd_swap(struct command_run *r)
{
	cmd_mem_print_swap(r->out);
	console_printf(r->out, "\n%-12s %7s %8s %8s %8s %7s %6s %6s %7s\n", "name", "swapped", "reserved", "out", "in",
		       "rescued", "out-s", "in-s", "waiting");
	return swap_some(r);
}
