/*
 * Large guest pages: when they are given, what splits them, balloon units, rebuilds, and each of these with the
 * frame allocator refusing at any point. frame_alloc() and frame_alloc_whole() come through this file (the Makefile
 * wraps them).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/space_test.h"

#define FRAMES     8000
#define PAGES      (4 * LARGE_PAGES + 100) /* the last region is not whole */
#define DISK_PAGES 4096
#define L          LARGE_PAGES

static const struct mem_alloc settings = {.limit = PAGES, .shares = 40};

/* ---- the allocator between ----------------------------------------------- */

static u32 fail_after = ~0U; /* allocations that still succeed */
static void (*on_block)(void);

hfn_t __real_frame_alloc(u32 order, enum frame_use use, enum frame_state state, bool clear);
hfn_t __real_frame_alloc_whole(u32 order, enum frame_use use, enum frame_state state, bool clear);
hfn_t __wrap_frame_alloc(u32 order, enum frame_use use, enum frame_state state, bool clear);
hfn_t __wrap_frame_alloc_whole(u32 order, enum frame_use use, enum frame_state state, bool clear);

static bool refuse(void)
{
	if (fail_after == ~0U)
		return false;
	if (!fail_after)
		return true;
	fail_after--;
	return false;
}

hfn_t __wrap_frame_alloc(u32 order, enum frame_use use, enum frame_state state, bool clear)
{
	return refuse() ? HFN_NONE : __real_frame_alloc(order, use, state, clear);
}

/* Blocks are allocated with no lock held: others get their turn. */
hfn_t __wrap_frame_alloc_whole(u32 order, enum frame_use use, enum frame_state state, bool clear)
{
	void (*turn)(void) = on_block;

	on_block = NULL;
	if (turn)
		turn();
	return refuse() ? HFN_NONE : __real_frame_alloc_whole(order, use, state, clear);
}

/* ---- scaffold ------------------------------------------------------------ */

static void create(struct gspace *gs, const char *name)
{
	space_create(gs, name, PAGES);
	gs->share_group = share_group("all");
}

static int start(void **state)
{
	(void)state;
	fail_after = ~0U;
	on_block = NULL;
	space_test_start(FRAMES, DISK_PAGES, PAGES);
	one.share_group = share_group("all");
	share_set_rate(1000000, 1000000);
	return 0;
}

static int stop(void **state)
{
	fail_after = ~0U;
	gspace_flush(&one);
	frame_verify();
	return space_test_stop(state);
}

static void fill_region(struct gspace *gs, gfn_t first)
{
	for (gfn_t gfn = first; gfn < first + L; gfn++)
		fill(gs, gfn, gs->id * 100000 + gfn);
}

static void expect_region(struct gspace *gs, gfn_t first)
{
	for (gfn_t gfn = first; gfn < first + L; gfn++)
		expect_stamp(gs, gfn, gs->id * 100000 + gfn);
}

static void expect_large(struct gspace *gs, u32 leaves)
{
	assert_int_equal(gs->large, leaves);
	assert_int_equal(gspace_verify_all(), 0);
}

/* No plenty any more, and not a single frame. */
static u32 take_all(hfn_t *held)
{
	u32 n = 0;

	while ((held[n] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false)) != HFN_NONE)
		n++;
	return n;
}

static void give_all(hfn_t *held, u32 n)
{
	while (n--)
		frame_free(held[n], 0);
}

/* Pages mapped singly, as in times without plenty; their frames are in no order. */
static void fill_singly(struct gspace *gs, gfn_t first)
{
	reclaim_set_min_free(FRAMES / 3);
	for (u32 i = 0; i < L; i++)
		fill(gs, first + (i * 77 + 5) % L, gs->id * 100000 + first + (i * 77 + 5) % L);
	reclaim_set_min_free(1);
	frame_set_reserve(0);
}

/* ---- given --------------------------------------------------------------- */

