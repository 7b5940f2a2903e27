/*
 * Guest-physical address spaces: pages that are watched to see whether the guest uses them (wss.c). By its accessed bit a
 * page stays mapped; without one it is taken out of the tables, in the state it has, and the touch that puts it back is
 * seen. A large page is watched by its one bit, or split.
 */
#include "lib/panic.h"
#include "mm/gspace_internal.h"

bool gspace_has_accessed(const struct gspace *gs)
{
	return gs->pt.fmt->accessed != 0;
}

/* A processor that holds the translation will not set the bit again before a flush. */
static bool clear_accessed(struct gspace *gs, const struct page *p)
{
	u64 bit = gs->pt.fmt->accessed;

	CHECK(bit != 0);
	if (!(__atomic_fetch_and(p->entry, ~bit, __ATOMIC_SEQ_CST) & bit))
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
		changed = unmap || clear_accessed(gs, &p);
		if (unmap)
			page_unmap(gs, &p);
	}
	lock_release(&gs->lock);
	return changed;
}

bool gspace_watched_touched(struct gspace *gs, gfn_t gfn, bool unmap)
{
	bool touched;
	struct page p;
	u64 entry;

	lock_acquire(&gs->lock);
	page_look(gs, gfn, &p);
	entry = READ_ONCE(*p.entry);
	touched = state_present(p.state) && pt_entry_present(gs->pt.fmt, entry) &&
		  (unmap || entry & gs->pt.fmt->accessed);
	lock_release(&gs->lock);
	return touched;
}
