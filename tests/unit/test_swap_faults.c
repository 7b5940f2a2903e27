/* Swap: every way a disk can fail, ends of spaces with transfers under way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/swap_test.h"

static void test_write_errors(void **state)
{
	(void)state;
	fill();
	fake_blk.bad_write_to = SLOTS;
	for (int i = 0; i < 100; i++) {
		swap_out(&gs, 32);
		fake_blk_drain();
	}
	assert_int_equal(gs.count[PAGE_PRIVATE], PAGES);
	swap_stats(&stats);
	assert_int_equal(stats.state, SWAP_FAILED);
	assert_string_equal(stats.why, "too many write errors in a row");
	assert_int_equal(stats.write_errors, SWAP_ERRORS_MAX);
	assert_int_equal(stats.used, 0);
	assert_int_equal(stats.unreserved, 0);
	assert_true(stats.bad >= 32 * SWAP_ERRORS_MAX / 2);
	assert_true(fake_log_has("swap: error: stopped: too many write errors in a row"));
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		check_page(gfn, 0);
	assert_int_equal(fake_mm.poisoned, 0);
}

/* Some bad places: those slots are retired, the rest goes on. */
static void test_bad_slots(void **state)
{
	(void)state;
	fill();
	fake_blk.bad_write_from = 100;
	fake_blk.bad_write_to = 130;
	all_out();
	assert_int_equal(gs.count[PAGE_SWAPPED], PAGES);
	swap_stats(&stats);
	assert_int_equal(stats.state, SWAP_ON);
	assert_in_range(stats.bad, 30, 96);
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		check_page(gfn, 0);
}

/* The space's pages minus the lost one still come back. */
static void expect_one_lost(const char *why)
{
	u32 lost = 0;

	for (gfn_t gfn = 0; gfn < PAGES; gfn++) {
		if (touch_wait(gfn, GSPACE_READ)) {
			assert_string_equal(fake_mm_poison_why, why);
			assert_int_equal(fake_mm.poisoned, 1);
			fake_mm.poisoned = 0;
			lost++;
			assert_int_equal(gspace_state(&gs, gfn), PAGE_SWAPPED);
		} else {
			check_page(gfn, 0);
		}
	}
	assert_int_equal(lost, 1);
	check_sum();
}

static void test_read_error(void **state)
{
	(void)state;
	fill();
	all_out();
	fake_blk.bad_reads_once = 1;
	check_page(0, 0); /* read again */
	swap_stats(&stats);
	assert_int_equal(stats.read_errors, 1);
	write_page(0, 0);
	all_out();
	fake_blk.bad_read_from = 333;
	fake_blk.bad_read_to = 334;
	expect_one_lost("swap read error");
	assert_true(fake_log_has("swap: error: swap read error: page 0x"));
	assert_true(fake_log_has(" of vm, slot 333, is lost"));
}

/* The next space does not get the slot that could not be read. */
static void test_lost_slot_is_retired(void **state)
{
	(void)state;
	fill();
	all_out();
	fake_blk.bad_read_from = 333;
	fake_blk.bad_read_to = 334;
	expect_one_lost("swap read error");
	end_space(&gs);
	swap_stats(&stats);
	assert_int_equal(stats.bad, 1);
	assert_int_equal(stats.used, 0);
	assert_int_equal(gspace_init(&gs, "vm", PAGES, &fake_format, &all_of_it), 0);
	reclaim_add(&gs);
	for (u32 round = 0; round < 2 * SLOTS / PAGES; round++) {
		assert_int_equal(swap_reserve(&gs, PAGES), 0);
		fill();
		all_out();
		for (gfn_t gfn = 0; gfn < PAGES; gfn++)
			check_page(gfn, 0);
	}
	assert_int_equal(fake_mm.poisoned, 0);
}

/* Places go bad one after the other: swap stops before it forgets one. */
static void test_too_many_lost_slots(void **state)
{
	u32 lost = 0;

	(void)state;
	fill();
	all_out();
	fake_blk.bad_read_from = 100;
	fake_blk.bad_read_to = 117;
	for (gfn_t gfn = 0; gfn < PAGES; gfn++) {
		if (touch_wait(gfn, GSPACE_READ))
			lost++;
		fake_mm.poisoned = 0;
	}
	assert_int_equal(lost, 17);
	swap_stats(&stats);
	assert_int_equal(stats.state, SWAP_FAILED);
	assert_string_equal(stats.why, "too many pages could not be read");
}

static void test_bit_flip(void **state)
{
	u8 *page;

	(void)state;
	fill();
	all_out();
	page = fake_blk_page(444);
	page[1234] ^= 4;
	expect_one_lost("swap checksum mismatch");
}

