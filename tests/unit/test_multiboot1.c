/* boot/multiboot2/mb1.c: the first multiboot's information, whole and broken, in a small memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boot/multiboot2/mb1.h"
#include "lib/prng.h"
#include "tests/unit/multiboot_test.h"

#define BYTES MIB
#define INFO  0x9000U
#define MODS  0x9100U
#define MAP   0x9200U
#define TEXT  0x9400U
#define RSDP  0xf5ac0U

static u8 *memory; /* exactly that much, so that ASan sees a read beyond it */

static void put32(u32 at, u32 v)
{
	memcpy(memory + at, &v, 4);
}

static void put_map(u32 at, u32 size, u64 base, u64 bytes, u32 type)
{
	put32(at, size);
	memcpy(memory + at + 4, &base, 8);
	memcpy(memory + at + 12, &bytes, 8);
	put32(at + 20, type);
}

static void put_module(u32 n, u32 start, u32 end, const char *line)
{
	u32 text = TEXT + 0x100 * (n + 1);

	put32(MODS + 16 * n, start);
	put32(MODS + 16 * n + 4, end);
	put32(MODS + 16 * n + 8, text);
	strcpy((char *)memory + text, line);
}

static void put_rsdp(u32 at, u8 revision)
{
	u8 sum = 0;

	memcpy(memory + at, "RSD PTR ", 8);
	memory[at + 8] = 0;
	memory[at + 15] = revision;
	for (u32 i = 0; i < 20; i++)
		sum += memory[at + i];
	memory[at + 8] = (u8)-sum;
}

/* As QEMU leaves it. */
static int fresh(void **state)
{
	(void)state;
	memory = calloc(1, BYTES);
	put32(INFO, BIT(2) | BIT(3) | BIT(6));
	put32(INFO + 16, TEXT);
	strcpy((char *)memory + TEXT, "/some/loader.elf cpus=1 log=debug");
	put32(INFO + 20, 2);
	put32(INFO + 24, MODS);
	put_module(0, 0x400000, 0x500000, "/tmp/x/aerostat.elf");
	put_module(1, 0x500000, 0x500100, "aerostat.ini with words");
	put32(INFO + 44, 3 * 24);
	put32(INFO + 48, MAP);
	put_map(MAP, 20, 0, 0x9f000, 1);
	put_map(MAP + 24, 20, 0x100000, 0x7f00000, 1);
	put_map(MAP + 48, 20, 0x8000000, 0x10000, 3);
	put_rsdp(RSDP, 0);
	return 0;
}

static int over(void **state)
{
	(void)state;
	free(memory);
	return 0;
}

static int parse(void)
{
	struct mb1_memory m = {(u64)memory, BYTES};

	forget_result();
	return mb1_parse(&m, INFO, &out, &map, &why);
}

static void test_whole(void **state)
{
	(void)state;
	assert_int_equal(parse(), 0);
	assert_string_equal(out.cmdline, "cpus=1 log=debug");
	assert_int_equal(out.module_count, 2);
	assert_string_equal(out.module[0].name, "aerostat.elf");
	assert_true(out.module[0].base == 0x400000 && out.module[0].bytes == 0x100000);
	assert_string_equal(out.module[1].name, "aerostat.ini");
	assert_int_equal(map.count, 3);
	assert_true(map.entry[1].base == 0x100000 && map.entry[1].bytes == 0x7f00000 &&
		    map.entry[1].type == BOOT_MEM_USABLE);
	assert_int_equal(map.entry[2].type, BOOT_MEM_ACPI);
	assert_int_equal(out.rsdp_bytes, 20);
	assert_memory_equal(out.rsdp, "RSD PTR ", 8);
	assert_true(out.fb.base == 0 && out.efi_system_table == 0);
}

static void refused(const char *reason)
{
	expect_refused(parse(), reason);
}

