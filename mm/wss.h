/*
 * Working-set estimate (OSDI'02 section 5.3). Of each space a few pages, drawn at random over all of its size, are
 * watched for a period of its own time; the part of them that was touched is the part of the space that is in use.
 *
 * Three estimates: a slow and a fast moving average over past periods, and the part seen so far in the present one or
 * in the last, whichever is more: a period that has only begun tells little. The greatest counts, so that the estimate
 * rises at once, stays up, and falls slowly. Until the first period is over nothing is known, and the whole space
 * counts as in use.
 *
 * Of writes there are the same three estimates; they are shown, and move nothing. They need dirty bits.
 *
 * Touches are seen by the accessed bits of the nested tables, or, where there are none or wss_configure() says so, by
 * unmapping the watched pages. By its accessed bit a large page is watched as a whole.
 *
 * Locking: all functions are called with LOCK_RANK_RECLAIM held (reclaim.c); figures are read without a lock.
 */
#ifndef MM_WSS_H
#define MM_WSS_H

#include "lib/types.h"

struct gspace;

#define WSS_SAMPLES_MAX     240U
#define WSS_SAMPLES_DEFAULT 100U
#define WSS_PERIOD_DEFAULT  30U /* seconds of the guest's time */
#define WSS_PERIOD_MAX      3600U
#define WSS_ONE             65536U /* estimates are parts of this */

struct wss {
	u64 time_ns;     /* guest's time since all samples are watched */
	u64 last_ns;     /* mm_guest_time_ns() when that was last added to */
	u16 samples;     /* of this period; 0: none began yet */
	u16 armed, look; /* watched so far; the next to be looked at */
	u16 touched, written;
	u32 periods;                   /* completed */
	u32 fast, slow, current, last; /* last: of the last whole period */
	u32 write_fast, write_slow, write_current, write_last;
	bool by_unmapping;
	u32 gfn[WSS_SAMPLES_MAX]; /* WSS_TOUCHED, WSS_WRITTEN set once seen */
};
#define WSS_TOUCHED BIT(31)
#define WSS_WRITTEN BIT(30)

void wss_init(u64 seed); /* which pages are drawn is not for guests to know */
/* From the next periods on. samples 0: no estimate (all of a space is in use). unmap: do without accessed bits. */
void wss_configure(u32 samples, u32 period_sec, bool unmap);
/* One bounded step of one space's sampling, called each balance period. Flushes what it changes. */
void wss_step(struct gspace *gs);
/* Pages in use by the greatest estimate; all of them while nothing is known. */
u32 wss_active(const struct gspace *gs);
/* Pages that are written, by the greatest estimate. False: touches are not seen by bits, so nothing is known. */
bool wss_written(const struct gspace *gs, u32 *pages);
/* The guest was seen to be short of memory: at least so many pages are in use, from now and until estimates decay. */
void wss_raise(struct gspace *gs, u32 pages);

#endif
