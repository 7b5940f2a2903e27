/*
 * Guest-physical address spaces: pages that are touched. The short ways of faults first: the first write to a page,
 * with some behind it if the guest goes through them in order, and copy-on-write; then each state a touched page may be
 * in.
 */
#include "mm/gspace_touch.h"

#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace_change.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/rmap.h"
#include "mm/share.h"

#define AROUND_MAX  15U /* pages given with one that was touched */
#define AROUND_PART 4U  /* of those gone through */

#define TOUCH_BLOCK 1 /* of touch_once: comes again, with a block */

hfn_t touch_frame(const struct touch *t, enum frame_state state, bool clear)
{
	if (!t->may_alloc)
		return HFN_NONE;
	return frame_alloc(0, FRAME_FOR_GUEST, state, clear);
}

/* ---- first writes -------------------------------------------------------- */

static inline __attribute__((always_inline)) int fill_absent(struct gspace *gs, u64 *entry, gfn_t gfn)
{
	static const struct page absent = {.state = PAGE_ABSENT};
	hfn_t hfn = frame_alloc_guest(true);

	if (unlikely(hfn == HFN_NONE))
		return E_AGAIN;
	page_change(gs, entry, gfn, &absent, PAGE_PRIVATE, hfn);
	return 0;
}

/*
 * A guest that goes through untouched memory in order is given some pages behind the one that it has come for, as many
 * as a quarter of those that it went through, while there is plenty. So what it holds without having asked for it stays
 * small, and goes back like anything else: such a page is equal to the zero page, and its accessed bit is clear. Where
 * samples of the working set are taken without that bit, being mapped would count as use, and nothing is given.
 */
static __attribute__((noinline)) void fault_around(struct gspace *gs, u64 *entry, gfn_t gfn)
{
	u32 behind = MIN(LARGE_PAGES - 1 - gfn % LARGE_PAGES, gs->pages - 1 - gfn); /* in the same table */
	u32 run = gs->order_run + 1, most = MIN(MIN(run / AROUND_PART, AROUND_MAX), behind), n = 0;

	if (most && !READ_ONCE(gs->wss.by_unmapping) && reclaim_has_spare(gs, most))
		while (n < most && !entry[n + 1] && !fill_absent(gs, entry + n + 1, gfn + n + 1))
			n++;
	gs->order_run = run + n;
	gs->order_next = gfn + n + 1;
	gs->stats.around += n;
}

/* The guest's first write to gfn, whose level-1 entry is `entry`, has been served. */
static inline void note_order(struct gspace *gs, u64 *entry, gfn_t gfn)
{
	if (gfn == gs->order_next) {
		fault_around(gs, entry, gfn);
		return;
	}
	gs->order_next = gfn + 1;
	gs->order_run = 1;
}

/* The commonest fault, by a short way: the first write to a page whose table is there. */
static int touch_first_write(struct gspace *gs, u64 *entry, gfn_t gfn)
{
	int err = fill_absent(gs, entry, gfn);

	if (unlikely(err))
		return err;
	gs->stats.zero_fills++;
	note_order(gs, entry, gfn);
	return 0;
}

/* The whole region of a first write. TOUCH_BLOCK: if there is a block for it. E_NOMEM: a single page. */
static int touch_large(struct touch *t)
{
	int err;

	if (!t->write || !t->may_alloc || t->no_block || t->p.state != PAGE_ABSENT ||
	    !gspace_large_wanted(t->gs, t->gfn))
		return E_NOMEM;
	if (!t->block)
		return TOUCH_BLOCK;
	err = gspace_map_large(t->gs, t->gfn, t->block);
	if (!err)
		t->block = 0;
	return err;
}

static int touch_absent(struct touch *t)
{
	bool broken = t->p.state == PAGE_BALLOONED;
	hfn_t hfn = frame_zero();

	if (t->p.level > 1) {
		int err = touch_large(t);

		if (err != E_NOMEM)
			return err;
	}
	/* Tables first: they may stay behind, a frame would have to be freed. */
	if (t->p.level > 1 && pt_prepare(&t->gs->pt, gfn_to_gpa(t->gfn).v, 1, &t->p.entry))
		return E_AGAIN;
	if (t->write)
		hfn = touch_frame(t, FRAME_GUEST, true);
	if (hfn == HFN_NONE)
		return E_AGAIN;
	gspace_change(t->gs, t->p.entry, t->gfn, t->write ? PAGE_PRIVATE : PAGE_ZERO, hfn);
	t->gs->stats.zero_fills += t->write;
	t->gs->stats.balloon_broken += broken;
	if (t->write && t->fault && !broken)
		note_order(t->gs, t->p.entry, t->gfn);
	return 0;
}

