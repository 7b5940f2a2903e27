/*
 * Machine frames: the frame table (16 bytes a frame) and the buddy allocator
 * (4 KiB to 1 GiB, orders 0..FRAME_ORDER_MAX).
 *
 * In front of the buddy lists each CPU has a stock of single frames, some of them cleared ahead of need: most
 * allocations and frees of one frame take no lock. Frames in a stock count as free.
 *
 * The table is an array indexed by frame number; holes between RAM ranges
 * have entries in state FRAME_NONE. A frame that leaves the allocator for a guest is
 * always cleared; a frame that returns is cleared before it reaches another owner.
 * Debug builds poison freed frames and catch double frees.
 *
 * Locking: LOCK_RANK_FRAME inside; a frame's owner fields belong to whoever owns the frame.
 */
#ifndef MM_FRAME_H
#define MM_FRAME_H

#include "lib/types.h"

#define FRAME_ORDER_MAX   18 /* 1 GiB */
#define FRAME_ORDER_LARGE 9

enum frame_state {
	FRAME_NONE,      /* not RAM, or firmware's */
	FRAME_FREE,      /* head of a free block; order valid */
	FRAME_STOCK,     /* free, in a CPU's stock; all other fields are zero but for the poison flag */
	FRAME_FREE_TAIL, /* inside a free block, or a whole one: see FRAME_F_WHOLE */
	FRAME_HV,        /* the hypervisor's own: image, tables, pools, buffers */
	FRAME_TABLE,     /* nested page table of gspace `owner` */
	FRAME_GUEST,     /* one guest page: owner, gfn valid */
	FRAME_SHARED,    /* copy-on-write, refs mappers; rmap and share entry valid */
	FRAME_ZERO,      /* the all-zero frame that every gspace may map read-only */
	FRAME_ZIP,       /* a block of compressed guest pages: zpool.h */
	FRAME_STATES
};

enum frame_flag {
	FRAME_F_HINT = BIT(0),   /* FRAME_GUEST: has a hint entry in the share table */
	FRAME_F_IO = BIT(1),     /* a swap transfer uses the frame: freed only at its end */
	FRAME_F_POISON = BIT(2), /* free, and filled with the debug pattern */
	/* head of an allocated block whose other entries say nothing; state and owner are the block's */
	FRAME_F_WHOLE = BIT(3),
	/* FRAME_GUEST: did not compress; as long as the page's entry is not dirty it is not tried again */
	FRAME_F_POOR = BIT(5),
	/* FRAME_GUEST: a swap slot holds what the page was when it came from there (gspace_internal.h) */
	FRAME_F_COPY = BIT(4),
	/* FRAME_GUEST: the page is what a block of its VM's disk holds, and write-protected (gspace_clean.c) */
	FRAME_F_CLEAN = BIT(6),
};

struct frame {
	u8 state;     /* enum frame_state */
	u8 order;     /* head of a block, free or allocated: of the block */
	u8 flags;     /* enum frame_flag */
	u8 copy_high; /* GUEST with COPY: bits 23:16 of the slot; with CLEAN: of the block; else 0 */
	union {
		u32 next;  /* FREE: list link (hfn) */
		gfn_t gfn; /* GUEST */
		u32 refs;  /* SHARED: mappers and holds (rmap.h); ZERO: mappers */
	};
	union {
		u32 prev;  /* FREE */
		u32 share; /* GUEST with HINT, SHARED: index of the share entry, 0 = none */
	};
	union {
		struct {
			u16 owner; /* GUEST, TABLE: gspace id */
			u16 pins;  /* GUEST: pin count; with COPY: bits 15:0 of the slot; with CLEAN: of the block */
		};
		u32 rmap; /* SHARED: index of the first reverse-map node */
	};
};
static_assert_size(struct frame, 16);

/* Why a frame is wanted: what may dip into the reserve that keeps the hypervisor going. */
enum frame_use {
	FRAME_FOR_GUEST, /* fails once free frames reach frame_reserve() */
	FRAME_FOR_TABLE, /* nested tables: may use half the reserve */
	FRAME_FOR_HV,    /* may use all */
};

