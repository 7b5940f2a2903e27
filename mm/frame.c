/*
 * The frame table and the buddy allocator.
 *
 * A free block of order n starts at a multiple of 2^n; its head is FRAME_FREE with
 * `order`, on the doubly linked list of that order (linked by frame number through the
 * table itself), the rest FRAME_FREE_TAIL. Two buddies are never both free: they
 * are one block of the next order. The head of an allocated block keeps its order, so that
 * a free with another order is caught.
 *
 * A whole block (frame_alloc_whole) leaves its tail as it was in the free block: neither its allocation nor its free
 * depends on its size. FRAME_F_WHOLE in the head tells; frame_break() and frame_make_whole() lead out and back.
 *
 * block_take() and block_give() are all that touches the lists, one block a call.
 *
 * Stocks. Each CPU keeps up to `max` single frames ready and as many cleared; it fetches and returns them in batches.
 * They count as free, but what is in another CPU's stock cannot be had: so all stocks together are at most half of the
 * reserve (as far as STOCK_MIN allows). Guests are refused before the lists are empty, and reclaim works long before.
 * A larger block that is not there is looked for once more after this CPU's stock has gone back.
 *
 * Locking: frames.lock guards lists and the entries of free frames. A stock is its CPU's own, with interrupts off. by_state
 * is changed by atomic additions, because owners change states of their frames without it. What every fault changes no two
 * CPUs write: frames in stock are counted by the stocks, and each CPU adds up by itself which frames became guests'.
 */
#include "mm/frame.h"

#include "lib/lock.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/platform.h"

#ifdef DEBUG
#define POISON_ON_FREE true
#else
#define POISON_ON_FREE false
#endif
#define POISON_WORD   0xfeedfacedeadf4eeUL
#define POISON_STRIDE 64 /* words between those checked on allocation */
#define STOCK_FRAMES  64
#define STOCK_MIN     4
#define RANDOM_TRIES  64

struct stock {
	u32 plain_count, clean_count;
	u32 max; /* of each; 0: this CPU has not had any yet. Written under frames.lock */
	u64 allocs, frees;
	u64 guest; /* a part of by_state[FRAME_GUEST], modulo 2^64: what changed on this CPU */
	hfn_t plain[STOCK_FRAMES], clean[STOCK_FRAMES];
} aligned(64);

static struct {
	struct lock lock;
	struct frame *table;
	hfn_t span;
	hfn_t zero;
	u32 head[FRAME_ORDER_MAX + 1];
	u32 free, reserve;
	u32 stocks; /* with max set */
	u32 stock_end; /* those with max set are below it */
	u64 total, allocs, frees, failures;
	u64 by_state[FRAME_STATES]; /* see state_sum() */

	/* frame_verify(): what is below `proof_at` is counted in `proof`, atomic like by_state. 0: none is under way */
	hfn_t proof_at;
	u64 proof[FRAME_STATES];
	struct stock stock[MM_CPUS];
} frames;

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

static struct stock *my_stock(void)
{
	return &frames.stock[platform_this_cpu()->id % MM_CPUS];
}

/* Those in stock are counted there. */
static void count_state(enum frame_state state, s64 n)
{
	struct stock *s = state == FRAME_GUEST ? my_stock() : NULL;

	if (s && likely(s->max))
		s->guest += (u64)n;
	else if (state != FRAME_STOCK)
		__atomic_fetch_add(&frames.by_state[state], (u64)n, __ATOMIC_RELAXED);
}

/* Exact while no CPU changes states, else modulo 2^64: one that came here and went there may be seen to go only. */
static u64 state_sum(enum frame_state state)
{
	u64 sum = READ_ONCE(frames.by_state[state]);
	u32 end = state == FRAME_GUEST || state == FRAME_STOCK ? READ_ONCE(frames.stock_end) : 0;

	for (u32 i = 0; i < end; i++) {
		const struct stock *s = &frames.stock[i];

		sum += state == FRAME_GUEST ? READ_ONCE(s->guest) : READ_ONCE(s->plain_count) + READ_ONCE(s->clean_count);
	}
	return sum;
}

