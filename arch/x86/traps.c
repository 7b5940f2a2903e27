/* The IDT, and the first decision on what an exception or interrupt means. */
#include "arch/x86/traps.h"
#include "arch/x86/asm.h"
#include "arch/x86/cpu.h"
#include "arch/x86/desc.h"
#include "arch/x86/smp.h"

#define TRAP_STUB_BYTES 16
#define GATE_INTERRUPT  0x8e /* present, ring 0, interrupt gate: IF is cleared */

struct gate {
	u16 offset_low, selector;
	u8 ist, type;
	u16 offset_mid;
	u32 offset_high, zero;
};
static_assert_size(struct gate, 16);

extern const u8 trap_stubs[VECTORS * TRAP_STUB_BYTES], trap_wake[];
static struct gate idt[VECTORS] aligned(16);

static u8 ist_of(u32 vector)
{
	switch (vector) {
	case TRAP_DOUBLE_FAULT:
		return STACK_DOUBLE_FAULT;
	case TRAP_NMI:
		return STACK_NMI;
	case TRAP_MACHINE_CHECK:
		return STACK_MACHINE_CHECK;
	default:
		return 0;
	}
}

void traps_init(void)
{
	for (u32 v = 0; v < VECTORS; v++) {
		bool wake = v == VECTOR_TIMER || v == VECTOR_KICK;
		u64 at = wake ? (u64)trap_wake : (u64)trap_stubs + v * TRAP_STUB_BYTES;

		idt[v] = (struct gate){.offset_low = (u16)at,
				       .selector = SEL_CODE,
				       .ist = ist_of(v),
				       .type = GATE_INTERRUPT,
				       .offset_mid = (u16)(at >> 16),
				       .offset_high = (u32)(at >> 32)};
	}
}

void traps_load_idt(void)
{
	struct desc_ptr p = {.limit = sizeof(idt) - 1, .base = (u64)idt};

	__asm__ volatile("lidt %0" : : "m"(p));
}

void trap_handle(struct trap_frame *f)
{
	if (f->vector >= TRAP_EXCEPTIONS) {
		this_cpu()->irqs++;
		irq_dispatch((u32)f->vector);
	} else if (f->vector == TRAP_NMI) {
		this_cpu()->nmis++;
		smp_stop_if_asked(f);
	} else {
		panic_trap(f);
	}
}
