/* The frame table and the buddy allocator. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"

#define FRAMES 3000

static int start(void **state)
{
	(void)state;
	fake_platform_reset();
	fake_mm_start(FRAMES);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	fake_mm_stop();
	return 0;
}

static hfn_t must_alloc(u32 order)
{
	hfn_t hfn = frame_alloc(order, FRAME_FOR_HV, FRAME_HV, false);

	assert_int_not_equal(hfn, HFN_NONE);
	assert_int_equal(hfn & ((1U << order) - 1), 0);
	return hfn;
}

static void boot_state(void **state)
{
	struct frame_stats s;

	(void)state;
	frame_verify();
	frame_stats(&s);
	assert_int_equal(s.total, FRAMES);
	assert_int_equal(s.free, FRAMES - 1); /* the zero frame */
	assert_int_equal(s.by_state[FRAME_ZERO], 1);
	assert_int_equal(s.by_state[FRAME_NONE], fake_mm_span - FRAMES);
	assert_int_equal(frame_get(frame_zero())->state, FRAME_ZERO);
	assert_true(page_is_zero(mm_hfn_to_va(frame_zero())));
}

static void table_size(void **state)
{
	(void)state;
	assert_int_equal(frame_table_bytes(1), PAGE_SIZE);
	assert_int_equal(frame_table_bytes(256), PAGE_SIZE);
	assert_int_equal(frame_table_bytes(257), 2 * PAGE_SIZE);
	assert_int_equal(frame_table_bytes(1 << 18), 4 * MIB); /* 1 GiB of RAM */
}

static void claimed_ranges(void **state)
{
	static struct frame table[64];

	(void)state;
	memset(table, 0, sizeof(table));
	frame_init(table, 64);
	frame_claim_range(0, 3);
	frame_claim_range(10, 5);
	frame_add_range(20, 30);
	assert_int_equal(frame_state_count(FRAME_HV), 8);
	assert_int_equal(frame_free_count(), 29);
	frame_verify();
	/* Boot leftovers are freed in pieces of any size. */
	frame_free(12, 1);
	frame_free(14, 0);
	frame_free(10, 0);
	frame_free(11, 0);
	assert_int_equal(frame_free_count(), 34);
	frame_verify();
	assert_true(fake_panics(frame_add_range(10, 2)));
	assert_true(fake_panics(frame_add_range(60, 5)));
}

static void frame_zero_number_stays(void **state)
{
	static struct frame table[16];

	(void)state;
	memset(table, 0, sizeof(table));
	frame_init(table, 16);
	frame_add_range(0, 16);
	assert_int_equal(frame_get(0)->state, FRAME_HV);
	for (u32 i = 0; i < 14; i++)
		assert_int_not_equal(frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false), 0);
	assert_int_equal(frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false), HFN_NONE);
}

static void split_and_coalesce(void **state)
{
	hfn_t a, b, big;

	(void)state;
	big = must_alloc(9);
	frame_free(big, 9);
	a = must_alloc(0);
	b = must_alloc(3);
	frame_verify();
	frame_free(a, 0);
	frame_free(b, 3);
	frame_verify();
	big = must_alloc(9);
	for (u32 i = 0; i < 512; i++)
		assert_int_equal(frame_get(big + i)->state, FRAME_HV);
	frame_free(big, 9);
	assert_int_equal(frame_free_count(), FRAMES - 1);
	frame_verify();
}

