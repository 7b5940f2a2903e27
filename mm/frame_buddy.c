/*
 * The buddy allocator: free blocks of 2^order frames, and allocated ones of more than one frame.
 *
 * A free block of order n starts at a multiple of 2^n; its head is FRAME_FREE with
 * `order`, on the doubly linked list of that order (linked by frame number through the
 * table itself), the rest FRAME_FREE_TAIL. Two buddies are never both free: they
 * are one block of the next order. The head of an allocated block keeps its order, so that
 * a free with another order is caught.
 *
 * frame_block_take(), block_cut() and frame_block_give() are all that touches the lists, one block a call. A block that
 * is not there is looked for once more after this CPU's stock has gone back.
 */
#include "lib/lock.h"
#include "lib/panic.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame_internal.h"
#include "mm/platform.h"

#define RANDOM_TRIES 64

/* ---- lists: frames.lock held --------------------------------------------- */

/* Of link and unlink the caller counts the states; the frame was a tail, or becomes one. */
static inline void link(hfn_t hfn, u32 order)
{
	struct frame *f = frame_get(hfn);

	follow(hfn, FRAME_FREE_TAIL, FRAME_FREE, 1);
	f->state = FRAME_FREE;
	f->order = order;
	f->prev = HFN_NONE;
	f->next = frames.head[order];
	if (f->next != HFN_NONE)
		frames.table[f->next].prev = hfn;
	frames.head[order] = hfn;
}

static void list_insert(hfn_t hfn, u32 order)
{
	count_state(frame_get(hfn)->state, -1);
	count_state(FRAME_FREE, 1);
	link(hfn, order);
}

static inline void unlink(hfn_t hfn)
{
	struct frame *f = frame_get(hfn);

	if (f->prev != HFN_NONE)
		frames.table[f->prev].next = f->next;
	else
		frames.head[f->order] = f->next;
	if (f->next != HFN_NONE)
		frames.table[f->next].prev = f->prev;
	f->order = 0;
	follow(hfn, FRAME_FREE, FRAME_FREE_TAIL, 1);
	f->state = FRAME_FREE_TAIL;
}

/* The frame becomes a tail; the caller makes of it what it needs. */
static void list_remove(hfn_t hfn)
{
	count_state(FRAME_FREE, -1);
	count_state(FRAME_FREE_TAIL, 1);
	unlink(hfn);
}

hfn_t frame_block_take(u32 order)
{
	u32 from = order;
	hfn_t hfn;

	while (from <= FRAME_ORDER_MAX && frames.head[from] == HFN_NONE)
		from++;
	if (from > FRAME_ORDER_MAX)
		return HFN_NONE;
	hfn = frames.head[from];
	list_remove(hfn);
	while (from > order) {
		from--;
		list_insert(hfn + (1U << from), from);
	}
	frames.free -= 1U << order;
	return hfn;
}

/* Takes the block at hfn out of the free one that it lies in. False: it is not free as a whole. */
static bool block_cut(hfn_t hfn, u32 order)
{
	u32 from = order;
	hfn_t at;

	while (from <= FRAME_ORDER_MAX && !block_is_free(ALIGN_DOWN(hfn, 1U << from), from))
		from++;
	if (from > FRAME_ORDER_MAX)
		return false;
	at = ALIGN_DOWN(hfn, 1U << from);
	list_remove(at);
	while (from > order) {
		u32 half = 1U << --from;

		list_insert(hfn & half ? at : at + half, from);
		at += hfn & half;
	}
	frames.free -= 1U << order;
	return true;
}

void frame_block_give(hfn_t hfn, u32 order)
{
	s64 more = 1; /* heads of free blocks */

	frames.free += 1U << order;
	while (order < FRAME_ORDER_MAX) {
		hfn_t buddy = hfn ^ (1U << order);

		if (!block_is_free(buddy, order))
			break;
		unlink(buddy);
		more--;
		hfn = MIN(hfn, buddy);
		order++;
	}
	link(hfn, order);
	if (more) {
		count_state(FRAME_FREE, more);
		count_state(FRAME_FREE_TAIL, -more);
	}
}

/* ---- blocks -------------------------------------------------------------- */

