/*
 * Guest-physical address spaces: the table of spaces, their beginning and end.
 *
 * A space ends in pieces: dying stops every new page; then pages are dropped a bounded number at a time, those with a
 * pin or a transfer when that is over, and tables as they become empty; the table of spaces lets go of it last, when
 * nobody holds it by gspace_get(). With the last space go the pools that spaces caused, so that a host without VMs uses
 * no more than before.
 */
#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/balloon.h"
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/rmap.h"
#include "mm/share.h"
#include "mm/swap.h"

static struct {
	struct lock lock;
	struct gspace *by_id[GSPACE_MAX];
	struct list all;
	u16 last_id;
} spaces = {
    .lock = LOCK_INIT("spaces", LOCK_RANK_SPACES),
    .all = LIST_INIT(spaces.all),
};

static hfn_t table_alloc(struct pt_alloc *a)
{
	hfn_t hfn = frame_alloc(0, FRAME_FOR_TABLE, FRAME_TABLE, true);

	if (hfn != HFN_NONE)
		frame_get(hfn)->owner = container_of(a, struct gspace, pt_alloc)->id;
	return hfn;
}

static void table_free(struct pt_alloc *a, hfn_t hfn)
{
	DCHECK(frame_get(hfn)->owner == container_of(a, struct gspace, pt_alloc)->id);
	frame_free(hfn, 0);
}

/* Ids go round, so that a stale one rarely names a newer space. */
static int space_register(struct gspace *gs)
{
	int err = E_NOMEM;

	lock_acquire(&spaces.lock);
	for (u32 n = 1; n < GSPACE_MAX && err; n++) {
		spaces.last_id = spaces.last_id % (GSPACE_MAX - 1) + 1;
		if (spaces.by_id[spaces.last_id])
			continue;
		gs->id = spaces.last_id;
		spaces.by_id[gs->id] = gs;
		list_add_tail(&spaces.all, &gs->link);
		err = 0;
	}
	lock_release(&spaces.lock);
	return err;
}

/* False while somebody has it by gspace_get(). True also tells whether it was the last. */
static bool space_unregister(struct gspace *gs, bool *last)
{
	bool gone;

	lock_acquire(&spaces.lock);
	gone = !gs->users;
	if (gone) {
		spaces.by_id[gs->id] = NULL;
		list_del(&gs->link);
	}
	*last = list_empty(&spaces.all);
	lock_release(&spaces.lock);
	return gone;
}

int gspace_init(struct gspace *gs, const char *name, gfn_t pages, const struct pt_format *fmt,
		const struct mem_alloc *alloc)
{
	int err;

	memset(gs, 0, sizeof(*gs));
	str_copy(gs->name, name, sizeof(gs->name));
	lock_init(&gs->lock, "gspace", LOCK_RANK_GSPACE);
	list_init(&gs->link);
	gs->pages = pages;
	gs->alloc = *alloc;
	gs->tlb_gen = gs->ahead = gs->clean_window = 1;
	zpool_init(&gs->zip);
	gs->share_group = share_group(NULL);
	gs->limbo = gs->spares = gs->moving_table = HFN_NONE;
	gs->moving = GFN_NONE;
	gs->target = MIN(alloc->limit, pages);
	gs->balloon_max = (u64)pages * BALLOON_MAX_PERCENT / 100;
	gs->balloon_manual = GFN_NONE;
	gs->leaf_read = fmt->leaf_flags(PT_R | PT_X | PT_USER, 1);
	gs->leaf_write = fmt->leaf_flags(PT_R | PT_W | PT_X | PT_USER, 1);
	gs->pt_alloc = (struct pt_alloc){.alloc = table_alloc, .free = table_free};
	err = space_register(gs);
	if (err)
		return err;
	err = pt_init(&gs->pt, fmt, &gs->pt_alloc);
	if (err) {
		bool last;

		CHECK(space_unregister(gs, &last));
		return err;
	}
	lock_acquire(&gs->lock);
	gspace_count(gs, PAGE_ABSENT, pages);
	lock_release(&gs->lock);
	return 0;
}

int gspace_grow(struct gspace *gs, u64 first, u64 n)
{
	int err = 0;

	lock_acquire(&gs->lock);
	if (gs->dying)
		err = E_PERM;
	else if (!n || first != gs->pages)
		err = E_INVAL;
	else if (gs->dyn.offered <= first || n > gs->dyn.offered - first)
		err = E_NOSPC;
	if (!err) {
		gspace_count(gs, PAGE_ABSENT, (s32)n);
		WRITE_ONCE(gs->pages, gs->pages + (u32)n);
		gs->dyn.grown += n;
	}
	lock_release(&gs->lock);
	return err;
}

