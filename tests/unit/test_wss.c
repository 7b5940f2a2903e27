/*
 * The working-set estimate against a guest that uses known parts of its memory. The guest translates through a TLB that
 * forgets only when the space's generation moves, and sets accessed bits only when it walks: an estimate made without
 * the flush sees nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/prng.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/rmap.h"
#include "mm/swap.h"
#include "mm/wss.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"

#define PAGES  2000U
#define TICK   (250 * NSEC_PER_MSEC)
#define PERIOD 3U

static struct gspace gs;
static u64 cached_gen[PAGES]; /* the TLB: valid while it equals gs.tlb_gen */
static bool cached_dirty[PAGES];

static void begin_space(const struct pt_format *fmt)
{
	struct mem_alloc alloc = {.limit = PAGES, .shares = 10};

	assert_int_equal(gspace_init(&gs, "g", PAGES, fmt, &alloc), 0);
	memset(cached_gen, 0, sizeof(cached_gen));
	memset(cached_dirty, 0, sizeof(cached_dirty));
}

static void end_space(void)
{
	assert_int_equal(gspace_verify_all(), 0);
	while (!gspace_destroy_some(&gs, 512))
		fake_blk_drain();
}

static int start(void **state)
{
	(void)state;
	fake_platform_reset();
	fake_mm_start(4096);
	wss_init(7);
	wss_configure(WSS_SAMPLES_MAX, PERIOD, false);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	wss_configure(WSS_SAMPLES_DEFAULT, WSS_PERIOD_DEFAULT, false);
	fake_mm_stop();
	return 0;
}

static void use(gfn_t gfn, enum gspace_access access)
{
	u64 *entry;
	u32 level;

	if (cached_gen[gfn] == gs.tlb_gen && (access == GSPACE_READ || cached_dirty[gfn]))
		return;
	for (u32 tries = 0; tries < 3; tries++) {
		entry = pt_find(&gs.pt, gfn_to_gpa(gfn).v, &level);
		if (pt_entry_present(gs.pt.fmt, *entry) &&
		    (access == GSPACE_READ || gs.pt.fmt->leaf_prot(*entry, level) & PT_W)) {
			*entry |= gs.pt.fmt->accessed | (access == GSPACE_WRITE ? gs.pt.fmt->dirty : 0);
			cached_gen[gfn] = gs.tlb_gen;
			cached_dirty[gfn] = access == GSPACE_WRITE;
			return;
		}
		assert_int_equal(gspace_touch(&gs, gfn, access), 0);
	}
	fail_msg("gfn %u does not come", gfn);
}

/* The guest uses pages [first, first + count) all the time for so long. */
static void run(u32 seconds, gfn_t first, u32 count)
{
	for (u64 end = fake_now_ns + seconds * NSEC_PER_SEC; fake_now_ns < end; fake_now_ns += TICK) {
		for (u32 i = 0; i < count; i++)
			use(first + i, GSPACE_READ);
		wss_step(&gs);
		assert_false(gs.tlb_stale);
	}
}

/* Percent of the space in use, by the estimate. */
static u32 active(void)
{
	return wss_active(&gs) * 100 / PAGES;
}

/* A region that was read before it is written gets single pages. */
static void fill(void)
{
	for (gfn_t gfn = 0; gfn < PAGES; gfn++) {
		use(gfn, GSPACE_READ);
		use(gfn, GSPACE_WRITE);
	}
}

static void known_steps(const struct pt_format *fmt, bool unmap)
{
	wss_configure(WSS_SAMPLES_MAX, PERIOD, unmap);
	begin_space(fmt);
	fill();
	run(2, 0, 200);
	assert_int_equal(active(), 100); /* nothing is known yet */
	run(8, 0, 200);
	assert_int_equal(gs.wss.by_unmapping, unmap || !fmt->accessed);
	assert_in_range(active(), 5, 16);
	/* Up within a period, by the current estimate. */
	run(2 * (PERIOD + 3), 0, 1600);
	assert_in_range(active(), 70, 90);
	/* Down slowly: the averages still remember. */
	run(2 * (PERIOD + 3), 0, 200);
	assert_true(active() > 25);
	run(60, 0, 200);
	assert_in_range(active(), 5, 17);
	assert_in_range((u64)gs.wss.slow * 100 / WSS_ONE, 5, 17);
	/* It stands still. */
	run(60, 0, 0);
	assert_int_equal(active(), 0);
	assert_int_equal(gspace_verify_all(), 0);
	/* Whatever was unmapped comes back with its content and nothing else changed. */
	fill();
	assert_int_equal(gs.count[PAGE_PRIVATE], PAGES);
	assert_int_equal(gs.stats.zero_fills, PAGES);
	end_space();
}

