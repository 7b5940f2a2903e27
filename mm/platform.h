/*
 * What mm needs from the machine and from the VMs above it. arch/x86 and vmm
 * implement it; tests/unit/fake_mm.c does so on the host. mm includes nothing
 * of vmm, drivers or arch.
 */
#ifndef MM_PLATFORM_H
#define MM_PLATFORM_H

#include "lib/types.h"

struct gspace;

#define MM_CPUS 256U /* numbers of CPUs are below it */

/* Direct map: the hypervisor's own address of a frame. Always valid for RAM. */
void *mm_hfn_to_va(hfn_t hfn);
hfn_t mm_va_to_hfn(const void *va); /* inverse, for direct-map addresses only */

/*
 * Makes every CPU that may hold translations of gs forget them before its next
 * guest entry; on return no CPU can use a translation that was changed before
 * the call. Callers free or reuse a frame only after it. gs->tlb_gen has been
 * advanced by the caller. gs->lock may be held: the CPUs waited for are in a guest and hold no lock.
 */
void mm_tlb_shootdown(struct gspace *gs);

/* Wakes the vCPUs of gs (all VMs if NULL) that wait for memory; they repeat the access. Spurious wakes are harmless. */
void mm_wake(struct gspace *gs);

/* A page of gs is lost for good (I/O error, checksum mismatch): that VM must end. Called without gspace lock. */
void mm_gspace_poisoned(struct gspace *gs, gfn_t gfn, const char *why);

/*
 * From here on until this CPU next enters a guest, code that uses vector registers may run: what of a guest is live in
 * them has been saved. Not in an interrupt handler. Cheap if nothing is live.
 */
void mm_vectors_begin(void);

/*
 * The balloon target of gs or the memory it is offered (dynmem.h) changed: tell the guest (contract page + upcall).
 * Called with no lock above LOCK_RANK_RECLAIM held.
 */
void mm_balloon_notify(struct gspace *gs);

/*
 * The time that the guest of gs has had: running, or halted of its own will. Not that in which it was paused or waited
 * for a processor or for memory. Takes no lock, so it may be a little late.
 */
u64 mm_guest_time_ns(struct gspace *gs);

/* Pages that the guest of gs says it has committed, 0: it says nothing. Its word: anything. Takes no lock. */
u64 mm_guest_committed(struct gspace *gs);

#endif
