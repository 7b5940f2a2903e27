/*
 * The proof that page states, counts, frame entries and the reverse map agree. For the debug command and tests: walks
 * everything, under the lock of the space it looks at.
 */
#include "lib/log.h"
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/rmap.h"
#include "mm/swap.h"
#include "mm/zip.h"

static void complain(struct gspace *gs, gfn_t gfn, const struct page *p, const char *what)
{
	if (!gs->proof.bad++)
		log_error("gspace", "%s gfn %#x (%s, payload %#x): %s", gs->name, gfn, page_state_name(p->state),
			  p->payload, what);
}

/* A frame that the space has for itself. */
static const char *wrong_own(const struct gspace *gs, gfn_t gfn, const struct page *p, const struct frame *f)
{
	if (f->state != FRAME_GUEST || f->owner != gs->id || f->gfn != gfn)
		return "its frame belongs to another";
	if (f->flags & FRAME_F_CLEAN &&
	    (p->state != PAGE_PRIVATE || f->flags & FRAME_F_COPY || frame_block(f) >= gs->disk.pages))
		return "a mark that cannot be";
	if (f->flags & FRAME_F_COPY    ? p->state != PAGE_PRIVATE && p->state != PAGE_SWAPPING_OUT
	    : f->flags & FRAME_F_CLEAN ? false
				       : (p->state == PAGE_PINNED) != (f->pins > 0))
		return "pins do not fit the state";
	if (p->state == PAGE_SWAPPING_OUT && !(f->flags & FRAME_F_IO))
		return "no transfer uses its frame";
	if (p->state != PAGE_PRIVATE && (f->flags & FRAME_F_HINT))
		return "has a hint";
	if (!(f->flags & FRAME_F_HINT) != !f->share)
		return "hint and share entry do not fit";
	return NULL;
}

static const char *wrong_shared(const struct gspace *gs, gfn_t gfn, const struct page *p, const struct frame *f)
{
	if (f->state != FRAME_SHARED || f->flags)
		return "its frame is not shared";
	if (!rmap_has(p->payload, gs->id, gfn))
		return "not in the reverse map";
	return NULL;
}

/* A block that a large leaf maps: one entry for all, or one for each frame. */
static const char *wrong_block(const struct gspace *gs, gfn_t first, const struct page *p)
{
	const struct frame *head = frame_get(p->payload);
	const char *wrong = NULL;

	if (p->payload % LARGE_PAGES || first % LARGE_PAGES || first + LARGE_PAGES > gs->pages)
		return "a large page out of place";
	if (head->flags & FRAME_F_WHOLE)
		return head->state != FRAME_GUEST || head->owner != gs->id || head->gfn != first || head->pins ||
			       head->order != FRAME_ORDER_LARGE || head->flags != FRAME_F_WHOLE
			   ? "its block belongs to another"
			   : NULL;
	for (u32 i = 0; i < LARGE_PAGES && !wrong; i++) {
		wrong = wrong_own(gs, first + i, p, head + i);
		if (head[i].flags & ~FRAME_F_HINT)
			wrong = "a frame of a large page is in use otherwise";
	}
	return wrong;
}

static const char *wrong_prot(const struct pt_format *f, const struct page *p)
{
	u32 prot = f->leaf_prot(*p->entry, p->level);
	bool marked = p->level == 1 && p->state == PAGE_PRIVATE && frame_get(p->payload)->flags & FRAME_F_CLEAN;

	return !(prot & PT_W) != (!state_writable(p->state) || marked) ? "wrong protection" : NULL;
}