/* Periods end and begin: what has been seen counts on. */
static void test_stays_up(void **state)
{
	(void)state;
	wss_configure(WSS_SAMPLES_MAX, PERIOD, false);
	begin_space(&fake_format);
	fill();
	run(3 * (PERIOD + 3), 0, 200);
	assert_in_range(active(), 5, 20);
	run(PERIOD + 3, 0, 1600);
	for (u32 i = 0; i < 4 * (PERIOD + 3); i++) {
		run(1, 0, 1600);
		assert_in_range(active(), 65, 95);
	}
	end_space();
}

/* Half of what is used is written. Dirty bits say so; without bits nothing is known. */
static void test_written(void **state)
{
	u32 pages;

	(void)state;
	for (u32 unmap = 0; unmap < 2; unmap++) {
		wss_configure(WSS_SAMPLES_MAX, PERIOD, unmap);
		begin_space(&fake_format);
		fill();
		assert_false(wss_written(&gs, &pages));
		for (u32 i = 0; i < 30 * NSEC_PER_SEC / TICK; i++, fake_now_ns += TICK) {
			for (gfn_t gfn = 0; gfn < 1000; gfn++)
				use(gfn, gfn < 500 ? GSPACE_WRITE : GSPACE_READ);
			wss_step(&gs);
		}
		assert_int_equal(wss_written(&gs, &pages), !unmap);
		assert_in_range(active(), 40, 62);
		if (!unmap)
			assert_in_range(pages * 100 / PAGES, 16, 36);
		end_space();
	}
}

/* A page that did not compress was written since: the sampling of its dirty bit does not hide that. */
static void test_written_is_not_poor(void **state)
{
	hfn_t hfn;

	(void)state;
	begin_space(&fake_format);
	for (u32 wrote = 0; wrote < 2; wrote++) {
		use(1, GSPACE_READ);
		use(1, GSPACE_WRITE);
		assert_int_equal(gspace_pin(&gs, 1, false, &hfn), 0);
		gspace_unpin(&gs, 1);
		cached_gen[1] = ~0UL; /* the entry was made anew: neither bit is set */
		use(1, GSPACE_READ);
		frame_get(hfn)->flags |= FRAME_F_POOR;
		if (wrote)
			use(1, GSPACE_WRITE);
		assert_true(gspace_watch(&gs, 1, false));
		gspace_flush(&gs);
		assert_int_equal(gspace_is_poor(&gs, 1), !wrote);
		frame_get(hfn)->flags &= ~FRAME_F_POOR;
	}
	end_space();
}

static void test_accessed_bits(void **state)
{
	(void)state;
	known_steps(&fake_format, false);
}

static void test_unmapping(void **state)
{
	(void)state;
	known_steps(&fake_format, true);
}

static void test_without_accessed_bits(void **state)
{
	(void)state;
	known_steps(&fake_format_plain, false);
}

/* A large page has one bit; taking its pages out of the tables splits it. */
static void test_large_pages(void **state)
{
	(void)state;
	begin_space(&fake_format);
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		use(gfn, GSPACE_WRITE);
	assert_int_equal(gs.large, PAGES / LARGE_PAGES);
	run(12, 0, 200);
	assert_int_equal(gs.large, PAGES / LARGE_PAGES);
	assert_in_range(active(), 18, 34);
	wss_configure(WSS_SAMPLES_MAX, PERIOD, true);
	run(40, 0, 200);
	assert_int_equal(gs.large, 0);
	assert_in_range(active(), 5, 17);
	end_space();
}

static void test_settings(void **state)
{
	(void)state;
	begin_space(&fake_format);
	fill();
	wss_configure(0, PERIOD, false);
	run(10, 0, 100);
	assert_int_equal(active(), 100);
	assert_int_equal(gs.wss.periods, 0);
	wss_configure(5, PERIOD, false);
	run(10, 0, 100);
	assert_int_equal(gs.wss.samples, 5);
	assert_true(gs.wss.periods > 0 && active() < 60);
	wss_configure(1000000, PERIOD, false);
	run(10, 0, 100);
	assert_int_equal(gs.wss.samples, WSS_SAMPLES_MAX);
	end_space();
}

