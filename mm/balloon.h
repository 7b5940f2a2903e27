/*
 * Balloon: host side of the contract. The target is policy's (reclaim.c); the guest
 * inflates and deflates by batched hypercalls (vmm/hypercall.c calls in here with entries already copied from
 * the guest). Every reply carries the newest target. Nothing here trusts the guest.
 */
#ifndef MM_BALLOON_H
#define MM_BALLOON_H

#include "lib/types.h"

struct gspace;

#define BALLOON_BATCH_MAX 512U		/* entries a hypercall */
#define BALLOON_MAX_PERCENT 65		/* vmmemctl: sched.mem.maxmemctl */
#define BALLOON_RATE_DEFAULT 16384U	/* pages a second: 64 MiB/s */
#define BALLOON_STALL_NS (5 * NSEC_PER_SEC) /* Xen squeezed: no progress in 5 s is inactive */

/* Entry: gfn in bits 51:12 (as a gpa), bit 0: 2 MiB unit; the result code (0 or an AERO_BALLOON_* status) is put in bits 11:4. */
u32 balloon_inflate(struct gspace *gs, u64 *entries, u32 n); /* returns entries accepted; statuses written back */
u32 balloon_deflate(struct gspace *gs, u64 *entries, u32 n);

u32 balloon_size(const struct gspace *gs);	/* pages in state BALLOONED */
/* Sets the target, clamped to [0, balloon_max]; notifies on change. */
void balloon_set_target(struct gspace *gs, u32 pages);
bool balloon_stalled(const struct gspace *gs, u64 now_ns);
/* Pages the guest may move now under its rate (token bucket). */
u32 balloon_allowance(struct gspace *gs, u64 now_ns);

#endif
