/*
 * Guest address spaces: pages that go to swap and come back, and how they are chosen. Swap is the real one over a disk
 * in memory.
 */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "mm/frame.h"
#include "mm/swap.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/space_test.h"

#define FRAMES     1500
#define PAGES      1000
#define DISK_PAGES 4096

static const struct mem_alloc settings = {.limit = PAGES, .shares = 40};

static int start(void **state)
{
	(void)state;
	space_test_start(FRAMES, DISK_PAGES, PAGES);
	return 0;
}

/* ---- swap ---------------------------------------------------------------- */

static void swap_out_all(struct gspace *gs)
{
	while (gs->count[PAGE_PRIVATE] && swap_out(gs, 64))
		fake_blk_drain();
	assert_int_equal(gs->count[PAGE_PRIVATE], 0);
}

static void out_and_in(void **state)
{
	(void)state;
	for (gfn_t g = 0; g < 50; g++)
		fill(&one, g, g + 1);
	swap_out_all(&one);
	assert_int_equal(one.count[PAGE_SWAPPED], 50);
	assert_int_equal(gspace_consumed(&one), 0);
	assert_int_equal(gspace_verify_all(), 0);
	fake_mm.wakes = 0;
	for (gfn_t g = 0; g < 50; g++) {
		assert_int_equal(gspace_touch(&one, g, GSPACE_READ), E_AGAIN);
		expect_state(&one, g, PAGE_SWAPPING_IN);
		assert_int_equal(gspace_touch(&one, g, GSPACE_WRITE), E_AGAIN);
		assert_int_equal(gspace_balloon_take(&one, g), E_BUSY);
	}
	assert_int_equal(gspace_consumed(&one), 50);
	fake_blk_drain();
	assert_true(fake_mm.wakes >= 50);
	for (gfn_t g = 0; g < 50; g++)
		expect_stamp(&one, g, g + 1);
	assert_int_equal(one.stats.swap_out, 50);
	assert_int_equal(one.stats.swap_in, 50);
	assert_int_equal(one.stats.waits, 100);
}

static void swap_out_refuses(void **state)
{
	hfn_t hfn;

	(void)state;
	assert_int_equal(gspace_swap_out_begin(&one, 0, &hfn), E_INVAL); /* absent */
	touch(&one, 0, GSPACE_READ);
	assert_int_equal(gspace_swap_out_begin(&one, 0, &hfn), E_INVAL); /* zero */
	assert_int_equal(gspace_swap_out_begin(&one, PAGES, &hfn), E_INVAL);
	assert_int_equal(gspace_balloon_take(&one, 0), 0);
	assert_int_equal(gspace_swap_out_begin(&one, 0, &hfn), E_INVAL);
	fill(&one, 1, 1);
	assert_int_equal(gspace_swap_out_begin(&one, 1, &hfn), 0);
	assert_int_equal(hfn, frame_get(hfn)->gfn == 1 ? hfn : HFN_NONE);
	assert_int_equal(gspace_swap_out_begin(&one, 1, &hfn), E_BUSY);
	assert_int_equal(gspace_balloon_take(&one, 1), E_BUSY);
	gspace_swap_out_failed(&one, 1, hfn);
	expect_state(&one, 1, PAGE_PRIVATE);
	expect_stamp(&one, 1, 1);
}

static void rescue(void **state)
{
	hfn_t hfn, again;

	(void)state;
	fill(&one, 1, 0x11);
	assert_int_equal(gspace_swap_out_begin(&one, 1, &hfn), 0);
	gspace_flush(&one);
	expect_state(&one, 1, PAGE_SWAPPING_OUT);
	fill(&one, 1, 0x22); /* the guest goes on at once */
	expect_state(&one, 1, PAGE_PRIVATE);
	assert_int_equal(hfn_of(&one, 1), hfn);
	assert_int_equal(one.stats.swap_rescued, 1);
	assert_int_equal(gspace_swap_out_begin(&one, 1, &again), E_BUSY); /* one transfer at a time */
	assert_int_equal(gspace_share_protect(&one, 1, hfn, false), E_INVAL);
	assert_int_equal(gspace_swap_out_done_all(&one, 1, &(gfn_t){1}, &hfn, 3), 0);
	expect_state(&one, 1, PAGE_PRIVATE);
	expect_stamp(&one, 1, 0x22);
	assert_int_equal(gspace_swap_out_begin(&one, 1, &again), 0);
	gspace_swap_out_failed(&one, 1, again);
}