/* Drops one page or region unless something must end before: a pin, a page on its way in. */
static bool destroy_page(void *arg, u64 addr, u64 *entry, u32 level)
{
	struct gspace *gs = arg;
	struct page p;

	page_decode(gs->pt.fmt, entry, level, &p);
	if (level > 1)
		gspace_change_large(gs, entry, gpa_to_gfn(GPA(addr)), PAGE_ABSENT, 0);
	else if (p.state != PAGE_PINNED && p.state != PAGE_SWAPPING_IN)
		gspace_change(gs, entry, gpa_to_gfn(GPA(addr)), PAGE_ABSENT, 0);
	return true;
}

/* One level-1 table's range at a time, at most `budget` pages, or one large one; an empty table goes at once. No vCPU
 * translates any more. */
static void destroy_range(struct gspace *gs, u32 budget)
{
	gspace_stop_rebuild(gs);
	while (budget && gs->destroy_at < gs->pages) {
		gfn_t first = gs->destroy_at;
		gfn_t end = ALIGN_DOWN(first, PT_ENTRIES) + PT_ENTRIES;
		u32 level, n, cost;
		u64 *entry = pt_find(&gs->pt, gfn_to_gpa(first).v, &level);

		cost = level > 1 && !*entry ? 1 : PT_ENTRIES;
		n = MIN(MIN(end, gs->pages) - first, level > 1 ? PT_ENTRIES : budget);
		pt_for_each(&gs->pt, gfn_to_gpa(first).v, (u64)n << PAGE_SHIFT, destroy_page, gs);
		gs->destroy_at += n;
		if (gs->destroy_at == end || gs->destroy_at == gs->pages)
			pt_prune(&gs->pt, gfn_to_gpa(first).v);
		budget -= MIN(budget, MIN(cost, n));
	}
}

static bool destroy_finish(struct gspace *gs)
{
	bool last;

	if (READ_ONCE(gs->tlb_stale) || swap_busy(gs) || clean_busy(gs) || !space_unregister(gs, &last))
		return false;
	CHECK(!gs->large && gs->spares == HFN_NONE);
	pt_destroy(&gs->pt);
	zpool_release(&gs->zip);
	lock_acquire(&gs->lock);
	gspace_count(gs, PAGE_ABSENT, -(s32)gs->pages);
	lock_release(&gs->lock);
	if (last) {
		share_release();
		rmap_release();
	}
	return true;
}

bool gspace_destroy_some(struct gspace *gs, u32 budget)
{
	bool empty;

	lock_acquire(&spaces.lock);
	WRITE_ONCE(gs->dying, true);
	lock_release(&spaces.lock);

	lock_acquire(&gs->lock);
	destroy_range(gs, budget);
	empty = gs->count[PAGE_ABSENT] == gs->pages;
	if (gs->destroy_at >= gs->pages)
		gs->destroy_at = 0;
	lock_release(&gs->lock);
	gspace_flush(gs);
	return empty && destroy_finish(gs);
}

struct gspace *gspace_by_id(u16 id)
{
	struct gspace *gs;

	lock_acquire(&spaces.lock);
	gs = id < GSPACE_MAX ? spaces.by_id[id] : NULL;
	lock_release(&spaces.lock);
	return gs;
}

static struct gspace *space_get(u32 id, bool dying_too)
{
	struct gspace *gs;

	if (id >= GSPACE_MAX)
		return NULL;
	lock_acquire(&spaces.lock);
	gs = spaces.by_id[id];
	if (gs && gs->dying && !dying_too)
		gs = NULL;
	if (gs)
		gs->users++;
	lock_release(&spaces.lock);
	return gs;
}

struct gspace *gspace_get_any(u16 id)
{
	return space_get(id, true);
}

struct gspace *gspace_get(u16 id)
{
	return space_get(id, false);
}

void gspace_put(struct gspace *gs)
{
	lock_acquire(&spaces.lock);
	CHECK(gs->users);
	gs->users--;
	lock_release(&spaces.lock);
}

struct gspace *gspace_next(struct gspace *gs)
{
	struct list *next;

	lock_acquire(&spaces.lock);
	next = gs ? gs->link.next : spaces.all.next;
	lock_release(&spaces.lock);
	return next == &spaces.all ? NULL : list_entry(next, struct gspace, link);
}
