/* Guest address spaces: each operation in each state it may meet. Swap is the real one over a disk in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/rmap.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/space_test.h"

#define FRAMES     1500
#define PAGES      1000
#define DISK_PAGES 4096

static struct gspace one, two;
static const struct mem_alloc settings = {.limit = PAGES, .shares = 40};
static u32 free_at_start;

static void create(struct gspace *gs, const char *name)
{
	assert_int_equal(gspace_init(gs, name, PAGES, &fake_format, &settings), 0);
}

static int start(void **state)
{
	(void)state;
	fake_platform_reset();
	fake_mm_start(FRAMES);
	fake_blk_start(DISK_PAGES);
	swap_init(1, 2);
	assert_int_equal(swap_on(&fake_blk_part), 0);
	free_at_start = frame_free_count();
	reclaim_init(&(struct reclaim_config){.min_free = 1});
	frame_set_reserve(0);
	create(&one, "one");
	assert_int_equal(swap_reserve(&one, PAGES), 0);
	return 0;
}

static int stop(void **state)
{
	struct swap_stats swap;

	(void)state;
	assert_int_equal(gspace_verify_all(), 0);
	destroy(&one);
	for (u32 i = 0; i < 100; i++)
		swap_trim();
	/* Bad slots are remembered where they are: in one table and its directory. */
	swap_stats(&swap);
	assert_int_equal(frame_free_count() + (swap.bad ? 2 : 0), free_at_start);
	frame_verify();
	fake_blk_stop();
	fake_mm_stop();
	return 0;
}

/* ---- life ---------------------------------------------------------------- */

static void begins_empty(void **state)
{
	(void)state;
	assert_int_equal(one.count[PAGE_ABSENT], PAGES);
	assert_int_equal(one.pt.tables, 1);
	assert_int_equal(gspace_consumed(&one), 0);
	assert_string_equal(one.name, "one");
	assert_int_not_equal(one.tlb_gen, 0);
	assert_ptr_equal(gspace_by_id(one.id), &one);
	assert_null(gspace_by_id(0));
	assert_null(gspace_by_id(GSPACE_MAX));
	assert_null(gspace_by_id(65535));
	assert_null(gspace_get(65535));
	assert_ptr_equal(gspace_next(NULL), &one);
	assert_null(gspace_next(&one));
	expect_state(&one, 0, PAGE_ABSENT);
	expect_state(&one, PAGES + 5, PAGE_ABSENT);
}

static void ids_are_unique(void **state)
{
	static struct gspace many[GSPACE_MAX];
	static u8 seen[GSPACE_MAX];
	u32 n = 0, before = frame_free_count();

	(void)state;
	memset(seen, 0, sizeof(seen));
	seen[one.id] = 1;
	while (!gspace_init(&many[n], "many", 1, &fake_format, &settings)) {
		assert_true(many[n].id > 0 && many[n].id < GSPACE_MAX);
		assert_int_equal(seen[many[n].id]++, 0);
		n++;
	}
	assert_int_equal(n, GSPACE_MAX - 2);
	for (u32 i = 0; i < n; i++)
		destroy(&many[i]);
	assert_int_equal(frame_free_count(), before);
}

static void init_out_of_memory(void **state)
{
	hfn_t held[FRAMES];
	u32 n = 0;

	(void)state;
	while ((held[n] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false)) != HFN_NONE)
		n++;
	assert_int_equal(gspace_init(&two, "two", 10, &fake_format, &settings), E_NOMEM);
	assert_null(gspace_next(&one));
	while (n--)
		frame_free(held[n], 0);
}

static void destroy_is_bounded(void **state)
{
	u32 calls = 0, before;

	(void)state;
	create(&two, "two");
	for (gfn_t g = 0; g < 700; g++)
		fill(&two, g, g);
	before = frame_free_count();
	assert_false(gspace_destroy_some(&two, 100));
	assert_true(frame_free_count() - before <= 100);
	assert_int_equal(gspace_verify_all(), 0);
	assert_int_equal(gspace_touch(&two, 650, GSPACE_READ), E_FAULT);
	assert_int_equal(gspace_balloon_take(&two, 650), E_INVAL);
	assert_null(gspace_get(two.id));
	assert_ptr_equal(gspace_by_id(two.id), &two);
	while (!gspace_destroy_some(&two, 100))
		calls++;
	assert_true(calls >= 5 && calls < 20);
	assert_null(gspace_by_id(two.id));
}

/* Each CPU counts what it changes: pages come on some and go on another. */
static void counted_on_many_cpus(void **state)
{
	u64 host[PAGE_STATES];

	(void)state;
	create(&two, "two");
	for (u32 i = 0; i < 60; i++) {
		fake_cpu_index = i % 3;
		touch(i % 2 ? &one : &two, i, i % 6 < 2 ? GSPACE_READ : GSPACE_WRITE);
	}
	fake_cpu_index = 3;
	gspace_host_counts(host);
	assert_int_equal(host[PAGE_PRIVATE], 40);
	assert_int_equal(host[PAGE_ZERO], 20);
	assert_int_equal(host[PAGE_ABSENT], 2 * PAGES - 60);
	assert_int_equal(gspace_verify_all(), 0);
	destroy(&two);
	gspace_host_counts(host);
	assert_int_equal(host[PAGE_PRIVATE], 20);
	assert_int_equal(host[PAGE_ABSENT], PAGES - 30);
	for (gfn_t g = 0; g < 60; g++)
		if (g % 2)
			touch(&one, g, GSPACE_WRITE);
	gspace_host_counts(host);
	assert_int_equal(host[PAGE_PRIVATE], 30);
	assert_int_equal(host[PAGE_ZERO], 0);
	fake_cpu_index = 0;
}

