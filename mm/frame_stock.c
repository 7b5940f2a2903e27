/*
 * Single frames: allocation and free, from and to the stock of this CPU.
 *
 * Each CPU keeps up to `max` single frames ready and as many cleared; it fetches and returns them in batches.
 * They count as free, but what is in another CPU's stock cannot be had: so all stocks together are at most half of the
 * reserve (as far as STOCK_MIN allows). Guests are refused before the lists are empty, and reclaim works long before.
 */
#include "lib/lock.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame_internal.h"
#include "mm/platform.h"

/* ---- stocks: this CPU's -------------------------------------------------- */

void frame_share_stocks(void)
{
	u32 max = frames.reserve / (4 * MAX(frames.stocks, 1U));

	for (u32 i = 0; i < MM_CPUS; i++)
		if (frames.stock[i].max)
			WRITE_ONCE(frames.stock[i].max, CLAMP(max, (u32)STOCK_MIN, (u32)STOCK_FRAMES));
}

/* frames.lock held. */
static void stock_begin(struct stock *s)
{
	if (s->max)
		return;
	s->max = STOCK_MIN;
	frames.stocks++;
	WRITE_ONCE(frames.stock_end, MAX(frames.stock_end, (u32)(s - frames.stock) + 1));
	frame_share_stocks();
}

static bool stock_refill(struct stock *s)
{
	lock_acquire(&frames.lock);
	stock_begin(s);
	while (s->plain_count < s->max / 2) {
		hfn_t hfn = frame_block_take(0);

		if (hfn == HFN_NONE)
			break;
		entry_reset(frame_get(hfn));
		frame_set_state(hfn, FRAME_STOCK);
		s->plain[s->plain_count++] = hfn;
	}
	lock_release(&frames.lock);
	return s->plain_count;
}

/* frames.lock held. The oldest go first: the latest are still in the processor's caches. */
static void stock_return(hfn_t *list, u32 *count, u32 n)
{
	WRITE_ONCE(*count, *count - n); /* first, so that nobody counts them twice */
	count_state(FRAME_FREE_TAIL, n);
	for (u32 i = 0; i < n; i++) {
		follow(list[i], FRAME_STOCK, FRAME_FREE_TAIL, 1);
		frames.table[list[i]].state = FRAME_FREE_TAIL;
		frame_block_give(list[i], 0);
	}
	memmove(list, list + n, *count * sizeof(*list));
}

void frame_stock_empty(void)
{
	struct stock *s = my_stock();

	stock_return(s->plain, &s->plain_count, s->plain_count);
	stock_return(s->clean, &s->clean_count, s->clean_count);
}

/* Has anybody written to the frame since it was cleared? */
static void clean_check(hfn_t hfn)
{
	const u64 *word = mm_hfn_to_va(hfn);

	for (u32 w = 0; POISON_ON_FREE && w < PAGE_SIZE / sizeof(u64); w += POISON_STRIDE)
		if (word[w])
			panic("frame %#x was written after it was cleared", hfn);
}

static hfn_t stock_alloc(enum frame_state state, bool clear)
{
	struct stock *s = my_stock();
	bool clean = clear && s->clean_count;
	hfn_t hfn;

	if (!clean && !s->plain_count && !stock_refill(s)) {
		if (!s->clean_count)
			return HFN_NONE;
		clean = true;
	}
	hfn = clean ? s->clean[--s->clean_count] : s->plain[--s->plain_count];
	s->allocs++;
	frame_set_state(hfn, state);
	if (clean) {
		clean_check(hfn);
		return hfn;
	}
	frame_poison_check(hfn, 0);
	if (clear)
		page_clear(mm_hfn_to_va(hfn));
	return hfn;
}

static __attribute__((noinline)) void stock_make_room(struct stock *s)
{
	lock_acquire(&frames.lock);
	stock_begin(s);
	if (s->plain_count >= s->max)
		stock_return(s->plain, &s->plain_count, s->plain_count - s->max / 2);
	lock_release(&frames.lock);
}

