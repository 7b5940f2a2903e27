/*
 * Guest-physical address spaces: pages that are copies of a block of the VM's own disk, and pages that are going to be
 * overwritten (clean.h).
 *
 * Marks. A PRIVATE page is marked clean in its frame's entry, with its block, and its leaf made read-only: the same on
 * processors with and without dirty bits. Whoever writes (the guest by a fault, a pin, the hypervisor) ends the mark
 * first. So once the flush that follows a batch of hints is over, a marked page is what it was then: it can leave RAM
 * by one change, PRIVATE -> CLEAN, and needs no look at its content. Before that flush another vCPU may write through
 * what its TLB has; then the guest has told what was not true, and loses that write.
 *
 * A CLEAN page holds no promise of swap and no memory but its entry, so hints cannot make the hypervisor allocate
 * anything.
 */
#include "lib/err.h"
#include "lib/panic.h"
#include "mm/blk.h"
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"
#include "mm/reclaim.h"

#define AHEAD_GAP     64U /* pages in RAM that a guest which reads on may have skipped */
#define DROP_ENTRIES  64U /* looked at for each page to be dropped */
#define DROP_LOOK_MAX 4096U

void gspace_set_disk(struct gspace *gs, const struct clean_disk *disk)
{
	lock_acquire(&gs->lock);
	if (disk) {
		CHECK(disk->pages <= CLEAN_BLOCKS_MAX);
		gs->disk = *disk;
	} else {
		gs->disk.part = NULL;
	}
	lock_release(&gs->lock);
}

/* ---- marks --------------------------------------------------------------- */

void gspace_mark_end(struct gspace *gs, hfn_t hfn)
{
	struct frame *f = frame_get(hfn);

	f->flags &= ~FRAME_F_CLEAN;
	f->pins = f->copy_high = 0;
	gs->clean_marks--;
	gs->proof.marks -= f->gfn < gs->proof.at;
}

static void mark(struct gspace *gs, hfn_t hfn, u32 block)
{
	struct frame *f = frame_get(hfn);

	if (f->flags & FRAME_F_CLEAN)
		gspace_mark_end(gs, hfn);
	if (f->flags & FRAME_F_COPY)
		gspace_copy_end(gs, hfn, SWAP_SLOT_NONE);
	f->flags = (f->flags & ~FRAME_F_POOR) | FRAME_F_CLEAN;
	f->pins = block & UINT16_MAX;
	f->copy_high = block >> 16;
	gs->clean_marks++;
	gs->proof.marks += f->gfn < gs->proof.at;
}

/* Read-only from the next flush on. What the accessed bit says is kept. */
static void protect(struct gspace *gs, const struct page *p)
{
	u64 accessed = READ_ONCE(*p->entry) & gs->pt.fmt->accessed;

	pt_exchange(p->entry, page_encode_marked(gs, p->payload) | accessed);
	gspace_mark_stale(gs);
}

static bool is_marked(const struct page *p)
{
	return p->state == PAGE_PRIVATE && p->level == 1 && frame_get(p->payload)->flags & FRAME_F_CLEAN;
}

/* It may be written again: nothing to flush. */
static void unmark(struct gspace *gs, const struct page *p)
{
	gspace_mark_end(gs, p->payload);
	if (!page_is_unmapped(gs, p))
		page_map(gs, p);
}

static void become_clean(struct gspace *gs, gfn_t gfn, const struct page *p, u32 block)
{
	gspace_change(gs, p->entry, gfn, PAGE_CLEAN, block);
	gs->stats.clean_out++;
}

/*
 * In times of plenty, when nothing is dropped, a mark is worth less than the large page that it splits and the fault
 * that ends it. split: NULL if no large page may be split.
 */
static bool mark_locked(struct gspace *gs, gfn_t gfn, u32 block, bool *split)
{
	struct page p;

	page_look(gs, gfn, &p);
	if (p.state == PAGE_PRIVATE && reclaim_plentiful(gs))
		return false;
	if (page_is_large(&p)) {
		if (!split)
			return false;
		*split = true;
		page_look_single(gs, gfn, &p);
	}
	switch (p.state) {
	case PAGE_PRIVATE:
		mark(gs, p.payload, block);
		if (!page_is_unmapped(gs, &p))
			protect(gs, &p);
		return true;
	case PAGE_COMPRESSED:
	case PAGE_SWAPPED:
	case PAGE_SWAPPING_OUT:
		become_clean(gs, gfn, &p, block);
		return true;
	case PAGE_CLEAN: /* of another block, maybe */
		gspace_change(gs, p.entry, gfn, PAGE_CLEAN, block);
		return true;
	default:
		return false;
	}
}

