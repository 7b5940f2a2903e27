/* Guest address spaces: pages that are touched, copied to and from, pinned, or given to the balloon. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/space_test.h"

#define FRAMES     1500
#define PAGES      1000
#define DISK_PAGES 4096

static int start(void **state)
{
	(void)state;
	space_test_start(FRAMES, DISK_PAGES, PAGES);
	return 0;
}

/* ---- touch --------------------------------------------------------------- */

static void first_touch(void **state)
{
	(void)state;
	touch(&one, 3, GSPACE_READ);
	expect_state(&one, 3, PAGE_ZERO);
	expect_stamp(&one, 3, 0);
	assert_int_equal(gspace_consumed(&one), 0);
	touch(&one, 4, GSPACE_WRITE);
	expect_state(&one, 4, PAGE_PRIVATE);
	expect_stamp(&one, 4, 0);
	assert_int_equal(gspace_consumed(&one), 1);
	touch(&one, 4, GSPACE_READ | GSPACE_WRITE | GSPACE_EXEC);
	touch(&one, 5, GSPACE_EXEC);
	expect_state(&one, 5, PAGE_ZERO);
	assert_int_equal(one.stats.zero_fills, 1);
	assert_int_equal(one.stats.faults, 4);
	assert_int_equal(fake_mm.shootdowns, 0); /* nothing was narrowed */
	assert_int_equal(gspace_touch(&one, PAGES, GSPACE_READ), E_FAULT);
	assert_int_equal(gspace_touch(&one, GFN_NONE, GSPACE_WRITE), E_FAULT);
}

static void zero_then_write(void **state)
{
	u64 gen = one.tlb_gen;

	(void)state;
	touch(&one, 3, GSPACE_READ);
	touch(&one, 3, GSPACE_WRITE);
	expect_state(&one, 3, PAGE_PRIVATE);
	assert_int_equal(fake_mm.shootdowns, 1); /* the zero frame may be cached */
	assert_int_equal(one.tlb_gen, gen + 1);
	fill(&one, 3, 0x5a);
	assert_true(page_is_zero(mm_hfn_to_va(frame_zero())));
}

static u32 entries_seen_empty;

static void look_at_entry(struct gspace *gs)
{
	u32 level;
	u64 *entry = pt_find(&gs->pt, 3UL << PAGE_SHIFT, &level);

	assert_true(lock_held(&gs->lock));
	assert_true(level == 1 && *entry == 0);
	entries_seen_empty++;
}

/* With several CPUs at the page no two see different frames: it is gone before it comes back. */
static void unmapped_before_replaced(void **state)
{
	u64 gen = one.tlb_gen;

	(void)state;
	one.concurrent = true;
	touch(&one, 3, GSPACE_READ);
	entries_seen_empty = 0;
	fake_mm_on_shootdown = look_at_entry;
	touch(&one, 3, GSPACE_WRITE);
	assert_int_equal(entries_seen_empty, 1);
	assert_true(fake_mm.shootdowns == 1 && one.tlb_gen == gen + 1); /* that one was enough */
	assert_false(one.tlb_stale || one.tlb_dirty);
	expect_state(&one, 3, PAGE_PRIVATE);
	/* Nothing is replaced here. */
	touch(&one, 4, GSPACE_WRITE);
	touch(&one, 3, GSPACE_WRITE);
	assert_int_equal(entries_seen_empty, 1);
	fake_mm_on_shootdown = NULL;
}

static void out_of_frames(void **state)
{
	hfn_t held[FRAMES];
	u32 n = 0;

	(void)state;
	touch(&one, 0, GSPACE_READ);
	while ((held[n] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false)) != HFN_NONE)
		n++;
	assert_int_equal(gspace_touch(&one, 0, GSPACE_WRITE), E_AGAIN);
	assert_int_equal(gspace_touch(&one, 1, GSPACE_WRITE), E_AGAIN);
	assert_int_equal(gspace_touch(&one, 1, GSPACE_READ), 0);         /* needs no frame */
	assert_int_equal(gspace_touch(&one, 600, GSPACE_READ), E_AGAIN); /* but a table */
	assert_int_equal(one.stats.waits, 3);
	expect_state(&one, 600, PAGE_ABSENT);
	while (n--)
		frame_free(held[n], 0);
	touch(&one, 600, GSPACE_WRITE);
}

