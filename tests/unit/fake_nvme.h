/*
 * A small NVMe controller for tests: registers, one admin and one I/O queue pair, two namespaces in memory, and
 * switches for what can go wrong. Admin commands run at the doorbell, I/O commands when fake_nvme_run() is called,
 * in order or reversed.
 */
#ifndef TESTS_FAKE_NVME_H
#define TESTS_FAKE_NVME_H

#include "drivers/nvme.h"
#include "lib/types.h"

#define FAKE_NVME_NS       2
#define FAKE_NVME_NS_BYTES (2 * MIB)

struct fake_nvme_queue {
	u64 sq, cq;
	u32 entries, sq_head, sq_tail, cq_tail, cq_head, phase;
	bool made;
};

struct fake_nvme {
	u64 cap;
	u32 cc, csts, aqa;
	u64 asq, acq;
	struct fake_nvme_queue q[2];
	u8 *data[FAKE_NVME_NS];
	u32 shift[FAKE_NVME_NS], metadata[FAKE_NVME_NS];
	u64 blocks[FAKE_NVME_NS]; /* 0: what the data holds */
	u32 mdts;
	bool write_cache, no_active_list;

	/* what goes wrong */
	bool pulled; /* its configuration reads as ones, its registers as zeroes */
	bool removed, never_ready, never_idle, dead_admin, fail_create, ignore_abort, reversed;
	u32 swallow;     /* I/O commands that are never answered */
	u16 fail_status; /* of all I/O commands */
	u32 stray;       /* completions to make for commands that do not exist */

	/* what was seen */
	u32 enables, aborts, reads, writes, flushes, waiting_max, pages_max, shutdowns;
	bool quiesced;

	struct nvme_command held[NVME_ENTRIES]; /* fetched I/O commands, not yet executed */
	u32 held_count;
	struct nvme_command lost[NVME_ENTRIES]; /* swallowed */
	u32 lost_count;
};

extern const struct nvme_hw_ops fake_nvme_ops; /* hw_priv is the struct fake_nvme */
void fake_nvme_init(struct fake_nvme *f);
void fake_nvme_free(struct fake_nvme *f);
/* Executes up to max waiting I/O commands; returns how many. */
u32 fake_nvme_run(struct fake_nvme *f, u32 max);

#endif
