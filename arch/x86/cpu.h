/*
 * Per-CPU data and the machine's services to the layers above: one struct per CPU, found through GS base;
 * the first members are lib's. Interrupts are off in all hypervisor code except inside
 * cpu_irq_window() and cpu_idle().
 */
#ifndef ARCH_X86_CPU_H
#define ARCH_X86_CPU_H

#include "arch/x86/tlb.h"
#include "lib/platform.h"
#include "lib/types.h"

#define CPUS_MAX        256
#define DIRECT_MAP_BASE 0xffff800000000000UL /* all RAM, RW, NX */
#define MMIO_MAP_BASE   0xffffc00000000000UL /* uncached device windows */
#define STACK_MAP_BASE  0xffffe00000000000UL /* per-CPU stacks between guard pages */
#define IMAGE_BASE      0xffffffff80000000UL /* linker.ld */

/* Per-CPU stacks in the STACK_MAP_BASE area, each above an unmapped guard page. */
#define STACK_MAIN_BYTES (64 * KIB)
#define STACK_IST_BYTES  (16 * KIB)
enum cpu_stack { STACK_MAIN, STACK_DOUBLE_FAULT, STACK_NMI, STACK_MACHINE_CHECK, STACKS };

/* The guard word that Debian's static libraries read at %fs:0x28. */
#define CPU_TLS_WORDS  8
#define CPU_TLS_CANARY 5

struct tss64;
struct cpu {
	struct cpu *self; /* %gs:0 */
	u64 irqs;         /* counter, %gs:8 */
	struct lib_cpu lib;
	u32 apic_id;
	u64 stack_top;
	u64 *gdt;
	struct tss64 *tss;
	u64 nmis;               /* counter */
	void *hv;               /* back end's per-CPU part */
	void *vmm;              /* scheduler's per-CPU part */
	u64 tls[CPU_TLS_WORDS]; /* FS base points here */
	u32 stopped;            /* atomic: a panic on another CPU has stopped this one, at: */
	u64 stop_rip, stop_rbp, stop_rsp;
	struct tlb_cpu tlb; /* which guest it may be in; read by all */
};
_Static_assert(offsetof(struct cpu, self) == 0, "%gs:0");
_Static_assert(offsetof(struct cpu, irqs) == 8, "traps.asm");

static inline struct cpu *this_cpu(void)
{
	struct cpu *c;
	__asm__("mov %%gs:0, %0" : "=r"(c));
	return c;
}

/* CPUs that run; those numbered below it exist for good. Grows at boot only. */
u32 cpu_count(void);
struct cpu *cpu_at(u32 id); /* CHECKs the range */
/* An interrupt that does nothing but end HLT or a guest's turn. Any context. */
void cpu_kick(u32 id);

/*
 * Boot CPU's block, descriptor tables and IDT, on stacks inside the image: first of all; from here on faults are
 * reported.
 */
void cpu_init_boot(void);
/* CR0, CR4, EFER and PAT as the hypervisor wants them, from CPUID; needs no memory. */
void cpu_init_features(void);
/* After paging_activate(): moves this CPU's interrupt stacks to guarded ones. E_NOMEM. */
int cpu_init_stacks(void) must_check;

/*
 * For smp.c. The guarded stacks of a CPU with lib.id and tss set; descriptor tables, IDT and bases on that CPU itself.
 */
int cpu_map_stacks(struct cpu *cpu) must_check;
struct cpu_tables;
void cpu_init_tables(struct cpu *cpu, struct cpu_tables *t);
void cpu_register(u32 id, struct cpu *cpu); /* cpu_at() of a CPU that is being started */
void cpu_add(void);                         /* it counts from now on */
/* Continues in fn(arg) on this CPU's guarded main stack. */
_Noreturn void cpu_continue_on_stack(u64 stack_top, void (*fn)(void *arg), void *arg);
/* "GenuineIntel ..." brand string for the banner. */
void cpu_describe(char *buf, size_t size);

/* Lets pending interrupts in for a moment (sti; nop; cli). Handlers queue work. */
void cpu_irq_window(void);
/* Sleeps until an interrupt (sti; hlt; cli); returns at once if work is pending. */
void cpu_idle(void);

/* Vectors. irq_alloc hands out a free one (E_NOSPC); handlers run with interrupts off, EOI is sent for them. */
void irq_init(void); /* local APIC, IOAPICs or 8259 of `machine`; all lines masked */
typedef void (*irq_handler_t)(void *arg);
int irq_alloc(irq_handler_t fn, void *arg, const char *name);
void irq_free(int vector);
/* Message address/data that raise `vector` on this CPU (MSI, MSI-X). */
void irq_msi(int vector, u64 *addr, u32 *data);
/*
 * Routes a legacy ISA interrupt line (IOAPIC where there is one, 8259 otherwise) to a vector and unmasks it. E_NODEV.
 */
int irq_route_isa(u8 line, int vector) must_check;

void time_mark_entry(void);      /* first thing of all */
u64 cpu_ticks_since_entry(void); /* TSC ticks since then */
void time_init(void);            /* measures the TSC (PM timer of `machine`, else PIT) and starts the clock */
void timer_hw_init(void);        /* after irq_init(): the local APIC timer */
void timer_hw_init_other(void);  /* on each further CPU, with what the boot CPU measured */
/*
 * One-shot timer interrupt at an absolute time (platform_now_ns scale); TIMER_NEVER disarms. Early is allowed, late is
 * not.
 */
void cpu_timer_arm(u64 deadline_ns);
u64 cpu_now_ns(void);
u64 cpu_tsc_khz(void);
/* Spins; for device start-up only. */
void cpu_delay_us(u64 us);

/* Uncached window on device memory; page-granular; E_NOMEM. */
int mmio_map(hpa_t hpa, size_t bytes, volatile void **va) must_check;
/* The same with writes gathered into bursts: for frame buffers, which are not read. */
int mmio_map_combining(hpa_t hpa, size_t bytes, volatile void **va) must_check;

static inline void *hpa_to_va(hpa_t a)
{
	return (void *)(DIRECT_MAP_BASE + a.v);
}
static inline hpa_t va_to_hpa(const void *va)
{
	return HPA((u64)va - DIRECT_MAP_BASE);
}

/* Stops for good after an error that has been logged; interrupts are still served, so queued output goes out. */
_Noreturn void cpu_halt(void);
_Noreturn void cpu_reboot(void);
_Noreturn void cpu_poweroff(void);

#endif