/* frames.lock held. What this CPU has in stock may be what a block lacks. */
static hfn_t block_find(u32 order)
{
	hfn_t hfn = frame_block_take(order);

	if (hfn != HFN_NONE)
		return hfn;
	frame_stock_empty();
	return frame_block_take(order);
}

hfn_t frame_block_alloc(u32 order, enum frame_use use, enum frame_state state, bool whole)
{
	hfn_t hfn;

	CHECK(order && order <= FRAME_ORDER_MAX && state > FRAME_FREE_TAIL && state < FRAME_STATES);
	if (!frame_free_at_least((u64)floor_of(use) + (1U << order)))
		return frame_alloc_failed();
	lock_acquire(&frames.lock);
	hfn = block_find(order);
	if (hfn == HFN_NONE) {
		lock_release(&frames.lock);
		return frame_alloc_failed();
	}
	frames.allocs++;
	if (whole) {
		frame_get(hfn)->order = order;
		frame_get(hfn)->flags |= FRAME_F_WHOLE;
		frame_set_state(hfn, state);
	} else {
		frame_set_states(hfn, 1U << order, state);
	}
	lock_release(&frames.lock);
	frame_poison_check(hfn, order);
	return hfn;
}

hfn_t frame_alloc_random(u32 order, enum frame_state state, struct prng *rnd)
{
	u32 n = 1U << order;
	bool found = false;
	hfn_t hfn = HFN_NONE;

	CHECK(order <= FRAME_ORDER_MAX && state > FRAME_FREE_TAIL && state < FRAME_STATES);
	if (!frame_free_at_least((u64)frames.reserve + n))
		return HFN_NONE;
	lock_acquire(&frames.lock);
	for (u32 i = 0; i < RANDOM_TRIES && !found; i++) {
		hfn = (hfn_t)ALIGN_DOWN(prng_below(rnd, frames.span), (u64)n);
		found = block_cut(hfn, order);
	}
	if (found) {
		frames.allocs++;
		for (u32 i = 0; i < n; i++)
			entry_reset(frame_get(hfn + i));
		frame_set_states(hfn, n, state);
	}
	lock_release(&frames.lock);
	if (!found)
		return HFN_NONE;
	frame_poison_check(hfn, order);
	return hfn;
}

hfn_t frame_alloc_whole(u32 order, enum frame_use use, enum frame_state state, bool clear)
{
	hfn_t hfn = frame_block_alloc(order, use, state, true);

	if (hfn == HFN_NONE)
		return hfn;
	entry_reset(frame_get(hfn));
	frame_get(hfn)->order = order;
	if (clear)
		memset(mm_hfn_to_va(hfn), 0, PAGE_SIZE << order);
	return hfn;
}

static void check_freeable(hfn_t hfn, u32 order)
{
	CHECK(order <= FRAME_ORDER_MAX && !(hfn & ((1U << order) - 1)));
	for (u32 i = 0; i < 1U << order; i += extent_of(frame_get(hfn + i))) {
		struct frame *f = frame_get(hfn + i);

		if (f->state <= FRAME_FREE_TAIL || f->state == FRAME_ZERO)
			panic("frame %#x freed in state %u", hfn + i, f->state);
		if (f->flags & ~FRAME_F_WHOLE || (f->state == FRAME_GUEST && f->pins))
			panic("frame %#x freed while in use: flags %#x", hfn + i, f->flags);
		CHECK(!(f->flags & FRAME_F_WHOLE) || (!i && f->order == order));
	}
	/* Ranges claimed at boot are of order 0 and may be freed in any blocks. */
	CHECK(frame_get(hfn)->order == order || !frame_get(hfn)->order);
}

void frame_block_free(hfn_t hfn, u32 order)
{
	struct frame *f = frame_get(hfn);

	check_freeable(hfn, order);
	frame_poison_fill(hfn, order);
	lock_acquire(&frames.lock);
	frames.frees++;
	if (f->flags & FRAME_F_WHOLE) {
		frame_set_state(hfn, FRAME_FREE_TAIL);
		f->flags &= ~FRAME_F_WHOLE;
	} else {
		frame_set_states(hfn, 1U << order, FRAME_FREE_TAIL);
	}
	frame_block_give(hfn, order);
	lock_release(&frames.lock);
}
