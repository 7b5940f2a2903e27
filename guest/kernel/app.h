/*
 * A workload as the kernel sees it; guest/apps has them. The kernel calls step() again and again; each call works for
 * at most about a slice and says when it wants to be called next. All times are the VM's clock.
 */
#ifndef GUEST_APP_H
#define GUEST_APP_H

#include "guest/kernel/kernel.h"

struct app {
	const char *name;
	/* Reads k->args, makes its state. Prints why on an error. */
	int (*start)(struct kernel *k);
	/* Works until about `until`. Returns the time of its next wish: 0 at once, KERNEL_NEVER only on events. */
	u64 (*step)(struct kernel *k, u64 until_ns);
	/* As step, on the other vCPUs. NULL: step is called with the kernel lock held, otherwise without. */
	u64 (*work)(struct kernel *k, u32 cpu, u64 until_ns);
	/* One line for the operator; also at the end. NULL: nothing to say. */
	void (*report)(struct kernel *k);
	/* Begins a full check of everything it owns, done by later steps. NULL: has nothing. */
	void (*check)(struct kernel *k);
};

/* Implemented by guest/apps/apps.c. NULL: unknown. */
const struct app *app_find(const char *name);
const char *app_names(void);

#endif
