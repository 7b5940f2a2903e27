/* Exceptions and interrupts: the saved frame, and who gets it. Private to arch/x86. */
#ifndef ARCH_X86_TRAPS_H
#define ARCH_X86_TRAPS_H

#include "lib/types.h"

#define TRAP_NMI           2
#define TRAP_DOUBLE_FAULT  8
#define TRAP_PAGE_FAULT    14
#define TRAP_MACHINE_CHECK 18
#define TRAP_EXCEPTIONS    32U

/* Vectors of interrupts: the 8259's lines, those handed out by irq_alloc(), and fixed ones. */
#define VECTOR_PIC         0x20
#define VECTOR_ALLOC_FIRST 0x30
#define VECTOR_ALLOC_LAST  0xef
#define VECTOR_TIMER       0xf0
#define VECTOR_KICK        0xf1 /* from another CPU: come out and look */
#define VECTOR_ERROR       0xfe
#define VECTOR_SPURIOUS    0xff
#define VECTORS            256

/* Filled by traps.asm. */
struct trap_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8;
	u64 rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error;
	u64 rip, cs, rflags, rsp, ss;
};
static_assert_size(struct trap_frame, 22 * 8);

void traps_init(void);     /* builds the IDT */
void traps_load_idt(void); /* on each CPU */
void trap_handle(struct trap_frame *f);

/* irq.c */
void irq_dispatch(u32 vector);
/* Handlers and how often each ran; takes no lock. */
void irq_print(void (*print)(const char *fmt, ...));

/* panic.c */
_Noreturn void panic_trap(const struct trap_frame *f);

#endif
