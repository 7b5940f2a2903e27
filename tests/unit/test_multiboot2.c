/* boot/multiboot2/tags.c: what a boot loader leaves, whole and broken; boot/place.c: the tables at hand-off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/cpu.h"
#include "boot/multiboot2/tags.h"
#include "boot/place.h"
#include "lib/err.h"
#include "tests/unit/multiboot_test.h"

static u8 info[8192];
static u32 used;

static void put32(u32 v)
{
	memcpy(info + used, &v, 4);
	used += 4;
}

static void put64(u64 v)
{
	memcpy(info + used, &v, 8);
	used += 8;
}

static void tag(u32 type, u32 bytes)
{
	used = ALIGN_UP(used, 8U);
	put32(type);
	put32(bytes);
}

static void put_text(const char *s)
{
	memcpy(info + used, s, strlen(s) + 1);
	used += strlen(s) + 1;
}

static int fresh(void **state)
{
	(void)state;
	memset(info, 0, sizeof(info));
	used = 8;
	return 0;
}

static void add_map(void)
{
	static const struct {
		u64 base, bytes;
		u32 type;
	} ram[] = {{0, 0x9fc00, 1},         {0x9fc00, 0x400, 2},    {0x100000, 0x7f00000, 1},
		   {0x8000000, 0x10000, 3}, {0x8010000, 0x1000, 4}, {0x100000000, 0x40000000, 1}};

	tag(6, 16 + 24 * ARRAY_SIZE(ram));
	put32(24);
	put32(0);
	for (u32 i = 0; i < ARRAY_SIZE(ram); i++) {
		put64(ram[i].base);
		put64(ram[i].bytes);
		put32(ram[i].type);
		put32(0);
	}
}

static void add_module(u32 start, u32 end, const char *line)
{
	tag(3, 16 + strlen(line) + 1);
	put32(start);
	put32(end);
	put_text(line);
}

static void add_framebuffer(u64 base, u32 pitch, u32 width, u32 height, u8 bpp, u8 type)
{
	static const u8 colours[] = {16, 8, 8, 8, 0, 8};

	tag(8, 38);
	put64(base);
	put32(pitch);
	put32(width);
	put32(height);
	info[used++] = bpp;
	info[used++] = type;
	used += 2;
	memcpy(info + used, colours, sizeof(colours));
	used += sizeof(colours);
}

/* The information exactly as long as it says, so that ASan sees a read beyond it. */
static int parse_bytes(u32 bytes)
{
	u8 *copy = malloc(bytes);
	int err;

	memcpy(copy, info, bytes);
	forget_result();
	err = mb2_parse(copy, bytes, &out, &map, &why);
	free(copy);
	return err;
}

static int parse(void)
{
	tag(0, 8);
	memcpy(info, &used, 4);
	assert_int_equal(mb2_total_bytes(info), used);
	return parse_bytes(used);
}

static void refused(const char *reason)
{
	expect_refused(parse(), reason);
}

