/*
 * Guest-physical address spaces: pages that the guest gives up and wants back, one by one or a region at once.
 */
#include "lib/err.h"
#include "mm/gspace_change.h"
#include "mm/gspace_internal.h"

/* ---- pages --------------------------------------------------------------- */

static int balloon_take_locked(struct gspace *gs, gfn_t gfn)
{
	struct page p;

	if (gs->dying || gfn >= gs->pages)
		return E_INVAL;
	page_look_single(gs, gfn, &p);
	if (p.state == PAGE_PINNED || p.state == PAGE_SWAPPING_OUT || p.state == PAGE_SWAPPING_IN)
		return E_BUSY;
	if (p.state == PAGE_BALLOONED)
		return E_INVAL;
	if (p.level > 1 && pt_prepare(&gs->pt, gfn_to_gpa(gfn).v, 1, &p.entry))
		return E_BUSY;
	page_change(gs, p.entry, gfn, &p, PAGE_BALLOONED, 0);
	gs->stats.balloon_out++;
	return 0;
}

int gspace_balloon_take(struct gspace *gs, gfn_t gfn)
{
	int err;

	lock_acquire(&gs->lock);
	err = balloon_take_locked(gs, gfn);
	lock_release(&gs->lock);
	return err;
}

static int balloon_give_locked(struct gspace *gs, gfn_t gfn)
{
	struct page p;

	if (gs->dying || gfn >= gs->pages)
		return E_INVAL;
	page_look(gs, gfn, &p);
	if (p.state != PAGE_BALLOONED)
		return E_INVAL;
	if (p.level > 1 && pt_prepare(&gs->pt, gfn_to_gpa(gfn).v, 1, &p.entry))
		return E_BUSY;
	page_change(gs, p.entry, gfn, &p, PAGE_ABSENT, 0);
	gs->stats.balloon_back++;
	return 0;
}

int gspace_balloon_give(struct gspace *gs, gfn_t gfn)
{
	int err;

	lock_acquire(&gs->lock);
	err = balloon_give_locked(gs, gfn);
	lock_release(&gs->lock);
	return err;
}

/* ---- balloon units ------------------------------------------------------- */

/* The region's pages are mapped one by one: `entry` is the first of 512. The page that cannot be taken, or GFN_NONE. */
static gfn_t not_takeable(struct gspace *gs, gfn_t first, u64 *entry)
{
	for (u32 i = 0; i < LARGE_PAGES; i++) {
		struct page p;

		page_decode(gs->pt.fmt, entry + i, 1, &p);
		if (p.state == PAGE_PINNED || p.state == PAGE_SWAPPING_OUT || p.state == PAGE_SWAPPING_IN ||
		    p.state == PAGE_BALLOONED)
			return first + i;
	}
	return GFN_NONE;
}

static int take_singles(struct gspace *gs, gfn_t first, u64 *entry, gfn_t *at)
{
	gfn_t refused = not_takeable(gs, first, entry);
	u64 token;

	if (refused != GFN_NONE) {
		*at = refused;
		return E_BUSY;
	}
	for (u32 i = 0; i < LARGE_PAGES; i++)
		gspace_change(gs, entry + i, first + i, PAGE_BALLOONED, 0);
	token = *entry; /* one says what all of them say */
	gspace_retire_table(gs, first, token);
	return 0;
}

static int take_large_locked(struct gspace *gs, gfn_t first, gfn_t *at)
{
	struct page p;

	if (gs->dying)
		return E_INVAL;
	page_look(gs, first, &p);
	if (p.level == 1)
		return take_singles(gs, first, p.entry, at);
	if (p.state == PAGE_BALLOONED)
		return E_INVAL;
	if (p.level > 2 && pt_prepare(&gs->pt, region_addr(first), 2, &p.entry))
		return E_BUSY;
	gspace_change_large(gs, p.entry, first, PAGE_BALLOONED, 0);
	return 0;
}

int gspace_balloon_take_large(struct gspace *gs, gfn_t first, gfn_t *at)
{
	int err;

	*at = first;
	if (first % LARGE_PAGES || gs->pages < LARGE_PAGES || first > gs->pages - LARGE_PAGES)
		return E_INVAL;
	lock_acquire(&gs->lock);
	err = take_large_locked(gs, first, at);
	if (!err)
		gs->stats.balloon_out += LARGE_PAGES;
	lock_release(&gs->lock);
	return err;
}

/* An empty table goes: the next first touch may have a large page. */
static u32 give_singles(struct gspace *gs, gfn_t first, u64 *entry)
{
	u32 given = 0;

	for (u32 i = 0; i < LARGE_PAGES; i++) {
		struct page p;

		page_decode(gs->pt.fmt, entry + i, 1, &p);
		if (p.state != PAGE_BALLOONED)
			continue;
		gspace_change(gs, entry + i, first + i, PAGE_ABSENT, 0);
		given++;
	}
	if (table_is_empty(entry))
		gspace_retire_table(gs, first, 0);
	return given;
}

static u32 give_large_locked(struct gspace *gs, gfn_t first)
{
	struct page p;

	if (gs->dying)
		return 0;
	page_look(gs, first, &p);
	if (p.level == 1)
		return give_singles(gs, first, p.entry);
	if (p.state != PAGE_BALLOONED)
		return 0;
	gspace_change_large(gs, p.entry, first, PAGE_ABSENT, 0);
	return LARGE_PAGES;
}

u32 gspace_balloon_give_large(struct gspace *gs, gfn_t first)
{
	u32 given;

	if (first % LARGE_PAGES || gs->pages < LARGE_PAGES || first > gs->pages - LARGE_PAGES)
		return 0;
	lock_acquire(&gs->lock);
	given = give_large_locked(gs, first);
	gs->stats.balloon_back += given;
	lock_release(&gs->lock);
	return given;
}
