/* boot/memmap.c and boot/options.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "boot/memmap.h"
#include "boot/options.h"
#include "lib/prng.h"

#define ENTRIES 256

static struct boot_mem entries[ENTRIES];
static struct memmap map;

static int fresh(void **state)
{
	(void)state;
	memmap_init(&map, entries, ENTRIES);
	return 0;
}

static void expect(u32 i, u64 base, u64 bytes, u32 type)
{
	assert_true(i < map.count);
	assert_true(entries[i].base == base);
	assert_true(entries[i].bytes == bytes);
	assert_int_equal(entries[i].type, type);
}

static void test_sort_and_merge(void **state)
{
	(void)state;
	memmap_add(&map, 0x300000, 0x100000, BOOT_MEM_USABLE);
	memmap_add(&map, 0x100000, 0x100000, BOOT_MEM_USABLE);
	memmap_add(&map, 0x200000, 0x100000, BOOT_MEM_USABLE);
	memmap_add(&map, 0, 0xa0000, BOOT_MEM_USABLE);
	memmap_add(&map, 0x400000, 0x1000, BOOT_MEM_ACPI);
	memmap_finish(&map, ~0UL);
	assert_int_equal(map.count, 3);
	expect(0, 0, 0xa0000, BOOT_MEM_USABLE);
	expect(1, 0x100000, 0x300000, BOOT_MEM_USABLE);
	expect(2, 0x400000, 0x1000, BOOT_MEM_ACPI);
	assert_true(memmap_ram_end(&map) == 0x401000);
}

static void test_rounding(void **state)
{
	(void)state;
	memmap_add(&map, 0x1001, 0x2fff, BOOT_MEM_USABLE); /* shrinks to [2000, 4000) */
	memmap_add(&map, 0x8001, 1, BOOT_MEM_RESERVED);    /* grows to [8000, 9000) */
	memmap_add(&map, 0xa001, 0xffe, BOOT_MEM_USABLE);  /* no whole page */
	memmap_add(&map, ~0UL - 10, 100, BOOT_MEM_USABLE); /* wraps */
	memmap_finish(&map, 1UL << 44);
	assert_int_equal(map.count, 2);
	expect(0, 0x2000, 0x2000, BOOT_MEM_USABLE);
	expect(1, 0x8000, 0x1000, BOOT_MEM_RESERVED);
}

static void test_overlap(void **state)
{
	(void)state;
	memmap_add(&map, 0x10000, 0x10000, BOOT_MEM_USABLE);
	memmap_add(&map, 0x14000, 0x4000, BOOT_MEM_RESERVED); /* inside */
	memmap_add(&map, 0x1f000, 0x4000, BOOT_MEM_ACPI);     /* over the end */
	memmap_add(&map, 0x22000, 0x1000, BOOT_MEM_USABLE);   /* hidden in the stronger */
	memmap_finish(&map, ~0UL);
	assert_int_equal(map.count, 4);
	expect(0, 0x10000, 0x4000, BOOT_MEM_USABLE);
	expect(1, 0x14000, 0x4000, BOOT_MEM_RESERVED);
	expect(2, 0x18000, 0x7000, BOOT_MEM_USABLE);
	expect(3, 0x1f000, 0x4000, BOOT_MEM_ACPI);
}

static void test_limit(void **state)
{
	(void)state;
	memmap_add(&map, 0x100000000, 0x100000, BOOT_MEM_USABLE);
	memmap_add(&map, 0x1000, 0x1000, BOOT_MEM_USABLE);
	memmap_add(&map, 0xfd00000000, 0x300000000, BOOT_MEM_RESERVED);
	memmap_finish(&map, 0x100080000);
	assert_int_equal(map.count, 2);
	expect(1, 0x100000000, 0x80000, BOOT_MEM_USABLE);
}

