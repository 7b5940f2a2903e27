/* Descriptor tables: one IDT, and a GDT, TSS and stack for fatal exceptions for each virtual processor. */
#include "guest/kernel/cpu.h"
#include "guest/kernel/smp.h"
#include "lib/string.h"

#define GATE_INTERRUPT    0x8e
#define TSS_AVAILABLE     0x89ul
#define VECTOR_NMI        2
#define VECTOR_DF         8
#define VECTOR_MC         18
#define IST_FATAL         1 /* double fault, NMI, machine check: a stack of their own */
#define FATAL_STACK_BYTES (8 * KIB)

struct packed gate {
	u16 offset_low, selector;
	u8 ist, type;
	u16 offset_middle;
	u32 offset_high, zero;
};

struct packed tss {
	u32 reserved0;
	u64 rsp[3], reserved1, ist[7], reserved2;
	u16 reserved3, io_map;
};

struct packed table_register {
	u16 limit;
	u64 base;
};

static struct tables {
	u64 gdt[5];
	struct tss tss;
	u8 fatal_stack[FATAL_STACK_BYTES] aligned(16);
} tables[SMP_CPUS_MAX];
static struct gate idt[256] aligned(16);

static void set_gate(u32 vector)
{
	u64 at = (u64)cpu_trap_stubs + vector * TRAP_STUB_BYTES;
	bool fatal = vector == VECTOR_NMI || vector == VECTOR_DF || vector == VECTOR_MC;

	idt[vector] = (struct gate){.offset_low = (u16)at,
				    .selector = CODE_SELECTOR,
				    .ist = fatal ? IST_FATAL : 0,
				    .type = GATE_INTERRUPT,
				    .offset_middle = (u16)(at >> 16),
				    .offset_high = (u32)(at >> 32)};
}

static void set_gdt(struct tables *t)
{
	u64 base = (u64)&t->tss;

	t->gdt[CODE_SELECTOR / 8] = 0x00af9b000000fffful;
	t->gdt[DATA_SELECTOR / 8] = 0x00cf93000000fffful;
	t->gdt[TSS_SELECTOR / 8] =
	    (sizeof(t->tss) - 1) | (base & 0xffffff) << 16 | TSS_AVAILABLE << 40 | (base >> 24 & 0xff) << 56;
	t->gdt[TSS_SELECTOR / 8 + 1] = base >> 32;
	t->tss.ist[IST_FATAL - 1] = (u64)t->fatal_stack + sizeof(t->fatal_stack);
	t->tss.io_map = sizeof(t->tss);
}

void cpu_tables_load(u32 index)
{
	struct tables *t = &tables[index];
	struct table_register gdtr = {sizeof(t->gdt) - 1, (u64)t->gdt}, idtr = {sizeof(idt) - 1, (u64)idt};

	if (index == 0)
		for (u32 i = 0; i < 256; i++)
			set_gate(i);
	set_gdt(t);
	__asm__ volatile("lgdt %0\n\t"
			 "lidt %1\n\t"
			 "pushq %2\n\t"
			 "leaq 1f(%%rip), %%rax\n\t"
			 "pushq %%rax\n\t"
			 "lretq\n"
			 "1:\n\t"
			 "movw %w3, %%ds\n\t"
			 "movw %w3, %%es\n\t"
			 "movw %w3, %%ss\n\t"
			 "movw %w3, %%fs\n\t"
			 "movw %w3, %%gs\n\t"
			 "ltr %w4"
			 :
			 : "m"(gdtr), "m"(idtr), "i"(CODE_SELECTOR), "r"(DATA_SELECTOR), "r"(TSS_SELECTOR)
			 : "rax", "memory");
	cpu_wrmsr(MSR_GS_BASE, (u64)&smp.cpu[index]);
}
