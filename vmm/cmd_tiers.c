/*
 * Console commands about single tiers of reclaim: share, swap. The host's line as in `mem`, and a row for each VM that
 * has memory: what the tier holds of it, what it moved since the VM's start and, by the monitor's last sample, moves
 * now.
 */
#include "lib/format.h"
#include "vmm/command.h"
#include "vmm/monitor.h"
#include "vmm/vm.h"

#define ROWS_PER_PIECE 16U

#define SIZE(pages)    format_size((char[FORMAT_SIZE_BYTES]){0}, (u64)(pages) << PAGE_SHIFT)
#define NUMBER(n)      number((char[NUMBER_BYTES]){0}, n)
#define NUMBER_BYTES   24

static const char *number(char buf[NUMBER_BYTES], u64 n)
{
	format_buf(buf, NUMBER_BYTES, "%lu", n);
	return buf;
}

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
	char row[120];
	size_t n = format_append(row, sizeof(row), 0, "%s", m->name);

	n = format_left(row, sizeof(row), n, 12, vm && vm->config.share_group[0] ? vm->config.share_group : "-");
	n = format_right(row, sizeof(row), n, 27, SIZE(f->count[PAGE_ZERO]));
	n = format_right(row, sizeof(row), n, 34, SIZE(f->count[PAGE_SHARED]));
	n = format_right(row, sizeof(row), n, 41, SIZE(figures_vm_saved(f, &monitor_host()->now)));
	n = format_right(row, sizeof(row), n, 50, NUMBER(f->stats.zero_in));
	n = format_right(row, sizeof(row), n, 60, NUMBER(f->stats.shared_in));
	n = format_right(row, sizeof(row), n, 71, NUMBER(f->stats.cow_breaks));
	format_right(row, sizeof(row), n, 77, NUMBER(m->rate.cow_breaks));
	console_printf(o, "%s\n", row);
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
	console_printf(r->out, "\n%-11s %-8s %6s %6s %6s %8s %9s %10s %5s\n", "name", "group", "zero", "shared",
		       "saved", "zero-in", "shared-in", "cow-breaks", "cow-s");
	return share_some(r);
}

/* ---- swap ---- */

static void swap_row(struct console_out *o, const struct monitor_vm *m)
{
	const struct vm_figures *f = &m->now;
	char row[120];
	size_t n = format_append(row, sizeof(row), 0, "%s", m->name);

	n = format_right(row, sizeof(row), n, 20, SIZE(f->count[PAGE_SWAPPED] + f->count[PAGE_SWAPPING_IN]));
	n = format_right(row, sizeof(row), n, 29, SIZE(f->swap_reserved));
	n = format_right(row, sizeof(row), n, 38, NUMBER(f->stats.swap_out));
	n = format_right(row, sizeof(row), n, 47, NUMBER(f->stats.swap_in));
	n = format_right(row, sizeof(row), n, 55, NUMBER(f->stats.swap_rescued));
	n = format_right(row, sizeof(row), n, 62, NUMBER(m->rate.swap_out));
	n = format_right(row, sizeof(row), n, 69, NUMBER(m->rate.swap_in));
	console_printf(o, "%s %4u.%u%%\n", row, m->rate.wait_permille / 10, m->rate.wait_permille % 10);
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
