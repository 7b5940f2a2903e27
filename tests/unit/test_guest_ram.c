/* The guest's page states and its command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest/kernel/arch.h"
#include "guest/kernel/args.h"
#include "guest/kernel/ram.h"
#include "lib/err.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "tests/unit/fake_hv_guest.h"

static struct kernel k;

static void test_counts(void **state)
{
	struct ram *r = &k.ram;
	u32 free, a, b;

	(void)state;
	fake_start(&k, 16, 0, "");
	free = r->count[RAM_FREE];
	assert_true(free > 3000 && free < 4096);
	a = ram_alloc(r, RAM_APP);
	b = ram_alloc(r, RAM_CACHE);
	assert_int_not_equal(a, b);
	assert_int_equal(ram_get(r, a), RAM_APP);
	assert_int_equal(r->count[RAM_FREE], free - 2);
	assert_true(ram_verify(r));
	ram_free(r, a);
	ram_free(r, b);
	assert_int_equal(r->count[RAM_FREE], free);
	assert_int_equal(ram_alloc(r, RAM_APP), a); /* first fit */
	fake_stop();
}

static void test_exhaustion(void **state)
{
	struct ram *r = &k.ram;
	u32 n = 0, pfn;

	(void)state;
	fake_start(&k, 16, 0, "");
	while ((pfn = ram_alloc(r, RAM_APP)) != RAM_NONE)
		n++;
	assert_int_equal(r->count[RAM_FREE], 0);
	assert_int_equal(r->count[RAM_APP], n);
	ram_free(r, r->pages - 1);
	assert_int_equal(ram_alloc(r, RAM_APP), r->pages - 1);
	assert_null(ram_array(r, 1));
	assert_true(ram_verify(r));
	fake_stop();
}

/* Allocation touches nothing, and a free page keeps costing nothing. */
static void test_untouched(void **state)
{
	u32 before;

	(void)state;
	fake_start(&k, 64, 0, "");
	before = fake_touched();
	for (u32 i = 0; i < 10000; i++)
		assert_int_not_equal(ram_alloc(&k.ram, RAM_APP), RAM_NONE);
	assert_int_equal(fake_touched(), before);
	assert_in_range(before, 1, 40);
	fake_stop();
}

static void test_groups(void **state)
{
	struct ram *r = &k.ram;
	u32 pfn;

	(void)state;
	fake_start(&k, 16, 0, "");
	pfn = ram_find_group(r, RAM_FREE);
	assert_int_equal(pfn, 7 * RAM_GROUP);
	for (u32 i = 0; i < RAM_GROUP; i++)
		ram_set(r, pfn + i, RAM_BALLOON);
	assert_int_equal(ram_find_group(r, RAM_FREE), 6 * RAM_GROUP);
	assert_int_equal(ram_find_group(r, RAM_BALLOON), pfn);
	ram_set(r, pfn + 5, RAM_FREE);
	assert_int_equal(ram_find_group(r, RAM_BALLOON), RAM_NONE);
	assert_int_equal(ram_find(r, RAM_BALLOON, pfn + 6), pfn + 6);
	assert_true(ram_verify(r));
	fake_stop();
}

static void test_set_group(void **state)
{
	struct ram *r = &k.ram;
	u32 pfn, first;

	(void)state;
	fake_start(&k, 16, 0, "");
	pfn = ram_find_group(r, RAM_FREE);
	ram_set_group(r, pfn, RAM_ASIDE);
	assert_true(ram_verify(r));
	assert_int_equal(ram_find_group(r, RAM_FREE), pfn - RAM_GROUP);
	ram_set_group(r, pfn, RAM_BALLOON);
	assert_true(ram_verify(r));
	assert_int_equal(ram_find_group(r, RAM_BALLOON), pfn);
	ram_set(r, pfn + 5, RAM_FREE);
	ram_set(r, pfn + 6, RAM_CACHE);
	ram_set_group(r, pfn, RAM_ASIDE); /* of mixed states */
	assert_true(ram_verify(r));
	/* Freed as a whole below all that is free: the next page comes from there, and all of it is found. */
	while ((first = ram_alloc(r, RAM_APP)) < 3 * RAM_GROUP)
		;
	ram_set_group(r, RAM_GROUP, RAM_FREE);
	assert_true(ram_verify(r));
	for (u32 i = 0; i < RAM_GROUP; i++)
		assert_int_equal(ram_alloc(r, RAM_APP), RAM_GROUP + i);
	assert_int_equal(ram_alloc(r, RAM_APP), first + 1);
	fake_stop();
}

static void test_array(void **state)
{
	u8 *p;

	(void)state;
	fake_start(&k, 16, 0, "");
	p = arch_phys((u64)ram_find(&k.ram, RAM_FREE, 0) << PAGE_SHIFT);
	memset(p, 0xff, PAGE_SIZE);
	p = ram_array(&k.ram, 3 * PAGE_SIZE + 1);
	assert_non_null(p);
	for (u32 i = 0; i < 4 * PAGE_SIZE; i++)
		assert_int_equal(p[i], 0);
	assert_int_equal(ram_get(&k.ram, (u32)(arch_pa(p) >> PAGE_SHIFT) + 3), RAM_KERNEL);
	assert_null(ram_array(&k.ram, 16 * MIB));
	fake_stop();
}

static void test_random(void **state)
{
	static u32 held[3000];
	struct prng prng;
	u32 n = 0;

	(void)state;
	fake_start(&k, 16, 0, "");
	prng_seed(&prng, 7);
	for (u32 i = 0; i < 40000; i++) {
		if (n == 0 || (n < ARRAY_SIZE(held) && prng_below(&prng, 2))) {
			held[n] = ram_alloc(&k.ram, (enum ram_state)(1 + prng_below(&prng, RAM_STATES - 1)));
			n += held[n] != RAM_NONE;
		} else {
			u32 at = (u32)prng_below(&prng, n);

			ram_free(&k.ram, held[at]);
			held[at] = held[--n];
		}
		if (i % 1000 == 0)
			assert_true(ram_verify(&k.ram));
	}
	fake_stop();
}

