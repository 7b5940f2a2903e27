/*
 * The monitor: samples, rates, a block for each VM. See monitor.h.
 *
 * A sample goes over the VMs in creation order, VMS_PER_PIECE a piece; VMs that come or go meanwhile are met by the
 * next one. Counters that went backwards belong to a VM that was started anew: they count from 0.
 */
#include "vmm/monitor.h"

#include "lib/format.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "lib/timer.h"
#include "lib/work.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "vmm/command.h"

#define VMS_PER_PIECE 16U
#define SAMPLE_NS     NSEC_PER_SEC
#define HISTORY_ORDER 2
#define BLOCK_BYTES   (PAGE_SIZE + (PAGE_SIZE << HISTORY_ORDER))
_Static_assert(sizeof(struct monitor_vm) <= PAGE_SIZE, "a VM's frame");
_Static_assert(sizeof(struct history) <= PAGE_SIZE << HISTORY_ORDER, "a VM's history");

static struct monitor_vm *slot[VM_MAX];
static struct monitor_host host;
static u32 blocks;
static u32 turn; /* of samples and syncs: what a turn did not meet is gone */
static u32 at;   /* next VM of the sample under way */
static u32 paging_vms;
static struct work sample_work;
static struct timer sample_timer;

const struct monitor_host *monitor_host(void)
{
	return &host;
}

const struct monitor_vm *monitor_at(u32 i)
{
	return slot[i];
}

const struct monitor_vm *monitor_find(const char *name)
{
	for (u32 i = 0; i < VM_MAX; i++)
		if (slot[i] && str_eq(slot[i]->name, name))
			return slot[i];
	return NULL;
}

u64 monitor_overcommit(u32 which)
{
	return host.overcommit[which] / 1000;
}

u64 monitor_seconds_to(enum reclaim_state state)
{
	u64 below = host.now.reclaim.threshold[state], free = host.now.memory.free;
	s64 change = host.rate.free_change;

	return free < below || change >= 0 ? 0 : MAX((free - below) / (u64)-change, 1UL);
}

u64 monitor_bytes(void)
{
	return (u64)blocks * BLOCK_BYTES;
}

/* ---- blocks ---- */

static struct monitor_vm *new_block(struct vm *vm, u32 i)
{
	hfn_t hfn = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	hfn_t history = hfn == HFN_NONE ? HFN_NONE : frame_alloc(HISTORY_ORDER, FRAME_FOR_HV, FRAME_HV, true);

	if (history == HFN_NONE) {
		if (hfn != HFN_NONE)
			frame_free(hfn, 0);
		return NULL;
	}
	slot[i] = mm_hfn_to_va(hfn);
	slot[i]->history = mm_hfn_to_va(history);
	slot[i]->id = vm->id;
	str_copy(slot[i]->name, vm->config.name, sizeof(slot[i]->name));
	blocks++;
	return slot[i];
}

static void drop_block(u32 i)
{
	alerts_forget_vm(slot[i]);
	frame_free(mm_va_to_hfn(slot[i]->history), HISTORY_ORDER);
	frame_free(mm_va_to_hfn(slot[i]), 0);
	slot[i] = NULL;
	blocks--;
}

/* VMs stand mostly in the slot of their place in the list: the search begins there. */
static struct monitor_vm *block_of(struct vm *vm, u32 hint)
{
	u32 room = VM_MAX;

	for (u32 n = 0; n < VM_MAX; n++) {
		u32 i = (hint + n) % VM_MAX;

		if (slot[i] && slot[i]->id == vm->id && str_eq(slot[i]->name, vm->config.name))
			return slot[i];
		if (!slot[i] && room == VM_MAX)
			room = i;
	}
	return room < VM_MAX ? new_block(vm, room) : NULL;
}

static void drop_unseen(void)
{
	for (u32 i = 0; i < VM_MAX; i++)
		if (slot[i] && slot[i]->turn != turn)
			drop_block(i);
}

void monitor_sync(void)
{
	u32 i = 0;

	turn++;
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm)) {
		struct monitor_vm *m = block_of(vm, i++);

		if (m)
			m->turn = turn;
	}
	drop_unseen();
}

