/*
 * Guest-physical address spaces: 2 MiB regions as a whole. Large pages at first touch, their split, and large pages put
 * together again. Balloon units are in gspace_balloon.c.
 *
 * Frames. A large leaf maps an aligned block. While nobody needs to know its frames one by one it is kept whole
 * (frame.h): filling, ballooning and freeing it cost the same whatever its size. The share scanner, which leaves hints
 * with single frames, breaks it in the frame table; a split breaks it, too. Either has no influence on the other's
 * invariants: under a large leaf a broken block's frames are all GUEST, without pins or transfers, owner and gfn in
 * order.
 *
 * Spares. For each large leaf there is a table page in gs->spares, any for any leaf, so that a split needs no memory in
 * the moment when memory is what it is to bring.
 *
 * Flushes. A large leaf over nothing needs none. Nor does a split: what a TLB still has of the leaf is the same
 * translation, and the flush that follows a change of one page drops it. A table that is replaced by a leaf or a token
 * may still be walked by processors that cached the way to it (Intel SDM "Caching Paging-Structure Entries"), which
 * also set A and D in it: it goes to limbo as a frame does.
 *
 * A rebuild by copy. The region's table is unlinked by one store (a token in its place) and flushed; from then on
 * its content is fixed. Whoever looks at one of its pages in between puts the table back first (gspace_stop_rebuild),
 * so nobody waits and states, counts and frames are never anything else than before or after. The copy goes in pieces,
 * the lock let go of in between.
 */
#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/share.h"

#define MOVING_TOKEN pt_token(PT_TOKEN_KINDS - 1, 0) /* no page state has it */
#define COPY_PIECE   64U                             /* pages copied under one hold of the lock */

/* ---- tables -------------------------------------------------------------- */

int gspace_spare_push(struct gspace *gs)
{
	hfn_t hfn = frame_alloc(0, FRAME_FOR_TABLE, FRAME_TABLE, false);

	if (hfn == HFN_NONE)
		return E_NOMEM;
	frame_get(hfn)->owner = gs->id;
	frame_get(hfn)->next = gs->spares;
	gs->spares = hfn;
	gs->large++;
	return 0;
}

static hfn_t spare_pop(struct gspace *gs)
{
	hfn_t hfn = gs->spares;

	CHECK(hfn != HFN_NONE && gs->large);
	gs->spares = frame_get(hfn)->next;
	gs->large--;
	return hfn;
}

/* No processor has ever walked a spare: it needs no flush. */
void gspace_spare_drop(struct gspace *gs)
{
	frame_free(spare_pop(gs), 0);
}

void gspace_retire_table(struct gspace *gs, gfn_t gfn, u64 value)
{
	hfn_t table = pt_take_table(&gs->pt, region_addr(gfn), value);

	CHECK(table != HFN_NONE);
	gspace_mark_stale(gs);
	gspace_dispose(gs, table, false);
}

/* ---- large pages --------------------------------------------------------- */

bool gspace_large_wanted(const struct gspace *gs, gfn_t gfn)
{
	return gs->pt.fmt->large_ok[2] && region_of(gfn) + LARGE_PAGES <= gs->pages && reclaim_plentiful(gs);
}

int gspace_map_large(struct gspace *gs, gfn_t gfn, hfn_t block)
{
	u64 *entry;

	if (pt_prepare(&gs->pt, region_addr(gfn), 2, &entry) || gspace_spare_push(gs))
		return E_NOMEM;
	gspace_change_large(gs, entry, region_of(gfn), PAGE_PRIVATE, block);
	gs->stats.zero_fills++;
	gs->stats.large_fills++;
	return 0;
}

void gspace_split(struct gspace *gs, gfn_t gfn)
{
	struct page p;
	hfn_t head;

	page_look(gs, gfn, &p);
	CHECK(page_is_large(&p));
	head = p.payload - gfn % LARGE_PAGES;
	if (frame_get(head)->flags & FRAME_F_WHOLE)
		frame_break(head);
	pt_split_with(&gs->pt, gfn_to_gpa(gfn).v, 2, spare_pop(gs));
	gs->stats.large_splits++;
}

