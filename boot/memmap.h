/*
 * Builds the memory map of the hand-off: sorted, merged, page-aligned ranges without overlap.
 * Pure; the array is the caller's and is fixed in size, because nothing can be allocated once boot services end.
 */
#ifndef BOOT_MEMMAP_H
#define BOOT_MEMMAP_H

#include "boot/boot_info.h"

struct memmap {
	struct boot_mem *entry;
	u32 count, max;
	bool overflow; /* something did not fit: the map is not usable */
};

void memmap_init(struct memmap *m, struct boot_mem *entries, u32 max); /* empty; the array has room for max */
/* Appends one range of the firmware's map, as it comes. Usable RAM shrinks to whole pages, others grow. */
void memmap_add(struct memmap *m, u64 base, u64 bytes, enum boot_mem_type type);
/*
 * Sorts and merges. Where ranges overlap the higher type wins, so that nothing reserved is handed out;
 * all of memory above `limit` is left out.
 */
void memmap_finish(struct memmap *m, u64 limit);
/* Turns [base, base+bytes) of a finished map into `type`, splitting what it cuts. Keeps the map sorted and merged. */
void memmap_set(struct memmap *m, u64 base, u64 bytes, enum boot_mem_type type);
bool memmap_is_ram(u32 type); /* USABLE, LOADER, MODULE, IMAGE, ACPI */
u64 memmap_ram_end(const struct memmap *m);

#endif
