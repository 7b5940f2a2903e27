/*
 * The frame table: states and their counts, what RAM there is, blocks that are one entry, and the debug pattern in free
 * frames. frame_buddy.c has the lists of free blocks, frame_stock.c what each CPU keeps ready, frame_verify.c proves
 * that they agree.
 *
 * A whole block (frame_alloc_whole) leaves its tail as it was in the free block: neither its allocation nor its free
 * depends on its size. FRAME_F_WHOLE in the head tells; frame_break() and frame_make_whole() lead out and back.
 *
 * Locking: frames.lock guards lists and the entries of free frames. A stock is its CPU's own, with interrupts off.
 * by_state is changed by atomic additions, because owners change states of their frames without it. What every fault
 * changes no two CPUs write: frames in stock are counted by the stocks, and each CPU adds up by itself which frames
 * became guests'.
 */
#include "mm/frame.h"

#include "lib/lock.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame_internal.h"
#include "mm/platform.h"

#define POISON_WORD 0xfeedfacedeadf4eeUL

struct frames frames;

size_t frame_table_bytes(hfn_t span)
{
	return ALIGN_UP((size_t)span * sizeof(struct frame), PAGE_SIZE);
}

void frame_init(void *table, hfn_t span)
{
	memset(&frames, 0, sizeof(frames));
	lock_init(&frames.lock, "frames", LOCK_RANK_FRAME);
	frames.table = table;
	frames.span = span;
	frames.zero = HFN_NONE;
	frames.by_state[FRAME_NONE] = span;
	for (u32 order = 0; order <= FRAME_ORDER_MAX; order++)
		frames.head[order] = HFN_NONE;
}

hfn_t frame_span(void)
{
	return frames.span;
}

struct frame *frame_get(hfn_t hfn)
{
	CHECK(hfn < frames.span);
	return &frames.table[hfn];
}

/* ---- states -------------------------------------------------------------- */

u64 frame_state_sum(enum frame_state state)
{
	u64 sum = READ_ONCE(frames.by_state[state]);
	u32 end = state == FRAME_GUEST || state == FRAME_STOCK ? READ_ONCE(frames.stock_end) : 0;

	for (u32 i = 0; i < end; i++) {
		const struct stock *s = &frames.stock[i];

		sum +=
		    state == FRAME_GUEST ? READ_ONCE(s->guest) : READ_ONCE(s->plain_count) + READ_ONCE(s->clean_count);
	}
	return sum;
}

__attribute__((noinline)) void frame_follow_seen(enum frame_state was, enum frame_state is, s64 n)
{
	__atomic_fetch_add(&frames.proof[was], (u64)-n, __ATOMIC_RELAXED);
	__atomic_fetch_add(&frames.proof[is], (u64)n, __ATOMIC_RELAXED);
}

void frame_set_state(hfn_t hfn, enum frame_state state)
{
	struct frame *f = frame_get(hfn);
	s64 n = extent_of(f);

	count_state(f->state, -n);
	count_state(state, n);
	follow(hfn, f->state, state, n);
	f->state = state;
}

void frame_set_states(hfn_t hfn, u32 count, enum frame_state state)
{
	struct frame *f = &frames.table[hfn];
	u32 run;

	CHECK(hfn <= frames.span && count <= frames.span - hfn);
	for (; count; hfn += run, f += run, count -= run) {
		enum frame_state was = f->state;

		for (run = 0; run < count && f[run].state == was; run++) {
			DCHECK(extent_of(&f[run]) == 1);
			follow(hfn + run, was, state, 1);
			f[run].state = state;
		}
		count_state(was, -(s64)run);
		count_state(state, run);
	}
}

/* ---- poison -------------------------------------------------------------- */

void frame_poison_fill(hfn_t hfn, u32 order)
{
	/* Blocks beyond 2 MiB are rare and would stall the machine. */
	if (!POISON_ON_FREE || order > FRAME_ORDER_LARGE)
		return;
	for (u32 i = 0; i < 1U << order; i++) {
		u64 *word = mm_hfn_to_va(hfn + i);

		for (u32 w = 0; w < PAGE_SIZE / sizeof(u64); w++)
			word[w] = POISON_WORD;
		frame_get(hfn + i)->flags |= FRAME_F_POISON;
	}
}

/* Has anybody written to the block while it was free? */
void frame_poison_check(hfn_t hfn, u32 order)
{
	if (!POISON_ON_FREE)
		return;
	for (u32 i = 0; i < 1U << order; i++) {
		struct frame *f = frame_get(hfn + i);
		const u64 *word = mm_hfn_to_va(hfn + i);

		if (!(f->flags & FRAME_F_POISON))
			continue;
		f->flags &= ~FRAME_F_POISON;
		for (u32 w = 0; w < PAGE_SIZE / sizeof(u64); w += POISON_STRIDE)
			if (word[w] != POISON_WORD)
				panic("frame %#x was written after it was freed", hfn + i);
	}
}

