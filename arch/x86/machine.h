/*
 * What the firmware's tables say about the machine, in the form arch/x86 uses. Filled once at boot
 * (drivers/acpi.c, or by probing where there are no tables), constant afterwards.
 */
#ifndef ARCH_X86_MACHINE_H
#define ARCH_X86_MACHINE_H

#include "lib/types.h"

#define MACHINE_CPUS_MAX    256
#define MACHINE_IOAPICS_MAX 8
#define ISA_LINES           16

struct machine_reg { /* ACPI generic address, I/O and memory space only; bits 0: none */
	u64 addr;
	u8 bits;
	bool memory;
};

#define MACHINE_LINE_NONE 0xff

struct machine_serial { /* a 16550 that the firmware's console uses */
	u64 addr;       /* 0: none is described */
	bool memory;    /* at a physical address, else at a port */
	u8 stride;      /* bytes from register to register */
	u8 line;        /* ISA interrupt line, or MACHINE_LINE_NONE */
	u32 baud;       /* 0: as the firmware left it */
};

struct machine {
	bool acpi;     /* tables were found */
	u32 cpu_count; /* enabled CPUs; 0: unknown, one */
	u32 cpu_apic_id[MACHINE_CPUS_MAX];
	u32 ioapic_count;
	struct {
		u32 addr, gsi_base;
	} ioapic[MACHINE_IOAPICS_MAX];
	struct {
		u32 gsi;
		bool active_low, level;
	} isa[ISA_LINES];       /* identity unless overridden */
	u16 pm_timer_port;      /* 3.579545 MHz counter; 0: none */
	bool pm_timer_32;       /* 32 bits wide, else 24 */
	u16 pm1a_cnt, pm1b_cnt; /* power-off through S5; 0: none */
	u8 s5_type_a, s5_type_b;
	bool s5_valid;
	bool piix4; /* power management found by machine_probe_piix4() */
	struct machine_serial serial;
	struct machine_reg reset;
	u8 reset_value;
};

extern struct machine machine;

/* Defaults before tables are read: ISA lines map to themselves. */
void machine_init(struct machine *m);
/* PIIX4 power management at PCI 0:1.3, for machines without ACPI tables. */
void machine_probe_piix4(struct machine *m);
/* Last thing before a restart: leaves the chip set as firmware expects it. */
void machine_before_reset(const struct machine *m);

#endif
