/*
 * Compression: the tier between balloon and swap. A page chosen to leave RAM is compressed by LZ4 first and kept
 * in its space's pool (zpool.h) if it comes out at half a page or less; a page filled with one word keeps nothing
 * but the word. What does not compress, or finds the pool full, goes straight on to swap. The oldest blocks of a nearly
 * full pool are written to swap as they are, several pages in one slot, and come back as a whole. The pool of a space
 * takes at most a part of the space's size (zip_max percent).
 *
 * Nothing is lost: a page's frame is let go of only when its entry is complete, with a checksum of what is
 * kept, which is verified when the page comes back.
 *
 * Locking: one CPU at a time compresses (LOCK_RANK_ZIP). The pool of a space is guarded by the space's lock.
 */
#ifndef MM_ZIP_H
#define MM_ZIP_H

#include "lib/hash.h"
#include "lib/types.h"
#include "mm/blk.h"
#include "mm/zpool.h"

struct gspace;

#define ZIP_PERCENT_DEFAULT 10U /* of a VM's size (ESX Mem.MemZipMaxPct) */
#define ZIP_PERCENT_MAX     50U

/* Pages on their way out, all begun (gspace_swap_out_begin) and flushed. */
struct victims {
	u32 count;
	u32 unshared; /* of these, the last: had a frame with others, and would have one again if they were offered */
	gfn_t gfn[BLK_PAGES_MAX];
	hfn_t hfn[BLK_PAGES_MAX];
	struct digest digest[BLK_PAGES_MAX]; /* of those that were not rescued meanwhile */
};

/* Whoever takes some of them moves the others up: the i-th is the next that is left. */
static inline void victims_keep(struct victims *v, u32 i, u32 *left)
{
	v->gfn[*left] = v->gfn[i];
	v->hfn[*left] = v->hfn[i];
	v->digest[(*left)++] = v->digest[i];
}

struct zip_stats {
	u32 percent;                      /* 0: off */
	u64 in, out;                      /* pages compressed and stored; come back */
	u64 same;                         /* of `in`: same-filled */
	u64 poor, full, no_memory;        /* turned away: did not compress; pool full; no frame */
	u64 errors;                       /* copies that were damaged */
	u64 tried, in_ns, lz4_in_ns;      /* pages given to LZ4; what all of zip_store() took, and LZ4 of that */
	u64 expanded, out_ns, lz4_out_ns; /* the same of pages that came back from LZ4's form */
	u64 pages, same_pages, frames,
	    bytes; /* now: pages stored, of these same-filled, frames of all pools, data in them */
};

/* Off until then. */
void zip_init(u64 key, u32 percent);
/* The part of a VM's size that is its own where none is set; what is stored stays. 0: nothing is compressed any more.
 */
void zip_set_percent(u32 percent);

/* May pages of gs find room? */
bool zip_ready(const struct gspace *gs);
/*
 * Is compression the better place for the next batch of gs, rather than swap? No, if of late most of what it had
 * compressed was overwritten or given up before anybody read it: to compress a page is more work than to write it, and
 * is worth it when the page comes back. Now and then the answer is yes all the same, so that it is known when that
 * changes.
 */
bool zip_pays(struct gspace *gs);
/* Stores those that can be; the others stay in v, in order. Returns how many are gone. No lock held. */
u32 zip_store(struct gspace *gs, struct victims *v);

/* gs->lock held: fills `page` from the entry of gfn. E_IO: the copy is damaged. The entry stays. */
int zip_load(struct gspace *gs, gfn_t gfn, u32 handle, void *page) must_check;
/* read: its content goes on, in a frame; else it is given up. */
void zip_drop(struct gspace *gs, u32 handle, bool read);
/* gs->lock held: what is wrong with the entry of gfn, or NULL. */
const char *zip_wrong(const struct gspace *gs, gfn_t gfn, u32 handle, bool here);
/* Frames of the pool that should go to swap, the oldest first, so that there is room for the next victims. */
u32 zip_surplus(const struct gspace *gs);

u32 zip_max_frames(const struct gspace *gs); /* of its pool */
/* Frames that the records of a space of so many pages take at most, beside the pool. */
u64 zip_frames_for(u64 pages);
void zip_stats(struct zip_stats *out);

#endif
