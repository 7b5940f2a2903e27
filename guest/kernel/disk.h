/*
 * Driver of one paravirtual disk: a ring of requests in a shared page (guest/abi). Posting and kicking are apart, so
 * that a batch costs one hypercall. Completions arrive in any order and run each request's callback from disk_reap().
 *
 * Locking: the kernel lock; who waits lets go of it, and anybody may reap what it waits for. Callbacks may post.
 */
#ifndef GUEST_DISK_H
#define GUEST_DISK_H

#include "guest/abi/aerostat.h"
#include "guest/kernel/ram.h"
#include "lib/types.h"

#define DISK_COUNT_MAX 16 /* pages in one request */

struct disk_io {
	void (*done)(struct disk_io *io); /* may be NULL */
	bool pending;
	s32 status; /* valid when no longer pending */
};

struct disk_stats {
	u64 reads, writes, read_pages, write_pages, errors, kicks;
};

struct disk {
	struct aero_disk_ring *ring; /* NULL: there is no disk */
	u32 index;
	u64 pages; /* size */
	u32 posted, kicked, in_flight;
	u64 ended; /* requests */
	struct disk_io *io[AERO_DISK_REQUESTS];
	struct disk_stats stats;
};

/* E_NOENT: the VM has no such disk. E_NOMEM. */
int disk_open(struct disk *d, u32 index, struct ram *ram) must_check;
static inline bool disk_present(const struct disk *d)
{
	return d->ring != NULL;
}
u32 disk_room(const struct disk *d); /* requests that can be posted now */
/* io must stay until done. E_NOSPC: ring full. E_INVAL: outside the disk. */
int disk_post(struct disk *d, enum aero_disk_op op, u64 page, u64 gpa, u32 count, struct disk_io *io) must_check;
void disk_kick(struct disk *d);
u32 disk_reap(struct disk *d); /* returns requests completed */
/* Sleeps until io is done / any request has ended (at once if none is in flight). Reaps. */
void disk_wait(struct disk *d, struct disk_io *io);
void disk_wait_any(struct disk *d);
/* Posts, kicks and waits. 0 or AERO_E_*. */
int disk_transfer(struct disk *d, enum aero_disk_op op, u64 page, u64 gpa, u32 count) must_check;

#endif
