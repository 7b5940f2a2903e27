/*
 * Dynamic Memory: how much a VM has, by what its guest says it needs. It starts with one size; while it runs it has
 * between `minimum` and `maximum`. More memory is an offer that the guest takes on line (gspace_grow); less is the
 * balloon's, so a space never shrinks. What a guest has is its size less its balloon.
 *
 * wanted = committed + buffer %, between minimum (or the reservation, if that is more) and maximum; or what the
 * operator fixed. reclaim.c takes it for the bounds of the VM's target, so that reservations, limit, shares and idle
 * tax hold as for every other VM: where memory is short a guest gets of what it wants what its shares are worth. The
 * words, the buffer of 20 % and pressure and status are those of Hyper-V's Dynamic Memory.
 *
 * committed is the guest's word. It is bounded, and moves nothing but this VM's own size between bounds that the
 * operator gave and admission has backed (the maximum counts), so a lie costs only the liar.
 *
 * Locking: `offered` is written with gs->lock; the rest as the fields of reclaim (LOCK_RANK_RECLAIM), or before the
 * first balance.
 */
#ifndef MM_DYNMEM_H
#define MM_DYNMEM_H

#include "lib/types.h"

struct gspace;

#define DYNMEM_BUFFER_DEFAULT 20U /* percent */
#define DYNMEM_BUFFER_MIN     5U
#define DYNMEM_BUFFER_MAX     2000U
#define DYNMEM_PRESSURE_MAX   9999U /* as it is shown */

struct dynmem {
	u32 minimum, maximum; /* pages; maximum 0: the VM's size is fixed */
	u32 buffer;           /* percent of what is committed */
	u32 fixed;            /* the operator's size, pages; 0: by demand */
	u32 committed;        /* as the guest last said; 0: it has said nothing */
	u32 offered;          /* pages: it may take memory on line up to there; its size: nothing */
	bool present;         /* the guest takes memory on line */
	u64 surplus_ns;       /* since when it has clearly more than it wants; 0: it has not */
	u64 step_ns;          /* when it was last asked for a part of that */
	u64 grown;            /* pages taken on line */
};

/* OK: it has what it wants. LOW: its buffer is not full. WARNING: it has less than it has committed. */
enum dynmem_status { DYNMEM_OFF, DYNMEM_OK, DYNMEM_LOW, DYNMEM_WARNING };
const char *dynmem_status_name(enum dynmem_status s);

/* Does its size change by itself or the operator's word? Its guest has to be able to, and to have told its needs. */
bool dynmem_active(const struct gspace *gs);
u32 dynmem_have(const struct gspace *gs);     /* pages */
u32 dynmem_wanted(const struct gspace *gs);   /* pages; of a VM whose size is fixed: its size */
u32 dynmem_pressure(const struct gspace *gs); /* committed / have, percent; 0 unless active */
enum dynmem_status dynmem_status(const struct gspace *gs);

/* The rest is reclaim's: LOCK_RANK_RECLAIM held. */

/* Each balance period, before targets are computed: what does the guest need now? */
void dynmem_sample(struct gspace *gs);
/* Most its balloon may ever hold: what is above the minimum. */
u32 dynmem_balloon_max(const struct gspace *gs);
/* Balloon with which it gives back what it has too much: a step at a time, after it has had it for a while. 0: none. */
u32 dynmem_surplus(struct gspace *gs, u64 now_ns);
/*
 * Offers what it may have more, in steps of 2 MiB, of `room` frames that nobody else is entitled to. Returns pages that
 * may be taken. Tells the guest of a change.
 */
u32 dynmem_offer(struct gspace *gs, u64 room);

#endif