static void test_whole(void **state)
{
	(void)state;
	tag(1, 8 + 16);
	put_text("swap=off cpus=1");
	tag(0x1234, 11); /* unknown, of odd length */
	used += 3;
	add_module(0x200000, 0x212345, "aerostat.elf");
	add_module(0x213000, 0x213000, "/aerostat/aerostat.ini more words");
	add_map();
	add_framebuffer(0xe0000000, 4096, 1024, 768, 32, 1);
	tag(12, 16);
	put64(0x7abcdef0);
	tag(14, 8 + 20);
	memcpy(info + used, "RSD PTR old.........", 20);
	used += 20;
	tag(15, 8 + 36);
	memcpy(info + used, "RSD PTR new.........................", 36);
	used += 36;
	tag(14, 8 + 20);
	used += 20;
	assert_int_equal(parse(), 0);
	assert_string_equal(out.cmdline, "swap=off cpus=1");
	assert_int_equal(out.module_count, 2);
	assert_string_equal(out.module[0].name, "aerostat.elf");
	assert_true(out.module[0].base == 0x200000 && out.module[0].bytes == 0x12345);
	assert_string_equal(out.module[1].name, "aerostat.ini");
	assert_true(out.module[1].bytes == 0);
	assert_true(out.efi_system_table == 0x7abcdef0);
	assert_int_equal(out.rsdp_bytes, 36);
	assert_memory_equal(out.rsdp, "RSD PTR new", 11);
	assert_true(out.fb.base == 0xe0000000 && out.fb.width == 1024 && out.fb.height == 768);
	assert_int_equal(out.fb.pitch_bytes, 4096);
	assert_int_equal(out.fb.format, BOOT_FB_BGR);
	memmap_finish(&map, 1UL << 44);
	assert_int_equal(map.count, 5);
	assert_true(memmap_ram_end(&map) == 0x140000000);
	assert_int_equal(entries[1].type, BOOT_MEM_RESERVED);
	assert_int_equal(entries[3].type, BOOT_MEM_ACPI);
}

static void test_sizes(void **state)
{
	u32 bad[] = {0, 8, 15, MB2_INFO_MAX + 1, ~0U};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(mb2_total_bytes(&bad[i]), 0);
	refused("no memory map");
	fresh(state);
	add_map();
	assert_int_equal(parse_bytes(used), E_INVAL);
	assert_string_equal(why, "no end tag");
}

/* Cut anywhere, and with every tag's length bent: refused or understood, never read beyond. */
static void test_cut_and_bent(void **state)
{
	static const u32 bent[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 37, 4096, 0x7fffffff, ~0U - 7, ~0U};
	u8 good[sizeof(info)];
	u32 whole, accepted = 0;

	(void)state;
	add_map();
	add_module(0x200000, 0x300000, "aerostat.elf");
	add_framebuffer(0xe0000000, 4096, 1024, 768, 32, 1);
	assert_int_equal(parse(), 0);
	whole = used;
	memcpy(good, info, sizeof(info));
	for (u32 n = 16; n < whole; n++)
		assert_int_equal(parse_bytes(n), E_INVAL);
	for (u32 at = 8; at + 8 <= whole; at += 8)
		for (u32 i = 0; i < ARRAY_SIZE(bent); i++) {
			memcpy(info, good, sizeof(info));
			memcpy(info + at + 4, &bent[i], 4);
			accepted += parse_bytes(whole) == 0;
		}
	assert_true(accepted > 0);
}

static void test_modules(void **state)
{
	char line[300];

	add_map();
	add_module(2, 1, "x");
	refused("ends before it starts");
	fresh(state);
	add_map();
	add_module(1, 2, "");
	refused("without a name");
	fresh(state);
	add_map();
	add_module(1, 2, "folder/ x");
	refused("without a name");
	fresh(state);
	add_map();
	memset(line, 'x', sizeof(line));
	line[BOOT_NAME_BYTES] = 0;
	add_module(1, 2, line);
	refused("very long");
	fresh(state);
	add_map();
	tag(3, 16 + 3); /* no terminator inside the tag */
	put32(1);
	put32(2);
	memcpy(info + used, "abcdefgh", 8);
	used += 8;
	refused("without a name");
	fresh(state);
	add_map();
	for (u32 i = 0; i <= MB2_MODULES_MAX; i++)
		add_module(1, 2, "x");
	refused("too many modules");
	fresh(state);
	add_map();
	add_module(1, 2, "a\x1b[2J\xff.elf");
	assert_int_equal(parse(), 0);
	assert_string_equal(out.module[0].name, "a?[2J?.elf");
}

