/* Start-up of the block devices; see drivers.h. */
#include "drivers/drivers.h"

#include "drivers/ata.h"
#include "drivers/gpt.h"
#include "drivers/nvme.h"
#include "drivers/ramdisk.h"
#include "lib/format.h"
#include "lib/log.h"
#include "lib/platform.h"
#include "lib/timer.h"
#include "lib/work.h"
#include "mm/blk.h"

#define POLL_NS      (100 * NSEC_PER_MSEC) /* time-outs, lost interrupts */
#define POLL_FAST_NS NSEC_PER_MSEC         /* devices without an interrupt */

static struct {
	struct timer timer;
	struct work work;
	u64 interval_ns;
} poll;

static void poll_run(struct work *w)
{
	(void)w;
	blk_poll_all();
}

static void poll_tick(struct timer *t)
{
	work_queue(&poll.work);
	timer_arm(t, platform_now_ns() + poll.interval_ns);
}

static void poll_start(void)
{
	poll.interval_ns = POLL_NS;
	for (struct blk_dev *d = blk_next(NULL); d; d = blk_next(d))
		if (d->polled)
			poll.interval_ns = POLL_FAST_NS;
	work_init(&poll.work, "blk poll", poll_run);
	timer_init(&poll.timer, poll_tick);
	timer_arm(&poll.timer, platform_now_ns() + poll.interval_ns);
}

static void say_missing(void)
{
	if (!blk_next(NULL))
		log_warn("drivers", "no disk found: swap and guest disks are off");
	else if (!blk_part_next(NULL, BLK_PART_SWAP))
		log_warn("drivers", "no swap partition (GPT type %s) on any disk: swap is off", GPT_TYPE_AEROSTAT_SWAP);
	if (blk_next(NULL) && !blk_part_next(NULL, BLK_PART_GUEST_DATA))
		log_info("drivers", "no guest-data partition (GPT type %s) on any disk: no guest disks",
			 GPT_TYPE_AEROSTAT_GUEST_DATA);
}

void drivers_init(void)
{
	ramdisk_init();
	nvme_probe_all();
	ata_probe_all();
	for (struct blk_dev *d = blk_next(NULL); d; d = blk_next(d)) {
		char size[FORMAT_SIZE_BYTES];

		log_info("drivers", "%s: %s %s, %u-byte sectors", d->name, format_size(size, d->sectors * BLK_SECTOR),
			 d->model, d->sector_bytes);
		if (!d->whole)
			gpt_scan(d);
	}
	say_missing();
	poll_start();
}
