/*
 * Balloon driver. Polls the target (once a second, on AERO_EVENT_BALLOON, and often while it is not met), keeps to
 * the host's rate, and gives pages in batches: free ones first, then cold pages of the page cache, then the coldest of
 * the application. It stops at a reserve of its own, tells why, and gives a little back when the kernel would otherwise
 * fail.
 *
 * Pages it holds aside: `ready` are on their way into the balloon (they went out of the application for it), `refused`
 * were not accepted and are kept from being offered again at once.
 *
 * Locking: the kernel lock.
 */
#ifndef GUEST_BALLOON_H
#define GUEST_BALLOON_H

#include "guest/abi/aerostat.h"
#include "guest/kernel/cache.h"
#include "guest/kernel/pager.h"
#include "guest/kernel/ram.h"
#include "lib/types.h"

#define BALLOON_READY_MAX   512
#define BALLOON_REFUSED_MAX 64
#define BALLOON_EMERGENCY   64 /* pages taken back when memory is short */

/* What moving pages took, guest and host together: [0] in 4 KiB units, [1] in 2 MiB units. */
struct balloon_cost {
	u64 pages[2], ticks[2];
};

struct balloon {
	struct ram *ram;
	struct pager *pager;
	struct cache *cache;
	struct aero_info *info;
	u64 *batch, batch_gpa; /* one shared page */
	bool present, units_2m;
	u32 reserve; /* free pages it leaves, a share of what the guest has now */
	u32 target;  /* newest, pages */
	u32 ready_count, refused_count;
	u32 ready[BALLOON_READY_MAX], refused[BALLOON_REFUSED_MAX];
	u64 refused_until_ns; /* then they are offered again */
	u64 hold_until_ns;    /* no inflation after an emergency */
	u64 short_sequence;   /* target for which lack of memory was already counted */
	u32 search;           /* where the next ballooned page is looked for */
	u64 next_ns;          /* when balloon_step() wants to be called */
	u64 batches, calls_4k, calls_2m, emergencies;
	struct balloon_cost up, down;
};

/* E_NOMEM. features: as granted by HELLO. */
int balloon_init(struct balloon *b, struct ram *ram, struct pager *pager, struct cache *cache, struct aero_info *info,
		 u32 features) must_check;
/* One bounded piece of work toward the target. */
void balloon_step(struct balloon *b, u64 now_ns);
/* Memory is short: pages held aside and a few ballooned ones become free. Returns how many. */
u32 balloon_relieve(struct balloon *b, u64 now_ns);
/* A page that the pager took out of the application for the balloon. */
void balloon_take_ready(struct balloon *b, u32 pfn);

#endif
