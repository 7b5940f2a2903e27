/* The guest's pager, page cache and page contents over the fake hypervisor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest/apps/content.h"
#include "guest/kernel/arch.h"
#include "lib/string.h"
#include "tests/unit/fake_hv_guest.h"

static struct kernel k;
static const struct content content = {.seed = 99, .zero_percent = 10, .same_percent = 20, .soft_percent = 10};

/* A VM whose application region is larger than what is left free. */
static void begin(u32 disk_mib, u32 pages, u64 slots, u32 leave_free)
{
	fake_start(&k, 16, disk_mib, "");
	kernel_contract(&k);
	assert_int_equal(pager_create(&k.pager, pages, slots), 0);
	k.pager.low_free = MIN(k.pager.low_free, leave_free / 2);
	while (k.ram.count[RAM_FREE] > leave_free)
		assert_int_not_equal(ram_alloc(&k.ram, RAM_KERNEL), RAM_NONE);
}

static void stamp(u32 page, u32 generation)
{
	content_fill(&content, page, generation, arch_app_page(&k.pager, page, true));
}

static bool good(u32 page, u32 generation)
{
	struct content_fault f;

	return content_check(&content, page, generation, arch_app_page(&k.pager, page, false), &f);
}

static void finish(void)
{
	while (k.disk.in_flight)
		disk_wait_any(&k.disk);
	assert_true(ram_verify(&k.ram));
	assert_true(pager_verify(&k.pager));
	fake_stop();
}

static void test_blank(void **state)
{
	(void)state;
	begin(16, 500, 1000, 600);
	for (u32 i = 0; i < 500; i++)
		assert_true(page_is_zero(arch_app_page(&k.pager, i, false)));
	assert_int_equal(k.pager.count[VPAGE_RESIDENT], 500);
	/* Never written: they go and come back without the disk. */
	pager_reclaim(&k.pager, 500, 5000, false);
	assert_int_equal(k.pager.count[VPAGE_BLANK], 500 - PAGER_MIN_RESIDENT);
	assert_int_equal(fake.writes, 0);
	assert_true(page_is_zero(arch_app_page(&k.pager, 3, false)));
	finish();
}

/* Twice the memory: everything comes back as it was, generation by generation. */
static void test_overcommit(void **state)
{
	(void)state;
	begin(16, 1000, 4000, 400);
	for (u32 generation = 0; generation < 4; generation++) {
		for (u32 i = 0; i < 1000; i++)
			stamp(i, generation);
		for (u32 i = 0; i < 1000; i++)
			assert_true(good(i * 37 % 1000, generation));
	}
	assert_true(k.pager.stats.paged_in > 1000);
	assert_true(k.pager.stats.paged_out > 1000);
	assert_true(fake.tlb_hits > 0 || k.pager.stats.major_faults > 0);
	finish();
}

/* Clean pages that have a slot are dropped, not written again. */
static void test_clean_drop(void **state)
{
	u64 writes;

	(void)state;
	begin(16, 800, 4000, 400);
	for (u32 i = 0; i < 800; i++)
		stamp(i, 0);
	for (u32 i = 0; i < 1600; i++)
		assert_true(good(i % 800, 0));
	writes = k.pager.stats.paged_out;
	for (u32 i = 0; i < 1600; i++)
		assert_true(good(i % 800, 0));
	assert_int_equal(k.pager.stats.paged_out, writes);
	assert_true(k.pager.stats.dropped > 400);
	finish();
}

/* Pages in use stay: a small hot set among cold ones. */
static void test_lru(void **state)
{
	u64 before;

	(void)state;
	begin(16, 1000, 4000, 300);
	for (u32 i = 0; i < 1000; i++)
		stamp(i, 0);
	for (u32 round = 0; round < 300; round++) {
		for (u32 hot = 0; hot < 30; hot++)
			assert_true(good(hot, 0));
		assert_true(good(100 + round * 3 % 900, 0));
	}
	before = k.pager.stats.major_faults;
	for (u32 hot = 0; hot < 30; hot++)
		assert_true(good(hot, 0));
	assert_true(k.pager.stats.major_faults - before <= 3);
	finish();
}

/* A page touched while it is written is rescued; what is changed then is not lost. */
static void test_rescue(void **state)
{
	(void)state;
	begin(16, 200, 4000, 600);
	for (u32 i = 0; i < 200; i++)
		stamp(i, 0);
	pager_reclaim(&k.pager, 60, 2000, false);
	assert_true(k.pager.count[VPAGE_WRITING] > 0);
	for (u32 i = 0; i < 200; i++)
		stamp(i, 1);
	assert_true(k.pager.stats.rescued > 0);
	while (k.disk.in_flight)
		disk_wait_any(&k.disk);
	pager_reclaim(&k.pager, 200, 4000, false);
	while (k.disk.in_flight)
		disk_wait_any(&k.disk);
	for (u32 i = 0; i < 200; i++)
		assert_true(good(i, 1));
	finish();
}