static __attribute__((noinline)) void follow_seen(enum frame_state was, enum frame_state is, s64 n)
{
	__atomic_fetch_add(&frames.proof[was], (u64)-n, __ATOMIC_RELAXED);
	__atomic_fetch_add(&frames.proof[is], (u64)n, __ATOMIC_RELAXED);
}

/* For the proof under way. */
static inline void follow(hfn_t hfn, enum frame_state was, enum frame_state is, s64 n)
{
	if (unlikely(hfn < READ_ONCE(frames.proof_at)))
		follow_seen(was, is, n);
}

/* Frames that the entry of hfn speaks for. */
static u32 extent_of(const struct frame *f)
{
	return f->flags & FRAME_F_WHOLE ? 1U << f->order : 1;
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

/* Single frames, or of a free block; those of one state are counted at once. */
static void set_states(hfn_t hfn, u32 count, enum frame_state state)
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

/* ---- lists: frames.lock held ---- */

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

static hfn_t block_take(u32 order)
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

static bool block_is_free(hfn_t hfn, u32 order)
{
	return hfn < frames.span && frames.table[hfn].state == FRAME_FREE && frames.table[hfn].order == order;
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

/* All frames of the block are FRAME_FREE_TAIL. */
static void block_give(hfn_t hfn, u32 order)
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

/* ---- poison ---- */

static void poison_fill(hfn_t hfn, u32 order)
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
static void poison_check(hfn_t hfn, u32 order)
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

/* Has anybody written to the frame since it was cleared? */
static void clean_check(hfn_t hfn)
{
	const u64 *word = mm_hfn_to_va(hfn);

	for (u32 w = 0; POISON_ON_FREE && w < PAGE_SIZE / sizeof(u64); w += POISON_STRIDE)
		if (word[w])
			panic("frame %#x was written after it was cleared", hfn);
}

/* ---- ranges, at boot ---- */

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
	set_states(first, count, FRAME_HV);
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
	set_states(first, count, FRAME_FREE_TAIL);
	for (u32 order; count; first += 1U << order, count -= 1U << order) {
		order = largest_order(first, count);
		block_give(first, order);
	}
	lock_release(&frames.lock);
	if (frames.zero == HFN_NONE)
		frames.zero = frame_alloc(0, FRAME_FOR_HV, FRAME_ZERO, true);
}

hfn_t frame_zero(void)
{
	return frames.zero;
}

/* ---- allocation ---- */

static u32 floor_of(enum frame_use use)
{
	switch (use) {
	case FRAME_FOR_GUEST:
		return frames.reserve;
	case FRAME_FOR_TABLE:
		return frames.reserve / 2;
	default:
		return 0;
	}
}

/* ---- stocks: this CPU's ---- */

static void entry_reset(struct frame *f)
{
	f->order = 0;
	f->copy_high = 0;
	f->gfn = 0;
	f->share = 0;
	f->rmap = 0;
}

/* frames.lock held: the sizes of all stocks, from the reserve and how many they are. */
static void share_stocks(void)
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
	share_stocks();
}

static bool stock_refill(struct stock *s)
{
	lock_acquire(&frames.lock);
	stock_begin(s);
	while (s->plain_count < s->max / 2) {
		hfn_t hfn = block_take(0);

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
		block_give(list[i], 0);
	}
	memmove(list, list + n, *count * sizeof(*list));
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
	poison_check(hfn, 0);
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
	poison_check(hfn, 0);
	page_clear(mm_hfn_to_va(hfn));
	s->clean[s->clean_count++] = hfn;
	return true;
}

/* ---- allocation ---- */

/* Out of line, as what follows it: the way that a fault takes is short. */
static __attribute__((noinline)) hfn_t alloc_failed(void)
{
	__atomic_fetch_add(&frames.failures, 1, __ATOMIC_RELAXED);
	return HFN_NONE;
}