/* Rescued, pinned for DMA, and then the transfer ends. */
static void rescue_and_pin(void **state)
{
	hfn_t hfn, pinned;

	(void)state;
	fill(&one, 1, 0x11);
	assert_int_equal(gspace_swap_out_begin(&one, 1, &hfn), 0);
	assert_int_equal(gspace_pin(&one, 1, true, &pinned), 0);
	assert_int_equal(pinned, hfn);
	gspace_swap_out_failed(&one, 1, hfn);
	expect_state(&one, 1, PAGE_PINNED);
	gspace_unpin(&one, 1);
}

/* A frame that a device still reads must not get a new owner, whatever the guest does with its page. */
static void orphan(void **state)
{
	hfn_t hfn, second;
	u32 before;

	(void)state;
	fill(&one, 1, 0x11);
	before = frame_free_count();
	assert_int_equal(gspace_swap_out_begin(&one, 1, &hfn), 0);
	touch(&one, 1, GSPACE_WRITE);
	assert_int_equal(gspace_balloon_take(&one, 1), 0);
	gspace_flush(&one);
	assert_int_equal(frame_free_count(), before);
	assert_int_equal(frame_get(hfn)->state, FRAME_HV);
	expect_state(&one, 1, PAGE_BALLOONED);

	/* The same page goes out again, in another frame, while the first transfer is still on its way. */
	fill(&one, 1, 0x22);
	assert_int_equal(gspace_swap_out_begin(&one, 1, &second), 0);
	assert_int_not_equal(second, hfn);
	assert_int_equal(gspace_swap_out_done_all(&one, 1, &(gfn_t){1}, &hfn, 3), 0);
	gspace_flush(&one);
	expect_state(&one, 1, PAGE_SWAPPING_OUT);
	assert_int_equal(frame_free_count(), before);
	gspace_swap_out_failed(&one, 1, second);
	expect_stamp(&one, 1, 0x22);
}

static void orphan_of_failed_write(void **state)
{
	u32 before;
	hfn_t hfn;

	(void)state;
	fill(&one, 1, 0x11);
	before = frame_free_count();
	assert_int_equal(gspace_swap_out_begin(&one, 1, &hfn), 0);
	touch(&one, 1, GSPACE_READ);
	assert_int_equal(gspace_balloon_take(&one, 1), 0);
	gspace_swap_out_failed(&one, 1, hfn); /* before any flush */
	assert_int_equal(frame_free_count(), before + 1);
	assert_int_equal(fake_mm.shootdowns, 2); /* of the swapped-out page, of the ballooned one */
	expect_state(&one, 1, PAGE_BALLOONED);
}

static void destroy_during_transfers(void **state)
{
	(void)state;
	space_create(&two, "two", PAGES);
	assert_int_equal(swap_reserve(&two, PAGES), 0);
	for (gfn_t g = 0; g < 100; g++)
		fill(&two, g, g + 1);
	swap_out_all(&two);
	for (gfn_t g = 0; g < 20; g++)
		assert_int_equal(gspace_touch(&two, g, GSPACE_READ), E_AGAIN);
	fake_blk_drain();
	for (gfn_t g = 0; g < PAGES; g++)
		if (gspace_state(&two, g) == PAGE_PRIVATE)
			fill(&two, g, g + 1000);
	fake_blk.hold = true;
	assert_int_equal(swap_out(&two, 10), 10);
	assert_int_equal(two.count[PAGE_SWAPPING_OUT], 10);
	for (gfn_t g = 59; g >= 50; g--) /* not in the order that is read ahead */
		assert_int_equal(gspace_touch(&two, g, GSPACE_READ), E_AGAIN);
	for (u32 i = 0; i < 20; i++) {
		assert_false(gspace_destroy_some(&two, 500));
		assert_int_equal(gspace_verify_all(), 0);
	}
	assert_int_equal(two.count[PAGE_SWAPPING_IN], 10);
	assert_int_equal(two.count[PAGE_ABSENT], PAGES - 10);
	fake_blk.hold = false;
	destroy(&two);
}

static void swapped_page_is_ballooned(void **state)
{
	struct swap_stats s;

	(void)state;
	for (gfn_t g = 0; g < 10; g++)
		fill(&one, g, g + 1);
	swap_out_all(&one);
	swap_stats(&s);
	assert_int_equal(s.used, 10);
	for (gfn_t g = 0; g < 10; g++)
		assert_int_equal(gspace_balloon_take(&one, g), 0);
	swap_stats(&s);
	assert_int_equal(s.used, 0);
	assert_int_equal(gspace_verify_all(), 0);
}

static void lost_page(void **state)
{
	(void)state;
	fill(&one, 0, 1);
	swap_out_all(&one);
	fake_blk.bad_read_to = DISK_PAGES;
	assert_int_equal(gspace_touch(&one, 0, GSPACE_READ), E_AGAIN);
	fake_blk_drain();
	assert_int_equal(fake_mm.poisoned, 1);
	expect_state(&one, 0, PAGE_SWAPPED);
	assert_true(fake_mm.wakes > 0);
}

