/*
 * Guest-physical address spaces: the hypervisor's own access to pages, by copying from and to them, or by pins.
 */
#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace_internal.h"
#include "mm/gspace_touch.h"
#include "mm/platform.h"
#include "mm/reclaim.h"

/* ---- copies -------------------------------------------------------------- */

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
