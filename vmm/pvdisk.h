/*
 * Paravirtual disk: a slice of a guest-data partition behind a ring of
 * requests in guest memory (guest/abi/aerostat.h).
 *
 * The disk is scratch: it lives as long as its VM is started, and reads as zero where
 * the guest has not written, so that nothing of an earlier user of the slice is ever seen (a bitmap of written pages).
 *
 * Requests are copied out of the ring once, then checked. Guest pages are pinned while a transfer
 * uses them; a page that has to come back from swap first makes the request wait, not the disk.
 *
 * Locking: vm->lock.
 */
#ifndef VMM_PVDISK_H
#define VMM_PVDISK_H

#include "lib/types.h"

struct gspace;
struct vm;
struct pvdisk;

#define PVDISK_BYTES_MAX (16 * GIB) /* its blocks fit a mark of a page: CLEAN_BLOCKS_MAX */

struct pvdisk_stats {
	u64 reads, writes, read_pages, write_pages, zero_reads, errors, waits;
	u64 latency_ns; /* summed, reads and writes */
	u64 starved_ns; /* for how long the oldest request that lacks a page has got none; 0: there is none */
};

/* Slice of a guest-data partition; E_NOENT: no such partition, E_NOSPC, E_NOMEM. */
int pvdisk_create(struct vm *vm, u64 bytes, struct pvdisk **out) must_check;
/* Frames it takes, its bitmap included. */
u32 pvdisk_frames(u64 bytes);
/* Its blocks may be named by hints for pages of gs (mm/clean.h), until it is destroyed. */
void pvdisk_attach(struct pvdisk *d, struct gspace *gs);
/* False while transfers are in flight, or reads for hints; call again. */
bool pvdisk_destroy(struct pvdisk *d);

/* Hypercalls; vm->lock held. E_AGAIN: repeat when memory has arrived. */
s64 pvdisk_setup(struct vm *vm, u64 disk, gpa_t ring);
s64 pvdisk_kick(struct vm *vm, u64 disk);
void pvdisk_stats(struct pvdisk *d, struct pvdisk_stats *out);

#endif
