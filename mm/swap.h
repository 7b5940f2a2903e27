/*
 * Host swap: the last tier. Pages go to slots (4 KiB) of one partition of type
 * GPT_TYPE_AEROSTAT_SWAP. A page leaves RAM only when its write has completed and its
 * checksum is recorded; the checksum is verified on return. What fails to read or verify is read once more; then the
 * page is lost and its VM told (mm_gspace_poisoned); its slot is retired when the page is dropped.
 *
 * A page that comes back keeps its slot until it goes elsewhere: if it has not changed when it goes out again (same
 * checksum), there is nothing to write. Such slots count against what was promised to the VM, and are given back when
 * it needs others. Compressed pages leave RAM as they are, a block of several in one slot (zpool.h, gspace_zip.c).
 *
 * Writes are asynchronous and clustered: up to BLK_PAGES_MAX victims to neighbouring slots in
 * one request. Victims are random within a VM. A page touched while it is written is
 * rescued from its frame. On a write error the pages stay in RAM, the slots are
 * retired, and after SWAP_ERRORS_MAX errors in a row the tier stops (state FAILED) and says so.
 */
#ifndef MM_SWAP_H
#define MM_SWAP_H

#include "lib/types.h"
#include "mm/blk.h"

struct gspace;

#define SWAP_ERRORS_MAX 8
#define SWAP_SLOT_NONE  (~0u)
#define SWAP_PACKED     0x80000000U /* in the payload of a SWAPPED page: it is in a block of compressed pages */

enum swap_state { SWAP_OFF, SWAP_ON, SWAP_FAILED };

struct swap_stats {
	enum swap_state state;
	const char *why; /* why off or failed, for the operator */
	u64 slots, used, reserved, bad;
	u64 unreserved; /* what admission may still promise; 0 unless ON */
	u64 unchanged;  /* pages that went out with nothing written */
	/* pages that swap_out() took, and what that took the processor, to the end of writes; without zip_store() */
	u64 went, went_ns;
	u64 came, came_ns;         /* pages read, and what that took, from the touch to the page's being there */
	u64 packed_out, packed_in; /* of out and in: slots with blocks of compressed pages */
	u64 out, in, rescued, write_errors, read_errors, checksum_errors;
	u32 in_flight_out, in_flight_in; /* pages */
	u64 out_ns, in_ns;               /* summed latency of transfers */
};

void swap_init(u64 key, u64 seed);   /* SWAP_OFF, "no swap partition" */
void swap_keep_off(const char *why); /* for good, before or after swap_init(): swap_on() is E_PERM */
/* E_EXIST: on already (one partition). E_INVAL: not a swap partition, or too small. E_NODEV. */
int swap_on(struct blk_part *part) must_check;

/*
 * From now on so many slots are promised to the space, and there are tables for them. More than before: E_NOSPC,
 * E_NOMEM, and all is as it was; fewer cannot fail. Admission is the caller's (stats.unreserved).
 */
int swap_reserve(struct gspace *gs, u32 slots) must_check;
u64 swap_frames_for(u32 slots); /* frames that a promise of so many more slots would take for tables */
u64 swap_frames(void);          /* frames that the tables take now */
void swap_unreserve(struct gspace *gs);
/* Gives back tables that no promise needs, and notices that the device is gone; bounded, called each balance period. */
void swap_trim(void);

/*
 * Takes up to `want` pages of gs out of RAM: each is offered to sharing first, then to compression (zip.h), and is
 * written if neither has it. Returns pages that are shared or compressed or whose transfer started; 0 if nothing could
 * be found, or nothing is to be had of compression and the device is saturated. The caller keeps gs from going away.
 */
u32 swap_out(struct gspace *gs, u32 want);
bool swap_can_out(void); /* on, not saturated; notices that the device is gone */

/*
 * Called by gspace_back.c with gs->lock held when a SWAPPED page is touched: starts the read into hfn, page becomes
 * SWAPPING_IN by the caller. ahead: nobody has asked for it yet, so if it cannot be read it just stays SWAPPED.
 * E_AGAIN: too many transfers (ahead: half of them are enough), else mm_wake() follows. Errors of the device come
 * later, as mm_gspace_poisoned().
 */
int swap_in_start(struct gspace *gs, gfn_t gfn, u32 slot, hfn_t hfn, bool ahead) must_check;
/* The same for the block of compressed pages that a touch of gfn asks for; the caller then calls zpool_read_begin(). */
int swap_in_block(struct gspace *gs, gfn_t gfn, u32 block, u32 slot, hfn_t hfn) must_check;
/* Transfers that refer to gs are under way: it must not be freed yet (gspace_destroy_some waits for it). */
bool swap_busy(const struct gspace *gs);
/* A SWAPPED page is dropped (VM ends, page overwritten): frees the slot. */
void swap_slot_free(u32 slot);
/* gs->lock held: is the content of gfn what lies in the slot (by checksum)? */
struct digest;
bool swap_copy_good(const struct gspace *gs, gfn_t gfn, u32 slot, const struct digest *digest);
/*
 * The promise to gs may have become smaller: gives back slots of pages in RAM that are beyond it. Once a balance
 * period.
 */
void swap_shed(struct gspace *gs);
void swap_stats(struct swap_stats *out);

#endif