static bool verify_page(void *arg, u64 addr, u64 *entry, u32 level)
{
	struct gspace *gs = arg;
	struct gspace_proof *v = &gs->proof;
	gfn_t gfn = gpa_to_gfn(GPA(addr));
	const char *wrong = NULL;
	struct page p;

	page_decode(gs->pt.fmt, entry, level, &p);
	v->count[p.state] += level > 1 ? LARGE_PAGES : 1;
	v->large += page_is_large(&p);
	if (state_present(p.state) && !page_is_unmapped(gs, &p))
		wrong = wrong_prot(gs->pt.fmt, &p);
	if (p.state == PAGE_ZERO && p.payload != frame_zero())
		wrong = "not the zero frame";
	if (p.state == PAGE_COMPRESSED)
		wrong = zip_wrong(gs, gfn, p.payload, true);
	if (p.state == PAGE_SWAPPING_IN && p.payload & PAGE_FROM_DISK)
		v->from_disk++;
	if (p.state == PAGE_CLEAN && p.payload >= gs->disk.pages)
		wrong = "not on its disk";
	if (p.state == PAGE_SWAPPED && p.payload & SWAP_PACKED) {
		v->in_blocks++;
		wrong = zip_wrong(gs, gfn, p.payload & ~SWAP_PACKED, false);
	}
	if (p.state == PAGE_SHARED && !wrong)
		wrong = wrong_shared(gs, gfn, &p, frame_get(p.payload));
	else if (page_is_large(&p) && !wrong)
		wrong = wrong_block(gs, gfn, &p);
	else if (state_has_frame(p.state) && !wrong)
		wrong = wrong_own(gs, gfn, &p, frame_get(p.payload));
	if (state_has_frame(p.state) && p.state != PAGE_SHARED && level == 1) {
		v->copies += (frame_get(p.payload)->flags & FRAME_F_COPY) != 0;
		v->marks += (frame_get(p.payload)->flags & FRAME_F_CLEAN) != 0;
	}
	if (wrong)
		complain(gs, gfn, &p, wrong);
	return true;
}

static void verify_counts(struct gspace *gs)
{
	struct gspace_proof *v = &gs->proof;
	u64 sum = 0, seen = 0;

	v->count[PAGE_ABSENT] = 0;
	for (u32 s = 0; s < PAGE_STATES; s++)
		seen += v->count[s];
	v->count[PAGE_ABSENT] = gs->pages - (u32)seen;
	for (u32 s = 0; s < PAGE_STATES; s++) {
		sum += gs->count[s];
		if (v->count[s] == gs->count[s])
			continue;
		v->bad++;
		log_error("gspace", "%s: %u pages are %s, counted %u", gs->name, v->count[s], page_state_name(s),
			  gs->count[s]);
	}
	if (v->copies != gs->swap_copies) {
		v->bad++;
		log_error("gspace", "%s: %u pages have a slot, counted %u", gs->name, v->copies, gs->swap_copies);
	}
	if (v->marks != gs->clean_marks || v->from_disk != gs->clean_reads) {
		v->bad++;
		log_error("gspace", "%s: %u pages are marked clean, counted %u; %u are read from its disk, counted %u",
			  gs->name, v->marks, gs->clean_marks, v->from_disk, gs->clean_reads);
	}
	if (sum == gs->pages)
		return;
	v->bad++;
	log_error("gspace", "%s: states add up to %lu of %u pages", gs->name, sum, gs->pages);
}

static u64 large_changes(const struct gspace *gs)
{
	return gs->stats.large_fills + gs->stats.large_splits + gs->stats.large_rebuilt + gs->stats.balloon_out;
}

/* Each large leaf is counted, and has its spare. Leaves that came or went since the begin are not followed. */
static void verify_large(struct gspace *gs)
{
	bool followed = gs->proof.large_changes == large_changes(gs);
	u32 spares = 0;

	for (hfn_t h = gs->spares; h != HFN_NONE && spares <= gs->large; h = frame_get(h)->next)
		spares += frame_get(h)->state == FRAME_TABLE && frame_get(h)->owner == gs->id;
	if ((!followed || gs->proof.large == gs->large) && spares == gs->large)
		return;
	gs->proof.bad++;
	log_error("gspace", "%s: %u large pages, counted %u, spare tables %u", gs->name, gs->proof.large, gs->large,
		  spares);
}

/* Each compressed page, in RAM or not, has one entry; the pool is sound. */
static void verify_zip(struct gspace *gs)
{
	u32 pages = gs->proof.count[PAGE_COMPRESSED] + gs->proof.in_blocks;
	u64 bad = zpool_verify_end(&gs->zip);

	if (!bad && gs->zip.entries == pages)
		return;
	gs->proof.bad += bad + 1;
	log_error("gspace", "%s: %u compressed pages, %u entries, %lu faults in their pool", gs->name, pages,
		  gs->zip.entries, bad);
}

