/*
 * See ramdisk.h. A request is finished, and its pages are copied, when its time has come; requests end in the order in
 * which they came. Memory is taken from the allocator in blocks of 2 MiB and stays the hypervisor's.
 */
#include "drivers/ramdisk.h"

#include "drivers/gpt.h"
#include "lib/err.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "lib/timer.h"
#include "lib/work.h"
#include "mm/blk.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define BLOCK_PAGES  (1U << FRAME_ORDER_LARGE)
#define PIECE_PAGES  64U /* copied in one run of the work item, or one request more */
#define QUEUE_DEPTH  256U
#define SECTORS_PAGE (PAGE_SIZE / BLK_SECTOR)

_Static_assert(RAMDISK_MIB_MAX *MIB / PAGE_SIZE / BLOCK_PAGES <= PAGE_SIZE / sizeof(hfn_t), "one page of blocks");

struct ramdisk {
	struct blk_dev dev;
	struct blk_part part;
	struct lock lock;    /* LOCK_RANK_BLK: pending, free_ns */
	struct list pending; /* in the order of their ends */
	u64 free_ns;         /* when the last page of the last request has gone by */
	u64 latency_ns, page_ns;
	struct timer timer;
	struct work work;
	hfn_t *block;
};

static struct ramdisk disks[2];
static struct ramdisk_config config;

/* ---- option -------------------------------------------------------------- */

int ramdisk_parse(const char *value, struct ramdisk_config *out)
{
	u32 field[] = {0, 0, RAMDISK_LATENCY_US, RAMDISK_PAGE_US}, n = 0;

	for (const char *s = value;; s++) {
		u64 v = 0;

		if (n == ARRAY_SIZE(field) || *s < '0' || *s > '9')
			return E_INVAL;
		for (; *s >= '0' && *s <= '9'; s++) {
			v = v * 10 + (u64)(*s - '0');
			if (v > (n < 2 ? RAMDISK_MIB_MAX : RAMDISK_US_MAX))
				return E_INVAL;
		}
		field[n++] = (u32)v;
		if (!*s)
			break;
		if (*s != ',')
			return E_INVAL;
	}
	if (n < 2)
		return E_INVAL;
	*out = (struct ramdisk_config){field[0], field[1], field[2], field[3]};
	return 0;
}

void ramdisk_configure(const struct ramdisk_config *c)
{
	config = *c;
}

/* ---- requests ------------------------------------------------------------ */

static u64 *due_of(struct blk_req *r)
{
	return (u64 *)r->driver;
}

static void submit(struct blk_dev *d, struct blk_req *r)
{
	struct ramdisk *rd = d->priv;
	u64 now = platform_now_ns(), due;
	bool first;

	lock_acquire(&rd->lock);
	rd->free_ns = MAX(rd->free_ns, now) + r->pages * rd->page_ns;
	due = *due_of(r) = rd->free_ns + rd->latency_ns;
	first = list_empty(&rd->pending);
	list_add_tail(&rd->pending, &r->link);
	lock_release(&rd->lock);
	if (first)
		timer_arm(&rd->timer, due);
}

static void *page_at(struct ramdisk *rd, u64 page)
{
	return mm_hfn_to_va(rd->block[page / BLOCK_PAGES] + page % BLOCK_PAGES);
}

static void copy(struct ramdisk *rd, struct blk_req *r)
{
	u64 page = r->sector / SECTORS_PAGE;

	if (r->op == BLK_FLUSH)
		return;
	for (u32 i = 0; i < r->pages; i++) {
		void *frame = mm_hfn_to_va(r->frame[i]), *own = page_at(rd, page + i);

		page_copy(r->op == BLK_READ ? frame : own, r->op == BLK_READ ? own : frame);
	}
}

/* The next request whose time has come; if there is none, the timer is set for the one that follows. */
static struct blk_req *take_due(struct ramdisk *rd, bool all)
{
	struct blk_req *r = NULL;
	u64 due = 0;