static void whole_blocks(void **state)
{
	u32 guests = frame_state_count(FRAME_GUEST), free = frame_free_count();
	hfn_t hfn = frame_alloc_whole(9, FRAME_FOR_GUEST, FRAME_HV, true);

	(void)state;
	assert_int_not_equal(hfn, HFN_NONE);
	assert_int_equal(frame_free_count(), free - 512);
	for (u32 i = 0; i < 512; i++) {
		assert_true(page_is_zero(mm_hfn_to_va(hfn + i)));
		assert_int_equal(frame_get(hfn + i)->state, i ? FRAME_FREE_TAIL : FRAME_HV);
	}
	frame_verify();
	frame_set_state(hfn, FRAME_GUEST);
	frame_get(hfn)->owner = 7;
	frame_get(hfn)->gfn = 1024;
	assert_int_equal(frame_state_count(FRAME_GUEST), guests + 512);
	assert_true(fake_panics(frame_free(hfn, 0)));
	assert_true(fake_panics(frame_free(hfn, 8)));
	frame_break(hfn);
	for (u32 i = 0; i < 512; i++) {
		const struct frame *f = frame_get(hfn + i);

		assert_int_equal(f->state, FRAME_GUEST);
		assert_int_equal(f->gfn, 1024 + i);
		assert_int_equal(f->owner, 7);
		assert_int_equal(f->flags | f->order | f->pins | f->share, 0);
	}
	assert_int_equal(frame_state_count(FRAME_GUEST), guests + 512);
	frame_verify();
	assert_true(fake_panics(frame_break(hfn)));
	frame_get(hfn)->pins = 1;
	assert_true(fake_panics(frame_make_whole(hfn, 9)));
	assert_true(fake_panics(frame_make_whole(hfn + 1, 9)));
	frame_get(hfn)->pins = 0;
	frame_make_whole(hfn, 9);
	frame_verify();
	assert_int_equal(frame_get(hfn)->gfn, 1024);
	frame_free(hfn, 9);
	assert_int_equal(frame_free_count(), free);
	assert_int_equal(frame_state_count(FRAME_GUEST), guests);
	frame_verify();

	/* Broken, its frames go one by one as well. */
	hfn = frame_alloc_whole(3, FRAME_FOR_GUEST, FRAME_GUEST, false);
	frame_break(hfn);
	for (u32 i = 8; i--;)
		frame_free(hfn + i, 0);
	assert_int_equal(frame_free_count(), free);
	frame_verify();
}

static void cleared(void **state)
{
	hfn_t hfn = must_alloc(2);

	(void)state;
	memset(mm_hfn_to_va(hfn), 0x77, 4 * PAGE_SIZE);
	frame_free(hfn, 2);
	for (u32 i = 0; i < FRAMES - 1; i++) {
		hfn = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
		assert_int_not_equal(hfn, HFN_NONE);
		assert_true(page_is_zero(mm_hfn_to_va(hfn)));
	}
	assert_int_equal(frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true), HFN_NONE);
	assert_int_equal(frame_free_count(), 0);
	frame_verify();
}

static void reserve(void **state)
{
	u32 guest = 0, table = 0, hv = 0;
	struct frame_stats s;

	(void)state;
	frame_set_reserve(100);
	assert_int_equal(frame_reserve(), 100);
	while (frame_alloc(0, FRAME_FOR_GUEST, FRAME_GUEST, false) != HFN_NONE)
		guest++;
	assert_int_equal(frame_free_count(), 100);
	assert_int_equal(frame_alloc(3, FRAME_FOR_GUEST, FRAME_GUEST, false), HFN_NONE);
	while (frame_alloc(0, FRAME_FOR_TABLE, FRAME_TABLE, false) != HFN_NONE)
		table++;
	assert_int_equal(table, 50);
	while (frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false) != HFN_NONE)
		hv++;
	assert_int_equal(hv, 50);
	frame_stats(&s);
	assert_int_equal(s.by_state[FRAME_GUEST], guest);
	assert_int_equal(s.by_state[FRAME_TABLE], 50);
	assert_int_equal(s.by_state[FRAME_HV], 50);
	assert_int_equal(s.failures, 4);
	assert_int_equal(s.allocs, FRAMES); /* with the zero frame */
	frame_verify();
}