bool gspace_clean_mark(struct gspace *gs, gfn_t gfn, u64 block, bool *split)
{
	bool done = false;

	lock_acquire(&gs->lock);
	if (!gs->dying && gfn < gs->pages && gs->disk.part && block < gs->disk.pages)
		done = mark_locked(gs, gfn, (u32)block, split);
	lock_release(&gs->lock);
	return done;
}

static int unmark_locked(struct gspace *gs, gfn_t gfn, bool may_alloc)
{
	struct page p;

	if (gs->dying || gfn >= gs->pages)
		return 0;
	page_look(gs, gfn, &p);
	if (p.state == PAGE_CLEAN)
		return gspace_touch_clean(gs, gfn, &p, false, may_alloc);
	if (p.state == PAGE_SWAPPING_IN && p.payload & PAGE_FROM_DISK)
		return E_AGAIN;
	if (is_marked(&p))
		unmark(gs, &p);
	return 0;
}

int gspace_clean_unmark(struct gspace *gs, gfn_t gfn)
{
	bool may_alloc = reclaim_may_alloc(gs);
	int err;

	lock_acquire(&gs->lock);
	err = unmark_locked(gs, gfn, may_alloc);
	gs->stats.waits += err == E_AGAIN;
	lock_release(&gs->lock);
	if (err == E_IO)
		mm_gspace_poisoned(gs, gfn, "it cannot be read from the VM's disk");
	return err;
}

static bool overwrite_locked(struct gspace *gs, gfn_t gfn)
{
	struct page p;

	if (gs->dying || gfn >= gs->pages)
		return false;
	page_look(gs, gfn, &p);
	switch (p.state) {
	case PAGE_COMPRESSED:
	case PAGE_SWAPPED:
	case PAGE_SWAPPING_OUT:
	case PAGE_CLEAN:
		gspace_change(gs, p.entry, gfn, PAGE_ABSENT, 0);
		gs->stats.not_read++;
		return true;
	default:
		if (is_marked(&p))
			unmark(gs, &p); /* it would be in the way of the write */
		return false;
	}
}

bool gspace_overwrite(struct gspace *gs, gfn_t gfn)
{
	bool dropped;

	lock_acquire(&gs->lock);
	dropped = overwrite_locked(gs, gfn);
	lock_release(&gs->lock);
	return dropped;
}

/* ---- out ----------------------------------------------------------------- */

struct drop {
	struct gspace *gs;
	u32 left; /* pages */
};

/* One that was used since the last look stays for this time. */
static bool drop_page(void *arg, u64 addr, u64 *entry, u32 level)
{
	struct drop *d = arg;
	struct gspace *gs = d->gs;
	u64 accessed = gs->pt.fmt->accessed;
	gfn_t gfn = gpa_to_gfn(GPA(addr));
	struct page p;

	page_decode(gs->pt.fmt, entry, level, &p);
	if (!is_marked(&p))
		return true;
	if (!page_is_unmapped(gs, &p) && __atomic_fetch_and(entry, ~accessed, __ATOMIC_SEQ_CST) & accessed) {
		gspace_mark_stale(gs);
		return true;
	}
	become_clean(gs, gfn, &p, frame_block(frame_get(p.payload)));
	return --d->left != 0;
}

u32 gspace_clean_drop(struct gspace *gs, u32 want, gfn_t start)
{
	u32 budget = MIN(want, DROP_LOOK_MAX / DROP_ENTRIES) * DROP_ENTRIES;
	struct drop d = {.gs = gs, .left = want};
	u64 end = gfn_to_gpa(gs->pages).v, first = gfn_to_gpa(start).v, at;

	if (!want || !READ_ONCE(gs->clean_marks))
		return 0;
	lock_acquire(&gs->lock);
	if (!gs->dying) {
		gspace_stop_rebuild(gs);
		at = pt_for_each_some(&gs->pt, first, end - first, &budget, drop_page, &d);
		if (d.left && at >= end)
			at = pt_for_each_some(&gs->pt, 0, first, &budget, drop_page, &d);
		WRITE_ONCE(gs->clean_hand, at < end ? gpa_to_gfn(GPA(at)) : 0);
	}
	lock_release(&gs->lock);
	return want - d.left;
}

/* ---- in ------------------------------------------------------------------ */

