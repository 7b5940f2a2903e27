/*
 * Where the compressed pages of one address space lie. A block is one frame in units of 64 bytes; an entry takes as
 * many neighbouring units as its data needs, so a block holds two pages of half a page each, or four of a quarter, or
 * any mix that fits. New entries go where they fit best among a few open blocks, else into a new one. Same-filled pages
 * have an entry and no data. Entries and blocks are records of one pool and are named by its index; 0 is none.
 *
 * A block can leave RAM as it is: while it is written nothing is added to it, then its frame goes and its entries live
 * on with the slot it was written to. It comes back as a whole. Entries may be dropped meanwhile; of a block whose last
 * entry goes, frame or slot are free at once, or at the end of the transfer.
 *
 * Invariants: the units taken in a block are those of its entries; a block without entries does not exist.
 * zpool_verify() proves both, also in pieces: then what changes behind it is followed.
 *
 * Locking: the owner's (the space's lock).
 */
#ifndef MM_ZPOOL_H
#define MM_ZPOOL_H

#include "lib/types.h"
#include "mm/pool.h"

#define ZPOOL_UNIT         64U
#define ZPOOL_UNITS        64U   /* of a block */
#define ZPOOL_BYTES_MAX    2048U /* of an entry's data: two at least fit into a block (ESX: half a page) */
#define ZPOOL_OPEN         16U
#define ZPOOL_RECORD_BYTES 32U /* of an entry or a block */
#define ZPOOL_NO_SLOT      (~0u)

#define ZPOOL_KINDS        7U /* of records, those that are free included */

struct zpool_proof {
	u32 at; /* records below are in the figures; 0: no proof is under way */
	u32 kinds[ZPOOL_KINDS];
	u32 in_blocks; /* entries */
	u64 bytes, bad;
};

struct zpool {
	struct pool records;
	u32 most;                /* records; 0: any number */
	u32 open[ZPOOL_OPEN];    /* blocks that new entries go to, 0: none */
	u8 open_run[ZPOOL_OPEN]; /* the longest run of free units of each; 0: none */
	u32 oldest, newest;      /* blocks in RAM, in order of their making, without those that are being written */
	u32 frames;              /* blocks that have one */
	u32 writing, reading;    /* of these */
	u32 away;                /* blocks that have none */
	u32 entries, same;       /* all, and those that are same-filled */
	u64 bytes;               /* of data, without what is lost to units */
	struct zpool_proof proof;
};

/* What is kept of a page. */
struct zpage {
	gfn_t gfn;
	u32 bytes;        /* of data; 0: same-filled */
	u64 sum;          /* checksum of what is kept */
	u64 word;         /* same-filled: with this */
	const void *data; /* valid until the entry goes */
};

void zpool_init(struct zpool *z);
/*
 * Copies the data in. E_NOSPC: that would take more than max_frames blocks, or too many records. E_NOMEM. E_2BIG: more
 * than ZPOOL_BYTES_MAX.
 */
int zpool_put(struct zpool *z, const struct zpage *page, u32 max_frames, u32 *handle) must_check;
/* CHECKs that the handle is an entry's. data is NULL if it is not in RAM. */
void zpool_look(const struct zpool *z, u32 handle, struct zpage *page);
/* Returns the slot that is free now, or ZPOOL_NO_SLOT. */
u32 zpool_drop(struct zpool *z, u32 handle);

/*
 * The oldest block is to be written: its index, and its frame, which does not change till the end and holds the data of
 * its entries and zeroes. 0: there is none.
 */
u32 zpool_write_begin(struct zpool *z, hfn_t *hfn);
/* Its frame is gone. False: so are its entries, and the slot is not needed. */
bool zpool_write_done(struct zpool *z, u32 block, u32 slot);
void zpool_write_failed(struct zpool *z, u32 block);
/* Where the entry's block is. False: it is being read already. CHECKs that it is not in RAM. */
bool zpool_away(const struct zpool *z, u32 handle, u32 *block, u32 *slot);
void zpool_read_begin(struct zpool *z, u32 block, hfn_t hfn); /* hfn, FRAME_HV, is the block's */
bool zpool_read_done(struct zpool *z, u32 block);             /* False: its entries are gone, and so is its frame */
/* Takes the frame from it, which is the caller's again. False: its entries are gone, and its slot is not needed. */
bool zpool_read_failed(struct zpool *z, u32 block);
/* The entries of a block in turn: handle 0 starts, 0 ends. */
u32 zpool_entry_of(const struct zpool *z, u32 block, u32 handle);
/* Is the data of the entry in RAM? */
bool zpool_here(const struct zpool *z, u32 handle);
/* Gives the records back; nothing may be stored. */
void zpool_release(struct zpool *z);
/*
 * Walks everything; returns what does not agree (0: consistent). In pieces: begin; some until it is false; end, which
 * returns it.
 */
u64 zpool_verify(struct zpool *z);
void zpool_verify_begin(struct zpool *z);
bool zpool_verify_some(struct zpool *z, u32 records); /* about so many, a few at least */
u64 zpool_verify_end(struct zpool *z);

#endif
