/*
 * The application's address space: a virtual region at APP_BASE of more pages than may be in memory, paged to the swap
 * area of disk 0. Victims are found by a clock over the accessed bits with a small age for each page (least recently
 * used, approximately).
 *
 * A page that was paged out once keeps its slot: as long as the dirty bit stays clear its memory copy can be dropped
 * without writing. A page under write-out that is touched is put back at once (rescued) and its frame stays. A page
 * that is read back and would be here but for the balloon is a refault (ram.h), whoever put it away.
 *
 * Page states; the page-table entry holds the pfn in RESIDENT and WRITING:
 *   BLANK     never written: reads as zero, has neither pfn nor slot
 *   RESIDENT  mapped
 *   WRITING   not mapped, its pfn is being written to its slot
 *   SWAPPED   in its slot only
 *   READING   being read back
 *
 * Invariants: sum(count[]) == pages; only state_set() changes a state; ram->out counts those WRITING, SWAPPED and
 * READING. A page with VPAGE_IO has a write in flight and is not a victim. No kernel code but the applications touches
 * the region, so a fault never happens inside the pager itself. Locking: the kernel lock; a fault that sleeps lets go
 * of it, so each looks again at what it found before. Reclaim shoots translations down before frames are passed on.
 */
#ifndef GUEST_PAGER_H
#define GUEST_PAGER_H

#include "guest/kernel/clock.h"
#include "guest/kernel/disk.h"
#include "guest/kernel/hint.h"
#include "guest/kernel/ptab.h"
#include "guest/kernel/ram.h"
#include "lib/types.h"

#define APP_BASE           0x0000010000000000UL /* 1 TiB: above any VM's memory */
#define PAGER_NO_SLOT      (~0u)
#define PAGER_AGE_MAX      3  /* sweeps a page survives after its last use */
#define PAGER_MIN_RESIDENT 32 /* pages the balloon never takes */
#define PAGER_BATCH        32 /* victims found between two TLB flushes */

enum vpage_state { VPAGE_BLANK, VPAGE_RESIDENT, VPAGE_WRITING, VPAGE_SWAPPED, VPAGE_READING, VPAGE_STATES };
enum vpage_flag {
	VPAGE_CONTENT = BIT(0), /* not just zeroes: has to be kept */
	VPAGE_STALE = BIT(1),   /* the slot does not hold the content, whatever the dirty bit says */
	VPAGE_IO = BIT(2)       /* a write of it is in flight */
};

struct vpage {
	u32 slot;
	u32 shadow; /* of when it was put away last */
	u8 state, age, flags, zero;
};

struct pager_stats {
	u64 minor_faults, major_faults, paged_in, paged_out, dropped, rescued, stalls, refaults, refault_ns,
	    write_errors, read_retries;
};

struct pager_write {
	struct disk_io io;
	struct pager *pager;
	u32 vpn, pfn;
	bool squeeze;
};

struct pager {
	struct ram *ram;
	struct ptab *ptab;
	struct disk *disk;
	struct clock *clock;
	struct hints *hints; /* may be NULL */
	struct vpage *page;
	u32 pages, hand;
	u32 count[VPAGE_STATES];
	u64 slots;     /* swap area: [0, slots) of the disk; 0: no paging */
	u64 slot_next; /* never used yet from here on; when all are, resident pages lose theirs */
	u32 slot_hand;
	u32 low_free; /* below this many free pages write-out starts ahead of need */
	u64 retry_ns; /* after a failed write: the balloon starts no other before */
	struct pager_write write[AERO_DISK_REQUESTS];
	struct pager_stats stats;

	/* A frame that went out for the balloon; default: it becomes free. */
	void (*squeezed)(void *arg, u32 pfn);
	/* Memory is needed at once: give back up to `want` free pages by other means. Returns pages freed. */
	u32 (*need_memory)(void *arg, u32 want);
	void *arg;
};

void pager_prepare(struct pager *p, struct ram *ram, struct ptab *ptab, struct disk *disk, struct clock *clock);
/* Makes the region; once. slots: pages of the disk from 0 that may be used. E_NOMEM. */
int pager_create(struct pager *p, u32 pages, u64 slots) must_check;

/* The application touched vpn. Returns with the page mapped; panics if its content is lost or no memory can be had. */
void pager_fault(struct pager *p, u32 vpn);
static inline u64 pager_va(u32 vpn)
{
	return APP_BASE + ((u64)vpn << PAGE_SHIFT);
}

/*
 * The application wants the content of [vpn, vpn + n) no more, n <= PAGER_BATCH: those pages are blank again, their
 * frames free. Returns how many it did; the next one is being written, or read by another vCPU, and must be waited for.
 */
u32 pager_discard(struct pager *p, u32 vpn, u32 n);
/*
 * The application is about to write all of [vpn, vpn + n), n <= PAGER_BATCH, without a look at what is there: neither
 * we nor the host need bring it back.
 */
void pager_overwrite(struct pager *p, u32 vpn, u32 n);

/*
 * Takes pages from the application, coldest first: clean ones are freed at once, others begin to be written. Looks at
 * no more than `scan` pages. Returns pages freed and begun.
 */
u32 pager_reclaim(struct pager *p, u32 want, u32 scan, bool squeeze);
/* Pages that pager_reclaim could take with patience. */
u32 pager_evictable(const struct pager *p);
bool pager_verify(struct pager *p);

#endif
