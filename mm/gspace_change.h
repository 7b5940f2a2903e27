/*
 * The one change of a page's state, as an inline: where it is known what the page is and becomes, nothing is left but
 * what that change needs. For the paths that faults and balloon take (gspace.c, gspace_touch.c, gspace_balloon.c);
 * everybody else calls gspace_change(). And how states are written into entries.
 */
#ifndef MM_GSPACE_CHANGE_H
#define MM_GSPACE_CHANGE_H

#include "lib/panic.h"
#include "lib/platform.h"
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"
#include "mm/rmap.h"
#include "mm/swap.h"

/* To which states each state may change. */
static const u32 legal_changes[PAGE_STATES] = {
    [PAGE_ABSENT] = BIT(PAGE_PRIVATE) | BIT(PAGE_ZERO) | BIT(PAGE_BALLOONED),
    [PAGE_PRIVATE] = BIT(PAGE_ABSENT) | BIT(PAGE_SHARED) | BIT(PAGE_BALLOONED) | BIT(PAGE_SWAPPING_OUT) |
		     BIT(PAGE_PINNED) | BIT(PAGE_CLEAN),
    [PAGE_ZERO] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_BALLOONED),
    [PAGE_SHARED] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_ZERO) | BIT(PAGE_SHARED) | BIT(PAGE_BALLOONED),
    [PAGE_BALLOONED] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_ZERO),
    [PAGE_COMPRESSED] =
	BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_BALLOONED) | BIT(PAGE_SWAPPED) | BIT(PAGE_CLEAN),
    [PAGE_SWAPPED] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_BALLOONED) | BIT(PAGE_COMPRESSED) |
		     BIT(PAGE_SWAPPING_IN) | BIT(PAGE_CLEAN),
    [PAGE_SWAPPING_OUT] = BIT(PAGE_ABSENT) | BIT(PAGE_PRIVATE) | BIT(PAGE_ZERO) | BIT(PAGE_SHARED) |
			  BIT(PAGE_COMPRESSED) | BIT(PAGE_SWAPPED) | BIT(PAGE_CLEAN),
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

static inline u64 page_encode(const struct gspace *gs, enum page_state s, u32 payload)
{
	if (s == PAGE_ABSENT)
		return 0;
	if (state_present(s))
		return pt_leaf(gs->pt.fmt, hfn_to_hpa(payload), state_writable(s) ? gs->leaf_write : gs->leaf_read,
			       state_tag[s]);
	return pt_token(state_token[s], payload);
}

/* The entry of a mapped shared page? */
static inline bool entry_is_shared(const struct pt_format *f, u64 entry)
{
	return pt_entry_present(f, entry) && pt_entry_tag(f, entry) == TAG_SHARED;
}

/* ---- counts -------------------------------------------------------------- */

/*
 * The sums of count[] of all spaces. Each CPU adds up what it changes by itself, modulo 2^64, so that no fault writes
 * what another CPU does. Shared pages alone are counted in one place: gspace_consumed() needs them on the way of each
 * fault, and few change.
 */
struct gspace_changed {
	u64 pages[PAGE_STATES];
} aligned(64);
extern struct gspace_changed gspace_changed[MM_CPUS];
extern u64 gspace_host_shared; /* atomic */

/* mine: what this CPU has changed. */
static inline void count_pages(struct gspace *gs, u64 *mine, enum page_state s, s32 n)
{
	gs->count[s] += n;
	if (s == PAGE_SHARED)
		__atomic_fetch_add(&gspace_host_shared, (u64)(s64)n, __ATOMIC_RELAXED);
	else
		mine[s] += (u64)(s64)n;
}

static inline u64 *my_changes(void)
{
	return gspace_changed[platform_this_cpu()->id % MM_CPUS].pages;
}

/* For a proof under way; the page was `was`. */
static inline void follow_change(struct gspace *gs, gfn_t gfn, const struct page *was, enum page_state to, u32 payload,
				 u32 n)
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

/* ---- the change ---------------------------------------------------------- */

/* What the page held in state `from` is let go. kept: the frame goes on into the new state. */
void page_leave(struct gspace *gs, gfn_t gfn, enum page_state from, u32 payload, enum page_state to, bool kept);
/* The page gets another frame, which can be written (gspace.c). gs->lock held, and waited with. */
void page_unmap_everywhere(struct gspace *gs, u64 *entry);
void count_zero_map(hfn_t zero, s32 n); /* mappers of the zero frame */

/*
 * A page that is neither private any more nor on its way out loses what was remembered about it, and a mark already
 * when it goes out.
 */
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

static inline void page_enter(struct gspace *gs, gfn_t gfn, enum page_state to, u32 payload)
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

static inline void check_legal(const struct gspace *gs, gfn_t gfn, enum page_state was, enum page_state to)
{
	if (unlikely(!(legal_changes[was] & BIT(to))))
		panic("gspace %u gfn %#x: %s -> %s", gs->id, gfn, page_state_name(was), page_state_name(to));
}

/* was: what *entry says. Inlined where that is known, so that nothing is left but what the change needs. */
static inline __attribute__((always_inline)) void page_change(struct gspace *gs, u64 *entry, gfn_t gfn,
							      const struct page *was, enum page_state to, u32 payload)
{
	bool kept, same, narrower, replaced;
	u64 *mine;

	check_legal(gs, gfn, was->state, to);
	same = was->payload == payload && state_present(to);
	narrower = state_writable(was->state) && !state_writable(to);
	replaced = state_present(was->state) && state_writable(to) && !same && gs->concurrent;
	if (unlikely(replaced))
		page_unmap_everywhere(gs, entry);
	pt_exchange(entry, page_encode(gs, to, payload));
	if (state_present(was->state) && (!same || narrower) && !replaced)
		gspace_mark_stale(gs);

	forget_marks(gs, was, to, payload);
	kept = state_has_frame(was->state) && state_has_frame(to) && was->payload == payload;
	/* The hints of pages on their way out are forgotten together. */
	if (was->state != PAGE_ABSENT && to != PAGE_SWAPPING_OUT)
		page_leave(gs, gfn, was->state, was->payload, to, kept);
	page_enter(gs, gfn, to, payload);
	mine = my_changes();
	count_pages(gs, mine, was->state, -1);
	count_pages(gs, mine, to, 1);
	follow_change(gs, gfn, was, to, payload, 1);
}

#endif