static void first_write(void **state)
{
	u32 tables;

	(void)state;
	touch(&one, L + 7, GSPACE_WRITE);
	assert_int_equal(look(&one, L + 7).level, 2);
	assert_int_equal(look(&one, L + 7).payload, look(&one, L).payload + 7);
	assert_int_equal(look(&one, L).payload % L, 0);
	assert_int_equal(one.count[PAGE_PRIVATE], L);
	assert_int_equal(gspace_consumed(&one), L);
	assert_int_equal(one.stats.large_fills, 1);
	assert_int_equal(one.pt.tables, 3); /* none of level 1 */
	assert_int_equal(frame_state_count(FRAME_GUEST), L);
	assert_int_equal(fake_mm.shootdowns, 0);
	expect_large(&one, 1);
	for (gfn_t gfn = L; gfn < 2 * L; gfn++)
		assert_true(page_is_zero(mm_hfn_to_va(look(&one, gfn).payload)));
	tables = frame_state_count(FRAME_TABLE);
	fill_region(&one, L);
	expect_region(&one, L);
	assert_int_equal(frame_state_count(FRAME_TABLE), tables);
	expect_large(&one, 1);
}

static void not_given(void **state)
{
	struct gspace plain;

	(void)state;
	touch(&one, 3, GSPACE_READ); /* a table is there, of zero pages */
	touch(&one, 4, GSPACE_WRITE);
	touch(&one, PAGES - 1, GSPACE_WRITE); /* the region is larger than the rest of the space */
	expect_large(&one, 0);
	one.target = 2 + L - 1;
	touch(&one, L, GSPACE_WRITE);
	expect_large(&one, 0);
	one.target = 3 + L;
	one.alloc.limit = 3 + L - 1;
	touch(&one, 2 * L, GSPACE_WRITE);
	expect_large(&one, 0);
	one.alloc.limit = one.target = PAGES;
	reclaim_set_min_free((FRAMES - L) / 4 + 1);
	touch(&one, 3 * L, GSPACE_WRITE);
	expect_large(&one, 0);
	reclaim_set_min_free(1);
	frame_set_reserve(0);
	assert_int_equal(gspace_init(&plain, "plain", PAGES, &fake_format_plain, &settings), 0);
	touch(&plain, 0, GSPACE_WRITE);
	expect_large(&plain, 0);
	destroy(&plain);
}

static void touch_small(void)
{
	hfn_t hfn;

	assert_int_equal(gspace_balloon_take(&one, 3), 0);
	assert_int_equal(gspace_pin(&one, PAGES - 2, true, &hfn), 0);
	gspace_unpin(&one, PAGES - 2);
}

static void touch_other(void)
{
	touch(&one, 9, GSPACE_WRITE);
}

static void lower_target(void)
{
	one.target = 10;
}

/* While one vCPU clears a block, another is quicker, in one way or another. */
static void two_at_once(void **state)
{
	(void)state;
	on_block = touch_other;
	touch(&one, 5, GSPACE_WRITE);
	expect_large(&one, 1);
	assert_int_equal(one.stats.large_fills, 1);
	assert_int_equal(frame_state_count(FRAME_GUEST), L);
	destroy(&one);
	create(&one, "one");
	on_block = touch_small;
	touch(&one, 5, GSPACE_WRITE);
	expect_large(&one, 0);
	on_block = lower_target;
	touch(&one, L, GSPACE_WRITE);
	expect_large(&one, 0);
	assert_int_equal(one.count[PAGE_PRIVATE], 3);
}

/* ---- split --------------------------------------------------------------- */

