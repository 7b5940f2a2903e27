/*
 * A page as its entry tells, and what the gspace_*.c have in common. Present leaves carry the state as tag, tokens as
 * kind; an empty entry is ABSENT. gspace_change.h has how entries are written.
 */
#ifndef MM_GSPACE_INTERNAL_H
#define MM_GSPACE_INTERNAL_H

#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/swap.h"

/* One page as its entry tells. */
struct page {
	u64 *entry; /* at level 1, unless the walk ended above: at a large leaf, a token of a region, or nothing */
	u32 level;
	enum page_state state;
	u32 payload; /* hfn of present pages and SWAPPING_OUT; slot; handle */
};

/* States in which the page has a frame that is in its entry; of these and ZERO, which are mapped. */
static inline bool state_has_frame(enum page_state s)
{
	return s == PAGE_PRIVATE || s == PAGE_PINNED || s == PAGE_SHARED || s == PAGE_SWAPPING_OUT;
}

static inline bool state_writable(enum page_state s)
{
	return s == PAGE_PRIVATE || s == PAGE_PINNED;
}

static inline bool state_present(enum page_state s)
{
	return state_writable(s) || s == PAGE_SHARED || s == PAGE_ZERO;
}

/* In a large leaf? */
static inline bool page_is_large(const struct page *p)
{
	return p->level > 1 && state_present(p->state);
}

static inline gfn_t region_of(gfn_t gfn)
{
	return ALIGN_DOWN(gfn, LARGE_PAGES);
}

static inline u64 region_addr(gfn_t gfn)
{
	return gfn_to_gpa(region_of(gfn)).v;
}

/* Does the level-1 table that begins at `entry` hold nothing? */
static inline bool table_is_empty(const u64 *entry)
{
	u32 i = 0;

	while (i < PT_ENTRIES && !entry[i])
		i++;
	return i == PT_ENTRIES;
}

/* A page of state_present() that is out of the tables to see whether it is touched: its entry is a token. */
static inline bool page_is_unmapped(const struct gspace *gs, const struct page *p)
{
	return state_present(p->state) && !pt_entry_present(gs->pt.fmt, READ_ONCE(*p->entry));
}

u64 page_encode_marked(const struct gspace *gs, hfn_t hfn); /* the leaf of a PRIVATE page that is marked clean */
/* Takes a mapped page out of the tables, state and frame as they are; and puts it back. gs->lock held. */
void page_unmap(struct gspace *gs, const struct page *p);
void page_map(struct gspace *gs, const struct page *p);

/*
 * A page that came back from swap keeps its slot as long as it stays PRIVATE (or is on its way out again): if it has
 * not changed by then it need not be written. The slot is kept in the frame's entry, where a PRIVATE page needs no
 * pins.
 */
#define COPY_SLOTS_MAX BIT(24)

static inline u32 frame_copy(const struct frame *f)
{
	return f->flags & FRAME_F_COPY ? f->pins | (u32)f->copy_high << 16 : SWAP_SLOT_NONE;
}

/*
 * A PRIVATE page that is marked clean: its frame's entry has the block where another has its slot or pins, and its leaf
 * is read-only, so that nobody writes to it unseen. The first write, or a pin, ends the mark.
 */
#define CLEAN_BLOCKS_MAX BIT(24)

static inline u32 frame_block(const struct frame *f)
{
	return f->pins | (u32)f->copy_high << 16;
}

/* gs->lock held: the mark goes, the leaf stays as it is. */
void gspace_mark_end(struct gspace *gs, hfn_t hfn);
/* gs->lock held: a CLEAN page is touched. As gspace_touch. */
int gspace_touch_clean(struct gspace *gs, gfn_t gfn, const struct page *p, bool write, bool may_alloc) must_check;

/* Decodes *entry. CHECKs that it is one of ours. Of a large leaf, payload is its first frame. */
void page_decode(const struct pt_format *f, u64 *entry, u32 level, struct page *p);
/* gs->lock held, gfn < gs->pages. Ends a rebuild of its region. */
void page_look(struct gspace *gs, gfn_t gfn, struct page *p);
/* The same for who is to change this page only: splits the large leaf that it is in. */
void page_look_single(struct gspace *gs, gfn_t gfn, struct page *p);

