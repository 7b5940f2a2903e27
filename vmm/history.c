/* Rings of samples and their means. See history.h. */
#include "vmm/history.h"

#include "vmm/monitor.h"

const struct history_field history_vm_field[HISTORY_FIELDS] = {
    {"consumed", HISTORY_PAGES},       {"target", HISTORY_PAGES},     {"balloon", HISTORY_PAGES},
    {"balloon-target", HISTORY_PAGES}, {"swapped", HISTORY_PAGES},    {"compressed", HISTORY_PAGES},
    {"saved", HISTORY_PAGES},          {"swap-in", HISTORY_RATE},     {"swap-out", HISTORY_RATE},
    {"refaults", HISTORY_RATE},        {"operations", HISTORY_RATE},  {"latency", HISTORY_US},
    {"cpu", HISTORY_PERMILLE},         {"waiting", HISTORY_PERMILLE}, {"disk", HISTORY_RATE},
    {"zip-in", HISTORY_RATE},          {"zip-out", HISTORY_RATE},     {"pressure", HISTORY_PERMILLE},
};

const struct history_field history_host_field[HISTORY_FIELDS] = {
    {"free", HISTORY_PAGES},        {"hypervisor", HISTORY_PAGES},     {"guests", HISTORY_PAGES},
    {"balloon", HISTORY_PAGES},     {"balloon-target", HISTORY_PAGES}, {"swap-used", HISTORY_PAGES},
    {"compressed", HISTORY_PAGES},  {"saved", HISTORY_PAGES},          {"swap-in", HISTORY_RATE},
    {"swap-out", HISTORY_RATE},     {"disk-latency", HISTORY_US},      {"disk", HISTORY_RATE},
    {"overcommit", HISTORY_NUMBER}, {"state", HISTORY_NUMBER},         {"alerts", HISTORY_NUMBER},
    {"zip-in", HISTORY_RATE},       {"zip-out", HISTORY_RATE},         {"pressure", HISTORY_PERMILLE},
};

static const u32 kept[HISTORY_SPANS] = {HISTORY_KEPT_SECONDS, HISTORY_KEPT_MINUTES, HISTORY_KEPT_HOURS};
static const u32 begin[HISTORY_SPANS] = {0, HISTORY_KEPT_SECONDS, HISTORY_KEPT_SECONDS + HISTORY_KEPT_MINUTES};

u32 history_first(const struct history *h, enum history_span span)
{
	return h->count[span] > kept[span] ? h->count[span] - kept[span] : 0;
}

const struct history_sample *history_get(const struct history *h, enum history_span span, u32 number)
{
	return &h->sample[begin[span] + number % kept[span]];
}

static void put(struct history *h, enum history_span span, const struct history_sample *s)
{
	h->sample[begin[span] + h->count[span]++ % kept[span]] = *s;
}

/* Takes the mean of what was summed for it, and begins a new sum. */
static void take_mean(u64 *sum, struct history_sample *out)
{
	for (u32 i = 0; i < HISTORY_FIELDS; i++) {
		out->value[i] = (u32)((sum[i] + HISTORY_MEANS_OF / 2) / HISTORY_MEANS_OF);
		sum[i] = 0;
	}
}

void history_push(struct history *h, const struct history_sample *s)
{
	struct history_sample next = *s;

	for (u32 span = 0; span < HISTORY_SPANS; span++) {
		put(h, span, &next);
		if (span == HISTORY_HOURS)
			return;
		for (u32 i = 0; i < HISTORY_FIELDS; i++)
			h->sum[span][i] += next.value[i];
		if (h->count[span] % HISTORY_MEANS_OF)
			return;
		take_mean(h->sum[span], &next);
	}
}

static u32 low(u64 n)
{
	return (u32)MIN(n, 0xffffffffUL);
}

void history_of_vm(const struct monitor_vm *m, struct history_sample *out)
{
	const struct vm_figures *f = &m->now;
	const struct vm_rates *r = &m->rate;

	*out = (struct history_sample){
	    .second = low(f->ns / NSEC_PER_SEC),
	    .value = {f->consumed, f->target, f->count[PAGE_BALLOONED], f->balloon_target, f->count[PAGE_SWAPPED],
		      f->count[PAGE_COMPRESSED], f->count[PAGE_ZERO] + f->count[PAGE_SHARED], r->swap_in, r->swap_out,
		      r->refaults, r->operations, low(f->guest.latency_ns / NSEC_PER_USEC), r->run_permille,
		      r->wait_permille, r->disk_reads + r->disk_writes, r->zip_in, r->zip_out, f->pressure * 10}};
}

/* Of all VMs with Dynamic Memory together, in permille; 0: there is none. */
static u32 pressure_of_all(void)
{
	u64 committed = 0, has = 0;

	for (u32 i = 0; i < VM_MAX; i++) {
		const struct monitor_vm *m = monitor_at(i);

		committed += m ? m->now.committed : 0;
		has += m ? m->now.has : 0;
	}
	return has ? low(committed * 1000 / has) : 0;
}

void history_of_host(const struct monitor_host *h, struct history_sample *out)
{
	const struct host_figures *f = &h->now;
	const struct host_rates *r = &h->rate;

	*out = (struct history_sample){
	    .second = low(f->ns / NSEC_PER_SEC),
	    .value = {low(f->memory.free), low(f->memory.hypervisor), low(f->memory.guest), low(f->reclaim.ballooned),
		      low(f->reclaim.ballooned_target), low(f->swap.used), low(f->page[PAGE_COMPRESSED]),
		      low(figures_saved(f)), r->swap_in, r->swap_out, r->disk_us, r->disk_reads + r->disk_writes,
		      low(figures_overcommit(f)), f->reclaim.state, alerts_raised(), r->zip_in, r->zip_out,
		      pressure_of_all()}};
}
