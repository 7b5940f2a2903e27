/*
 * A touch of one page: by the guest itself (gspace_touch.c), or by us to copy to it or to pin it (gspace_access.c).
 * What has to come back from elsewhere is in gspace_back.c.
 */
#ifndef MM_GSPACE_TOUCH_H
#define MM_GSPACE_TOUCH_H

#include "mm/gspace_internal.h"

/* A touch under way. may_alloc was asked before the lock was taken. */
struct touch {
	struct gspace *gs;
	gfn_t gfn;
	bool write, may_alloc;
	bool no_block; /* there is none: single pages will do */
	hfn_t block;   /* cleared, for a large page; 0: none */
	bool whole;    /* all of the page will be written: what it held is not needed */
	bool fault;    /* by the guest itself */
	struct page p;
};

/*
 * gs->lock held, but let go of if a large page is to be filled. On success t->p is the page as it is now, mapped, and
 * writable if that was asked for. As gspace_touch; then touch_finish.
 */
int touch_locked(struct touch *t) must_check;
/* After the lock is released: what a touch may have left to do. */
void touch_finish(const struct touch *t, int err);
/* A frame for the page, if its space may have one now; else HFN_NONE. */
hfn_t touch_frame(const struct touch *t, enum frame_state state, bool clear);
/*
 * gs->lock held, the page is COMPRESSED or SWAPPED. 0: it is PRIVATE now. E_AGAIN: it waits for a frame or a read.
 * E_IO: lost.
 */
int touch_compressed(struct touch *t) must_check;
int touch_swapped(struct touch *t) must_check;

#endif
