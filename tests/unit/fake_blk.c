/* See fake_blk.h. */
#include "tests/unit/fake_blk.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/panic.h"
#include "lib/prng.h"
#include "lib/work.h"
#include "mm/platform.h"
#include "tests/unit/fake_platform.h"

#define PART_START   4096U /* sectors */
#define DISK_SECTORS (1UL << 32)

/* Words of blk_req.driver[] */
enum { D_DUE_LOW, D_DUE_HIGH, D_EARLY, D_DONE };

struct fake_blk fake_blk;

static u8 *data;
static u64 data_pages, busy_until_ns;
static struct list pending;
static struct prng rnd;

static void submit(struct blk_dev *d, struct blk_req *r);
static void poll(struct blk_dev *d);
static void stop(struct blk_dev *d);

static const struct blk_ops ops = {.submit = submit, .poll = poll, .shutdown = stop};
static struct blk_dev dev = {
    .name = "fake0", .sectors = DISK_SECTORS, .sector_bytes = 512, .queue_depth = 64, .ops = &ops};
struct blk_part fake_blk_part = {
    .dev = &dev, .kind = BLK_PART_SWAP, .start = PART_START, .pages = 1 << 20, .name = "fake-swap"};

void fake_blk_restart(void)
{
	busy_until_ns = 0;
	fake_blk = (struct fake_blk){0};
	list_init(&pending);
	prng_seed(&rnd, 7);
	dev.gone = false;
	dev.in_flight = 0;
}

void fake_blk_start(u64 pages)
{
	static bool registered;

	fake_blk_stop();
	data = calloc(pages, PAGE_SIZE);
	if (!data)
		abort();
	data_pages = pages;
	fake_blk_restart();
	fake_blk_part.pages = 1 << 20;
	if (!registered) {
		blk_register(&dev);
		blk_register_part(&fake_blk_part);
		registered = true;
	}
	fake_blk_part.pages = pages;
}

void fake_blk_stop(void)
{
	free(data);
	data = NULL;
}

void *fake_blk_page(u64 page)
{
	CHECK(page < data_pages);
	return data + page * PAGE_SIZE;
}

static u64 first_page(const struct blk_req *r)
{
	CHECK(r->sector >= PART_START && (r->sector - PART_START) % 8 == 0);
	return (r->sector - PART_START) / 8;
}

static bool one_in(u32 n)
{
	return n && !prng_below(&rnd, n);
}

static void write_pages(struct blk_req *r)
{
	for (u32 i = 0; i < r->pages; i++)
		if (!one_in(fake_blk.lose_one_in))
			memcpy(fake_blk_page(first_page(r) + i), mm_hfn_to_va(r->frame[i]), PAGE_SIZE);
	fake_blk.written += r->pages;
}

static void read_pages(struct blk_req *r)
{
	for (u32 i = 0; i < r->pages; i++) {
		u8 *to = mm_hfn_to_va(r->frame[i]);

		memcpy(to, fake_blk_page(first_page(r) + i), PAGE_SIZE);
		if (one_in(fake_blk.flip_one_in))
			to[prng_below(&rnd, PAGE_SIZE)] ^= 1 << prng_below(&rnd, 8);
	}
	fake_blk.read += r->pages;
}

static bool touches(const struct blk_req *r, u64 from, u64 to)
{
	return first_page(r) < to && first_page(r) + r->pages > from;
}

static int verdict(struct blk_req *r)
{
	if (fake_blk.gone)
		return E_NODEV;
	if (r->op == BLK_READ && fake_blk.bad_reads_once) {
		fake_blk.bad_reads_once--;
		return E_IO;
	}
	if (r->op == BLK_READ)
		return touches(r, fake_blk.bad_read_from, fake_blk.bad_read_to) ? E_IO : 0;
	return touches(r, fake_blk.bad_write_from, fake_blk.bad_write_to) ? E_IO : 0;
}

static void submit(struct blk_dev *d, struct blk_req *r)
{
	u64 due;

	(void)d;
	CHECK(first_page(r) + r->pages <= data_pages);
	busy_until_ns = MAX(busy_until_ns, fake_now_ns) + fake_blk.per_page_ns * r->pages;
	due = fake_now_ns + fake_blk.latency_ns;
	due = fake_blk.per_page_ns ? MAX(due, busy_until_ns) : due;
	r->driver[D_DUE_LOW] = (u32)due;
	r->driver[D_DUE_HIGH] = (u32)(due >> 32);
	r->driver[D_EARLY] = (u32)prng_below(&rnd, 2);
	fake_blk.write_requests += r->op == BLK_WRITE;
	if (r->op == BLK_WRITE && r->driver[D_EARLY]) {
		r->driver[D_EARLY] = !verdict(r);
		if (r->driver[D_EARLY])
			write_pages(r);
	}
	if (r->op == BLK_READ) {
		r->driver[D_EARLY] = fake_blk.early_reads;
		if (fake_blk.early_reads)
			read_pages(r);
	}
	if (prng_below(&rnd, 2))
		list_add(&pending, &r->link);
	else
		list_add_tail(&pending, &r->link);
	fake_blk.pending++;
}

static void complete(struct blk_req *r)
{
	int status = verdict(r);

	list_del(&r->link);
	fake_blk.pending--;
	if (!status && r->op == BLK_READ && !r->driver[D_EARLY])
		read_pages(r);
	if (!status && r->op == BLK_WRITE && !r->driver[D_EARLY])
		write_pages(r);
	blk_complete(r, status);
}

static struct blk_req *next_due(void)
{
	list_for_each (pos, &pending) {
		struct blk_req *r = list_entry(pos, struct blk_req, link);

		if (fake_blk.gone || ((u64)r->driver[D_DUE_HIGH] << 32 | r->driver[D_DUE_LOW]) <= fake_now_ns)
			return r;
	}
	return NULL;
}

static void poll(struct blk_dev *d)
{
	struct blk_req *r;
	u32 n = fake_blk.pending;

	if (fake_blk.gone)
		d->gone = true;
	/* Those that completions submit wait for the next poll. */
	while (n-- && !fake_blk.hold && (r = next_due()))
		complete(r);
}

static void stop(struct blk_dev *d)
{
	d->gone = true;
}

void fake_blk_poll(void)
{
	blk_poll_all();
	work_run(16); /* answers of a device that is gone */
}

void fake_blk_drain(void)
{
	for (u32 i = 0; (fake_blk.pending || work_pending()) && i < 100000; i++) {
		fake_now_ns += NSEC_PER_MSEC;
		fake_blk_poll();
	}
	CHECK(!fake_blk.pending);
}