static void reclaim_may_refuse(void **state)
{
	(void)state;
	for (gfn_t g = 0; g < 400; g++)
		touch(&one, g, GSPACE_WRITE);
	reclaim_init(&(struct reclaim_config){.min_free = 50 * FRAMES});
	reclaim_add(&one);
	fake_blk.hold = true;
	reclaim_step(fake_now_ns);
	assert_false(reclaim_may_alloc(&one));
	assert_int_equal(gspace_touch(&one, 500, GSPACE_WRITE), E_AGAIN);
	assert_int_equal(gspace_touch(&one, 500, GSPACE_READ), 0);
	assert_int_equal(gspace_touch(&one, 500, GSPACE_WRITE), E_AGAIN);
	assert_int_equal(one.stats.waits, 2);
	reclaim_remove(&one);
	fake_blk.hold = false;
	fake_blk_drain();
	reclaim_init(&(struct reclaim_config){.min_free = 1});
	frame_set_reserve(0);
	touch(&one, 500, GSPACE_WRITE);
}

/* ---- fault-around -------------------------------------------------------- */

/*
 * Goes on in order from `from` to `to` as a guest does, which faults only on pages that are not there. Returns the
 * faults.
 */
static u32 go_through(struct gspace *gs, gfn_t from, gfn_t to)
{
	u32 faults = 0;

	for (gfn_t g = from; g < to; g++) {
		if (look(gs, g).state == PAGE_PRIVATE)
			continue;
		touch(gs, g, GSPACE_WRITE);
		faults++;
		/* Never more than a quarter of what it went through, and never more than 15. */
		assert_in_range(gs->count[PAGE_PRIVATE], g + 1, g + 1 + MIN((g + 1) / 4, 15));
	}
	return faults;
}

static void pages_in_order(void **state)
{
	u32 faults;

	(void)state;
	go_through(&one, 0, 3);
	assert_int_equal(one.count[PAGE_PRIVATE], 3); /* by chance, as yet */
	touch(&one, 3, GSPACE_WRITE);
	expect_state(&one, 4, PAGE_PRIVATE);
	expect_state(&one, 5, PAGE_ABSENT);
	assert_int_equal(one.stats.around, 1);
	faults = 4 + go_through(&one, 4, 512);
	assert_in_range(faults, 512 / 16, 512 / 8);
	assert_int_equal(one.count[PAGE_PRIVATE], 512); /* not into the next table */
	assert_int_equal(one.stats.zero_fills, faults);
	assert_int_equal(one.stats.around, 512 - faults);
	touch(&one, 512, GSPACE_WRITE); /* its table comes, and the order goes on */
	assert_int_equal(one.count[PAGE_PRIVATE], 512 + 16);
	for (gfn_t g = 0; g < 528; g++)
		expect_stamp(&one, g, 0);
}

static void pages_out_of_order(void **state)
{
	static const struct mem_alloc few = {.limit = 22, .shares = 1};

	(void)state;
	for (gfn_t g = 99; g; g--)
		touch(&one, g, GSPACE_WRITE);
	for (gfn_t g = 100; g < 300; g += 2)
		touch(&one, g, GSPACE_WRITE);
	assert_int_equal(one.count[PAGE_PRIVATE], 99 + 100);
	for (gfn_t g = 300; g < 340; g++) /* the hypervisor's own writes are no order */
		fill(&one, g, g);
	for (gfn_t g = 340; g < 380; g++) /* nor are reads */
		touch(&one, g, GSPACE_READ);
	touch(&one, 380, GSPACE_WRITE);
	assert_int_equal(one.stats.around, 0);
	for (gfn_t g = 380; g < 480; g++)
		assert_int_equal(look(&one, g).state, g == 380 ? PAGE_PRIVATE : PAGE_ABSENT);
	/* The space ends. */
	assert_int_equal(gspace_init(&two, "two", 22, &fake_format, &few), 0);
	go_through(&two, 0, 22);
	assert_int_equal(two.count[PAGE_PRIVATE], 22);
	assert_int_equal(two.stats.around, 22 - two.stats.zero_fills);
	destroy(&two);
}

