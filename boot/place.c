/* The hypervisor's segments in memory, and the page tables it is entered with: see place.h. */
#include "boot/place.h"
#include "arch/x86/cpu.h"
#include "lib/string.h"

#define PTE_TABLE 0x3UL /* present, writable */
#define PTE_LARGE 0x83UL
#define GIB_SHIFT 30
#define L4_SHIFT  39

static bool image_fits(const struct elf_image *img)
{
	return img->vaddr_low >= IMAGE_BASE && img->vaddr_high - IMAGE_BASE <= PLACE_IMAGE_MAX;
}

bool place_check(const void *file, u64 file_bytes, struct elf_image *img, u64 *bytes, const char **why)
{
	if (elf_parse(file, file_bytes, img, why))
		return false;
	if (!image_fits(img)) {
		*why = "a segment lies outside the hypervisor's address range";
		return false;
	}
	*bytes = ALIGN_UP(img->vaddr_high - IMAGE_BASE, PAGE_SIZE);
	return true;
}

void place_image(const struct elf_image *img, const void *file, void *to)
{
	for (u32 i = 0; i < img->count; i++) {
		const struct elf_segment *s = &img->seg[i];

		memcpy((u8 *)to + (s->vaddr - IMAGE_BASE), (const u8 *)file + s->file_offset, s->file_bytes);
	}
}

/* Level-2 tables of 2 MiB leaves for [0, gibs), one page a GiB, at `l2`; level-3 tables at `l3`. */
static void fill_direct(u64 *l4, u64 *l3, u64 *l2, u64 gibs)
{
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

static u64 gibs_of(u64 end)
{
	return DIV_ROUND_UP(end, GIB);
}

u64 place_table_bytes(u64 end)
{
	return (3 + DIV_ROUND_UP(gibs_of(end), 512) + gibs_of(end)) * PAGE_SIZE;
}

void place_fill_tables(u64 *tables, u64 end, u64 image_base, u64 image_bytes)
{
	u64 gibs = gibs_of(end), l3_pages = DIV_ROUND_UP(gibs, 512);

	fill_image(tables, tables + 512, tables + 1024, image_base, image_bytes);
	fill_direct(tables, tables + 3 * 512, tables + (3 + l3_pages) * 512, gibs);
}
