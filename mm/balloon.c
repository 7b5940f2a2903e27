/*
 * Balloon hypercalls and targets. Each entry of a batch is taken on its own and answered by a status; whatever it says,
 * the page states in gspace.c decide. Frames given up come free in one flush at the end of the batch.
 */
#include "mm/balloon.h"

#include "lib/err.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "mm/gspace.h"
#include "mm/platform.h"
#include "mm/reclaim.h"

#define ENTRY_2M       BIT(0)
#define ENTRY_RESERVED (BITS(63, 52) | BITS(3, 1))
#define ENTRY_STATUS   BITS(11, 4)

/* One call's state: what may still be moved. */
struct batch {
	struct gspace *gs;
	u32 work;     /* pages that may still be looked at */
	u32 tokens;   /* pages that may still be moved */
	u32 capacity; /* inflate: pages up to the target */
	u32 moved;
	u32 size; /* of the balloon before */
	bool inflate;
};

u32 balloon_size(const struct gspace *gs)
{
	return gs->count[PAGE_BALLOONED];
}

/* ---- rate ---------------------------------------------------------------- */

static u32 rate_of(u32 rate)
{
	return rate ? rate : BALLOON_RATE_DEFAULT;
}

/* Fills a bucket of `size` pages at `rate` a second up to now. gs->lock held. */
static void refill(struct balloon_bucket *b, u64 rate, u64 size, u64 now_ns)
{
	u64 elapsed = MIN(now_ns - b->ns, NSEC_PER_SEC * 60), pages;

	if (now_ns < b->ns)
		return;
	pages = elapsed * rate / NSEC_PER_SEC;
	if (b->tokens + pages >= size) {
		b->tokens = (u32)size;
		b->ns = now_ns;
		return;
	}
	b->tokens += (u32)pages;
	b->ns += pages * NSEC_PER_SEC / rate; /* fractions of a page stay in the bucket */
}

static void refill_rate(struct balloon_bucket *b, u32 rate, u64 now_ns)
{
	refill(b, rate, MAX((u64)rate * BALLOON_BURST_PERCENT / 100, LARGE_PAGES), now_ns);
}

u64 balloon_credit_pages(const struct gspace *gs)
{
	return MAX((u64)gs->pages * BALLOON_CREDIT_PERCENT / 100, LARGE_PAGES);
}

static void refill_credit(struct gspace *gs, u64 now_ns)
{
	u64 size = balloon_credit_pages(gs);

	refill(&gs->balloon_credit, MAX(size * NSEC_PER_SEC / BALLOON_CREDIT_NS, 1UL), size, now_ns);
}

static struct balloon_bucket *bucket_of(struct gspace *gs, bool inflate, u64 now_ns)
{
	struct balloon_bucket *b = inflate ? &gs->balloon_up : &gs->balloon_down;

	refill_rate(b, rate_of(inflate || !gs->balloon_rate_down ? gs->balloon_rate : gs->balloon_rate_down), now_ns);
	return b;
}

u32 balloon_allowance(struct gspace *gs, u64 now_ns)
{
	u32 tokens;

	lock_acquire(&gs->lock);
	tokens = bucket_of(gs, balloon_size(gs) <= READ_ONCE(gs->balloon_target), now_ns)->tokens;
	lock_release(&gs->lock);
	return tokens;
}

static void batch_begin(struct batch *b, struct gspace *gs, bool inflate)
{
	u32 target = MIN(READ_ONCE(gs->balloon_target), gs->balloon_max), size = balloon_size(gs);
	u64 now = platform_now_ns();

	*b = (struct batch){.gs = gs, .inflate = inflate, .size = size};
	b->work = BALLOON_CALL_PAGES;
	b->capacity = target > size ? target - size : 0;
	lock_acquire(&gs->lock);
	b->tokens = bucket_of(gs, inflate, now)->tokens;
	refill_credit(gs, now);
	if (!inflate)
		b->tokens += gs->balloon_credit.tokens;
	lock_release(&gs->lock);
}

/* What the guest took back although it was asked to give: the host looks for it elsewhere. */
static void note_relief(struct gspace *gs, u32 before)
{
	u32 target = READ_ONCE(gs->balloon_target), size = balloon_size(gs), from = MIN(before, target);

	if (size >= from)
		return;
	gs->stats.balloon_relief += from - size;
	__atomic_add_fetch(&gs->relief_pages, from - size, __ATOMIC_RELAXED);
}

