/* The page-table walker, with a format that is like no machine's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/pt.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"

#define RW     (PT_R | PT_W)
#define FRAMES 512

static u32 tables_left; /* table pages the allocator still gives */

static hfn_t give_table(struct pt_alloc *a)
{
	(void)a;
	if (!tables_left)
		return HFN_NONE;
	tables_left--;
	return frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
}

static void take_table(struct pt_alloc *a, hfn_t hfn)
{
	(void)a;
	tables_left++;
	frame_free(hfn, 0);
}

static struct pt_alloc alloc = {give_table, take_table};
static struct pt pt;

static int start(void **state)
{
	(void)state;
	fake_platform_reset();
	fake_mm_start(FRAMES);
	tables_left = FRAMES / 2;
	return pt_init(&pt, &fake_format, &alloc);
}

static int stop(void **state)
{
	(void)state;
	pt_destroy(&pt);
	assert_int_equal(frame_free_count(), FRAMES - 1);
	frame_verify();
	fake_mm_stop();
	return 0;
}

static void entries(void **state)
{
	const struct pt_format *f = &fake_format;
	u64 e = pt_make_leaf(f, HPA(0x1234567000), RW, 1, 5);

	(void)state;
	assert_true(pt_entry_present(f, e));
	assert_false(pt_entry_token(f, e));
	assert_int_equal(pt_entry_hpa(f, e, 1).v, 0x1234567000);
	assert_int_equal(pt_entry_tag(f, e), 5);
	assert_int_equal(f->leaf_prot(e, 1), RW);

	e = pt_make_leaf(f, HPA(0x40000000), PT_R | PT_X | PT_USER, 3, 2);
	assert_true(e & FAKE_LARGE);
	assert_int_equal(pt_entry_hpa(f, e, 3).v, 0x40000000);
	assert_int_equal(f->leaf_prot(e, 3), PT_R | PT_X | PT_USER);

	assert_false(pt_entry_present(f, 0));
	assert_false(pt_entry_token(f, 0));
	for (u32 kind = 1; kind < PT_TOKEN_KINDS; kind++) {
		e = pt_token(kind, BITS(51, 0) / kind);
		assert_true(pt_entry_token(f, e));
		assert_int_equal(pt_token_kind(e), kind);
		assert_int_equal(pt_token_payload(e), BITS(51, 0) / kind);
		assert_int_equal(e & 7, 0);
	}
}

static void empty(void **state)
{
	u32 level;

	(void)state;
	assert_int_equal(pt.tables, 1);
	assert_int_equal(*pt_find(&pt, 0, &level), 0);
	assert_int_equal(level, PT_LEVELS);
	assert_int_equal(*pt_find(&pt, 0xffff800000000000, &level), 0);
	assert_false(pt_prune(&pt, 0));
}

static void prepare_and_find(void **state)
{
	u64 addr = 0x7f1234567000;
	u64 *entry, *found;
	u32 level;

	(void)state;
	assert_int_equal(pt_prepare(&pt, addr, 1, &entry), 0);
	assert_int_equal(pt.tables, 4);
	assert_int_equal(*entry, 0);
	assert_int_equal(pt_exchange(entry, pt_make_leaf(&fake_format, HPA(0x5000), RW, 1, 1)), 0);
	found = pt_find(&pt, addr + 0xfff, &level);
	assert_ptr_equal(found, entry);
	assert_int_equal(level, 1);
	assert_int_equal(*pt_find(&pt, addr + PAGE_SIZE, &level), 0);
	assert_int_equal(level, 1);
	assert_int_equal(*pt_find(&pt, addr + LARGE_SIZE, &level), 0);
	assert_int_equal(level, 2);
	assert_int_equal(pt_prepare(&pt, addr + PAGE_SIZE, 1, &found), 0);
	assert_ptr_equal(found, entry + 1);
	assert_int_equal(pt.tables, 4);

	assert_false(pt_prune(&pt, addr));
	pt_exchange(entry, pt_token(3, 9));
	assert_false(pt_prune(&pt, addr));
	pt_exchange(entry, 0);
	assert_true(pt_prune(&pt, addr));
	assert_int_equal(pt.tables, 3);
	pt_find(&pt, addr, &level);
	assert_int_equal(level, 2);
}