static void test_set(void **state)
{
	(void)state;
	memmap_add(&map, 0x100000, 0x100000, BOOT_MEM_USABLE);
	memmap_finish(&map, ~0UL);
	memmap_set(&map, 0x140000, 0x10000, BOOT_MEM_IMAGE);  /* middle */
	memmap_set(&map, 0x100000, 0x10000, BOOT_MEM_LOADER); /* front */
	memmap_set(&map, 0x1f0000, 0x10000, BOOT_MEM_MODULE); /* end */
	memmap_set(&map, 0x150000, 0x10000, BOOT_MEM_IMAGE);  /* grows the neighbour */
	assert_int_equal(map.count, 5);
	expect(0, 0x100000, 0x10000, BOOT_MEM_LOADER);
	expect(1, 0x110000, 0x30000, BOOT_MEM_USABLE);
	expect(2, 0x140000, 0x20000, BOOT_MEM_IMAGE);
	expect(3, 0x160000, 0x90000, BOOT_MEM_USABLE);
	expect(4, 0x1f0000, 0x10000, BOOT_MEM_MODULE);
	memmap_set(&map, 0x100000, 0x100000, BOOT_MEM_RESERVED); /* over all of it */
	assert_int_equal(map.count, 1);
	expect(0, 0x100000, 0x100000, BOOT_MEM_RESERVED);
}

static void test_overflow(void **state)
{
	(void)state;
	memmap_init(&map, entries, 3);
	memmap_add(&map, 0x1000, 0x1000, BOOT_MEM_USABLE);
	memmap_add(&map, 0x3000, 0x1000, BOOT_MEM_USABLE);
	memmap_add(&map, 0x5000, 0x1000, BOOT_MEM_USABLE);
	memmap_finish(&map, ~0UL);
	assert_false(map.overflow);
	memmap_add(&map, 0x7000, 0x1000, BOOT_MEM_USABLE);
	assert_true(map.overflow);
}

/* Random maps against a page-by-page model: every page has the strongest type that was given to it. */
static void test_random(void **state)
{
	enum { PAGES = 64 };
	struct prng rng;

	prng_seed(&rng, 7);
	for (u32 round = 0; round < 2000; round++) {
		u8 model[PAGES] = {0};

		fresh(state);
		for (u32 i = 0; i < 12; i++) {
			u32 first = prng_below(&rng, PAGES), n = 1 + prng_below(&rng, PAGES - first);
			u32 type = 1 + prng_below(&rng, 6);

			memmap_add(&map, first * PAGE_SIZE, n * PAGE_SIZE, type);
			for (u32 p = first; p < first + n; p++)
				model[p] = MAX(model[p], type);
		}
		memmap_finish(&map, ~0UL);
		for (u32 i = 0; i < 3; i++) {
			u32 first = prng_below(&rng, PAGES), n = 1 + prng_below(&rng, PAGES - first);
			u32 type = 1 + prng_below(&rng, 6);

			memmap_set(&map, first * PAGE_SIZE, n * PAGE_SIZE, type);
			memset(model + first, type, n);
		}
		assert_false(map.overflow);
		for (u32 i = 0; i < map.count; i++) {
			u64 end = entries[i].base + entries[i].bytes;

			assert_true(i == 0 || entries[i].base >= entries[i - 1].base + entries[i - 1].bytes);
			assert_true(i == 0 || entries[i].base > entries[i - 1].base + entries[i - 1].bytes ||
				    entries[i].type != entries[i - 1].type);
			for (u64 p = entries[i].base / PAGE_SIZE; p < end / PAGE_SIZE; p++) {
				assert_int_equal(model[p], entries[i].type);
				model[p] = 0;
			}
		}
		for (u32 p = 0; p < PAGES; p++)
			assert_int_equal(model[p], 0);
	}
}

static void expect_options(const char *ini, const char *want)
{
	char out[64];

	assert_true(options_from_ini(ini, strlen(ini), out, sizeof(out)));
	assert_string_equal(out, want);
}

