/*
 * Test of the block layer on real devices: drivers_selftest(). Clustered reads and writes of random size and place go
 * to every swap partition at once, DEPTH in flight; what was written last is known for each page, and every page
 * that is read is compared word by word. A failed transfer is counted, not taken for a fault of ours; wrong bytes are.
 */
#include "drivers/drivers.h"

#include "arch/x86/cpu.h"
#include "lib/err.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/prng.h"
#include "lib/timer.h"
#include "lib/work.h"
#include "mm/blk.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define DEPTH          96U /* more than a device takes at once */
#define PARTS_MAX      4U
#define SLOT_PAGES_MAX 256U /* of the partition, to each request in flight: its own */
#define REQUESTS       6000U
#define BLOCK_ORDER    7 /* holds DEPTH frames */
_Static_assert(DEPTH <= 1 << BLOCK_ORDER, "block of frames");
#define RUN_NS             (60 * NSEC_PER_SEC)
#define GENERATION_UNKNOWN 0U /* never written, or a write failed: anything may be there */
#define PAGE_WORDS         (PAGE_SIZE / sizeof(u64))

struct slot {
	struct blk_req req;
	struct blk_part *part;
	u64 first;          /* page of the partition; span pages are this slot's */
	u32 *generation;    /* of each of them */
	u32 new_generation; /* while a write is in flight */
	bool busy;
};

static struct test {
	struct prng rnd;
	struct slot *slot;
	u32 *generations;
	struct blk_part *part[PARTS_MAX];
	u32 part_count, span, in_flight;
	u32 submitted, generation;
	u64 end_ns;
	u64 checked, bad, failed, timed_out;
} t;

static u64 pattern(const struct slot *s, u64 page, u32 generation)
{
	return ((u64)generation << 32 ^ page * 0x9e3779b97f4a7c15UL ^ (uintptr_t)s->part) | 1;
}

static void fill(struct slot *s)
{
	for (u32 i = 0; i < s->req.pages; i++) {
		u64 *word = mm_hfn_to_va(s->req.frame[i]);
		u64 p = pattern(s, s->req.page + i, s->new_generation);

		for (u32 w = 0; w < PAGE_WORDS; w++)
			word[w] = p * (w + 1);
	}
}

static bool page_matches(const u64 *word, u64 p)
{
	for (u32 w = 0; w < PAGE_WORDS; w++)
		if (word[w] != p * (w + 1))
			return false;
	return true;
}

static void verify(struct slot *s)
{
	for (u32 i = 0; i < s->req.pages; i++) {
		u64 page = s->req.page + i;
		u32 generation = s->generation[page - s->first];

		if (generation == GENERATION_UNKNOWN)
			continue;
		t.checked++;
		if (page_matches(mm_hfn_to_va(s->req.frame[i]), pattern(s, page, generation)))
			continue;
		if (t.bad++ < 8)
			log_error("selftest", "%s: page %llu of '%s' has wrong contents", s->part->dev->name,
				  (unsigned long long)page, s->part->name);
	}
}

static void start_one(struct slot *s)
{
	struct blk_req *r = &s->req;
	u32 offset;

	r->pages = 1 + (u32)prng_below(&t.rnd, MIN(BLK_PAGES_MAX, t.span));
	offset = (u32)prng_below(&t.rnd, t.span - r->pages + 1);
	r->page = s->first + offset;
	r->op = prng_below(&t.rnd, 2) ? BLK_WRITE : BLK_READ;
	if (prng_below(&t.rnd, 64) == 0) {
		r->op = BLK_FLUSH;
		r->pages = 0;
	}
	if (r->op == BLK_WRITE) {
		s->new_generation = ++t.generation;
		fill(s);
	}
	s->busy = true;
	t.submitted++;
	t.in_flight++;
	blk_submit(s->part, r);
}

static void note_written(struct slot *s)
{
	for (u32 i = 0; i < s->req.pages; i++)
		s->generation[s->req.page + i - s->first] = s->req.status ? GENERATION_UNKNOWN : s->new_generation;
}

static void on_done(struct blk_req *r)
{
	struct slot *s = r->arg;

	lock_assert_none();
	s->busy = false;
	t.in_flight--;
	t.failed += r->status != 0;
	t.timed_out += r->status == E_TIMEDOUT;
	if (r->op == BLK_WRITE)
		note_written(s);
	else if (r->op == BLK_READ && !r->status)
		verify(s);
}

/* ---- set-up -------------------------------------------------------------- */

static u32 order_of(size_t bytes)
{
	u32 order = 0;

	while (PAGE_SIZE << order < bytes)
		order++;
	return order;
}

static void *alloc(size_t bytes)
{
	hfn_t hfn = frame_alloc(order_of(bytes), FRAME_FOR_HV, FRAME_HV, true);

	return hfn == HFN_NONE ? NULL : mm_hfn_to_va(hfn);
}

