/* Interrupt hardware, private to arch/x86: local APIC (xAPIC or x2APIC), IOAPICs, 8259. */
#ifndef ARCH_X86_APIC_H
#define ARCH_X86_APIC_H

#include "lib/types.h"

/* apic.c: this CPU's local APIC. */
extern volatile u8 *lapic_window; /* its registers, NULL: x2APIC; for traps.asm */
int lapic_init(void) must_check;  /* E_NODEV: none; E_NOMEM */
void lapic_eoi(void);
u32 lapic_id(void);
/* Lets the 8259 through on LINT0 (virtual wire), or not. */
void lapic_set_extint(bool on);
bool lapic_is_x2apic(void);
/* Interrupt command: what to send, with the vector or page in the low byte. */
#define LAPIC_IPI_FIXED   0x4000U
#define LAPIC_IPI_NMI     0x4400U
#define LAPIC_IPI_INIT    0x4500U
#define LAPIC_IPI_STARTUP 0x4600U
void lapic_send(u32 apic_id, u32 command);

/* pic.c: the 8259 pair at vectors VECTOR_PIC.., all lines masked. */
void pic_init(void);
void pic_unmask(u8 line);
/* False: spurious, to be ignored. */
bool pic_begin(u8 line);
void pic_end(u8 line);

/* ioapic.c */
int ioapic_init(void) must_check; /* E_NODEV: none */
/* Routes a global interrupt to a vector on this CPU and unmasks it. E_NODEV: no such line. */
int ioapic_route(u32 gsi, int vector, bool active_low, bool level) must_check;

#endif
