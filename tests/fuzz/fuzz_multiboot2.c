/* Any bytes as multiboot2 information: refused with a reason, or understood within the limits. */
#include <string.h>

#include "boot/multiboot2/tags.h"
#include "lib/panic.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define ENTRIES 64

static void check_map(const struct memmap *m)
{
	for (u32 i = 0; i < m->count; i++) {
		const struct boot_mem *e = &m->entry[i];

		CHECK(e->bytes && e->base + e->bytes > e->base && e->base % PAGE_SIZE == 0 &&
		      e->bytes % PAGE_SIZE == 0);
		CHECK(i == 0 || m->entry[i - 1].base + m->entry[i - 1].bytes <= e->base);
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct boot_mem entries[ENTRIES];
	static struct mb2_info out;
	struct memmap map;
	const char *why = NULL;

	if (size < 16 || size > MB2_INFO_MAX)
		return 0;
	memmap_init(&map, entries, ENTRIES);
	if (mb2_parse(data, size, &out, &map, &why)) {
		CHECK(why);
		return 0;
	}
	CHECK(out.module_count <= MB2_MODULES_MAX && memchr(out.cmdline, 0, sizeof(out.cmdline)));
	for (u32 i = 0; i < out.module_count; i++)
		CHECK(out.module[i].name[0] && memchr(out.module[i].name, 0, BOOT_NAME_BYTES) &&
		      out.module[i].base + out.module[i].bytes <= 4 * GIB);
	CHECK(!out.fb.base || ((u64)out.fb.width * 4 <= out.fb.pitch_bytes && out.fb.height));
	CHECK(out.rsdp_bytes == 0 || out.rsdp_bytes == 20 || out.rsdp_bytes == MB2_RSDP_BYTES);
	memmap_finish(&map, 1UL << 44);
	if (!map.overflow)
		check_map(&map);
	return 0;
}