static void test_maps(void **state)
{
	add_map();
	add_map();
	refused("memory map");
	fresh(state);
	tag(6, 16 + 24);
	put32(20); /* entries too short */
	used += 28;
	refused("memory map");
	fresh(state);
	tag(6, 8);
	refused("memory map");
	fresh(state);
	tag(6, 16 + 24 * (ENTRIES + 1));
	put32(24);
	put32(0);
	for (u32 i = 0; i <= ENTRIES; i++) {
		put64(i * 0x10000UL);
		put64(0x8000);
		put64(1);
	}
	refused("too many entries");
	fresh(state);
	tag(6, 16 + 40); /* longer entries than known, and a rest */
	put32(32);
	put32(0);
	put64(0x100000);
	put64(~0UL);
	put64(1);
	used += 16;
	assert_int_equal(parse(), 0);
	assert_int_equal(map.count, 1);
}

static void test_command_line(void **state)
{
	char line[300];

	(void)state;
	add_map();
	memset(line, 'x', sizeof(line));
	line[256] = 0;
	tag(1, 8 + 257);
	put_text(line);
	refused("command line");
}

/* A frame buffer that cannot be drawn on is none; the rest is in force. */
static void test_framebuffers(void **state)
{
	static const struct {
		u64 base;
		u32 pitch, width, height;
		u8 bpp, type;
	} bad[] = {
	    {0xb8000, 160, 80, 25, 16, 2},        {0xe0000000, 4096, 1024, 768, 24, 1},
	    {0xe0000000, 4092, 1024, 768, 32, 1}, {0xe0000000, 4096, 0, 768, 32, 1},
	    {0xe0000000, 4096, 1024, 0, 32, 1},   {0xe0000000, 4096, 0x40000001, 1, 32, 1},
	    {~0UL - 100, 4096, 1024, 768, 32, 1}, {0xe0000000, 4096, 1024, 768, 32, 0},
	};

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		fresh(state);
		add_map();
		add_framebuffer(bad[i].base, bad[i].pitch, bad[i].width, bad[i].height, bad[i].bpp, bad[i].type);
		assert_int_equal(parse(), 0);
		assert_true(out.fb.base == 0);
	}
}

/* What the tables translate an address to; ~0: nothing. */
static u64 walk(const u64 *top, u64 va)
{
	const u64 *table = top;

	for (u32 shift = 39; shift >= LARGE_SHIFT; shift -= 9) {
		u64 e = table[va >> shift & 511];

		if (!(e & 1))
			return ~0UL;
		if (e & BIT(7))
			return (e & BITS(51, 21)) + (va & (LARGE_SIZE - 1));
		table = (const u64 *)(e & BITS(51, 12));
	}
	return ~0UL;
}

static void test_tables(void **state)
{
	u64 ends[] = {4 * GIB, 4 * GIB + 1, 6 * GIB, 600 * GIB};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(ends); i++) {
		u64 bytes = place_table_bytes(ends[i]), *t = aligned_alloc(PAGE_SIZE, bytes), last = ends[i] - 1;

		memset(t, 0, bytes);
		place_fill_tables(t, ends[i], 0x3400000, 3 * MIB);
		assert_true(walk(t, 0) == 0 && walk(t, DIRECT_MAP_BASE) == 0);
		assert_true(walk(t, last) == last && walk(t, DIRECT_MAP_BASE + last) == last);
		assert_true(walk(t, IMAGE_BASE + 5) == 0x3400005);
		assert_true(walk(t, IMAGE_BASE + 3 * MIB - 1) == 0x3400000 + 3 * MIB - 1);
		assert_true(walk(t, IMAGE_BASE + 4 * MIB) == ~0UL);
		free(t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_whole, fresh),        cmocka_unit_test_setup(test_sizes, fresh),
	    cmocka_unit_test_setup(test_cut_and_bent, fresh), cmocka_unit_test_setup(test_modules, fresh),
	    cmocka_unit_test_setup(test_maps, fresh),         cmocka_unit_test_setup(test_command_line, fresh),
	    cmocka_unit_test_setup(test_framebuffers, fresh), cmocka_unit_test(test_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
