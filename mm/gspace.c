/*
 * Guest-physical address spaces: the state of each page, the one function that changes it, and what the guest
 * and the hypervisor do with a page that is there or has to come (touch, copy, pin, balloon). Its companions:
 * gspace_move.c (swap and share transitions), gspace_large.c (2 MiB regions), gspace_life.c (beginning and end),
 * gspace_verify.c.
 *
 * gspace_change() and gspace_change_large() are the only writers of leaf and token entries. Around it stand the operations, each of them: take
 * the lock, look at the page, prepare what may fail (tables, frames, reverse-map nodes), change.
 *
 * Stale translations. A change that takes a translation away or narrows it marks the space stale until a shootdown has
 * covered it. A frame leaves through gs->limbo after the space's own shootdown. A frame that was shared may still be
 * translated by spaces that dropped it earlier and have not flushed yet: so before it is freed all stale spaces are
 * flushed, and a last mapper takes it for itself only if no space is stale. A change that widens (read-only to
 * writable, same frame) needs no flush: processors walk the tables again before they fault.
 *
 * A mapped page that gets a frame of its own (copy-on-write, the first write to a zero page) would for a moment be two
 * pages for a guest on several CPUs: one vCPU writes to the new frame, another still reads the old. So with `concurrent`
 * set the entry is empty until a shootdown has ended; it waits with the lock held, which it may (arch/x86/tlb.h, rule 4),
 * and who touches the page meanwhile waits for the lock. Changes from one read-only frame to another need none of that:
 * both hold the same bytes, and the next write comes after a shootdown that covers them.
 *
 * A frame's references can grow only through its entry in the share table. So who wants a shared frame for itself takes
 * the entry out first and counts afterwards.
 */
#include "mm/gspace.h"

#include "lib/err.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/rmap.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zip.h"

static u32 stale_spaces; /* atomic: with tlb_stale */
/*
 * The sums of count[] of all spaces. Each CPU adds up what it changes by itself, modulo 2^64, so that no fault writes what another CPU
 * does. Shared pages alone are counted in one place: gspace_consumed() needs them on the way of each fault, and few change.
 */
static u64 host_shared; /* atomic */
static struct {
	u64 changed[PAGE_STATES];
} aligned(64) host_count[MM_CPUS];

/* To which states each state may change. */
static const u32 legal[PAGE_STATES] = {
    [PAGE_ABSENT] = BIT(PAGE_PRIVATE) | BIT(PAGE_ZERO) | BIT(PAGE_BALLOONED),
    [PAGE_PRIVATE] = BIT(PAGE_ABSENT) | BIT(PAGE_SHARED) | BIT(PAGE_BALLOONED) | BIT(PAGE_SWAPPING_OUT) | BIT(PAGE_PINNED) |
		     BIT(PAGE_CLEAN),
    [PAGE_ZERO] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_BALLOONED),
    [PAGE_SHARED] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_ZERO) | BIT(PAGE_SHARED) | BIT(PAGE_BALLOONED),
    [PAGE_BALLOONED] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_ZERO),
    [PAGE_COMPRESSED] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_BALLOONED) | BIT(PAGE_SWAPPED) | BIT(PAGE_CLEAN),
    [PAGE_SWAPPED] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_BALLOONED) | BIT(PAGE_COMPRESSED) | BIT(PAGE_SWAPPING_IN) |
		     BIT(PAGE_CLEAN),
    [PAGE_SWAPPING_OUT] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_ZERO) | BIT(PAGE_SHARED) | BIT(PAGE_COMPRESSED) |
			  BIT(PAGE_SWAPPED) | BIT(PAGE_CLEAN),
    [PAGE_SWAPPING_IN] = BIT(PAGE_PRIVATE) | BIT(PAGE_SWAPPED) | BIT(PAGE_CLEAN),
    [PAGE_PINNED] = BIT(PAGE_PRIVATE),
    [PAGE_CLEAN] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_ZERO) | BIT(PAGE_BALLOONED) | BIT(PAGE_SWAPPING_IN) |
		   BIT(PAGE_CLEAN),
};

