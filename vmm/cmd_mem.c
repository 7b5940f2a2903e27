/*
 * Console commands about memory: mem, mem NAME, mem check.
 *
 * Host lines and the tables are for reading (sizes); `mem NAME` counts in pages, key=value, for scripts. Figures are
 * snapshots: only those of one VM, taken under its lock, belong to one moment.
 */
#include "lib/err.h"
#include "lib/format.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zip.h"
#include "vmm/command.h"
#include "vmm/pairs.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define ROWS_PER_PIECE    16U
#define REGIONS_PER_PIECE 8U /* of 512 pages: `mem check` */

static u64 to_bytes(u64 pages)
{
	return pages << PAGE_SHIFT;
}

/* ---- rates ---- */

/* Swap traffic of the last second. Written by the console's timer, on the CPU that prints it. */
static struct {
	u64 ns, out, in;       /* the last sample */
	u64 out_rate, in_rate; /* pages a second */
} rate;

void cmd_mem_sample(u64 now_ns)
{
	struct swap_stats s;
	u64 ms = (now_ns - rate.ns) / NSEC_PER_MSEC;

	if (ms == 0)
		return;
	swap_stats(&s);
	rate.out_rate = (s.out - rate.out) * 1000 / ms;
	rate.in_rate = (s.in - rate.in) * 1000 / ms;
	rate.ns = now_ns;
	rate.out = s.out;
	rate.in = s.in;
}

/* ---- one VM's counts ---- */

struct counts {
	u32 of[PAGE_STATES];
	u64 sum;
	u32 pages;
};

static void take_counts(struct vm *vm, struct counts *c)
{
	c->sum = 0;
	c->pages = vm->gs.pages;
	lock_acquire(&vm->gs.lock);
	for (u32 s = 0; s < PAGE_STATES; s++) {
		c->of[s] = vm->gs.count[s];
		c->sum += c->of[s];
	}
	lock_release(&vm->gs.lock);
}

static void print_balloon(struct pairs *p, const struct gspace *gs)
{
	pairs_number(p, "balloon-target", gs->balloon_target);
	pairs_number(p, "balloon-max", gs->balloon_max);
	pairs_format(p, "balloon-driver", "%s", gs->balloon_present ? "yes" : "no");
	pairs_format(p, "balloon-mode", "%s", gs->balloon_manual == GFN_NONE ? "auto" : "manual");
	pairs_number(p, "balloon-out", gs->stats.balloon_out);
	pairs_number(p, "balloon-back", gs->stats.balloon_back);
	pairs_number(p, "balloon-broken", gs->stats.balloon_broken);
	pairs_number(p, "balloon-refused", gs->stats.balloon_refused);
	pairs_number(p, "balloon-relief", gs->stats.balloon_relief);
	pairs_number(p, "balloon-late", gs->stats.balloon_late);
}

static void print_events(struct pairs *p, const struct gspace *gs)
{
	pairs_number(p, "faults", gs->stats.faults);
	pairs_number(p, "zero-fills", gs->stats.zero_fills);
	pairs_number(p, "cow-breaks", gs->stats.cow_breaks);
	pairs_number(p, "shared-in", gs->stats.shared_in);
	pairs_number(p, "zero-in", gs->stats.zero_in);
	pairs_number(p, "hinted", share_hinted(gs->id));
	pairs_number(p, "zip-in", gs->stats.zip_in);
	pairs_number(p, "zip-out", gs->stats.zip_out);
	pairs_number(p, "zip-unread", gs->stats.zip_unread);
	pairs_number(p, "zip-frames", gs->zip.frames);
	pairs_number(p, "zip-max", zip_max_frames(gs));
	pairs_number(p, "swap-out", gs->stats.swap_out);
	pairs_number(p, "swap-in", gs->stats.swap_in);
	pairs_number(p, "not-read", gs->stats.not_read);
	pairs_number(p, "swap-ahead", gs->stats.swap_ahead);
	pairs_number(p, "swap-unchanged", gs->stats.swap_unchanged);
	pairs_number(p, "swap-copies", gs->swap_copies);
	pairs_number(p, "swap-rescued", gs->stats.swap_rescued);
	pairs_number(p, "clean-out", gs->stats.clean_out);
	pairs_number(p, "clean-in", gs->stats.clean_in);
	pairs_number(p, "clean-ahead", gs->stats.clean_ahead);
	pairs_number(p, "clean-marked", gs->clean_marks);
	pairs_number(p, "swap-reserved", gs->swap_reserved);
	pairs_number(p, "waits", gs->stats.waits);
	pairs_number(p, "table-pages", gs->pt.tables);
	pairs_number(p, "around", gs->stats.around);
	pairs_number(p, "large", (u64)gs->large * LARGE_PAGES);
	pairs_number(p, "large-fills", gs->stats.large_fills);
	pairs_number(p, "large-splits", gs->stats.large_splits);
	pairs_number(p, "large-rebuilt", gs->stats.large_rebuilt);
}