/* Whenever memory ends, the tables stay valid and a repeated call goes on. */
static void prepare_out_of_memory(void **state)
{
	u64 *entry;
	u32 level;

	(void)state;
	for (u32 have = 0; have < 3; have++) {
		tables_left = have ? 1 : 0;
		assert_int_equal(pt_prepare(&pt, 0x123456789000, 1, &entry), E_NOMEM);
		assert_int_equal(*pt_find(&pt, 0x123456789000, &level), 0);
		assert_int_equal(level, PT_LEVELS - have);
	}
	tables_left = 1;
	assert_int_equal(pt_prepare(&pt, 0x123456789000, 1, &entry), 0);
	tables_left = FRAMES;
}

static void splitting(void **state)
{
	const struct pt_format *f = &fake_format;
	u64 *entry;
	u32 level;

	(void)state;
	assert_int_equal(pt_prepare(&pt, 0x80000000, 3, &entry), 0);
	pt_exchange(entry, pt_make_leaf(f, HPA(0xc0000000), RW | PT_USER, 3, 6) | FAKE_ACCESSED | FAKE_DIRTY);
	assert_ptr_equal(pt_find(&pt, 0xbfffffff, &level), entry);
	assert_int_equal(level, 3);

	assert_int_equal(pt_split(&pt, 0x80000000, 2), 0); /* none of that level */
	assert_ptr_equal(pt_find(&pt, 0x80000000, &level), entry);
	tables_left = 0;
	assert_int_equal(pt_split(&pt, 0x80000000, 3), E_NOMEM);
	assert_ptr_equal(pt_find(&pt, 0x80000000, &level), entry);
	tables_left = FRAMES;

	/* Preparing a small entry splits twice; everything around keeps its translation. */
	assert_int_equal(pt_prepare(&pt, 0x80000000 + 5 * LARGE_SIZE + 0x3000, 1, &entry), 0);
	for (u64 off = 0; off < GIB; off += off / LARGE_SIZE == 5 ? PAGE_SIZE : LARGE_SIZE) {
		u64 e = *pt_find(&pt, 0x80000000 + off, &level);

		assert_int_equal(level, off / LARGE_SIZE == 5 ? 1 : 2);
		assert_int_equal(pt_entry_hpa(f, e, level).v, 0xc0000000 + off);
		assert_int_equal(f->leaf_prot(e, level), RW | PT_USER);
		assert_int_equal(pt_entry_tag(f, e), 6);
		assert_int_equal(e & (FAKE_ACCESSED | FAKE_DIRTY), FAKE_ACCESSED | FAKE_DIRTY);
	}
	assert_int_equal(pt_entry_hpa(f, *entry, 1).v, 0xc0000000 + 5 * LARGE_SIZE + 0x3000);
	pt_unmap_range(&pt, 0x80000000, GIB);
}

static void splitting_with_a_table(void **state)
{
	const struct pt_format *f = &fake_format;
	hfn_t table = alloc.alloc(&alloc);
	u32 level, tables;
	u64 *entry;

	(void)state;
	memset(mm_hfn_to_va(table), 0xff, PAGE_SIZE); /* whatever is in it */
	assert_int_equal(pt_prepare(&pt, 4 * LARGE_SIZE, 2, &entry), 0);
	pt_exchange(entry, pt_make_leaf(f, HPA(6 * LARGE_SIZE), RW, 2, 5) | FAKE_DIRTY);
	tables = pt.tables;
	tables_left = 0;
	pt_split_with(&pt, 4 * LARGE_SIZE + 0x5000, 2, table);
	assert_int_equal(pt.tables, tables + 1);
	for (u64 off = 0; off < LARGE_SIZE; off += PAGE_SIZE)
		assert_int_equal(*pt_find(&pt, 4 * LARGE_SIZE + off, &level),
				 pt_make_leaf(f, HPA(6 * LARGE_SIZE + off), RW, 1, 5) | FAKE_DIRTY);
	assert_int_equal(level, 1);
	assert_true(fake_panics(pt_split_with(&pt, 4 * LARGE_SIZE, 2, table)));  /* split already */
	assert_true(fake_panics(pt_split_with(&pt, 12 * LARGE_SIZE, 2, table))); /* nothing there */

	/* The table taken away and put back. */
	assert_int_equal(pt_take_table(&pt, 4 * LARGE_SIZE + 0x7000, pt_token(9, 1)), table);
	assert_int_equal(pt.tables, tables);
	assert_int_equal(*pt_find(&pt, 4 * LARGE_SIZE, &level), pt_token(9, 1));
	assert_int_equal(level, 2);
	assert_int_equal(pt_take_table(&pt, 4 * LARGE_SIZE, 0), HFN_NONE);
	assert_int_equal(pt_take_table(&pt, 40 * GIB, 0), HFN_NONE);
	pt_give_table(&pt, entry, table);
	assert_int_equal(pt.tables, tables + 1);
	pt_find(&pt, 4 * LARGE_SIZE, &level);
	assert_int_equal(level, 1);
	pt_unmap_range(&pt, 4 * LARGE_SIZE, LARGE_SIZE);
	assert_true(pt_prune(&pt, 4 * LARGE_SIZE));
	tables_left = FRAMES;
}