/* frames.lock held. What this CPU has in stock may be what a block lacks. */
static hfn_t block_find(u32 order)
{
	struct stock *s = my_stock();
	hfn_t hfn = block_take(order);

	if (hfn != HFN_NONE)
		return hfn;
	stock_return(s->plain, &s->plain_count, s->plain_count);
	stock_return(s->clean, &s->clean_count, s->clean_count);
	return block_take(order);
}

/* A block of more than one frame. whole: its tail's entries stay as they are, FRAME_FREE_TAIL; else all are in `state`. */
static hfn_t block_alloc(u32 order, enum frame_use use, enum frame_state state, bool whole)
{
	hfn_t hfn;

	CHECK(order && order <= FRAME_ORDER_MAX && state > FRAME_FREE_TAIL && state < FRAME_STATES);
	if (!frame_free_at_least((u64)floor_of(use) + (1U << order)))
		return alloc_failed();
	lock_acquire(&frames.lock);
	hfn = block_find(order);
	if (hfn == HFN_NONE) {
		lock_release(&frames.lock);
		return alloc_failed();
	}
	frames.allocs++;
	if (whole) {
		frame_get(hfn)->order = order;
		frame_get(hfn)->flags |= FRAME_F_WHOLE;
		frame_set_state(hfn, state);
	} else {
		set_states(hfn, 1U << order, state);
	}
	lock_release(&frames.lock);
	poison_check(hfn, order);
	return hfn;
}

static hfn_t single_alloc(enum frame_use use, enum frame_state state, bool clear)
{
	hfn_t hfn = HFN_NONE;

	CHECK(state > FRAME_FREE_TAIL && state < FRAME_STATES);
	if (frame_free_at_least((u64)floor_of(use) + 1))
		hfn = stock_alloc(state, clear);
	return hfn == HFN_NONE ? alloc_failed() : hfn;
}

hfn_t frame_alloc(u32 order, enum frame_use use, enum frame_state state, bool clear)
{
	hfn_t hfn;

	if (order == 0)
		return single_alloc(use, state, clear);
	hfn = block_alloc(order, use, state, false);
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
		set_states(hfn, n, state);
	}
	lock_release(&frames.lock);
	if (!found)
		return HFN_NONE;
	poison_check(hfn, order);
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

/* ---- whole blocks ---- */

hfn_t frame_alloc_whole(u32 order, enum frame_use use, enum frame_state state, bool clear)
{
	hfn_t hfn = block_alloc(order, use, state, true);

	if (hfn == HFN_NONE)
		return hfn;
	entry_reset(frame_get(hfn));
	frame_get(hfn)->order = order;
	if (clear)
		memset(mm_hfn_to_va(hfn), 0, PAGE_SIZE << order);
	return hfn;
}

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

static inline void check_single(hfn_t hfn, const struct frame *f)
{
	if (unlikely(f->state <= FRAME_FREE_TAIL || f->state == FRAME_ZERO))
		panic("frame %#x freed in state %u", hfn, f->state);
	if (unlikely(f->flags || (f->state == FRAME_GUEST && f->pins)))
		panic("frame %#x freed while in use: flags %#x", hfn, f->flags);
	CHECK(!f->order);
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

void frame_free(hfn_t hfn, u32 order)
{
	struct frame *f = frame_get(hfn);

	if (order == 0) {
		check_single(hfn, f);
		poison_fill(hfn, 0);
		stock_free(my_stock(), hfn, f);
		return;
	}
	check_freeable(hfn, order);
	poison_fill(hfn, order);
	lock_acquire(&frames.lock);
	frames.frees++;
	if (f->flags & FRAME_F_WHOLE) {
		frame_set_state(hfn, FRAME_FREE_TAIL);
		f->flags &= ~FRAME_F_WHOLE;
	} else {
		set_states(hfn, 1U << order, FRAME_FREE_TAIL);
	}
	block_give(hfn, order);
	lock_release(&frames.lock);
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
			poison_fill(hfn, 0);
			stock_free(s, hfn, f);
		}
		hfn = next;
	}
}

