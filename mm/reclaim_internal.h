/*
 * What the files of reclaim share: reclaim.c (states, the step, may a VM have a frame), reclaim_targets.c (whose
 * memory, and balloons), reclaim_take.c (what balloons do not give, and who waits).
 *
 * Locking: LOCK_RANK_RECLAIM held for all of it, but where a field says atomic.
 */
#ifndef MM_RECLAIM_INTERNAL_H
#define MM_RECLAIM_INTERNAL_H

#include "lib/lock.h"
#include "lib/log.h"
#include "mm/balloon.h"
#include "mm/gspace.h"
#include "mm/policy.h"
#include "mm/reclaim.h"
#include "mm/reclaim_cause.h"

#define RECLAIM_FLOOR_PAGES 128U         /* a VM's target is never less: it must be able to run at all */
#define RECLAIM_PATIENCE_NS NSEC_PER_SEC /* for a balloon that was just asked, and before desperate means */
#define DEADBAND_MIN        64U          /* pages; else 1/256 of the VM */
#define RECLAIM_LIMIT_ROOM  128U         /* pages, at most */

struct reclaim {
	struct lock lock;
	struct reclaim_config cfg;
	enum reclaim_state state;
	u64 state_since_ns, next_period_ns;
	u32 min_free, goal, tax;
	u32 balanced_listed; /* frame_listed_count() when targets were last computed */
	bool unbalanced;     /* settings have changed since then */
	bool recovering;     /* soft or worse was reached, and high not yet again */
	char cause[CAUSE_BYTES];
	u32 threshold[RECLAIM_STATES];
	u64 transitions[RECLAIM_STATES];
	struct gspace *space[GSPACE_MAX];
	struct policy_vm vm[GSPACE_MAX];
	u32 fair[GSPACE_MAX]; /* what each would hold if all that have a balloon got what they are worth */
	bool hungry;          /* one of those holds clearly less */
	u32 spaces;
	u32 turn;         /* whose turn it is to be swapped first */
	bool swap_wanted; /* overdrafts were left at the end of the last step */
	bool swap_took;   /* and it did take something */
	u32 waiting;      /* atomic: somebody was refused since it was last cleared */
	u32 at_limit;     /* atomic: somebody came near to its limit since the last step */
	u64 failures;     /* frame allocator's count when last looked at */
	u64 progress_ns, warned_ns;
	u32 progress_free;
	u64 progress_balloon;
	u32 taken;    /* pages, since the last look */
	bool waited;  /* the same: somebody was refused and has been woken */
	bool starved; /* somebody waited since the last progress */
	struct log_limit log_limit;
};
extern struct reclaim reclaim;

static inline u32 cap_of(const struct gspace *gs)
{
	return MIN(gs->alloc.limit, gs->pages);
}

/* The limit that is in force: one that was lowered comes down to what was set in steps. gs->pages: none. */
static inline u32 limit_of(const struct gspace *gs)
{
	return MIN(MAX(gs->alloc.limit, READ_ONCE(gs->limit_now)), gs->pages);
}

static inline bool has_limit(const struct gspace *gs)
{
	return limit_of(gs) < gs->pages;
}

static inline u32 excess(u32 held, u32 target)
{
	return held > target ? held - target : 0;
}

static inline u32 deadband(const struct gspace *gs)
{
	return MAX(gs->pages / 256, DEADBAND_MIN);
}

/* A period, or targets have to be computed at once: targets, balloons, memory that is offered. */
void reclaim_balance(u64 now_ns);
/*
 * Takes up to the state's budget, from each VM in proportion to its need; only_limit: for limits alone, and wakes whom
 * it made room for. Returns pages taken.
 */
u32 reclaim_take(u64 now_ns, bool only_limit);
void reclaim_lower_limits(void);                 /* once a period: limits that were lowered come down by a step */
u32 reclaim_limit_room(const struct gspace *gs); /* pages below its limit that are kept free */
/*
 * Has anybody been refused since this was last asked? Who is told so wakes the waiters; reclaim_watch() hears of it,
 * too.
 */
bool reclaim_somebody_waited(void);
/* Once a period: notices when nothing moves in state low; tries harder, then tells. */
void reclaim_watch(u64 now_ns);
u64 reclaim_ballooned(void); /* pages, all VMs */

#endif
