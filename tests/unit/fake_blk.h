/*
 * A disk in memory with one swap partition: asynchronous, completes out of order, and as bad as a test wants it.
 * Data moves at submission or at completion, at random, as a device's DMA might.
 */
#ifndef TESTS_FAKE_BLK_H
#define TESTS_FAKE_BLK_H

#include "lib/types.h"
#include "mm/blk.h"

struct fake_blk {
	u64 latency_ns;   /* of a request, at least */
	u64 per_page_ns;  /* the device serves one request at a time, so long a page; 0: all at once */
	bool hold;        /* completes nothing */
	bool early_reads; /* pages that are read are in their frames long before the request is complete */
	bool gone;        /* answers E_NODEV to all it has, then is gone */
	/* pages of the partition [from, to) whose reads / writes fail */
	u64 bad_read_from, bad_read_to, bad_write_from, bad_write_to;
	u32 bad_reads_once; /* so many reads fail, wherever they are */
	u32 flip_one_in;    /* of page reads: one bit is turned; 0: never */
	u32 lose_one_in;    /* of page writes: nothing is stored, success is claimed */
	u32 pending;        /* requests it has */
	u32 write_requests;
	u64 written, read; /* pages */
};

extern struct fake_blk fake_blk;
extern struct blk_part fake_blk_part;

/* A new, empty disk. */
void fake_blk_start(u64 pages);
/* The same disk with what is on it, and everything else as new. */
void fake_blk_restart(void);
void fake_blk_stop(void);
/* Completes what is due at fake_now_ns. */
void fake_blk_poll(void);
/* Moves the clock on until nothing is pending. */
void fake_blk_drain(void);
void *fake_blk_page(u64 page);

#endif