/* A token above level 1 says the same of all its pages. */
static void splitting_a_token(void **state)
{
	u64 *entry;
	u32 level;

	(void)state;
	assert_int_equal(pt_prepare(&pt, LARGE_SIZE, 2, &entry), 0);
	*entry = pt_token(3, 99);
	tables_left = 0;
	assert_int_equal(pt_split(&pt, LARGE_SIZE, 2), E_NOMEM);
	assert_int_equal(pt_prepare(&pt, LARGE_SIZE, 1, &entry), E_NOMEM);
	tables_left = FRAMES;
	assert_int_equal(pt_prepare(&pt, LARGE_SIZE + 0x3000, 1, &entry), 0);
	*entry = 0;
	for (u64 off = 0; off < LARGE_SIZE; off += PAGE_SIZE)
		assert_int_equal(*pt_find(&pt, LARGE_SIZE + off, &level), off == 0x3000 ? 0 : pt_token(3, 99));
	assert_int_equal(level, 1);
	pt_unmap_range(&pt, LARGE_SIZE, LARGE_SIZE);
}

static u64 translate(u64 addr, u32 *level)
{
	u64 e = *pt_find(&pt, addr, level);

	if (!pt_entry_present(pt.fmt, e))
		return ~0UL;
	return pt_entry_hpa(pt.fmt, e, *level).v + (addr & ((1UL << (12 + 9 * (*level - 1))) - 1));
}

static void map_range(void **state)
{
	u64 base = 0xffff800000000000 + 2 * GIB - 3 * PAGE_SIZE;
	u32 level;

	(void)state;
	/* 3 small pages, 1 GiB, 2 MiB, 1 small. */
	assert_int_equal(pt_map_range(&pt, base, HPA(4 * GIB - 3 * PAGE_SIZE), GIB + LARGE_SIZE + 4 * PAGE_SIZE, RW),
			 0);
	assert_int_equal(translate(base, &level), 4 * GIB - 3 * PAGE_SIZE);
	assert_int_equal(level, 1);
	assert_int_equal(translate(base + 3 * PAGE_SIZE + 12345, &level), 4 * GIB + 12345);
	assert_int_equal(level, 3);
	assert_int_equal(translate(base + 3 * PAGE_SIZE + GIB, &level), 5 * GIB);
	assert_int_equal(level, 2);
	assert_int_equal(translate(base + 3 * PAGE_SIZE + GIB + LARGE_SIZE + 1, &level), 5 * GIB + LARGE_SIZE + 1);
	assert_int_equal(level, 1);
	assert_int_equal(translate(base + 4 * PAGE_SIZE + GIB + LARGE_SIZE, &level), ~0UL);
	assert_int_equal(translate(base - 1, &level), ~0UL);

	assert_int_equal(pt_map_range(&pt, base, HPA(0x1000), PAGE_SIZE, RW), E_EXIST);
	assert_int_equal(pt_map_range(&pt, base + 3 * PAGE_SIZE, HPA(0), LARGE_SIZE, RW), E_EXIST);

	/* A hole in the middle of the large leaf. */
	pt_unmap_range(&pt, base + 3 * PAGE_SIZE + 7 * LARGE_SIZE + PAGE_SIZE, 2 * PAGE_SIZE);
	assert_int_equal(translate(base + 3 * PAGE_SIZE + 7 * LARGE_SIZE, &level), 4 * GIB + 7 * LARGE_SIZE);
	assert_int_equal(translate(base + 4 * PAGE_SIZE + 7 * LARGE_SIZE, &level), ~0UL);
	assert_int_equal(translate(base + 5 * PAGE_SIZE + 7 * LARGE_SIZE, &level), ~0UL);
	assert_int_equal(translate(base + 6 * PAGE_SIZE + 7 * LARGE_SIZE, &level),
			 4 * GIB + 7 * LARGE_SIZE + 3 * PAGE_SIZE);
	pt_unmap_range(&pt, base, GIB + LARGE_SIZE + 4 * PAGE_SIZE);
	assert_int_equal(translate(base, &level), ~0UL);
}

