/*
 * Guest-physical address spaces: pages that leave and come back. Victims, the swap transitions, the share transitions,
 * the accessed bit.
 */
#include "lib/err.h"
#include "lib/panic.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"
#include "mm/rmap.h"
#include "mm/share.h"

#define RANDOM_PROBES  16    /* of gspace_random_private before it searches */
#define SEARCH_ENTRIES 16384 /* that it then looks at, empty ones included */

/* ---- victims ------------------------------------------------------------- */

/* Shared once, but nobody else maps its frame any more: it may become private again. A look without a lock. */
static bool page_is_sole(const struct page *p)
{
	return p->state == PAGE_SHARED && READ_ONCE(frame_get(p->payload)->refs) == 1;
}

static bool page_is_candidate(const struct page *p)
{
	return (p->state == PAGE_PRIVATE && !(frame_get(p->payload)->flags & FRAME_F_IO)) || page_is_sole(p);
}

struct search {
	struct gspace *gs;
	bool shared; /* looks for a shared page */
	gfn_t found;
};

static bool search_page(void *arg, u64 addr, u64 *entry, u32 level)
{
	struct search *s = arg;
	struct page p;

	page_decode(s->gs->pt.fmt, entry, level, &p);
	if (s->shared ? p.state == PAGE_SHARED : page_is_candidate(&p))
		s->found = gpa_to_gfn(GPA(addr));
	return s->found == GFN_NONE;
}

/* Was the page used since this was last asked? */
static bool test_accessed(struct gspace *gs, const struct page *p)
{
	u64 bit = gs->pt.fmt->accessed;

	if (!state_present(p->state) || page_is_unmapped(gs, p) ||
	    !(__atomic_fetch_and(p->entry, ~bit, __ATOMIC_SEQ_CST) & bit))
		return false;
	gspace_mark_stale(gs);
	return true;
}

/*
 * Looks from page `start` on, and from the first one then; or, if the last search ended with nothing, where that did.
 */
static gfn_t search_from(struct search *s, gfn_t start)
{
	struct gspace *gs = s->gs;
	u64 end = (u64)gs->pages << PAGE_SHIFT, at = gfn_to_gpa(gs->search_at ? gs->search_at : start).v, first = at;
	u32 budget = SEARCH_ENTRIES;

	gspace_stop_rebuild(gs);
	at = pt_for_each_some(&gs->pt, at, end - at, &budget, search_page, s);
	if (s->found == GFN_NONE && at >= end)
		at = pt_for_each_some(&gs->pt, 0, first, &budget, search_page, s);
	gs->search_at = s->found == GFN_NONE ? gpa_to_gfn(GPA(at)) % gs->pages : 0;
	return s->found;
}

static gfn_t random_private_locked(struct gspace *gs, struct prng *rnd)
{
	struct search s = {.gs = gs, .found = GFN_NONE};
	gfn_t start = 0;

	if (!gs->count[PAGE_PRIVATE] && !gs->count[PAGE_SHARED])
		return GFN_NONE;
	for (u32 i = 0; i < RANDOM_PROBES; i++) {
		struct page p;

		start = prng_below(rnd, gs->pages);
		page_look(gs, start, &p);
		if (!page_is_candidate(&p))
			continue;
		if (!page_is_large(&p) || !test_accessed(gs, &p))
			return start;
		s.found = start; /* if there is nothing better: to be broken, a large page should be cold */
	}
	return s.found != GFN_NONE ? s.found : search_from(&s, start);
}

bool gspace_random_private(struct gspace *gs, struct prng *rnd, gfn_t *out)
{
	lock_acquire(&gs->lock);
	*out = random_private_locked(gs, rnd);
	lock_release(&gs->lock);
	return *out != GFN_NONE;
}

/* The fewer map a frame, the sooner it comes free. */
static gfn_t random_shared_locked(struct gspace *gs, struct prng *rnd)
{
	struct search s = {.gs = gs, .shared = true, .found = GFN_NONE};
	u32 least = RMAP_REFS_MAX + 1;
	u64 gfn = 0;

	if (!gs->count[PAGE_SHARED])
		return GFN_NONE;
	for (u32 i = 0; i < RANDOM_PROBES; i++) {
		struct page p;

		gfn = prng_below(rnd, gs->pages);
		page_look(gs, gfn, &p);
		if (p.state != PAGE_SHARED || READ_ONCE(frame_get(p.payload)->refs) >= least)
			continue;
		least = READ_ONCE(frame_get(p.payload)->refs);
		s.found = gfn;
	}
	return s.found != GFN_NONE ? s.found : search_from(&s, gfn);
}