/* The greatest of the three is what counts. */
static void print_active(struct pairs *p, const struct gspace *gs)
{
	const struct wss *w = &gs->wss;
	u32 written;

	pairs_number(p, "active", wss_active(gs));
	pairs_number(p, "active-fast", (u64)gs->pages * w->fast / WSS_ONE);
	pairs_number(p, "active-slow", (u64)gs->pages * w->slow / WSS_ONE);
	pairs_number(p, "active-now", (u64)gs->pages * w->current / WSS_ONE);
	if (wss_written(gs, &written))
		pairs_number(p, "active-written", written);
	pairs_number(p, "active-periods", w->periods);
	pairs_format(p, "active-by", "%s", w->by_unmapping ? "unmap" : "accessed");
}

void cmd_mem_print_vm(struct console_out *o, struct vm *vm)
{
	const struct gspace *gs = &vm->gs;
	struct counts c;
	struct pairs p;

	pairs_begin(&p, o);
	if (!vm->gs_valid) {
		pairs_number(&p, "pages", 0);
		pairs_end(&p);
		return;
	}
	take_counts(vm, &c);
	pairs_number(&p, "pages", c.pages);
	for (u32 s = 0; s < PAGE_STATES; s++)
		pairs_number(&p, page_state_name(s), c.of[s]);
	pairs_format(&p, "sum", "%s", c.sum == c.pages ? "ok" : "wrong");
	pairs_number(&p, "consumed", gspace_consumed(gs));
	pairs_number(&p, "reservation", gs->alloc.reservation);
	pairs_number(&p, "limit", gs->alloc.limit);
	pairs_number(&p, "shares", gs->alloc.shares);
	pairs_number(&p, "target", gs->target);
	pairs_end(&p);
	print_active(&p, gs);
	pairs_end(&p);
	cmd_demand_print_vm(&p, gs);
	print_balloon(&p, gs);
	pairs_end(&p);
	print_events(&p, gs);
	pairs_end(&p);
}

/* ---- host ---- */

struct sums {
	u64 page[PAGE_STATES];
	u64 configured; /* pages of all live VMs */
};

static void take_sums(struct sums *s)
{
	gspace_host_counts(s->page);
	s->configured = 0;
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm))
		if (vm->gs_valid)
			s->configured += vm->gs.pages;
}

static void print_frames(struct console_out *o, const struct sums *s)
{
	struct vm_host_memory m;
	u64 room, hundredths;
	struct pairs p;

	vm_host_memory(&m);
	room = m.total - MIN(m.hypervisor, m.total);
	hundredths = room ? s->configured * 100 / room : 0;
	pairs_begin(&p, o);
	pairs_label(&p, "memory:");
	pairs_size(&p, "total", to_bytes(m.total));
	pairs_size(&p, "hypervisor", to_bytes(m.hypervisor));
	pairs_size(&p, "guests", to_bytes(m.guest));
	pairs_size(&p, "free", to_bytes(m.free));
	pairs_size(&p, "unreserved", to_bytes(m.ram_unreserved));
	pairs_size(&p, "configured", to_bytes(s->configured));
	pairs_format(&p, "overcommit", "%lu.%02lu", hundredths / 100, hundredths % 100);
	pairs_end(&p);
}