/* What is not absent is left alone: here a ballooned page, whose touch is a broken promise. */
static void pages_in_order_stop(void **state)
{
	(void)state;
	assert_int_equal(gspace_balloon_take(&one, 105), 0);
	touch(&one, 110, GSPACE_READ);
	for (gfn_t g = 60; look(&one, 104).state == PAGE_ABSENT; g++)
		if (look(&one, g).state == PAGE_ABSENT)
			touch(&one, g, GSPACE_WRITE);
	expect_state(&one, 105, PAGE_BALLOONED);
	expect_state(&one, 106, PAGE_ABSENT);
	assert_true(one.stats.around > 0);
	touch(&one, 105, GSPACE_WRITE);
	expect_state(&one, 106, PAGE_ABSENT);
	assert_int_equal(one.stats.balloon_broken, 1);
	expect_state(&one, 110, PAGE_ZERO);
}

/* Only with plenty, within target and limit, and where being mapped does not count as being used. */
static void no_pages_beyond_need(void **state)
{
	(void)state;
	reclaim_init(&(struct reclaim_config){.min_free = FRAMES / 2});
	frame_set_reserve(0);
	for (gfn_t g = 0; g < 40; g++)
		touch(&one, g, GSPACE_WRITE);
	assert_int_equal(one.stats.around, 0);
	reclaim_init(&(struct reclaim_config){.min_free = 1});
	frame_set_reserve(0);
	one.wss.by_unmapping = true;
	for (gfn_t g = 40; g < 80; g++)
		touch(&one, g, GSPACE_WRITE);
	assert_int_equal(one.stats.around, 0);
	one.wss.by_unmapping = false;
	one.target = 100;
	for (gfn_t g = 80; g < 120; g++)
		if (look(&one, g).state == PAGE_ABSENT)
			touch(&one, g, GSPACE_WRITE);
	assert_int_equal(one.count[PAGE_PRIVATE], 120);
	assert_int_equal(one.stats.around, 15);
	one.target = PAGES;
	one.alloc.limit = 121;
	touch(&one, 120, GSPACE_WRITE);
	assert_int_equal(one.stats.around, 15);
	one.alloc.limit = PAGES;
	touch(&one, 121, GSPACE_WRITE);
	assert_int_equal(one.stats.around, 30);
}

/* ---- copies -------------------------------------------------------------- */

