/*
 * Guest-physical address spaces: the state of each page, and the one function that changes it. Around it stand the
 * operations, each of them: take the lock, look at the page, prepare what may fail (tables, frames, reverse-map nodes),
 * change. They are in
 *  - gspace_touch.c (faults, copy-on-write) and gspace_back.c (what a touch brings back); gspace_access.c (copies,
 *    pins);
 *  - gspace_balloon.c; gspace_move.c (swap and share transitions); gspace_zip.c; gspace_clean.c; gspace_sample.c;
 *  - gspace_large.c (2 MiB regions); gspace_life.c (beginning and end); gspace_flush.c; gspace_verify.c.
 *
 * gspace_change() and gspace_change_large() are the only writers of leaf and token entries.
 *
 * A mapped page that gets a frame of its own (copy-on-write, the first write to a zero page) would for a moment be two
 * pages for a guest on several CPUs: one vCPU writes to the new frame, another still reads the old. So with
 * `concurrent` set the entry is empty until a shootdown has ended; it waits with the lock held, which it may
 * (arch/x86/tlb.h, rule 4), and who touches the page meanwhile waits for the lock. Changes from one read-only frame to
 * another need none of that: both hold the same bytes, and the next write comes after a shootdown that covers them.
 *
 * A frame's references can grow only through its entry in the share table. So who wants a shared frame for itself takes
 * the entry out first and counts afterwards.
 */
#include "mm/gspace.h"

#include "lib/panic.h"
#include "lib/platform.h"
#include "mm/frame.h"
#include "mm/gspace_change.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"
#include "mm/rmap.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zip.h"

struct gspace_changed gspace_changed[MM_CPUS];
u64 gspace_host_shared;

/* ---- entries ------------------------------------------------------------- */

static const u8 tag_state[TAGS] = {
    [TAG_PRIVATE] = PAGE_PRIVATE,
    [TAG_ZERO] = PAGE_ZERO,
    [TAG_SHARED] = PAGE_SHARED,
    [TAG_PINNED] = PAGE_PINNED,
};
static const u8 token_state[PT_TOKEN_KINDS] = {
    [TOKEN_BALLOONED] = PAGE_BALLOONED,
    [TOKEN_COMPRESSED] = PAGE_COMPRESSED,
    [TOKEN_SWAPPED] = PAGE_SWAPPED,
    [TOKEN_SWAPPING_OUT] = PAGE_SWAPPING_OUT,
    [TOKEN_SWAPPING_IN] = PAGE_SWAPPING_IN,
    [TOKEN_CLEAN] = PAGE_CLEAN,
    [TOKEN_WATCHED + TAG_PRIVATE] = PAGE_PRIVATE,
    [TOKEN_WATCHED + TAG_ZERO] = PAGE_ZERO,
    [TOKEN_WATCHED + TAG_SHARED] = PAGE_SHARED,
    [TOKEN_WATCHED + TAG_PINNED] = PAGE_PINNED,
};

static const char *const state_name[PAGE_STATES] = {
    [PAGE_ABSENT] = "absent",
    [PAGE_PRIVATE] = "private",
    [PAGE_ZERO] = "zero",
    [PAGE_SHARED] = "shared",
    [PAGE_BALLOONED] = "ballooned",
    [PAGE_COMPRESSED] = "compressed",
    [PAGE_SWAPPED] = "swapped",
    [PAGE_SWAPPING_OUT] = "swapping-out",
    [PAGE_SWAPPING_IN] = "swapping-in",
    [PAGE_PINNED] = "pinned",
    [PAGE_CLEAN] = "clean",
};

const char *page_state_name(enum page_state s)
{
	return s < PAGE_STATES ? state_name[s] : "?";
}

u64 page_encode_marked(const struct gspace *gs, hfn_t hfn)
{
	return pt_leaf(gs->pt.fmt, hfn_to_hpa(hfn), gs->leaf_read, TAG_PRIVATE);
}

void page_decode(const struct pt_format *f, u64 *entry, u32 level, struct page *p)
{
	u64 e = READ_ONCE(*entry);

	*p = (struct page){.entry = entry, .level = level, .state = PAGE_ABSENT};
	if (!e)
		return;
	CHECK(level <= 2);
	if (pt_entry_present(f, e)) {
		p->state = tag_state[pt_entry_tag(f, e)];
		p->payload = hpa_to_hfn(pt_entry_hpa(f, e, level));
	} else {
		p->state = token_state[pt_token_kind(e)];
		p->payload = pt_token_payload(e);
	}
	CHECK(level == 1 ? p->state != PAGE_ABSENT : p->state == PAGE_PRIVATE || p->state == PAGE_BALLOONED);
}