static int touch_write_zero(struct touch *t)
{
	hfn_t hfn = touch_frame(t, FRAME_GUEST, true);

	if (hfn == HFN_NONE)
		return E_AGAIN;
	gspace_change(t->gs, t->p.entry, t->gfn, PAGE_PRIVATE, hfn);
	t->gs->stats.zero_fills++;
	return 0;
}

/* ---- copy-on-write ------------------------------------------------------- */

bool gspace_shared_is_sole(hfn_t hfn)
{
	/* Read without a lock: who has just become the only one copies for nothing, once. */
	if (READ_ONCE(frame_get(hfn)->refs) != 1)
		return false;
	share_forget_shared(hfn);
	return rmap_refs(hfn) == 1 && !gspace_stale_count();
}

static int break_shared(struct gspace *gs, u64 *entry, gfn_t gfn, hfn_t shared, bool may_alloc)
{
	const struct page was = {.state = PAGE_SHARED, .payload = shared};
	hfn_t hfn = shared;

	if (!gspace_shared_is_sole(hfn)) {
		hfn = may_alloc ? frame_alloc_guest(false) : HFN_NONE;
		if (hfn == HFN_NONE)
			return E_AGAIN;
		page_copy(mm_hfn_to_va(hfn), mm_hfn_to_va(shared));
	}
	page_change(gs, entry, gfn, &was, PAGE_PRIVATE, hfn);
	gs->stats.cow_breaks++;
	share_note_cow();
	return 0;
}

static int touch_write_shared(struct touch *t)
{
	return break_shared(t->gs, t->p.entry, t->gfn, t->p.payload, t->may_alloc);
}

/* The entry of a mapped shared page whose region is not being put together? Then copy-on-write has a short way, too. */
static bool is_plain_shared(const struct gspace *gs, gfn_t gfn, u64 entry)
{
	return entry_is_shared(gs->pt.fmt, entry) && gs->moving != region_of(gfn);
}

/* ---- each state ---------------------------------------------------------- */

/*
 * Rescued, unless the space may not have a frame now: who touches its pages faster than the disk writes would keep them
 * all. Then the page is swapped in like any other once it is out.
 */
static int touch_swapping_out(struct touch *t)
{
	if (!reclaim_may_keep(t->gs))
		return E_AGAIN;
	gspace_change(t->gs, t->p.entry, t->gfn, PAGE_PRIVATE, t->p.payload);
	t->gs->stats.swap_rescued++;
	return 0;
}

/* Cleared, as nobody knows whether what is to come really comes. */
static int touch_whole(struct touch *t)
{
	hfn_t hfn = touch_frame(t, FRAME_GUEST, true);

	if (hfn == HFN_NONE)
		return E_AGAIN;
	gspace_change(t->gs, t->p.entry, t->gfn, PAGE_ABSENT, 0); /* what it holds is given up, not wanted */
	gspace_change(t->gs, t->p.entry, t->gfn, PAGE_PRIVATE, hfn);
	t->gs->stats.not_read++;
	return 0;
}

/* By us, maybe, without its entry becoming dirty. */
static void touch_write_private(struct touch *t)
{
	struct frame *f = frame_get(t->p.payload);

	f->flags &= ~FRAME_F_POOR;
	if (!(f->flags & FRAME_F_CLEAN))
		return;
	gspace_mark_end(t->gs, t->p.payload);
	page_map(t->gs, &t->p);
}

static int touch_by_state(struct touch *t)
{
	if (t->whole && (t->p.state == PAGE_COMPRESSED || t->p.state == PAGE_SWAPPED || t->p.state == PAGE_CLEAN))
		return touch_whole(t);
	if (page_is_unmapped(t->gs, &t->p))
		page_map(t->gs, &t->p);
	switch (t->p.state) {
	case PAGE_PRIVATE:
		if (t->write)
			touch_write_private(t);
		return 0;
	case PAGE_PINNED:
		return 0;
	case PAGE_ABSENT:
	case PAGE_BALLOONED:
		return touch_absent(t);
	case PAGE_ZERO:
		return t->write ? touch_write_zero(t) : 0;
	case PAGE_SHARED:
		return t->write ? touch_write_shared(t) : 0;
	case PAGE_SWAPPING_OUT:
		return touch_swapping_out(t);
	case PAGE_COMPRESSED:
		return touch_compressed(t);
	case PAGE_SWAPPED:
		return touch_swapped(t);
	case PAGE_CLEAN:
		return gspace_touch_clean(t->gs, t->gfn, &t->p, t->write, t->may_alloc);
	case PAGE_SWAPPING_IN:
		return E_AGAIN;
	default:
		panic("gspace %u gfn %#x: touched in state %u", t->gs->id, t->gfn, t->p.state);
	}
}