/* The guest's own time counts: a paused guest's estimate stands still. */
static void test_no_time_no_period(void **state)
{
	u32 before;

	(void)state;
	begin_space(&fake_format);
	fill();
	run(10, 0, 100);
	wss_step(&gs);
	before = gs.wss.periods;
	for (u32 i = 0; i < 400; i++)
		wss_step(&gs);
	assert_int_equal(gs.wss.periods, before);
	/* A leap counts as a second at most. */
	wss_configure(WSS_SAMPLES_MAX, 20, false);
	fake_now_ns += 3600 * NSEC_PER_SEC;
	for (u32 i = 0; i < 20; i++)
		wss_step(&gs);
	assert_int_equal(gs.wss.periods, before);
	end_space();
}

static void test_raise(void **state)
{
	(void)state;
	begin_space(&fake_format);
	fill();
	wss_raise(&gs, 1000); /* nothing is known: all counts anyway */
	run(30, 0, 100);
	assert_in_range(active(), 1, 12);
	wss_raise(&gs, 1000);
	assert_in_range(active(), 49, 50);
	wss_raise(&gs, 200);
	assert_in_range(active(), 49, 50);
	run(60, 0, 100);
	assert_in_range(active(), 1, 12);
	end_space();
}

/* A watched page that is out of the tables is in every other respect what it was. */
static void test_watched_pages_change(void **state)
{
	bool written;
	hfn_t hfn;

	(void)state;
	fake_blk_start(256);
	begin_space(&fake_format);
	for (gfn_t gfn = 0; gfn < 9; gfn++)
		use(gfn, GSPACE_READ);
	for (gfn_t gfn = 0; gfn < 8; gfn++)
		use(gfn, GSPACE_WRITE);
	for (gfn_t gfn = 0; gfn < 9; gfn++)
		assert_true(gspace_watch(&gs, gfn, true));
	assert_false(gspace_watch(&gs, 8, true));
	assert_false(gspace_watch(&gs, 8, false));
	assert_false(gspace_watch(&gs, 9, true)); /* absent */
	gspace_flush(&gs);
	assert_int_equal(gspace_verify_all(), 0);
	for (gfn_t gfn = 0; gfn < 10; gfn++)
		assert_false(gspace_watched_touched(&gs, gfn, true, &written));

	assert_int_equal(gspace_balloon_take(&gs, 0), 0);
	assert_int_equal(gspace_pin(&gs, 1, true, &hfn), 0);
	assert_int_equal(gspace_state(&gs, 1), PAGE_PINNED);
	assert_true(gspace_watched_touched(&gs, 1, true, &written));
	assert_true(gspace_watch(&gs, 1, true));
	gspace_unpin(&gs, 1);
	assert_int_equal(gspace_state(&gs, 1), PAGE_PRIVATE);
	assert_int_equal(gspace_swap_out_begin(&gs, 2, &hfn), 0);
	assert_int_equal(gspace_touch(&gs, 2, GSPACE_READ), 0);
	gspace_swap_out_failed(&gs, 2, hfn);
	assert_int_equal(gspace_share_zero(&gs, 3), 0);
	assert_int_equal(gspace_touch(&gs, 8, GSPACE_READ), 0); /* the zero page, mapped again */
	assert_int_equal(gspace_state(&gs, 8), PAGE_ZERO);
	assert_true(gspace_watched_touched(&gs, 8, true, &written));
	assert_true(gspace_watch(&gs, 8, true));
	assert_int_equal(gspace_touch(&gs, 8, GSPACE_WRITE), 0);
	assert_int_equal(gspace_state(&gs, 8), PAGE_PRIVATE);
	assert_int_equal(gspace_verify_all(), 0);
	end_space();
	fake_blk_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_accessed_bits, start, finish),
	    cmocka_unit_test_setup_teardown(test_stays_up, start, finish),
	    cmocka_unit_test_setup_teardown(test_written, start, finish),
	    cmocka_unit_test_setup_teardown(test_written_is_not_poor, start, finish),
	    cmocka_unit_test_setup_teardown(test_unmapping, start, finish),
	    cmocka_unit_test_setup_teardown(test_without_accessed_bits, start, finish),
	    cmocka_unit_test_setup_teardown(test_large_pages, start, finish),
	    cmocka_unit_test_setup_teardown(test_settings, start, finish),
	    cmocka_unit_test_setup_teardown(test_no_time_no_period, start, finish),
	    cmocka_unit_test_setup_teardown(test_raise, start, finish),
	    cmocka_unit_test_setup_teardown(test_watched_pages_change, start, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
