/*
 * CPUID for guests: the host's leaves through an allow list. What the back ends do not switch (XSAVE state, PCID,
 * debug store, performance counters) or what a paravirtual guest has no use for (APIC, MTRR, MCA) is hidden.
 */
#include "arch/x86/cpu.h"
#include "guest/abi/aerostat.h"
#include "lib/string.h"
#include "vmm/cpuid.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

/* Leaf 1 EDX: FPU PSE TSC MSR PAE CX8 SEP PGE CMOV PAT CLFSH MMX FXSR SSE SSE2. */
#define LEAF1_EDX                                                                                                \
	(BIT(0) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(11) | BIT(13) | BIT(15) | BIT(16) | BIT(19) | \
	 BIT(23) | BIT(24) | BIT(25) | BIT(26))
/* Leaf 1 ECX: SSE3 PCLMUL SSSE3 CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES RDRAND. */
#define LEAF1_ECX            (BIT(0) | BIT(1) | BIT(9) | BIT(13) | BIT(19) | BIT(20) | BIT(22) | BIT(23) | BIT(25) | BIT(30))
#define LEAF1_ECX_HYPERVISOR BIT(31)
/* Leaf 7 EBX: FSGSBASE SMEP ERMS RDSEED SMAP CLFLUSHOPT. */
#define LEAF7_EBX (BIT(0) | BIT(7) | BIT(9) | BIT(18) | BIT(20) | BIT(23))
#define LEAF7_ECX BIT(2) /* UMIP */
/* Leaf 0x80000001 EDX: as leaf 1 (AMD repeats it) and SYSCALL NX LM. */
#define EXT1_EDX       ((LEAF1_EDX & 0x0183f3ffUL) | BIT(11) | BIT(20) | BIT(29))
#define EXT1_ECX       (BIT(0) | BIT(5) | BIT(8)) /* LAHF64 LZCNT PREFETCHW */
#define EXT7_EDX       BIT(8)                     /* invariant TSC */
#define LEAF_BASIC_MAX 7u
#define LEAF_EXT_MAX   0x80000008u

static void host_cpuid(u32 leaf, u32 subleaf, struct cpuid_regs *c)
{
	__asm__ volatile("cpuid" : "=a"(c->eax), "=b"(c->ebx), "=c"(c->ecx), "=d"(c->edx) : "a"(leaf), "c"(subleaf));
}

static void leaf_features(const struct vcpu *v, struct cpuid_regs *c)
{
	c->ebx = (c->ebx & 0xff00) | v->index << 24 | v->vm->config.vcpus << 16;
	c->ecx = (c->ecx & LEAF1_ECX) | LEAF1_ECX_HYPERVISOR;
	c->edx &= LEAF1_EDX;
}

static void leaf_hypervisor(const struct vcpu *v, u32 leaf, struct cpuid_regs *c)
{
	u32 name[3];

	*c = (struct cpuid_regs){0};
	switch (leaf) {
	case AERO_CPUID_BASE:
		memcpy(name, AERO_SIGNATURE, sizeof(name));
		*c = (struct cpuid_regs){AERO_CPUID_TSC, name[0], name[1], name[2]};
		break;
	case AERO_CPUID_FEATURES:
		*c = (struct cpuid_regs){AERO_ABI_VERSION, vm_features_offered(v->vm), AERO_MSR_HYPERCALL, v->index};
		break;
	case AERO_CPUID_TSC:
		c->eax = (u32)cpu_tsc_khz();
		c->ebx = (u32)(cpu_tsc_khz() >> 32);
		c->ecx = (u32)(v->vm->config.memory_bytes / MIB);
		break;
	}
}

static void leaf_basic(const struct vcpu *v, u32 leaf, struct cpuid_regs *c)
{
	switch (leaf) {
	case 0:
		c->eax = MIN(c->eax, LEAF_BASIC_MAX);
		break;
	case 1:
		leaf_features(v, c);
		break;
	case 7:
		*c = (struct cpuid_regs){0, c->ebx & LEAF7_EBX, c->ecx & LEAF7_ECX, 0};
		break;
	default:
		*c = (struct cpuid_regs){0};
	}
}

static void leaf_extended(u32 leaf, struct cpuid_regs *c)
{
	switch (leaf) {
	case 0x80000000:
		c->eax = MIN(c->eax, LEAF_EXT_MAX);
		break;
	case 0x80000001:
		c->ebx = 0;
		c->ecx &= EXT1_ECX;
		c->edx &= EXT1_EDX;
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004: /* brand string */
		break;
	case 0x80000007:
		*c = (struct cpuid_regs){0, 0, 0, c->edx & EXT7_EDX};
		break;
	case 0x80000008:
		*c = (struct cpuid_regs){c->eax & 0xffff, 0, 0, 0};
		break;
	default:
		*c = (struct cpuid_regs){0};
	}
}

void cpuid_guest(const struct vcpu *v, u32 leaf, u32 subleaf, struct cpuid_regs *c)
{
	if (leaf >= AERO_CPUID_BASE && leaf < AERO_CPUID_BASE + 0x100) {
		leaf_hypervisor(v, leaf, c);
		return;
	}
	/* Only leaf 7 has sub-leaves here; all but its first are empty. */
	if (subleaf && leaf == 7) {
		*c = (struct cpuid_regs){0};
		return;
	}
	host_cpuid(leaf, 0, c);
	if (leaf >= 0x80000000u)
		leaf_extended(leaf, c);
	else
		leaf_basic(v, leaf, c);
}
