/*
 * The order in which memory is taken back, and when. States by free memory
 * against minFree (a sliding share of RAM), with hysteresis:
 *   high  share at the low rate only; balloons fall as far as demand allows. With more than 4 times minFree free there
 *         is plenty: large guest pages are given and put together again, and the scanner leaves them alone; below, it
 *         breaks those in which it finds something to share
 *   clear share actively
 *   soft  + balloon
 *   hard  + compress and swap
 *   low   + both at full speed; guest allocations of VMs above their target wait
 * Targets always aim above high: what soft or worse has begun goes on, in clear too, until high is reached. The figures
 * are set by reclaim_config.
 */
#ifndef MM_RECLAIM_H
#define MM_RECLAIM_H

#include "lib/types.h"

struct gspace;

enum reclaim_state { RECLAIM_HIGH, RECLAIM_CLEAR, RECLAIM_SOFT, RECLAIM_HARD, RECLAIM_LOW, RECLAIM_STATES };
const char *reclaim_state_name(enum reclaim_state s);

/* Percent of minFree below which each state begins; clear: 100 (ESX 6/4/2/1 % of RAM = 100/64/32/16 % of minFree). */
struct reclaim_config {
	/* frames; 0 = sliding scale: 6 % of the first 4 GiB, 4 % of 4-12, 2 % of 12-28, 1 % of the rest */
	u32 min_free;
	u32 soft_pct, hard_pct, low_pct; /* 64, 32, 16 */
	u32 hysteresis_pct;              /* a state is left upward only this far above its threshold: 8 */
	u32 period_ms;                   /* balance period: 250 */
};

struct reclaim_stats {
	enum reclaim_state state;
	u32 free, min_free;            /* frames */
	u32 threshold[RECLAIM_STATES]; /* frames: state s begins below threshold[s] (HIGH: min_free) */
	u64 transitions[RECLAIM_STATES];
	u64 state_since_ns;
	char cause[64];                  /* of the last change */
	u32 tax;                         /* percent */
	u64 ballooned_target, ballooned; /* pages, all VMs */
};

/* ESX's Mem.MemMinFreePct: 6 % of the first 4 GiB, 4 % up to 12, 2 % up to 28, 1 % of the rest. Frames. */
u32 reclaim_sliding_min_free(u64 frames);
/* After the frames are known. NULL or zero fields: the defaults. */
void reclaim_init(const struct reclaim_config *cfg);
/* Operator: minFree from now on, with the thresholds that hang on it; 0 = the sliding scale. Frames. */
void reclaim_set_min_free(u32 frames);
/* Operator: idle memory tax, percent, at most POLICY_TAX_MAX. */
void reclaim_set_tax(u32 percent);
/* Settings of a space have changed: targets are computed anew at once. */
void reclaim_rebalance(void);
/* Registers a space for reclaim, after admission; and removes it. */
void reclaim_add(struct gspace *gs);
void reclaim_remove(struct gspace *gs);

/* One bounded step; deferred work calls it each period and whenever reclaim_pressure() turned true. */
void reclaim_step(u64 now_ns);
/* One piece of the share scan: RECLAIM_SCANS_PER_SEC of them a second, each within the scanner's own rates. */
#define RECLAIM_SCANS_PER_SEC 100U
void reclaim_scan(void);
/* Cheap hint from the allocator's callers: free frames crossed a threshold, call reclaim_step soon. */
bool reclaim_pressure(void);
bool reclaim_at_limit(void);                /* a VM at its limit is what asks for it */
enum reclaim_state reclaim_state_now(void); /* racy, takes no lock: for the panic screen */
/* Frames came free (swap, balloon): guests that wait for memory are woken. No lock above LOCK_RANK_VM held. */
void reclaim_memory_returned(void);
/*
 * May a guest of gs get a frame now? False at its limit, and in state low for VMs above their target (but for a
 * ration).
 */
bool reclaim_may_alloc(struct gspace *gs);
bool reclaim_may_keep(struct gspace *gs); /* the same of a frame it has, whose page is being swapped out */

/* Is there so much that large guest pages may be given and kept? Racy, takes no lock. */
bool reclaim_plenty(void);
/* May gs have a large page (it stays within its target and limit)? */
bool reclaim_plentiful(const struct gspace *gs);
/*
 * May gs have so many pages that it has not asked for yet? Clearly above what reclaim keeps free, within its target and
 * limit. Racy, takes no lock.
 */
bool reclaim_has_spare(const struct gspace *gs, u32 pages);

/* Operator: fixes a VM's balloon at a size (pages), or GFN_NONE: automatic again. */
void reclaim_set_manual(struct gspace *gs, u32 pages);
void reclaim_stats(struct reclaim_stats *out);

#endif