/* Fewer slots than pages: residents lend theirs. */
static void test_few_slots(void **state)
{
	(void)state;
	begin(16, 500, 150, 420);
	for (u32 round = 0; round < 4; round++) {
		for (u32 i = 0; i < 500; i++)
			stamp(i, round);
		/* Read again and again: clean pages lose their slots, too, and must then be written to another. */
		for (u32 i = 0; i < 3000; i++)
			assert_true(good(i * 7919 % 500, round));
	}
	assert_true(k.pager.stats.paged_out > 150);
	finish();
}

static void test_write_errors(void **state)
{
	(void)state;
	begin(16, 600, 4000, 300);
	for (u32 i = 0; i < 600; i++) {
		if (i == 350)
			fake.fail_writes = 40;
		stamp(i, 0);
	}
	assert_true(k.pager.stats.write_errors > 0);
	for (u32 i = 0; i < 600; i++)
		assert_true(good(i, 0));
	finish();
}

static void test_read_retry(void **state)
{
	(void)state;
	begin(16, 600, 4000, 300);
	for (u32 i = 0; i < 600; i++)
		stamp(i, 0);
	fake.fail_reads = 3;
	for (u32 i = 0; i < 600; i++)
		assert_true(good(i, 0));
	assert_int_equal(k.pager.stats.read_retries, 3);
	finish();
}

static void touch_all(void *arg)
{
	(void)arg;
	for (u32 i = 0; i < k.pager.pages; i++)
		stamp(i, 0);
	for (u32 i = 0; i < k.pager.pages; i++)
		arch_app_page(&k.pager, i, false);
}

static void test_read_lost(void **state)
{
	(void)state;
	begin(16, 600, 4000, 300);
	fake.fail_reads = 1000;
	assert_false(fake_try(touch_all, NULL));
	assert_true(fake.panicked);
	assert_true(fake_printed("is lost"));
	fake_stop();
}

static void test_no_disk(void **state)
{
	(void)state;
	begin(0, 600, 0, 300);
	assert_int_equal(pager_evictable(&k.pager), 0);
	assert_false(fake_try(touch_all, NULL));
	assert_true(fake_printed("out of memory"));
	fake_stop();
}

static void test_cache(void **state)
{
	u8 *p;

	(void)state;
	fake_start(&k, 16, 16, "");
	kernel_contract(&k);
	assert_int_equal(cache_create(&k.cache, 1000, 500, 100, 64), 0);
	for (u32 i = 0; i < 500; i++) {
		p = cache_get(&k.cache, i, true);
		assert_non_null(p);
		assert_true(page_is_zero(p));
		memset(p, (int)i + 1, PAGE_SIZE);
	}
	assert_int_equal(k.cache.used, 100);
	assert_int_equal(k.ram.count[RAM_CACHE], 100);
	for (u32 i = 0; i < 500; i++) {
		p = cache_get(&k.cache, i, false);
		assert_int_equal(p[0], (u8)(i + 1));
		assert_int_equal(p[PAGE_SIZE - 1], (u8)(i + 1));
	}
	assert_int_equal(cache_shrink(&k.cache, 1000, false), 100 - CACHE_MIN);
	assert_int_equal(k.ram.count[RAM_CACHE], CACHE_MIN);
	for (u32 i = 0; i < 500; i++)
		assert_int_equal(((u8 *)cache_get(&k.cache, i, false))[7], (u8)(i + 1));
	assert_null(cache_get(&k.cache, 500, false));
	assert_int_equal(cache_flush(&k.cache), 0);
	assert_int_equal(fake.disk[(1000 + 33) * PAGE_SIZE], 34);
	assert_true(ram_verify(&k.ram));
	fake_stop();
}

static void test_cache_errors(void **state)
{
	u8 *p;

	(void)state;
	fake_start(&k, 16, 16, "");
	kernel_contract(&k);
	assert_int_equal(cache_create(&k.cache, 0, 500, 20, 64), 0);
	for (u32 i = 0; i < 20; i++)
		memset(cache_get(&k.cache, i, true), 5, PAGE_SIZE);
	fake.fail_reads = 1;
	fake.fail_writes = 7;
	assert_null(cache_get(&k.cache, 100, false));
	for (u32 i = 100; i < 200; i++)
		cache_get(&k.cache, i, false);
	for (u32 i = 0; i < 20; i++) {
		p = cache_get(&k.cache, i, false);
		assert_non_null(p);
		assert_int_equal(p[100], 5);
	}
	assert_true(k.cache.stats.errors >= 8);
	fake_stop();
}

