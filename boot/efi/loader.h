/*
 * The UEFI loader's own interfaces. Everything it allocates stays until the
 * hypervisor frees it; if loading fails the loader returns to the firmware and nothing has changed.
 */
#ifndef BOOT_EFI_LOADER_H
#define BOOT_EFI_LOADER_H

#include <efi.h>

#include "boot/boot_info.h"
#include "boot/memmap.h"
#include "boot/say.h"
#include "lib/types.h"

#define LOADER_FILE_MAX (256 * MIB)
#define LOADER_MEM_MAX  4096U /* entries of the memory map */

extern EFI_SYSTEM_TABLE *st;
extern EFI_BOOT_SERVICES *bs;

/* What we allocated and what it holds: laid over the firmware's map at the end. */
struct owned {
	u64 base, bytes;
	u32 type; /* enum boot_mem_type */
};

struct loader {
	EFI_HANDLE image, volume;
	struct boot_info *info;
	struct owned owned[32];
	u32 owned_count;
	u64 entry;     /* of the hypervisor */
	u64 top_table; /* CR3 at entry */
};

/* say.c: the same text to the firmware's screen and to COM1. */
void say_init(void);
/* Prints "Aerostat: error: ..." and waits for a key, at most 10 s. */
void say_error(const char *fmt, ...) printf_like(1, 2);
/* From here on COM1 is written directly even if the firmware's console includes it: it may be gone. */
void say_directly(void);
const char *status_name(EFI_STATUS s);

/* files.c */
/* Zeroed whole pages below 16 TiB, aligned to `align`, recorded as `type`. 0: out of memory (said). */
u64 loader_alloc(struct loader *l, u64 bytes, u64 align, enum boot_mem_type type);
void loader_release(struct loader *l); /* gives everything back */
/* Reads \aerostat: the configuration, the hypervisor (raw file in *hv), every guest image. False: an error was said. */
bool files_load(struct loader *l, const void **hv, u64 *hv_bytes);

/* image.c: places the hypervisor's segments and builds the tables it is entered with. */
bool image_place(struct loader *l, const void *file, u64 bytes);
bool tables_build(struct loader *l);

/* firmware.c: what the firmware knows: tables, frame buffer, entropy, boot partition, low page. */
void firmware_collect(struct loader *l);

/* handoff.c: final memory map, end of boot services, jump. Returns only if boot services could not be left. */
EFI_STATUS handoff(struct loader *l);
/* Highest RAM address in the firmware's present map; 0 on error. */
u64 firmware_ram_end(void);

#endif