/* Where addresses are not aligned alike, and in a format without large leaves, small pages only. */
static void map_small(void **state)
{
	struct pt plain;
	u32 level;

	(void)state;
	assert_int_equal(pt_map_range(&pt, 0x40000000, HPA(0x1000), LARGE_SIZE, RW), 0);
	assert_int_equal(translate(0x40000000 + 0x5123, &level), 0x6123);
	assert_int_equal(level, 1);
	pt_unmap_range(&pt, 0x40000000, LARGE_SIZE);

	assert_int_equal(pt_init(&plain, &fake_format_plain, &alloc), 0);
	assert_int_equal(pt_map_range(&plain, 0, HPA(0), 2 * LARGE_SIZE, RW), 0);
	assert_int_equal(plain.tables, 5);
	pt_unmap_range(&plain, 0, 2 * LARGE_SIZE);
	pt_destroy(&plain);
}

struct visits {
	u64 addr[16];
	u32 level[16], n, stop_at;
};

static bool note(void *arg, u64 addr, u64 *entry, u32 level)
{
	struct visits *v = arg;

	assert_int_not_equal(*entry, 0);
	v->addr[v->n] = addr;
	v->level[v->n++] = level;
	return v->n != v->stop_at;
}

static void for_each(void **state)
{
	struct visits v = {.n = 0};
	u64 *entry;

	(void)state;
	assert_int_equal(pt_map_range(&pt, 2 * LARGE_SIZE, HPA(0), LARGE_SIZE, RW), 0);
	assert_int_equal(pt_map_range(&pt, 5 * GIB + PAGE_SIZE, HPA(0x1000), 2 * PAGE_SIZE, RW), 0);
	assert_int_equal(pt_prepare(&pt, 0x600000000000, 1, &entry), 0);
	*entry = pt_token(1, 77);

	assert_true(pt_for_each(&pt, 0, 1UL << 47, note, &v));
	assert_int_equal(v.n, 4);
	assert_int_equal(v.addr[0], 2 * LARGE_SIZE);
	assert_int_equal(v.level[0], 2);
	assert_int_equal(v.addr[1], 5 * GIB + PAGE_SIZE);
	assert_int_equal(v.addr[2], 5 * GIB + 2 * PAGE_SIZE);
	assert_int_equal(v.addr[3], 0x600000000000);

	v = (struct visits){.stop_at = 2};
	assert_false(pt_for_each(&pt, 0, 1UL << 47, note, &v));
	assert_int_equal(v.n, 2);
	v = (struct visits){.n = 0};
	assert_true(pt_for_each(&pt, 5 * GIB + 2 * PAGE_SIZE, 0x600000000000 - 5 * GIB - 2 * PAGE_SIZE, note, &v));
	assert_int_equal(v.n, 1);
	assert_true(pt_for_each(&pt, 0, 0, note, &v));
	assert_int_equal(v.n, 1);
	*entry = 0;
	pt_unmap_range(&pt, 0, 6 * GIB);
}

static void note_some(struct visits *v, u64 from, u32 budget, u32 used, u64 next)
{
	u32 left = budget;

	assert_int_equal(pt_for_each_some(&pt, from, GIB - from, &left, note, v), next);
	assert_int_equal(budget - left, used);
}

