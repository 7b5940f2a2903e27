/*
 * From GRUB (or QEMU's -kernel) to hv_entry: reads the multiboot information, copies what came with it to memory of its
 * own choice, and makes the same hand-off as the UEFI loader. Modules: aerostat.elf (the hypervisor), aerostat.ini, and
 * guest images.
 */
#include "arch/x86/asm.h"
#include "boot/boot_info.h"
#include "boot/entropy.h"
#include "boot/multiboot2/loader.h"
#include "boot/multiboot2/mb1.h"
#include "boot/multiboot2/tags.h"
#include "boot/options.h"
#include "boot/place.h"
#include "lib/string.h"

#define HV_NAME      "aerostat.elf"
#define CONFIG_NAME  "aerostat.ini"
#define MAP_MAX      4096U
#define MEM_LIMIT    (1UL << 44) /* frame numbers are 32-bit */
#define REACH        (4 * GIB)   /* mapped 1:1 */
#define LOW_PAGE_END 0x9f000UL   /* below the usual extended BIOS data area */
#define PIT_DATA     0x40
#define PIT_COMMAND  0x43

extern u8 mb2_image_start[], mb2_image_end[];

static struct boot_mem entries[MAP_MAX];
static struct memmap map;
static struct mb2_info mb2;

/* Physical address of zeroed pages of [floor, ceiling), as high as possible. 0: there are none. */
static u64 find_pages(u64 bytes, u64 align, u64 floor, u64 ceiling)
{
	for (u32 i = map.count; i > 0; i--) {
		const struct boot_mem *e = &map.entry[i - 1];
		u64 low = MAX(e->base, floor), end = MIN(e->base + e->bytes, ceiling);

		if (e->type == BOOT_MEM_USABLE && low < end && end - low >= bytes &&
		    ALIGN_DOWN(end - bytes, align) >= low)
			return ALIGN_DOWN(end - bytes, align);
	}
	return 0;
}

static void mark(u64 base, u64 bytes, enum boot_mem_type type)
{
	u64 start = ALIGN_DOWN(base, PAGE_SIZE);

	memmap_set(&map, start, ALIGN_UP(base + bytes, PAGE_SIZE) - start, type);
	if (map.overflow)
		say_error("the memory map has more than %u entries", MAP_MAX);
}

static void *alloc(u64 bytes, u64 align, enum boot_mem_type type)
{
	u64 whole = ALIGN_UP(MAX(bytes, 1UL), PAGE_SIZE), base = find_pages(whole, align, MIB, REACH);

	if (!base)
		say_error("out of memory: no %lu KiB in one piece below 4 GiB", whole / KIB);
	mark(base, whole, type);
	memset((void *)base, 0, whole);
	return (void *)base;
}

static bool is_ram(u64 base, u64 bytes)
{
	for (u32 i = 0; i < map.count; i++) {
		const struct boot_mem *e = &map.entry[i];

		if (e->type == BOOT_MEM_USABLE && base >= e->base && base + bytes <= e->base + e->bytes)
			return true;
	}
	return false;
}

/* Everything that is still needed is kept out of the way of alloc(); it goes to the allocator with the loader. */
static void keep_what_came(u64 info, u32 info_bytes, u64 base)
{
	for (u32 i = 0; i < mb2.module_count; i++)
		if (mb2.module[i].bytes && !is_ram(mb2.module[i].base, mb2.module[i].bytes))
			say_error("module %s lies outside of RAM", mb2.module[i].name);
	mark(base, mb2_image_end - mb2_image_start, BOOT_MEM_LOADER);
	if (info_bytes)
		mark(info, info_bytes, BOOT_MEM_LOADER);
	for (u32 i = 0; i < mb2.module_count; i++)
		if (mb2.module[i].bytes)
			mark(mb2.module[i].base, mb2.module[i].bytes, BOOT_MEM_LOADER);
}

/* Bytes of the information that are still needed: none of the first multiboot's. */
static u32 parse_info(u64 info, u32 magic)
{
	const struct mb1_memory all = {0, REACH};
	const char *why;
	u32 bytes = 0;
	int err;

	if (magic == MB1_LOADER_MAGIC) {
		err = mb1_parse(&all, (u32)info, &mb2, &map, &why);
	} else {
		bytes = mb2_total_bytes((const void *)info);
		if (!bytes)
			say_error("multiboot2 information: of an impossible size");
		err = mb2_parse((const void *)info, bytes, &mb2, &map, &why);
	}
	if (err)
		say_error("multiboot information: %s", why);
	return bytes;
}

static void read_info(u64 info, u64 base, u32 magic)
{
	u32 bytes;

	memmap_init(&map, entries, MAP_MAX);
	bytes = parse_info(info, magic);
	say_on_screen(&mb2.fb);
	memmap_finish(&map, MEM_LIMIT);
	if (map.overflow)
		say_error("the memory map has more than %u entries", MAP_MAX);
	keep_what_came(info, bytes, base);
}