static void test_options_file(void **state)
{
	char out[8];

	(void)state;
	expect_options("", "");
	expect_options("[loader]\noptions = panic=reboot x\n", "panic=reboot x");
	expect_options("[loader]\r\n options=a \r\n[host]\r\noptions=b\r\n", "a");
	expect_options("options=a\n[host]\noptions=b\n", "");
	expect_options("[host]\n[loader]\n; options = c\n#options=d\nother=1\noptions =", "");
	expect_options("[loader]\noptions", "");
	expect_options("[loader]\n\n=\n]options=1\noptions=last", "last");
	expect_options("[loader]\n[\noptions=1", "");
	expect_options("[loader] ; first\noptions = log=debug;a ; swap=off\n", "log=debug;a");
	expect_options("[loader]\n ; options = a\noptions = ; b", "");
	assert_false(options_from_ini("[loader]\noptions=12345678", 25, out, sizeof(out)));
	assert_string_equal(out, "1234567");
}

static void test_options_get(void **state)
{
	char v[8];

	(void)state;
	assert_true(options_get("panic=halt selftest=pf", "selftest", v, sizeof(v)));
	assert_string_equal(v, "pf");
	assert_true(options_get("  quiet\tpanic=", "quiet", v, sizeof(v)));
	assert_string_equal(v, "");
	assert_true(options_get("panic=", "panic", v, sizeof(v)));
	assert_string_equal(v, "");
	assert_false(options_get("panicky=1 xpanic=2", "panic", v, sizeof(v)));
	assert_false(options_get("", "panic", v, sizeof(v)));
	assert_true(options_get("a=0123456789", "a", v, sizeof(v)));
	assert_string_equal(v, "0123456");
}

static void test_options_next(void **state)
{
	const char *at = " panic=halt\tquiet  =5 a=b=c 12345678";
	static const char *const want[] = {"panic", "quiet", "", "a", "1234567"};
	char key[8];

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(want); i++) {
		assert_true(options_next(&at, key, sizeof(key)));
		assert_string_equal(key, want[i]);
	}
	assert_false(options_next(&at, key, sizeof(key)));
	at = "  ";
	assert_false(options_next(&at, key, sizeof(key)));
}

static void test_options_serial(void **state)
{
	static const struct {
		const char *value;
		u64 addr;
		u8 line;
		u32 baud;
	} good[] = {
	    {"com1", 0x3f8, 4, 115200},
	    {"com4", 0x2e8, 3, 115200},
	    {"com2,9600", 0x2f8, 3, 9600},
	    {"0x2F8", 0x2f8, 3, 115200},
	    {"0xf0a0,57600", 0xf0a0, MACHINE_LINE_NONE, 57600},
	    {"0xfff8", 0xfff8, MACHINE_LINE_NONE, 115200},
	};
	static const char *const bad[] = {"",
					  "com",
					  "com0",
					  "com5",
					  "com11",
					  "com1,",
					  "com1,0",
					  "com1,115201",
					  "com1,x",
					  "0x",
					  "0x0",
					  "0xfff9",
					  "0x100000000000003f8",
					  "3f8",
					  "0x3f8,9600,8",
					  "0x3g8",
					  "0x,1"};
	struct machine_serial s;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(options_serial(good[i].value, &s), 0);
		assert_true(s.addr == good[i].addr && !s.memory && s.stride == 1);
		assert_int_equal(s.line, good[i].line);
		assert_int_equal(s.baud, good[i].baud);
	}
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(&s, 0x5a, sizeof(s));
		if (options_serial(bad[i], &s) == 0)
			fail_msg("'%s' was accepted", bad[i]);
		assert_int_equal(s.line, 0x5a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_sort_and_merge, fresh),
	    cmocka_unit_test_setup(test_rounding, fresh),
	    cmocka_unit_test_setup(test_overlap, fresh),
	    cmocka_unit_test_setup(test_limit, fresh),
	    cmocka_unit_test_setup(test_set, fresh),
	    cmocka_unit_test_setup(test_overflow, fresh),
	    cmocka_unit_test_setup(test_random, fresh),
	    cmocka_unit_test(test_options_file),
	    cmocka_unit_test(test_options_get),
	    cmocka_unit_test(test_options_next),
	    cmocka_unit_test(test_options_serial),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