struct frame_stats {
	u64 total; /* RAM frames under management */
	u64 free;
	u64 by_state[FRAME_STATES];
	u64 allocs, frees, failures;
};

/*
 * Boot: table memory for `span` frames (hfn 0..span-1) is given by the caller, zeroed
 * (frame_table_bytes(span)); then each usable range is added.
 */
size_t frame_table_bytes(hfn_t span);
void frame_init(void *table, hfn_t span);
void frame_add_range(hfn_t first, u32 count);   /* NONE -> FREE; frame 0 -> HV, it is never handed out */
void frame_claim_range(hfn_t first, u32 count); /* NONE -> HV: image, boot leftovers */

/* Block of 2^order frames, state set to `state`, contents undefined (cleared if `clear`). HFN_NONE if there is none. */
/* All fields of the entries are zero but state and, in the first, order. */
hfn_t frame_alloc(u32 order, enum frame_use use, enum frame_state state, bool clear) must_check;
struct prng;
/*
 * 2^order single frames that lie together, as far as there are frames for guests, from a place drawn at random among
 * those that are free: not what was freed last, which somebody may have chosen. All are in `state`, of order 0,
 * contents undefined. HFN_NONE: no such block was met, which is no failure.
 */
hfn_t frame_alloc_random(u32 order, enum frame_state state, struct prng *rnd) must_check;
/* As frame_alloc(0, FRAME_FOR_GUEST, FRAME_GUEST, clear), by a short way: for faults. */
hfn_t frame_alloc_guest(bool clear) must_check;
/*
 * The same kept whole: one entry speaks for all, so neither this nor the free costs more for a larger block (but for
 * clearing). Only the head may be given to the functions below. The state counts as 2^n frames.
 */
hfn_t frame_alloc_whole(u32 order, enum frame_use use, enum frame_state state, bool clear) must_check;
/* A whole block of a guest becomes single frames: GUEST, the head's owner, gfn, gfn + 1 and so on. */
void frame_break(hfn_t hfn);
/* And back: an aligned run of single GUEST frames without flags and pins; the head's owner and gfn stand for all. */
void frame_make_whole(hfn_t hfn, u32 order);
/*
 * Any allocated state but ZERO; flags and pins must be zero; the block as allocated (claimed ranges: any aligned
 * blocks).
 */
void frame_free(hfn_t hfn, u32 order);
/* The same for blocks in state HV that name each other by `next`, the last HFN_NONE: each of its head's order. */
void frame_free_list(hfn_t hfn);

/* Clears one frame of this CPU's stock ahead of need: for idle time. False: the stock is full, or memory is short. */
bool frame_stock_fill(void);

hfn_t frame_span(void);             /* all frame numbers are below it */
struct frame *frame_get(hfn_t hfn); /* CHECKs the range */
/* The only way to change an allocated frame's state (by_state is kept by it). The owner's business: takes no lock. */
void frame_set_state(hfn_t hfn, enum frame_state state);
/* Racy. These two look at every CPU's stock: not on the way of each fault. */
u32 frame_state_count(enum frame_state state);
u32 frame_free_count(void);
bool frame_free_at_least(u64 count); /* of frame_free_count(); cheap as long as that many are in the lists alone */
u32 frame_listed_count(void);        /* of the free those in no stock: cheap */
u32 frame_shared_count(void);        /* in state FRAME_SHARED: cheap */
u32 frame_reserve(void);
void frame_set_reserve(u32 frames);
u64 frame_failures(void); /* of frame_stats, cheap, racy */
void frame_stats(struct frame_stats *out);
/* Full consistency check (debug command, tests): lists against states. Panics on mismatch. */
void frame_verify(void);
/*
 * The same in pieces of FRAME_VERIFY_PIECE frames, no other CPU running meanwhile (but between them): begin, then some
 * until it is false. What changes behind it is followed, so that the sums are those of the end.
 */
#define FRAME_VERIFY_PIECE (1U << FRAME_ORDER_MAX) /* so no block lies across */
void frame_verify_begin(void);
bool frame_verify_some(void);

/* The all-zero frame, allocated by frame_init's first range. */
hfn_t frame_zero(void);

#endif