void page_look(struct gspace *gs, gfn_t gfn, struct page *p)
{
	u32 level;
	u64 *entry;

	lock_assert_held(&gs->lock);
	if (unlikely(gs->moving == region_of(gfn)))
		gspace_stop_rebuild(gs);
	entry = pt_find_near(&gs->pt, gfn_to_gpa(gfn).v, &level);
	page_decode(gs->pt.fmt, entry, level, p);
	if (page_is_large(p))
		p->payload += gfn % LARGE_PAGES;
}

void page_look_single(struct gspace *gs, gfn_t gfn, struct page *p)
{
	page_look(gs, gfn, p);
	if (!page_is_large(p))
		return;
	gspace_split(gs, gfn);
	page_look(gs, gfn, p);
}

/* ---- changing a page's state --------------------------------------------- */

void count_zero_map(hfn_t zero, s32 n)
{
	__atomic_fetch_add(&frame_get(zero)->refs, (u32)n, __ATOMIC_RELAXED);
}

void gspace_copy_end(struct gspace *gs, hfn_t hfn, u32 used)
{
	struct frame *f = frame_get(hfn);
	u32 slot = frame_copy(f);

	f->flags &= ~FRAME_F_COPY;
	f->pins = f->copy_high = 0;
	gs->swap_copies--;
	gs->proof.copies -= f->gfn < gs->proof.at;
	if (slot != used)
		swap_slot_free(slot);
}

void page_leave(struct gspace *gs, gfn_t gfn, enum page_state from, u32 payload, enum page_state to, bool kept)
{
	u32 left = 0;

	switch (from) {
	case PAGE_PRIVATE:
		if (frame_get(payload)->flags & FRAME_F_HINT)
			share_forget_hint(payload);
		break;
	case PAGE_ZERO:
		count_zero_map(payload, -1);
		break;
	case PAGE_SHARED:
		left = rmap_remove(payload, gs->id, gfn);
		CHECK(!kept || !left);
		if (!left)
			share_forget_shared(payload);
		break;
	case PAGE_COMPRESSED:
		if (to != PAGE_SWAPPED)
			zip_drop(gs, payload, to == PAGE_PRIVATE);
		break;
	case PAGE_SWAPPED:
		if (payload & SWAP_PACKED && to != PAGE_COMPRESSED)
			zip_drop(gs, payload & ~SWAP_PACKED, false);
		else if (!(payload & SWAP_PACKED) && to != PAGE_SWAPPING_IN)
			swap_slot_free(payload);
		break;
	default:
		break;
	}
	if (state_has_frame(from) && !kept && !left)
		gspace_dispose(gs, payload, from == PAGE_SHARED);
}

void gspace_count(struct gspace *gs, enum page_state s, s32 n)
{
	count_pages(gs, my_changes(), s, n);
}

__attribute__((noinline)) void page_unmap_everywhere(struct gspace *gs, u64 *entry)
{
	pt_exchange(entry, 0);
	gs->tlb_gen++;
	mm_tlb_shootdown(gs);
}

void gspace_change_from(struct gspace *gs, gfn_t gfn, const struct page *was, enum page_state to, u32 payload)
{
	lock_assert_held(&gs->lock);
	CHECK(was->level == 1 && to != PAGE_SWAPPING_OUT);
	page_change(gs, was->entry, gfn, was, to, payload);
}

void gspace_change(struct gspace *gs, u64 *entry, gfn_t gfn, enum page_state to, u32 payload)
{
	struct page was;

	page_decode(gs->pt.fmt, entry, 1, &was);
	gspace_change_from(gs, gfn, &was, to, payload);
}

void gspace_change_out(struct gspace *gs, gfn_t gfn, u64 *entry, hfn_t hfn)
{
	const struct page was = {.state = PAGE_PRIVATE, .payload = hfn};

	lock_assert_held(&gs->lock);
	page_change(gs, entry, gfn, &was, PAGE_SWAPPING_OUT, hfn);
}

void gspace_change_swapped(struct gspace *gs, gfn_t gfn, u64 *entry, hfn_t hfn, u32 slot)
{
	const struct page was = {.state = PAGE_SWAPPING_OUT, .payload = hfn};

	lock_assert_held(&gs->lock);
	page_change(gs, entry, gfn, &was, PAGE_SWAPPED, slot);
}

static u64 region_encode(const struct gspace *gs, enum page_state s, u32 payload)
{
	if (s == PAGE_PRIVATE)
		return pt_make_leaf(gs->pt.fmt, hfn_to_hpa(payload), PT_R | PT_W | PT_X | PT_USER, 2, TAG_PRIVATE);
	return page_encode(gs, s, payload);
}

