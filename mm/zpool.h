/*
 * Where the compressed pages of one address space lie. A block is one frame in units of 64 bytes; an entry takes as
 * many neighbouring units as its data needs, so a block holds two pages of half a page each, or four of a quarter, or
 * any mix that fits. New entries go where they fit best among a few open blocks, else into a new one. Same-filled pages
 * have an entry and no data. Entries and blocks are records of one pool and are named by its index; 0 is none.
 *
 * Invariants: the units taken in a block are those of its entries; a block without entries does not exist;
 * zpool_verify() proves both.
 *
 * Locking: the owner's (the space's lock).
 */
#ifndef MM_ZPOOL_H
#define MM_ZPOOL_H

#include "lib/types.h"
#include "mm/pool.h"

#define ZPOOL_UNIT      64U
#define ZPOOL_UNITS     64U   /* of a block */
#define ZPOOL_BYTES_MAX 2048U /* of an entry's data: two at least fit into a block (ESX: half a page) */
#define ZPOOL_OPEN      16U
#define ZPOOL_RECORD_BYTES 32U /* of an entry or a block */

struct zpool {
	struct pool records;
	u32 most; /* records; 0: any number */
	u32 open[ZPOOL_OPEN]; /* blocks that new entries go to */
	u32 oldest, newest;   /* blocks, in order of their making */
	u32 frames;           /* blocks */
	u32 entries, same;    /* all, and those that are same-filled */
	u64 bytes;            /* of data, without what is lost to units */
};

/* What is kept of a page. */
struct zpage {
	gfn_t gfn;
	u32 bytes;        /* of data; 0: same-filled */
	u64 sum;          /* checksum of the page as it was */
	u64 word;         /* same-filled: with this */
	const void *data; /* valid until the entry goes */
};

void zpool_init(struct zpool *z);
/* Copies the data in. E_NOSPC: that would take more than max_frames blocks, or too many records. E_NOMEM. E_2BIG: more than ZPOOL_BYTES_MAX.
 */
int zpool_put(struct zpool *z, const struct zpage *page, u32 max_frames, u32 *handle) must_check;
/* CHECKs that the handle is an entry's. */
void zpool_look(const struct zpool *z, u32 handle, struct zpage *page);
void zpool_drop(struct zpool *z, u32 handle);
/* Gives the records back; nothing may be stored. */
void zpool_release(struct zpool *z);
/* Walks everything; returns what does not agree (0: consistent). */
u64 zpool_verify(const struct zpool *z);

#endif