static void print_reclaim(struct console_out *o)
{
	struct reclaim_stats s;
	struct pairs p;

	reclaim_stats(&s);
	pairs_begin(&p, o);
	pairs_label(&p, "reclaim:");
	pairs_format(&p, "state", "%s", reclaim_state_name(s.state));
	pairs_format(&p, "since", "%lus", (platform_now_ns() - s.state_since_ns) / NSEC_PER_SEC);
	pairs_size(&p, "min-free", to_bytes(s.min_free));
	pairs_format(&p, "cause", "\"%s\"", s.cause);
	pairs_number(&p, "idle-tax", s.tax);
	pairs_size(&p, "soft-below", to_bytes(s.threshold[RECLAIM_SOFT]));
	pairs_size(&p, "hard-below", to_bytes(s.threshold[RECLAIM_HARD]));
	pairs_size(&p, "low-below", to_bytes(s.threshold[RECLAIM_LOW]));
	pairs_number(&p, "to-clear", s.transitions[RECLAIM_CLEAR]);
	pairs_number(&p, "to-soft", s.transitions[RECLAIM_SOFT]);
	pairs_number(&p, "to-hard", s.transitions[RECLAIM_HARD]);
	pairs_number(&p, "to-low", s.transitions[RECLAIM_LOW]);
	pairs_label(&p, "balloon:");
	pairs_size(&p, "balloon", to_bytes(s.ballooned));
	pairs_size(&p, "balloon-target", to_bytes(s.ballooned_target));
	pairs_end(&p);
}

static void print_share(struct console_out *o, const struct sums *sum)
{
	u64 shared = sum->page[PAGE_SHARED], saved;
	struct share_stats s;
	struct pairs p;

	share_stats(&s);
	saved = sum->page[PAGE_ZERO] + (shared > s.shared_frames ? shared - s.shared_frames : 0);
	pairs_begin(&p, o);
	pairs_label(&p, "sharing:");
	pairs_size(&p, "zero", to_bytes(sum->page[PAGE_ZERO]));
	pairs_size(&p, "shared", to_bytes(shared));
	pairs_size(&p, "saved", to_bytes(saved));
	pairs_number(&p, "shared-frames", s.shared_frames);
	pairs_number(&p, "scanned", s.scanned);
	pairs_number(&p, "scan-ns", s.scan_ns);
	pairs_number(&p, "unique", s.unique);
	pairs_number(&p, "unique-ns", s.unique_ns);
	pairs_number(&p, "joined", s.joined);
	pairs_number(&p, "joined-ns", s.joined_ns);
	pairs_number(&p, "hints", s.hints);
	pairs_number(&p, "matches", s.matches);
	pairs_number(&p, "false-matches", s.false_matches);
	pairs_number(&p, "cow-breaks", s.cow_breaks);
	pairs_end(&p);
}

static void print_zip(struct console_out *o)
{
	struct zip_stats s;
	struct pairs p;

	zip_stats(&s);
	pairs_begin(&p, o);
	pairs_label(&p, "zip:");
	pairs_size(&p, "zip", to_bytes(s.pages));
	pairs_size(&p, "zip-pool", to_bytes(s.frames));
	pairs_size(&p, "zip-saved", to_bytes(s.pages > s.frames ? s.pages - s.frames : 0));
	pairs_number(&p, "zip-in", s.in);
	pairs_number(&p, "zip-out", s.out);
	pairs_number(&p, "zip-same", s.same);
	pairs_number(&p, "zip-poor", s.poor);
	pairs_number(&p, "zip-full", s.full);
	pairs_number(&p, "zip-no-memory", s.no_memory);
	pairs_number(&p, "zip-errors", s.errors);
	pairs_number(&p, "zip-tried", s.tried);
	pairs_number(&p, "zip-in-ns", s.in_ns);
	pairs_number(&p, "lz4-in-ns", s.lz4_in_ns);
	pairs_number(&p, "zip-expanded", s.expanded);
	pairs_number(&p, "zip-out-ns", s.out_ns);
	pairs_number(&p, "lz4-out-ns", s.lz4_out_ns);
	pairs_end(&p);
}

