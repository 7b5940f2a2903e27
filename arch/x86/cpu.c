/*
 * Bringing up a CPU: its per-CPU block, descriptor tables, control registers and stacks.
 * Each CPU touches its own block only.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/apic.h"
#include "arch/x86/asm.h"
#include "arch/x86/desc.h"
#include "arch/x86/paging.h"
#include "arch/x86/traps.h"
#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "lib/work.h"

#define CPUID_7_EBX_SMEP  BIT(7)
#define CPUID_7_EBX_SMAP  BIT(20)
#define CPUID_7_ECX_UMIP  BIT(2)
#define CPUID_EXT1_EDX_NX BIT(20)
#define PAT_DEFAULT       0x0007040600070106UL /* WB, WC, UC-, UC; then as after reset: WB, WT, UC-, UC */

static struct cpu boot_cpu;
static struct cpu_tables boot_tables;
/* Interrupt stacks until there are guarded ones. */
static struct cpu *cpus[CPUS_MAX] = {&boot_cpu};
static u32 cpus_up = 1;
static u8 boot_ist[STACKS - 1][8 * KIB] aligned(16);

static void set_bases(struct cpu *cpu)
{
	cpu->self = cpu;
	cpu->tls[0] = (u64)cpu->tls;
	cpu->tls[CPU_TLS_CANARY] = rdtsc() << 8; /* low byte zero: ends strings that run over */
	wrmsr(MSR_FS_BASE, (u64)cpu->tls);
	wrmsr(MSR_GS_BASE, (u64)cpu);
	wrmsr(MSR_KERNEL_GS_BASE, 0);
}

u32 cpu_count(void)
{
	return __atomic_load_n(&cpus_up, __ATOMIC_ACQUIRE);
}

struct cpu *cpu_at(u32 id)
{
	CHECK(id < CPUS_MAX && cpus[id]);
	return cpus[id];
}

void cpu_register(u32 id, struct cpu *cpu)
{
	CHECK(id < CPUS_MAX && id >= cpu_count());
	cpus[id] = cpu;
}

void cpu_add(void)
{
	__atomic_store_n(&cpus_up, cpus_up + 1, __ATOMIC_RELEASE);
}

void cpu_kick(u32 id)
{
	lapic_send(cpu_at(id)->apic_id, LAPIC_IPI_FIXED | VECTOR_KICK);
}

void cpu_init_tables(struct cpu *cpu, struct cpu_tables *t)
{
	desc_load(cpu, t);
	set_bases(cpu);
	traps_load_idt();
}

void cpu_init_boot(void)
{
	struct cpu *cpu = &boot_cpu;

	desc_load(cpu, &boot_tables);
	set_bases(cpu);
	lib_cpu_init(&cpu->lib, 0);
	cpu->apic_id = cpuid(1, 0).ebx >> 24;
	for (u32 i = STACK_DOUBLE_FAULT; i < STACKS; i++)
		desc_set_stack(cpu, i, (u64)boot_ist[i - 1] + sizeof(boot_ist[0]));
	traps_init();
	traps_load_idt();
}

static u64 cr4_wanted(void)
{
	u64 cr4 = CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	struct cpuid_result r = {0};

	if (cpuid(0, 0).eax >= 7)
		r = cpuid(7, 0);
	cr4 |= r.ebx & CPUID_7_EBX_SMEP ? CR4_SMEP : 0;
	cr4 |= r.ebx & CPUID_7_EBX_SMAP ? CR4_SMAP : 0;
	cr4 |= r.ecx & CPUID_7_ECX_UMIP ? CR4_UMIP : 0;
	return cr4;
}

/* SMEP and SMAP are set here although the boot tables map no user page: they hold for good from now on. */
void cpu_init_features(void)
{
	u64 efer = rdmsr(MSR_EFER) & ~EFER_SCE;

	if (cpuid(0x80000001U, 0).edx & CPUID_EXT1_EDX_NX)
		efer |= EFER_NXE;
	wrmsr(MSR_EFER, efer);
	wrmsr(MSR_IA32_PAT, PAT_DEFAULT);
	write_cr0((read_cr0() | CR0_WP | CR0_NE | CR0_MP) & ~(CR0_EM | CR0_TS | CR0_CD | CR0_NW));
	write_cr4(cr4_wanted());
}

int cpu_init_stacks(void)
{
	return cpu_map_stacks(this_cpu());
}

int cpu_map_stacks(struct cpu *cpu)
{
	u64 top;

	for (u32 i = 0; i < STACKS; i++) {
		int err = paging_map_stack(cpu->lib.id, i, &top);

		if (err)
			return err;
		if (i == STACK_MAIN)
			cpu->stack_top = top;
		else
			desc_set_stack(cpu, i, top);
	}
	return 0;
}

void cpu_describe(char *buf, size_t size)
{
	u32 text[12];
	const char *s = (const char *)text;

	if (cpuid(0x80000000U, 0).eax >= 0x80000004U) {
		for (u32 i = 0; i < 3; i++) {
			struct cpuid_result r = cpuid(0x80000002U + i, 0);

			memcpy(&text[i * 4], &r, sizeof(r));
		}
		text[11] &= 0x00ffffffU;
	} else {
		struct cpuid_result r = cpuid(0, 0);

		memcpy(text, (u32[]){r.ebx, r.edx, r.ecx, 0}, 16);
	}
	while (*s == ' ')
		s++;
	str_copy(buf, s, size);
	for (size_t n = strlen(buf); n > 0 && buf[n - 1] == ' '; n--)
		buf[n - 1] = '\0';
}

void cpu_irq_window(void)
{
	__asm__ volatile("sti\n\tnop\n\tcli" : : : "memory");
}

/* STI takes effect after the next instruction, so an interrupt cannot slip in between the check and HLT. */
void cpu_idle(void)
{
	if (work_pending())
		return;
	__asm__ volatile("sti\n\thlt\n\tcli" : : : "memory");
}

_Noreturn void cpu_halt(void)
{
	for (;;)
		__asm__ volatile("sti\n\thlt" : : : "memory");
}