/* A transient wrong bit on the way is read again. */
static void test_flips_on_the_way(void **state)
{
	(void)state;
	fill();
	all_out();
	fake_blk.flip_one_in = 200;
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		if (touch_wait(gfn, GSPACE_READ))
			fake_mm.poisoned = 0;
		else
			check_page(gfn, 0);
	swap_stats(&stats);
	assert_true(stats.checksum_errors > 0);
}

/* Two blocks that changed places: each is intact, neither may pass. */
static void test_misplaced_blocks(void **state)
{
	static u8 tmp[PAGE_SIZE];
	u32 lost = 0;

	(void)state;
	fill();
	all_out();
	memcpy(tmp, fake_blk_page(10), PAGE_SIZE);
	memcpy(fake_blk_page(10), fake_blk_page(20), PAGE_SIZE);
	memcpy(fake_blk_page(20), tmp, PAGE_SIZE);
	for (gfn_t gfn = 0; gfn < PAGES; gfn++) {
		if (touch_wait(gfn, GSPACE_READ))
			lost++;
		fake_mm.poisoned = 0;
	}
	assert_int_equal(lost, 2);
}

static void test_lost_writes(void **state)
{
	u32 lost = 0;

	(void)state;
	fill();
	fake_blk.lose_one_in = 50;
	all_out();
	for (gfn_t gfn = 0; gfn < PAGES; gfn++) {
		if (touch_wait(gfn, GSPACE_READ))
			lost++;
		else
			check_page(gfn, 0);
		fake_mm.poisoned = 0;
	}
	assert_true(lost > 0);
	swap_stats(&stats);
	assert_in_range(stats.checksum_errors, 2 * lost, 3 * lost); /* some were read ahead before */
}

static void test_device_gone(void **state)
{
	(void)state;
	fill();
	swap_out(&gs, 200);
	fake_blk_drain();
	fake_blk.latency_ns = NSEC_PER_MSEC;
	assert_true(swap_out(&gs, 64) > 0);
	fake_blk.gone = true;
	fake_blk_drain();
	assert_int_equal(gs.count[PAGE_SWAPPING_OUT], 0);
	swap_stats(&stats);
	assert_int_equal(stats.state, SWAP_FAILED);
	assert_string_equal(stats.why, "the device is gone");
	assert_int_equal(stats.bad, 0);
	assert_false(swap_can_out());
	for (gfn_t gfn = 0; gfn < PAGES; gfn++) {
		bool was_out = gspace_state(&gs, gfn) == PAGE_SWAPPED;
		int err = gspace_touch(&gs, gfn, GSPACE_READ);

		if (was_out) {
			assert_int_equal(err, E_AGAIN);
			fake_blk_drain();
			assert_int_equal(fake_mm.poisoned, 1);
			assert_string_equal(fake_mm_poison_why, "swap device gone");
			fake_mm.poisoned = 0;
		} else {
			check_page(gfn, 0);
		}
	}
	check_sum();
}

/* The space ends with writes, rescued writes and reads under way. */
static void test_end_in_flight(void **state)
{
	(void)state;
	fill();
	swap_out(&gs, 300);
	fake_blk_drain();
	fake_blk.hold = true;
	assert_true(swap_out(&gs, 100) > 0);
	for (gfn_t gfn = 0; gfn < PAGES; gfn += 3)
		if (gspace_state(&gs, gfn) == PAGE_SWAPPED || gspace_state(&gs, gfn) == PAGE_SWAPPING_OUT)
			(void)!gspace_touch(&gs, gfn, GSPACE_WRITE);
	assert_true(gs.count[PAGE_SWAPPING_IN] > 0 && gs.count[PAGE_SWAPPING_OUT] > 0 && gs.stats.swap_rescued > 0);
	for (int i = 0; i < 100; i++)
		assert_false(gspace_destroy_some(&gs, 1000));
	fake_blk.hold = false;
	fake_blk.latency_ns = 3 * NSEC_PER_MSEC;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_write_errors, start, finish),
	    cmocka_unit_test_setup_teardown(test_bad_slots, start, finish),
	    cmocka_unit_test_setup_teardown(test_read_error, start, finish),
	    cmocka_unit_test_setup_teardown(test_lost_slot_is_retired, start, finish),
	    cmocka_unit_test_setup_teardown(test_too_many_lost_slots, start, finish),
	    cmocka_unit_test_setup_teardown(test_bit_flip, start, finish),
	    cmocka_unit_test_setup_teardown(test_flips_on_the_way, start, finish),
	    cmocka_unit_test_setup_teardown(test_misplaced_blocks, start, finish),
	    cmocka_unit_test_setup_teardown(test_lost_writes, start, finish),
	    cmocka_unit_test_setup_teardown(test_device_gone, start, finish),
	    cmocka_unit_test_setup_teardown(test_end_in_flight, start, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
