/*
 * A checked file: pages of known content (content.h) at the end of disk 0, with the generation expected of each kept in
 * memory. db and stream read it through the page cache. Of one vCPU.
 */
#ifndef GUEST_FILE_H
#define GUEST_FILE_H

#include "guest/apps/content.h"
#include "guest/kernel/kernel.h"

#define FILE_PIECE DISK_COUNT_MAX /* pages written in one request while loading */

struct file {
	const char *who; /* the workload, in what is printed */
	struct content content;
	u32 pages, loaded; /* loaded: written once */
	u64 first;         /* on the disk */
	u16 *generation;
	u8 *piece;       /* FILE_PIECE pages */
	u64 bad, failed; /* pages that were not what they should be; requests */
};

/* Is there a disk that has room for one? Complains if not. */
bool file_possible(const char *who, struct kernel *k);
/* Of so many pages, FILE_PIECE at least and at most the whole disk. Content as in *c. E_NOMEM. */
int file_create(struct file *f, const char *who, struct kernel *k, u64 pages, const struct content *c) must_check;
/* Writes the first generation, a request at a time. True when all of it is there. */
bool file_load(struct file *f, struct kernel *k, u64 until_ns);
/* Are these the bytes of that page? The first few times that they are not it says what is wrong. */
bool file_check(struct file *f, u32 page, const void *p);

#endif