/* ---- entries ------------------------------------------------------------- */

enum { TAG_PRIVATE = 1, TAG_ZERO, TAG_SHARED, TAG_PINNED, TAGS = 8 };
enum {
	TOKEN_BALLOONED = 1,
	TOKEN_COMPRESSED,
	TOKEN_SWAPPED,
	TOKEN_SWAPPING_OUT,
	TOKEN_SWAPPING_IN,
	TOKEN_CLEAN,
	/* Of mapped states: the page is watched, and comes back into the tables when it is touched. */
	TOKEN_WATCHED, /* + the leaf's tag */
};

static const u8 state_tag[PAGE_STATES] = {
    [PAGE_PRIVATE] = TAG_PRIVATE,
    [PAGE_ZERO] = TAG_ZERO,
    [PAGE_SHARED] = TAG_SHARED,
    [PAGE_PINNED] = TAG_PINNED,
};
static const u8 state_token[PAGE_STATES] = {
    [PAGE_BALLOONED] = TOKEN_BALLOONED,       [PAGE_COMPRESSED] = TOKEN_COMPRESSED,   [PAGE_SWAPPED] = TOKEN_SWAPPED,
    [PAGE_SWAPPING_OUT] = TOKEN_SWAPPING_OUT, [PAGE_SWAPPING_IN] = TOKEN_SWAPPING_IN, [PAGE_CLEAN] = TOKEN_CLEAN,
};
static const u8 tag_state[TAGS] = {
    [TAG_PRIVATE] = PAGE_PRIVATE,
    [TAG_ZERO] = PAGE_ZERO,
    [TAG_SHARED] = PAGE_SHARED,
    [TAG_PINNED] = PAGE_PINNED,
};
static const u8 token_state[PT_TOKEN_KINDS] = {
    [TOKEN_BALLOONED] = PAGE_BALLOONED,       [TOKEN_COMPRESSED] = PAGE_COMPRESSED,   [TOKEN_SWAPPED] = PAGE_SWAPPED,
    [TOKEN_SWAPPING_OUT] = PAGE_SWAPPING_OUT, [TOKEN_SWAPPING_IN] = PAGE_SWAPPING_IN, [TOKEN_CLEAN] = PAGE_CLEAN,
    [TOKEN_WATCHED + TAG_PRIVATE] = PAGE_PRIVATE, [TOKEN_WATCHED + TAG_ZERO] = PAGE_ZERO,
    [TOKEN_WATCHED + TAG_SHARED] = PAGE_SHARED, [TOKEN_WATCHED + TAG_PINNED] = PAGE_PINNED,
};

static const char *const state_name[PAGE_STATES] = {
    [PAGE_ABSENT] = "absent",   [PAGE_PRIVATE] = "private",           [PAGE_ZERO] = "zero",
    [PAGE_SHARED] = "shared",   [PAGE_BALLOONED] = "ballooned",       [PAGE_COMPRESSED] = "compressed",
    [PAGE_SWAPPED] = "swapped", [PAGE_SWAPPING_OUT] = "swapping-out", [PAGE_SWAPPING_IN] = "swapping-in",
    [PAGE_PINNED] = "pinned",   [PAGE_CLEAN] = "clean",
};

const char *page_state_name(enum page_state s)
{
	return s < PAGE_STATES ? state_name[s] : "?";
}

u64 page_encode_marked(const struct gspace *gs, hfn_t hfn)
{
	return pt_leaf(gs->pt.fmt, hfn_to_hpa(hfn), gs->leaf_read, TAG_PRIVATE);
}

