/*
 * The multiboot2 information as the boot loader leaves it (Multiboot2 Specification, "Boot information"), read into a
 * form without pointers into it. Pure: nothing in it is trusted; every length and range is checked before it is used.
 */
#ifndef BOOT_MULTIBOOT2_TAGS_H
#define BOOT_MULTIBOOT2_TAGS_H

#include "boot/boot_info.h"
#include "boot/memmap.h"
#include "lib/rsdp.h"

#define MB2_INFO_MAX    (1 * MIB)              /* a longer one is an error */
#define MB2_MODULES_MAX (BOOT_MODULES_MAX + 1) /* and the hypervisor itself */

struct mb2_module {
	u64 base, bytes;            /* below 4 GiB */
	char name[BOOT_NAME_BYTES]; /* last part of the first word of its command line */
};

struct mb2_info {
	u32 module_count;
	struct mb2_module module[MB2_MODULES_MAX];
	struct boot_framebuffer fb; /* base 0: none that could be used */
	u64 efi_system_table;       /* 0: none, or a 32-bit firmware */
	u32 rsdp_bytes;             /* 0: none */
	u8 rsdp[RSDP2_BYTES];       /* copy of the ACPI root pointer */
	char cmdline[256];
};

/* Total size that the information says it has: 0 if it cannot be right. head: its first 8 bytes. */
u32 mb2_total_bytes(const void *head);

/*
 * Fills out and appends the firmware's memory map to `map` (initialised by the caller, who finishes it). `bytes`: what
 * mb2_total_bytes() said. E_INVAL with the reason in *why.
 */
int mb2_parse(const void *info, u32 bytes, struct mb2_info *out, struct memmap *map, const char **why) must_check;

/* "/aerostat/guest.elf anything" becomes "guest.elf". False: no name, or a very long one. */
bool mb2_module_name(const char *line, char out[BOOT_NAME_BYTES]);
enum boot_mem_type mb2_mem_type(u32 type); /* of the memory map's number */

#endif