/* Each operation on one page, with no frame to be had. */
static void one_page_is_wanted(void **state)
{
	static hfn_t held[FRAMES];
	struct page p;
	u64 *entry;
	hfn_t hfn;
	u32 n;

	(void)state;
	for (gfn_t r = 0; r < 4; r++)
		fill_region(&one, r * L);
	expect_large(&one, 4);
	p = look(&one, 0);
	*p.entry |= FAKE_ACCESSED;
	*look(&one, L).entry |= FAKE_DIRTY;
	n = take_all(held);

	assert_int_equal(gspace_pin(&one, 5, true, &hfn), 0);
	assert_int_equal(hfn, p.payload + 5);
	expect_large(&one, 3);
	entry = look(&one, 6).entry;
	assert_true(*entry & FAKE_ACCESSED);
	assert_false(*entry & FAKE_DIRTY);
	assert_int_equal(one.count[PAGE_PINNED], 1);
	gspace_unpin(&one, 5);

	assert_int_equal(gspace_balloon_take(&one, L + 1), 0);
	expect_large(&one, 2);
	assert_true(*look(&one, L + 2).entry & FAKE_DIRTY);
	assert_int_equal(gspace_swap_out_begin(&one, 2 * L + 3, &hfn), 0);
	expect_large(&one, 1);
	gspace_swap_out_failed(&one, 2 * L + 3, hfn);
	hfn = look(&one, 3 * L + 9).payload;
	gspace_flush(&one); /* a frame, and more, come free: the reverse map needs some */
	give_all(held, 5);
	assert_int_equal(gspace_share_protect(&one, 3 * L + 9, hfn, false), 0);
	expect_large(&one, 0);
	gspace_share_undo(&one, 3 * L + 9, hfn);
	assert_int_equal(one.stats.large_splits, 4);
	give_all(held + 5, n - 5);
	expect_region(&one, 0);
	expect_region(&one, 2 * L);
	expect_region(&one, 3 * L);
	expect_stamp(&one, L + 2, one.id * 100000 + L + 2);
}

static void accessed_of_a_leaf(void **state)
{
	bool was;

	(void)state;
	touch(&one, 0, GSPACE_WRITE);
	*look(&one, 0).entry |= FAKE_ACCESSED;
	assert_int_equal(gspace_test_accessed(&one, 77, &was), 0);
	assert_true(was);
	assert_int_equal(gspace_test_accessed(&one, 78, &was), 0);
	assert_false(was);
	expect_large(&one, 1);
}

static void the_coldest_breaks_first(void **state)
{
	struct prng rnd;
	u32 cold = 0;
	gfn_t gfn;

	(void)state;
	prng_seed(&rnd, 5);
	for (gfn_t r = 0; r < 4; r++)
		touch(&one, r * L, GSPACE_WRITE);
	for (u32 i = 0; i < 200; i++) {
		for (gfn_t r = 0; r < 4; r++)
			if (r != 2)
				*look(&one, r * L).entry |= FAKE_ACCESSED;
		assert_true(gspace_random_private(&one, &rnd, &gfn));
		cold += gfn / L == 2;
	}
	assert_true(cold > 90); /* a hot one has a second chance, not a third; by chance alone it were 50 */
	gspace_flush(&one);
	destroy(&one);
	create(&one, "one"); /* one hot page only: better than none */
	touch(&one, L, GSPACE_WRITE);
	for (u32 i = 0; i < 50; i++) {
		*look(&one, L).entry |= FAKE_ACCESSED;
		assert_true(gspace_random_private(&one, &rnd, &gfn));
		assert_int_equal(gfn / L, 1);
	}
	gspace_flush(&one);
}

static void swapped_and_back(void **state)
{
	(void)state;
	fill_region(&one, 0);
	for (u32 i = 0; i < 20; i++) {
		assert_true(swap_out(&one, 16) > 0);
		fake_blk_drain();
	}
	expect_large(&one, 0);
	assert_true(one.count[PAGE_SWAPPED] >= 200);
	for (gfn_t gfn = 0; gfn < L; gfn++)
		if (gspace_touch(&one, gfn, GSPACE_READ) == E_AGAIN)
			fake_blk_drain();
	expect_region(&one, 0);
}

/* ---- sharing ------------------------------------------------------------- */

static void scan_all(void)
{
	for (u32 i = 0; i < 60; i++) {
		fake_now_ns += NSEC_PER_SEC;
		share_scan(1000);
	}
}

