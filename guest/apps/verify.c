/*
 * verify: stamps a share of memory, then re-reads pages at random for ever and rewrites some, checking every byte.
 *   mem=90%  zero=10%  same=20%  soft=0%  write=20% (of operations)  rate=0 (operations a second; 0: as fast as it
 * can)  report=5 (s)  cpus= (vCPUs that do so, at most and by default all)
 *
 * run=0 (s after `ready`: then it reports and rests; 0: for ever)  sets= (percent of the region, such as 60,20,40: it
 * works on that part only, each for step=30 s in turn, and stays at the last)
 *
 * Several vCPUs share every page (region.h), from the first touch on. For half of what they do they meet: each works on
 * the page that the others work on just now.
 */
#include "guest/apps/apps.h"
#include "guest/apps/region.h"
#include "guest/kernel/console.h"
#include "lib/err.h"
#include "lib/string.h"

#define FILL_LOOK_NS (10 * NSEC_PER_MSEC)
#define SETS_MAX     16

struct verify {
	struct region region;
	u32 write_percent;
	u64 rate, report_period_ns;
	u64 begin_ns, report_ns;
	u64 run_ns, step_ns;
	u32 sets, set[SETS_MAX]; /* pages */
	u32 part;                /* pages worked on now; atomic */
	bool ready, done;        /* atomic */
};

static int read_sets(struct verify *v, struct kernel *k)
{
	const char *at = args_text(&k->args, "sets", "");
	int err = args_seconds(&k->args, "run", 1000000, 0, &v->run_ns);
	u64 percent;

	if (!err)
		err = args_seconds(&k->args, "step", 1000000, 30, &v->step_ns);
	v->part = v->region.pages;
	while (*at && !err) {
		char word[8];
		u32 n = 0;

		while (*at && *at != ',' && n < sizeof(word) - 1)
			word[n++] = *at++;
		word[n] = '\0';
		at += *at == ',';
		err = v->sets < SETS_MAX ? parse_u64(word, 100, &percent) : E_2BIG;
		if (!err)
			v->set[v->sets++] = (u32)MAX(v->region.pages * percent / 100, 1UL);
	}
	return err;
}

/* vCPU 0: the part of the region that is in use now. */
static void choose_part(struct verify *v, u64 now)
{
	u64 n = v->sets && v->step_ns ? MIN((now - v->begin_ns) / v->step_ns, (u64)v->sets - 1) : 0;

	if (!v->sets || v->part == v->set[n])
		return;
	WRITE_ONCE(v->part, v->set[n]);
	print("verify: works on %u pages at %lu ms\n", v->set[n], now / NSEC_PER_MSEC);
}

static int verify_start(struct kernel *k)
{
	struct verify *v = k->app_state = ram_array(&k->ram, sizeof(*v));
	int err;

	if (!v)
		return E_NOMEM;
	err = args_percent(&k->args, "write", 20, &v->write_percent);
	if (!err)
		err = args_number(&k->args, "rate", 1000000000, 0, &v->rate);
	if (!err)
		err = args_seconds(&k->args, "report", 3600, 5, &v->report_period_ns);
	if (err)
		return err;
	err = region_create(&v->region, k, 90, 10, 20, SMP_CPUS_MAX);
	if (!err)
		err = read_sets(v, k);
	if (!err)
		print("verify: %u pages, write=%u%% zero=%u%% same=%u%% soft=%u%% threads=%u\n", v->region.pages,
		      v->write_percent, v->region.content.zero_percent, v->region.content.same_percent,
		      v->region.content.soft_percent, v->region.threads);
	return err;
}

static void operate(struct verify *v, u32 thread)
{
	struct region *r = &v->region;
	struct region_thread *t = &r->thread[thread];
	bool meet = r->threads > 1 && prng_below(&t->prng, 2);
	u32 page = meet ? region_meet(r) : region_random(r, thread);

	page %= READ_ONCE(v->part);

	if (prng_below(&t->prng, 100) < v->write_percent)
		region_write(r, thread, page);
	else
		region_read(r, thread, page);
	t->operations++;
}

/* When the thread's next operation is due; 0: now. */
static u64 due(struct verify *v, u32 thread, u64 now)
{
	u64 at;

	if (!v->rate)
		return 0;
	at = v->begin_ns + mul_div(v->region.thread[thread].operations * v->region.threads, NSEC_PER_SEC, v->rate);
	return at <= now ? 0 : at;
}

static u64 run(struct verify *v, u32 thread, u64 until_ns)
{
	struct clock *c = &v->region.k->clock;
	u64 wait;

	do {
		wait = due(v, thread, clock_ns(c));
		if (wait)
			return wait;
		operate(v, thread);
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

	v->begin_ns = clock_ns(&k->clock);
	v->report_ns = v->begin_ns + v->report_period_ns;
	__atomic_store_n(&v->ready, true, __ATOMIC_SEQ_CST);
	smp_send(smp_others());
	print("verify: ready, %u pages stamped\n", v->region.pages);
	choose_part(v, v->begin_ns);
}

/* vCPU 0 waits for the others' first touches. */
static u64 fill(struct verify *v, u64 until_ns)
{
	if (!region_fill(&v->region, 0, until_ns))
		return 0;
	if (!region_filled(&v->region))
		return clock_ns(&v->region.k->clock) + FILL_LOOK_NS;
	became_ready(v);
	return 0;
}

static u64 verify_work(struct kernel *k, u32 cpu, u64 until_ns)
{
	struct verify *v = k->app_state;

	if (cpu >= v->region.threads)
		return KERNEL_NEVER;
	if (!region_fill(&v->region, cpu, until_ns))
		return 0;
	/* became_ready() wakes us. */
	if (READ_ONCE(v->done))
		return KERNEL_NEVER;
	return __atomic_load_n(&v->ready, __ATOMIC_SEQ_CST) ? run(v, cpu, until_ns) : KERNEL_NEVER;
}

static void pass_time(struct verify *v, u64 now)
{
	choose_part(v, now);
	if (!v->run_ns || now - v->begin_ns < v->run_ns)
		return;
	WRITE_ONCE(v->done, true);
	verify_report(v->region.k);
	print("verify: done\n");
}

static u64 verify_step(struct kernel *k, u64 until_ns)
{
	struct verify *v = k->app_state;
	u64 wish = 0;

	if (v->region.checking)
		region_check_step(&v->region, until_ns);
	else if (v->done)
		wish = KERNEL_NEVER;
	else if (v->ready)
		wish = run(v, 0, until_ns);
	else
		wish = fill(v, until_ns);
	region_publish(&v->region);
	if (v->ready && !v->done && v->report_period_ns && clock_ns(&k->clock) >= v->report_ns) {
		verify_report(k);
		v->report_ns = clock_ns(&k->clock) + v->report_period_ns;
	}
	if (v->ready && !v->done)
		pass_time(v, clock_ns(&k->clock));
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
    .work = verify_work,
    .report = verify_report,
    .check = verify_check,
};