/*
 * The block of a large leaf goes, as one. Only frames that the share scanner saw have entries of their own, and hints.
 */
static void block_leave(struct gspace *gs, hfn_t hfn)
{
	if (!(frame_get(hfn)->flags & FRAME_F_WHOLE)) {
		for (u32 i = 0; i < LARGE_PAGES; i++)
			if (frame_get(hfn + i)->flags & FRAME_F_HINT)
				share_forget_hint(hfn + i);
		frame_make_whole(hfn, FRAME_ORDER_LARGE);
	}
	gspace_dispose(gs, hfn, false);
	gspace_spare_drop(gs);
}

static void block_enter(struct gspace *gs, gfn_t first, hfn_t hfn)
{
	struct frame *f = frame_get(hfn);

	CHECK(f->flags == FRAME_F_WHOLE && f->order == FRAME_ORDER_LARGE);
	frame_set_state(hfn, FRAME_GUEST);
	f->owner = gs->id;
	f->gfn = first;
	f->pins = 0;
}

void gspace_change_large(struct gspace *gs, u64 *entry, gfn_t first, enum page_state to, u32 payload)
{
	struct page was;

	lock_assert_held(&gs->lock);
	CHECK(first == region_of(first) && first + LARGE_PAGES <= gs->pages);
	page_decode(gs->pt.fmt, entry, 2, &was);
	check_legal(gs, first, was.state, to);
	CHECK(to == PAGE_ABSENT || to == PAGE_PRIVATE || to == PAGE_BALLOONED);
	pt_exchange(entry, region_encode(gs, to, payload));
	if (was.state == PAGE_PRIVATE) {
		gspace_mark_stale(gs);
		block_leave(gs, was.payload);
	}
	if (to == PAGE_PRIVATE)
		block_enter(gs, first, payload);
	gspace_count(gs, was.state, -(s32)LARGE_PAGES);
	gspace_count(gs, to, LARGE_PAGES);
	follow_change(gs, first, &was, to, payload, LARGE_PAGES);
}

enum page_state gspace_state(struct gspace *gs, gfn_t gfn)
{
	struct page p = {.state = PAGE_ABSENT};

	lock_acquire(&gs->lock);
	if (gfn < gs->pages)
		page_look(gs, gfn, &p);
	lock_release(&gs->lock);
	return p.state;
}

/* Its part of the frames behind shared pages. */
static u32 shared_part(const struct gspace *gs)
{
	u64 mapping = READ_ONCE(gspace_host_shared);

	return mapping ? (u32)((u64)gs->count[PAGE_SHARED] * frame_shared_count() / mapping) : 0;
}

u32 gspace_consumed(const struct gspace *gs)
{
	return gs->count[PAGE_PRIVATE] + gs->count[PAGE_PINNED] + gs->count[PAGE_SWAPPING_OUT] +
	       gs->count[PAGE_SWAPPING_IN] + gs->zip.frames + shared_part(gs);
}

u32 gspace_saved(const struct gspace *gs)
{
	u32 shared = gs->count[PAGE_SHARED];

	return gs->count[PAGE_ZERO] + shared - MIN(shared, shared_part(gs));
}

void gspace_host_counts(u64 out[PAGE_STATES])
{
	u32 cpus = platform_cpu_count();

	for (u32 s = 0; s < PAGE_STATES; s++) {
		s64 sum = 0; /* below 0: a page that came on one CPU and went on another was seen to go only */

		for (u32 i = 0; i < cpus; i++)
			sum += (s64)READ_ONCE(gspace_changed[i].pages[s]);
		out[s] = s == PAGE_SHARED ? READ_ONCE(gspace_host_shared) : (u64)MAX(sum, 0L);
	}
}

void page_unmap(struct gspace *gs, const struct page *p)
{
	lock_assert_held(&gs->lock);
	CHECK(p->level == 1 && state_present(p->state));
	if (p->state == PAGE_PRIVATE) /* the entry's dirty bit is lost */
		frame_get(p->payload)->flags &= ~FRAME_F_POOR;
	pt_exchange(p->entry, pt_token(TOKEN_WATCHED + state_tag[p->state], p->payload));
	gspace_mark_stale(gs);
}

/* Widens only: nothing to flush. A marked page stays read-only. */
void page_map(struct gspace *gs, const struct page *p)
{
	bool marked = p->state == PAGE_PRIVATE && frame_get(p->payload)->flags & FRAME_F_CLEAN;

	lock_assert_held(&gs->lock);
	CHECK(p->level == 1 && state_present(p->state));
	pt_exchange(p->entry, marked ? page_encode_marked(gs, p->payload) : page_encode(gs, p->state, p->payload));
}
