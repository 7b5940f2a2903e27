/*
 * Why the state of reclaim changed: what moved most memory since it changed last, but not longer ago than 20 to 40 s,
 * for what happened long before is no cause. For the event in the log and for the operator's question afterwards.
 *
 * Locking: LOCK_RANK_RECLAIM held (reclaim.c).
 */
#ifndef MM_RECLAIM_CAUSE_H
#define MM_RECLAIM_CAUSE_H

#include "lib/types.h"

struct gspace;

#define CAUSE_BYTES 64

/* A space has ended or the thresholds have moved, since the last mark. */
void cause_note_end(const struct gspace *gs);
void cause_note_thresholds(void);
/* "v1 grew by 12M", "balloons took 12M", "min-free was set"; worse: memory became short. Terminated. */
void cause_find(struct gspace *const *space, u32 n, bool worse, char buf[CAUSE_BYTES]);
/* From here on. */
void cause_mark(struct gspace *const *space, u32 n, u64 now_ns);
/* Each period: what is too long ago is left behind. */
void cause_tick(struct gspace *const *space, u32 n, u64 now_ns);

#endif
