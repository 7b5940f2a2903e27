/*
 * ACPI's root pointer (RSDP), by which its tables are found (ACPI specification, "Root System Description Pointer").
 * For the loader, which looks for it in memory, and for who reads the tables.
 */
#ifndef LIB_RSDP_H
#define LIB_RSDP_H

#include "lib/string.h"
#include "lib/types.h"

#define RSDP_ALIGN    16U
#define RSDP1_BYTES   20U
#define RSDP2_BYTES   36U /* from revision 2 on */
#define RSDP_REVISION 15  /* offset of the revision, a byte */

/* Are the n bytes at p right by their checksum? */
static inline bool acpi_sum_ok(const u8 *p, u32 n)
{
	u8 sum = 0;

	for (u32 i = 0; i < n; i++)
		sum += p[i];
	return sum == 0;
}

/* RSDP1_BYTES at p: is it one, of any revision? */
static inline bool rsdp_is_valid(const u8 *p)
{
	return !memcmp(p, "RSD PTR ", 8) && acpi_sum_ok(p, RSDP1_BYTES);
}

#endif