static void begin(struct gspace *gs)
{
	gs->proof = (struct gspace_proof){.large_changes = large_changes(gs)};
	zpool_verify_begin(&gs->zip);
}

/* The table's entries are what they say only while no region is being rebuilt. */
static void walk_to(struct gspace *gs, gfn_t end)
{
	gfn_t at = gs->proof.at;

	gspace_stop_rebuild(gs);
	pt_for_each(&gs->pt, (u64)at << PAGE_SHIFT, (u64)(end - at) << PAGE_SHIFT, verify_page, gs);
	gs->proof.at = end;
}

static u64 finish(struct gspace *gs)
{
	gspace_stop_rebuild(gs);
	verify_counts(gs);
	verify_large(gs);
	verify_zip(gs);
	gs->proof.at = 0;
	return gs->proof.bad;
}

u64 gspace_verify(struct gspace *gs)
{
	u64 bad;

	lock_acquire(&gs->lock);
	begin(gs);
	walk_to(gs, gs->pages);
	bad = finish(gs);
	lock_release(&gs->lock);
	return bad;
}

void gspace_verify_begin(struct gspace *gs)
{
	lock_acquire(&gs->lock);
	begin(gs);
	lock_release(&gs->lock);
}

bool gspace_verify_some(struct gspace *gs, u32 regions)
{
	bool more;

	lock_acquire(&gs->lock);
	if (gs->proof.at < gs->pages) {
		walk_to(gs, (gfn_t)MIN(region_of(gs->proof.at) + (u64)regions * LARGE_PAGES, (u64)gs->pages));
		more = true;
	} else {
		more = zpool_verify_some(&gs->zip, regions * LARGE_PAGES);
	}
	lock_release(&gs->lock);
	return more;
}

u64 gspace_verify_end(struct gspace *gs)
{
	u64 bad;

	lock_acquire(&gs->lock);
	if (gs->proof.at < gs->pages) /* it has grown since the last piece */
		walk_to(gs, gs->pages);
	bad = finish(gs);
	lock_release(&gs->lock);
	return bad;
}

/* ---- host-wide ----------------------------------------------------------- */

static u64 expect(const char *what, u64 is, u64 should)
{
	if (is == should)
		return 0;
	log_error("gspace", "%s: %lu, should be %lu", what, is, should);
	return 1;
}

static u64 sum_of_refs(void)
{
	u64 refs = 0;
	hfn_t span = frame_span();

	for (hfn_t h = 0; h < span; h++)
		if (frame_get(h)->state == FRAME_SHARED)
			refs += rmap_refs(h);
	return refs;
}

u64 gspace_verify_all(void)
{
	u64 sum[PAGE_STATES] = {0}, host[PAGE_STATES];
	u64 bad = 0, zip_frames = 0;

	for (struct gspace *gs = gspace_next(NULL); gs; gs = gspace_next(gs)) {
		bad += gspace_verify(gs);
		zip_frames += gs->zip.frames;
		for (u32 s = 0; s < PAGE_STATES; s++)
			sum[s] += gs->count[s];
	}
	gspace_host_counts(host);
	for (u32 s = 0; s < PAGE_STATES; s++)
		bad += expect(page_state_name(s), host[s], sum[s]);
	bad += expect("references to shared frames", sum_of_refs(), sum[PAGE_SHARED]);
	bad += expect("reverse-map nodes", rmap_nodes(), sum[PAGE_SHARED]);
	bad += expect("mappers of the zero frame", frame_get(frame_zero())->refs, sum[PAGE_ZERO]);
	bad += expect("frames of compressed pages", frame_state_count(FRAME_ZIP), zip_frames);
	bad += expect("guest frames", frame_state_count(FRAME_GUEST),
		      sum[PAGE_PRIVATE] + sum[PAGE_PINNED] + sum[PAGE_SWAPPING_OUT]);
	return bad;
}