static void pay(struct gspace *gs, bool inflate, u32 pages)
{
	struct balloon_bucket *b = inflate ? &gs->balloon_up : &gs->balloon_down;
	u32 paid = MIN(b->tokens, pages);

	b->tokens -= paid;
	if (!inflate)
		gs->balloon_credit.tokens -= MIN(gs->balloon_credit.tokens, pages - paid);
}

static void batch_end(struct batch *b, u32 refused)
{
	struct gspace *gs = b->gs;

	lock_acquire(&gs->lock);
	pay(gs, b->inflate, b->moved);
	gs->stats.balloon_refused += refused;
	if (!b->inflate)
		note_relief(gs, b->size);
	lock_release(&gs->lock);
	gspace_flush(gs);
}

static bool may_move(const struct batch *b, u32 pages)
{
	return pages <= b->work && pages <= b->tokens;
}

static void moved(struct batch *b, u32 pages)
{
	b->tokens -= pages;
	b->moved += pages;
}

/* ---- entries ------------------------------------------------------------- */

/* Why gspace refused a page, in the guest's terms. */
static u32 status_of(struct gspace *gs, gfn_t gfn, bool inflate)
{
	switch (gspace_state(gs, gfn)) {
	case PAGE_PINNED:
		return inflate ? BALLOON_PINNED : BALLOON_ALREADY;
	case PAGE_SWAPPING_OUT:
	case PAGE_SWAPPING_IN:
		return inflate ? BALLOON_BUSY : BALLOON_ALREADY;
	case PAGE_BALLOONED:
		return inflate ? BALLOON_ALREADY : BALLOON_BUSY;
	default:
		return inflate ? BALLOON_BUSY : BALLOON_ALREADY;
	}
}

/* A single page out of a large one costs what the large one does, which it splits. */
static int take_single(struct batch *b, gfn_t gfn)
{
	u64 splits = READ_ONCE(b->gs->stats.large_splits);
	int err = gspace_balloon_take(b->gs, gfn);

	if (READ_ONCE(b->gs->stats.large_splits) != splits)
		b->work -= MIN(b->work, LARGE_PAGES) - 1;
	return err;
}

static u32 take_pages(struct batch *b, gfn_t gfn, u32 n)
{
	gfn_t at = gfn;
	int err;

	if (n > b->capacity)
		return BALLOON_OVER;
	if (!may_move(b, n))
		return BALLOON_BUSY;
	err = n == 1 ? take_single(b, gfn) : gspace_balloon_take_large(b->gs, gfn, &at);
	if (err) {
		b->work -= at - gfn + 1;
		return status_of(b->gs, at, true);
	}
	b->capacity -= n;
	b->work -= n;
	moved(b, n);
	return BALLOON_OK;
}

static u32 give_pages(struct batch *b, gfn_t gfn, u32 n)
{
	u32 given;

	if (!may_move(b, n))
		return BALLOON_BUSY;
	given = n == 1 ? !gspace_balloon_give(b->gs, gfn) : gspace_balloon_give_large(b->gs, gfn);
	b->work -= n; /* looked at, however few came back */
	if (!given)
		return status_of(b->gs, gfn, false);
	moved(b, n);
	return BALLOON_OK;
}

static u32 one_entry(struct batch *b, u64 entry, bool inflate)
{
	u32 n = entry & ENTRY_2M ? LARGE_PAGES : 1;
	u64 gfn = (entry & BITS(51, 12)) >> PAGE_SHIFT;

	if (entry & ENTRY_RESERVED || gfn % n || gfn + n > b->gs->pages || (n > 1 && !b->gs->balloon_2m))
		return BALLOON_INVALID;
	return inflate ? take_pages(b, (gfn_t)gfn, n) : give_pages(b, (gfn_t)gfn, n);
}

static u32 run_batch(struct gspace *gs, u64 *entries, u32 n, bool inflate)
{
	u32 accepted = 0, status;
	struct batch b;

	CHECK(n <= BALLOON_BATCH_MAX);
	batch_begin(&b, gs, inflate);
	for (u32 i = 0; i < n; i++) {
		status = one_entry(&b, entries[i], inflate);
		entries[i] = (entries[i] & ~ENTRY_STATUS) | (u64)status << 4;
		accepted += status == BALLOON_OK;
	}
	batch_end(&b, n - accepted);
	return accepted;
}