/* ---- rebuild ------------------------------------------------------------- */

enum fit { FIT_NOT, FIT_EMPTY, FIT_IN_PLACE, FIT_COPY };

/* The pages of the region are about to become parts of one: what was remembered about each is forgotten. */
static void forget_marks_of(struct gspace *gs, u64 *entry)
{
	for (u32 i = 0; i < LARGE_PAGES; i++) {
		struct page p;

		page_decode(gs->pt.fmt, entry + i, 1, &p);
		frame_get(p.payload)->flags &= ~FRAME_F_POOR;
		if (frame_get(p.payload)->flags & FRAME_F_COPY)
			gspace_copy_end(gs, p.payload, SWAP_SLOT_NONE);
		if (frame_get(p.payload)->flags & FRAME_F_CLEAN) {
			gspace_mark_end(gs, p.payload);
			page_map(gs, &p); /* the leaf takes its protection from the pages */
		}
	}
}

/* What can be made of the region whose level-1 entries begin at `entry`. */
static enum fit region_fit(struct gspace *gs, u64 *entry)
{
	hfn_t head = HFN_NONE;
	bool in_place = true;

	if (!*entry)
		return table_is_empty(entry) ? FIT_EMPTY : FIT_NOT;
	for (u32 i = 0; i < LARGE_PAGES; i++) {
		struct page p;

		page_decode(gs->pt.fmt, entry + i, 1, &p);
		if (p.state != PAGE_PRIVATE || frame_get(p.payload)->flags & FRAME_F_IO || page_is_unmapped(gs, &p))
			return FIT_NOT;
		if (!i)
			head = p.payload;
		in_place &= p.payload == head + i;
	}
	forget_marks_of(gs, entry);
	return in_place && head % LARGE_PAGES == 0 ? FIT_IN_PLACE : FIT_COPY;
}

/* The leaf that gspace_change_large() would write. A and D are set: processors may still set them in the table. */
static u64 leaf_of(struct gspace *gs, u64 small, hfn_t block)
{
	const struct pt_format *f = gs->pt.fmt;
	u64 leaf = pt_make_leaf(f, hfn_to_hpa(block), f->leaf_prot(small, 1), 2, pt_entry_tag(f, small));

	return leaf | f->accessed | f->dirty;
}

static bool join_in_place(struct gspace *gs, gfn_t first, const struct page *p)
{
	if (gspace_spare_push(gs))
		return false;
	gspace_retire_table(gs, first, leaf_of(gs, *p->entry, p->payload));
	gs->stats.large_rebuilt++;
	return true;
}

static void unlink_region(struct gspace *gs, gfn_t first)
{
	CHECK(gs->moving == GFN_NONE);
	gs->moving = first;
	gs->moving_table = pt_take_table(&gs->pt, region_addr(first), MOVING_TOKEN);
	gspace_mark_stale(gs);
}

void gspace_stop_rebuild(struct gspace *gs)
{
	u32 level;
	u64 *entry;

	lock_assert_held(&gs->lock);
	if (gs->moving == GFN_NONE)
		return;
	entry = pt_find(&gs->pt, gfn_to_gpa(gs->moving).v, &level);
	CHECK(level == 2 && *entry == MOVING_TOKEN);
	pt_give_table(&gs->pt, entry, gs->moving_table);
	gs->moving = GFN_NONE;
	gs->moving_table = HFN_NONE;
}

static hfn_t moving_frame(struct gspace *gs, u32 i)
{
	u64 *entry = mm_hfn_to_va(gs->moving_table);

	return hpa_to_hfn(pt_entry_hpa(gs->pt.fmt, entry[i], 1));
}

