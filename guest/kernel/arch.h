/*
 * What the guest's portable parts need from the machine. cpu.c and entry.asm implement it on the virtual machine;
 * tests/unit/fake_hv_guest.c implements it on the host, together with the hypervisor's side of every hypercall.
 */
#ifndef GUEST_ARCH_H
#define GUEST_ARCH_H

#include "lib/types.h"

struct pager;

/* One hypercall; second (RDX) may be NULL. Negative results are AERO_E_*. */
s64 arch_hypercall(u64 number, u64 a0, u64 a1, u64 a2, u64 *second);

/* Where the kernel reaches guest-physical memory, and back. */
void *arch_phys(u64 pa);
u64 arch_pa(const void *va);

u64 arch_tsc(void);

/* The number of this vCPU, and how another is started: it runs kernel_run_other(). 0 or AERO_E_*. */
u32 arch_cpu(void);
s64 arch_start_cpu(u32 index);
void arch_relax(void); /* in a loop that waits */

/* Sleeps until an interrupt, unless *events is non-zero; an event between the look and the sleep is not missed. */
void arch_wait(const u64 *events);

void arch_tlb_flush(void);
void arch_tlb_flush_page(u64 va);

/*
 * The address at which the application sees its page vpn. On the machine the paging hardware does the rest; on the host
 * this call is the access: it walks the tables, faults and sets accessed and dirty bits. Valid until the next call into
 * the kernel.
 */
void *arch_app_page(struct pager *p, u32 vpn, bool write);

/*
 * Misbehaves on the processor in the way named (docs/GUEST-ABI.md, workload crash). Returns if the machine let it pass
 * or answered with an exception that was caught; false: the name is unknown here.
 */
bool arch_misbehave(const char *how);
const char *arch_misbehaviours(void);

/*
 * Ticks of the TSC that one trip along a path takes, the measuring itself (ARCH_PATH_NONE) included. READ and WRITE
 * touch the word at va; TRAP is this kernel's own interrupt entry and return.
 */
enum arch_path {
	ARCH_PATH_NONE,
	ARCH_PATH_HYPERCALL,
	ARCH_PATH_CPUID,
	ARCH_PATH_MSR_READ,
	ARCH_PATH_MSR_WRITE,
	ARCH_PATH_PIO_WRITE,
	ARCH_PATH_TRAP,
	ARCH_PATH_READ,
	ARCH_PATH_WRITE
};
u64 arch_measure(enum arch_path path, u64 va);

#endif