bool gspace_random_shared(struct gspace *gs, struct prng *rnd, gfn_t *out)
{
	lock_acquire(&gs->lock);
	*out = random_shared_locked(gs, rnd);
	lock_release(&gs->lock);
	return *out != GFN_NONE;
}

/* ---- swap ---------------------------------------------------------------- */

/* gs->lock held. The page is *p, single. Its hint is left to the caller. */
static int swap_out_begin_locked(struct gspace *gs, gfn_t gfn, struct page *p)
{
	struct frame *f;

	if (p->state == PAGE_PINNED || p->state == PAGE_SWAPPING_OUT || p->state == PAGE_SWAPPING_IN)
		return E_BUSY;
	if (page_is_sole(p) && gspace_shared_is_sole(p->payload)) {
		gspace_change_from(gs, gfn, p, PAGE_PRIVATE, p->payload);
		page_look(gs, gfn, p);
	}
	if (p->state != PAGE_PRIVATE)
		return E_INVAL;
	f = frame_get(p->payload);
	if (f->flags & FRAME_F_CLEAN) {
		gspace_change_from(gs, gfn, p, PAGE_CLEAN, frame_block(f));
		gs->stats.clean_out++;
		return E_EXIST;
	}
	if (f->flags & FRAME_F_IO)
		return E_BUSY;           /* rescued, and its first transfer is still under way */
	(void)gspace_poor_locked(gs, p); /* the last look at the dirty bit */
	gspace_change_out(gs, gfn, p->entry, p->payload);
	f->flags |= FRAME_F_IO;
	return 0;
}

int gspace_swap_out_begin(struct gspace *gs, gfn_t gfn, hfn_t *hfn)
{
	struct page p;
	int err = E_PERM;

	if (gfn >= gs->pages)
		return E_INVAL;
	lock_acquire(&gs->lock);
	if (!gs->dying) {
		page_look_single(gs, gfn, &p);
		err = swap_out_begin_locked(gs, gfn, &p);
	}
	if (!err) {
		*hfn = p.payload;
		share_forget_hints(hfn, 1);
	}
	lock_release(&gs->lock);
	return err;
}

/* The page behind *p, which is single: its entry is the next one if that is in the same table. */
static void look_next(struct gspace *gs, gfn_t gfn, struct page *p)
{
	if (gfn == region_of(gfn))
		page_look_single(gs, gfn, p);
	else
		page_decode(gs->pt.fmt, p->entry + 1, 1, p);
}

u32 gspace_swap_out_begin_some(struct gspace *gs, gfn_t from, u32 look, u32 most, gfn_t *gfn, hfn_t *hfn)
{
	gfn_t end = from + MIN(look, gs->pages - from);
	struct page p;
	u32 n = 0;

	lock_acquire(&gs->lock);
	for (gfn_t at = from; at < end && n < most && !gs->dying; at++) {
		if (at == from || p.level > 1)
			page_look_single(gs, at, &p);
		else
			look_next(gs, at, &p);
		if (swap_out_begin_locked(gs, at, &p))
			continue;
		hfn[n] = p.payload;
		gfn[n++] = at;
	}
	share_forget_hints(hfn, n);
	lock_release(&gs->lock);
	return n;
}

bool gspace_swap_out_end(struct gspace *gs, gfn_t gfn, hfn_t hfn, struct page *p)
{
	struct frame *f = frame_get(hfn);

	CHECK(gfn < gs->pages && (f->flags & FRAME_F_IO));
	f->flags &= ~FRAME_F_IO;
	page_look(gs, gfn, p);
	if (p->state == PAGE_SWAPPING_OUT && p->payload == hfn)
		return true;
	if (f->state == FRAME_HV)
		gspace_dispose(gs, hfn, false);
	return false;
}

u64 gspace_swap_out_done_all(struct gspace *gs, u32 n, const gfn_t *gfn, const hfn_t *hfn, u32 slot)
{
	u64 done = 0;

	lock_acquire(&gs->lock);
	for (u32 i = 0; i < n; i++) {
		struct page p;

		if (!gspace_swap_out_end(gs, gfn[i], hfn[i], &p))
			continue;
		gspace_change_swapped(gs, gfn[i], p.entry, p.payload, slot + i);
		gs->stats.swap_out++;
		done |= BIT(i);
	}
	lock_release(&gs->lock);
	return done;
}

void gspace_swap_out_failed(struct gspace *gs, gfn_t gfn, hfn_t hfn)
{
	struct page p;

	lock_acquire(&gs->lock);
	if (gspace_swap_out_end(gs, gfn, hfn, &p))
		gspace_change_from(gs, gfn, &p, PAGE_PRIVATE, hfn);
	lock_release(&gs->lock);
	gspace_flush(gs);
}