static size_t generations_bytes(void)
{
	return (size_t)DEPTH * t.span * sizeof(u32);
}

static size_t slots_bytes(void)
{
	return DEPTH * sizeof(*t.slot);
}

/* One block a page position: no two pages of a request are neighbours in memory. */
static int alloc_frames(void)
{
	for (u32 i = 0; i < BLK_PAGES_MAX; i++) {
		hfn_t block = frame_alloc(BLOCK_ORDER, FRAME_FOR_HV, FRAME_HV, true);

		if (block == HFN_NONE)
			return E_NOMEM;
		for (u32 slot = 0; slot < DEPTH; slot++)
			t.slot[slot].req.frame[i] = block + slot;
	}
	return 0;
}

static void find_parts(void)
{
	u64 smallest = ~0UL;

	for (struct blk_part *p = NULL; t.part_count < PARTS_MAX && (p = blk_part_next(p, BLK_PART_SWAP));) {
		t.part[t.part_count++] = p;
		smallest = MIN(smallest, p->pages);
	}
	if (t.part_count)
		t.span = (u32)MIN(smallest / DIV_ROUND_UP(DEPTH, t.part_count), SLOT_PAGES_MAX);
}

static int prepare(void)
{
	find_parts();
	if (!t.span)
		return E_NOENT;
	t.slot = alloc(slots_bytes());
	t.generations = alloc(generations_bytes());
	if (!t.slot || !t.generations)
		return E_NOMEM;
	for (u32 i = 0; i < DEPTH; i++) {
		struct slot *s = &t.slot[i];

		s->part = t.part[i % t.part_count];
		s->first = (u64)(i / t.part_count) * t.span;
		s->generation = t.generations + (size_t)i * t.span;
		s->req.done = on_done;
		s->req.arg = s;
	}
	prng_seed(&t.rnd, cpu_now_ns());
	return alloc_frames();
}

/* Gives back what prepare() took. */
static void release(void)
{
	for (u32 i = 0; i < BLK_PAGES_MAX; i++)
		frame_free(t.slot[0].req.frame[i], BLOCK_ORDER);
	frame_free(mm_va_to_hfn(t.generations), order_of(generations_bytes()));
	frame_free(mm_va_to_hfn(t.slot), order_of(slots_bytes()));
}

/* ---- the run ------------------------------------------------------------- */

static bool more(void)
{
	return t.submitted < REQUESTS && cpu_now_ns() < t.end_ns;
}

/* The CPU loop, without guests. */
static void turn(void)
{
	cpu_irq_window();
	timer_run_expired(cpu_now_ns());
	work_run(16);
	if (work_pending())
		return;
	cpu_timer_arm(timer_next_ns());
	cpu_idle();
}

static void run(void)
{
	t.end_ns = cpu_now_ns() + RUN_NS;
	while (more() || t.in_flight) {
		for (u32 i = 0; i < DEPTH && more(); i++)
			if (!t.slot[i].busy)
				start_one(&t.slot[i]);
		turn();
	}
}

static u64 mean_us(u64 sum_ns, u64 count)
{
	return count ? sum_ns / count / NSEC_PER_USEC : 0;
}

static void report(void)
{
	for (u32 i = 0; i < t.part_count; i++) {
		const struct blk_dev *d = t.part[i]->dev;
		const struct blk_stats *s = &d->stats;

		log_info("selftest", "%s: reads %lu (mean %lu us, max %lu us) writes %lu (mean %lu us, max %lu us)%s",
			 d->name, s->reads, mean_us(s->read_ns, s->reads), s->read_ns_max / NSEC_PER_USEC, s->writes,
			 mean_us(s->write_ns, s->writes), s->write_ns_max / NSEC_PER_USEC, d->gone ? " GONE" : "");
		log_info("selftest", "%s: pages read %lu written %lu, flushes %lu, errors %lu, timeouts %lu resets %lu",
			 d->name, s->read_pages, s->write_pages, s->flushes, s->errors, s->timeouts, s->resets);
	}
}

int drivers_selftest(void)
{
	u64 start_ns = cpu_now_ns();
	int err = prepare();

	if (err) {
		log_error("selftest", "blk: cannot run: %s", err_name(err));
		return err;
	}
	log_info("selftest", "blk: %u swap partition(s), %u requests in flight", t.part_count, DEPTH);
	run();
	release();
	report();
	err = t.bad ? E_IO : 0;
	log_info("selftest", "blk: %s: %u requests, %lu pages verified, %lu bad, %lu failed (%lu timed out), %lu ms",
		 err ? "FAIL" : "PASS", t.submitted, t.checked, t.bad, t.failed, t.timed_out,
		 (cpu_now_ns() - start_ns) / NSEC_PER_MSEC);
	return err;
}
