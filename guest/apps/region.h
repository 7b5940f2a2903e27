/*
 * A checked application region: pages of known content (content.h) in the pager's address space, with the generation
 * expected of each kept in kernel memory, so that content lost, mixed up or gone back in time is seen. verify, idle and
 * desktop are built on it.
 */
#ifndef GUEST_REGION_H
#define GUEST_REGION_H

#include "guest/apps/content.h"
#include "guest/kernel/kernel.h"
#include "lib/prng.h"

struct region {
	struct kernel *k;
	struct content content;
	struct prng prng;
	u32 pages, filled;
	u16 *generation;
	u32 newest; /* generation */
	bool checking;
	u32 check_next;
	u64 check_bad;
	u64 checked, bad, written;
	u64 window_ns, window_ops, window_busy_ns; /* mean latency of the last second */
};

/* Size from `mem=` (of the VM's memory; otherwise_percent), mix from zero=, same= and soft=. Prints what it chose. */
int region_create(struct region *r, struct kernel *k, u32 otherwise_percent, u32 zero_percent,
		  u32 same_percent) must_check;
/* First touch. True when all is filled. */
bool region_fill(struct region *r, u64 until_ns);
/* Checks, or rewrites with the next generation and checks before, one page. */
void region_read(struct region *r, u32 page);
void region_write(struct region *r, u32 page);
static inline u32 region_random(struct region *r)
{
	return (u32)prng_below(&r->prng, r->pages);
}
/* Full check in pieces: begin, then step while it says so; prints its result. */
void region_check_begin(struct region *r);
bool region_check_step(struct region *r, u64 until_ns);
/* Puts figures into the shared page. */
void region_publish(struct region *r);
void region_print(const struct region *r);

#endif
