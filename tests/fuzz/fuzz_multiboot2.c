/* Any bytes as multiboot information of both kinds: refused with a reason, or understood within the limits. */
#include <string.h>

#include "boot/multiboot2/mb1.h"
#include "boot/multiboot2/tags.h"
#include "lib/panic.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define ENTRIES  64
#define MB1_INFO 4 /* where it lies in the bytes, which are all of the memory */

static void check_map(const struct memmap *m)
{
	for (u32 i = 0; i < m->count; i++) {
		const struct boot_mem *e = &m->entry[i];

		CHECK(e->bytes && e->base + e->bytes > e->base && e->base % PAGE_SIZE == 0 &&
		      e->bytes % PAGE_SIZE == 0);
		CHECK(i == 0 || m->entry[i - 1].base + m->entry[i - 1].bytes <= e->base);
	}
}

static void check_info(const struct mb2_info *info, struct memmap *map)
{
	CHECK(info->module_count <= MB2_MODULES_MAX && memchr(info->cmdline, 0, sizeof(info->cmdline)));
	for (u32 i = 0; i < info->module_count; i++)
		CHECK(info->module[i].name[0] && memchr(info->module[i].name, 0, BOOT_NAME_BYTES) &&
		      info->module[i].base + info->module[i].bytes <= 4 * GIB);
	CHECK(!info->fb.base || ((u64)info->fb.width * 4 <= info->fb.pitch_bytes && info->fb.height));
	CHECK(info->rsdp_bytes == 0 || info->rsdp_bytes == RSDP1_BYTES || info->rsdp_bytes == RSDP2_BYTES);
	memmap_finish(map, 1UL << 44);
	if (!map->overflow)
		check_map(map);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct boot_mem entries[ENTRIES];
	static struct mb2_info out;
	struct mb1_memory all = {(u64)data, size};
	struct memmap map;
	const char *why = NULL;

	if (size < 16 || size > MB2_INFO_MAX)
		return 0;
	memmap_init(&map, entries, ENTRIES);
	if (mb2_parse(data, size, &out, &map, &why))
		CHECK(why);
	else
		check_info(&out, &map);
	memmap_init(&map, entries, ENTRIES);
	why = NULL;
	if (mb1_parse(&all, MB1_INFO, &out, &map, &why))
		CHECK(why);
	else
		check_info(&out, &map);
	return 0;
}