static void bad_frees(void **state)
{
	hfn_t hfn = must_alloc(1);

	(void)state;
	assert_true(fake_panics(frame_free(frame_zero(), 0)));
	assert_true(fake_panics(frame_free(0, 0)));
	assert_true(fake_panics(frame_free(hfn, 2)));
	assert_true(fake_panics(frame_free(hfn, 0)));
	assert_true(fake_panics(frame_free(hfn + 1, 1)));
	assert_true(fake_panics(frame_get(fake_mm_span)));
	frame_get(hfn)->flags = FRAME_F_IO;
	assert_true(fake_panics(frame_free(hfn, 1)));
	frame_get(hfn)->flags = 0;
	frame_set_state(hfn, FRAME_GUEST);
	frame_get(hfn)->pins = 1;
	assert_true(fake_panics(frame_free(hfn, 1)));
	frame_get(hfn)->pins = 0;
	frame_free(hfn, 1);
	assert_true(fake_panics(frame_free(hfn, 1)));
	frame_verify();
}

static void write_after_free(void **state)
{
	hfn_t hfn = must_alloc(0);

	(void)state;
	frame_free(hfn, 0);
	*(u64 *)mm_hfn_to_va(hfn) = 1;
	assert_true(fake_panics({
		for (u32 i = 0; i < FRAMES; i++)
			if (frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false) == HFN_NONE)
				break;
	}));
	assert_non_null(strstr(fake_panic_text, "after it was freed"));
}

static void verify_finds_damage(void **state)
{
	hfn_t hfn = must_alloc(0);

	(void)state;
	frame_get(hfn)->state = FRAME_GUEST; /* not by frame_set_state */
	assert_true(fake_panics(frame_verify()));
}

/* Random blocks, against a map of who has which frame. */
static void model(void **state)
{
	enum { BLOCKS = 200 };
	struct {
		hfn_t hfn;
		u32 order;
	} block[BLOCKS];
	static u8 owned[FRAMES + 64];
	u32 held = 0;
	struct prng rnd;

	(void)state;
	memset(owned, 0, sizeof(owned));
	for (u32 i = 0; i < BLOCKS; i++)
		block[i].hfn = HFN_NONE;
	prng_seed(&rnd, 7);
	for (u32 step = 0; step < 30000; step++) {
		u32 i = prng_below(&rnd, BLOCKS);
		u32 order = prng_below(&rnd, 8) ? prng_below(&rnd, 4) : prng_below(&rnd, 10);

		if (block[i].hfn == HFN_NONE) {
			hfn_t hfn = frame_alloc(order, FRAME_FOR_HV, FRAME_GUEST, false);

			if (hfn == HFN_NONE)
				continue;
			block[i].hfn = hfn;
			block[i].order = order;
			held += 1U << order;
			for (u32 k = 0; k < 1U << order; k++)
				assert_int_equal(owned[hfn + k]++, 0);
		} else {
			for (u32 k = 0; k < 1U << block[i].order; k++)
				assert_int_equal(--owned[block[i].hfn + k], 0);
			frame_free(block[i].hfn, block[i].order);
			held -= 1U << block[i].order;
			block[i].hfn = HFN_NONE;
		}
		assert_int_equal(frame_free_count(), FRAMES - 1 - held);
		if (step % 500 == 0)
			frame_verify();
	}
	for (u32 i = 0; i < BLOCKS; i++)
		if (block[i].hfn != HFN_NONE)
			frame_free(block[i].hfn, block[i].order);
	frame_verify();
	assert_int_equal(frame_free_count(), FRAMES - 1);
	for (u32 i = 0; i < 2; i++) /* all whole again */
		must_alloc(FRAME_ORDER_LARGE);
}

/* Frees go to this CPU's stock, come back from it, and what was cleared ahead is clear whatever was in it. */
static void cleared_ahead(void **state)
{
	hfn_t hfn[48];
	u32 filled = 0;

	(void)state;
	frame_set_reserve(512);
	for (u32 i = 0; i < ARRAY_SIZE(hfn); i++) {
		hfn[i] = must_alloc(0);
		memset(mm_hfn_to_va(hfn[i]), 0x77, PAGE_SIZE);
	}
	for (u32 i = 0; i < ARRAY_SIZE(hfn); i++)
		frame_free(hfn[i], 0);
	while (frame_stock_fill())
		filled++;
	assert_int_equal(filled, 64);
	assert_int_equal(frame_free_count(), FRAMES - 1);
	frame_verify();
	for (u32 i = 0; i < 2 * filled; i++) { /* from the stock, and beyond it */
		hfn_t f = i % 2 ? frame_alloc_guest(true) : frame_alloc(0, FRAME_FOR_GUEST, FRAME_GUEST, true);

		assert_int_not_equal(f, HFN_NONE);
		assert_int_equal(frame_get(f)->state, FRAME_GUEST);
		assert_true(page_is_zero(mm_hfn_to_va(f)));
	}
	assert_int_equal(frame_free_count(), FRAMES - 1 - 2 * filled);
	frame_verify();
}

