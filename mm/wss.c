/*
 * Working-set estimate. See wss.h.
 *
 * A period goes: watch WSS_PIECE samples a step until all are; look at a few each step, so that the current estimate is
 * never older than some seconds; when the guest has had its time, look at all that are left and average.
 *
 * Flush rules. A watched page's accessed bit is clear, or it is unmapped, and a processor that still holds the old
 * translation would not set the bit, or fault: so each piece ends with gspace_flush(), and the period begins after it.
 */
#include "mm/wss.h"

#include "lib/panic.h"
#include "lib/prng.h"
#include "mm/gspace.h"
#include "mm/platform.h"

#define WSS_PIECE   32U /* samples a step: some thousand instructions */
#define FAST_SHIFT  1   /* a new period counts 1/2 in the fast average, 1/4 in the slow */
#define SLOW_SHIFT  2
#define STEP_NS_MAX NSEC_PER_SEC

static struct {
	u32 samples;
	u64 period_ns;
	bool unmap;
	struct prng rnd;
} wss = {.samples = WSS_SAMPLES_DEFAULT, .period_ns = WSS_PERIOD_DEFAULT * NSEC_PER_SEC, .rnd = {{1, 2, 3, 4}}};

void wss_init(u64 seed)
{
	prng_seed(&wss.rnd, seed);
}

void wss_configure(u32 samples, u32 period_sec, bool unmap)
{
	WRITE_ONCE(wss.samples, MIN(samples, WSS_SAMPLES_MAX));
	WRITE_ONCE(wss.period_ns, CLAMP(period_sec, 1U, WSS_PERIOD_MAX) * NSEC_PER_SEC);
	WRITE_ONCE(wss.unmap, unmap);
}

static void begin(struct gspace *gs)
{
	struct wss *w = &gs->wss;

	w->samples = (u16)READ_ONCE(wss.samples);
	w->by_unmapping = READ_ONCE(wss.unmap) || !gspace_has_accessed(gs);
	w->armed = w->look = w->touched = w->written = 0;
	w->current = w->write_current = 0;
}

/* What was taken from translations is flushed before anything is concluded from what processors do next. */
static void arm_piece(struct gspace *gs)
{
	struct wss *w = &gs->wss;
	u32 end = MIN(w->armed + WSS_PIECE, (u32)w->samples);
	u64 gen = gs->tlb_gen;
	bool changed = false;

	for (; w->armed < end; w->armed++) {
		w->gfn[w->armed] = (u32)prng_below(&wss.rnd, gs->pages);
		changed |= gspace_watch(gs, w->gfn[w->armed], w->by_unmapping);
	}
	gspace_flush(gs);
	DCHECK(!changed || READ_ONCE(gs->tlb_gen) != gen);
	if (w->armed == w->samples) {
		w->time_ns = 0;
		w->last_ns = mm_guest_time_ns(gs);
	}
}

static void look_at(struct gspace *gs, u32 i)
{
	struct wss *w = &gs->wss;
	gfn_t gfn = w->gfn[i] & ~(u32)(WSS_TOUCHED | WSS_WRITTEN);
	bool written;

	if (w->gfn[i] & WSS_WRITTEN || (w->gfn[i] & WSS_TOUCHED && w->by_unmapping) ||
	    !gspace_watched_touched(gs, gfn, w->by_unmapping, &written))
		return;
	w->touched += !(w->gfn[i] & WSS_TOUCHED);
	w->written += written;
	w->gfn[i] |= (u32)WSS_TOUCHED | (written ? (u32)WSS_WRITTEN : 0);
}

static void look_piece(struct gspace *gs)
{
	struct wss *w = &gs->wss;
	u32 n = MIN(WSS_PIECE, (u32)w->samples);

	while (n--) {
		look_at(gs, w->look);
		w->look = (u16)((w->look + 1) % w->samples);
	}
	WRITE_ONCE(w->current, w->touched * WSS_ONE / w->samples);
	WRITE_ONCE(w->write_current, w->written * WSS_ONE / w->samples);
}

static u32 average(u32 old, u32 seen, u32 shift)
{
	return (u32)((s32)old + ((s32)seen - (s32)old) / (1 << shift));
}

static void add_period(u32 *fast, u32 *slow, u32 seen, bool first)
{
	WRITE_ONCE(*fast, first ? seen : average(*fast, seen, FAST_SHIFT));
	WRITE_ONCE(*slow, first ? seen : average(*slow, seen, SLOW_SHIFT));
}

static void finish(struct gspace *gs)
{
	struct wss *w = &gs->wss;

	for (u32 i = 0; i < w->samples; i++)
		look_at(gs, i);
	WRITE_ONCE(w->last, w->touched * WSS_ONE / w->samples);
	WRITE_ONCE(w->write_last, w->written * WSS_ONE / w->samples);
	add_period(&w->fast, &w->slow, w->last, !w->periods);
	add_period(&w->write_fast, &w->write_slow, w->write_last, !w->periods);
	WRITE_ONCE(w->periods, w->periods + 1);
}

/* A pause in the middle of a halt shows as a leap once it is over. */
static void pass_time(struct gspace *gs)
{
	struct wss *w = &gs->wss;
	u64 now = mm_guest_time_ns(gs);

	if (now > w->last_ns)
		w->time_ns += MIN(now - w->last_ns, STEP_NS_MAX);
	w->last_ns = now;
}

void wss_step(struct gspace *gs)
{
	struct wss *w = &gs->wss;

	if (!w->samples) {
		begin(gs);
		return;
	}
	if (w->armed < w->samples) {
		arm_piece(gs);
		return;
	}
	look_piece(gs);
	pass_time(gs);
	if (w->time_ns >= READ_ONCE(wss.period_ns)) {
		finish(gs);
		begin(gs);
	}
}

u32 wss_active(const struct gspace *gs)
{
	const struct wss *w = &gs->wss;
	u32 part = MAX(MAX(READ_ONCE(w->fast), READ_ONCE(w->slow)), MAX(READ_ONCE(w->current), READ_ONCE(w->last)));

	if (!READ_ONCE(w->periods) || !READ_ONCE(wss.samples))
		return gs->pages;
	return (u32)((u64)gs->pages * MIN(part, WSS_ONE) / WSS_ONE);
}

bool wss_written(const struct gspace *gs, u32 *pages)
{
	const struct wss *w = &gs->wss;
	u32 part = MAX(MAX(READ_ONCE(w->write_fast), READ_ONCE(w->write_slow)),
		       MAX(READ_ONCE(w->write_current), READ_ONCE(w->write_last)));

	*pages = (u32)((u64)gs->pages * MIN(part, WSS_ONE) / WSS_ONE);
	return READ_ONCE(w->periods) && READ_ONCE(wss.samples) && !READ_ONCE(w->by_unmapping) && gs->pt.fmt->dirty;
}

void wss_raise(struct gspace *gs, u32 pages)
{
	u32 part = (u32)((u64)MIN(pages, gs->pages) * WSS_ONE / gs->pages);

	if (gs->wss.periods && part > gs->wss.fast)
		WRITE_ONCE(gs->wss.fast, part);
}