static void copies(void **state)
{
	static u8 out[GSPACE_COPY_MAX], in[GSPACE_COPY_MAX];
	u64 end = (u64)PAGES << PAGE_SHIFT;

	(void)state;
	for (u32 i = 0; i < sizeof(out); i++)
		out[i] = i * 7 + i / 251;
	assert_int_equal(gspace_write(&one, GPA(0x1ffd), out, 6), 0);
	assert_int_equal(gspace_read(&one, GPA(0x1ffd), in, 6), 0);
	assert_memory_equal(in, out, 6);
	expect_state(&one, 1, PAGE_PRIVATE);
	expect_state(&one, 2, PAGE_PRIVATE);
	assert_int_equal(gspace_write(&one, GPA(0x10123), out, sizeof(out)), 0);
	assert_int_equal(gspace_read(&one, GPA(0x10123), in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(out));
	assert_int_equal(gspace_read(&one, GPA(0x90000), in, 100), 0);
	assert_int_equal(in[0] | in[99], 0);
	expect_state(&one, 0x90, PAGE_ZERO);

	assert_int_equal(gspace_read(&one, GPA(end - 10), in, 10), 0);
	assert_int_equal(gspace_read(&one, GPA(end - 10), in, 11), E_FAULT);
	assert_int_equal(gspace_write(&one, GPA(end), out, 1), E_FAULT);
	assert_int_equal(gspace_write(&one, GPA(end), out, 0), 0);
	assert_int_equal(gspace_write(&one, GPA(~0UL), out, 2), E_FAULT);
	assert_int_equal(gspace_write(&one, GPA(~0UL - 4095), out, 8192), E_FAULT);
}

/* ---- pins ---------------------------------------------------------------- */

static void pins(void **state)
{
	hfn_t a, b;

	(void)state;
	touch(&one, 9, GSPACE_READ);
	assert_int_equal(gspace_pin(&one, 9, false, &a), 0);
	expect_state(&one, 9, PAGE_PINNED);
	assert_int_not_equal(a, frame_zero());
	assert_int_equal(gspace_pin(&one, 9, true, &b), 0);
	assert_int_equal(a, b);
	assert_int_equal(gspace_balloon_take(&one, 9), E_BUSY);
	assert_int_equal(gspace_swap_out_begin(&one, 9, &b), E_BUSY);
	assert_int_equal(gspace_share_zero(&one, 9), E_INVAL);
	touch(&one, 9, GSPACE_WRITE);
	gspace_unpin(&one, 9);
	expect_state(&one, 9, PAGE_PINNED);
	gspace_unpin(&one, 9);
	expect_state(&one, 9, PAGE_PRIVATE);
	assert_int_equal(gspace_consumed(&one), 1);
	assert_int_equal(gspace_pin(&one, PAGES, true, &b), E_FAULT);
	assert_int_equal(b, HFN_NONE);
	assert_int_equal(gspace_touch(&one, 9, GSPACE_READ), 0);
}

static void pin_count_is_bounded(void **state)
{
	hfn_t hfn;

	(void)state;
	for (u32 i = 0; i < UINT16_MAX; i++)
		assert_int_equal(gspace_pin(&one, 1, true, &hfn), 0);
	assert_int_equal(gspace_pin(&one, 1, true, &hfn), E_BUSY);
	for (u32 i = 0; i < UINT16_MAX; i++)
		gspace_unpin(&one, 1);
	expect_state(&one, 1, PAGE_PRIVATE);
}

/* ---- balloon ------------------------------------------------------------- */

static void balloon(void **state)
{
	u32 before;

	(void)state;
	fill(&one, 0, 1);
	touch(&one, 1, GSPACE_READ);
	before = frame_free_count();
	assert_int_equal(gspace_balloon_take(&one, 0), 0);
	assert_int_equal(frame_free_count(), before); /* it may be cached yet */
	assert_int_equal(gspace_balloon_take(&one, 1), 0);
	assert_int_equal(gspace_balloon_take(&one, 2), 0);   /* never touched */
	assert_int_equal(gspace_balloon_take(&one, 700), 0); /* no table yet */
	assert_int_equal(gspace_balloon_take(&one, 0), E_INVAL);
	assert_int_equal(gspace_balloon_take(&one, PAGES), E_INVAL);
	assert_int_equal(fake_mm.shootdowns, 0);
	gspace_flush(&one);
	assert_int_equal(fake_mm.shootdowns, 1);      /* one for all */
	assert_int_equal(frame_free_count(), before); /* a frame back, a table gone */
	gspace_flush(&one);
	assert_int_equal(fake_mm.shootdowns, 1);
	assert_int_equal(one.count[PAGE_BALLOONED], 4);
	assert_int_equal(one.stats.balloon_out, 4);

	assert_int_equal(gspace_balloon_give(&one, 0), 0);
	assert_int_equal(gspace_balloon_give(&one, 0), E_INVAL);
	assert_int_equal(gspace_balloon_give(&one, PAGES), E_INVAL);
	expect_state(&one, 0, PAGE_ABSENT);
	expect_stamp(&one, 0, 0); /* what it held is gone */
	assert_int_equal(one.stats.balloon_back, 1);
}

static void broken_promise(void **state)
{
	(void)state;
	fill(&one, 0, 1);
	assert_int_equal(gspace_balloon_take(&one, 0), 0);
	assert_int_equal(gspace_balloon_take(&one, 1), 0);
	gspace_flush(&one);
	touch(&one, 0, GSPACE_WRITE);
	expect_state(&one, 0, PAGE_PRIVATE);
	expect_stamp(&one, 0, 0);
	touch(&one, 1, GSPACE_READ);
	expect_state(&one, 1, PAGE_ZERO);
	assert_int_equal(one.stats.balloon_broken, 2);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, start, space_test_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(first_touch),
	    CASE(zero_then_write),
	    CASE(unmapped_before_replaced),
	    CASE(out_of_frames),
	    CASE(reclaim_may_refuse),
	    CASE(pages_in_order),
	    CASE(pages_out_of_order),
	    CASE(pages_in_order_stop),
	    CASE(no_pages_beyond_need),
	    CASE(copies),
	    CASE(pins),
	    CASE(pin_count_is_bounded),
	    CASE(balloon),
	    CASE(broken_promise),
	};

	return cmocka_run_group_tests_name("gspace_touch", tests, NULL, NULL);
}