/*
 * Moves page gfn, whose level-1 entry is `entry`, to state `to` with `payload` (hfn, slot, handle or 0): the one
 * function that changes a page's state. gs->lock held. Cannot fail: SHARED needs a promise by rmap_prepare(), a frame
 * comes allocated and filled.
 */
void gspace_change(struct gspace *gs, u64 *entry, gfn_t gfn, enum page_state to, u32 payload);
/* The same for who has just looked: the page is *was. */
void gspace_change_from(struct gspace *gs, gfn_t gfn, const struct page *was, enum page_state to, u32 payload);
/*
 * The same by short ways: PRIVATE hfn -> SWAPPING_OUT, after which the caller forgets its hint (share_forget_hints),
 * with gs->lock still held; SWAPPING_OUT hfn -> SWAPPED slot.
 */
void gspace_change_out(struct gspace *gs, gfn_t gfn, u64 *entry, hfn_t hfn);
void gspace_change_swapped(struct gspace *gs, gfn_t gfn, u64 *entry, hfn_t hfn, u32 slot);
/*
 * The same for all pages of a region, whose level-2 entry is `entry`: between ABSENT, PRIVATE (a large leaf; payload is
 * a frame block, whole or not, and the caller has pushed a spare table page) and BALLOONED (a token).
 */
void gspace_change_large(struct gspace *gs, u64 *entry, gfn_t first, enum page_state to, u32 payload);
/* Adds n to the counts of state s, the space's and the host's. Otherwise than by gspace_change only as a space begins
 * and ends. */
void gspace_count(struct gspace *gs, enum page_state s, s32 n);
/* gs->lock held: the frame is in no table any more. With a transfer under way it becomes an orphan, which the
 * transfer's end frees. */
void gspace_dispose(struct gspace *gs, hfn_t hfn, bool shared);
/* gs->lock held: a translation was taken away or narrowed. */
void gspace_mark_stale(struct gspace *gs);
u32 gspace_stale_count(void); /* spaces with changes that no shootdown has covered */
/* gs->lock held throughout: for a stale space that only one CPU can be in. What is in limbo stays there. */
void gspace_flush_locked(struct gspace *gs);
/* May a mapper of this shared frame have it for itself? If so nobody else can get at it any more. */
bool gspace_shared_is_sole(hfn_t hfn);
/* May the first write to gfn, nothing of whose region is there, map a large page? */
bool gspace_large_wanted(const struct gspace *gs, gfn_t gfn);
/* Maps the region of gfn, nothing of which is there, by the cleared whole `block`. E_NOMEM. gs->lock held. */
int gspace_map_large(struct gspace *gs, gfn_t gfn, hfn_t block) must_check;
void gspace_split(struct gspace *gs, gfn_t gfn); /* the large leaf that gfn is in. gs->lock held */
/* The region under rebuild, if any, is as it was before. gs->lock held. */
void gspace_stop_rebuild(struct gspace *gs);
/* Spare table pages of large leaves. gs->lock held. */
int gspace_spare_push(struct gspace *gs) must_check; /* one more. E_NOMEM */
void gspace_spare_drop(struct gspace *gs);
/* The level-1 table of gfn's region gives way to `value`, and goes with the next flush. gs->lock held. */
void gspace_retire_table(struct gspace *gs, gfn_t gfn, u64 value);
/*
 * gs->lock held. The transfer of hfn is over. True if gfn, in *p, still waits for it; else the frame was rescued, or is
 * an orphan and goes.
 */
bool gspace_swap_out_end(struct gspace *gs, gfn_t gfn, hfn_t hfn, struct page *p);
/* gs->lock held, p is PRIVATE: did it not compress, and is as it was then? */
bool gspace_poor_locked(struct gspace *gs, const struct page *p);
/* gs->lock held: the frame's copy, of which there is one, goes; its slot is freed unless it is `used` on. */
void gspace_copy_end(struct gspace *gs, hfn_t hfn, u32 used);
/* As gspace_get, dying spaces included. */
struct gspace *gspace_get_any(u16 id);

#endif