/* The VM has not written the block since its start: it is zero. */
static int touch_unwritten(struct gspace *gs, gfn_t gfn, const struct page *p, bool write, bool may_alloc)
{
	hfn_t hfn = frame_zero();

	if (write)
		hfn = may_alloc ? frame_alloc_guest(true) : HFN_NONE;
	if (hfn == HFN_NONE)
		return E_AGAIN;
	gspace_change(gs, p->entry, gfn, write ? PAGE_PRIVATE : PAGE_ZERO, hfn);
	gs->stats.clean_in++;
	return 0;
}

/* How many pages the guest seems to want: twice as many as long as it comes back for what follows. */
static u32 window_of(struct gspace *gs, gfn_t gfn)
{
	bool follows = gfn >= gs->clean_next && gfn - gs->clean_next <= AHEAD_GAP;

	gs->clean_window = follows ? MIN(gs->clean_window * 2, BLK_PAGES_MAX) : 1;
	return gs->clean_window;
}

/* Is gfn + i to be read with gfn, which `block` holds? Nobody has asked for it: it should not cost others. */
static bool goes_along(struct gspace *gs, gfn_t gfn, u32 block, u32 i)
{
	struct page p;

	if (gfn + i >= gs->pages || block + i >= gs->disk.pages || !clean_is_written(&gs->disk, block + i))
		return false;
	if (reclaim_state_now() >= RECLAIM_LOW || gspace_consumed(gs) + i >= READ_ONCE(gs->target))
		return false;
	page_look(gs, gfn + i, &p);
	return p.state == PAGE_CLEAN && p.payload == block + i;
}

static void free_frames(const hfn_t *hfn, u32 n)
{
	while (n)
		frame_free(hfn[--n], 0);
}

static int read_pages(struct gspace *gs, gfn_t gfn, u32 block)
{
	u32 window = window_of(gs, gfn), n = 0;
	hfn_t hfn[BLK_PAGES_MAX];
	int err;

	while (n < window && (!n || goes_along(gs, gfn, block, n))) {
		hfn[n] = frame_alloc(0, FRAME_FOR_GUEST, FRAME_HV, false);
		if (hfn[n] == HFN_NONE)
			break;
		n++;
	}
	if (!n)
		return E_AGAIN;
	err = clean_read(gs, gfn, block, hfn, n);
	if (err) {
		free_frames(hfn, n);
		return err;
	}
	for (u32 i = 0; i < n; i++) {
		struct page p;

		page_look(gs, gfn + i, &p);
		gspace_change(gs, p.entry, gfn + i, PAGE_SWAPPING_IN, (block + i) | PAGE_FROM_DISK);
	}
	gs->clean_reads += n;
	gs->stats.clean_ahead += n - 1;
	gs->clean_next = gfn + n;
	return E_AGAIN;
}

int gspace_touch_clean(struct gspace *gs, gfn_t gfn, const struct page *p, bool write, bool may_alloc)
{
	u32 block = p->payload;

	lock_assert_held(&gs->lock);
	CHECK(p->state == PAGE_CLEAN && block < gs->disk.pages);
	if (!gs->disk.part)
		return E_FAULT; /* the VM is ending */
	if (!clean_is_written(&gs->disk, block))
		return touch_unwritten(gs, gfn, p, write, may_alloc);
	return may_alloc ? read_pages(gs, gfn, block) : E_AGAIN;
}

/* Ends SWAPPING_IN, which nothing else can. */
static struct page read_end(struct gspace *gs, gfn_t gfn)
{
	struct page p;

	CHECK(gfn < gs->pages);
	page_look(gs, gfn, &p);
	CHECK(p.state == PAGE_SWAPPING_IN && p.payload & PAGE_FROM_DISK);
	gs->clean_reads--;
	return p;
}

void gspace_clean_in_done(struct gspace *gs, gfn_t gfn, hfn_t hfn)
{
	struct page p;
	u64 entry;

	CHECK(frame_get(hfn)->state == FRAME_HV);
	lock_acquire(&gs->lock);
	p = read_end(gs, gfn);
	/*
	 * As long as it is not written it is still the block's copy; so it must never be in the tables as one that can
	 * be written.
	 */
	entry = *p.entry;
	gspace_change(gs, &entry, gfn, PAGE_PRIVATE, hfn);
	mark(gs, hfn, p.payload & ~PAGE_FROM_DISK);
	pt_exchange(p.entry, page_encode_marked(gs, hfn));
	gs->stats.clean_in++;
	lock_release(&gs->lock);
}

void gspace_clean_in_failed(struct gspace *gs, gfn_t gfn)
{
	struct page p;

	lock_acquire(&gs->lock);
	p = read_end(gs, gfn);
	gspace_change(gs, p.entry, gfn, PAGE_CLEAN, p.payload & ~PAGE_FROM_DISK);
	lock_release(&gs->lock);
}