/* ---- victims ------------------------------------------------------------- */

static void random_private(void **state)
{
	struct prng rnd;
	u32 hits[8] = {0};
	gfn_t gfn;
	hfn_t hfn;

	(void)state;
	prng_seed(&rnd, 5);
	assert_false(gspace_random_private(&one, &rnd, &gfn));
	for (gfn_t g = 0; g < PAGES; g++)
		touch(&one, g, GSPACE_READ);
	assert_false(gspace_random_private(&one, &rnd, &gfn));
	touch(&one, 777, GSPACE_WRITE);
	for (u32 i = 0; i < 50; i++) {
		assert_true(gspace_random_private(&one, &rnd, &gfn)); /* a single one is found */
		assert_int_equal(gfn, 777);
	}
	assert_int_equal(gspace_swap_out_begin(&one, 777, &hfn), 0);
	assert_false(gspace_random_private(&one, &rnd, &gfn));
	touch(&one, 777, GSPACE_READ);
	assert_false(gspace_random_private(&one, &rnd, &gfn)); /* its frame is still in use */
	gspace_swap_out_failed(&one, 777, hfn);
	for (gfn_t g = 0; g < PAGES; g++)
		touch(&one, g, GSPACE_WRITE);
	for (u32 i = 0; i < 8000; i++) {
		assert_true(gspace_random_private(&one, &rnd, &gfn));
		hits[gfn / 125]++;
	}
	for (u32 i = 0; i < 8; i++)
		assert_in_range(hits[i], 850, 1150);
}

/* Tables full of nothing: no call looks at more than its share of them, and the next goes on. */
static void random_private_sparse(void **state)
{
	enum { REGIONS = 150, CALLS = DIV_ROUND_UP(REGIONS * LARGE_PAGES, 16384) };
	const struct mem_alloc alloc = {.limit = REGIONS * LARGE_PAGES, .shares = 1000};
	struct gspace sparse;
	struct prng rnd;
	u32 calls = 0, most = 0;
	gfn_t gfn;

	(void)state;
	prng_seed(&rnd, 6);
	assert_int_equal(gspace_init(&sparse, "sparse", REGIONS * LARGE_PAGES, &fake_format, &alloc), 0);
	for (gfn_t g = 0; g < sparse.pages; g += LARGE_PAGES) {
		assert_int_equal(gspace_balloon_take(&sparse, g), 0);
		assert_int_equal(gspace_balloon_give(&sparse, g), 0);
	}
	touch(&sparse, sparse.pages / 2, GSPACE_WRITE);
	for (u32 i = 0; i < 30; i++, most = MAX(most, calls)) {
		for (calls = 1; !gspace_random_private(&sparse, &rnd, &gfn); calls++)
			assert_in_range(calls, 1, CALLS + 1);
		assert_int_equal(gfn, sparse.pages / 2);
	}
	assert_true(most > 2);
	while (!gspace_destroy_some(&sparse, 1000))
		;
}

static void accessed(void **state)
{
	struct gspace plain;
	bool was;

	(void)state;
	touch(&one, 1, GSPACE_WRITE);
	assert_int_equal(gspace_test_accessed(&one, 1, &was), 0);
	assert_false(was);
	*pt_find(&one.pt, PAGE_SIZE, &(u32){0}) |= FAKE_ACCESSED;
	assert_int_equal(gspace_test_accessed(&one, 1, &was), 0);
	assert_true(was);
	assert_true(one.tlb_dirty);
	assert_int_equal(gspace_test_accessed(&one, 1, &was), 0);
	assert_false(was);
	assert_int_equal(gspace_test_accessed(&one, 2, &was), 0); /* absent */
	assert_false(was);
	assert_int_equal(gspace_test_accessed(&one, PAGES, &was), E_INVAL);
	gspace_flush(&one);

	assert_int_equal(gspace_init(&plain, "plain", 10, &fake_format_plain, &settings), 0);
	assert_int_equal(gspace_test_accessed(&plain, 1, &was), E_NOSYS);
	destroy(&plain);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, start, space_test_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(out_and_in),
	    CASE(swap_out_refuses),
	    CASE(rescue),
	    CASE(rescue_and_pin),
	    CASE(orphan),
	    CASE(orphan_of_failed_write),
	    CASE(destroy_during_transfers),
	    CASE(swapped_page_is_ballooned),
	    CASE(lost_page),
	    CASE(random_private),
	    CASE(random_private_sparse),
	    CASE(accessed),
	};

	return cmocka_run_group_tests_name("gspace_move", tests, NULL, NULL);
}