u32 balloon_inflate(struct gspace *gs, u64 *entries, u32 n)
{
	u32 before = balloon_size(gs), accepted = run_batch(gs, entries, n, true);

	if (balloon_size(gs) > before) {
		WRITE_ONCE(gs->balloon_progress_ns, platform_now_ns());
		reclaim_memory_returned();
	}
	return accepted;
}

u32 balloon_deflate(struct gspace *gs, u64 *entries, u32 n)
{
	return run_batch(gs, entries, n, false);
}

/* ---- target -------------------------------------------------------------- */

void balloon_set_target(struct gspace *gs, u32 pages)
{
	u32 old = gs->balloon_target;
	u64 now = platform_now_ns();

	pages = MIN(pages, gs->balloon_max);
	if (pages == old)
		return;
	/* A balloon that was at rest gets its full time for the new target. */
	if (balloon_size(gs) >= old)
		WRITE_ONCE(gs->balloon_progress_ns, now);
	if (pages > old)
		gs->balloon_raised_ns = now;
	gs->balloon_deadline_ns =
	    pages > balloon_size(gs) && gs->balloon_deadline_ms ? now + gs->balloon_deadline_ms * NSEC_PER_MSEC : 0;
	WRITE_ONCE(gs->balloon_target, pages);
	mm_balloon_notify(gs);
}

bool balloon_stalled(const struct gspace *gs, u64 now_ns)
{
	u64 last = READ_ONCE(gs->balloon_progress_ns);

	return balloon_size(gs) < gs->balloon_target && now_ns > last && now_ns - last >= BALLOON_STALL_NS;
}

u32 balloon_deadline_ms(const struct gspace *gs, u32 pages, u32 slack_ms)
{
	u32 size = balloon_size(gs);

	return pages > size ? (u32)((u64)(pages - size) * 1000 / rate_of(gs->balloon_rate)) + slack_ms : 0;
}

/* ---- trust --------------------------------------------------------------- */

/* Looks at what was given and broken in the last BALLOON_WATCH_NS. */
static bool is_lying(struct gspace *gs, u64 now_ns)
{
	u64 out = gs->stats.balloon_out - gs->watch_out, broken = gs->stats.balloon_broken - gs->watch_broken;

	if (broken >= BALLOON_LIE_PAGES && broken >= out / 4)
		gs->distrust_ns = now_ns + BALLOON_DISTRUST_NS;
	if (now_ns - gs->watch_ns >= BALLOON_WATCH_NS || now_ns < gs->distrust_ns) {
		gs->watch_ns = now_ns;
		gs->watch_out = gs->stats.balloon_out;
		gs->watch_broken = gs->stats.balloon_broken;
	}
	return now_ns < gs->distrust_ns;
}

static void tell_trouble(const struct gspace *gs, enum balloon_trouble trouble)
{
	if (trouble == BALLOON_STALLED)
		log_warn("balloon", "%s: no progress for %lu s at %u of %u pages; swap takes its part", gs->name,
			 BALLOON_STALL_NS / NSEC_PER_SEC, balloon_size(gs), gs->balloon_target);
	else if (trouble == BALLOON_LYING)
		log_warn("balloon", "%s: touches what it gave, %lu pages so far; swap takes its part", gs->name,
			 gs->stats.balloon_broken);
	else if (gs->balloon_trouble == BALLOON_STALLED)
		log_info("balloon", "%s: moves again", gs->name);
	else
		log_info("balloon", "%s: keeps its word again", gs->name);
}

static void note_deadline(struct gspace *gs, u64 now_ns)
{
	if (!gs->balloon_deadline_ns || now_ns < gs->balloon_deadline_ns)
		return;
	if (balloon_size(gs) < gs->balloon_target)
		gs->stats.balloon_late++;
	gs->balloon_deadline_ns = 0;
}

enum balloon_trouble balloon_judge(struct gspace *gs, u64 now_ns)
{
	enum balloon_trouble trouble = BALLOON_FINE;

	note_deadline(gs, now_ns);
	if (READ_ONCE(gs->balloon_present) && balloon_stalled(gs, now_ns))
		trouble = BALLOON_STALLED;
	if (is_lying(gs, now_ns))
		trouble = BALLOON_LYING;
	if (trouble != gs->balloon_trouble)
		tell_trouble(gs, trouble);
	gs->balloon_trouble = (u8)trouble;
	return trouble;
}
