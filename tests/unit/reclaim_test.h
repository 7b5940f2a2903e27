/*
 * What tests of reclaim have in common: a simulated machine with more guest memory than it has. Frames, spaces,
 * sharing, balloon and swap are the real ones; guests are sim_guest.h's. SIM_TRACE=1 in the environment shows the log,
 * and before each run() where everything stands.
 */
#ifndef TESTS_RECLAIM_TEST_H
#define TESTS_RECLAIM_TEST_H

#include "mm/reclaim.h"
#include "mm/swap.h"
#include "tests/unit/sim_guest.h"

#define FRAMES  8192U
#define SLOTS   32768U
#define GUESTS  6U
#define TICK_NS (2 * NSEC_PER_MSEC)

extern struct sim_guest *guest[GUESTS];
extern u32 guests;
extern u32 idle;                /* bit i: guest i only answers its balloon */
extern struct reclaim_stats rs; /* scratch */
extern struct swap_stats ss;    /* scratch */

int start(void **state);
int start_without_swap(void **state);
int finish(void **state); /* nothing is left behind */

struct sim_guest *add(const char *name, u32 pages, u32 logical, enum sim_balloon kind, u32 reservation);
void end_guest(u32 i);
/* One tick of the host alone: what the CPU loop does between guests' slices. */
void host_tick(void);
/* So many milliseconds; in each tick every guest that is not idle makes so many accesses. */
void run(u64 ms, u32 accesses);
/* All sums are right, and no guest has read anything wrong. */
void check_consistent(void);
/* So many frames are free: the others are taken, and given back by the next call. */
void set_free(u32 frames);

#endif
