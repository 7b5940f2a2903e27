/*
 * Deferred work: bounded pieces run by the CPU loop between guest slices.
 * A work item is queued at most once; an item that has more to do queues itself
 * again from its function.
 *
 * Each item has a home: the one CPU that ever runs it, the boot CPU unless work_init_on() said otherwise. So an item
 * never runs beside itself, and what only items of one home touch needs no lock; the console, reclaim, the life of
 * VMs and the completions of devices all live on the boot CPU.
 *
 * Queueing is legal from any CPU, from interrupt handlers and with any lock held: it takes none.
 */
#ifndef LIB_WORK_H
#define LIB_WORK_H

#include "lib/list.h"
#include "lib/types.h"

#define WORK_BOOT_CPU 0U

struct work {
	struct list link;
	struct work *next; /* while posted by another CPU */
	void (*fn)(struct work *w);
	const char *name;
	u32 home;
	u32 queued; /* atomic: 1 while on a list */
	u64 runs;
	struct work_kind *kind;
};

/*
 * What all items of one name took together: longest_ns is how long nothing else could run on that CPU for it. Written
 * by the CPU that runs the item, read and reset from anywhere: for the operator, right but for one item under way.
 */
#define WORK_KINDS_MAX 32U /* items of further names count for the last */
struct work_kind {
	const char *name;
	u64 runs, ns, longest_ns;
};
const struct work_kind *work_kind(u32 i); /* NULL past the last */
void work_kinds_reset(void);

/* On the boot CPU. */
void work_init(struct work *w, const char *name, void (*fn)(struct work *w));
void work_init_on(struct work *w, u32 home, const char *name, void (*fn)(struct work *w));
void work_queue(struct work *w); /* on its home, which is kicked; no-op if already queued */
bool work_pending(void);         /* on this CPU */
bool work_is_queued(const struct work *w);
/* Runs up to max items of this CPU; returns how many ran. */
u32 work_run(u32 max);

#endif
