/*
 * Below mm on the host: an arena of frames as RAM, with a hole, and counters for what mm asks of the machine and the
 * VMs.
 */
#ifndef TESTS_FAKE_MM_H
#define TESTS_FAKE_MM_H

#include "lib/types.h"

struct gspace;

/*
 * A machine of `frames` usable frames and everything in mm as at boot (frame table, rmap, share); clears the counters.
 * Frames hold something unlike zero, unless the machine is very large: then they take memory only once they are used.
 */
void fake_mm_start(u32 frames);
/* The same machine once more, quickly: nothing of before counts, frames keep what was in them. */
void fake_mm_restart(void);
/* Gives the arena back. CHECKs nothing. */
void fake_mm_stop(void);
extern hfn_t fake_mm_first; /* the lowest usable frame */
extern hfn_t fake_mm_span;  /* frames in the frame table, holes included */

struct fake_mm_counts {
	u32 shootdowns, wakes, poisoned, balloon_notified, vectors;
};
extern struct fake_mm_counts fake_mm;
extern char fake_mm_poison_why[64];

/*
 * Called by every shootdown, before it counts: between the steps of sharing a test changes pages here. NULL: nothing.
 */
extern void (*fake_mm_on_shootdown)(struct gspace *gs);
extern void (*fake_mm_on_wake)(struct gspace *gs);
extern u64 (*fake_mm_committed)(struct gspace *gs); /* what guests say; NULL: nothing */

#endif
