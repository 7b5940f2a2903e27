/*
 * A pool of small fixed-size entries named by a 32-bit index, grown a frame at a time: reverse-map
 * nodes and share entries. Two levels of directory frames lead from index to frame, so
 * that the pool never needs memory in one piece and an idle pool holds no frame at all.
 *
 * Index 0 is never handed out. Entries of free slots belong to the pool (first 4 bytes: link).
 * Frames go back only with pool_release(), when no entry is in use.
 *
 * Locking: the owner's.
 */
#ifndef MM_POOL_H
#define MM_POOL_H

#include "lib/types.h"
#include "lib/panic.h"
#include "mm/platform.h"

struct pool {
	u32 entry_bytes; /* at least 4 */
	u32 per_frame;   /* entries */
	hfn_t root;      /* directory of directories, HFN_NONE while the pool is empty */
	u32 frames;      /* data frames */
	u32 dirs;        /* directory frames, root included */
	u32 free_head;   /* first free index, 0 = none */
	u32 free;        /* entries on the free list */
	u32 reserved;    /* of these, promised by pool_reserve() */
	u32 used;
};

#define POOL_INIT(bytes)                                                                   \
	{                                                                                  \
		.entry_bytes = (bytes), .per_frame = PAGE_SIZE / (bytes), .root = HFN_NONE \
	}

#define POOL_DIR_ENTRIES ((u32)(PAGE_SIZE / sizeof(hfn_t)))

/* pool_at() where entry_bytes are known when it is compiled. */
static inline void *pool_at_sized(const struct pool *p, u32 index, u32 entry_bytes)
{
	u32 per_frame = PAGE_SIZE / entry_bytes, chunk = index / per_frame;
	hfn_t dir = ((const hfn_t *)mm_hfn_to_va(p->root))[chunk / POOL_DIR_ENTRIES];
	hfn_t hfn = ((const hfn_t *)mm_hfn_to_va(dir))[chunk % POOL_DIR_ENTRIES];

	DCHECK(index && chunk < p->frames);
	return (u8 *)mm_hfn_to_va(hfn) + index % per_frame * entry_bytes;
}

/* Promises n entries: as many pool_take() cannot fail. E_NOMEM. */
int pool_reserve(struct pool *p, u32 n) must_check;
void pool_unreserve(struct pool *p, u32 n);
/* Takes a promised entry; its content is undefined. */
u32 pool_take(struct pool *p);
void pool_give(struct pool *p, u32 index);
void pool_give_at(struct pool *p, u32 index, void *entry); /* the same: the entry is pool_at(index) */
void *pool_at(const struct pool *p, u32 index);
/* Gives every frame back. No entry may be in use or promised. */
void pool_release(struct pool *p);
u64 pool_bytes(const struct pool *p);
/* Frames that n entries of so many bytes take, directories included. */
u64 pool_frames_for(u32 entry_bytes, u64 n);

#endif