static void sharing_breaks_what_matches(void **state)
{
	struct share_stats s;

	(void)state;
	create(&two, "two");
	fill_region(&one, 0);
	fill_region(&one, L);
	fill_region(&two, 0);
	fill(&one, 5, 4711);
	fill(&two, 9, 4711);
	expect_large(&one, 2);
	scan_all(); /* plenty: passed by */
	share_stats(&s);
	assert_int_equal(s.scanned, 0);
	assert_int_equal(frame_get(look(&one, 0).payload)->flags, FRAME_F_WHOLE);

	reclaim_set_min_free(FRAMES / 3);
	scan_all();
	assert_int_equal(gspace_state(&one, 5), PAGE_SHARED);
	assert_int_equal(gspace_state(&two, 9), PAGE_SHARED);
	assert_int_equal(one.count[PAGE_SHARED] + two.count[PAGE_SHARED], 2);
	expect_large(&one, 1); /* the region with no match is whole, and has hints */
	expect_large(&two, 0);
	assert_true(frame_get(look(&one, L).payload)->flags & FRAME_F_HINT);
	expect_region(&one, L);

	/* It goes with its hints: as one block. */
	gspace_flush(&one);
	assert_int_equal(gspace_balloon_take_large(&one, L, &(gfn_t){0}), 0);
	assert_int_equal(frame_get(one.limbo)->order, FRAME_ORDER_LARGE);
	expect_large(&one, 0);
	destroy(&two);
}

static void zero_pages_break_it(void **state)
{
	(void)state;
	fill_region(&one, 0);
	assert_int_equal(gspace_write(&one, GPA(3 * PAGE_SIZE), (u8[PAGE_SIZE]){0}, PAGE_SIZE), 0);
	assert_false(share_offer(&one, 4));
	expect_large(&one, 1);
	assert_true(share_offer(&one, 3));
	expect_large(&one, 0);
	assert_int_equal(gspace_state(&one, 3), PAGE_ZERO);
}

/* ---- balloon units ------------------------------------------------------- */

static void units(void **state)
{
	u32 free;
	gfn_t at;

	(void)state;
	touch(&one, 0, GSPACE_WRITE);
	fill_region(&one, L);
	free = frame_free_count();
	assert_int_equal(gspace_balloon_take_large(&one, L, &at), 0);
	assert_int_equal(frame_get(one.limbo)->order, FRAME_ORDER_LARGE);
	assert_int_equal(frame_get(one.limbo)->next, HFN_NONE);
	gspace_flush(&one);
	assert_int_equal(frame_free_count(), free + L + 1); /* and the spare */
	assert_int_equal(one.count[PAGE_BALLOONED], L);
	expect_large(&one, 1);
	assert_int_equal(gspace_balloon_take_large(&one, L, &at), E_INVAL);
	assert_int_equal(gspace_balloon_take(&one, L + 3), E_INVAL);
	assert_int_equal(gspace_balloon_take_large(&one, 2 * L, &at), 0); /* never touched */
	assert_int_equal(gspace_balloon_take_large(&one, 4 * L, &at), E_INVAL);
	assert_int_equal(gspace_balloon_take_large(&one, 7, &at), E_INVAL);
	assert_int_equal(gspace_balloon_take_large(&one, 9 * L, &at), E_INVAL);
	assert_int_equal(gspace_balloon_give_large(&one, 9 * L), 0);
	assert_int_equal(gspace_balloon_give_large(&one, 0), 0); /* not ballooned */
	assert_int_equal(gspace_balloon_give_large(&one, 3 * L), 0);
	assert_int_equal(gspace_balloon_give_large(&one, L), L);
	touch(&one, L + 5, GSPACE_WRITE); /* and so it has a large page again */
	expect_large(&one, 2);
	assert_true(page_is_zero(mm_hfn_to_va(look(&one, L).payload)));
	assert_int_equal(one.stats.balloon_out, 2 * L);
	assert_int_equal(one.stats.balloon_back, L);
}

