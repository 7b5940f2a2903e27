/*
 * A checked application region: pages of known content (content.h) in the pager's address space, with the generation
 * expected of each kept in kernel memory, so that content lost, mixed up or gone back in time is seen. verify, idle and
 * desktop are built on it.
 *
 * With several threads, one a vCPU, every page belongs to all of them (struct content_part): they write the same page
 * at the same time, each its own words, and check their own and each other's. A thread marks its generation busy while
 * it writes; who reads another's words believes them if the generation was not busy and is the same afterwards.
 * generation[page * threads + thread] is that thread's only; the counters of struct region_thread too.
 */
#ifndef GUEST_REGION_H
#define GUEST_REGION_H

#include "guest/apps/content.h"
#include "guest/kernel/kernel.h"
#include "lib/prng.h"

struct region_thread {
	struct prng prng;
	u32 filled;
	u32 newest; /* generation */
	u64 checked, bad, written, operations;
	u64 window_ops, window_busy_ns; /* for the mean latency of the last second */
} aligned(64);

struct region {
	struct kernel *k;
	struct content content;
	u32 pages, threads;
	u16 *generation;
	bool checking;
	u32 check_next;
	u64 check_bad;
	u64 window_ns;
	u32 turn; /* atomic: region_meet() */
	struct region_thread thread[SMP_CPUS_MAX];
};

/*
 * Size from `mem=` (of the VM's memory; otherwise_percent), mix from zero=, same= and soft=; threads: at most, cpus=
 * may ask for fewer. Prints what it chose.
 */
int region_create(struct region *r, struct kernel *k, u32 otherwise_percent, u32 zero_percent, u32 same_percent,
		  u32 threads) must_check;
/* The same of a region of so many pages, for one thread. slots: pages of the disk from 0 that it may be paged to. */
int region_create_pages(struct region *r, struct kernel *k, u32 pages, u64 slots, u32 zero_percent,
			u32 same_percent) must_check;
/*
 * Of one thread: checks the pages from `to` on and lets go of their memory, the last first. True when it is done;
 * region_fill() stamps them anew.
 */
bool region_shrink(struct region *r, u32 to, u64 until_ns);
/* First touch by one thread. True when it has filled all. */
bool region_fill(struct region *r, u32 thread, u64 until_ns);
bool region_filled(const struct region *r); /* by all threads */
/* Checks, or rewrites with the next generation and checks before, one page. */
void region_read(struct region *r, u32 thread, u32 page);
void region_write(struct region *r, u32 thread, u32 page);
/*
 * Of one thread: rewrites n pages, at most PAGER_BATCH, with the next generation and without a look at what they hold.
 */
void region_overwrite(struct region *r, u32 first, u32 n);
static inline u32 region_random(struct region *r, u32 thread)
{
	return (u32)prng_below(&r->thread[thread].prng, r->pages);
}
/* A random page that the other threads are given at about the same time. */
u32 region_meet(struct region *r);
/* Full check in pieces: begin, then step while it says so; prints its result. */
void region_check_begin(struct region *r);
bool region_check_step(struct region *r, u64 until_ns);
/* Puts figures into the shared page. */
void region_publish(struct region *r);
void region_print(const struct region *r);

#endif