static void write_after_clear(void **state)
{
	hfn_t hfn = must_alloc(0);

	(void)state;
	frame_free(hfn, 0);
	assert_true(frame_stock_fill());
	*(u64 *)mm_hfn_to_va(hfn) = 1;
	assert_true(fake_panics((void)!frame_alloc(0, FRAME_FOR_GUEST, FRAME_GUEST, true)));
	assert_non_null(strstr(fake_panic_text, "after it was cleared"));
}

/* What lies in stocks cannot be had by other CPUs: it is never more than half of the reserve. */
static void stocks_of_many_cpus(void **state)
{
	u32 got = 0;

	(void)state;
	frame_set_reserve(200);
	for (fake_cpu_index = 0; fake_cpu_index < FAKE_CPUS; fake_cpu_index++)
		frame_free(must_alloc(0), 0);
	for (fake_cpu_index = 0; fake_cpu_index < FAKE_CPUS; fake_cpu_index++) {
		hfn_t hfn[100];

		for (u32 i = 0; i < ARRAY_SIZE(hfn); i++)
			hfn[i] = must_alloc(0);
		for (u32 i = 0; i < ARRAY_SIZE(hfn); i++)
			frame_free(hfn[i], 0);
		while (frame_stock_fill())
			;
	}
	fake_cpu_index = 0;
	frame_verify();
	assert_int_equal(frame_free_count(), FRAMES - 1);
	assert_true(frame_state_count(FRAME_STOCK) > 0 && frame_state_count(FRAME_STOCK) <= 100);
	while (frame_alloc_guest(true) != HFN_NONE)
		got++;
	assert_int_equal(got, FRAMES - 1 - 200);
	while (frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false) != HFN_NONE)
		got++;
	assert_true(got >= FRAMES - 1 - 100);
	frame_verify();
	/* A block that no list has may be in this CPU's stock. */
	for (hfn_t h = 2;; h += 2)
		if (frame_get(h)->state == FRAME_GUEST && frame_get(h + 1)->state == FRAME_GUEST) {
			frame_free(h, 0);
			frame_free(h + 1, 0);
			assert_int_equal(must_alloc(1), h);
			break;
		}
	frame_verify();
}

/*
 * Each CPU adds up what it does; a page of a guest that comes on one CPU and goes on another is counted once, and not
 * at all.
 */
static void counts_of_many_cpus(void **state)
{
	hfn_t hfn[40];
	u32 free = frame_free_count();

	(void)state;
	frame_set_reserve(200);
	for (u32 i = 0; i < ARRAY_SIZE(hfn); i++) {
		fake_cpu_index = i % 2;
		hfn[i] = i % 4 < 2 ? frame_alloc_guest(i % 4) : frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false);
		assert_int_not_equal(hfn[i], HFN_NONE);
	}
	assert_int_equal(frame_state_count(FRAME_GUEST), 20);
	assert_int_equal(frame_state_count(FRAME_HV), 20);
	fake_cpu_index = 3; /* has no stock yet */
	for (u32 i = 2; i < ARRAY_SIZE(hfn); i += 4)
		frame_set_state(hfn[i], FRAME_GUEST);
	assert_int_equal(frame_state_count(FRAME_GUEST), 30);
	frame_verify();
	fake_cpu_index = 2;
	for (u32 i = 0; i < ARRAY_SIZE(hfn); i++)
		frame_free(hfn[i], 0);
	assert_int_equal(frame_state_count(FRAME_GUEST), 0);
	assert_int_equal(frame_state_count(FRAME_HV), 0);
	assert_int_equal(frame_free_count(), free);
	assert_int_equal(frame_listed_count() + frame_state_count(FRAME_STOCK), free);
	assert_true(frame_listed_count() < free);
	for (u32 i = 0; i < 3; i++) /* in the lists alone; with the stocks; not at all */
		assert_int_equal(frame_free_at_least((u64[]){frame_listed_count(), free, free + 1UL}[i]), i < 2);
	frame_verify();
}