/* One page of a ballooned unit comes back, or is used though it was given up. */
static void a_unit_in_parts(void **state)
{
	gfn_t at;

	(void)state;
	assert_int_equal(gspace_balloon_take_large(&one, 0, &at), 0);
	assert_int_equal(gspace_balloon_take_large(&one, L, &at), 0);
	assert_int_equal(gspace_balloon_give(&one, 7), 0);
	assert_int_equal(gspace_balloon_give(&one, 7), E_INVAL);
	assert_int_equal(one.count[PAGE_BALLOONED], 2 * L - 1);
	touch(&one, L + 9, GSPACE_WRITE);
	assert_int_equal(one.stats.balloon_broken, 1);
	assert_int_equal(one.count[PAGE_BALLOONED], 2 * L - 2);
	expect_large(&one, 0);
	assert_int_equal(gspace_balloon_take_large(&one, 0, &at), E_BUSY);
	assert_int_equal(at, 0);
	assert_int_equal(gspace_balloon_give_large(&one, 0), L - 1); /* its table was empty, and went */
	touch(&one, 0, GSPACE_WRITE);
	expect_large(&one, 1);
	assert_int_equal(gspace_balloon_give_large(&one, L), L - 1);
	assert_int_equal(look(&one, L).level, 1);
}

static void a_unit_of_single_pages(void **state)
{
	u32 tables;
	hfn_t hfn;
	gfn_t at;

	(void)state;
	fill_singly(&one, 0);
	touch(&one, 2 * L, GSPACE_READ);
	expect_large(&one, 0);
	assert_int_equal(gspace_pin(&one, 100, true, &hfn), 0);
	tables = one.pt.tables;
	assert_int_equal(gspace_balloon_take_large(&one, 0, &at), E_BUSY);
	assert_int_equal(at, 100);
	assert_int_equal(one.count[PAGE_BALLOONED], 0);
	expect_region(&one, 0);
	gspace_unpin(&one, 100);
	assert_int_equal(gspace_balloon_take_large(&one, 0, &at), 0);
	assert_int_equal(one.count[PAGE_BALLOONED], L);
	assert_int_equal(one.pt.tables, tables - 1); /* one token instead */
	gspace_flush(&one);
	assert_int_equal(look(&one, 3).level, 2);
	assert_int_equal(gspace_balloon_take_large(&one, 2 * L, &at), 0);
	expect_large(&one, 0);
}

/* ---- rebuild ------------------------------------------------------------- */

static void in_place(void **state)
{
	u32 shootdowns;
	hfn_t hfn;

	(void)state;
	fill_region(&one, L);
	hfn = look(&one, L).payload;
	assert_int_equal(gspace_pin(&one, L + 5, true, &(hfn_t){0}), 0);
	assert_int_equal(gspace_rebuild(&one, 10), 0); /* pinned */
	gspace_unpin(&one, L + 5);
	shootdowns = fake_mm.shootdowns;
	assert_int_equal(gspace_rebuild(&one, 1), 0); /* another region's turn */
	assert_int_equal(gspace_rebuild(&one, 10), 1);
	assert_int_equal(fake_mm.shootdowns, shootdowns + 1);
	assert_int_equal(look(&one, L).payload, hfn);
	expect_large(&one, 1);
	expect_region(&one, L);
	assert_int_equal(one.stats.large_rebuilt, 1);
	assert_int_equal(gspace_rebuild(&one, 10), 0);
}

static void by_copy(void **state)
{
	(void)state;
	create(&two, "two");
	fill_singly(&one, 0);
	reclaim_set_min_free(FRAMES / 3);
	scan_all(); /* hints */
	reclaim_set_min_free(1);
	frame_set_reserve(0);
	expect_large(&one, 0);
	assert_true(frame_get(look(&one, 5).payload)->flags & FRAME_F_HINT);
	assert_int_equal(gspace_rebuild(&one, 10), 1);
	expect_large(&one, 1);
	assert_int_equal(frame_get(look(&one, 0).payload)->flags, FRAME_F_WHOLE);
	expect_region(&one, 0);
	gspace_flush(&one);
	assert_int_equal(frame_state_count(FRAME_GUEST), L);
	destroy(&two);
}

