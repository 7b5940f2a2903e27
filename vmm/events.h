/*
 * What happened, with sequence numbers: alerts raised and cleared, states of VMs, memory states, settings. The last
 * EVENTS_KEPT are kept; numbers never repeat, so that a reader sees what it has missed.
 *
 * Belongs to the boot CPU.
 */
#ifndef VMM_EVENTS_H
#define VMM_EVENTS_H

#include "lib/types.h"

#define EVENTS_KEPT 256U
#define EVENT_TEXT  40 /* a row of `events` fits 80 columns */

enum event_level { EVENT_INFO, EVENT_WARNING, EVENT_CRITICAL, EVENT_LEVELS };
const char *event_level_name(enum event_level l);

struct event {
	u64 seq, ns; /* seq: from 1 */
	enum event_level level;
	char object[16]; /* a VM's name, or "host" */
	char text[EVENT_TEXT];
};

void events_add(enum event_level level, const char *object, const char *fmt, ...) printf_like(3, 4);
/* The first event kept with a number of at least *seq, which is advanced past it. False: there is none. */
bool events_read(u64 *seq, struct event *out);
u64 events_last(void); /* number of the newest, 0: none yet */

#endif
