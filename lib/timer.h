/*
 * Software timers of one CPU, kept sorted. The CPU loop programs the hardware
 * for timer_next_ns() and calls timer_run_expired(). Callbacks run in the loop,
 * not in interrupt context, and must be short (queue work).
 */
#ifndef LIB_TIMER_H
#define LIB_TIMER_H

#include "lib/list.h"
#include "lib/types.h"

#define TIMER_NEVER (~0UL)

struct timer {
	struct list link;
	u64 deadline_ns;
	void (*fn)(struct timer *t);
	bool armed;
};

void timer_init(struct timer *t, void (*fn)(struct timer *t));
void timer_arm(struct timer *t, u64 deadline_ns); /* re-arms if armed */
void timer_cancel(struct timer *t);
u64 timer_next_ns(void); /* earliest deadline on this CPU, or TIMER_NEVER */
void timer_run_expired(u64 now_ns);

#endif
