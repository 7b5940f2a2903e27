/* The hypervisor's segments in memory, and the page tables it is entered with. */
#include "arch/x86/cpu.h"
#include "boot/efi/loader.h"
#include "lib/elf.h"
#include "lib/string.h"

#define HV_FILE   "\\aerostat\\aerostat.elf"
#define PTE_TABLE 0x3UL /* present, writable */
#define PTE_LARGE 0x83UL
#define GIB_SHIFT 30
#define L4_SHIFT  39

static bool image_fits(const struct elf_image *img)
{
	return img->vaddr_low >= IMAGE_BASE && img->vaddr_high - IMAGE_BASE <= LOADER_IMAGE_MAX;
}

bool image_place(struct loader *l, const void *file, u64 bytes)
{
	struct elf_image img;
	const char *why;
	u64 base, size;

	if (elf_parse(file, bytes, &img, &why)) {
		say_error(HV_FILE ": %s", why);
		return false;
	}
	if (!image_fits(&img)) {
		say_error(HV_FILE ": a segment lies outside the hypervisor's address range");
		return false;
	}
	size = ALIGN_UP(img.vaddr_high - IMAGE_BASE, PAGE_SIZE);
	base = loader_alloc(l, size, LARGE_SIZE, BOOT_MEM_IMAGE);
	if (!base)
		return false;
	for (u32 i = 0; i < img.count; i++) {
		const struct elf_segment *s = &img.seg[i];

		memcpy((u8 *)base + (s->vaddr - IMAGE_BASE), (const u8 *)file + s->file_offset, s->file_bytes);
	}
	l->info->image_base = base;
	l->info->image_bytes = size;
	l->entry = img.entry;
	return true;
}

/* Level-2 tables of 2 MiB leaves for [0, end), one page a GiB, at `l2`; level-3 tables at `l3`. */
static void fill_direct(u64 *l4, u64 *l3, u64 *l2, u64 end)
{
	u64 gibs = DIV_ROUND_UP(end, GIB);

	for (u64 i = 0; i < gibs * 512; i++)
		l2[i] = i << LARGE_SHIFT | PTE_LARGE;
	for (u64 i = 0; i < gibs; i++)
		l3[i] = (u64)(l2 + i * 512) | PTE_TABLE;
	for (u64 i = 0; i < DIV_ROUND_UP(gibs, 512); i++) {
		l4[i] = (u64)(l3 + i * 512) | PTE_TABLE;
		l4[(DIRECT_MAP_BASE >> L4_SHIFT & 511) + i] = l4[i];
	}
}

static void fill_image(u64 *l4, u64 *l3, u64 *l2, u64 base, u64 bytes)
{
	for (u64 off = 0; off < bytes; off += LARGE_SIZE)
		l2[off >> LARGE_SHIFT] = (base + off) | PTE_LARGE;
	l3[IMAGE_BASE >> GIB_SHIFT & 511] = (u64)l2 | PTE_TABLE;
	l4[IMAGE_BASE >> L4_SHIFT & 511] = (u64)l3 | PTE_TABLE;
}

bool tables_build(struct loader *l)
{
	u64 end = MAX(firmware_ram_end(), 4 * GIB), gibs = DIV_ROUND_UP(end, GIB);
	u64 l3_pages = DIV_ROUND_UP(gibs, 512);
	u64 base = loader_alloc(l, (3 + l3_pages + gibs) * PAGE_SIZE, PAGE_SIZE, BOOT_MEM_LOADER);
	u64 *page = (u64 *)base;

	if (!base)
		return false;
	fill_image(page, page + 512, page + 1024, l->info->image_base, l->info->image_bytes);
	fill_direct(page, page + 3 * 512, page + (3 + l3_pages) * 512, end);
	l->top_table = base;
	return true;
}