static u64 page_encode(const struct gspace *gs, enum page_state s, u32 payload)
{
	if (s == PAGE_ABSENT)
		return 0;
	if (state_present(s))
		return pt_leaf(gs->pt.fmt, hfn_to_hpa(payload), state_writable(s) ? gs->leaf_write : gs->leaf_read,
			       state_tag[s]);
	return pt_token(state_token[s], payload);
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

static void count_zero_map(hfn_t zero, s32 n)
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

/* A page that is neither private any more nor on its way out loses what was remembered about it, and a mark already when it goes out. */
static inline void forget_marks(struct gspace *gs, const struct page *was, enum page_state to, u32 payload)
{
	struct frame *f;

	if (was->state != PAGE_PRIVATE && was->state != PAGE_SWAPPING_OUT)
		return;
	if (unlikely(frame_get(was->payload)->flags & FRAME_F_CLEAN))
		gspace_mark_end(gs, was->payload);
	if (to == PAGE_PRIVATE || to == PAGE_SWAPPING_OUT)
		return;
	f = frame_get(was->payload);
	f->flags &= ~FRAME_F_POOR;
	if (f->flags & FRAME_F_COPY)
		gspace_copy_end(gs, was->payload, to == PAGE_SWAPPED ? payload : SWAP_SLOT_NONE);
}

/* What the old state held is let go. kept: the frame goes on into the new state. */
static void page_leave(struct gspace *gs, gfn_t gfn, const struct page *p, enum page_state to, bool kept)
{
	u32 left = 0;

	switch (p->state) {
	case PAGE_PRIVATE:
		if (frame_get(p->payload)->flags & FRAME_F_HINT)
			share_forget_hint(p->payload);
		break;
	case PAGE_ZERO:
		count_zero_map(p->payload, -1);
		break;
	case PAGE_SHARED:
		left = rmap_remove(p->payload, gs->id, gfn);
		CHECK(!kept || !left);
		if (!left)
			share_forget_shared(p->payload);
		break;
	case PAGE_COMPRESSED:
		if (to != PAGE_SWAPPED)
			zip_drop(gs, p->payload);
		break;
	case PAGE_SWAPPED:
		if (p->payload & SWAP_PACKED && to != PAGE_COMPRESSED)
			zip_drop(gs, p->payload & ~SWAP_PACKED);
		else if (!(p->payload & SWAP_PACKED) && to != PAGE_SWAPPING_IN)
			swap_slot_free(p->payload);
		break;
	default:
		break;
	}
	if (state_has_frame(p->state) && !kept && !left)
		gspace_dispose(gs, p->payload, p->state == PAGE_SHARED);
}

static void page_enter(struct gspace *gs, gfn_t gfn, enum page_state to, u32 payload)
{
	struct frame *f;

	if (to == PAGE_ZERO)
		count_zero_map(payload, 1);
	if (!state_has_frame(to))
		return;
	f = frame_get(payload);
	if (to != PAGE_SHARED) {
		if (f->state != FRAME_GUEST)
			frame_set_state(payload, FRAME_GUEST);
		f->owner = gs->id;
		f->gfn = gfn;
		if (!(f->flags & FRAME_F_COPY))
			f->pins = to == PAGE_PINNED;
		return;
	}
	if (f->state != FRAME_SHARED) {
		f->refs = 0;
		f->rmap = RMAP_NONE;
		frame_set_state(payload, FRAME_SHARED);
	}
	rmap_add(payload, gs->id, gfn);
}

/* mine: what this CPU has changed. */
static inline void count(struct gspace *gs, u64 *mine, enum page_state s, s32 n)
{
	gs->count[s] += n;
	if (s == PAGE_SHARED)
		__atomic_fetch_add(&host_shared, (u64)(s64)n, __ATOMIC_RELAXED);
	else
		mine[s] += (u64)(s64)n;
}

static inline u64 *my_count(void)
{
	return host_count[platform_this_cpu()->id % MM_CPUS].changed;
}

void gspace_count(struct gspace *gs, enum page_state s, s32 n)
{
	count(gs, my_count(), s, n);
}

/* For a proof under way; the page was `was`. */
static inline void follow(struct gspace *gs, gfn_t gfn, const struct page *was, enum page_state to, u32 payload, u32 n)
{
	if (likely(gfn >= gs->proof.at))
		return;
	gs->proof.count[was->state] -= n;
	gs->proof.count[to] += n;
	gs->proof.in_blocks -= was->state == PAGE_SWAPPED && was->payload & SWAP_PACKED;
	gs->proof.in_blocks += to == PAGE_SWAPPED && payload & SWAP_PACKED;
	gs->proof.from_disk -= was->state == PAGE_SWAPPING_IN && was->payload & PAGE_FROM_DISK;
	gs->proof.from_disk += to == PAGE_SWAPPING_IN && payload & PAGE_FROM_DISK;
}

static inline void check_legal(const struct gspace *gs, gfn_t gfn, enum page_state was, enum page_state to)
{
	if (unlikely(!(legal[was] & BIT(to))))
		panic("gspace %u gfn %#x: %s -> %s", gs->id, gfn, page_state_name(was), page_state_name(to));
}

/* The page gets another frame, which can be written: see above. gs->lock held, and waited with. */
static __attribute__((noinline)) void unmap_everywhere(struct gspace *gs, u64 *entry)
{
	pt_exchange(entry, 0);
	gs->tlb_gen++;
	mm_tlb_shootdown(gs);
}

/* was: what *entry says. Inlined where that is known, so that nothing is left but what the change needs. */
static inline __attribute__((always_inline)) void change(struct gspace *gs, u64 *entry, gfn_t gfn,
							 const struct page *was, enum page_state to, u32 payload)
{
	bool kept, same, narrower, replaced;
	u64 *mine;

	check_legal(gs, gfn, was->state, to);
	same = was->payload == payload && state_present(to);
	narrower = state_writable(was->state) && !state_writable(to);
	replaced = state_present(was->state) && state_writable(to) && !same && gs->concurrent;
	if (unlikely(replaced))
		unmap_everywhere(gs, entry);
	pt_exchange(entry, page_encode(gs, to, payload));
	if (state_present(was->state) && (!same || narrower) && !replaced)
		gspace_mark_stale(gs);

	forget_marks(gs, was, to, payload);
	kept = state_has_frame(was->state) && state_has_frame(to) && was->payload == payload;
	/* The hints of pages on their way out are forgotten together. */
	if (was->state != PAGE_ABSENT && to != PAGE_SWAPPING_OUT)
		page_leave(gs, gfn, was, to, kept);
	page_enter(gs, gfn, to, payload);
	mine = my_count();
	count(gs, mine, was->state, -1);
	count(gs, mine, to, 1);
	follow(gs, gfn, was, to, payload, 1);
}

void gspace_change_from(struct gspace *gs, gfn_t gfn, const struct page *was, enum page_state to, u32 payload)
{
	lock_assert_held(&gs->lock);
	CHECK(was->level == 1 && to != PAGE_SWAPPING_OUT);
	change(gs, was->entry, gfn, was, to, payload);
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
	change(gs, entry, gfn, &was, PAGE_SWAPPING_OUT, hfn);
}

void gspace_change_swapped(struct gspace *gs, gfn_t gfn, u64 *entry, hfn_t hfn, u32 slot)
{
	const struct page was = {.state = PAGE_SWAPPING_OUT, .payload = hfn};

	lock_assert_held(&gs->lock);
	change(gs, entry, gfn, &was, PAGE_SWAPPED, slot);
}

static u64 region_encode(const struct gspace *gs, enum page_state s, u32 payload)
{
	if (s == PAGE_PRIVATE)
		return pt_make_leaf(gs->pt.fmt, hfn_to_hpa(payload), PT_R | PT_W | PT_X | PT_USER, 2, TAG_PRIVATE);
	return page_encode(gs, s, payload);
}

/* The block of a large leaf goes, as one. Only frames that the share scanner saw have entries of their own, and hints. */
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
	follow(gs, first, &was, to, payload, LARGE_PAGES);
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
	u64 mapping = READ_ONCE(host_shared);

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
			sum += (s64)READ_ONCE(host_count[i].changed[s]);
		out[s] = s == PAGE_SHARED ? READ_ONCE(host_shared) : (u64)MAX(sum, 0L);
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

/* ---- flush --------------------------------------------------------------- */

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
 * The same with gs->lock held throughout, which it may be (arch/x86/tlb.h, rule 4): short where nobody else can be in the guest, so
 * not for spaces in concurrent use.
 */
static void flush_tlb_locked(struct gspace *gs)
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

#define AHEAD_MAX   8U /* pages read for one touch: as many as go out from one place */
#define AROUND_MAX  15U /* pages given with one that was touched */
#define AROUND_PART 4U /* of those gone through */

/* ---- touch --------------------------------------------------------------- */

/* A touch under way. may_alloc was asked before the lock was taken. */
struct touch {
	struct gspace *gs;
	gfn_t gfn;
	bool write, may_alloc;
	bool no_block; /* there is none: single pages will do */
	hfn_t block;   /* cleared, for a large page; 0: none */
	bool whole; /* all of the page will be written: what it held is not needed */
	bool fault; /* by the guest itself */
	struct page p;
};

#define TOUCH_BLOCK 1 /* of touch_once: comes again, with a block */

static hfn_t touch_frame(const struct touch *t, enum frame_state state, bool clear)
{
	if (!t->may_alloc)
		return HFN_NONE;
	return frame_alloc(0, FRAME_FOR_GUEST, state, clear);
}

static inline int fill_absent(struct gspace *gs, u64 *entry, gfn_t gfn)
{
	static const struct page absent = {.state = PAGE_ABSENT};
	hfn_t hfn = frame_alloc_guest(true);

	if (unlikely(hfn == HFN_NONE))
		return E_AGAIN;
	change(gs, entry, gfn, &absent, PAGE_PRIVATE, hfn);
	return 0;
}

/*
 * A guest that goes through untouched memory in order is given some pages behind the one that it has come for, as many as a quarter of
 * those that it went through, while there is plenty. So what it holds without having asked for it stays small, and goes
 * back like anything else: such a page is equal to the zero page, and its accessed bit is clear. Where samples of the working set are
 * taken without that bit, being mapped would count as use, and nothing is given.
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
	change(gs, entry, gfn, &was, PAGE_PRIVATE, hfn);
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
	const struct pt_format *f = gs->pt.fmt;

	return pt_entry_present(f, entry) && pt_entry_tag(f, entry) == TAG_SHARED && gs->moving != region_of(gfn);
}

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

static int touch_compressed(struct touch *t)
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

static int touch_swapped(struct touch *t)
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

/* Cleared, as nobody knows whether what is to come really comes. */
static int touch_whole(struct touch *t)
{
	hfn_t hfn = touch_frame(t, FRAME_GUEST, true);

	if (hfn == HFN_NONE)
		return E_AGAIN;
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

/* As touch_page, and t->p is the page as it is now. */
static int touch_locked(struct touch *t)
{
	int err = touch_page(t);

	if (!err)
		page_look(t->gs, t->gfn, &t->p);
	return err;
}

/* After the lock is released: what a touch may have left to do. */
static void touch_finish(const struct touch *t, int err)
{
	if (READ_ONCE(t->gs->tlb_stale) || READ_ONCE(t->gs->limbo) != HFN_NONE)
		gspace_flush(t->gs);
	if (err == E_IO)
		mm_gspace_poisoned(t->gs, t->gfn, "its compressed or swapped copy cannot be read");
}

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
		flush_tlb_locked(gs);
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

/* Copies within one page. The lock is held over the copy, so the page stays where it is. */
static int copy_page(struct gspace *gs, gpa_t gpa, void *buf, size_t len, bool write)
{
	struct touch t = {.gs = gs, .gfn = gpa_to_gfn(gpa), .write = write};
	int err;

	t.may_alloc = reclaim_may_alloc(gs);
	lock_acquire(&gs->lock);
	err = touch_locked(&t);
	if (!err) {
		u8 *at = (u8 *)mm_hfn_to_va(t.p.payload) + (gpa.v & (PAGE_SIZE - 1));

		memcpy(write ? at : buf, write ? buf : at, len);
	}
	lock_release(&gs->lock);
	touch_finish(&t, err);
	return err;
}

static int copy_range(struct gspace *gs, gpa_t gpa, void *buf, size_t len, bool write)
{
	u64 bytes = (u64)gs->pages << PAGE_SHIFT;
	u8 *at = buf;

	CHECK(len <= GSPACE_COPY_MAX);
	if (gpa.v > bytes || len > bytes - gpa.v)
		return E_FAULT;
	while (len) {
		size_t n = MIN(len, PAGE_SIZE - (gpa.v & (PAGE_SIZE - 1)));
		int err = copy_page(gs, gpa, at, n, write);

		if (err)
			return err;
		gpa.v += n;
		at += n;
		len -= n;
	}
	return 0;
}

int gspace_read(struct gspace *gs, gpa_t gpa, void *dst, size_t len)
{
	return copy_range(gs, gpa, dst, len, false);
}

int gspace_write(struct gspace *gs, gpa_t gpa, const void *src, size_t len)
{
	return copy_range(gs, gpa, (void *)src, len, true);
}

/* ---- pins ---------------------------------------------------------------- */

static int pin_locked(struct touch *t)
{
	struct frame *f;
	int err = touch_locked(t);

	if (err)
		return err;
	page_look_single(t->gs, t->gfn, &t->p);
	f = frame_get(t->p.payload);
	if (t->p.state == PAGE_PRIVATE)
		gspace_change(t->gs, t->p.entry, t->gfn, PAGE_PINNED, t->p.payload);
	else if (f->pins == UINT16_MAX)
		return E_BUSY;
	else
		f->pins++;
	return 0;
}

static int pin(struct touch *t, hfn_t *hfn)
{
	int err;

	t->may_alloc = reclaim_may_alloc(t->gs);
	lock_acquire(&t->gs->lock);
	err = pin_locked(t);
	*hfn = err ? HFN_NONE : t->p.payload;
	lock_release(&t->gs->lock);
	touch_finish(t, err);
	return err;
}

/* A frame of its own is needed even to read, so `write` makes no difference yet. */
int gspace_pin(struct gspace *gs, gfn_t gfn, bool write, hfn_t *hfn)
{
	struct touch t = {.gs = gs, .gfn = gfn, .write = true};

	(void)write;
	return pin(&t, hfn);
}

int gspace_pin_new(struct gspace *gs, gfn_t gfn, hfn_t *hfn)
{
	struct touch t = {.gs = gs, .gfn = gfn, .write = true, .whole = true};

	return pin(&t, hfn);
}

void gspace_unpin(struct gspace *gs, gfn_t gfn)
{
	struct page p;
	struct frame *f;

	lock_acquire(&gs->lock);
	CHECK(gfn < gs->pages);
	page_look(gs, gfn, &p);
	CHECK(p.state == PAGE_PINNED);
	f = frame_get(p.payload);
	if (--f->pins == 0)
		gspace_change(gs, p.entry, gfn, PAGE_PRIVATE, p.payload);
	lock_release(&gs->lock);
}

/* ---- balloon ------------------------------------------------------------- */

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
	change(gs, p.entry, gfn, &p, PAGE_BALLOONED, 0);
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
	change(gs, p.entry, gfn, &p, PAGE_ABSENT, 0);
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