/* Blocks from anywhere among what is free, as single frames; none where nothing of that size is free. */
static void random_places(void **state)
{
	static hfn_t hfn[64];
	u32 free = frame_free_count(), n = 0, up = 0;
	struct prng rnd;

	(void)state;
	prng_seed(&rnd, 3);
	frame_set_reserve(40);
	while (n < ARRAY_SIZE(hfn) && (hfn[n] = frame_alloc_random(3, FRAME_HV, &rnd)) != HFN_NONE) {
		assert_int_equal(hfn[n] % 8, 0);
		for (u32 i = 0; i < 8; i++) {
			assert_int_equal(frame_get(hfn[n] + i)->state, FRAME_HV);
			assert_int_equal(frame_get(hfn[n] + i)->order, 0);
		}
		up += n && hfn[n] > hfn[n - 1];
		n++;
		assert_int_equal(frame_free_count(), free - 8 * n);
		frame_verify();
	}
	assert_true(n > 20 && up > n / 4 && up < n * 3 / 4);
	assert_true(frame_free_count() >= 40);
	for (u32 i = 0; i < n; i++)
		for (u32 k = 0; k < 8; k++)
			frame_free(hfn[i] + (k + i) % 8, 0);
	assert_int_equal(frame_free_count(), free);
	frame_verify();
}

/*
 * Allocates and frees between the pieces of a proof, on both sides of where it is: what changes behind it is followed.
 */
static void proof_while_frames_change(void **state)
{
	static hfn_t held[2 * FRAME_VERIFY_PIECE / 1024];
	u32 n = 0, below = 0;

	fake_mm_stop();
	fake_mm_start(FRAME_VERIFY_PIECE + FRAMES);
	(void)state;
	frame_verify();
	frame_verify_begin();
	assert_true(frame_verify_some());
	while (n < ARRAY_SIZE(held) && !below) {
		held[n] = must_alloc(n % 16 ? 0 : 10);
		below += held[n++] < FRAME_VERIFY_PIECE;
	}
	assert_true(below);
	for (u32 i = 0; i < 100 && n < ARRAY_SIZE(held); i++)
		held[n++] = must_alloc(0);
	for (u32 i = 0; i < n; i += 3)
		frame_free(held[i], frame_get(held[i])->order);
	while (frame_verify_some())
		;
	frame_verify();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(boot_state, start, stop),
	    cmocka_unit_test(table_size),
	    cmocka_unit_test_setup_teardown(claimed_ranges, start, stop),
	    cmocka_unit_test_setup_teardown(frame_zero_number_stays, start, stop),
	    cmocka_unit_test_setup_teardown(split_and_coalesce, start, stop),
	    cmocka_unit_test_setup_teardown(whole_blocks, start, stop),
	    cmocka_unit_test_setup_teardown(cleared, start, stop),
	    cmocka_unit_test_setup_teardown(reserve, start, stop),
	    cmocka_unit_test_setup_teardown(bad_frees, start, stop),
	    cmocka_unit_test_setup_teardown(write_after_free, start, stop),
	    cmocka_unit_test_setup_teardown(verify_finds_damage, start, stop),
	    cmocka_unit_test_setup_teardown(proof_while_frames_change, start, stop),
	    cmocka_unit_test_setup_teardown(cleared_ahead, start, stop),
	    cmocka_unit_test_setup_teardown(write_after_clear, start, stop),
	    cmocka_unit_test_setup_teardown(stocks_of_many_cpus, start, stop),
	    cmocka_unit_test_setup_teardown(counts_of_many_cpus, start, stop),
	    cmocka_unit_test_setup_teardown(random_places, start, stop),
	    cmocka_unit_test_setup_teardown(model, start, stop),
	};

	return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
