/*
 * idle and desktop: memory that is touched once and then mostly left alone.
 *   idle     mem=50%  zero=0%  same=0%: sleeps for ever after its first touch
 *   desktop  mem=80%  zero=15%  same=70%: mostly what every other desktop holds too; writes=16 pages and checks=64
 * pages a second; cpus= (by default all) vCPUs, each of which does as much
 */
#include "guest/apps/apps.h"
#include "guest/apps/region.h"
#include "guest/kernel/console.h"
#include "lib/err.h"

#define FILL_LOOK_NS (10 * NSEC_PER_MSEC)

struct quiet {
	struct region region;
	u64 writes, checks; /* a second */
	u64 next_ns[SMP_CPUS_MAX], report_ns;
	bool ready; /* atomic */
};

static int quiet_start(struct kernel *k, u32 mem, u32 zero, u32 same, u64 writes, u64 checks, u32 threads)
{
	struct quiet *q = k->app_state = ram_array(&k->ram, sizeof(*q));
	int err;

	if (!q)
		return E_NOMEM;
	err = args_number(&k->args, "writes", 1000000, writes, &q->writes);
	if (!err)
		err = args_number(&k->args, "checks", 1000000, checks, &q->checks);
	if (!err)
		err = region_create(&q->region, k, mem, zero, same, threads);
	if (!err)
		print("%s: %u pages, zero=%u%% same=%u%%\n", k->app->name, q->region.pages,
		      q->region.content.zero_percent, q->region.content.same_percent);
	return err;
}

static int idle_start(struct kernel *k)
{
	return quiet_start(k, 50, 0, 0, 0, 0, 1);
}

static int desktop_start(struct kernel *k)
{
	return quiet_start(k, 80, 15, 70, 16, 64, SMP_CPUS_MAX);
}

/* A second's work, in tenths. */
static void operate(struct quiet *q, u32 thread)
{
	u64 now = clock_ns(&q->region.k->clock);

	if (now < q->next_ns[thread])
		return;
	for (u64 i = 0; i < DIV_ROUND_UP(q->writes, 10); i++)
		region_write(&q->region, thread, region_random(&q->region, thread));
	for (u64 i = 0; i < DIV_ROUND_UP(q->checks, 10); i++)
		region_read(&q->region, thread, region_random(&q->region, thread));
	q->next_ns[thread] = now + NSEC_PER_SEC / 10;
}

static void quiet_report(struct kernel *k)
{
	struct quiet *q = k->app_state;

	region_print(&q->region);
}

/* First touches. vCPU 0 waits for the others'. */
static u64 fill(struct quiet *q, struct kernel *k, u64 until_ns)
{
	struct region *r = &q->region;

	if (!region_fill(r, 0, until_ns))
		return 0;
	if (!region_filled(r))
		return clock_ns(&k->clock) + FILL_LOOK_NS;
	q->report_ns = clock_ns(&k->clock) + 5 * NSEC_PER_SEC;
	__atomic_store_n(&q->ready, true, __ATOMIC_SEQ_CST);
	smp_send(smp_others());
	print("%s: ready, %u pages touched\n", k->app->name, r->pages);
	return 0;
}

static u64 quiet_work(struct kernel *k, u32 cpu, u64 until_ns)
{
	struct quiet *q = k->app_state;

	if (cpu >= q->region.threads)
		return KERNEL_NEVER;
	if (!region_fill(&q->region, cpu, until_ns))
		return 0;
	if (!__atomic_load_n(&q->ready, __ATOMIC_SEQ_CST) || q->writes + q->checks == 0)
		return KERNEL_NEVER;
	operate(q, cpu);
	return q->next_ns[cpu];
}

static u64 quiet_step(struct kernel *k, u64 until_ns)
{
	struct quiet *q = k->app_state;
	struct region *r = &q->region;
	u64 wish = 0;

	if (r->checking) {
		region_check_step(r, until_ns);
	} else if (!q->ready) {
		wish = fill(q, k, until_ns);
	} else if (q->writes + q->checks == 0) {
		wish = KERNEL_NEVER;
	} else {
		operate(q, 0);
		wish = q->next_ns[0];
	}
	region_publish(r);
	if (q->ready && clock_ns(&k->clock) >= q->report_ns && q->writes + q->checks) {
		quiet_report(k);
		q->report_ns = clock_ns(&k->clock) + 5 * NSEC_PER_SEC;
	}
	return wish;
}

static void quiet_check(struct kernel *k)
{
	struct quiet *q = k->app_state;

	region_check_begin(&q->region);
}

const struct app app_idle = {
    .name = "idle", .start = idle_start, .step = quiet_step, .report = quiet_report, .check = quiet_check};
const struct app app_desktop = {.name = "desktop",
				.start = desktop_start,
				.step = quiet_step,
				.work = quiet_work,
				.report = quiet_report,
				.check = quiet_check};
