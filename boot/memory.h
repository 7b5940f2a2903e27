/* From the loader's memory map to the frame allocator and the hypervisor's own page tables. */
#ifndef BOOT_MEMORY_H
#define BOOT_MEMORY_H

#include "boot/boot_info.h"

/*
 * Frame table, allocator, page tables; the new tables are active on return. Panics with numbers when memory does not
 * suffice.
 */
void memory_init(const struct boot_info *bi);
/*
 * Gives the loader's leftovers (boot tables, boot_info) to the allocator: nothing of boot_info may be used afterwards.
 */
void memory_free_loader(const struct boot_info *bi);
u64 memory_ram_bytes(void);
/* Any of [base, base+bytes) is RAM; before memory_free_loader(). */
bool memory_has_ram(const struct boot_info *bi, u64 base, u64 bytes);

#endif