	lock_acquire(&rd->lock);
	if (!list_empty(&rd->pending)) {
		r = list_entry(rd->pending.next, struct blk_req, link);
		due = *due_of(r);
		if (all || due <= platform_now_ns()) {
			list_del(&r->link);
			due = 0;
		} else {
			r = NULL;
		}
	}
	lock_release(&rd->lock);
	if (due)
		timer_arm(&rd->timer, due);
	return r;
}

/* True if there may be more. */
static bool finish_some(struct ramdisk *rd, bool all)
{
	struct blk_req *r;
	u32 pages = 0;

	while (pages < PIECE_PAGES && (r = take_due(rd, all))) {
		pages += r->pages + 1;
		copy(rd, r);
		blk_complete(r, 0);
	}
	return pages >= PIECE_PAGES;
}

static void work_run_piece(struct work *w)
{
	if (finish_some(container_of(w, struct ramdisk, work), false))
		work_queue(w);
}

static void timer_fired(struct timer *t)
{
	work_queue(&container_of(t, struct ramdisk, timer)->work);
}

/* The boot CPU's, as the work item: at shutdown nothing else runs. */
static void poll(struct blk_dev *d)
{
	finish_some(d->priv, false);
}

static void stop(struct blk_dev *d)
{
	struct ramdisk *rd = d->priv;

	WRITE_ONCE(d->gone, true);
	timer_cancel(&rd->timer);
	while (finish_some(rd, true))
		;
}

static const struct blk_ops ops = {.submit = submit, .poll = poll, .shutdown = stop};

/* ---- making -------------------------------------------------------------- */

/* Blocks for so many pages. False: there is not that much memory, and nothing is kept. */
static bool take_memory(struct ramdisk *rd, u32 blocks)
{
	hfn_t table = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);

	if (table == HFN_NONE)
		return false;
	rd->block = mm_hfn_to_va(table);
	for (u32 i = 0; i < blocks; i++) {
		rd->block[i] = frame_alloc(FRAME_ORDER_LARGE, FRAME_FOR_HV, FRAME_HV, true);
		if (rd->block[i] != HFN_NONE)
			continue;
		while (i--)
			frame_free(rd->block[i], FRAME_ORDER_LARGE);
		frame_free(table, 0);
		return false;
	}
	return true;
}

static void make(struct ramdisk *rd, const char *name, enum blk_part_kind kind, u32 mib)
{
	u32 blocks = DIV_ROUND_UP(mib, LARGE_SIZE / MIB);

	if (!mib)
		return;
	if (!take_memory(rd, blocks)) {
		log_warn("ramdisk", "%s: no %u MiB of memory for it", name, mib);
		return;
	}
	lock_init(&rd->lock, name, LOCK_RANK_BLK);
	list_init(&rd->pending);
	timer_init(&rd->timer, timer_fired);
	work_init(&rd->work, name, work_run_piece);
	rd->latency_ns = config.latency_us * NSEC_PER_USEC;
	rd->page_ns = config.page_us * NSEC_PER_USEC;
	rd->dev.sectors = (u64)blocks * BLOCK_PAGES * SECTORS_PAGE;
	rd->dev.sector_bytes = PAGE_SIZE;
	rd->dev.queue_depth = QUEUE_DEPTH;
	rd->dev.ops = &ops;
	rd->dev.whole = true;
	rd->dev.priv = rd;
	str_copy(rd->dev.name, name, sizeof(rd->dev.name));
	str_copy(rd->dev.model, "memory", sizeof(rd->dev.model));
	blk_register(&rd->dev);
	gpt_make_whole(&rd->dev, kind, &rd->part);
}

void ramdisk_init(void)
{
	make(&disks[0], "ram0", BLK_PART_SWAP, config.swap_mib);
	make(&disks[1], "ram1", BLK_PART_GUEST_DATA, config.data_mib);
}
