/*
 * The proof that page states, counts, frame entries and the reverse map agree. For the debug command and tests: walks
 * everything, under the lock of the space it looks at.
 */
#include "lib/log.h"
#include "lib/panic.h"
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/rmap.h"
#include "mm/swap.h"
#include "mm/zip.h"

struct proof {
	struct gspace *gs;
	u32 count[PAGE_STATES];
	u32 large; /* leaves */
	u32 copies;    /* pages that still have a slot */
	u32 in_blocks; /* swapped in blocks of compressed pages */
	u64 bad;
};

static void complain(struct proof *v, gfn_t gfn, const struct page *p, const char *what)
{
	if (!v->bad++)
		log_error("gspace", "%s gfn %#x (%s, payload %#x): %s", v->gs->name, gfn, page_state_name(p->state),
			  p->payload, what);
}

/* A frame that the space has for itself. */
static const char *wrong_own(const struct gspace *gs, gfn_t gfn, const struct page *p, const struct frame *f)
{
	if (f->state != FRAME_GUEST || f->owner != gs->id || f->gfn != gfn)
		return "its frame belongs to another";
	if (f->flags & FRAME_F_COPY ? p->state != PAGE_PRIVATE && p->state != PAGE_SWAPPING_OUT
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

	return !(prot & PT_W) != !state_writable(p->state) ? "wrong protection" : NULL;
}

static bool verify_page(void *arg, u64 addr, u64 *entry, u32 level)
{
	struct proof *v = arg;
	gfn_t gfn = gpa_to_gfn(GPA(addr));
	const char *wrong = NULL;
	struct page p;

	page_decode(v->gs->pt.fmt, entry, level, &p);
	v->count[p.state] += level > 1 ? LARGE_PAGES : 1;
	v->large += page_is_large(&p);
	if (state_present(p.state) && !page_is_unmapped(v->gs, &p))
		wrong = wrong_prot(v->gs->pt.fmt, &p);
	if (p.state == PAGE_ZERO && p.payload != frame_zero())
		wrong = "not the zero frame";
	if (p.state == PAGE_COMPRESSED)
		wrong = zip_wrong(v->gs, gfn, p.payload, true);
	if (p.state == PAGE_SWAPPED && p.payload & SWAP_PACKED) {
		v->in_blocks++;
		wrong = zip_wrong(v->gs, gfn, p.payload & ~SWAP_PACKED, false);
	}
	if (p.state == PAGE_SHARED && !wrong)
		wrong = wrong_shared(v->gs, gfn, &p, frame_get(p.payload));
	else if (page_is_large(&p) && !wrong)
		wrong = wrong_block(v->gs, gfn, &p);
	else if (state_has_frame(p.state) && !wrong)
		wrong = wrong_own(v->gs, gfn, &p, frame_get(p.payload));
	if (state_has_frame(p.state) && p.state != PAGE_SHARED && level == 1)
		v->copies += (frame_get(p.payload)->flags & FRAME_F_COPY) != 0;
	if (wrong)
		complain(v, gfn, &p, wrong);
	return true;
}

static void verify_counts(struct proof *v)
{
	u64 sum = 0;

	for (u32 s = 0; s < PAGE_STATES; s++) {
		sum += v->gs->count[s];
		if (v->count[s] == v->gs->count[s])
			continue;
		v->bad++;
		log_error("gspace", "%s: %u pages are %s, counted %u", v->gs->name, v->count[s], page_state_name(s),
			  v->gs->count[s]);
	}
	if (v->copies != v->gs->swap_copies) {
		v->bad++;
		log_error("gspace", "%s: %u pages have a slot, counted %u", v->gs->name, v->copies, v->gs->swap_copies);
	}
	if (sum == v->gs->pages)
		return;
	v->bad++;
	log_error("gspace", "%s: states add up to %lu of %u pages", v->gs->name, sum, v->gs->pages);
}

/* Each large leaf is counted, and has its spare. */
static void verify_large(struct proof *v)
{
	u32 spares = 0;

	for (hfn_t h = v->gs->spares; h != HFN_NONE && spares <= v->large; h = frame_get(h)->next)
		spares += frame_get(h)->state == FRAME_TABLE && frame_get(h)->owner == v->gs->id;
	if (v->large == v->gs->large && spares == v->large)
		return;
	v->bad++;
	log_error("gspace", "%s: %u large pages, counted %u, spare tables %u", v->gs->name, v->large, v->gs->large,
		  spares);
}

/* Each compressed page, in RAM or not, has one entry; the pool is sound. */
static void verify_zip(struct proof *v)
{
	u64 bad = zpool_verify(&v->gs->zip);
	u32 pages = v->count[PAGE_COMPRESSED] + v->in_blocks;

	if (!bad && v->gs->zip.entries == pages)
		return;
	v->bad += bad + 1;
	log_error("gspace", "%s: %u compressed pages, %u entries, %lu faults in their pool", v->gs->name, pages,
		  v->gs->zip.entries, bad);
}

u64 gspace_verify(struct gspace *gs)
{
	struct proof v = {.gs = gs};
	u32 seen = 0;

	lock_acquire(&gs->lock);
	gspace_stop_rebuild(gs);
	pt_for_each(&gs->pt, 0, (u64)gs->pages << PAGE_SHIFT, verify_page, &v);
	for (u32 s = 0; s < PAGE_STATES; s++)
		seen += v.count[s];
	v.count[PAGE_ABSENT] = gs->pages - seen;
	verify_counts(&v);
	verify_large(&v);
	verify_zip(&v);
	lock_release(&gs->lock);
	return v.bad;
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
