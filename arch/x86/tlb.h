/*
 * When may a frame that a guest could reach be given to somebody else? When no CPU can use a translation to it any
 * more. Pure logic over shared words, tested on the host with simulated CPUs: the emulators never keep a stale
 * translation, so a mistake here shows nowhere else. The identifiers (ASID, VPID) of one CPU are asid.h's business.
 *
 * A space is known here by the address of its generation, a word that whoever narrows or removes a translation advances
 * afterwards.
 *
 * Rules
 *  1. Each CPU says which space's guest it may be executing: tlb_guest_begin() publishes the space, THEN reads the
 *     generation, and what it read is what the back end compares (asid_enter) before the guest's first instruction.
 *     tlb_guest_end() withdraws it after the last. Between the two the CPU takes no lock and waits for nobody; what it
 *     has to do for the guest meanwhile that could wait (fetching an instruction) stands between tlb_guest_pause() and
 *     tlb_guest_resume().
 *  2. tlb_shootdown() is called after the generation was advanced. It looks at every other CPU. One that does not
 *     publish the space cannot use an old translation: it may still hold some, under an identifier of its own, but
 *     reads the new generation before it enters, finds another than at its last entry and flushes. One that does is
 *     kicked, and counts as done when it has ended that stay in the guest.
 *  3. Publishing and reading, advancing and looking are each a store and then a load of the other side's word: both
 *     are sequentially consistent, so at least one side sees the other. Either the entry reads the new generation or
 *     the shoot-down sees the entry.
 *  4. A CPU in hypervisor code counts as done without having taken the interrupt. So a CPU that waits here may hold
 *     locks and have interrupts off, and so may all others: the only CPUs waited for are in a guest, hold no lock and
 *     leave on the interrupt. Two CPUs never wait for each other.
 *  5. A vCPU that moves gets a new identifier where it comes to (asid.h), also when it returns; so old translations
 *     under its former identifier there are never used again, and no CPU need be remembered once it has left the guest.
 */
#ifndef ARCH_X86_TLB_H
#define ARCH_X86_TLB_H

#include "lib/types.h"

/* One CPU's word of what it runs. Written by its own CPU, read by all. */
struct tlb_cpu {
	const u64 *space; /* atomic: generation of the space whose guest may be executing, NULL: none */
	u64 stays;        /* atomic: how often that began */
	u64 entered_gen;  /* what the present stay began with */
} aligned(64);

/* The generation to enter with. */
u64 tlb_guest_begin(struct tlb_cpu *c, const u64 *space);
void tlb_guest_end(struct tlb_cpu *c);
/* For what may wait while a guest's turn goes on. pause returns the space, NULL if the CPU is in none. */
const u64 *tlb_guest_pause(struct tlb_cpu *c);
/* True: the generation has moved meanwhile, so the guest's translations have to go before it is entered again. */
bool tlb_guest_resume(struct tlb_cpu *c, const u64 *space) must_check;

struct tlb_machine {
	u32 (*count)(void);
	struct tlb_cpu *(*cpu)(u32 id);
	void (*kick)(u32 id);
	void (*relax)(void);
	u64 (*now_ns)(void);
};
/*
 * On return no CPU but the caller's can use a translation of the space that was changed before. self: not in a guest.
 */
void tlb_shootdown(const struct tlb_machine *m, u32 self, const u64 *space);

#endif
