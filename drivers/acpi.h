/*
 * ACPI tables, as far as the hypervisor needs them: CPUs, IOAPICs and interrupt overrides (MADT), PM timer,
 * reset and power-off registers (FADT, \_S5), the serial console (SPCR). Firmware's tables are checked, never trusted:
 * signature, length, checksum, every offset. No AML is interpreted; \_S5 is found by its encoding.
 */
#ifndef DRIVERS_ACPI_H
#define DRIVERS_ACPI_H

#include "arch/x86/machine.h"
#include "lib/types.h"

/* How the parser reads memory: a pointer to len readable bytes at physical address pa, or NULL. */
struct acpi_reader {
	const void *(*view)(const struct acpi_reader *r, u64 pa, size_t len);
};

/*
 * Fills m from the tables under `rsdp`. 0, or E_NOENT (no root pointer), E_INVAL (broken root). A broken table
 * below the root is left out and counted in *bad.
 */
int acpi_parse(const struct acpi_reader *r, u64 rsdp, struct machine *m, u32 *bad) must_check;

/* On the machine (drivers/acpi_init.c): parses, logs what was found; m stays as it is if there are no tables. */
void acpi_init(u64 rsdp, struct machine *m);

#endif