static void destroy_waits(void **state)
{
	struct gspace *held;
	hfn_t hfn;

	(void)state;
	create(&two, "two");
	assert_int_equal(gspace_pin(&two, 5, true, &hfn), 0);
	held = gspace_get(two.id);
	assert_ptr_equal(held, &two);
	for (u32 i = 0; i < 10; i++)
		assert_false(gspace_destroy_some(&two, 1000));
	assert_int_equal(two.count[PAGE_PINNED], 1);
	gspace_unpin(&two, 5);
	for (u32 i = 0; i < 10; i++)
		assert_false(gspace_destroy_some(&two, 1000));
	assert_int_equal(two.count[PAGE_ABSENT], PAGES);
	gspace_put(held);
	assert_true(gspace_destroy_some(&two, 1000));
}

/* A huge space that was hardly touched is given back in few steps. */
static void destroy_skips_what_was_never_there(void **state)
{
	u32 calls = 0;

	(void)state;
	assert_int_equal(gspace_init(&two, "huge", 16 << 18, &fake_format, &settings), 0);
	touch(&two, (16 << 18) - 1, GSPACE_WRITE);
	touch(&two, 7 << 18, GSPACE_WRITE);
	while (!gspace_destroy_some(&two, 1000))
		calls++;
	assert_true(calls < 20);
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

/* Goes on in order from `from` to `to` as a guest does, which faults only on pages that are not there. Returns the faults. */
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
	create(&two, "two");
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

/* ---- guards -------------------------------------------------------------- */

static void illegal_changes_panic(void **state)
{
	static const enum page_state want[] = {PAGE_ABSENT,      PAGE_ZERO,       PAGE_SHARED,
					       PAGE_BALLOONED,   PAGE_SWAPPED,    PAGE_SWAPPING_OUT,
					       PAGE_SWAPPING_IN, PAGE_COMPRESSED, PAGE_PINNED};
	hfn_t hfn;

	(void)state;
	assert_int_equal(gspace_pin(&one, 1, true, &hfn), 0);
	for (u32 i = 0; i < ARRAY_SIZE(want); i++) {
		lock_acquire(&one.lock);
		assert_true(fake_panics(gspace_change(&one, pt_find(&one.pt, PAGE_SIZE, &(u32){0}), 1, want[i], hfn)));
		lock_init(&one.lock, "gspace", LOCK_RANK_GSPACE);
	}
	assert_non_null(strstr(fake_panic_text, "pinned -> pinned"));
	/* Nothing was changed by these attempts. */
	expect_state(&one, 1, PAGE_PINNED);
	gspace_unpin(&one, 1);
	assert_true(fake_panics(gspace_unpin(&one, 1)));
	lock_init(&one.lock, "gspace", LOCK_RANK_GSPACE);
}

static void verify_finds_damage(void **state)
{
	struct frame *f;
	hfn_t hfn;
	u64 *entry;

	(void)state;
	fill(&one, 1, 1);
	fill(&one, 2, 2);
	hfn = hfn_of(&one, 1);
	f = frame_get(hfn);
	entry = pt_find(&one.pt, PAGE_SIZE, &(u32){0});
	assert_int_equal(gspace_verify_all(), 0);

	f->owner++;
	assert_int_equal(gspace_verify(&one), 1);
	f->owner--;
	f->gfn = 2;
	assert_int_equal(gspace_verify(&one), 1);
	f->gfn = 1;
	f->pins = 1;
	assert_int_equal(gspace_verify(&one), 1);
	f->pins = 0;
	*entry ^= FAKE_READ_ONLY;
	assert_int_equal(gspace_verify(&one), 1);
	*entry ^= FAKE_READ_ONLY;
	one.count[PAGE_PRIVATE]--;
	assert_int_equal(gspace_verify(&one), 2); /* that count, and the sum */
	one.count[PAGE_ZERO]++;
	assert_int_equal(gspace_verify(&one), 2);
	one.count[PAGE_PRIVATE]++;
	one.count[PAGE_ZERO]--;
	frame_get(frame_zero())->refs++;
	assert_int_equal(gspace_verify_all(), 1);
	frame_get(frame_zero())->refs--;
	assert_int_equal(gspace_verify_all(), 0);
	assert_true(fake_log_has("its frame belongs to another"));
}

static void state_names(void **state)
{
	(void)state;
	for (u32 s = 0; s < PAGE_STATES; s++)
		assert_true(strlen(page_state_name(s)) > 3);
	assert_string_equal(page_state_name(PAGE_STATES), "?");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(begins_empty),
	    CASE(ids_are_unique),
	    CASE(init_out_of_memory),
	    CASE(destroy_is_bounded),
	    CASE(counted_on_many_cpus),
	    CASE(destroy_waits),
	    CASE(destroy_skips_what_was_never_there),
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
	    CASE(illegal_changes_panic),
	    CASE(verify_finds_damage),
	    cmocka_unit_test(state_names),
	};

	return cmocka_run_group_tests_name("gspace", tests, NULL, NULL);
}
