/*
 * What this kernel tells the host of its pages (PAGE_HINT), so that the host need not keep, write or read what nobody
 * needs: copies of disk blocks, and pages that are about to be overwritten. Hints are put into a batch and sent
 * together; without the feature all of it does nothing.
 *
 * Locking: the kernel lock.
 */
#ifndef GUEST_HINT_H
#define GUEST_HINT_H

#include "guest/abi/aerostat.h"
#include "guest/kernel/ram.h"
#include "lib/types.h"

struct hint_stats {
	u64 calls, clean, overwrite, changed, not_now; /* entries; not_now: CLEAN that the host could not use */
};

struct hints {
	struct aero_hint *batch; /* NULL: the host wants none */
	u64 batch_gpa;
	u32 count;
	struct hint_stats stats;
};

/* E_NOMEM. */
int hints_init(struct hints *h, struct ram *ram, u32 features) must_check;
/* Into the batch, which is sent when it is full. */
void hint_put(struct hints *h, enum aero_hint_op op, u64 gpa, u64 block);
/* Sends what there is; on return it holds. */
void hints_send(struct hints *h);

#endif
