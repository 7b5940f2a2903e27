/*
 * Guest-physical address spaces: translations that processors may still have, and the frames that wait for their end.
 *
 * A change that takes a translation away or narrows it marks the space stale until a shootdown has
 * covered it. A frame leaves through gs->limbo after the space's own shootdown. A frame that was shared may still be
 * translated by spaces that dropped it earlier and have not flushed yet: so before it is freed all stale spaces are
 * flushed, and a last mapper takes it for itself only if no space is stale. A change that widens (read-only to
 * writable, same frame) needs no flush: processors walk the tables again before they fault.
 */
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"

static u32 stale_spaces; /* atomic: with tlb_stale */

void gspace_mark_stale(struct gspace *gs)
{
	gs->tlb_dirty = true;
	if (!gs->tlb_stale) {
		gs->tlb_stale = true;
		__atomic_fetch_add(&stale_spaces, 1, __ATOMIC_SEQ_CST);
	}
}

u32 gspace_stale_count(void)
{
	return __atomic_load_n(&stale_spaces, __ATOMIC_SEQ_CST);
}

void gspace_dispose(struct gspace *gs, hfn_t hfn, bool shared)
{
	struct frame *f = frame_get(hfn);

	frame_set_state(hfn, FRAME_HV);
	if (f->flags & FRAME_F_IO)
		return;
	f->next = gs->limbo;
	gs->limbo = hfn;
	gs->limbo_shared |= shared;
}

static void flush_tlb(struct gspace *gs)
{
	u64 gen;

	if (!READ_ONCE(gs->tlb_stale))
		return;
	lock_acquire(&gs->lock);
	if (gs->tlb_dirty)
		gs->tlb_gen++;
	gs->tlb_dirty = false;
	gen = gs->tlb_gen;
	lock_release(&gs->lock);

	mm_tlb_shootdown(gs);

	lock_acquire(&gs->lock);
	/* Changes since then are for the flush that follows them. */
	if (gs->tlb_stale && !gs->tlb_dirty && gs->tlb_gen == gen) {
		gs->tlb_stale = false;
		__atomic_fetch_sub(&stale_spaces, 1, __ATOMIC_SEQ_CST);
	}
	lock_release(&gs->lock);
}

/*
 * With gs->lock held throughout, which it may be (arch/x86/tlb.h, rule 4): short where nobody else can be in the guest,
 * so not for spaces in concurrent use.
 */
void gspace_flush_locked(struct gspace *gs)
{
	lock_assert_held(&gs->lock);
	if (gs->tlb_dirty)
		gs->tlb_gen++;
	gs->tlb_dirty = false;
	mm_tlb_shootdown(gs);
	gs->tlb_stale = false;
	__atomic_fetch_sub(&stale_spaces, 1, __ATOMIC_SEQ_CST);
}

static void flush_stale_spaces(void)
{
	for (u32 id = 1; id < GSPACE_MAX && gspace_stale_count(); id++) {
		struct gspace *gs = gspace_get_any(id);

		if (gs) {
			flush_tlb(gs);
			gspace_put(gs);
		}
	}
}

void gspace_flush(struct gspace *gs)
{
	hfn_t hfn;
	bool shared;

	if (READ_ONCE(gs->limbo) == HFN_NONE) {
		flush_tlb(gs);
		return;
	}
	lock_acquire(&gs->lock);
	hfn = gs->limbo;
	shared = gs->limbo_shared;
	gs->limbo = HFN_NONE;
	gs->limbo_shared = false;
	lock_release(&gs->lock);

	flush_tlb(gs);
	if (shared)
		flush_stale_spaces();
	frame_free_list(hfn);
}
