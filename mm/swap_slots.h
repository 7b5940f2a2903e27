/*
 * Slots of the swap partition: which are taken, and the checksum of what lies in each. Kept in one frame for every 504
 * slots (504 checksums and their bitmap are exactly 4096 bytes); these frames exist only for as many slots as have been
 * promised to VMs, so that an idle host pays nothing for a large partition.
 *
 * Locking: the caller's (swap.c's lock, LOCK_RANK_SWAP).
 */
#ifndef MM_SWAP_SLOTS_H
#define MM_SWAP_SLOTS_H

#include "lib/types.h"

#define SLOTS_PER_CHUNK 504U
#define SLOTS_DIR_TOP   1024U                                    /* directory frames of 512 chunks */
#define SLOTS_MAX       (SLOTS_DIR_TOP * 512U * SLOTS_PER_CHUNK) /* 1008 GiB of swap, less than SWAP_PACKED */

struct slots {
	u64 total;  /* of the partition */
	u64 active; /* slots that have a chunk: [0, active) */
	u64 used;   /* allocated, retired ones not counted */
	u64 bad;    /* retired for good */
	u32 chunk;  /* next-fit: where the last run ended */
	u32 bit;
	hfn_t dir[SLOTS_DIR_TOP];
};

/* Forgets everything (nothing is freed) and starts with no chunk. */
void slots_init(struct slots *s, u64 total);
/* Makes at least MIN(want, total) slots active. E_NOMEM: some chunks may have been added. */
int slots_grow(struct slots *s, u64 want) must_check;
/* Frames of the tables for `want` slots; of those there are if want is s->active. */
u64 slots_frames(const struct slots *s, u64 want);
/* Gives back empty chunks at the end down to `want` slots, at most `budget` chunks. */
void slots_shrink(struct slots *s, u64 want, u32 budget);

/* Up to `want` neighbouring slots; returns how many (0: full, or none within a bounded search), the first in *first. */
u32 slots_alloc(struct slots *s, u32 want, u32 *first);
void slots_free(struct slots *s, u32 slot);
/* An allocated slot is not to be used again. */
void slots_retire(struct slots *s, u32 slot);
/* The checksum of an allocated slot. */
u64 *slots_sum(struct slots *s, u32 slot);
u64 *slots_sums(struct slots *s, u32 first, u32 n); /* of all that one slots_alloc() gave, or the first n of them */

#endif
