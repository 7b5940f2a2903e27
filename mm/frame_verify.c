/* The proof that lists, stocks, states and counts of frames agree. */
#include "lib/lock.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame_internal.h"

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
		CHECK(frames.proof[s] == frame_state_sum(s));
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
