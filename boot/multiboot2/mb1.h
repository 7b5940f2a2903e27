/*
 * Multiboot information of the first kind (Multiboot Specification 0.6.96, "Boot information format"), which QEMU
 * leaves for `-kernel loader.elf -initrd "aerostat.elf,aerostat.ini,guest.elf"`, read into the form of the second kind.
 * Pure: it is addresses of memory that the caller describes, and every one is checked before it is followed.
 */
#ifndef BOOT_MULTIBOOT2_MB1_H
#define BOOT_MULTIBOOT2_MB1_H

#include "boot/multiboot2/tags.h"

struct mb1_memory {
	u64 base;  /* where physical address 0 can be read */
	u64 bytes; /* that can be */
};

/*
 * info: its physical address. As mb2_parse(); the ACPI root pointer, of which it says nothing, is looked for where a
 * BIOS has it.
 */
int mb1_parse(const struct mb1_memory *m, u32 info, struct mb2_info *out, struct memmap *map,
	      const char **why) must_check;

#endif
