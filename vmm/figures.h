/*
 * The figures of host and VMs at one moment: the one place that alerts, history, `top`, `why` and metrics take them
 * from. Counters run since the VM's start (host: since boot); memory is in pages.
 *
 * On the boot CPU, where VMs come and go. What a guest tells of itself is copied, never believed.
 */
#ifndef VMM_FIGURES_H
#define VMM_FIGURES_H

#include "arch/x86/hv.h"
#include "mm/gspace.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zip.h"
#include "vmm/pvdisk.h"
#include "vmm/vm.h"

/* All block devices together. */
struct disk_figures {
	u64 reads, writes, read_pages, write_pages, ns, errors; /* ns: latency, summed. errors: time-outs, too */
	u64 resets;
	u32 devices, gone;
	const char *gone_name; /* of one of those, or NULL */
};

struct host_figures {
	u64 ns;
	struct vm_host_memory memory;
	u64 page[PAGE_STATES];
	u64 configured; /* pages of VMs that have memory */
	u32 vms, running;
	struct reclaim_stats reclaim;
	struct share_stats share;
	struct swap_stats swap;
	struct zip_stats zip;
	struct disk_figures disk;
};

struct guest_figures {
	char app[16]; /* a printable word */
	u64 operations, errors, checked, latency_ns;
	u32 hit_permille;
	u64 refaults, refault_ns, refused;
	u64 total, free, cached, committed, paged_in, paged_out, stalls;
};

struct vm_figures {
	u64 ns;
	enum vm_state state;
	bool live;     /* has memory: what follows is valid */
	bool has_disk; /* disk is */
	bool speaks;   /* guest is */
	u32 pages, consumed, target, reservation, limit, shares;
	u32 count[PAGE_STATES];
	u32 balloon_target, balloon_max, tables, swap_reserved;
	u32 zip_frames, zip_max; /* of its compressed pages: frames they take, and may take */
	u64 zip_bytes;           /* their data */
	u32 tables_max;          /* frames that its tables can grow to */
	u32 hinted;              /* private pages that the search for equal ones has seen */
	u32 written;             /* pages written, by the same samples */
	bool written_known;
	/* pages in use, by the working-set samples; of these two the estimates, in permille */
	u32 active, active_slow, active_fast;
	bool balloon_present, balloon_stalled, balloon_manual;
	enum dynmem_status demand;            /* OFF: its size is fixed, and the next four are 0 */
	u32 committed, wanted, has, pressure; /* pressure: percent */
	struct gspace_stats stats;
	u32 vcpus;
	u64 run_ns, wait_ns; /* of all vCPUs: in the guest, waiting for memory */
	/* for how long a vCPU, or a request of its disk, has waited for one page and got none; 0: none does */
	u64 starved_ns;
	u64 exits[HV_EXIT_KINDS], exits_all;
	struct pvdisk_stats disk;
	struct guest_figures guest;
};

static inline bool figures_at_limit(const struct vm_figures *f)
{
	return f->limit < f->pages && f->consumed >= f->limit;
}
/* What a VM that is starved lacks, in a word or two. */
const char *figures_lack(const struct vm_figures *f, const struct host_figures *h);

void figures_host(struct host_figures *out);
void figures_vm(struct vm *vm, struct vm_figures *out);

/* Frames that sharing saves: zero pages, and shared ones but for the frames that back them. */
u64 figures_saved(const struct host_figures *h);
u64 figures_vm_saved(const struct vm_figures *f, const struct host_figures *h); /* a VM's part of them */
/* Memory of all VMs against what there is for them, in hundredths. */
u64 figures_overcommit(const struct host_figures *h);

#endif
