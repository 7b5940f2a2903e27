/* Dynamic Memory. See dynmem.h. */
#include "mm/dynmem.h"

#include "lib/panic.h"
#include "mm/balloon.h"
#include "mm/gspace.h"
#include "mm/platform.h"

#define PATIENCE_NS      (5 * NSEC_PER_SEC)    /* a surplus is left alone for so long */
#define STEP_NS          (250 * NSEC_PER_MSEC) /* targets may be computed more often */
#define SURPLUS_STEP     16U                   /* of it, a step: half of it is gone after 3 s */
#define SURPLUS_STEP_MIN 256U                  /* pages */

const char *dynmem_status_name(enum dynmem_status s)
{
	static const char *const name[] = {"off", "ok", "low", "warning"};

	return s < ARRAY_SIZE(name) ? name[s] : "?";
}

bool dynmem_active(const struct gspace *gs)
{
	const struct dynmem *d = &gs->dyn;

	return d->maximum && READ_ONCE(d->present) && (READ_ONCE(d->committed) || d->fixed);
}

u32 dynmem_have(const struct gspace *gs)
{
	u32 pages = READ_ONCE(gs->pages), ballooned = READ_ONCE(gs->count[PAGE_BALLOONED]);

	return pages > ballooned ? pages - ballooned : 0;
}

static u64 with_buffer(const struct dynmem *d)
{
	u64 committed = READ_ONCE(d->committed);

	return committed + committed * d->buffer / 100;
}

u32 dynmem_wanted(const struct gspace *gs)
{
	const struct dynmem *d = &gs->dyn;
	u64 least = MIN(MAX(d->minimum, gs->alloc.reservation), d->maximum), want;

	if (!dynmem_active(gs))
		return gs->pages;
	want = d->fixed ? d->fixed : with_buffer(d);
	return (u32)CLAMP(want, least, (u64)d->maximum);
}

u32 dynmem_pressure(const struct gspace *gs)
{
	u64 have = dynmem_have(gs), percent;

	if (!dynmem_active(gs) || !have)
		return 0;
	percent = READ_ONCE(gs->dyn.committed) * 100UL / have;
	return (u32)MIN(percent, (u64)DYNMEM_PRESSURE_MAX);
}

enum dynmem_status dynmem_status(const struct gspace *gs)
{
	u32 have = dynmem_have(gs);

	if (!dynmem_active(gs))
		return DYNMEM_OFF;
	if (have < READ_ONCE(gs->dyn.committed))
		return DYNMEM_WARNING;
	return have < with_buffer(&gs->dyn) ? DYNMEM_LOW : DYNMEM_OK;
}

void dynmem_sample(struct gspace *gs)
{
	u64 says = gs->dyn.maximum ? mm_guest_committed(gs) : 0; /* read once: the guest may change it */

	WRITE_ONCE(gs->dyn.committed, (u32)MIN(says, (u64)GFN_NONE - 1));
}

u32 dynmem_balloon_max(const struct gspace *gs)
{
	u32 least = MAX(gs->dyn.minimum, gs->alloc.reservation);

	return gs->pages - MIN(gs->pages, least);
}

u32 dynmem_surplus(struct gspace *gs, u64 now_ns)
{
	struct dynmem *d = &gs->dyn;
	u32 have = dynmem_have(gs), want = dynmem_wanted(gs), slack = d->fixed ? 0 : MAX(want / 16, (u32)LARGE_PAGES);
	u32 step;

	if (!dynmem_active(gs) || have <= want + slack) {
		d->surplus_ns = 0;
		return 0;
	}
	if (!d->surplus_ns)
		d->surplus_ns = now_ns;
	if (d->fixed)
		return balloon_size(gs) + have - want;
	if (now_ns - d->surplus_ns < PATIENCE_NS || now_ns - d->step_ns < STEP_NS)
		return 0;
	d->step_ns = now_ns;
	step = MAX((have - want) / SURPLUS_STEP, SURPLUS_STEP_MIN);
	return balloon_size(gs) + MIN(step, have - want);
}

static void set_offer(struct gspace *gs, u32 pages)
{
	bool changed;

	lock_acquire(&gs->lock);
	pages = MAX(pages, gs->pages);
	changed = gs->dyn.offered != pages;
	gs->dyn.offered = pages;
	lock_release(&gs->lock);
	if (changed)
		mm_balloon_notify(gs);
}

/*
 * Pages that its target leaves for it: what it has and does not cost anything (swapped, shared) is not counted against
 * it.
 */
static u64 entitled(const struct gspace *gs)
{
	u64 used = (u64)gspace_consumed(gs) + gs->count[PAGE_ABSENT];

	return gs->target > used ? gs->target - used : 0;
}

u32 dynmem_offer(struct gspace *gs, u64 room)
{
	u32 want, grow = 0, end;

	if (!gs->dyn.maximum)
		return 0;
	want = dynmem_wanted(gs);
	/* First the balloon falls, and a balloon that the operator fixed says what the guest has. */
	if (dynmem_active(gs) && !gs->balloon_target && gs->balloon_manual == GFN_NONE && want > gs->pages)
		grow = (u32)MIN(MIN((u64)(want - gs->pages), entitled(gs)), room);
	end = (u32)MIN(ALIGN_UP((u64)gs->pages + grow, LARGE_PAGES), (u64)gs->dyn.maximum);
	if (!grow)
		end = gs->pages;
	set_offer(gs, end);
	return grow;
}