/* ---- rates ---- */

static u64 gained(u64 now, u64 before)
{
	return now >= before ? now - before : now;
}

static u32 rate(u64 now, u64 before, u64 ms)
{
	return (u32)MIN(gained(now, before) * 1000 / ms, 0xffffffffUL);
}

u32 monitor_smoothed(u32 mean, u32 now)
{
	return (u32)MIN(((u64)mean * 7 + now * 100UL) / 8, 0xffffffffUL);
}

static u32 mean_us(u64 ns, u64 count)
{
	return count ? (u32)MIN(ns / count / NSEC_PER_USEC, 0xffffffffUL) : 0;
}

static void set_guest_rates(struct vm_rates *r, const struct guest_figures *n, const struct guest_figures *b, u64 ms)
{
	r->refaults = r->swap_in + rate(n->refaults, b->refaults, ms);
	r->paged_in = rate(n->paged_in, b->paged_in, ms);
	r->paged_out = rate(n->paged_out, b->paged_out, ms);
	r->operations = rate(n->operations, b->operations, ms);
}

static void set_disk_rates(struct vm_rates *r, const struct pvdisk_stats *n, const struct pvdisk_stats *b, u64 ms)
{
	r->disk_reads = rate(n->read_pages, b->read_pages, ms);
	r->disk_writes = rate(n->write_pages, b->write_pages, ms);
	r->disk_us = mean_us(gained(n->latency_ns, b->latency_ns), gained(n->reads + n->writes, b->reads + b->writes));
}

static void set_vm_rates(struct monitor_vm *m)
{
	const struct vm_figures *n = &m->now, *b = &m->before;
	u64 ms = (n->ns - b->ns) / NSEC_PER_MSEC;
	struct vm_rates *r = &m->rate;

	*r = (struct vm_rates){0};
	if (!n->live || !b->live || !ms)
		return;
	r->swap_out = rate(n->stats.swap_out, b->stats.swap_out, ms);
	r->swap_in = rate(n->stats.swap_in, b->stats.swap_in, ms);
	r->zip_in = rate(n->stats.zip_in, b->stats.zip_in, ms);
	r->zip_out = rate(n->stats.zip_out, b->stats.zip_out, ms);
	r->balloon_out = rate(n->stats.balloon_out, b->stats.balloon_out, ms);
	r->balloon_back = rate(n->stats.balloon_back, b->stats.balloon_back, ms);
	r->cow_breaks = rate(n->stats.cow_breaks, b->stats.cow_breaks, ms);
	r->faults = rate(n->stats.faults, b->stats.faults, ms);
	r->exits = rate(n->exits_all, b->exits_all, ms);
	for (u32 i = 0; i < HV_EXIT_KINDS; i++)
		r->exits_of[i] = rate(n->exits[i], b->exits[i], ms);
	r->run_permille = rate(n->run_ns, b->run_ns, ms) / NSEC_PER_MSEC;
	r->wait_permille = rate(n->wait_ns, b->wait_ns, ms) / NSEC_PER_MSEC / MAX(n->vcpus, 1U);
	set_guest_rates(r, &n->guest, &b->guest, ms);
	set_disk_rates(r, &n->disk, &b->disk, ms);
}

static u64 errors_of(const struct host_figures *h)
{
	return h->disk.errors + h->swap.write_errors + h->swap.read_errors + h->swap.checksum_errors;
}