/* gs->lock held. t->p is the page as it was before. */
static int touch_once(struct touch *t)
{
	int err;

	if (t->gs->dying || t->gfn >= t->gs->pages)
		return E_FAULT;
	page_look(t->gs, t->gfn, &t->p);
	err = touch_by_state(t);
	if (err == E_AGAIN)
		t->gs->stats.waits++;
	return err;
}

/* gs->lock not held. A block is taken and cleared without it; others may use the region meanwhile. */
static void take_block(struct touch *t)
{
	hfn_t hfn = frame_alloc_whole(FRAME_ORDER_LARGE, FRAME_FOR_GUEST, FRAME_HV, true);

	t->no_block = hfn == HFN_NONE;
	t->block = t->no_block ? 0 : hfn;
}

/*
 * gs->lock held, but let go of if a large page is to be filled. On success the page is mapped, and writable if that was
 * asked for; t->p is what it was before.
 */
static int touch_page(struct touch *t)
{
	int err = touch_once(t);

	if (likely(err != TOUCH_BLOCK))
		return err;
	lock_release(&t->gs->lock);
	take_block(t);
	lock_acquire(&t->gs->lock);
	err = touch_once(t);
	if (t->block)
		frame_free(t->block, FRAME_ORDER_LARGE);
	return err;
}

int touch_locked(struct touch *t)
{
	int err = touch_page(t);

	if (!err)
		page_look(t->gs, t->gfn, &t->p);
	return err;
}

void touch_finish(const struct touch *t, int err)
{
	if (READ_ONCE(t->gs->tlb_stale) || READ_ONCE(t->gs->limbo) != HFN_NONE)
		gspace_flush(t->gs);
	if (err == E_IO)
		mm_gspace_poisoned(t->gs, t->gfn, "its compressed or swapped copy cannot be read");
}

/* ---- faults -------------------------------------------------------------- */

static __attribute__((noinline)) int touch_other(struct gspace *gs, gfn_t gfn, bool write, bool may_alloc)
{
	struct touch t = {.gs = gs, .gfn = gfn, .write = write, .may_alloc = may_alloc, .fault = true};
	int err = touch_page(&t);

	lock_release(&gs->lock);
	touch_finish(&t, err);
	return err;
}

/* gs->lock held, and let go of. */
static __attribute__((noinline)) int touch_shared(struct gspace *gs, u64 *entry, gfn_t gfn)
{
	int err = break_shared(gs, entry, gfn, hpa_to_hfn(pt_entry_hpa(gs->pt.fmt, *entry, 1)), true);

	gs->stats.waits += err != 0;
	if (gs->tlb_stale && !gs->concurrent)
		gspace_flush_locked(gs);
	lock_release(&gs->lock);
	if (READ_ONCE(gs->tlb_stale) || READ_ONCE(gs->limbo) != HFN_NONE)
		gspace_flush(gs);
	return err;
}

int gspace_touch(struct gspace *gs, gfn_t gfn, enum gspace_access access)
{
	bool may_alloc = reclaim_may_alloc(gs);
	u32 level;
	u64 *entry;
	int err;

	lock_acquire(&gs->lock);
	gs->stats.faults++;
	if (unlikely(!may_alloc || !(access & GSPACE_WRITE) || gs->dying || gfn >= gs->pages))
		return touch_other(gs, gfn, access & GSPACE_WRITE, may_alloc);
	entry = pt_find_near(&gs->pt, gfn_to_gpa(gfn).v, &level);
	if (level == 1 && *entry && is_plain_shared(gs, gfn, *entry))
		return touch_shared(gs, entry, gfn);
	if (level > 1 || *entry)
		return touch_other(gs, gfn, true, true);
	err = touch_first_write(gs, entry, gfn);
	gs->stats.waits += err != 0;
	lock_release(&gs->lock);
	return err;
}