static void test_maps(void **state)
{
	(void)state;
	put32(INFO, BIT(2) | BIT(3));
	refused("memory map");
	put32(INFO, BIT(6));
	put32(MAP, 19);
	refused("memory map");
	put32(MAP, 0xffffffff);
	refused("memory map");
	put32(MAP, 20);
	put32(INFO + 48, BYTES - 71);
	refused("memory map");
	put32(INFO + 48, 0xfffffff0);
	refused("memory map");
	put32(INFO + 48, MAP);
	put32(INFO + 44, 0xffffffff);
	refused("memory map");
	put32(INFO + 44, 23);
	refused("memory map");
	put32(INFO + 44, 24 + 23); /* half an entry at the end is none */
	assert_int_equal(parse(), 0);
	assert_int_equal(map.count, 1);
	put32(MAP, 24); /* a longer one */
	put32(INFO + 44, 28);
	assert_int_equal(parse(), 0);
}

static void test_modules(void **state)
{
	(void)state;
	put32(MODS + 4, 0x3fffff);
	refused("module");
	put32(MODS + 4, 0x400000);
	put32(MODS + 8, BYTES);
	refused("module");
	put32(MODS + 8, 0);
	refused("module");
	put_module(0, 1, 2, "/tmp/");
	refused("module");
	put_module(0, 1, 2, "good");
	put32(INFO + 20, MB2_MODULES_MAX + 1);
	refused("too long");
	put32(INFO + 20, 0x10000000);
	refused("too long");
	put32(INFO + 20, 2);
	put32(INFO + 24, BYTES - 31);
	refused("out of reach");
	put32(INFO + 20, 0);
	assert_int_equal(parse(), 0);
	assert_int_equal(out.module_count, 0);
}

static void test_texts(void **state)
{
	(void)state;
	memset(memory + TEXT, 'x', 256); /* no end within what there is room for */
	refused("command line");
	put32(INFO + 16, BYTES - 2);
	memset(memory + BYTES - 2, 'x', 2);
	refused("command line");
	put32(INFO + 16, TEXT);
	strcpy((char *)memory + TEXT, "loader.elf");
	assert_int_equal(parse(), 0);
	assert_string_equal(out.cmdline, "");
	strcpy((char *)memory + TEXT, "loader.elf   a=\x01");
	assert_int_equal(parse(), 0);
	assert_string_equal(out.cmdline, "a=?");
}

static void test_root_pointer(void **state)
{
	(void)state;
	memory[RSDP + 9] ^= 1; /* its sum is wrong */
	assert_int_equal(parse(), 0);
	assert_int_equal(out.rsdp_bytes, 0);
	put_rsdp(0xffff0 - 16, 2); /* the newer form would end beyond */
	assert_int_equal(parse(), 0);
	assert_int_equal(out.rsdp_bytes, 0);
	put_rsdp(0xe0000, 2);
	assert_int_equal(parse(), 0);
	assert_int_equal(out.rsdp_bytes, RSDP2_BYTES);
	memory[0x40e] = 0xc0; /* the extended data area comes first */
	memory[0x40f] = 0x9f;
	put_rsdp(0x9fc00 + 32, 0);
	assert_int_equal(parse(), 0);
	assert_int_equal(out.rsdp_bytes, 20);
}

/* Nothing read outside, whatever stands in it. */
static void test_bent(void **state)
{
	struct prng rnd;

	(void)state;
	prng_seed(&rnd, 7);
	for (u32 i = 0; i < 20000; i++) {
		u32 at = INFO + (u32)prng_below(&rnd, 0x300);
		u8 was[4];

		memcpy(was, memory + at, 4);
		put32(at, prng_below(&rnd, 2) ? (u32)prng_next(&rnd) : (u32)prng_below(&rnd, 2 * BYTES));
		if (parse())
			assert_non_null(why);
		memcpy(memory + at, was, 4);
	}
	assert_int_equal(parse(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_whole, fresh, over),
	    cmocka_unit_test_setup_teardown(test_maps, fresh, over),
	    cmocka_unit_test_setup_teardown(test_modules, fresh, over),
	    cmocka_unit_test_setup_teardown(test_texts, fresh, over),
	    cmocka_unit_test_setup_teardown(test_root_pointer, fresh, over),
	    cmocka_unit_test_setup_teardown(test_bent, fresh, over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