static void set_host_rates(void)
{
	const struct host_figures *n = &host.now, *b = &host.before;
	u64 ms = (n->ns - b->ns) / NSEC_PER_MSEC;
	struct host_rates *r = &host.rate;
	s64 change;

	if (!ms || !b->ns)
		return;
	r->swap_out = rate(n->swap.out, b->swap.out, ms);
	r->swap_in = rate(n->swap.in, b->swap.in, ms);
	r->zip_in = rate(n->zip.in, b->zip.in, ms);
	r->zip_out = rate(n->zip.out, b->zip.out, ms);
	r->swap_out_mean = monitor_smoothed(r->swap_out_mean, r->swap_out);
	r->swap_in_mean = monitor_smoothed(r->swap_in_mean, r->swap_in);
	r->disk_reads = rate(n->disk.read_pages, b->disk.read_pages, ms);
	r->disk_writes = rate(n->disk.write_pages, b->disk.write_pages, ms);
	r->disk_us = mean_us(n->disk.ns - b->disk.ns, n->disk.reads + n->disk.writes - b->disk.reads - b->disk.writes);
	r->errors = (u32)gained(errors_of(n), errors_of(b));
	r->resets = (u32)gained(n->disk.resets, b->disk.resets);
	change = ((s64)n->memory.free - (s64)b->memory.free) * 1000 / (s64)ms;
	r->free_change = (s32)((r->free_change * 3L + change) / 4);
}

/* Means as of a load average, each sample a second; until its time has passed once, of all samples there are. */
static void set_overcommit(void)
{
	static const u32 seconds[MONITOR_LOADS] = {60, 300, 900};
	u64 now = figures_overcommit(&host.now) * 1000;

	for (u32 i = 0; i < MONITOR_LOADS; i++) {
		u32 n = MIN(seconds[i], host.samples);

		host.overcommit[i] = (host.overcommit[i] * (n - 1) + now) / n;
	}
}

/* ---- what becomes an event ---- */

static void note_state(const struct monitor_vm *m)
{
	enum vm_state s = m->now.state;

	if (s != m->before.state)
		events_add(s == VM_CRASHED ? EVENT_WARNING : EVENT_INFO, m->name, "%s -> %s",
			   vm_state_name(m->before.state), vm_state_name(s));
}

static void note_reclaim(void)
{
	enum reclaim_state was = host.before.reclaim.state, is = host.now.reclaim.state;

	if (was != is)
		events_add(is > was ? EVENT_WARNING : EVENT_INFO, "host", "%s -> %s: %s", reclaim_state_name(was),
			   reclaim_state_name(is), host.now.reclaim.cause);
}

/* ---- a sample ---- */

static void sample_vm(struct vm *vm)
{
	struct monitor_vm *m = block_of(vm, at);
	struct history_sample s;

	if (!m)
		return;
	m->turn = turn;
	m->before = m->now;
	figures_vm(vm, &m->now);
	if (m->now.live && figures_at_limit(&m->now))
		m->limited_ns = m->now.ns;
	set_vm_rates(m);
	note_state(m);
	history_of_vm(m, &s);
	history_push(m->history, &s);
	paging_vms += m->rate.refaults + m->rate.swap_out + m->rate.paged_in + m->rate.paged_out > 0;
	alerts_look_vm(m);
	ledger_look(m);
}

void monitor_sample_begin(void)
{
	host.samples++;
	turn++;
	at = paging_vms = 0;
	host.before = host.now;
	figures_host(&host.now);
	set_host_rates();
	set_overcommit();
	note_reclaim();
}

bool monitor_sample_piece(void)
{
	struct vm *vm = command_vm_at(at);
	struct history_sample s;

	for (u32 i = 0; vm && i < VMS_PER_PIECE; i++, vm = vm_next(vm)) {
		sample_vm(vm);
		at++;
	}
	if (vm)
		return true;
	drop_unseen();
	host.rate.paging_vms = paging_vms;
	alerts_look_host();
	history_of_host(&host, &s);
	history_push(&host.history, &s);
	return false;
}

/* ---- the clock's samples ---- */

static void sample_some(struct work *w)
{
	if (monitor_sample_piece())
		work_queue(w);
}

/* One that is still under way is finished first. */
static void sample_due(struct timer *t)
{
	timer_arm(t, platform_now_ns() + SAMPLE_NS);
	if (work_is_queued(&sample_work))
		return;
	monitor_sample_begin();
	work_queue(&sample_work);
}

void monitor_init(void)
{
	work_init(&sample_work, "monitor", sample_some);
	timer_init(&sample_timer, sample_due);
	monitor_sync();
	sample_due(&sample_timer);
}