static void print_swap(struct console_out *o)
{
	static const char *const state[] = {[SWAP_OFF] = "off", [SWAP_ON] = "on", [SWAP_FAILED] = "failed"};
	struct swap_stats s;
	struct pairs p;

	swap_stats(&s);
	pairs_begin(&p, o);
	pairs_label(&p, "swap:");
	pairs_format(&p, "swap", "%s", s.state < ARRAY_SIZE(state) ? state[s.state] : "?");
	if (s.state != SWAP_ON)
		pairs_text(&p, "swap-why", s.why ? s.why : "");
	pairs_size(&p, "swap-total", to_bytes(s.slots));
	pairs_size(&p, "swap-used", to_bytes(s.used));
	pairs_size(&p, "swap-reserved", to_bytes(s.reserved));
	pairs_number(&p, "swap-out", s.out);
	pairs_number(&p, "swap-in", s.in);
	pairs_number(&p, "unchanged", s.unchanged);
	pairs_number(&p, "blocks-out", s.packed_out);
	pairs_number(&p, "blocks-in", s.packed_in);
	pairs_format(&p, "out-rate", "%lu/s", rate.out_rate);
	pairs_format(&p, "in-rate", "%lu/s", rate.in_rate);
	pairs_number(&p, "rescued", s.rescued);
	pairs_format(&p, "in-flight", "%u/%u", s.in_flight_out, s.in_flight_in);
	pairs_number(&p, "bad-slots", s.bad);
	pairs_number(&p, "write-errors", s.write_errors);
	pairs_number(&p, "read-errors", s.read_errors);
	pairs_number(&p, "checksum-errors", s.checksum_errors);
	pairs_number(&p, "swap-went", s.went);
	pairs_number(&p, "swap-went-ns", s.went_ns);
	pairs_number(&p, "swap-came", s.came);
	pairs_number(&p, "swap-came-ns", s.came_ns);
	pairs_end(&p);
}

static void print_host(struct console_out *o)
{
	struct sums s;

	take_sums(&s);
	print_frames(o, &s);
	print_reclaim(o);
	print_share(o, &s);
	print_zip(o);
	print_swap(o);
}

void cmd_mem_print_share(struct console_out *o)
{
	struct sums s;

	take_sums(&s);
	print_share(o, &s);
}

void cmd_mem_print_swap(struct console_out *o)
{
	print_swap(o);
}

/* ---- tables ---- */

static const char *size_or_dash(char buf[FORMAT_SIZE_BYTES], u64 pages)
{
	return pages ? format_size(buf, to_bytes(pages)) : "-";
}

static void states_header(struct console_out *o)
{
	console_printf(o, "\n%-9s %6s %7s %6s %6s %7s %6s %7s %5s %6s %5s\n", "name", "absent", "private", "zero",
		       "shared", "balloon", "compr", "swapped", "io", "pinned", "clean");
}

static void states_row(struct console_out *o, struct vm *vm)
{
	/* Pages on their way out and in stand in one column. */
	static const u8 end[PAGE_STATES] = {16, 24, 31, 38, 46, 53, 61, 67, 0, 74, 80};
	char row[160], size[FORMAT_SIZE_BYTES];
	struct counts c;
	size_t n;

	take_counts(vm, &c);
	c.of[PAGE_SWAPPING_OUT] += c.of[PAGE_SWAPPING_IN];
	n = format_append(row, sizeof(row), 0, "%s", vm->config.name);
	for (u32 s = 0; s < PAGE_STATES; s++)
		if (end[s])
			n = format_right(row, sizeof(row), n, end[s], size_or_dash(size, c.of[s]));
	console_printf(o, "%s\n", row);
}

static void targets_header(struct console_out *o)
{
	console_printf(o, "\n%-15s %8s %8s %8s %11s %8s %8s\n", "name", "memory", "consumed", "target", "reservation",
		       "limit", "shares");
}

static void targets_row(struct console_out *o, struct vm *vm)
{
	char memory[FORMAT_SIZE_BYTES], consumed[FORMAT_SIZE_BYTES], target[FORMAT_SIZE_BYTES];
	char reservation[FORMAT_SIZE_BYTES], limit[FORMAT_SIZE_BYTES];
	const struct gspace *gs = &vm->gs;

	console_printf(o, "%-15s %8s %8s %8s %11s %8s %8u\n", vm->config.name, size_or_dash(memory, gs->pages),
		       size_or_dash(consumed, gspace_consumed(gs)), size_or_dash(target, gs->target),
		       size_or_dash(reservation, gs->alloc.reservation), size_or_dash(limit, gs->alloc.limit),
		       gs->alloc.shares);
}

