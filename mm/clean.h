/*
 * Guest pages that need no swap: copies of blocks of the VM's own disk, and pages that the guest is about to overwrite.
 * Only the guest knows them; it tells by hints (guest/abi/aerostat.h, PAGE_HINT).
 *
 *  CLEAN      the page holds what the block does. Unless memory is plentiful it is write-protected and marked; if its
 *             VM has to give memory, it is dropped with nothing hashed, compressed or written, and read from the disk
 *             when it is touched
 *  CHANGED    takes that back before the block changes; a page that was dropped comes back first
 *  OVERWRITE  the page's content is of no use any more: what is away is dropped, and not read in to be overwritten
 *
 * A guest that lies gets bytes of its own disk, or zeroes, in place of its own page: never another VM's, as a block
 * that this VM has not written since its start reads as zero here as it does by the paravirtual disk.
 *
 * Reads are asynchronous, several adjacent blocks in one where the pages want them. A read that fails is tried once
 * more for the page that was touched; then that page is lost and its VM told (mm_gspace_poisoned).
 */
#ifndef MM_CLEAN_H
#define MM_CLEAN_H

#include "lib/types.h"

struct blk_part;
struct gspace;

/* A VM's disk: blocks [start, start + pages) of a partition. */
struct clean_disk {
	struct blk_part *part; /* NULL: there is none, or it is going */
	u64 start;
	u32 pages;
	const u8 *written; /* bit a page; may be set meanwhile, never cleared */
};

/* Not before the block was written well does it hold what its VM wrote. */
static inline bool clean_is_written(const struct clean_disk *d, u32 block)
{
	return __atomic_load_n(&d->written[block / 8], __ATOMIC_ACQUIRE) >> (block % 8) & 1;
}

/*
 * An entry of a batch: gpa of a page | op; the answer comes into bits 11:4. Bits 63:52 are zero; block is 0 but for
 * CLEAN.
 */
struct hint {
	u64 page, block;
};
enum hint_op { HINT_OVERWRITE = 1, HINT_CLEAN = 2, HINT_CHANGED = 3 };
enum hint_status {
	HINT_OK = 0,
	HINT_INVALID = 1, /* no such op, page or block, or reserved bits */
	/*
	 * CLEAN: the page is pinned, shared, not there, one of too many in large pages, or memory is plentiful. What
	 * was said of it before holds
	 */
	HINT_NOT_NOW = 2,
};
#define HINT_BATCH_MAX 256U

/*
 * Does what the entries say, CHANGED ones first. Returns how many were answered OK. E_AGAIN: pages have to come back
 * for a CHANGED; nothing else was done, mm_wake() follows, and the call is to be repeated. E_IO: such a page is lost.
 */
int clean_hints(struct gspace *gs, struct hint *entry, u32 n) must_check;

void clean_init(void);
/*
 * gs->lock held: starts the read of n adjacent blocks into frames (FRAME_HV) for pages gfn and on, which the caller
 * makes SWAPPING_IN. Only the first was asked for. E_AGAIN: too many reads, mm_wake() follows.
 */
int clean_read(struct gspace *gs, gfn_t gfn, u32 block, const hfn_t *hfn, u32 n) must_check;
bool clean_busy(const struct gspace *gs); /* reads under way: neither the space nor the disk may go */

struct clean_stats {
	u64 reads, pages, errors, ns; /* requests; pages that came; failed requests; summed latency */
};
void clean_stats(struct clean_stats *out);

#endif
