/*
 * The frame table as the frame_*.c know it: its words, how states are counted, and what the lists of free blocks
 * (frame_buddy.c) and the CPUs' stocks (frame_stock.c) do for each other.
 */
#ifndef MM_FRAME_INTERNAL_H
#define MM_FRAME_INTERNAL_H

#include "lib/lock.h"
#include "lib/platform.h"
#include "mm/frame.h"
#include "mm/platform.h"

#ifdef DEBUG
#define POISON_ON_FREE true
#else
#define POISON_ON_FREE false
#endif
#define POISON_STRIDE 64 /* words between those checked on allocation */
#define STOCK_FRAMES  64 /* of each kind, at most */
#define STOCK_MIN     4

struct stock {
	u32 plain_count, clean_count;
	u32 max; /* of each; 0: this CPU has not had any yet. Written under frames.lock */
	u64 allocs, frees;
	u64 guest; /* a part of by_state[FRAME_GUEST], modulo 2^64: what changed on this CPU */
	hfn_t plain[STOCK_FRAMES], clean[STOCK_FRAMES];
} aligned(64);

struct frames {
	struct lock lock;
	struct frame *table;
	hfn_t span;
	hfn_t zero;
	u32 head[FRAME_ORDER_MAX + 1];
	u32 free, reserve;
	u32 stocks;    /* with max set */
	u32 stock_end; /* those with max set are below it */
	u64 total, allocs, frees, failures;
	u64 by_state[FRAME_STATES]; /* see frame_state_sum() */

	/* frame_verify(): what is below `proof_at` is counted in `proof`, atomic like by_state. 0: none is under way */
	hfn_t proof_at;
	u64 proof[FRAME_STATES];
	struct stock stock[MM_CPUS];
};
extern struct frames frames;

/* ---- states -------------------------------------------------------------- */

static inline struct stock *my_stock(void)
{
	return &frames.stock[platform_this_cpu()->id % MM_CPUS];
}

/* Those in stock are counted there. */
static inline void count_state(enum frame_state state, s64 n)
{
	struct stock *s = state == FRAME_GUEST ? my_stock() : NULL;

	if (s && likely(s->max))
		s->guest += (u64)n;
	else if (state != FRAME_STOCK)
		__atomic_fetch_add(&frames.by_state[state], (u64)n, __ATOMIC_RELAXED);
}

/* Exact while no CPU changes states, else modulo 2^64: one that came here and went there may be seen to go only. */
u64 frame_state_sum(enum frame_state state);
void frame_follow_seen(enum frame_state was, enum frame_state is, s64 n);

/* For the proof under way. */
static inline void follow(hfn_t hfn, enum frame_state was, enum frame_state is, s64 n)
{
	if (unlikely(hfn < READ_ONCE(frames.proof_at)))
		frame_follow_seen(was, is, n);
}

/* Frames that the entry of hfn speaks for. */
static inline u32 extent_of(const struct frame *f)
{
	return f->flags & FRAME_F_WHOLE ? 1U << f->order : 1;
}

/* Single frames, or of a free block; those of one state are counted at once. */
void frame_set_states(hfn_t hfn, u32 count, enum frame_state state);

/* All fields that allocated frames begin with as zero. */
static inline void entry_reset(struct frame *f)
{
	f->order = 0;
	f->copy_high = 0;
	f->gfn = 0;
	f->share = 0;
	f->rmap = 0;
}

/* ---- allocation ---------------------------------------------------------- */

/* So many frames are to stay free, in lists and stocks. */
static inline u32 floor_of(enum frame_use use)
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

hfn_t frame_alloc_failed(void); /* counts it; HFN_NONE. Out of line: the way that a fault takes is short */

/* Debug builds fill what is freed, and panic if it was written to since. Nothing in others. */
void frame_poison_fill(hfn_t hfn, u32 order);
void frame_poison_check(hfn_t hfn, u32 order);

/* ---- free blocks: frames.lock held --------------------------------------- */

hfn_t frame_block_take(u32 order);           /* all FRAME_FREE_TAIL; HFN_NONE: there is none */
void frame_block_give(hfn_t hfn, u32 order); /* all frames of the block are FRAME_FREE_TAIL */

static inline bool block_is_free(hfn_t hfn, u32 order)
{
	return hfn < frames.span && frames.table[hfn].state == FRAME_FREE && frames.table[hfn].order == order;
}

/* ---- blocks of more than one frame: no lock held ------------------------- */

/* whole: its tail's entries stay as they are, FRAME_FREE_TAIL; else all are in `state`. HFN_NONE: there is none. */
hfn_t frame_block_alloc(u32 order, enum frame_use use, enum frame_state state, bool whole);
void frame_block_free(hfn_t hfn, u32 order);

/* ---- stocks: frames.lock held -------------------------------------------- */

void frame_stock_empty(void);  /* this CPU's goes back to the lists */
void frame_share_stocks(void); /* the sizes of all stocks, from the reserve and how many they are */

#endif