static inline void stock_free(struct stock *s, hfn_t hfn, struct frame *f)
{
	entry_reset(f);
	if (likely(f->state == FRAME_GUEST && s->max))
		s->guest--;
	else
		count_state(f->state, -1);
	follow(hfn, f->state, FRAME_STOCK, 1);
	f->state = FRAME_STOCK;
	s->frees++;
	if (unlikely(s->plain_count >= READ_ONCE(s->max)))
		stock_make_room(s);
	s->plain[s->plain_count++] = hfn;
}

bool frame_stock_fill(void)
{
	struct stock *s = my_stock();
	hfn_t hfn;

	if ((s->max && s->clean_count >= s->max) || READ_ONCE(frames.free) <= frames.reserve + STOCK_FRAMES)
		return false;
	if (!s->plain_count && !stock_refill(s))
		return false;
	hfn = s->plain[--s->plain_count];
	frame_poison_check(hfn, 0);
	page_clear(mm_hfn_to_va(hfn));
	s->clean[s->clean_count++] = hfn;
	return true;
}

/* ---- allocation ---------------------------------------------------------- */

static hfn_t single_alloc(enum frame_use use, enum frame_state state, bool clear)
{
	hfn_t hfn = HFN_NONE;

	CHECK(state > FRAME_FREE_TAIL && state < FRAME_STATES);
	if (frame_free_at_least((u64)floor_of(use) + 1))
		hfn = stock_alloc(state, clear);
	return hfn == HFN_NONE ? frame_alloc_failed() : hfn;
}

hfn_t frame_alloc(u32 order, enum frame_use use, enum frame_state state, bool clear)
{
	hfn_t hfn;

	if (order == 0)
		return single_alloc(use, state, clear);
	hfn = frame_block_alloc(order, use, state, false);
	if (hfn == HFN_NONE)
		return hfn;
	for (u32 i = 0; i < 1U << order; i++) {
		entry_reset(frame_get(hfn + i));
		if (clear)
			page_clear(mm_hfn_to_va(hfn + i));
	}
	frame_get(hfn)->order = order;
	return hfn;
}

hfn_t frame_alloc_guest(bool clear)
{
	struct stock *s = my_stock();
	hfn_t hfn;

	/* Nearer to the reserve the longer way looks at what all stocks have. */
	if (unlikely(POISON_ON_FREE || READ_ONCE(frames.free) <= frames.reserve || !(s->clean_count | s->plain_count)))
		return frame_alloc(0, FRAME_FOR_GUEST, FRAME_GUEST, clear);
	if (clear ? s->clean_count : !s->plain_count) {
		hfn = s->clean[--s->clean_count];
	} else {
		hfn = s->plain[--s->plain_count];
		if (clear)
			page_clear(mm_hfn_to_va(hfn));
	}
	s->allocs++;
	frames.table[hfn].state = FRAME_GUEST;
	s->guest++; /* it has frames, so its max is set */
	follow(hfn, FRAME_STOCK, FRAME_GUEST, 1);
	return hfn;
}

/* ---- free ---------------------------------------------------------------- */

static inline void check_single(hfn_t hfn, const struct frame *f)
{
	if (unlikely(f->state <= FRAME_FREE_TAIL || f->state == FRAME_ZERO))
		panic("frame %#x freed in state %u", hfn, f->state);
	if (unlikely(f->flags || (f->state == FRAME_GUEST && f->pins)))
		panic("frame %#x freed while in use: flags %#x", hfn, f->flags);
	CHECK(!f->order);
}

void frame_free(hfn_t hfn, u32 order)
{
	struct frame *f = frame_get(hfn);

	if (order == 0) {
		check_single(hfn, f);
		frame_poison_fill(hfn, 0);
		stock_free(my_stock(), hfn, f);
		return;
	}
	frame_block_free(hfn, order);
}

void frame_free_list(hfn_t hfn)
{
	struct stock *s = my_stock();

	while (hfn != HFN_NONE) {
		struct frame *f = frame_get(hfn);
		hfn_t next = f->next;

		if (unlikely(f->order)) {
			frame_free(hfn, f->order);
		} else {
			check_single(hfn, f);
			frame_poison_fill(hfn, 0);
			stock_free(s, hfn, f);
		}
		hfn = next;
	}
}