static void write_meanwhile(void)
{
	fill(&one, 33, 99);
}

static void on_shootdown(struct gspace *gs)
{
	if (gs != &one || one.moving == GFN_NONE)
		return;
	fake_mm_on_shootdown = NULL;
	write_meanwhile();
}

static void verify_meanwhile(void)
{
	assert_int_equal(one.moving, 0);
	assert_int_equal(gspace_verify_all(), 0);
	assert_int_equal(one.moving, GFN_NONE);
}

/* Somebody uses the region before its copy is mapped: it stays as it was, with what was written. */
static void touched_meanwhile(void **state)
{
	(void)state;
	fill_singly(&one, 0);
	fake_mm_on_shootdown = on_shootdown;
	assert_int_equal(gspace_rebuild(&one, 10), 0);
	assert_null(fake_mm_on_shootdown);
	expect_large(&one, 0);
	expect_stamp(&one, 33, 99);
	on_block = write_meanwhile;
	fill(&one, 33, 1);
	assert_int_equal(gspace_rebuild(&one, 10), 0);
	expect_stamp(&one, 33, 99);
	on_block = verify_meanwhile;
	assert_int_equal(gspace_rebuild(&one, 10), 0);
	fill(&one, 33, one.id * 100000 + 33);
	assert_int_equal(gspace_rebuild(&one, 10), 1);
	expect_large(&one, 1);
	expect_region(&one, 0);
}

static void not_rebuilt(void **state)
{
	hfn_t hfn;

	(void)state;
	fill_singly(&one, 0);
	assert_int_equal(gspace_swap_out_begin(&one, 9, &hfn), 0);
	assert_int_equal(gspace_rebuild(&one, 10), 0);
	touch(&one, 9, GSPACE_READ); /* rescued, the transfer goes on */
	assert_int_equal(gspace_rebuild(&one, 10), 0);
	gspace_swap_out_failed(&one, 9, hfn);
	assert_int_equal(gspace_share_protect(&one, 9, hfn, false), 0);
	assert_int_equal(gspace_rebuild(&one, 10), 0);
	gspace_share_undo(&one, 9, hfn);
	assert_int_equal(gspace_balloon_take(&one, 9), 0);
	assert_int_equal(gspace_rebuild(&one, 10), 0);
	fill(&one, 9, one.id * 100000 + 9);
	assert_int_equal(gspace_rebuild(&one, 10), 1);
	expect_region(&one, 0);
	touch(&one, PAGES - 1, GSPACE_WRITE); /* a region that is not whole */
	assert_int_equal(gspace_rebuild(&one, 10), 0);
	touch(&one, L, GSPACE_READ); /* a table that is left empty goes */
	assert_int_equal(gspace_balloon_take(&one, L), 0);
	assert_int_equal(gspace_balloon_give(&one, L), 0);
	assert_int_equal(look(&one, L).level, 1);
	assert_int_equal(gspace_rebuild(&one, 10), 0);
	assert_int_equal(look(&one, L).level, 2);
}

/* The balance period rebuilds while there is plenty, one at a time; not otherwise. */
static void reclaim_rebuilds(void **state)
{
	(void)state;
	reclaim_add(&one);
	fill_singly(&one, 0);
	fill_singly(&one, L);
	reclaim_set_min_free(FRAMES / 3);
	frame_set_reserve(0);
	fake_now_ns += NSEC_PER_SEC;
	reclaim_step(fake_now_ns);
	expect_large(&one, 0);
	reclaim_set_min_free(1);
	frame_set_reserve(0);
	fake_now_ns += NSEC_PER_SEC;
	reclaim_step(fake_now_ns);
	expect_large(&one, 1);
	fake_now_ns += NSEC_PER_SEC;
	reclaim_step(fake_now_ns);
	expect_large(&one, 2);
	expect_region(&one, 0);
	expect_region(&one, L);
	reclaim_remove(&one);
}

/* ---- refusals ------------------------------------------------------------ */

static void try_touch(void)
{
	int err = gspace_touch(&one, L + 3, GSPACE_WRITE);

	assert_true(!err || err == E_AGAIN);
}

