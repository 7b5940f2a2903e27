/* Descriptor tables of a CPU: flat segments and a TSS with the interrupt stacks. Private to arch/x86. */
#ifndef ARCH_X86_DESC_H
#define ARCH_X86_DESC_H

#include "arch/x86/cpu.h"
#include "lib/types.h"

#define SEL_CODE    0x08
#define SEL_DATA    0x10
#define SEL_TSS     0x18
#define GDT_ENTRIES 5 /* null, code, data, TSS (two) */

struct packed tss64 {
	u32 zero0;
	u64 rsp[3];
	u64 zero1;
	u64 ist[7]; /* [n - 1] for IST n = enum cpu_stack n */
	u64 zero2;
	u16 zero3, io_map;
};
static_assert_size(struct tss64, 104);

struct cpu_tables {
	u64 gdt[GDT_ENTRIES];
	struct tss64 tss;
};

/* Fills the tables and loads GDT, segment registers and TR on this CPU. */
void desc_load(struct cpu *cpu, struct cpu_tables *t);
void desc_set_stack(struct cpu *cpu, enum cpu_stack ist, u64 top);

#endif