bool gspace_swap_out_unchanged(struct gspace *gs, gfn_t gfn, hfn_t hfn, const struct digest *digest)
{
	u32 slot = SWAP_SLOT_NONE;
	bool same = false;
	struct page p;

	lock_acquire(&gs->lock);
	page_look(gs, gfn, &p);
	if (p.state == PAGE_SWAPPING_OUT && p.payload == hfn)
		slot = frame_copy(frame_get(hfn));
	if (slot != SWAP_SLOT_NONE) {
		same = swap_copy_good(gs, gfn, slot, digest);
		if (!same)
			gspace_copy_end(gs, hfn, SWAP_SLOT_NONE);
	}
	if (same && gspace_swap_out_end(gs, gfn, hfn, &p)) {
		gspace_change(gs, p.entry, gfn, PAGE_SWAPPED, slot);
		gs->stats.swap_out++;
		gs->stats.swap_unchanged++;
	}
	lock_release(&gs->lock);
	return same;
}

/* gs->lock held: is gfn still waiting for the transfer of hfn? Else that is over. */
static bool still_out(struct gspace *gs, gfn_t gfn, hfn_t hfn)
{
	struct page p;

	page_look(gs, gfn, &p);
	if (p.state == PAGE_SWAPPING_OUT && p.payload == hfn)
		return true;
	CHECK(!gspace_swap_out_end(gs, gfn, hfn, &p));
	return false;
}

static int out_zero_locked(struct gspace *gs, gfn_t gfn, hfn_t hfn)
{
	struct page p;

	if (!still_out(gs, gfn, hfn))
		return E_BUSY;
	if (!page_is_zero(mm_hfn_to_va(hfn)))
		return E_INVAL;
	CHECK(gspace_swap_out_end(gs, gfn, hfn, &p));
	gspace_change(gs, p.entry, gfn, PAGE_ZERO, frame_zero());
	gs->stats.zero_in++;
	return 0;
}

int gspace_out_zero(struct gspace *gs, gfn_t gfn, hfn_t hfn)
{
	int err;

	lock_acquire(&gs->lock);
	err = out_zero_locked(gs, gfn, hfn);
	lock_release(&gs->lock);
	return err;
}

static int out_merge_locked(struct gspace *gs, gfn_t gfn, hfn_t hfn, hfn_t with)
{
	struct page p;
	int err;

	if (!still_out(gs, gfn, hfn))
		return E_BUSY;
	if (!page_equal(mm_hfn_to_va(hfn), mm_hfn_to_va(with)))
		return E_INVAL;
	err = rmap_prepare(1);
	if (err)
		return err;
	CHECK(gspace_swap_out_end(gs, gfn, hfn, &p));
	gspace_change(gs, p.entry, gfn, PAGE_SHARED, with);
	gs->stats.shared_in++;
	return 0;
}

int gspace_out_merge(struct gspace *gs, gfn_t gfn, hfn_t hfn, hfn_t with)
{
	int err;

	CHECK(hfn != with);
	lock_acquire(&gs->lock);
	err = out_merge_locked(gs, gfn, hfn, with);
	lock_release(&gs->lock);
	return err;
}

/* Ends SWAPPING_IN, which nothing else can. */
static struct page swap_in_end(struct gspace *gs, gfn_t gfn)
{
	struct page p;

	CHECK(gfn < gs->pages);
	page_look(gs, gfn, &p);
	CHECK(p.state == PAGE_SWAPPING_IN);
	return p;
}

bool gspace_swap_in_done(struct gspace *gs, gfn_t gfn, hfn_t hfn, u32 slot)
{
	struct frame *f = frame_get(hfn);
	bool keep = slot < COPY_SLOTS_MAX;
	struct page p;

	CHECK(f->state == FRAME_HV);
	lock_acquire(&gs->lock);
	p = swap_in_end(gs, gfn);
	gspace_change_from(gs, gfn, &p, PAGE_PRIVATE, hfn);
	if (keep) {
		f->flags |= FRAME_F_COPY;
		f->pins = slot & UINT16_MAX;
		f->copy_high = slot >> 16;
		gs->swap_copies++;
		gs->proof.copies += gfn < gs->proof.at;
	}
	gs->stats.swap_in++;
	lock_release(&gs->lock);
	mm_wake(gs);
	return keep;
}

