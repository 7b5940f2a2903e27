/*
 * Alerts: what an operator should know before it hurts. Each rule is looked at with every sample; what holds long
 * enough raises the alert, what has not held for `alert-clear` seconds clears it. Both are events and lines of the log.
 *
 * Thresholds are settings (numbers.h). Belongs to the boot CPU.
 */
#ifndef VMM_ALERTS_H
#define VMM_ALERTS_H

#include "lib/types.h"
#include "vmm/events.h"

struct monitor_vm;

/* Those of one VM first. */
enum alert_rule {
	ALERT_BALLOON,
	ALERT_STALLED,
	ALERT_REFAULT,
	ALERT_PRESSURE,
	ALERT_ZIP_FULL,
	ALERT_STARVED,
	ALERT_VM_RULES,
	ALERT_NO_MEMORY = ALERT_VM_RULES,
	ALERT_SWAPPING,
	ALERT_SWAP_FULL,
	ALERT_CASCADE,
	ALERT_DEVICE,
	ALERT_RULES
};

struct alert_state {
	u64 since_ns;  /* its cause has held since then, 0: it does not */
	u64 last_ns;   /* when its cause held last */
	u64 raised_ns; /* 0: not raised now */
	u64 cleared_ns;
	u32 times;             /* ever raised */
	char text[EVENT_TEXT]; /* the cause in figures, when it held last */
};

struct alert_rule_info {
	const char *name, *what;
	enum event_level level;
};
extern const struct alert_rule_info alert_rule[ALERT_RULES];

/* After each sample: of one VM, of the host. */
void alerts_look_vm(struct monitor_vm *m);
void alerts_look_host(void);
/* The VM is gone: what was raised is cleared. */
void alerts_forget_vm(struct monitor_vm *m);
/* State of a rule of the host (rule >= ALERT_VM_RULES). */
const struct alert_state *alerts_host(enum alert_rule rule);
u32 alerts_raised(void); /* now, in all */

#endif
