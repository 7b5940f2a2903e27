/*
 * Block devices: the registry of devices and partitions, the checked way in for requests and the accounting
 * on their way out.
 *
 * What keeps a foreign disk safe is here: drivers see requests only through blk_submit(), which takes nothing but a
 * registered partition and stays within it, and blk_read_raw(), which can only read. There is no third way.
 *
 * Locking: blk.lock (LOCK_RANK_BLK, never held with a driver's lock) guards in_flight, the counts and the list of
 * failed submissions. Devices and partitions are registered at boot by one CPU and stay for good.
 */
#include "mm/blk.h"

#include "lib/err.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/work.h"

#define SECTORS_PER_PAGE (PAGE_SIZE / BLK_SECTOR)
#define DRAIN_NS         (10 * NSEC_PER_SEC)  /* at shutdown, for what is in flight */
#define RAW_LIMIT_NS     (600 * NSEC_PER_SEC) /* drivers' time-outs end long before */

static void failed_work(struct work *w);

static struct {
	struct lock lock;
	struct list devs, parts;
	struct list failed; /* submitted to a device that is gone; done is due */
	struct work failed_work;
} blk = {
    .lock = LOCK_INIT("blk", LOCK_RANK_BLK),
    .devs = LIST_INIT(blk.devs),
    .parts = LIST_INIT(blk.parts),
    .failed = LIST_INIT(blk.failed),
    .failed_work = {.link = LIST_INIT(blk.failed_work.link), .fn = failed_work, .name = "blk failed"},
};

/* ---- registry ------------------------------------------------------------ */

void blk_register(struct blk_dev *d)
{
	CHECK(d->ops && (d->sector_bytes == 512 || d->sector_bytes == 4096));
	list_add_tail(&blk.devs, &d->link);
}

void blk_register_part(struct blk_part *p)
{
	CHECK(p->dev && p->pages && p->start % SECTORS_PER_PAGE == 0);
	CHECK(p->start <= p->dev->sectors && p->pages <= (p->dev->sectors - p->start) / SECTORS_PER_PAGE);
	list_add_tail(&blk.parts, &p->link);
}

struct blk_dev *blk_next(struct blk_dev *d)
{
	struct list *next = d ? d->link.next : blk.devs.next;

	return next == &blk.devs ? NULL : list_entry(next, struct blk_dev, link);
}

struct blk_part *blk_part_next(struct blk_part *p, enum blk_part_kind kind)
{
	struct list *next = p ? p->link.next : blk.parts.next;

	for (; next != &blk.parts; next = next->next) {
		p = list_entry(next, struct blk_part, link);
		if (p->kind == kind)
			return p;
	}
	return NULL;
}

static bool part_registered(const struct blk_part *part)
{
	list_for_each (pos, &blk.parts)
		if (list_entry(pos, struct blk_part, link) == part)
			return true;
	return false;
}

/* ---- requests ------------------------------------------------------------ */

static void submit(struct blk_dev *d, struct blk_req *r)
{
	bool gone;

	r->dev = d;
	r->status = 0;
	r->submitted_ns = platform_now_ns();
	list_init(&r->link);
	lock_acquire(&blk.lock);
	d->in_flight++;
	gone = READ_ONCE(d->gone);
	if (gone) {
		r->status = E_NODEV;
		list_add_tail(&blk.failed, &r->link);
	}
	lock_release(&blk.lock);
	if (gone)
		work_queue(&blk.failed_work);
	else
		d->ops->submit(d, r);
}

void blk_submit(struct blk_part *part, struct blk_req *r)
{
	CHECK(part_registered(part) && r->done);
	if (r->op == BLK_FLUSH) {
		CHECK(r->pages == 0);
	} else {
		CHECK(r->op == BLK_READ || r->op == BLK_WRITE);
		CHECK(r->pages >= 1 && r->pages <= BLK_PAGES_MAX);
		CHECK(r->page < part->pages && r->pages <= part->pages - r->page);
	}
	r->sector = part->start + (r->op == BLK_FLUSH ? 0 : r->page * SECTORS_PER_PAGE);
	submit(part->dev, r);
}

