/*
 * Deferred work: bounded pieces run by the CPU loop between guest slices.
 * A work item is queued at most once; an item that has more to do queues itself
 * again from its function. Queueing is legal from interrupt handlers and from
 * other CPUs (it lands on the calling CPU).
 */
#ifndef LIB_WORK_H
#define LIB_WORK_H

#include "lib/list.h"
#include "lib/types.h"

struct work {
	struct list link;
	void (*fn)(struct work *w);
	const char *name;
	u32 queued; /* atomic: 1 while on a list */
	u64 runs;
};

void work_init(struct work *w, const char *name, void (*fn)(struct work *w));
void work_queue(struct work *w); /* no-op if already queued */
bool work_pending(void);	 /* on this CPU */
bool work_is_queued(const struct work *w);
/* Runs up to max items of this CPU; returns how many ran. */
u32 work_run(u32 max);

#endif