/* ---- ranges, at boot ----------------------------------------------------- */

static u32 largest_order(hfn_t hfn, u32 count)
{
	u32 order = 0;

	while (order < FRAME_ORDER_MAX && !(hfn & (1U << order)) && count >> (order + 1))
		order++;
	return order;
}

static void check_range(hfn_t first, u32 count)
{
	CHECK(first <= frames.span && count <= frames.span - first);
	for (u32 i = 0; i < count; i++)
		CHECK(frames.table[first + i].state == FRAME_NONE);
	frames.total += count;
}

void frame_claim_range(hfn_t first, u32 count)
{
	check_range(first, count);
	frame_set_states(first, count, FRAME_HV);
}

void frame_add_range(hfn_t first, u32 count)
{
	/* Number 0 stays out of circulation: tables of frame numbers use it for "none". */
	if (!first && count) {
		frame_claim_range(0, 1);
		first++;
		count--;
	}
	check_range(first, count);
	lock_acquire(&frames.lock);
	frame_set_states(first, count, FRAME_FREE_TAIL);
	for (u32 order; count; first += 1U << order, count -= 1U << order) {
		order = largest_order(first, count);
		frame_block_give(first, order);
	}
	lock_release(&frames.lock);
	if (frames.zero == HFN_NONE)
		frames.zero = frame_alloc(0, FRAME_FOR_HV, FRAME_ZERO, true);
}

hfn_t frame_zero(void)
{
	return frames.zero;
}

/* ---- whole blocks -------------------------------------------------------- */

void frame_break(hfn_t hfn)
{
	struct frame head = *frame_get(hfn);
	u32 n = 1U << head.order;

	CHECK(head.flags == FRAME_F_WHOLE && head.state == FRAME_GUEST && !head.pins);
	CHECK(n <= frames.span - hfn);
	head.flags = 0;
	head.order = 0;
	for (struct frame *f = frame_get(hfn); n--; f++, head.gfn++)
		*f = head;
}

void frame_make_whole(hfn_t hfn, u32 order)
{
	struct frame *head = frame_get(hfn);
	u32 n = 1U << order;

	CHECK(!(hfn & (n - 1)) && n <= frames.span - hfn);
	for (u32 i = 0; i < n; i++) {
		struct frame *f = head + i;

		CHECK(f->state == FRAME_GUEST && !f->flags && !f->pins);
		f->state = i ? FRAME_FREE_TAIL : FRAME_GUEST; /* counted by the head from here on */
		f->order = i ? 0 : order;
	}
	head->flags = FRAME_F_WHOLE;
}

/* ---- counts -------------------------------------------------------------- */

__attribute__((noinline)) hfn_t frame_alloc_failed(void)
{
	__atomic_fetch_add(&frames.failures, 1, __ATOMIC_RELAXED);
	return HFN_NONE;
}

u32 frame_free_count(void)
{
	return READ_ONCE(frames.free) + (u32)frame_state_sum(FRAME_STOCK);
}

u32 frame_listed_count(void)
{
	return READ_ONCE(frames.free);
}

bool frame_free_at_least(u64 count)
{
	return READ_ONCE(frames.free) >= count || frame_free_count() >= count;
}

u32 frame_shared_count(void)
{
	return (u32)READ_ONCE(frames.by_state[FRAME_SHARED]);
}

u32 frame_state_count(enum frame_state state)
{
	s64 sum = (s64)frame_state_sum(state);

	return sum > 0 ? (u32)sum : 0;
}

u32 frame_reserve(void)
{
	return frames.reserve;
}

void frame_set_reserve(u32 count)
{
	lock_acquire(&frames.lock);
	WRITE_ONCE(frames.reserve, count);
	frame_share_stocks();
	lock_release(&frames.lock);
}

u64 frame_failures(void)
{
	return READ_ONCE(frames.failures);
}

void frame_stats(struct frame_stats *out)
{
	lock_acquire(&frames.lock);
	out->total = frames.total;
	out->free = frame_free_count();
	out->allocs = frames.allocs;
	out->frees = frames.frees;
	for (u32 i = 0; i < MM_CPUS; i++) {
		out->allocs += READ_ONCE(frames.stock[i].allocs);
		out->frees += READ_ONCE(frames.stock[i].frees);
	}
	out->failures = frames.failures;
	for (u32 s = 0; s < FRAME_STATES; s++)
		out->by_state[s] = frame_state_count(s);
	lock_release(&frames.lock);
}
