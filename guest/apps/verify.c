/*
 * verify: stamps a share of memory, then re-reads pages at random for ever and rewrites some, checking every byte.
 *   mem=90%  zero=10%  same=20%  soft=0%  write=20% (of operations)  rate=0 (operations a second; 0: as fast as it can)
 * report=5 (s)
 */
#include "guest/apps/apps.h"
#include "guest/apps/region.h"
#include "guest/kernel/console.h"
#include "lib/err.h"

struct verify {
	struct region region;
	u32 write_percent;
	u64 rate, report_period_ns;
	u64 begin_ns, operations, report_ns;
	bool ready;
};

static int verify_start(struct kernel *k)
{
	struct verify *v = k->app_state = ram_array(&k->ram, sizeof(*v));
	u64 seconds;
	int err;

	if (!v)
		return E_NOMEM;
	err = args_percent(&k->args, "write", 20, &v->write_percent);
	if (!err)
		err = args_number(&k->args, "rate", 1000000000, 0, &v->rate);
	if (!err)
		err = args_number(&k->args, "report", 3600, 5, &seconds);
	if (err)
		return err;
	v->report_period_ns = seconds * NSEC_PER_SEC;
	err = region_create(&v->region, k, 90, 10, 20);
	if (!err)
		print("verify: %u pages, write=%u%% zero=%u%% same=%u%% soft=%u%%\n", v->region.pages, v->write_percent,
		      v->region.content.zero_percent, v->region.content.same_percent, v->region.content.soft_percent);
	return err;
}

static void operate(struct verify *v)
{
	struct region *r = &v->region;
	u32 page = region_random(r);

	if (prng_below(&r->prng, 100) < v->write_percent)
		region_write(r, page);
	else
		region_read(r, page);
	v->operations++;
}

/* When the next operation is due; 0: now. */
static u64 due(struct verify *v, u64 now)
{
	u64 at;

	if (!v->rate)
		return 0;
	at = v->begin_ns + mul_div(v->operations, NSEC_PER_SEC, v->rate);
	return at <= now ? 0 : at;
}

static u64 run(struct verify *v, u64 until_ns)
{
	struct clock *c = &v->region.k->clock;
	u64 wait;

	do {
		wait = due(v, clock_ns(c));
		if (wait)
			return wait;
		operate(v);
	} while (clock_ns(c) < until_ns);
	return 0;
}

static void verify_report(struct kernel *k)
{
	struct verify *v = k->app_state;

	region_print(&v->region);
}

static void became_ready(struct verify *v)
{
	struct kernel *k = v->region.k;

	v->ready = true;
	v->begin_ns = clock_ns(&k->clock);
	v->report_ns = v->begin_ns + v->report_period_ns;
	print("verify: ready, %u pages stamped\n", v->region.pages);
}

static u64 verify_step(struct kernel *k, u64 until_ns)
{
	struct verify *v = k->app_state;
	u64 wish = 0;

	if (v->region.checking)
		region_check_step(&v->region, until_ns);
	else if (v->ready)
		wish = run(v, until_ns);
	else if (region_fill(&v->region, until_ns))
		became_ready(v);
	region_publish(&v->region);
	if (v->ready && v->report_period_ns && clock_ns(&k->clock) >= v->report_ns) {
		verify_report(k);
		v->report_ns = clock_ns(&k->clock) + v->report_period_ns;
	}
	return wish;
}

static void verify_check(struct kernel *k)
{
	struct verify *v = k->app_state;

	region_check_begin(&v->region);
}

const struct app app_verify = {
    .name = "verify",
    .start = verify_start,
    .step = verify_step,
    .report = verify_report,
    .check = verify_check,
};
