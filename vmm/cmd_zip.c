/*
 * Console command zip: what is compressed, of the host and of each VM. Sizes are of the pages as guests know them and
 * of the frames they take.
 */
#include "lib/format.h"
#include "mm/zip.h"
#include "vmm/command.h"
#include "vmm/vm.h"

#define ROWS_PER_PIECE 16U

static const char *size(char buf[FORMAT_SIZE_BYTES], u64 pages)
{
	return pages ? format_size(buf, pages << PAGE_SHIFT) : "-";
}

static void print_head(struct console_out *o)
{
	char pages[FORMAT_SIZE_BYTES], pool[FORMAT_SIZE_BYTES], data[FORMAT_SIZE_BYTES];
	struct zip_stats s;

	zip_stats(&s);
	if (s.percent)
		console_printf(o, "compression: on, at most %u%% of a VM's memory\n", s.percent);
	else
		console_printf(o, "compression: off\n");
	console_printf(o, "%s in %s, %s of data; %lu same-filled\n", format_size(pages, s.pages << PAGE_SHIFT),
		       format_size(pool, s.frames << PAGE_SHIFT), format_size(data, s.bytes), s.same_pages);
	console_printf(o, "stored %lu, back %lu\n", s.in, s.out);
	console_printf(o, "turned away: %lu poor, %lu pool full, %lu no memory\n", s.poor, s.full, s.no_memory);
	console_printf(o, "\n%-15s %8s %8s %8s %8s %10s %10s\n", "name", "pages", "pool", "max", "same", "stored",
		       "back");
}

static void print_row(struct console_out *o, const struct vm *vm)
{
	char pages[FORMAT_SIZE_BYTES], pool[FORMAT_SIZE_BYTES], max[FORMAT_SIZE_BYTES];
	const struct gspace *gs = &vm->gs;

	console_printf(o, "%-15s %8s %8s %8s %8u %10lu %10lu\n", vm->config.name,
		       size(pages, gs->count[PAGE_COMPRESSED]), size(pool, gs->zip.frames),
		       size(max, zip_max_frames(gs)), gs->zip.same, gs->stats.zip_in, gs->stats.zip_out);
}

int cmd_zip(struct command_run *r)
{
	struct vm *vm = command_vm_at(r->at);

	if (r->at == 0)
		print_head(r->out);
	for (u32 i = 0; vm && i < ROWS_PER_PIECE; i++, vm = vm_next(vm)) {
		if (vm->gs_valid)
			print_row(r->out, vm);
		r->at++;
	}
	if (vm)
		r->more = cmd_zip;
	return 0;
}
