/*
 * Guest-physical address spaces: touched pages that come back from the pool of compressed ones, or from swap with those
 * behind them if the guest goes through them in order.
 */
#include "lib/err.h"
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/gspace_touch.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "mm/zip.h"

#define AHEAD_MAX 8U /* pages read for one touch: as many as go out from one place */

int touch_compressed(struct touch *t)
{
	hfn_t hfn = touch_frame(t, FRAME_GUEST, false);
	int err;

	if (hfn == HFN_NONE)
		return E_AGAIN;
	err = zip_load(t->gs, t->gfn, t->p.payload, mm_hfn_to_va(hfn));
	if (err) {
		frame_free(hfn, 0);
		return err;
	}
	gspace_change(t->gs, t->p.entry, t->gfn, PAGE_PRIVATE, hfn);
	t->gs->stats.zip_out++;
	return 0;
}

/* The block comes as a whole. Then the page is compressed, and the touch is repeated. */
static int touch_packed(struct touch *t)
{
	struct zpool *z = &t->gs->zip;
	u32 block, slot;
	hfn_t hfn;
	int err;

	if (!zpool_away(z, t->p.payload & ~SWAP_PACKED, &block, &slot))
		return E_AGAIN; /* on its way */
	hfn = touch_frame(t, FRAME_HV, false);
	if (hfn == HFN_NONE)
		return E_AGAIN;
	err = swap_in_block(t->gs, t->gfn, block, slot, hfn);
	if (err) {
		frame_free(hfn, 0);
		return err == E_AGAIN || err == E_NOMEM ? E_AGAIN : E_IO;
	}
	zpool_read_begin(z, block, hfn);
	return E_AGAIN;
}

/* gfn is what is touched, or a page read ahead. */
static int read_swapped(struct touch *t, const struct page *p, gfn_t gfn)
{
	hfn_t hfn = touch_frame(t, FRAME_HV, false);
	int err;

	if (hfn == HFN_NONE)
		return E_AGAIN;
	err = swap_in_start(t->gs, gfn, p->payload, hfn, gfn != t->gfn);
	if (err) {
		frame_free(hfn, 0);
		return err == E_AGAIN || err == E_NOMEM ? E_AGAIN : E_IO;
	}
	gspace_change(t->gs, p->entry, gfn, PAGE_SWAPPING_IN, p->payload);
	return 0;
}

/* How many pages the guest seems to want from gfn on: twice as many as long as it comes back for just the next one. */
static u32 ahead_window(struct gspace *gs, gfn_t gfn)
{
	gs->ahead = gfn == gs->ahead_next ? MIN(gs->ahead * 2, AHEAD_MAX) : 1;
	return gs->ahead;
}

/* For pages that nobody has asked for: they should not cost others. */
static bool has_room(const struct gspace *gs)
{
	return reclaim_state_now() < RECLAIM_LOW && gspace_consumed(gs) < READ_ONCE(gs->target);
}

/* Pages that went out together lie together: those behind gfn come with it if the guest goes through them in order. */
static void read_ahead(struct touch *t, u32 slot)
{
	u32 window = ahead_window(t->gs, t->gfn), n = 1;

	for (; n < window && t->gfn + n < t->gs->pages && has_room(t->gs); n++) {
		struct page p;

		page_look(t->gs, t->gfn + n, &p);
		if (p.state != PAGE_SWAPPED || p.payload != slot + n || read_swapped(t, &p, t->gfn + n))
			break;
		t->gs->stats.swap_ahead++;
	}
	t->gs->ahead_next = t->gfn + n;
}

int touch_swapped(struct touch *t)
{
	u32 slot = t->p.payload;
	int err;

	if (slot & SWAP_PACKED)
		return touch_packed(t);
	err = read_swapped(t, &t->p, t->gfn);
	if (err)
		return err;
	read_ahead(t, slot);
	return E_AGAIN;
}
