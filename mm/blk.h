/*
 * Block devices as mm and vmm see them: asynchronous requests of whole 4 KiB
 * pages to a partition. Drivers implement struct blk_ops; drivers/gpt.c makes
 * partitions. Aerostat writes only to partitions that carry its own type GUIDs:
 * a struct blk_part is the only handle with a write path, and only gpt.c makes one.
 */
#ifndef MM_BLK_H
#define MM_BLK_H

#include "lib/list.h"
#include "lib/types.h"

#define BLK_PAGES_MAX 32U /* pages in one request: 128 KiB */
#define BLK_SECTOR    512U

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH };

struct blk_dev;

struct blk_req {
	struct list link;    /* the block layer's while submitted */
	struct blk_dev *dev; /* set by blk_submit */
	enum blk_op op;
	u64 page;                   /* first page within the partition; then device sector = start + page * 8 */
	u32 pages;                  /* 1..BLK_PAGES_MAX; 0 for FLUSH */
	hfn_t frame[BLK_PAGES_MAX]; /* one frame a page */
	/* Called from the CPU loop, never from within blk_submit; no lock held; may resubmit or free r. */
	void (*done)(struct blk_req *r);
	void *arg;
	int status;       /* 0, E_IO, E_TIMEDOUT, E_NODEV; valid in done */
	u64 submitted_ns; /* for latency figures */
	u64 sector;       /* absolute, filled in by blk_submit */
	u32 driver[8];    /* the driver's own */
};

/* Counts and latencies are blk.c's (its lock); timeouts and resets the driver's. */
struct blk_stats {
	u64 reads, writes, flushes, read_pages, write_pages; /* completed well */
	u64 errors, timeouts, resets;
	u64 read_ns, write_ns; /* summed latency */
	u64 read_ns_max, write_ns_max;
};

struct blk_dev {
	struct list link;
	char name[16];    /* "nvme0n1", "ata0" */
	char model[44];   /* terminated */
	u64 sectors;      /* of BLK_SECTOR bytes */
	u32 sector_bytes; /* native: 512 or 4096 */
	u32 queue_depth;  /* requests that may be in flight */
	u32 in_flight;    /* submitted and not yet done; blk.c's */
	bool gone;        /* unusable for good; submissions fail with E_NODEV */
	bool whole;       /* no partition table: all of it is one partition */
	bool polled;      /* no interrupt: wants blk_poll_all() every millisecond */
	const struct blk_ops *ops;
	struct blk_stats stats;
	void *priv;
};

struct blk_ops {
	/* Takes the request (queues if the hardware is full). Never blocks, never fails: errors arrive in done. */
	void (*submit)(struct blk_dev *d, struct blk_req *r);
	/* Reaps completions and checks time-outs; called from the CPU loop after interrupts and every 100 ms. */
	void (*poll)(struct blk_dev *d);
	/* Stops the device and abandons nothing: used at shutdown. */
	void (*shutdown)(struct blk_dev *d);
};

enum blk_part_kind { BLK_PART_SWAP, BLK_PART_GUEST_DATA };

struct blk_part {
	struct list link;
	struct blk_dev *dev;
	enum blk_part_kind kind;
	u64 start;   /* sector of BLK_SECTOR; 4 KiB aligned */
	u64 pages;   /* size in 4 KiB pages */
	u8 guid[16]; /* unique partition GUID */
	char name[37];
};

/* Aerostat's own partition type GUIDs (text form; gpt.c holds the mixed-endian bytes). */
#define GPT_TYPE_AEROSTAT_SWAP       "a3e05747-5a9f-4a17-9b1f-53776170a3e0"
#define GPT_TYPE_AEROSTAT_GUEST_DATA "a3e05747-5a9f-4a17-9b1f-64617461a3e0"

void blk_register(struct blk_dev *d);        /* by drivers, before partitions are read */
void blk_register_part(struct blk_part *p);  /* by gpt.c only */
struct blk_dev *blk_next(struct blk_dev *d); /* NULL starts */
struct blk_part *blk_part_next(struct blk_part *p, enum blk_part_kind kind);

/* Submits to a partition; CHECKs bounds (callers have validated). req->page counts from the partition's start. */
void blk_submit(struct blk_part *part, struct blk_req *r);
/*
 * Reads from the raw device, for partition tables only, at boot: synchronous, polls, bounded by the driver's time-outs
 * (the frames are the device's until it has answered or been stopped). E_RANGE beyond the end.
 */
int blk_read_raw(struct blk_dev *d, u64 sector, u32 pages, const hfn_t *frames) must_check;
/* By drivers, from poll, no lock held: accounts latency and calls done. */
void blk_complete(struct blk_req *r, int status);
void blk_complete_list(struct list *finished); /* each with the status already in it; the list is the caller's own */
/* Lets every device reap completions; what the timer and the end of boot call. */
void blk_poll_all(void);
/* Waits (bounded) for what is in flight, then shuts every device down; submissions fail from then on. */
void blk_shutdown_all(void);

#endif