/* ---- refaults of the balloon ---- */

/* Pages that are free become the balloon's. */
static void balloon_takes(u32 pages)
{
	while (pages--)
		assert_int_not_equal(ram_alloc(&k.ram, RAM_BALLOON), RAM_NONE);
}

/* Reads n pages at random. Returns how many came from the disk; *refaults: of these, those of the balloon. */
static u64 read_random(u32 n, u64 *refaults)
{
	struct pager_stats before = k.pager.stats;

	for (u32 i = 0; i < n; i++)
		assert_true(good((u32)prng_below(&fake.prng, k.pager.pages), 0));
	*refaults = k.pager.stats.refaults - before.refaults;
	return k.pager.stats.paged_in - before.paged_in;
}

static void stamp_all(void)
{
	for (u32 i = 0; i < k.pager.pages; i++)
		stamp(i, 0);
}

/*
 * All of it would fit but for the balloon: every page that comes back is a refault, however often it went out before.
 */
static void test_refault_thrash(void **state)
{
	u64 in, refaults;

	(void)state;
	begin(16, 600, 4000, 700);
	balloon_takes(350);
	stamp_all();
	for (u32 round = 0; round < 5; round++) {
		in = read_random(2000, &refaults);
		assert_true(in > 500);
		assert_int_equal(refaults, in);
	}
	assert_true(k.pager.stats.refault_ns > 0);
	assert_int_equal(k.ram.out, 600 - k.pager.count[VPAGE_RESIDENT]);
	finish();
}

/*
 * More than the VM has: it pages with an empty balloon as well, and that is nobody's fault; with a small one only a
 * part is.
 */
static void test_refault_too_large(void **state)
{
	u64 in, refaults;

	(void)state;
	begin(16, 1200, 4000, 500);
	stamp_all();
	in = read_random(4000, &refaults);
	assert_true(in > 1500);
	assert_int_equal(refaults, 0);
	balloon_takes(MIN(k.ram.count[RAM_FREE], 5u));
	pager_reclaim(&k.pager, 100, 10000, false);
	while (k.disk.in_flight)
		disk_wait_any(&k.disk);
	balloon_takes(95);
	read_random(4000, &refaults);
	in = read_random(4000, &refaults);
	assert_in_range(refaults, in / 50, in / 5); /* 100 of the 800 that are out */
	finish();
}

/* What the balloon had put away counts once more when it is gone, and then no longer. */
static void test_refault_ends(void **state)
{
	u64 in, refaults;
	u32 pfn;

	(void)state;
	begin(16, 600, 4000, 700);
	balloon_takes(350);
	stamp_all();
	while ((pfn = ram_find(&k.ram, RAM_BALLOON, 0)) != RAM_NONE)
		ram_free(&k.ram, pfn);
	in = read_random(5000, &refaults);
	assert_in_range(in, 200, 400);
	assert_in_range(refaults, in * 3 / 4, in);
	in = read_random(5000, &refaults);
	assert_true(in < 10);
	finish();
}

/* A page that is touched while it is written was never away. */
static void test_refault_rescue(void **state)
{
	(void)state;
	begin(16, 200, 4000, 600);
	stamp_all();
	balloon_takes(200);
	pager_reclaim(&k.pager, 60, 2000, true);
	assert_true(k.pager.count[VPAGE_WRITING] > 0);
	assert_true(k.ram.out > 0);
	stamp_all();
	assert_int_equal(k.ram.out, k.pager.count[VPAGE_WRITING]);
	assert_int_equal(k.pager.stats.refaults, k.pager.stats.paged_in);
	finish();
}

/* Of the page cache: what would not have fitted into it anyway, or is another block since, is none. */
static void test_refault_cache(void **state)
{
	u64 misses;

	(void)state;
	fake_start(&k, 16, 16, "");
	kernel_contract(&k);
	assert_int_equal(cache_create(&k.cache, 1000, 500, 400, 64), 0);
	for (u32 i = 0; i < 1500; i++) /* full */
		assert_non_null(cache_get(&k.cache, i * 37 % 500, false));
	assert_true(k.cache.stats.misses > 500);
	assert_int_equal(k.cache.stats.refaults, 0);
	assert_int_equal(k.ram.out, 100);
	balloon_takes(300);
	assert_int_equal(cache_shrink(&k.cache, 300, true), 300);
	assert_int_equal(k.ram.out, 400);
	for (u32 i = 0; i < 500; i++)
		cache_drop(&k.cache, i);
	assert_int_equal(k.ram.out, 0);
	for (u32 i = 0; i < 300; i++)
		assert_non_null(cache_get(&k.cache, i, false));
	assert_int_equal(k.cache.stats.refaults, 0);
	assert_int_equal(cache_shrink(&k.cache, 200, true), 200);
	misses = k.cache.stats.misses;
	for (u32 i = 0; i < 300; i++)
		assert_non_null(cache_get(&k.cache, i, false));
	assert_true(k.cache.stats.misses - misses >= 200);
	assert_int_equal(k.cache.stats.refaults, k.cache.stats.misses - misses);
	assert_true(k.cache.stats.refault_ns > 0);
	assert_true(ram_verify(&k.ram));
	fake_stop();
}

