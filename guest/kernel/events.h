/* Events from the host: bits of the shared page, collected here and handled by the kernel's loop. */
#ifndef GUEST_EVENTS_H
#define GUEST_EVENTS_H

#include "lib/types.h"

struct events {
	u64 *shared;   /* aero_info.events */
	u64 collected; /* taken from the shared page, not handled yet */
};

void events_init(struct events *e, u64 *shared);
void events_collect(struct events *e); /* takes those of the shared page */
/* Handled now: clears and returns those of mask. */
u64 events_take(struct events *e, u64 mask);
/* Sleeps until the host posts something new (or for no reason). */
void events_wait(struct events *e);

#endif