/* Empty entries and links to tables count as well: what is looked at is bounded, not what is found. */
static void for_each_some(void **state)
{
	struct visits v = {.n = 0};
	u64 *entry;

	(void)state;
	assert_int_equal(pt_map_range(&pt, 0, HPA(0x1000), PAGE_SIZE, RW), 0);
	assert_int_equal(pt_prepare(&pt, 2 * LARGE_SIZE, 1, &entry), 0); /* an empty table */
	assert_int_equal(pt_map_range(&pt, 3 * LARGE_SIZE, HPA(0), LARGE_SIZE, RW), 0);

	note_some(&v, 0, 0, 0, 0);
	note_some(&v, 0, 3, 3, 0); /* the way down only */
	assert_int_equal(v.n, 0);
	note_some(&v, 0, 4, 4, PAGE_SIZE);
	assert_int_equal(v.n, 1);
	/* The rest of the first table, nothing, an empty table, a large leaf. */
	note_some(&v, PAGE_SIZE, 3 + 511, 3 + 511, LARGE_SIZE);
	note_some(&v, LARGE_SIZE, 2 + 1 + 1 + 100, 104, 2 * LARGE_SIZE + 100 * PAGE_SIZE);
	assert_int_equal(v.n, 1);
	note_some(&v, LARGE_SIZE, 2 + 1 + 1 + 512 + 1, 517, 4 * LARGE_SIZE);
	assert_int_equal(v.n, 2);
	note_some(&v, 4 * LARGE_SIZE, 10000, 2 + 508, GIB);
	/* Enough at the first. */
	v = (struct visits){.stop_at = 1};
	note_some(&v, 0, 10000, 4, PAGE_SIZE);
	pt_unmap_range(&pt, 0, 6 * GIB);
}

static void destroy_wants_it_empty(void **state)
{
	u64 *entry;

	(void)state;
	assert_int_equal(pt_prepare(&pt, 0, 1, &entry), 0);
	*entry = pt_token(1, 0);
	assert_true(fake_panics(pt_destroy(&pt)));
	/* The panic came half-way; what it had freed is gone. */
	tables_left = 3 * FRAMES;
	fake_mm_start(FRAMES);
	assert_int_equal(pt_init(&pt, &fake_format, &alloc), 0);
}

/* Random leaves and tokens at level 1 against an array. */
static void model(void **state)
{
	enum { PAGES = 4096, STEP = 3 };
	static u64 want[PAGES];
	struct prng rnd;

	(void)state;
	prng_seed(&rnd, 3);
	for (u32 i = 0; i < 20000; i++) {
		u32 page = prng_below(&rnd, PAGES);
		u64 addr = (u64)page * STEP << PAGE_SHIFT;
		u64 *entry;
		u32 level;

		if (prng_below(&rnd, 3)) {
			u64 e = prng_below(&rnd, 2) ? pt_token(1 + prng_below(&rnd, 31), prng_next(&rnd) >> 12)
						    : pt_make_leaf(pt.fmt, HPA(prng_below(&rnd, 1 << 30) << 12), PT_R,
								   1, prng_below(&rnd, 8));

			assert_int_equal(pt_prepare(&pt, addr, 1, &entry), 0);
			assert_int_equal(pt_exchange(entry, e), want[page]);
			want[page] = e;
		} else {
			entry = pt_find(&pt, addr, &level);
			assert_int_equal(*entry, want[page]);
			if (level == 1)
				*entry = 0;
			want[page] = 0;
			pt_prune(&pt, addr);
		}
	}
	for (u32 page = 0; page < PAGES; page++) {
		u32 level;
		u64 *entry = pt_find(&pt, (u64)page * STEP << PAGE_SHIFT, &level);

		assert_int_equal(*entry, want[page]);
		if (level == 1)
			*entry = 0;
		want[page] = 0;
		pt_prune(&pt, (u64)page * STEP << PAGE_SHIFT);
	}
	assert_int_equal(pt.tables, 3); /* level-1 tables are gone */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(entries),
	    cmocka_unit_test_setup_teardown(empty, start, stop),
	    cmocka_unit_test_setup_teardown(prepare_and_find, start, stop),
	    cmocka_unit_test_setup_teardown(prepare_out_of_memory, start, stop),
	    cmocka_unit_test_setup_teardown(splitting, start, stop),
	    cmocka_unit_test_setup_teardown(splitting_with_a_table, start, stop),
	    cmocka_unit_test_setup_teardown(splitting_a_token, start, stop),
	    cmocka_unit_test_setup_teardown(map_range, start, stop),
	    cmocka_unit_test_setup_teardown(map_small, start, stop),
	    cmocka_unit_test_setup_teardown(for_each, start, stop),
	    cmocka_unit_test_setup_teardown(for_each_some, start, stop),
	    cmocka_unit_test_setup_teardown(destroy_wants_it_empty, start, stop),
	    cmocka_unit_test_setup_teardown(model, start, stop),
	};

	return cmocka_run_group_tests_name("pt", tests, NULL, NULL);
}
