/*
 * The hypervisor and the machine as the guest kernel's portable parts see them, on the host: memory, hypercalls,
 * balloon with all its answers, a disk that answers late and out of order, a clock that moves only as the guest works
 * or sleeps.
 *
 * What it watches for: a ballooned page that the guest (or a disk transfer) touches is not mapped and ends the test; a
 * missing TLB flush is seen because accesses go through a small TLB; pages touched are counted by the host's own
 * paging. Hints are checked, and made use of at random: a page that is a copy comes anew from the disk, one to be
 * overwritten is cleared.
 */
#ifndef FAKE_HV_GUEST_H
#define FAKE_HV_GUEST_H

#include "guest/kernel/kernel.h"
#include "lib/prng.h"

#define FAKE_TEXT_BYTES (256 * 1024)
#define FAKE_TLB        64

struct fake_request {
	bool used;
	u32 slot;
	u64 due_ns;
	struct aero_disk_request r;
};

struct fake_hv {
	/* set by fake_start, may be changed by tests before kernel_contract */
	u8 *memory;
	u32 pages, room;      /* room: it may grow to */
	u32 offered, onlined; /* pages that may be taken on line; calls that did so */
	u8 *ballooned;        /* a byte a page */
	u8 *pinned;
	u32 *copy_of;   /* a page each: 1 + block, as the guest said; 0: of none */
	u64 *copy_hash; /* of what it held then */
	u32 features;
	struct prng prng;

	/* the VM's contract */
	struct aero_info *info;
	u32 granted; /* features */
	u32 target, max, held;
	u32 rate;       /* pages a poll allows; 0: no limit */
	u32 busy_every; /* every n-th inflate entry is answered BUSY; 0: none */
	u32 vector;
	u64 inflated, deflated, refused;

	/* time */
	u64 now_ns, timer_ns, end_ns;
	u64 tsc_step_ns; /* each look at the clock costs so much */
	u64 waits;

	/* disk 0 */
	u8 *disk;
	u64 disk_pages, disk_latency_ns;
	struct aero_disk_ring *ring;
	u32 taken;
	u32 fail_reads, fail_writes; /* so many of the next requests are answered IO */
	bool stuck;                  /* never answers */
	struct fake_request request[AERO_DISK_REQUESTS];
	u64 reads, writes;
	bool lies;          /* its hints need not be true */
	u64 hints, dropped; /* taken; pages that came anew from the disk */

	/* console */
	char text[FAKE_TEXT_BYTES];
	size_t text_used;
	const char *input;

	/* the end */
	bool ended, panicked;
	u64 how;
	void *leave; /* jmp_buf of the running fake_run/fake_try */

	struct {
		u64 vpn; /* + 1; 0: unused */
		u64 pfn;
		bool dirty;
	} tlb[FAKE_TLB];
	u64 tlb_hits, tlb_flushes;
};

extern struct fake_hv fake;

/* A VM of so many MiB; disk_mib 0: none. Fills k->start and gives memory to the allocator; nothing has been called yet.
 */
void fake_start(struct kernel *k, u32 memory_mib, u32 disk_mib, const char *cmdline);
/* The same of one that may grow to max_mib. fake_offer() offers so many pages. */
void fake_start_growing(struct kernel *k, u32 memory_mib, u32 max_mib, u32 disk_mib, const char *cmdline);
void fake_offer(u32 pages);
/* fake_start, contract and application. */
void fake_boot(struct kernel *k, u32 memory_mib, u32 disk_mib, const char *cmdline);
void fake_stop(void);
/* Lets the kernel run for so long of its own time, or until it ends. */
void fake_run(struct kernel *k, u64 ns);
/* Runs fn; false if the kernel panicked or shut down in it. */
bool fake_try(void (*fn)(void *arg), void *arg);

void fake_set_target(u32 pages);
void fake_post(u64 event);
void fake_type(const char *text);
bool fake_printed(const char *text);
/* Host pages behind the VM's memory that have ever been touched and not been ballooned since. */
u32 fake_touched(void);

#endif