void gspace_swap_in_failed(struct gspace *gs, gfn_t gfn)
{
	struct page p;

	lock_acquire(&gs->lock);
	p = swap_in_end(gs, gfn);
	gspace_change(gs, p.entry, gfn, PAGE_SWAPPED, p.payload);
	lock_release(&gs->lock);
	mm_wake(gs);
}

struct shed {
	struct gspace *gs;
	u32 wanted; /* copies */
};

static bool shed_copy(void *arg, u64 addr, u64 *entry, u32 level)
{
	struct shed *s = arg;
	struct page p;

	(void)addr;
	page_decode(s->gs->pt.fmt, entry, level, &p);
	if (p.state == PAGE_PRIVATE && frame_get(p.payload)->flags & FRAME_F_COPY) {
		gspace_copy_end(s->gs, p.payload, SWAP_SLOT_NONE);
		s->wanted--;
	}
	return s->wanted;
}

void gspace_shed_copies(struct gspace *gs, u32 n)
{
	struct shed s = {.gs = gs, .wanted = n};
	u64 end = gfn_to_gpa(gs->pages).v, first, at;
	u32 budget = SEARCH_ENTRIES;

	lock_acquire(&gs->lock);
	if (n && gs->swap_copies) {
		gspace_stop_rebuild(gs);
		first = at = gfn_to_gpa(gs->copies_at).v;
		at = pt_for_each_some(&gs->pt, at, end - at, &budget, shed_copy, &s);
		if (s.wanted && at >= end)
			at = pt_for_each_some(&gs->pt, 0, first, &budget, shed_copy, &s);
		gs->copies_at = gpa_to_gfn(GPA(at)) % gs->pages;
	}
	lock_release(&gs->lock);
}

/* ---- sharing ------------------------------------------------------------- */

hfn_t gspace_private_hfn(struct gspace *gs, gfn_t gfn, bool large)
{
	struct page p;

	lock_assert_held(&gs->lock);
	if (gs->dying || gfn >= gs->pages)
		return HFN_NONE;
	page_look(gs, gfn, &p);
	if (page_is_large(&p)) {
		hfn_t head = p.payload - gfn % LARGE_PAGES;

		if (!large)
			return HFN_NONE;
		if (frame_get(head)->flags & FRAME_F_WHOLE)
			frame_break(head);
	}
	if (page_is_sole(&p) && gspace_shared_is_sole(p.payload)) {
		gspace_change(gs, p.entry, gfn, PAGE_PRIVATE, p.payload);
		return p.payload;
	}
	return p.state == PAGE_PRIVATE && page_is_candidate(&p) ? p.payload : HFN_NONE;
}

static int unshare_locked(struct gspace *gs, gfn_t gfn)
{
	struct page p;
	hfn_t hfn;

	if (gspace_private_hfn(gs, gfn, true) != HFN_NONE)
		return 0;
	if (gs->dying || gfn >= gs->pages)
		return E_INVAL;
	page_look(gs, gfn, &p);
	if (p.state != PAGE_SHARED)
		return E_INVAL;
	hfn = frame_alloc(0, FRAME_FOR_TABLE, FRAME_GUEST, false);
	if (hfn == HFN_NONE)
		return E_NOMEM;
	page_copy(mm_hfn_to_va(hfn), mm_hfn_to_va(p.payload));
	gspace_change(gs, p.entry, gfn, PAGE_PRIVATE, hfn);
	return 0;
}

int gspace_unshare(struct gspace *gs, gfn_t gfn)
{
	int err;

	lock_acquire(&gs->lock);
	err = unshare_locked(gs, gfn);
	lock_release(&gs->lock);
	return err;
}

static int protect_locked(struct gspace *gs, gfn_t gfn, hfn_t hfn, bool hinted)
{
	struct page p;
	int err;

	if (gspace_private_hfn(gs, gfn, true) != hfn || hfn == HFN_NONE)
		return E_INVAL;
	if (hinted && !(frame_get(hfn)->flags & FRAME_F_HINT))
		return E_INVAL;
	err = rmap_prepare(1);
	if (err)
		return err;
	page_look_single(gs, gfn, &p);
	gspace_change(gs, p.entry, gfn, PAGE_SHARED, hfn);
	return 0;
}

int gspace_share_protect(struct gspace *gs, gfn_t gfn, hfn_t hfn, bool hinted)
{
	int err;

	lock_acquire(&gs->lock);
	err = protect_locked(gs, gfn, hfn, hinted);
	lock_release(&gs->lock);
	gspace_flush(gs);
	return err;
}

/* Is gfn still as share_protect() left it? Then its frame stands in no share entry, and its content is fixed. */
static bool still_protected(struct gspace *gs, gfn_t gfn, hfn_t hfn, struct page *p)
{
	page_look(gs, gfn, p);
	return p->state == PAGE_SHARED && p->payload == hfn && rmap_refs(hfn) == 1;
}

