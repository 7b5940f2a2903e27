/*
 * Page cache over a range of a disk (the database's file): pages by number, second-chance replacement, write-back on
 * eviction. It grows while memory is free and shrinks when the balloon or the pager wants memory. The host is told
 * which pages are copies of which blocks (hint.h): new ones a few at a time, and all of them again from time to time,
 * since it may have had no use for it.
 *
 * A page that was put away and is read again is a refault if it would be here but for the balloon (ram.h).
 *
 * Invariant: every entry in use is in exactly one hash chain and owns one RAM_CACHE page; a page has a shadow as long
 * as it is put away, and ram->out counts it. Locking: the kernel lock, and one workload that keeps it.
 */
#ifndef GUEST_CACHE_H
#define GUEST_CACHE_H

#include "guest/kernel/clock.h"
#include "guest/kernel/disk.h"
#include "guest/kernel/hint.h"
#include "guest/kernel/ram.h"
#include "lib/types.h"

#define CACHE_NONE (~0u)
#define CACHE_MIN  16 /* pages that shrinking leaves */
#define CACHE_NEWS 32 /* entries that the host is told of together */

struct cache_entry {
	u32 page, pfn;
	u32 next; /* in its chain, or in the list of unused entries */
	bool used, referenced, dirty;
	bool told; /* the host believes that the page is what the block is, or did */
};

struct cache_stats {
	u64 hits, misses, writebacks, evictions, shrunk, errors, refaults, refault_ns;
};

struct cache {
	struct ram *ram;
	struct disk *disk;
	struct clock *clock;
	struct hints *hints; /* may be NULL */
	u64 first;           /* on the disk */
	u32 pages;           /* of the range */
	u32 capacity;        /* most entries */
	u32 used, hand, unused, buckets;
	u32 news[CACHE_NEWS], news_count, tell_hand; /* entries to tell of */
	u32 keep_free;                               /* grows only while more than this is free */
	u32 *bucket;
	struct cache_entry *entry;
	u32 *shadow; /* of each page of the range; 0: it is here, or was never, or is another since */
	struct cache_stats stats;
};

/* An unused cache (capacity 0) is legal: it never gives anything. E_NOMEM. */
void cache_prepare(struct cache *c, struct ram *ram, struct disk *disk, struct clock *clock);
int cache_create(struct cache *c, u64 first, u32 pages, u32 capacity, u32 keep_free) must_check;
/*
 * The content of a page, read from the disk if need be (sleeps); valid until the next call. write: it will be changed.
 * NULL: disk error or no memory at all.
 */
void *cache_get(struct cache *c, u32 page, bool write);
/*
 * Gives back up to `want` pages, coldest first; dirty ones are written (sleeps). squeeze: for the balloon. Returns
 * pages freed.
 */
u32 cache_shrink(struct cache *c, u32 want, bool squeeze);
static inline u32 cache_shrinkable(const struct cache *c)
{
	return c->used > CACHE_MIN ? c->used - CACHE_MIN : 0;
}
/*
 * The block of `page` is going to be written past the cache: what is cached of it stays as it is until it is dropped.
 * peek: the content if it is there, else NULL.
 */
void cache_changes(struct cache *c, u32 page);
const void *cache_peek(struct cache *c, u32 page);
void cache_drop(struct cache *c, u32 page);
/* Tells the host of the next `n` entries, in turn. Now and then. */
void cache_tell(struct cache *c, u32 n);
/* Writes every dirty page. 0 or the first error. */
int cache_flush(struct cache *c) must_check;

#endif
