/*
 * Guest-physical address spaces: pages that are watched to see whether the guest uses them (wss.c). By its accessed bit
 * a page stays mapped; without one it is taken out of the tables, in the state it has, and the touch that puts it back
 * is seen. A large page is watched by its one bit, or split.
 */
#include "lib/panic.h"
#include "mm/gspace_internal.h"

bool gspace_has_accessed(const struct gspace *gs)
{
	return gs->pt.fmt->accessed != 0;
}

/*
 * A processor that holds the translation will not set the bits again before a flush. A page that did not compress is
 * known by its dirty bit to have been written since: that is noted as the bit goes.
 */
static bool clear_touched(struct gspace *gs, const struct page *p)
{
	u64 bits = gs->pt.fmt->accessed | gs->pt.fmt->dirty, was;

	CHECK(gs->pt.fmt->accessed != 0);
	was = __atomic_fetch_and(p->entry, ~bits, __ATOMIC_SEQ_CST);
	/* by what it was: another CPU may just have set it */
	if (was & gs->pt.fmt->dirty && p->state == PAGE_PRIVATE && !page_is_large(p))
		frame_get(p->payload)->flags &= ~FRAME_F_POOR;
	if (!(was & bits))
		return false;
	gspace_mark_stale(gs);
	return true;
}

bool gspace_watch(struct gspace *gs, gfn_t gfn, bool unmap)
{
	bool changed = false;
	struct page p;

	lock_acquire(&gs->lock);
	CHECK(gfn < gs->pages);
	if (unmap)
		page_look_single(gs, gfn, &p);
	else
		page_look(gs, gfn, &p);
	if (state_present(p.state) && !page_is_unmapped(gs, &p)) {
		changed = unmap || clear_touched(gs, &p);
		if (unmap)
			page_unmap(gs, &p);
	}
	lock_release(&gs->lock);
	return changed;
}

bool gspace_watched_touched(struct gspace *gs, gfn_t gfn, bool unmap, bool *written)
{
	bool touched;
	struct page p;
	u64 entry;

	lock_acquire(&gs->lock);
	page_look(gs, gfn, &p);
	entry = READ_ONCE(*p.entry);
	touched =
	    state_present(p.state) && pt_entry_present(gs->pt.fmt, entry) && (unmap || entry & gs->pt.fmt->accessed);
	*written = touched && !unmap && entry & gs->pt.fmt->dirty;
	lock_release(&gs->lock);
	return touched;
}
