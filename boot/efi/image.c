/* The hypervisor's segments in memory, and the page tables it is entered with. */
#include "boot/efi/loader.h"
#include "boot/place.h"

#define HV_FILE "\\aerostat\\aerostat.elf"

bool image_place(struct loader *l, const void *file, u64 bytes)
{
	struct elf_image img;
	const char *why;
	u64 base, size;

	if (!place_check(file, bytes, &img, &size, &why)) {
		say_error(HV_FILE ": %s", why);
		return false;
	}
	base = loader_alloc(l, size, LARGE_SIZE, BOOT_MEM_IMAGE);
	if (!base)
		return false;
	place_image(&img, file, (void *)base);
	l->info->image_base = base;
	l->info->image_bytes = size;
	l->entry = img.entry;
	return true;
}

bool tables_build(struct loader *l)
{
	u64 end = MAX(firmware_ram_end(), 4 * GIB);
	u64 base = loader_alloc(l, place_table_bytes(end), PAGE_SIZE, BOOT_MEM_LOADER);

	if (!base)
		return false;
	place_fill_tables((u64 *)base, end, l->info->image_base, l->info->image_bytes);
	l->top_table = base;
	return true;
}