static void try_rebuild(void)
{
	gspace_rebuild(&one, 10);
}

static void try_take(void)
{
	gfn_t at;
	int err = gspace_balloon_take_large(&one, 3 * L, &at);

	assert_true(!err || err == E_BUSY || gspace_state(&one, 3 * L) == PAGE_BALLOONED);
}

static void try_give(void)
{
	int err = gspace_balloon_give(&one, 3 * L + 1);

	assert_true(!err || err == E_BUSY || gspace_state(&one, 3 * L + 1) == PAGE_ABSENT);
}

/* op with the n-th allocation and all later ones refused, for every n that matters. */
static void refuse_each(void (*prepare)(void), void (*op)(void))
{
	for (u32 n = 0; n < 8; n++) {
		destroy(&one);
		create(&one, "one");
		if (prepare)
			prepare();
		fail_after = n;
		op();
		fail_after = ~0U;
		assert_int_equal(gspace_verify_all(), 0);
		if (prepare)
			expect_region(&one, 0);
		op();
		gspace_flush(&one);
		assert_int_equal(gspace_verify_all(), 0);
		frame_verify();
	}
}

static void singles(void)
{
	gfn_t at;

	fill_singly(&one, 0);
	assert_int_equal(gspace_balloon_take_large(&one, 3 * L, &at), 0);
}

static void every_refusal(void **state)
{
	(void)state;
	refuse_each(NULL, try_touch);
	expect_large(&one, 1);
	refuse_each(NULL, try_take);
	assert_int_equal(one.count[PAGE_BALLOONED], L);
	refuse_each(singles, try_rebuild);
	expect_large(&one, 1);
	refuse_each(singles, try_give);
}

/* ---- end ----------------------------------------------------------------- */

static void ends_with_all_kinds(void **state)
{
	gfn_t at;

	(void)state;
	create(&two, "two");
	touch(&two, 0, GSPACE_WRITE);
	assert_int_equal(gspace_balloon_take_large(&two, L, &at), 0);
	fill_region(&two, 2 * L);
	fill_singly(&two, 3 * L);
	reclaim_set_min_free(FRAMES / 3);
	scan_all();
	assert_true(frame_get(look(&two, 2 * L).payload)->flags & FRAME_F_HINT);
	expect_large(&two, 1); /* the first was all zero */
	destroy(&two);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(first_write, start, stop),
	    cmocka_unit_test_setup_teardown(not_given, start, stop),
	    cmocka_unit_test_setup_teardown(two_at_once, start, stop),
	    cmocka_unit_test_setup_teardown(one_page_is_wanted, start, stop),
	    cmocka_unit_test_setup_teardown(accessed_of_a_leaf, start, stop),
	    cmocka_unit_test_setup_teardown(the_coldest_breaks_first, start, stop),
	    cmocka_unit_test_setup_teardown(swapped_and_back, start, stop),
	    cmocka_unit_test_setup_teardown(sharing_breaks_what_matches, start, stop),
	    cmocka_unit_test_setup_teardown(zero_pages_break_it, start, stop),
	    cmocka_unit_test_setup_teardown(units, start, stop),
	    cmocka_unit_test_setup_teardown(a_unit_in_parts, start, stop),
	    cmocka_unit_test_setup_teardown(a_unit_of_single_pages, start, stop),
	    cmocka_unit_test_setup_teardown(in_place, start, stop),
	    cmocka_unit_test_setup_teardown(by_copy, start, stop),
	    cmocka_unit_test_setup_teardown(touched_meanwhile, start, stop),
	    cmocka_unit_test_setup_teardown(not_rebuilt, start, stop),
	    cmocka_unit_test_setup_teardown(reclaim_rebuilds, start, stop),
	    cmocka_unit_test_setup_teardown(every_refusal, start, stop),
	    cmocka_unit_test_setup_teardown(ends_with_all_kinds, start, stop),
	};

	return cmocka_run_group_tests_name("gspace_large", tests, NULL, NULL);
}