/* All of the region into the block, while it stays unlinked. True if it did. */
static bool copy_region(struct gspace *gs, gfn_t first, hfn_t block)
{
	bool moving = true;

	for (u32 i = 0; i < LARGE_PAGES && moving; i += COPY_PIECE) {
		lock_acquire(&gs->lock);
		moving = gs->moving == first;
		for (u32 j = i; j < i + COPY_PIECE && moving; j++)
			page_copy(mm_hfn_to_va(block + j), mm_hfn_to_va(moving_frame(gs, j)));
		lock_release(&gs->lock);
	}
	return moving;
}

/* Frames and table of the region go; the block, a copy, is mapped in their place. */
static void link_block(struct gspace *gs, gfn_t first, hfn_t block)
{
	u64 small = *(u64 *)mm_hfn_to_va(gs->moving_table);
	struct frame *head = frame_get(block);
	u32 level;

	for (u32 i = 0; i < LARGE_PAGES; i++) {
		hfn_t hfn = moving_frame(gs, i);

		if (frame_get(hfn)->flags & FRAME_F_HINT)
			share_forget_hint(hfn);
		gspace_dispose(gs, hfn, false);
	}
	gspace_dispose(gs, gs->moving_table, false);
	gs->moving = GFN_NONE;
	gs->moving_table = HFN_NONE;
	frame_set_state(block, FRAME_GUEST);
	head->owner = gs->id;
	head->gfn = first;
	pt_exchange(pt_find(&gs->pt, gfn_to_gpa(first).v, &level), leaf_of(gs, small, block));
	gs->stats.large_rebuilt++;
}

/* The region has been unlinked. gs->lock not held. */
static bool rebuild_by_copy(struct gspace *gs, gfn_t first)
{
	hfn_t block = frame_alloc_whole(FRAME_ORDER_LARGE, FRAME_FOR_GUEST, FRAME_HV, false);
	bool done = false;

	gspace_flush(gs);
	if (block != HFN_NONE && copy_region(gs, first, block)) {
		lock_acquire(&gs->lock);
		done = gs->moving == first && !gspace_spare_push(gs);
		if (done)
			link_block(gs, first, block);
		lock_release(&gs->lock);
	}
	if (done)
		return true;
	if (block != HFN_NONE)
		frame_free(block, FRAME_ORDER_LARGE);
	lock_acquire(&gs->lock);
	if (gs->moving == first)
		gspace_stop_rebuild(gs);
	lock_release(&gs->lock);
	return false;
}

/* One region, and what could be done with it at once. True in *copy if it was unlinked to be copied. */
static bool look_at_region(struct gspace *gs, gfn_t first, bool *copy)
{
	struct page p;

	if (first + LARGE_PAGES > gs->pages)
		return false;
	page_look(gs, first, &p);
	if (p.level != 1)
		return false;
	switch (region_fit(gs, p.entry)) {
	case FIT_EMPTY:
		gspace_retire_table(gs, first, 0);
		return false;
	case FIT_IN_PLACE:
		return join_in_place(gs, first, &p);
	case FIT_COPY:
		unlink_region(gs, first);
		*copy = true;
		return false;
	default:
		return false;
	}
}

u32 gspace_rebuild(struct gspace *gs, u32 regions)
{
	bool copy = false;
	gfn_t first = 0;
	u32 done = 0;

	if (!gs->pt.fmt->large_ok[2] || READ_ONCE(gs->moving) != GFN_NONE)
		return 0;
	lock_acquire(&gs->lock);
	regions = MIN(regions, DIV_ROUND_UP(gs->pages, LARGE_PAGES));
	while (regions-- && !copy && !gs->dying) {
		first = gs->rebuild_at;
		done += look_at_region(gs, first, &copy);
		gs->rebuild_at = first + LARGE_PAGES < gs->pages ? first + LARGE_PAGES : 0;
	}
	lock_release(&gs->lock);
	if (copy)
		return done + rebuild_by_copy(gs, first);
	gspace_flush(gs);
	return done;
}