/*
 * The entry comes first: as soon as the lock is free a write may take the frame away, which ends the entry it has by
 * then.
 */
static int move_locked(struct gspace *gs, gfn_t gfn, hfn_t from, hfn_t to, u64 hash)
{
	struct page p;
	int err;

	if (gs->dying || !still_protected(gs, gfn, from, &p))
		return E_AGAIN;
	err = rmap_prepare(1);
	if (err)
		return err;
	if (!share_enter(hash, to)) {
		rmap_cancel(1);
		return E_NOMEM;
	}
	page_copy(mm_hfn_to_va(to), mm_hfn_to_va(from));
	gspace_change(gs, p.entry, gfn, PAGE_SHARED, to);
	return 0;
}

int gspace_share_move(struct gspace *gs, gfn_t gfn, hfn_t from, hfn_t to, u64 hash)
{
	int err;

	lock_acquire(&gs->lock);
	err = move_locked(gs, gfn, from, to, hash);
	lock_release(&gs->lock);
	gspace_flush(gs);
	return err;
}

static int merge_locked(struct gspace *gs, gfn_t gfn, hfn_t own, hfn_t with)
{
	struct page p;
	int err;

	if (gs->dying || !still_protected(gs, gfn, own, &p))
		return E_AGAIN;
	if (!page_equal(mm_hfn_to_va(own), mm_hfn_to_va(with)))
		return E_INVAL;
	err = rmap_prepare(1);
	if (err)
		return err;
	gspace_change(gs, p.entry, gfn, PAGE_SHARED, with);
	gs->stats.shared_in++;
	return 0;
}

int gspace_share_merge(struct gspace *gs, gfn_t gfn, hfn_t own, hfn_t with)
{
	int err;

	CHECK(own != with);
	lock_acquire(&gs->lock);
	err = merge_locked(gs, gfn, own, with);
	lock_release(&gs->lock);
	gspace_flush(gs);
	return err;
}

void gspace_share_undo(struct gspace *gs, gfn_t gfn, hfn_t hfn)
{
	struct page p;

	lock_acquire(&gs->lock);
	if (still_protected(gs, gfn, hfn, &p) && gspace_shared_is_sole(hfn))
		gspace_change(gs, p.entry, gfn, PAGE_PRIVATE, hfn);
	lock_release(&gs->lock);
}

void gspace_share_drop(struct gspace *gs, hfn_t hfn)
{
	if (rmap_drop(hfn))
		return;
	lock_acquire(&gs->lock);
	share_forget_shared(hfn);
	gspace_dispose(gs, hfn, true);
	lock_release(&gs->lock);
	gspace_flush(gs);
}

/* PRIVATE with zero content, as far as one can tell while the guest may write. */
static hfn_t looks_zero(struct gspace *gs, gfn_t gfn)
{
	hfn_t hfn;

	lock_acquire(&gs->lock);
	hfn = gspace_private_hfn(gs, gfn, true);
	if (hfn != HFN_NONE && !page_is_zero(mm_hfn_to_va(hfn)))
		hfn = HFN_NONE;
	lock_release(&gs->lock);
	return hfn;
}

int gspace_share_zero(struct gspace *gs, gfn_t gfn)
{
	hfn_t hfn = looks_zero(gs, gfn);
	bool zero = false;
	struct page p;
	int err;

	err = gspace_share_protect(gs, gfn, hfn, false);
	if (err)
		return err;
	lock_acquire(&gs->lock);
	if (!gs->dying && still_protected(gs, gfn, hfn, &p) && page_is_zero(mm_hfn_to_va(hfn))) {
		gspace_change(gs, p.entry, gfn, PAGE_ZERO, frame_zero());
		gs->stats.zero_in++;
		zero = true;
	}
	lock_release(&gs->lock);
	if (!zero)
		gspace_share_undo(gs, gfn, hfn);
	gspace_flush(gs);
	return zero ? 0 : E_INVAL;
}

/* ---- working set --------------------------------------------------------- */

int gspace_test_accessed(struct gspace *gs, gfn_t gfn, bool *accessed)
{
	struct page p;

	*accessed = false;
	if (!gs->pt.fmt->accessed)
		return E_NOSYS;
	if (gfn >= gs->pages)
		return E_INVAL;
	lock_acquire(&gs->lock);
	page_look(gs, gfn, &p);
	*accessed = test_accessed(gs, &p);
	lock_release(&gs->lock);
	return 0;
}
