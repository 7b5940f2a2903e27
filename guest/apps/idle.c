/*
 * idle and desktop: memory that is touched once and then mostly left alone.
 *   idle     mem=50%  zero=0%  same=0%: sleeps for ever after its first touch
 *   desktop  mem=80%  zero=15%  same=70%: mostly what every other desktop holds too; writes=16 pages and checks=64
 * pages a second
 */
#include "guest/apps/apps.h"
#include "guest/apps/region.h"
#include "guest/kernel/console.h"
#include "lib/err.h"

struct quiet {
	struct region region;
	u64 writes, checks; /* a second */
	u64 next_ns, report_ns;
	bool ready;
};

static int quiet_start(struct kernel *k, u32 mem, u32 zero, u32 same, u64 writes, u64 checks)
{
	struct quiet *q = k->app_state = ram_array(&k->ram, sizeof(*q));
	int err;

	if (!q)
		return E_NOMEM;
	err = args_number(&k->args, "writes", 1000000, writes, &q->writes);
	if (!err)
		err = args_number(&k->args, "checks", 1000000, checks, &q->checks);
	if (!err)
		err = region_create(&q->region, k, mem, zero, same, 1);
	if (!err)
		print("%s: %u pages, zero=%u%% same=%u%%\n", k->app->name, q->region.pages,
		      q->region.content.zero_percent, q->region.content.same_percent);
	return err;
}

static int idle_start(struct kernel *k)
{
	return quiet_start(k, 50, 0, 0, 0, 0);
}

static int desktop_start(struct kernel *k)
{
	return quiet_start(k, 80, 15, 70, 16, 64);
}

/* A second's work, in tenths. */
static void operate(struct quiet *q)
{
	for (u64 i = 0; i < DIV_ROUND_UP(q->writes, 10); i++)
		region_write(&q->region, 0, region_random(&q->region, 0));
	for (u64 i = 0; i < DIV_ROUND_UP(q->checks, 10); i++)
		region_read(&q->region, 0, region_random(&q->region, 0));
}

static void quiet_report(struct kernel *k)
{
	struct quiet *q = k->app_state;

	region_print(&q->region);
}

static u64 quiet_step(struct kernel *k, u64 until_ns)
{
	struct quiet *q = k->app_state;
	struct region *r = &q->region;
	u64 now = clock_ns(&k->clock);

	if (r->checking) {
		region_check_step(r, until_ns);
	} else if (!q->ready) {
		q->ready = region_fill(r, 0, until_ns);
		if (q->ready) {
			print("%s: ready, %u pages touched\n", k->app->name, r->pages);
			q->report_ns = now + 5 * NSEC_PER_SEC;
		}
	} else if (q->writes + q->checks == 0) {
		region_publish(r);
		return KERNEL_NEVER;
	} else if (now >= q->next_ns) {
		operate(q);
		q->next_ns = now + NSEC_PER_SEC / 10;
	}
	region_publish(r);
	if (q->ready && now >= q->report_ns && q->writes + q->checks) {
		quiet_report(k);
		q->report_ns = now + 5 * NSEC_PER_SEC;
	}
	return q->ready && !r->checking ? q->next_ns : 0;
}

static void quiet_check(struct kernel *k)
{
	struct quiet *q = k->app_state;

	region_check_begin(&q->region);
}

const struct app app_idle = {
    .name = "idle", .start = idle_start, .step = quiet_step, .report = quiet_report, .check = quiet_check};
const struct app app_desktop = {
    .name = "desktop", .start = desktop_start, .step = quiet_step, .report = quiet_report, .check = quiet_check};