static void add_module(struct boot_info *bi, const struct mb2_module *m, enum boot_module_kind kind)
{
	struct boot_module *to = &bi->module[bi->module_count];

	if (bi->module_count == BOOT_MODULES_MAX)
		say_error("module %s: more than %u modules", m->name, BOOT_MODULES_MAX);
	to->base = (u64)alloc(m->bytes, PAGE_SIZE, BOOT_MEM_MODULE);
	memcpy((void *)to->base, (const void *)m->base, m->bytes);
	to->bytes = m->bytes;
	to->kind = kind;
	str_copy(to->name, m->name, sizeof(to->name));
	bi->module_count++;
}

/* Returns the hypervisor's entry point. */
static u64 load_image(struct boot_info *bi, const struct mb2_module *m)
{
	struct elf_image img;
	const char *why;

	if (!place_check((const void *)m->base, m->bytes, &img, &bi->image_bytes, &why))
		say_error("module %s: %s", m->name, why);
	bi->image_base = (u64)alloc(bi->image_bytes, LARGE_SIZE, BOOT_MEM_IMAGE);
	place_image(&img, (const void *)m->base, (void *)bi->image_base);
	return img.entry;
}

static u64 load_modules(struct boot_info *bi)
{
	u64 entry = 0;

	for (u32 i = 0; i < mb2.module_count; i++) {
		const struct mb2_module *m = &mb2.module[i];

		if (!str_eq(m->name, HV_NAME))
			add_module(bi, m, str_eq(m->name, CONFIG_NAME) ? BOOT_MODULE_CONFIG : BOOT_MODULE_GUEST);
		else if (!entry)
			entry = load_image(bi, m);
	}
	if (!entry)
		say_error("there is no module " HV_NAME);
	return entry;
}

/* The menu's words stand in front of the file's: the first of a kind counts. */
static void collect_options(struct boot_info *bi)
{
	const size_t size = sizeof(bi->cmdline);
	size_t n = str_copy(bi->cmdline, mb2.cmdline, size);
	const struct boot_module *m = bi->module;

	while (m < bi->module + bi->module_count && m->kind != BOOT_MODULE_CONFIG)
		m++;
	if (n + 2 < size && n)
		bi->cmdline[n++] = ' ';
	if (m < bi->module + bi->module_count &&
	    !options_from_ini((const char *)m->base, m->bytes, bi->cmdline + n, size - n))
		say_error("options of the menu and of " CONFIG_NAME ": together longer than %zu characters", size - 1);
}

static void copy_rsdp(struct boot_info *bi)
{
	void *page;

	if (!mb2.rsdp_bytes)
		return;
	page = alloc(PAGE_SIZE, PAGE_SIZE, BOOT_MEM_ACPI);
	memcpy(page, mb2.rsdp, sizeof(mb2.rsdp));
	bi->rsdp = (u64)page;
}

/* The PIT's count adds the time that the firmware took, of which it knows nothing. */
static void gather_entropy(u64 entropy[4])
{
	for (u32 i = 0; i < 4; i++) {
		outb(PIT_COMMAND, 0);
		entropy[i] = entropy_word((i ? entropy[i - 1] : 0) + inb(PIT_DATA) + ((u64)inb(PIT_DATA) << 8));
	}
}

static void find_low_page(struct boot_info *bi)
{
	bi->low_page = find_pages(PAGE_SIZE, PAGE_SIZE, PAGE_SIZE, LOW_PAGE_END);
	if (bi->low_page)
		mark(bi->low_page, PAGE_SIZE, BOOT_MEM_LOADER);
}

_Noreturn void mb2_main(u64 info, u64 base, u32 magic)
{
	struct boot_info *bi;
	u64 entry, end, *tables;
	void *mem;

	say_init();
	say("Aerostat loader (multiboot2)\n");
	read_info(info, base, magic);
	bi = alloc(sizeof(*bi), PAGE_SIZE, BOOT_MEM_LOADER);
	*bi = (struct boot_info){.magic = BOOT_INFO_MAGIC,
				 .version = BOOT_INFO_VERSION,
				 .bytes = sizeof(*bi),
				 .efi_system_table = mb2.efi_system_table,
				 .fb = mb2.fb};
	entry = load_modules(bi);
	collect_options(bi);
	copy_rsdp(bi);
	gather_entropy(bi->entropy);
	find_low_page(bi);
	end = MAX(memmap_ram_end(&map), REACH);
	tables = alloc(place_table_bytes(end), PAGE_SIZE, BOOT_MEM_LOADER);
	place_fill_tables(tables, end, bi->image_base, bi->image_bytes);
	mem = alloc(sizeof(entries), PAGE_SIZE, BOOT_MEM_LOADER);
	memcpy(mem, entries, map.count * sizeof(entries[0]));
	bi->mem = (u64)mem;
	bi->mem_count = map.count;
	mb2_enter((u64)tables, entry, (u64)bi, base);
}
