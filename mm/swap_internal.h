/* Swap as the swap_*.c know it: its one state, its records, and what its parts do for each other. */
#ifndef MM_SWAP_INTERNAL_H
#define MM_SWAP_INTERNAL_H

#include "lib/hash.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/platform.h"
#include "lib/prng.h"
#include "mm/blk.h"
#include "mm/gspace.h"
#include "mm/swap.h"
#include "mm/swap_slots.h"

#define OUT_RECORDS 16U
#define IN_RECORDS  64U
#define LOST_MAX    16U /* slots that could not be read and are still taken */

struct out_io {
	struct blk_req req;
	struct list link;
	struct gspace *gs;
	u32 slot;    /* of gfn[0] */
	bool blocks; /* gfn: blocks of compressed pages */
	gfn_t gfn[BLK_PAGES_MAX];
};

struct in_io {
	struct blk_req req;
	struct list link;
	struct gspace *gs;
	gfn_t gfn;
	u32 slot;
	u32 block;  /* of compressed pages, gfn among them; 0: none */
	bool ahead; /* nobody has asked for it */
	bool retried;
};

struct swap {
	struct lock lock;
	enum swap_state state;
	const char *why;
	struct blk_part *part;
	struct slots slots;
	u64 reserved;
	u64 key;
	struct prng prng;
	struct list out_free, in_free;
	u32 out_busy, out_limit; /* records */
	bool in_starved;         /* a touch found no record */
	u32 errors_in_row;
	u32 lost[LOST_MAX], lost_count; /* slots: retired when their page is dropped */
	struct swap_stats stats;        /* counters only */
	struct out_io out[OUT_RECORDS];
	struct in_io in[IN_RECORDS];
};
extern struct swap swap;

/* No more pages go out, and why. The first reason stays. */
void swap_fail(const char *why);
/* Slots that count against what was promised to gs, with those of pages and blocks on their way out. Takes gs->lock. */
u32 swap_slots_held(struct gspace *gs);
/* swap.lock held: takes a slot off the list of those that could not be read; false: it is not there. */
bool swap_forget_lost(u32 slot);
/* A slot that could not be read is not to cost the next VM a page. False: more are bad than we can remember. */
bool swap_note_lost(u32 slot);
/* Transfers are over: blk.h's done. */
void swap_out_done(struct blk_req *r);
void swap_in_done(struct blk_req *r);

/* gfn: of a block ~block, which is no page's. */
static inline u64 swap_page_sum(const struct digest *digest, const struct gspace *gs, gfn_t gfn, u32 slot)
{
	u64 place = (u64)slot * 0x9e3779b97f4a7c15UL ^ ((u64)gs->id << 32 | gfn) * 0xc2b2ae3d27d4eb4fUL;

	return digest_hash(digest, swap.key ^ place);
}

/* The processor's work on n pages, from `start` to now. */
static inline void count_work(u64 *pages, u32 n, u64 *ns, u64 start)
{
	__atomic_fetch_add(pages, n, __ATOMIC_RELAXED);
	__atomic_fetch_add(ns, platform_now_ns() - start, __ATOMIC_RELAXED);
}

#endif