static void account(struct blk_dev *d, const struct blk_req *r, int status)
{
	u64 ns = platform_now_ns() - r->submitted_ns;
	struct blk_stats *s = &d->stats;

	CHECK(d->in_flight > 0);
	d->in_flight--;
	if (status) {
		s->errors++;
	} else if (r->op == BLK_READ) {
		s->reads++;
		s->read_pages += r->pages;
		s->read_ns += ns;
		s->read_ns_max = MAX(s->read_ns_max, ns);
	} else if (r->op == BLK_WRITE) {
		s->writes++;
		s->write_pages += r->pages;
		s->write_ns += ns;
		s->write_ns_max = MAX(s->write_ns_max, ns);
	} else {
		s->flushes++;
	}
}

void blk_complete(struct blk_req *r, int status)
{
	lock_acquire(&blk.lock);
	account(r->dev, r, status);
	lock_release(&blk.lock);
	r->status = status;
	r->done(r);
}

void blk_complete_list(struct list *finished)
{
	struct list *link;

	while ((link = list_pop(finished))) {
		struct blk_req *r = list_entry(link, struct blk_req, link);

		blk_complete(r, r->status);
	}
}

/* Requests that met a dead device; done may not run inside blk_submit, whose caller holds locks. */
static void failed_run(void)
{
	struct list batch = LIST_INIT(batch);

	/* One batch: a done that submits again must not keep us here. */
	lock_acquire(&blk.lock);
	list_move_all(&blk.failed, &batch);
	lock_release(&blk.lock);
	blk_complete_list(&batch);
}

static void failed_work(struct work *w)
{
	(void)w;
	failed_run();
}

void blk_poll_all(void)
{
	list_for_each (pos, &blk.devs) {
		struct blk_dev *d = list_entry(pos, struct blk_dev, link);

		d->ops->poll(d);
	}
	failed_run();
}

/* ---- boot and shutdown --------------------------------------------------- */

static void raw_done(struct blk_req *r)
{
	*(bool *)r->arg = true;
}

int blk_read_raw(struct blk_dev *d, u64 sector, u32 pages, const hfn_t *frames)
{
	u64 limit_ns = platform_now_ns() + RAW_LIMIT_NS;
	bool done = false;
	struct blk_req r = {.op = BLK_READ, .pages = pages, .sector = sector, .done = raw_done, .arg = &done};

	if (pages == 0 || pages > BLK_PAGES_MAX || sector % (d->sector_bytes / BLK_SECTOR) || sector >= d->sectors ||
	    pages > (d->sectors - sector) / SECTORS_PER_PAGE)
		return E_RANGE;
	for (u32 i = 0; i < pages; i++)
		r.frame[i] = frames[i];
	submit(d, &r);
	while (!done) {
		CHECK(platform_now_ns() < limit_ns);
		platform_relax();
		d->ops->poll(d);
		failed_run();
	}
	return r.status;
}

static bool any_in_flight(void)
{
	bool any = false;

	lock_acquire(&blk.lock);
	list_for_each (pos, &blk.devs)
		any |= list_entry(pos, struct blk_dev, link)->in_flight > 0;
	lock_release(&blk.lock);
	return any;
}

void blk_shutdown_all(void)
{
	u64 limit_ns = platform_now_ns() + DRAIN_NS;

	while (any_in_flight() && platform_now_ns() < limit_ns) {
		platform_relax();
		blk_poll_all();
	}
	list_for_each (pos, &blk.devs) {
		struct blk_dev *d = list_entry(pos, struct blk_dev, link);

		if (d->in_flight)
			log_warn("blk", "%s: shut down with %u requests in flight", d->name, d->in_flight);
		d->ops->shutdown(d);
		WRITE_ONCE(d->gone, true);
	}
	blk_poll_all();
}
