/*
 * Balloon: host side of the contract. The target is policy's (reclaim.c); the guest
 * inflates and deflates by batched hypercalls (vmm/hypercall.c calls in here with entries already copied from
 * the guest). Every reply carries the newest target. Nothing here trusts the guest.
 */
#ifndef MM_BALLOON_H
#define MM_BALLOON_H

#include "lib/types.h"

struct gspace;

#define BALLOON_BATCH_MAX    512U   /* entries a hypercall */
#define BALLOON_MAX_PERCENT  65     /* vmmemctl: sched.mem.maxmemctl */
#define BALLOON_RATE_DEFAULT 16384U /* pages a second: 64 MiB/s */
/* of a VM, at least one 2 MiB unit: what it may take back at once, whatever its rate */
#define BALLOON_CREDIT_PERCENT 3
#define BALLOON_CREDIT_NS      (10 * NSEC_PER_SEC) /* a used credit is whole again after so long */
#define BALLOON_RELIEF_NS      (2 * NSEC_PER_SEC)  /* a guest that took back is left alone for so long */
#define BALLOON_STALL_NS       (5 * NSEC_PER_SEC)  /* Xen squeezed: no progress in 5 s is inactive */

#define BALLOON_CALL_PAGES     4096U /* pages moved in one call: bounds the time away from the guest */
#define BALLOON_BURST_PERCENT  25    /* of a second's rate may be moved at once (never less than one 2 MiB unit) */

/* The statuses of the guest ABI (AERO_BALLOON_*), which mm does not include. */
enum balloon_status {
	BALLOON_OK = 0,
	BALLOON_INVALID = 1,
	BALLOON_PINNED = 2,
	BALLOON_BUSY = 3,
	BALLOON_ALREADY = 4,
	BALLOON_OVER = 5,
};

/*
 * Entry: gfn in bits 51:12 (as a gpa), bit 0: 2 MiB unit; the result code (enum balloon_status) is put in bits
 * 11:4, whatever they held. A 2 MiB unit (gs->balloon_2m, else INVALID) is all or nothing on inflate; on deflate, its
 * ballooned pages come back. Pages beyond the rate or BALLOON_CALL_PAGES get BUSY. n <= BALLOON_BATCH_MAX. Deflate is
 * never refused for the target: the guest could touch the pages as well. Beyond the rate down it has a credit, so that
 * a guest short of memory is not kept waiting. Returns entries accepted; statuses written back.
 */
u32 balloon_inflate(struct gspace *gs, u64 *entries, u32 n);
u32 balloon_deflate(struct gspace *gs, u64 *entries, u32 n);

u32 balloon_size(const struct gspace *gs); /* pages in state BALLOONED */
/* Sets the target, clamped to [0, balloon_max]; notifies on change. LOCK_RANK_RECLAIM held (reclaim.c). */
void balloon_set_target(struct gspace *gs, u32 pages);
/* What the guest may take back at once when its credit is whole. */
u64 balloon_credit_pages(const struct gspace *gs);
/* The time the guest has for a target: what its rate needs, and slack_ms. */
u32 balloon_deadline_ms(const struct gspace *gs, u32 pages, u32 slack_ms);

/*
 * What is wrong with a driver: it does not move, or it gives pages and touches them again (more than BALLOON_LIE_PAGES
 * and a quarter of what it gave, within BALLOON_WATCH_NS). Then the next tier does its part, until it has behaved for
 * as long.
 */
enum balloon_trouble { BALLOON_FINE, BALLOON_STALLED, BALLOON_LYING };
#define BALLOON_WATCH_NS    (5 * NSEC_PER_SEC)
#define BALLOON_DISTRUST_NS (15 * NSEC_PER_SEC)
#define BALLOON_LIE_PAGES   128U
/* LOCK_RANK_RECLAIM held; each balance period. Tells the operator of changes. */
enum balloon_trouble balloon_judge(struct gspace *gs, u64 now_ns);

/* It is below its target and has not grown for BALLOON_STALL_NS. */
bool balloon_stalled(const struct gspace *gs, u64 now_ns);
/* Pages the guest may move now toward its target under its rate (token bucket). */
u32 balloon_allowance(struct gspace *gs, u64 now_ns);

#endif
