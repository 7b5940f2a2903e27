/* Descriptor tables: see desc.h. */
#include "arch/x86/desc.h"
#include "arch/x86/asm.h"

#define DESC_CODE64        0x00af9b000000ffffUL
#define DESC_DATA          0x00cf93000000ffffUL
#define DESC_TSS_AVAILABLE (0x89UL << 40)

static void fill_tss_descriptor(u64 *gdt, const struct tss64 *tss)
{
	u64 base = (u64)tss, limit = sizeof(*tss) - 1;

	gdt[SEL_TSS / 8] = limit | (base & 0xffffff) << 16 | DESC_TSS_AVAILABLE | (base >> 24 & 0xff) << 56;
	gdt[SEL_TSS / 8 + 1] = base >> 32;
}

/* Reloads every segment register; FS and GS bases are set by the caller afterwards. */
static void load_segments(const struct desc_ptr *p)
{
	__asm__ volatile("lgdt %0\n\t"
			 "push %1\n\t"
			 "lea 1f(%%rip), %%rax\n\t"
			 "push %%rax\n\t"
			 "lretq\n"
			 "1:\n\t"
			 "mov %2, %%ds\n\t"
			 "mov %2, %%es\n\t"
			 "mov %2, %%ss\n\t"
			 "mov %3, %%fs\n\t"
			 "mov %3, %%gs"
			 :
			 : "m"(*p), "i"(SEL_CODE), "r"(SEL_DATA), "r"(0)
			 : "rax", "memory");
}

void desc_load(struct cpu *cpu, struct cpu_tables *t)
{
	struct desc_ptr p = {.limit = sizeof(t->gdt) - 1, .base = (u64)t->gdt};

	t->gdt[0] = 0;
	t->gdt[SEL_CODE / 8] = DESC_CODE64;
	t->gdt[SEL_DATA / 8] = DESC_DATA;
	t->tss.io_map = sizeof(t->tss);
	fill_tss_descriptor(t->gdt, &t->tss);
	cpu->gdt = t->gdt;
	cpu->tss = &t->tss;
	load_segments(&p);
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
	__asm__ volatile("lldt %w0" : : "r"(0));
}

void desc_set_stack(struct cpu *cpu, enum cpu_stack ist, u64 top)
{
	cpu->tss->ist[ist - 1] = top;
}
