/*
 * The reclaim ledger: what was taken from which VM, by which tier and why, and how much of it came back how soon. One
 * entry is what a tier took from a VM for one cause without a pause; the last LEDGER_KEPT are kept, totals are kept for
 * ever.
 *
 * It is made of the differences of the VMs' counters between two samples, so its totals are those counters at the last
 * sample. Pages that come back are taken to be those that have been away longest; the times it shows follow from that.
 * Belongs to the boot CPU.
 */
#ifndef VMM_LEDGER_H
#define VMM_LEDGER_H

#include "lib/types.h"
#include "mm/gspace.h"

enum ledger_tier { LEDGER_SHARE, LEDGER_BALLOON, LEDGER_ZIP, LEDGER_SWAP, LEDGER_CLEAN, LEDGER_TIERS };
const char *ledger_tier_name(enum ledger_tier t);
/* Which state of pages a tier takes, and what it makes of them; those that come back go the other way. */
enum page_state ledger_from(enum ledger_tier t);
enum page_state ledger_to(enum ledger_tier t);

/* In state high, what is taken is taken for a limit, by the operator, or because pages are equal. */
enum ledger_cause { CAUSE_EQUAL, CAUSE_OPERATOR, CAUSE_LIMIT, CAUSE_SOFT, CAUSE_HARD, CAUSE_LOW, LEDGER_CAUSES };
const char *ledger_cause_name(enum ledger_cause c);

#define LEDGER_KEPT 192U
struct ledger_entry {
	u64 seq; /* from 1; 0: free */
	u64 begin_ns, end_ns;
	char vm[16];
	u8 tier, cause;
	bool closed;   /* the VM has ended since: the rest does not come back */
	u64 out, back; /* pages */
	u64 away_us;   /* of those that are back, summed */
};

struct ledger_total {
	u64 out, back;
};

struct monitor_vm;
/* After each sample of a VM. */
void ledger_look(struct monitor_vm *m);
/* The first entry kept with a number of at least *seq, which is advanced past it. False: there is none. */
bool ledger_read(u64 *seq, struct ledger_entry *out);
u64 ledger_last(void);

#endif
