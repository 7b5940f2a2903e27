/*
 * Settings of the host that are plain numbers: one table for the configuration file, `set`, `get` and completion. What
 * is in force is kept by settings.c.
 */
#ifndef VMM_NUMBERS_H
#define VMM_NUMBERS_H

#include "lib/types.h"

enum number {
	NUMBER_ALERT_BALLOON,
	NUMBER_ALERT_BALLOON_TIME,
	NUMBER_ALERT_SWAP,
	NUMBER_ALERT_SWAP_FULL,
	NUMBER_ALERT_ZIP_FULL,
	NUMBER_ALERT_REFAULT,
	NUMBER_ALERT_DISK_LATENCY,
	NUMBER_ALERT_CASCADE_VMS,
	NUMBER_ALERT_CLEAR,
	NUMBER_IDLE_TAX,
	NUMBER_BALLOON_RATE_DOWN,
	NUMBER_WSS_SAMPLES,
	NUMBER_WSS_PERIOD,
	NUMBER_WSS_UNMAP,
	NUMBER_METRICS_INTERVAL,
	NUMBERS
};

struct number_key {
	const char *name;
	u32 min, max, standard;
	const char *unit; /* behind the value, for the operator */
};
extern const struct number_key number_key[NUMBERS];

/* NUMBERS: no such key. */
enum number number_find(const char *name);

#endif