u32 frame_free_count(void)
{
	return READ_ONCE(frames.free) + (u32)state_sum(FRAME_STOCK);
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
	s64 sum = (s64)state_sum(state);

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
	share_stocks();
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

/* ---- consistency ---- */

/* A free block: aligned, its tail whole, its buddy not free, its links sound. */
static void verify_block(hfn_t hfn)
{
	struct frame *f = frame_get(hfn);
	u32 order = f->order;

	CHECK(order <= FRAME_ORDER_MAX && !(hfn & ((1U << order) - 1)));
	CHECK((1U << order) <= frames.span - hfn);
	for (u32 i = 1; i < 1U << order; i++)
		CHECK(frames.table[hfn + i].state == FRAME_FREE_TAIL);
	CHECK(order == FRAME_ORDER_MAX || !block_is_free(hfn ^ (1U << order), order));
	CHECK(f->prev == HFN_NONE ? frames.head[order] == hfn : frame_get(f->prev)->next == hfn);
	CHECK(f->next == HFN_NONE || (block_is_free(f->next, order) && frame_get(f->next)->prev == hfn));
}

/* What the entry of h stands for, counted. Returns how many frames. */
static u32 verify_entry(hfn_t h)
{
	const struct frame *f = &frames.table[h];
	u32 n = extent_of(f);

	CHECK(f->state < FRAME_STATES && f->state != FRAME_FREE_TAIL); /* a tail without its head */
	CHECK(n <= frames.span - h && !(h & (n - 1)));
	for (u32 i = 1; i < n; i++)
		CHECK(frames.table[h + i].state == FRAME_FREE_TAIL && !frames.table[h + i].flags);
	frames.proof[f->state] += n;
	if (f->state != FRAME_FREE)
		return n;
	verify_block(h);
	frames.proof[FRAME_FREE_TAIL] += (1U << f->order) - 1;
	return 1U << f->order;
}

/* With verify_block(), which looks at the neighbours of each block: every one that stands in a list is free. */
static void verify_heads(void)
{
	for (u32 order = 0; order <= FRAME_ORDER_MAX; order++)
		CHECK(frames.head[order] == HFN_NONE || block_is_free(frames.head[order], order));
}

/* Every frame in stock stands in one, once. */
static u64 verify_stocks(void)
{
	u64 n = 0;

	for (u32 i = 0; i < MM_CPUS; i++) {
		const struct stock *s = &frames.stock[i];

		CHECK(s->plain_count <= STOCK_FRAMES && s->clean_count <= STOCK_FRAMES);
		for (u32 k = 0; k < s->plain_count; k++)
			CHECK(frame_get(s->plain[k])->state == FRAME_STOCK);
		for (u32 k = 0; k < s->clean_count; k++)
			CHECK(frame_get(s->clean[k])->state == FRAME_STOCK);
		n += s->plain_count + s->clean_count;
	}
	return n;
}

static void verify_sums(void)
{
	for (u32 s = 0; s < FRAME_STATES; s++)
		CHECK(frames.proof[s] == state_sum(s));
	CHECK(frames.proof[FRAME_FREE] + frames.proof[FRAME_FREE_TAIL] == frames.free);
	CHECK(verify_stocks() == frames.proof[FRAME_STOCK]);
	frames.proof_at = 0;
}

void frame_verify_begin(void)
{
	frames.proof_at = 0;
	memset(frames.proof, 0, sizeof(frames.proof));
}

bool frame_verify_some(void)
{
	hfn_t h = frames.proof_at, end = h + MIN(FRAME_VERIFY_PIECE, frames.span - h);

	lock_acquire(&frames.lock);
	verify_heads();
	while (h < end)
		h += verify_entry(h);
	CHECK(h == end);
	frames.proof_at = end;
	if (end == frames.span)
		verify_sums();
	lock_release(&frames.lock);
	return end < frames.span;
}

void frame_verify(void)
{
	frame_verify_begin();
	while (frame_verify_some())
		;
}
