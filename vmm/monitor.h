/*
 * The monitor: once a second it takes the figures of host and VMs, a few VMs a piece, and works out rates. Alerts,
 * history and `top` live on what it has taken.
 *
 * Each VM has a frame and a block for its history of its own for that, from its creation (at the latest with the next
 * sample) to its end; without memory for it a VM is not monitored. Belongs to the boot CPU.
 */
#ifndef VMM_MONITOR_H
#define VMM_MONITOR_H

#include "lib/types.h"
#include "vmm/alerts.h"
#include "vmm/figures.h"
#include "vmm/history.h"
#include "vmm/ledger.h"

/* A second, over the last sample's interval. */
struct vm_rates {
	u32 swap_out, swap_in, balloon_out, balloon_back, cow_breaks; /* pages */
	u32 zip_in, zip_out;                                          /* pages compressed, expanded */
	/* pages that had to come back: from swap, or paged in again by the guest for its balloon */
	u32 refaults;
	u32 paged_in, paged_out; /* by the guest to its own disk */
	u32 faults, exits, operations;
	u32 exits_of[HV_EXIT_KINDS];
	u32 disk_reads, disk_writes; /* pages */
	u32 disk_us;                 /* mean latency of a transfer; 0: there was none */
	u32 run_permille;            /* of one CPU, all vCPUs together */
	u32 wait_permille;           /* of its vCPUs' time: waiting for memory */
};

struct host_rates {
	u32 swap_out, swap_in;
	u32 swap_out_mean, swap_in_mean; /* the same in hundredths, smoothed over some ten seconds */
	u32 zip_in, zip_out;             /* pages compressed, expanded */
	u32 disk_reads, disk_writes, disk_us;
	u32 errors, resets; /* not rates: of devices and swap, since the last sample */
	u32 paging_vms;     /* VMs of which pages moved to or from a disk for lack of memory */
	s32 free_change;    /* frames a second, smoothed */
};

struct monitor_vm {
	u16 id;
	char name[16];
	u32 turn; /* that met it last: of samples and syncs */
	struct vm_figures now, before;
	struct vm_rates rate;
	u64 limited_ns; /* when it was last seen at its limit; 0: never */
	struct alert_state alert[ALERT_VM_RULES];
	struct ledger_total ledger[LEDGER_TIERS]; /* since the VM's start */
	u64 entry[LEDGER_TIERS];                  /* the ledger's newest of this VM, 0: none */
	struct history *history;                  /* in frames of its own */
};

#define MONITOR_LOADS 3U /* 1, 5, 15 minutes */
struct monitor_host {
	u32 samples;
	struct host_figures now, before;
	struct host_rates rate;
	u64 overcommit[MONITOR_LOADS]; /* means, in 1/100000 */
	struct history history;
};

void monitor_init(void);
/* Blocks for VMs that are new, none for those that are gone. Once VMs have been made or removed. */
void monitor_sync(void);

/*
 * A sample in pieces: begin, then piece until it is false. The samples of the machine's clock are taken by
 * monitor_init()'s timer; tests take their own.
 */
void monitor_sample_begin(void);
bool monitor_sample_piece(void);

const struct monitor_host *monitor_host(void);
/* i < VM_MAX: in no order; NULL: no VM there. Valid within the same work item. */
const struct monitor_vm *monitor_at(u32 i);
const struct monitor_vm *monitor_find(const char *name);
/* Mean overcommit, in hundredths; which: 0, 1, 2 for 1, 5, 15 minutes. */
u64 monitor_overcommit(u32 which);
/*
 * The forecast: seconds until free memory is below that state's threshold at the present rate; 0: it is, or never will
 * be.
 */
u64 monitor_seconds_to(enum reclaim_state state);
/* A mean in hundredths with one more sample, which counts for an eighth of it. */
u32 monitor_smoothed(u32 mean, u32 now);
u64 monitor_bytes(void); /* of all blocks */

#endif
