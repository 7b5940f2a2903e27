/*
 * Balloon hypercalls and targets. Each entry of a batch is taken on its own and answered by a status; whatever it says,
 * the page states in gspace.c decide. Frames given up come free in one flush at the end of the batch.
 */
#include "mm/balloon.h"

#include "lib/err.h"
#include "lib/lock.h"
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
};

u32 balloon_size(const struct gspace *gs)
{
	return gs->count[PAGE_BALLOONED];
}

/* ---- rate ---------------------------------------------------------------- */

static u32 rate_of(const struct gspace *gs)
{
	return gs->balloon_rate ? gs->balloon_rate : BALLOON_RATE_DEFAULT;
}

/* Fills the bucket up to now. gs->lock held. */
static void refill(struct gspace *gs, u64 now_ns)
{
	u64 rate = rate_of(gs), burst = MAX(rate * BALLOON_BURST_PERCENT / 100, LARGE_PAGES);
	u64 elapsed = MIN(now_ns - gs->balloon_tokens_ns, NSEC_PER_SEC * 60), pages;

	if (now_ns < gs->balloon_tokens_ns)
		return;
	pages = elapsed * rate / NSEC_PER_SEC;
	if (gs->balloon_tokens + pages >= burst) {
		gs->balloon_tokens = (u32)burst;
		gs->balloon_tokens_ns = now_ns;
		return;
	}
	gs->balloon_tokens += (u32)pages;
	gs->balloon_tokens_ns += pages * NSEC_PER_SEC / rate; /* fractions of a page stay in the bucket */
}

u32 balloon_allowance(struct gspace *gs, u64 now_ns)
{
	u32 tokens;

	lock_acquire(&gs->lock);
	refill(gs, now_ns);
	tokens = gs->balloon_tokens;
	lock_release(&gs->lock);
	return tokens;
}

static void batch_begin(struct batch *b, struct gspace *gs)
{
	u32 target = MIN(READ_ONCE(gs->balloon_target), gs->balloon_max), size = balloon_size(gs);

	*b = (struct batch){.gs = gs};
	b->work = BALLOON_CALL_PAGES;
	b->tokens = balloon_allowance(gs, platform_now_ns());
	b->capacity = target > size ? target - size : 0;
}

static void batch_end(struct batch *b, u32 refused)
{
	struct gspace *gs = b->gs;

	lock_acquire(&gs->lock);
	gs->balloon_tokens -= MIN(gs->balloon_tokens, b->moved);
	gs->stats.balloon_refused += refused;
	lock_release(&gs->lock);
	gspace_flush(gs);
}

static bool may_move(const struct batch *b, u32 pages)
{
	return pages <= b->work && pages <= b->tokens;
}

static void moved(struct batch *b, u32 pages)
{
	b->work -= pages;
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

static u32 take_pages(struct batch *b, gfn_t gfn, u32 n)
{
	gfn_t at = gfn;
	int err;

	if (n > b->capacity)
		return BALLOON_OVER;
	if (!may_move(b, n))
		return BALLOON_BUSY;
	err = n == 1 ? gspace_balloon_take(b->gs, gfn) : gspace_balloon_take_large(b->gs, gfn, &at);
	if (err) {
		b->work -= at - gfn + 1;
		return status_of(b->gs, at, true);
	}
	b->capacity -= n;
	moved(b, n);
	return BALLOON_OK;
}

static u32 give_pages(struct batch *b, gfn_t gfn, u32 n)
{
	u32 given;

	if (!may_move(b, n))
		return BALLOON_BUSY;
	given = n == 1 ? !gspace_balloon_give(b->gs, gfn) : gspace_balloon_give_large(b->gs, gfn);
	if (!given) {
		b->work -= n;
		return status_of(b->gs, gfn, false);
	}
	moved(b, n);
	return BALLOON_OK;
}

static u32 one_entry(struct batch *b, u64 entry, bool inflate)
{
	u32 n = entry & ENTRY_2M ? LARGE_PAGES : 1;
	u64 gfn = (entry & BITS(51, 12)) >> PAGE_SHIFT;

	if (entry & ENTRY_RESERVED || gfn % n || gfn + n > b->gs->pages)
		return BALLOON_INVALID;
	return inflate ? take_pages(b, (gfn_t)gfn, n) : give_pages(b, (gfn_t)gfn, n);
}

static u32 run_batch(struct gspace *gs, u64 *entries, u32 n, bool inflate)
{
	u32 accepted = 0, status;
	struct batch b;

	CHECK(n <= BALLOON_BATCH_MAX);
	batch_begin(&b, gs);
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
	WRITE_ONCE(gs->balloon_target, pages);
	mm_balloon_notify(gs);
}

bool balloon_stalled(const struct gspace *gs, u64 now_ns)
{
	u64 last = READ_ONCE(gs->balloon_progress_ns);

	return balloon_size(gs) < gs->balloon_target && now_ns > last && now_ns - last >= BALLOON_STALL_NS;
}