/* The states of what is not there yet cost nothing; what comes is free, whole groups or not. */
static void test_grow(void **state)
{
	struct ram *r = &k.ram;
	u32 free, before;

	(void)state;
	fake_start_growing(&k, 16, 64, 0, "");
	assert_int_equal(r->pages, 4096);
	assert_int_equal(r->max, 16384);
	while (ram_alloc(r, RAM_APP) != RAM_NONE)
		;
	ram_grow(r, 4096 + 100);
	assert_true(ram_verify(r));
	assert_int_equal(r->count[RAM_FREE], 100);
	assert_int_equal(ram_alloc(r, RAM_APP), 4096);
	ram_grow(r, 4096 + 600);
	assert_true(ram_verify(r));
	assert_int_equal(r->count[RAM_FREE], 599);
	assert_int_equal(ram_find_group(r, RAM_FREE), RAM_NONE);
	ram_grow(r, 16384);
	assert_true(ram_verify(r));
	assert_int_equal(ram_find_group(r, RAM_FREE), 16384 - RAM_GROUP);
	for (u32 i = 0; i < RAM_GROUP; i++)
		ram_set(r, 16384 - RAM_GROUP + i, RAM_BALLOON);
	free = r->count[RAM_FREE];
	for (before = 0; ram_alloc(r, RAM_APP) != RAM_NONE; before++)
		;
	assert_int_equal(before, free);
	assert_true(ram_verify(r));
	fake_stop();
}

static void test_grow_max(void **state)
{
	(void)state;
	assert_int_equal(grow_max(16 * MIB, 0), 4096);
	assert_int_equal(grow_max(16 * MIB, 8 * MIB), 4096);
	assert_int_equal(grow_max(64 * MIB, 192 * MIB), 49152);
	assert_int_equal(grow_max(64 * MIB, 2 * GIB), 524288);
	/* No more than a sixteenth of the first memory keeps the states of. */
	assert_true(ram_meta_bytes(grow_max(16 * MIB, 64 * GIB)) <= MIB);
	assert_true(grow_max(16 * MIB, 64 * GIB) > 3 * GIB >> PAGE_SHIFT);
	assert_true(grow_max(16 * MIB, ~0UL) >= 4096 && ram_meta_bytes(grow_max(16 * MIB, ~0UL)) <= MIB);
}

static void test_args(void **state)
{
	struct args a;
	u64 n;
	u32 p;

	(void)state;
	assert_int_equal(args_parse(&a, "  app=verify mem=90%\tfast write=20 size=12M x= write=30% "), 0);
	assert_int_equal(a.count, 7);
	assert_string_equal(args_text(&a, "app", "?"), "verify");
	assert_string_equal(args_text(&a, "fast", "?"), "1");
	assert_string_equal(args_text(&a, "x", "?"), "");
	assert_string_equal(args_text(&a, "none", "?"), "?");
	assert_int_equal(args_pages(&a, "mem", 1000, 5, &n), 0);
	assert_int_equal(n, 900);
	assert_int_equal(args_pages(&a, "size", 1000, 5, &n), 0);
	assert_int_equal(n, 3072);
	assert_int_equal(args_pages(&a, "none", 1000, 5, &n), 0);
	assert_int_equal(n, 5);
	assert_int_equal(args_percent(&a, "write", 1, &p), 0);
	assert_int_equal(p, 30);
	assert_int_equal(args_number(&a, "write", 100, 1, &n), E_INVAL);
	assert_int_equal(n, 1);
	assert_int_equal(args_number(&a, "fast", 0, 0, &n), E_RANGE);
	assert_int_equal(args_percent(&a, "x", 3, &p), E_INVAL);
}

static void test_args_bad(void **state)
{
	char line[2 * ARGS_BYTES];
	struct args a;
	u64 n;

	(void)state;
	memset(line, 'a', sizeof(line));
	line[sizeof(line) - 1] = '\0';
	assert_int_equal(args_parse(&a, line), E_2BIG);
	for (u32 i = 0; i < 60; i++)
		memcpy(line + 3 * i, "k= ", 4);
	assert_int_equal(args_parse(&a, line), E_2BIG);
	assert_int_equal(a.count, ARGS_MAX);
	assert_int_equal(args_parse(&a, ""), 0);
	assert_int_equal(a.count, 0);
	assert_int_equal(args_parse(&a, "m=% n=1001% o=99999999999% p=5%5 q=-1 r=1%"), 0);
	assert_int_equal(args_pages(&a, "m", 100, 1, &n), E_INVAL);
	assert_int_equal(args_pages(&a, "n", 100, 1, &n), E_RANGE);
	assert_int_not_equal(args_pages(&a, "o", 100, 1, &n), 0);
	assert_int_not_equal(args_pages(&a, "p", 100, 1, &n), 0);
	assert_int_not_equal(args_pages(&a, "q", 100, 1, &n), 0);
	assert_int_equal(args_pages(&a, "r", 1000, 1, &n), 0);
	assert_int_equal(n, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_counts), cmocka_unit_test(test_exhaustion), cmocka_unit_test(test_untouched),
	    cmocka_unit_test(test_groups), cmocka_unit_test(test_set_group),  cmocka_unit_test(test_array),
	    cmocka_unit_test(test_random), cmocka_unit_test(test_grow),       cmocka_unit_test(test_grow_max),
	    cmocka_unit_test(test_args),   cmocka_unit_test(test_args_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