/* The number of the eviction runs over; what went out long ago does not become news by that. */
static void test_refault_wraps(void **state)
{
	struct ram *r = &k.ram;
	u32 old, shadow;

	(void)state;
	fake_start(&k, 16, 0, "");
	kernel_contract(&k);
	r->out = 1000;
	r->evictions = ~0u - 50;
	old = ram_put_away(r, 10);
	shadow = ram_put_away(r, 100);
	assert_true(ram_would_hold(r, old, 10));
	for (u32 i = 0; i < 99; i++) {
		assert_int_not_equal(ram_put_away(r, 0), 0);
		assert_true(ram_would_hold(r, shadow, 0));
		assert_int_equal(ram_would_hold(r, old, 0), i < 8);
	}
	ram_put_away(r, 0);
	assert_false(ram_would_hold(r, shadow, 0));
	assert_true(ram_would_hold(r, shadow, 1000)); /* all that are out would fit */
	assert_false(ram_would_hold(r, 0, 1000));
	r->evictions += 1u << 31;
	assert_false(ram_would_hold(r, shadow, 999));
	r->out = 0;
	fake_stop();
}

static void test_content(void **state)
{
	static u64 page[512], other[512];
	const struct content second = {.seed = 100, .zero_percent = 10, .same_percent = 20, .soft_percent = 10};
	u32 kinds[4] = {0};
	struct content_fault f;

	(void)state;
	for (u32 i = 0; i < 1000; i++) {
		enum content_kind kind = content_kind(&content, i);

		kinds[kind]++;
		assert_int_equal(content_kind(&second, i), kind);
		content_fill(&content, i, 2, page);
		content_fill(&second, i, 2, other);
		assert_true(content_check(&content, i, 2, page, &f));
		assert_int_equal(page_is_zero(page), kind == CONTENT_ZERO);
		assert_int_equal(memcmp(page, other, sizeof(page)) == 0, kind < CONTENT_SOFT);
		if (kind < CONTENT_SOFT)
			continue;
		assert_false(content_check(&content, i, 3, page, &f));
		assert_string_equal(f.what, "another generation");
		assert_false(content_check(&content, i + 1, 2, page, &f));
		assert_false(content_check(&second, i, 2, page, &f));
		assert_string_equal(f.what, "another VM's page");
		page[i % 512] ^= 1ul << i % 64;
		assert_false(content_check(&content, i, 2, page, &f));
		assert_int_equal(f.offset, i % 512 * 8);
		assert_string_equal(f.what, "damaged");
		memset(page, 0, sizeof(page));
		assert_false(content_check(&content, i, 2, page, &f));
		assert_string_equal(f.what, "zero page");
	}
	assert_in_range(kinds[CONTENT_ZERO], 70, 130);
	assert_in_range(kinds[CONTENT_SAME], 150, 250);
	assert_in_range(kinds[CONTENT_SOFT], 70, 130);
	page[511] = 1;
	assert_false(content_check(&(struct content){1, 100, 0, 0}, 0, 0, page, &f));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_blank),          cmocka_unit_test(test_overcommit),
	    cmocka_unit_test(test_clean_drop),     cmocka_unit_test(test_lru),
	    cmocka_unit_test(test_rescue),         cmocka_unit_test(test_few_slots),
	    cmocka_unit_test(test_write_errors),   cmocka_unit_test(test_read_retry),
	    cmocka_unit_test(test_read_lost),      cmocka_unit_test(test_no_disk),
	    cmocka_unit_test(test_cache),          cmocka_unit_test(test_cache_errors),
	    cmocka_unit_test(test_refault_thrash), cmocka_unit_test(test_refault_too_large),
	    cmocka_unit_test(test_refault_ends),   cmocka_unit_test(test_refault_rescue),
	    cmocka_unit_test(test_refault_cache),  cmocka_unit_test(test_refault_wraps),
	    cmocka_unit_test(test_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
