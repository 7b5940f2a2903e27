/*
 * tide: needs now much, now little memory. Stamps pages up to high=, holds them for hold= seconds, re-reading at
 * random, checks all that is above low= and lets go of it, holds again, and so on.
 *   high=60%  low=20% (of the memory the VM may ever have)  hold=10 (s)  write=20% (of operations)  rate=2000
 *             (operations a second)
 * zero=10%  same=0%  times=0 (then it stays low; 0: for ever)
 */
#include "guest/apps/apps.h"
#include "guest/apps/region.h"
#include "guest/kernel/console.h"
#include "lib/err.h"

#define REPORT_NS (5 * NSEC_PER_SEC)

enum phase { RISING, HIGH, FALLING, LOW };

struct tide {
	struct region region;
	enum phase phase;
	u32 high, low, write_percent;
	u64 hold_ns, rate, times, tides;
	u64 until_ns, begin_ns, report_ns, operations; /* of the phase; begin_ns and operations: its rate */
	bool ready;
};

static int read_args(struct tide *t, struct kernel *k)
{
	u64 whole = k->ram.max, high, low;
	int err = args_pages(&k->args, "high", whole, whole * 60 / 100, &high);

	if (!err)
		err = args_pages(&k->args, "low", whole, whole * 20 / 100, &low);
	if (!err)
		err = args_seconds(&k->args, "hold", 3600, 10, &t->hold_ns);
	if (!err)
		err = args_percent(&k->args, "write", 20, &t->write_percent);
	if (!err)
		err = args_number(&k->args, "rate", 1000000, 2000, &t->rate);
	if (!err)
		err = args_number(&k->args, "times", 1000000, 0, &t->times);
	if (err)
		return err;
	t->high = (u32)MIN(high, (u64)GFN_NONE - 1);
	t->low = (u32)MIN(low, high);
	t->rate = MAX(t->rate, 1UL);
	return 0;
}

static int tide_start(struct kernel *k)
{
	struct tide *t = k->app_state = ram_array(&k->ram, sizeof(*t));
	int err;

	if (!t)
		return E_NOMEM;
	err = read_args(t, k);
	if (!err)
		err = region_create_pages(&t->region, k, t->high, disk_present(&k->disk) ? k->disk.pages : 0, 10, 0);
	if (err)
		return err;
	t->high = t->region.pages;
	t->low = MIN(t->low, t->high);
	print("tide: %u to %u pages, hold=%lus\n", t->low, t->high, t->hold_ns / NSEC_PER_SEC);
	return 0;
}

static void enter(struct tide *t, enum phase phase)
{
	t->phase = phase;
	t->begin_ns = clock_ns(&t->region.k->clock);
	t->until_ns = t->begin_ns + t->hold_ns;
	t->operations = 0;
}

/* Re-reads and rewrites at its rate until the phase is over. Returns when it wants to go on. */
static u64 hold(struct tide *t, u64 until_ns)
{
	struct clock *c = &t->region.k->clock;
	struct region *r = &t->region;
	u64 now, due;

	do {
		u32 pages = r->thread[0].filled, page = (u32)prng_below(&r->thread[0].prng, MAX(pages, 1U));

		now = clock_ns(c);
		due = t->begin_ns + mul_div(t->operations, NSEC_PER_SEC, t->rate);
		if (!pages || due > now)
			return MAX(due, now + NSEC_PER_MSEC);
		if (prng_below(&r->thread[0].prng, 100) < t->write_percent)
			region_write(r, 0, page);
		else
			region_read(r, 0, page);
		t->operations++;
	} while (now < until_ns);
	return 0;
}

static u64 go_on(struct tide *t, u64 until_ns)
{
	bool over = clock_ns(&t->region.k->clock) >= t->until_ns;

	switch (t->phase) {
	case RISING:
		if (!region_fill(&t->region, 0, until_ns))
			return 0;
		print("tide: high, %u pages stamped\n", t->high);
		if (!t->ready)
			print("tide: ready, %u pages stamped\n", t->high);
		t->ready = true;
		enter(t, HIGH);
		return 0;
	case HIGH:
		if (!over)
			return hold(t, until_ns);
		enter(t, FALLING);
		return 0;
	case FALLING:
		if (!region_shrink(&t->region, t->low, until_ns))
			return 0;
		t->tides++;
		print("tide: low, %u pages kept\n", t->low);
		enter(t, LOW);
		return 0;
	default:
		if (!over || (t->times && t->tides >= t->times))
			return hold(t, until_ns);
		enter(t, RISING);
		return 0;
	}
}

static void tide_report(struct kernel *k)
{
	struct tide *t = k->app_state;

	region_print(&t->region);
	print("tide: tides=%lu pages=%u of %u memory=%u grown=%lu\n", t->tides, t->region.thread[0].filled, t->high,
	      k->ram.pages, k->grown);
}

static u64 tide_step(struct kernel *k, u64 until_ns)
{
	struct tide *t = k->app_state;
	u64 wish = 0;

	if (t->region.checking)
		region_check_step(&t->region, until_ns);
	else
		wish = go_on(t, until_ns);
	region_publish(&t->region);
	if (t->ready && clock_ns(&k->clock) >= t->report_ns) {
		tide_report(k);
		t->report_ns = clock_ns(&k->clock) + REPORT_NS;
	}
	return wish;
}

static void tide_check(struct kernel *k)
{
	struct tide *t = k->app_state;

	region_check_begin(&t->region);
}

const struct app app_tide = {
    .name = "tide", .start = tide_start, .step = tide_step, .report = tide_report, .check = tide_check};
