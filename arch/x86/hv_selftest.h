/* What the self-test's driver (hv_selftest.c, hv_selftest_cases.c) and its guest programs (hv_selftest_guest.asm)
 * share. */
#ifndef ARCH_X86_HV_SELFTEST_H
#define ARCH_X86_HV_SELFTEST_H

#include "arch/x86/hv.h"
#include "arch/x86/x86_bits.h"

/* Guest-physical layout; the guest maps its first 2 MiB to themselves. hv_selftest_guest.asm repeats these. */
#define GUEST_PAGES       64U
#define GUEST_PAGES_ORDER 6
#define GUEST_PML4        0x1000UL
#define GUEST_PDPT        0x2000UL
#define GUEST_PD          0x3000UL
#define GUEST_PT          0x4000UL
#define GUEST_POINTERS    0x5000UL /* GDTR, IDTR at + 16 */
#define GUEST_TSS         0x5800UL
#define GUEST_GDT         0x6000UL
#define GUEST_IDT         0x7000UL
#define GUEST_CODE        0x8000UL /* two pages */
#define GUEST_STUBS       0xa000UL /* interrupt handlers, 16 bytes each */
#define GUEST_STACK       0x10000UL
#define GUEST_DATA        0x20000UL
#define GUEST_HOLE        0x100000UL /* not backed */
#define GUEST_LARGE       0x200000UL /* second guest page table, for walks */
#define STUB_MARK         0x100      /* handlers call with RAX = STUB_MARK + vector, RCX = error code */

struct selftest {
	struct hv_vcpu *v, *other;
	struct hv_exit e;
	struct pt pt;
	hfn_t base; /* of the guest's pages */
	u64 tlb_gen;
	const char *name;
	bool failed;
	bool reader_waits;        /* the physical reader says E_AGAIN once */
	bool reader_uses_vectors; /* as one that expands a page */
};

struct selftest_case {
	const char *name;
	void (*fn)(struct selftest *s);
};
extern const struct selftest_case selftest_cases[];
extern const u32 selftest_case_count;

/* Guest memory for a page that the driver looks into. */
void *selftest_page(struct selftest *s, u64 gpa);
void selftest_map(struct selftest *s, u64 gpa, u64 backing, u32 prot);
void selftest_unmap(struct selftest *s, u64 gpa);
/* Starts v at a program of the guest image. */
void selftest_start(struct selftest *s, struct hv_vcpu *v, const u8 *program);
/* Enters until an exit that is not for the host. */
enum hv_exit_kind selftest_step(struct selftest *s, struct hv_vcpu *v);
bool selftest_want(struct selftest *s, bool ok, const char *what, int line);

#define WANT(c)                                           \
	do {                                              \
		if (!selftest_want(s, (c), #c, __LINE__)) \
			return;                           \
	} while (0)

#endif
