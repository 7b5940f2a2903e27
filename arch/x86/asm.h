/* Single instructions and architectural constants; names are the manuals'. */
#ifndef ARCH_X86_ASM_H
#define ARCH_X86_ASM_H

#include "lib/types.h"

#define CR0_MP                BIT(1)
#define CR0_EM                BIT(2)
#define CR0_TS                BIT(3)
#define CR0_NE                BIT(5)
#define CR0_WP                BIT(16)
#define CR0_NW                BIT(29)
#define CR0_CD                BIT(30)

#define CR4_PAE               BIT(5)
#define CR4_MCE               BIT(6)
#define CR4_PGE               BIT(7)
#define CR4_OSFXSR            BIT(9)
#define CR4_OSXMMEXCPT        BIT(10)
#define CR4_UMIP              BIT(11)
#define CR4_LA57              BIT(12)
#define CR4_VMXE              BIT(13)
#define CR4_PCIDE             BIT(17)
#define CR4_SMEP              BIT(20)
#define CR4_SMAP              BIT(21)

#define RFLAGS_IF             BIT(9)

#define MSR_IA32_APIC_BASE    0x1bU
#define APIC_BASE_X2APIC      BIT(10)
#define APIC_BASE_ENABLE      BIT(11)
#define MSR_IA32_TSC_DEADLINE 0x6e0U
#define MSR_IA32_PAT          0x277U
#define MSR_X2APIC            0x800U
#define MSR_EFER              0xc0000080U
#define EFER_SCE              BIT(0)
#define EFER_LME              BIT(8)
#define EFER_NXE              BIT(11)
#define MSR_FS_BASE           0xc0000100U
#define MSR_GS_BASE           0xc0000101U
#define MSR_KERNEL_GS_BASE    0xc0000102U

struct cpuid_result {
	u32 eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid(u32 leaf, u32 sub)
{
	struct cpuid_result r;

	__asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(sub));
	return r;
}

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 msr, u64 v)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

/* Not ordered against other instructions: good enough for a clock. */
static inline u64 rdtsc(void)
{
	u32 lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (u64)hi << 32 | lo;
}

static inline u8 inb(u16 port)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline u16 inw(u16 port)
{
	u16 v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline u32 inl(u16 port)
{
	u32 v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void outb(u16 port, u8 v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static inline void outw(u16 port, u16 v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}
static inline void outl(u16 port, u32 v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

#define X86_CR_ACCESS(n)                                                       \
	static inline u64 read_cr##n(void)                                     \
	{                                                                      \
		u64 v;                                                         \
		__asm__ volatile("mov %%cr" #n ", %0" : "=r"(v) : : "memory"); \
		return v;                                                      \
	}                                                                      \
	static inline void write_cr##n(u64 v)                                  \
	{                                                                      \
		__asm__ volatile("mov %0, %%cr" #n : : "r"(v) : "memory");     \
	}
X86_CR_ACCESS(0)
X86_CR_ACCESS(2)
X86_CR_ACCESS(3)
X86_CR_ACCESS(4)

static inline u64 read_rflags(void)
{
	u64 v;

	__asm__ volatile("pushfq; pop %0" : "=r"(v));
	return v;
}

static inline void invlpg(u64 va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}
static inline void irq_disable(void)
{
	__asm__ volatile("cli" : : : "memory");
}
static inline void irq_enable(void)
{
	__asm__ volatile("sti" : : : "memory");
}

struct packed desc_ptr {
	u16 limit;
	u64 base;
};

#endif
