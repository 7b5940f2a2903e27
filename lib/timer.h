/*
 * Software timers of one CPU, in a heap: arming costs the same however many there are. The CPU loop programs the
 * hardware for timer_next_ns() and calls timer_run_expired(). Callbacks run in the loop, not in interrupt context, and
 * must be short (queue work).
 *
 * A timer fires on its home: the boot CPU, as for work (lib/work.h), or, for those of timer_init_local(), the CPU that
 * armed it last. Any CPU may arm and cancel a timer. Calls for one timer may come at once from several CPUs if it has a
 * fixed home; for a local one the caller keeps them apart.
 */
#ifndef LIB_TIMER_H
#define LIB_TIMER_H

#include "lib/types.h"

#define TIMER_NEVER (~0UL)
#define TIMER_LOCAL (~0U)

struct timer {
	struct timer *child, *next, *prev; /* in the heap; prev of a first child is its parent */
	u64 deadline_ns, order;            /* order of arming, among equal deadlines */
	void (*fn)(struct timer *t);
	u32 home; /* CPU, or TIMER_LOCAL */
	u32 cpu;  /* whose heap it is in, or was last; changed with no heap's lock only while not armed */
	bool armed;
};

void timer_init(struct timer *t, void (*fn)(struct timer *t));
void timer_init_local(struct timer *t, void (*fn)(struct timer *t));
void timer_arm(struct timer *t, u64 deadline_ns); /* re-arms if armed */
void timer_cancel(struct timer *t);               /* its function may still be running on another CPU */
/* As timer_cancel, and waits for its function to end. No lock held. */
void timer_cancel_sync(struct timer *t);
u64 timer_next_ns(void); /* earliest deadline on this CPU, or TIMER_NEVER */
void timer_run_expired(u64 now_ns);

#endif
