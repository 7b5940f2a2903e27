/* Reclaim's clock, and what starts of mm with the VMs. */
#include "vmm/memory.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/timer.h"
#include "lib/work.h"
#include "mm/blk.h"
#include "mm/reclaim.h"
#include "mm/rmap.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/wss.h"
#include "mm/zip.h"
#include "vmm/config.h"
#include "vmm/modules.h"
#include "vmm/settings.h"

#define PERIOD_MS       250
#define PRESSURE_GAP_NS (2 * NSEC_PER_MSEC) /* steps asked for by pressure are at least so far apart */
#define LIMIT_GAP_NS    (NSEC_PER_MSEC / 4) /* by a VM at its limit, which concerns nobody else */
#define SCAN_CPU_PERCENT \
	20 /* most of one CPU's time that the share scan takes: guests come first on a slow machine   \
			     */
#define SCAN_PAUSE (100 / SCAN_CPU_PERCENT - 1) /* of a piece of the scan's own length */

static struct work step_work, scan_work;
static struct timer period, soon, scan;
static u64 step_took_ns;

static void step(struct work *w)
{
	u64 start = platform_now_ns();

	(void)w;
	reclaim_step(start);
	step_took_ns = platform_now_ns() - start;
}

static void period_fired(struct timer *t)
{
	timer_arm(t, platform_now_ns() + PERIOD_MS * NSEC_PER_MSEC);
	work_queue(&step_work);
}

static void soon_fired(struct timer *t)
{
	(void)t;
	work_queue(&step_work);
}

static void scan_some(struct work *w)
{
	u64 start = platform_now_ns(), now;

	(void)w;
	reclaim_scan();
	now = platform_now_ns();
	timer_arm(&scan, MAX(start + NSEC_PER_SEC / RECLAIM_SCANS_PER_SEC, now + (now - start) * SCAN_PAUSE));
}

static void scan_fired(struct timer *t)
{
	(void)t;
	work_queue(&scan_work);
}

/* The pause before a step is no shorter than the last one took, or guests would not get to run at all. */
void memory_check_pressure(void)
{
	if (!soon.armed && reclaim_pressure())
		timer_arm(&soon,
			  platform_now_ns() + MAX(reclaim_at_limit() ? LIMIT_GAP_NS : PRESSURE_GAP_NS, step_took_ns));
}

static u64 random_word(void)
{
	u64 word;

	modules_random(&word, sizeof(word));
	return word;
}

static void start_swap(void)
{
	struct blk_part *part = blk_part_next(NULL, BLK_PART_SWAP);
	int err;

	swap_init(random_word(), random_word());
	clean_init();
	if (!part)
		return;
	err = swap_on(part);
	if (err && err != E_PERM)
		log_warn("swap", "%s on %s is not used: %s", part->name, part->dev->name, err_name(err));
}

void memory_start(const struct config *c)
{
	struct reclaim_config cfg = {
	    .soft_pct = 64, .hard_pct = 32, .low_pct = 16, .hysteresis_pct = 8, .period_ms = PERIOD_MS};

	hash_set_secret(random_word());
	rmap_init();
	CHECK(share_init(random_word(), random_word()) == 0);
	zip_init(random_word(), ZIP_PERCENT_DEFAULT);
	start_swap();
	wss_init(random_word());
	reclaim_init(&cfg);
	settings_apply(&c->host);
	work_init(&step_work, "reclaim", step);
	work_init(&scan_work, "share-scan", scan_some);
	timer_init(&scan, scan_fired);
	timer_init(&period, period_fired);
	timer_init(&soon, soon_fired);
	period_fired(&period);
	scan_fired(&scan);
}