/* Rows of the live VMs from position r->at on, one piece. True when it was the last. */
static bool rows(struct command_run *r, void (*row)(struct console_out *o, struct vm *vm))
{
	struct vm *vm = command_vm_at(r->at);

	for (u32 i = 0; vm && i < ROWS_PER_PIECE; i++, vm = vm_next(vm)) {
		if (vm->gs_valid)
			row(r->out, vm);
		r->at++;
	}
	return !vm;
}

/* Do the sums add up? The long way is `mem check`. */
static void print_sum_check(struct console_out *o)
{
	struct frame_stats f;
	struct counts c;
	u64 frames = 0;
	bool ok = true;

	sched_freeze(); /* the sums are of one moment */
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm)) {
		if (!vm->gs_valid)
			continue;
		take_counts(vm, &c);
		if (c.sum == c.pages)
			continue;
		console_printf(o, "sum check: %s: states add up to %lu of %u pages\n", vm->config.name, c.sum, c.pages);
		ok = false;
	}
	frame_stats(&f);
	for (u32 s = FRAME_FREE; s < FRAME_STATES; s++)
		frames += f.by_state[s];
	if (frames != f.total) {
		console_printf(o, "sum check: frame states add up to %lu of %lu frames\n", frames, f.total);
		ok = false;
	}
	sched_thaw();
	if (ok)
		console_printf(o, "sum check: ok\n");
}

static int mem_targets(struct command_run *r)
{
	if (r->at == 0)
		targets_header(r->out);
	if (!rows(r, targets_row)) {
		r->more = mem_targets;
		return 0;
	}
	print_sum_check(r->out);
	return 0;
}

static int mem_states(struct command_run *r)
{
	r->more = mem_states;
	if (r->at == 0)
		states_header(r->out);
	if (rows(r, states_row)) {
		r->at = 0;
		r->more = mem_targets;
	}
	return 0;
}

int cmd_mem(struct command_run *r)
{
	struct vm *vm;

	if (r->argc == 1) {
		print_host(r->out);
		r->more = mem_states;
		return 0;
	}
	vm = command_vm(r, command_arg(r, 0));
	if (!vm)
		return E_NOENT;
	if (!vm->gs_valid)
		return command_fail(r, E_BUSY, "'%s' is %s: it has no memory", vm->config.name,
				    vm_state_name(vm->state));
	cmd_mem_print_vm(r->out, vm);
	return 0;
}

/* ---- mem check ---- */

static int check_result(struct command_run *r)
{
	if (r->cursor)
		console_printf(r->out, "sum check: %lu pages are wrong, see the log\n", r->cursor);
	else
		print_sum_check(r->out);
	return 0;
}

static int check_frames(struct command_run *r)
{
	bool more;

	sched_freeze();
	more = frame_verify_some();
	sched_thaw();
	r->more = more ? check_frames : check_result;
	return 0;
}

/* Some regions of the VM at r->at. r->left: the id of the VM whose proof is under way. True: done with it. */
static bool check_some(struct command_run *r, struct vm *vm)
{
	struct gspace *gs = &vm->gs;
	u64 wrong;

	if (!vm->gs_valid || vm->state == VM_STOPPING)
		return true;
	if (r->left != vm->id || !gs->proof.at)
		gspace_verify_begin(gs);
	r->left = vm->id;
	if (gspace_verify_some(gs, REGIONS_PER_PIECE))
		return false;
	wrong = gspace_verify_end(gs);
	r->cursor += wrong;
	console_printf(r->out, "%s: %u pages, %lu wrong\n", vm->config.name, gs->pages, wrong);
	return true;
}

/* A walk of every VM's table, then of the frame table, in pieces. r->cursor counts wrong pages. */
int cmd_mem_check(struct command_run *r)
{
	struct vm *vm = command_vm_at(r->at);

	if (!vm) {
		frame_verify_begin();
		r->more = check_frames;
		return 0;
	}
	if (check_some(r, vm)) {
		r->at++;
		r->left = 0;
	}
	r->more = cmd_mem_check;
	return 0;
}
