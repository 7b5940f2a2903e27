/*
 * The guest's physical pages ("frames" are the hypervisor's word; here a page of RAM is a pfn).
 *
 * One byte of state a page and two counters for each 2 MiB group, all in one array behind the kernel image: a free page
 * is never written or read, so it costs the host nothing. First fit from below keeps the upper groups whole for the
 * balloon.
 *
 * What the balloon costs is told by shadows, after the refault distance of Linux: who puts a page away keeps the number
 * of the eviction up to which an empty balloon would have held it. Memory larger by n pages would hold the last n that
 * were put away, and all of them if no more than n are out. So a workload that is larger than the VM does not count
 * what it would page anyway.
 *
 * Invariants: sum(count[]) == pages; group[].free and group[].balloon agree with the states (ram_verify). Every change
 * goes through ram_set(). Locking: the kernel lock.
 */
#ifndef GUEST_RAM_H
#define GUEST_RAM_H

#include "lib/types.h"

#define RAM_NONE  (~0u)
#define RAM_GROUP LARGE_PAGES

enum ram_state {
	RAM_FREE,
	RAM_KERNEL,  /* image, tables, arrays, shared pages; also what never was RAM for us */
	RAM_APP,     /* behind a page of the application region */
	RAM_CACHE,   /* page cache */
	RAM_BALLOON, /* given to the host: must not be touched */
	RAM_ASIDE,   /* held by the balloon driver: on its way out, or refused for now */
	RAM_STATES
};

struct ram_group {
	u16 free, balloon;
};

struct ram {
	u8 *state;
	struct ram_group *group;
	u32 pages, groups;
	u32 max; /* pages that it has room for: ram_grow() */
	u32 count[RAM_STATES];
	u32 lowest;         /* no page below is free */
	u32 balloon_target; /* pages that RAM_BALLOON shall come to */
	u32 evictions;      /* pages put away by pager and cache, modulo 2^32 */
	u32 out;            /* pages that are put away now */
};

size_t ram_meta_bytes(u32 pages); /* of `meta` for so many pages */
/*
 * meta: ram_meta_bytes(max) writable bytes, 8-aligned. All pages start as RAM_KERNEL; ram_release() frees ranges. The
 * states of pages that are not there yet are not touched.
 */
void ram_init(struct ram *r, u32 pages, u32 max, void *meta);
/* There are `pages` now, more than before, at most max. The new ones are free. */
void ram_grow(struct ram *r, u32 pages);
void ram_release(struct ram *r, u32 first, u32 end);

void ram_set(struct ram *r, u32 pfn, enum ram_state s);
/* The same for a whole group, first its first page. */
void ram_set_group(struct ram *r, u32 first, enum ram_state s);
static inline enum ram_state ram_get(const struct ram *r, u32 pfn)
{
	return (enum ram_state)r->state[pfn];
}

/* A free page, now in state s; RAM_NONE if there is none. Contents are undefined. */
u32 ram_alloc(struct ram *r, enum ram_state s);
void ram_free(struct ram *r, u32 pfn);
/* Adjacent kernel pages, cleared; NULL if no run is left. For arrays at start; never freed. */
void *ram_array(struct ram *r, size_t bytes);

/*
 * Pages there would be more of without the balloon. squeeze: it is for what the balloon still lacks that the page goes.
 */
static inline u32 ram_ballooned(const struct ram *r, bool squeeze)
{
	return squeeze ? MAX(r->count[RAM_BALLOON], r->balloon_target) : r->count[RAM_BALLOON];
}
/* A page is put away, for which there would be room among `room` pages more: its shadow, not 0. */
u32 ram_put_away(struct ram *r, u32 room);
/*
 * The page of this shadow is wanted again, before others go for it: would it be here but for the balloon? room: pages
 * more, now.
 */
bool ram_would_hold(const struct ram *r, u32 shadow, u32 room);

/* The highest group wholly in RAM_FREE / RAM_BALLOON: its first pfn, or RAM_NONE. */
u32 ram_find_group(const struct ram *r, enum ram_state s);
/* The next page at or after `from` in state s, or RAM_NONE. */
u32 ram_find(const struct ram *r, enum ram_state s, u32 from);
/* Are states and counters consistent? For tests and the `check` command. */
bool ram_verify(const struct ram *r);

#endif
