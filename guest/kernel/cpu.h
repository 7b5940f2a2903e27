/* The virtual processor: descriptor tables, traps, and the assembly in entry.asm. Machine only. */
#ifndef GUEST_CPU_H
#define GUEST_CPU_H

#include "lib/types.h"

#define CODE_SELECTOR 0x08
#define DATA_SELECTOR 0x10
#define TSS_SELECTOR  0x18
#define STACK_BYTES   (32 * KIB)
#define MSR_IA32_EFER 0xc0000080u
#define MSR_GS_BASE   0xc0000101u
#define EFER_NXE      BIT(11)
#define CR0_WP        BIT(16)

/* As entry.asm pushes it. */
struct trap_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	u64 vector, error;
	u64 rip, cs, rflags, rsp, ss;
};

struct cpuid {
	u32 eax, ebx, ecx, edx;
};

static inline struct cpuid cpu_cpuid(u32 leaf)
{
	struct cpuid c;

	__asm__ volatile("cpuid" : "=a"(c.eax), "=b"(c.ebx), "=c"(c.ecx), "=d"(c.edx) : "a"(leaf), "c"(0));
	return c;
}

static inline u64 cpu_rdmsr(u32 msr)
{
	u32 lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (u64)hi << 32 | lo;
}

static inline void cpu_wrmsr(u32 msr, u64 value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline u64 cpu_cr0(void)
{
	u64 v;

	__asm__ volatile("mov %%cr0, %0" : "=r"(v));
	return v;
}

static inline u64 cpu_cr2(void)
{
	u64 v;

	__asm__ volatile("mov %%cr2, %0" : "=r"(v));
	return v;
}

static inline u64 cpu_cr3(void)
{
	u64 v;

	__asm__ volatile("mov %%cr3, %0" : "=r"(v));
	return v;
}

static inline u64 cpu_cr4(void)
{
	u64 v;

	__asm__ volatile("mov %%cr4, %0" : "=r"(v));
	return v;
}

static inline void cpu_set_cr0(u64 v)
{
	__asm__ volatile("mov %0, %%cr0" : : "r"(v) : "memory");
}

static inline void cpu_set_cr3(u64 v)
{
	__asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory");
}

static inline void cpu_set_cr4(u64 v)
{
	__asm__ volatile("mov %0, %%cr4" : : "r"(v) : "memory");
}

/* This vCPU's GDT, IDT and TSS; GS points at its struct smp_cpu. */
void cpu_tables_load(u32 index);

/* Runs fn(arg); returns -1, or the vector of the exception that ended it. Not nested. */
s64 cpu_probe(void (*fn)(u64 arg), u64 arg);
/* entry.asm: leaves a probe from inside an exception. */
_Noreturn void cpu_probe_abort(u64 vector);
extern u64 cpu_probe_rsp; /* 0: no probe is running */

/* Called by entry.asm for every vector, interrupts off. */
void trap_handle(struct trap_frame *f);

extern u8 cpu_trap_stubs[]; /* 256 of TRAP_STUB_BYTES */
#define TRAP_STUB_BYTES 16
extern u8 hypercall_page[];
extern u8 boot_stack[]; /* its guard page is the page below */

/* entry.asm: where another vCPU begins, and the call that makes it. */
void cpu_entry(void);
s64 hypercall_vcpu_start(u64 vcpu, u64 rip, u64 rsp, u64 cr3, u64 arg);

#endif
