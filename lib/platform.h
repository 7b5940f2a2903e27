/*
 * What lib needs from the ground below it. arch/x86 implements it for the
 * machine, tests/unit/fake_platform.c for the host.
 */
#ifndef LIB_PLATFORM_H
#define LIB_PLATFORM_H

#include "lib/list.h"
#include "lib/lock.h"
#include "lib/types.h"

#define LOCKS_HELD_MAX 8

struct timer;
struct work;

/* lib's part of the per-CPU data. Touched by its own CPU only, unless said otherwise. */
struct lib_cpu {
	u32 id; /* 0 .. cpu count - 1 */
	u32 locks_held;
	const struct lock *held[LOCKS_HELD_MAX]; /* in order of acquisition, ranks ascending */
	struct list work;                        /* pending struct work, see work.h */
	struct work *posted;                     /* atomic: work queued here by other CPUs, newest first */
	struct lock timer_lock;                  /* the timers, from any CPU; timer_next is also read without it */
	struct timer *timers;                    /* heap of those that are armed, see timer.c */
	u64 timer_order;                         /* counts armings */
	u64 timer_ran_ns;                        /* up to when due ones have been called */
	struct timer *timer_running;             /* whose function this CPU is in */
	u64 timer_next;                          /* earliest deadline, or TIMER_NEVER */
};

void lib_cpu_init(struct lib_cpu *cpu, u32 id);

struct lib_cpu *platform_this_cpu(void);
struct lib_cpu *platform_cpu(u32 id); /* of a CPU that is up */
u32 platform_cpu_count(void);         /* CPUs that are up: those numbered below it. Grows at boot only */
/* Makes another CPU look at its work, timers and run queue soon: it leaves HLT or its guest. Any context. */
void platform_kick(u32 id);
u64 platform_now_ns(void); /* monotonic, since boot */
void platform_relax(void); /* PAUSE in a spin loop */
/* Console output of log lines: raw bytes, may drop when the device cannot follow. */
void platform_log_write(const char *text, size_t len);
/* Prints the machine's state after msg and stops everything. */
_Noreturn void platform_panic(const char *file, int line, const char *msg);

#endif
