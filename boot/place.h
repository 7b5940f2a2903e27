/*
 * What every boot loader does with the hypervisor's file: check it, put its segments in place, and fill the page tables
 * that boot_info.h promises. Pure; memory is the loader's.
 */
#ifndef BOOT_PLACE_H
#define BOOT_PLACE_H

#include "lib/elf.h"
#include "lib/types.h"

#define PLACE_IMAGE_MAX (64 * MIB) /* hypervisor image in memory */

/* Parses the file; *bytes is the memory that the image needs, at a multiple of 2 MiB. False: the reason is in *why. */
bool place_check(const void *file, u64 file_bytes, struct elf_image *img, u64 *bytes, const char **why) must_check;
/* Copies the segments to `to`, which is zeroed memory of the size that place_check() told. */
void place_image(const struct elf_image *img, const void *file, void *to);

/* Memory for the tables of a machine whose RAM ends at `end`; whole pages. */
u64 place_table_bytes(u64 end);
/*
 * Fills zeroed, page-aligned memory that lies 1:1: [0, end) both 1:1 and at DIRECT_MAP_BASE, the image at IMAGE_BASE.
 * The first page is the top table.
 */
void place_fill_tables(u64 *tables, u64 end, u64 image_base, u64 image_bytes);

#endif
