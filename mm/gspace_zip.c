/*
 * Guest-physical address spaces: pages that are compressed, and blocks of them (zpool.h) that go to swap and come back.
 * All pages of a block change state together: COMPRESSED while its data is in RAM, SWAPPED while it is not.
 */
#include "lib/err.h"
#include "lib/panic.h"
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"
#include "mm/swap.h"
#include "mm/zip.h"

int gspace_zip_done(struct gspace *gs, gfn_t gfn, hfn_t hfn, const struct zpage *page)
{
	struct page p;
	u32 handle;
	int err;

	lock_acquire(&gs->lock);
	gs->zip.most = gs->pages; /* what admission counted on (zip_frames_for) */
	err = zpool_put(&gs->zip, page, zip_max_frames(gs), &handle);
	if (!err && gspace_swap_out_end(gs, gfn, hfn, &p)) {
		gspace_change_from(gs, gfn, &p, PAGE_COMPRESSED, handle);
		gs->stats.zip_in++;
	} else if (!err) {
		CHECK(zpool_drop(&gs->zip, handle) == ZPOOL_NO_SLOT);
		err = E_BUSY;
	}
	lock_release(&gs->lock);
	return err;
}

void gspace_mark_poor(struct gspace *gs, gfn_t gfn, hfn_t hfn)
{
	struct page p;

	lock_acquire(&gs->lock);
	page_look(gs, gfn, &p);
	if (p.state == PAGE_SWAPPING_OUT && p.payload == hfn)
		frame_get(hfn)->flags |= FRAME_F_POOR;
	lock_release(&gs->lock);
}

bool gspace_poor_locked(struct gspace *gs, const struct page *p)
{
	u64 dirty = gs->pt.fmt->dirty;
	struct frame *f = frame_get(p->payload);

	if (f->flags & FRAME_F_POOR && (!dirty || READ_ONCE(*p->entry) & dirty))
		f->flags &= ~FRAME_F_POOR;
	return f->flags & FRAME_F_POOR;
}

bool gspace_is_poor(struct gspace *gs, gfn_t gfn)
{
	bool poor = false;
	struct page p;

	lock_acquire(&gs->lock);
	page_look(gs, gfn, &p);
	if (p.state == PAGE_PRIVATE && !page_is_large(&p))
		poor = gspace_poor_locked(gs, &p);
	lock_release(&gs->lock);
	return poor;
}

/* Returns how many pages the block has. */
static u32 change_block(struct gspace *gs, u32 block, enum page_state to)
{
	u32 n = 0;

	for (u32 h = zpool_entry_of(&gs->zip, block, 0); h; h = zpool_entry_of(&gs->zip, block, h), n++) {
		struct zpage entry;
		struct page p;

		zpool_look(&gs->zip, h, &entry);
		page_look(gs, entry.gfn, &p);
		gspace_change_from(gs, entry.gfn, &p, to, to == PAGE_SWAPPED ? h | SWAP_PACKED : h);
	}
	return n;
}

u32 gspace_zip_out_begin(struct gspace *gs, hfn_t *hfn)
{
	u32 block;

	lock_acquire(&gs->lock);
	block = gs->dying ? 0 : zpool_write_begin(&gs->zip, hfn);
	lock_release(&gs->lock);
	return block;
}

u32 gspace_zip_out_done(struct gspace *gs, u32 block, u32 slot)
{
	u32 pages = 0;

	lock_acquire(&gs->lock);
	if (zpool_write_done(&gs->zip, block, slot))
		pages = change_block(gs, block, PAGE_SWAPPED);
	gs->stats.swap_out += pages;
	lock_release(&gs->lock);
	return pages;
}

void gspace_zip_out_failed(struct gspace *gs, u32 block)
{
	lock_acquire(&gs->lock);
	zpool_write_failed(&gs->zip, block);
	lock_release(&gs->lock);
}

u32 gspace_zip_in_done(struct gspace *gs, u32 block)
{
	u32 pages = 0;

	lock_acquire(&gs->lock);
	if (zpool_read_done(&gs->zip, block))
		pages = change_block(gs, block, PAGE_COMPRESSED);
	gs->stats.swap_in += pages;
	lock_release(&gs->lock);
	mm_wake(gs);
	return pages;
}

bool gspace_zip_in_failed(struct gspace *gs, u32 block)
{
	bool used;

	lock_acquire(&gs->lock);
	used = zpool_read_failed(&gs->zip, block);
	lock_release(&gs->lock);
	mm_wake(gs);
	return used;
}
