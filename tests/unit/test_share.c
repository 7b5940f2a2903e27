/* Page sharing: what is found, what is never shared, what writes do to it, and in which order the scanner goes. */
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
#include "mm/lot.h"
#include "mm/platform.h"
#include "mm/rmap.h"
#include "mm/share.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/share_test.h"
#include "tests/unit/space_test.h"

static const struct mem_alloc settings = {.limit = PAGES, .shares = 40};

/* ---- what is shared ------------------------------------------------------ */

static void zero_pages(void **state)
{
	u32 before;

	(void)state;
	for (gfn_t g = 20; g--;) /* in order it would be given more */
		assert_int_equal(gspace_touch(&a, g, GSPACE_WRITE), 0);
	fill(&a, 20, 1);
	before = frame_free_count();
	scan_all();
	assert_int_equal(a.count[PAGE_ZERO], 20);
	assert_int_equal(a.count[PAGE_PRIVATE], 1);
	assert_true(frame_free_count() >= before + 20 - 7); /* the first frames of tables came */
	assert_int_equal(stats().zero_found, 20);
	assert_int_equal(a.stats.zero_in, 20);
	assert_int_equal(frame_get(frame_zero())->refs, 20);
	fill(&a, 3, 5);
	expect_stamp(&a, 3, 5);
	expect_stamp(&a, 4, 0);
	assert_true(page_is_zero(mm_hfn_to_va(frame_zero())));
}

static void equal_pages(void **state)
{
	(void)state;
	for (gfn_t g = 0; g < 30; g++) {
		fill(&a, g, g + 1);
		fill(&b, g + 100, g + 1);
	}
	fill(&a, 50, 77);
	scan_all();
	for (gfn_t g = 0; g < 30; g++) {
		assert_int_equal(hfn_of(&a, g), hfn_of(&b, g + 100));
		expect_stamp(&a, g, g + 1);
		expect_stamp(&b, g + 100, g + 1);
	}
	expect_state(&a, 50, PAGE_PRIVATE);
	assert_int_equal(stats().matches, 30);
	assert_int_equal(stats().shared_frames, 30);
	assert_int_equal(stats().shared_pages, 60);
	assert_int_equal(stats().false_matches, 0);
	/* Charged half each. */
	assert_int_equal(gspace_consumed(&a), 15 + 1);
	assert_int_equal(gspace_consumed(&b), 15);
	assert_int_equal(a.tlb_stale | b.tlb_stale, 0);
}

static void within_one_space(void **state)
{
	(void)state;
	for (gfn_t g = 0; g < 10; g++)
		fill(&a, g, 9);
	scan_all();
	assert_int_equal(a.count[PAGE_SHARED], 10);
	assert_int_equal(frame_state_count(FRAME_SHARED), 1);
	assert_int_equal(rmap_refs(hfn_of(&a, 0)), 10);
	assert_int_equal(gspace_consumed(&a), 1);
}

static void references_are_bounded(void **state)
{
	(void)state;
	for (gfn_t g = 0; g < RMAP_REFS_MAX + 44; g++)
		fill(&a, g, 9);
	scan_all();
	assert_int_equal(a.count[PAGE_SHARED], RMAP_REFS_MAX + 44);
	assert_int_equal(frame_state_count(FRAME_SHARED), 2);
	for (gfn_t g = 0; g < RMAP_REFS_MAX + 44; g++)
		assert_true(rmap_refs(hfn_of(&a, g)) <= RMAP_REFS_MAX);
}

/* ---- writes -------------------------------------------------------------- */

/* Equal content in different groups: each has its own frames, and only zero is everybody's. */
static void strangers_do_not_share(void **state)
{
	(void)state;
	b.share_group = share_group("strangers");
	for (gfn_t g = 0; g < 20; g++) {
		fill(&a, g, 100 + g % 4);
		fill(&b, g, 100 + g % 4);
	}
	fill(&a, 30, 500);
	fill(&b, 30, 500);
	assert_int_equal(gspace_touch(&a, 31, GSPACE_WRITE), 0);
	assert_int_equal(gspace_touch(&b, 31, GSPACE_WRITE), 0);
	scan_all();
	for (gfn_t g = 0; g < 20; g++)
		assert_false(share_offer(&a, g) || share_offer(&b, g));
	assert_int_equal(a.count[PAGE_SHARED], 20);
	assert_int_equal(b.count[PAGE_SHARED], 20);
	assert_int_equal(stats().shared_frames, 8);
	for (gfn_t g = 0; g < 20; g++)
		for (gfn_t h = 0; h < 20; h++)
			assert_int_not_equal(hfn_of(&a, g), hfn_of(&b, h));
	expect_state(&a, 30, PAGE_PRIVATE);
	expect_state(&b, 30, PAGE_PRIVATE);
	assert_int_equal(hfn_of(&a, 31), frame_zero());
	assert_int_equal(hfn_of(&b, 31), frame_zero());
	for (gfn_t g = 0; g < 20; g++) {
		expect_stamp(&a, g, 100 + g % 4);
		expect_stamp(&b, g, 100 + g % 4);
	}
}

static void groups(void **state)
{
	u64 alone = share_group(NULL), other = share_group(NULL);

	(void)state;
	assert_true(share_group("x") == share_group("x"));
	assert_true(share_group("x") != share_group("y"));
	assert_true(alone != other && alone != share_group("x"));
	while (!gspace_destroy_some(&b, 100))
		;
	assert_int_equal(gspace_init(&b, "b", PAGES, &fake_format, &settings), 0);
	assert_true(b.share_group != a.share_group && b.share_group != alone && b.share_group != other);
}

static void writes_part(void **state)
{
	u32 before, shootdowns;
	hfn_t hfn;

	(void)state;
	share_two(6);
	hfn = hfn_of(&a, 1);
	fill(&a, 1, 7);
	expect_state(&a, 1, PAGE_PRIVATE);
	assert_int_not_equal(hfn_of(&a, 1), hfn);
	expect_state(&b, 2, PAGE_SHARED); /* alone, until it writes */
	expect_stamp(&b, 2, 6);
	assert_int_equal(a.stats.cow_breaks, 1);
	/* The last mapper takes the frame itself: nothing is copied or allocated. */
	before = frame_free_count();
	shootdowns = fake_mm.shootdowns;
	fill(&b, 2, 8);
	assert_int_equal(frame_free_count(), before);
	assert_int_equal(fake_mm.shootdowns, shootdowns);
	assert_int_equal(hfn_of(&b, 2), hfn);
	expect_state(&b, 2, PAGE_PRIVATE);
	expect_stamp(&a, 1, 7);
	expect_stamp(&b, 2, 8);
	assert_int_equal(stats().cow_breaks, 2);
	assert_int_equal(frame_state_count(FRAME_SHARED), 0);
}

/*
 * While some space may still translate to a frame it has dropped, the last mapper does not write into it but copies,
 * and the frame is freed only after that space's flush.
 */
static void last_mapper_waits_for_stale_spaces(void **state)
{
	u32 flushed;
	hfn_t hfn;

	(void)state;
	share_two(6);
	hfn = hfn_of(&a, 1);
	assert_int_equal(gspace_balloon_take(&a, 1), 0); /* no flush yet */
	assert_true(a.tlb_stale);
	flushed = fake_mm.shootdowns;
	fill(&b, 2, 8);
	assert_int_not_equal(hfn_of(&b, 2), hfn);
	assert_int_equal(fake_mm.shootdowns, flushed + 2);
	assert_false(a.tlb_stale);
	assert_int_equal(frame_get(hfn)->state == FRAME_SHARED, false);
	expect_stamp(&b, 2, 8);
}

static void give_up_shared(void **state)
{
	u32 before;

	(void)state;
	share_two(6);
	before = frame_free_count();
	assert_int_equal(gspace_balloon_take(&a, 1), 0);
	gspace_flush(&a);
	assert_int_equal(frame_free_count(), before);
	expect_state(&b, 2, PAGE_SHARED);
	assert_int_equal(gspace_balloon_take(&b, 2), 0);
	gspace_flush(&b);
	assert_true(frame_free_count() > before);
	assert_int_equal(stats().shared_frames, 0);
	/* Its entry is gone with it: an equal page finds nothing. */
	fill(&a, 5, 6);
	assert_false(share_offer(&a, 5));
}

static void out_of_frames(void **state)
{
	static hfn_t held[FRAMES];
	u32 n = 0;

	(void)state;
	share_two(6);
	while ((held[n] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false)) != HFN_NONE)
		n++;
	assert_int_equal(gspace_touch(&a, 1, GSPACE_WRITE), E_AGAIN);
	expect_state(&a, 1, PAGE_SHARED);
	expect_stamp(&a, 1, 6);
	while (n--)
		frame_free(held[n], 0);
	fill(&a, 1, 1);
}

static void no_memory_for_the_table(void **state)
{
	static hfn_t held[FRAMES];
	u32 n = 0;

	(void)state;
	fill(&a, 1, 6);
	fill(&b, 2, 6);
	while ((held[n] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false)) != HFN_NONE)
		n++;
	scan_all();
	expect_state(&a, 1, PAGE_PRIVATE);
	assert_true(stats().scanned > 0);
	assert_int_equal(stats().table_bytes, 0);
	while (n--)
		frame_free(held[n], 0);
	scan_all();
	expect_state(&a, 1, PAGE_SHARED);
}

static void table_size(void **state)
{
	(void)state;
	for (gfn_t g = 0; g < PAGES; g++)
		fill(&a, g, 1000 + g);
	scan_all();
	assert_int_equal(stats().hints, PAGES);
	/* A full one: 16 bytes an entry, 4 a head, and at most three frames of directories and rounding. */
	assert_true(stats().table_bytes <= PAGES * 16 + FRAMES * 2 + 4 * PAGE_SIZE);
}

/* ---- the frames that are shared ------------------------------------------ */

static bool is_among(hfn_t hfn, const hfn_t *frames, u32 n)
{
	for (u32 i = 0; i < n; i++)
		if (frames[i] == hfn)
			return true;
	return false;
}

/* Neither of two equal pages decides in which frame they are shared. */
static void nobody_chooses_the_frame(void **state)
{
	hfn_t own[40];
	u32 up = 0;

	(void)state;
	for (gfn_t g = 0; g < 20; g++) {
		fill(&a, g, g + 1);
		fill(&b, g, g + 1);
		own[2 * g] = hfn_of(&a, g);
		own[2 * g + 1] = hfn_of(&b, g);
	}
	scan_all();
	for (gfn_t g = 0; g < 20; g++) {
		assert_int_equal(hfn_of(&a, g), hfn_of(&b, g));
		expect_stamp(&a, g, g + 1);
		if (g >= 10) /* their old frames are drawn themselves in the end */
			continue;
		up += hfn_of(&a, g) < hfn_of(&a, g + 1);
	}
	assert_in_range(up, 1, 9);
	/* The first two, before any of these frames came back. */
	fill(&a, 30, 500);
	fill(&b, 30, 500);
	own[0] = hfn_of(&a, 30);
	own[1] = hfn_of(&b, 30);
	scan_all();
	expect_state(&a, 30, PAGE_SHARED);
	assert_false(is_among(hfn_of(&a, 30), own, 2));
}

/*
 * A VM that shares with itself again and again does not fill the lot with frames that it chose: they come in the draw
 * of others as often as any that are free, here less than one in three.
 */
static void nobody_fills_the_lot(void **state)
{
	enum { OWN = 300, VICTIMS = 100 };
	static hfn_t own[2 * OWN];
	u32 hits = 0;

	(void)state;
	for (gfn_t g = 0; g < OWN; g++) {
		fill(&a, g, g + 1);
		fill(&a, OWN + g, g + 1);
		own[2 * g] = hfn_of(&a, g);
		own[2 * g + 1] = hfn_of(&a, OWN + g);
	}
	scan_all();
	assert_int_equal(a.count[PAGE_SHARED], 2 * OWN);
	for (gfn_t g = 0; g < VICTIMS; g++) {
		fill(&b, g, 1000 + g);
		fill(&b, 500 + g, 1000 + g);
	}
	scan_all();
	for (gfn_t g = 0; g < VICTIMS; g++) {
		expect_state(&b, g, PAGE_SHARED);
		hits += is_among(hfn_of(&b, g), own, 2 * OWN);
	}
	print_message("%u of %u in a frame of the other VM's choice\n", hits, (u32)VICTIMS);
	assert_true(hits < VICTIMS / 2);
}

/* Any of the frames is as likely as any other, and there is no draw from a few. */
static void lot_is_fair(void **state)
{
	u32 drawn[LOT_MIN] = {0};
	struct lot lot = {.count = 0};
	hfn_t all[LOT_MIN];
	struct prng rnd;

	(void)state;
	prng_seed(&rnd, 1);
	lot_fill(&lot, &rnd);
	assert_int_equal(lot.count, LOT_MIN);
	for (u32 i = 0; i < LOT_MIN; i++)
		all[i] = lot.frame[i];
	for (u32 seed = 0; seed < 100 * LOT_MIN; seed++) {
		hfn_t hfn;

		prng_seed(&rnd, seed);
		hfn = lot_draw(&lot, &rnd);
		assert_int_equal(frame_get(hfn)->state, FRAME_HV);
		for (u32 i = 0; i < LOT_MIN; i++)
			drawn[i] += all[i] == hfn;
		lot_return(&lot, hfn);
	}
	for (u32 i = 0; i < LOT_MIN; i++)
		assert_in_range(drawn[i], 50, 150);
	for (u32 left = LOT_MIN; left >= LOT_MIN / LOT_LEAST_PART; left--)
		frame_free(lot_draw(&lot, &rnd), 0);
	assert_int_equal(lot_draw(&lot, &rnd), HFN_NONE);
	lot_fill(&lot, &rnd);
	assert_int_equal(lot.count, LOT_MIN / LOT_LEAST_PART - 1 + LOT_MIN);
	lot_release(&lot);
}

/* Sharing needs a frame before it frees two: it goes on when there is no other memory. */
static void sharing_without_memory(void **state)
{
	static hfn_t held[FRAMES];
	u32 n = 0;

	(void)state;
	share_two(6);
	for (gfn_t g = 100; g < 150; g++) {
		fill(&a, g, g);
		fill(&b, g, g);
	}
	while ((held[n] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false)) != HFN_NONE)
		n++;
	scan_all();
	assert_true(a.count[PAGE_SHARED] > 40);
	assert_true(frame_free_count() > 40 - LOT_MIN);
	while (n--)
		frame_free(held[n], 0);
	scan_all();
	assert_int_equal(a.count[PAGE_SHARED], 51);
}

/* ---- what is not shared -------------------------------------------------- */

static void stale_hint(void **state)
{
	(void)state;
	fill(&b, 2, 6);
	scan_all(); /* hint */
	assert_int_equal(share_hinted(b.id), 1);
	fill(&b, 2, 7);
	fill(&a, 1, 6);
	assert_false(share_offer(&a, 1));
	expect_state(&a, 1, PAGE_PRIVATE);
	expect_state(&b, 2, PAGE_PRIVATE); /* and writable again, as verify has checked */
	expect_stamp(&a, 1, 6);
	expect_stamp(&b, 2, 7);
	assert_int_equal(stats().false_matches, 0); /* the hash told */
	/* The stale entry is gone; a new scan finds what there is now. */
	fill(&a, 3, 7);
	scan_all();
	expect_state(&a, 3, PAGE_SHARED);
	expect_state(&b, 2, PAGE_SHARED);
	assert_int_equal(share_hinted(a.id), 1);
	assert_int_equal(share_hinted(b.id), 0);
}

static void busy_pages(void **state)
{
	hfn_t hfn;

	(void)state;
	fill(&a, 1, 6);
	fill(&b, 2, 6);
	scan_all();
	fill(&b, 3, 6);
	fill(&b, 4, 6);
	fill(&b, 5, 6);
	assert_int_equal(gspace_pin(&b, 3, false, &hfn), 0);
	assert_false(share_offer(&b, 3));
	gspace_unpin(&b, 3);
	assert_int_equal(gspace_swap_out_begin(&b, 4, &hfn), 0);
	assert_false(share_offer(&b, 4));
	assert_int_equal(gspace_touch(&b, 4, GSPACE_WRITE), 0); /* rescued; its frame is still read by a device */
	assert_false(share_offer(&b, 4));
	gspace_swap_out_failed(&b, 4, hfn);
	assert_true(share_offer(&b, 3));
	assert_true(share_offer(&b, 4));
	assert_true(share_offer(&b, 5));
	assert_false(share_offer(&b, 5));
	assert_false(share_offer(&b, PAGES + 1));
	assert_false(share_offer(&b, 900));
}

static void hint_of_a_dying_space(void **state)
{
	(void)state;
	fill(&b, 2, 6);
	fill(&b, 999, 6 + 1);
	scan_all();
	gspace_destroy_some(&b, 0);
	fill(&a, 1, 6);
	assert_false(share_offer(&a, 1));
	expect_state(&a, 1, PAGE_PRIVATE);
}

/* ---- the scanner --------------------------------------------------------- */

static void rates(void **state)
{
	u32 n = 0;

	(void)state;
	for (gfn_t g = 0; g < PAGES; g++) {
		fill(&a, g, 2 * g + 1);
		fill(&b, g, 2 * g + 2);
	}
	share_set_rate(1000, 200);
	fake_now_ns += NSEC_PER_SEC;
	assert_int_equal(share_scan(10000), 2 * (200 / 4 + 1)); /* a quarter of a second's at most, for each */
	assert_int_equal(share_scan(10000), 0);
	for (u32 ms = 0; ms < 1000; ms += 3) {
		fake_now_ns += 3 * NSEC_PER_MSEC;
		n += share_scan(10000);
	}
	assert_in_range(n, 395, 405);

	share_set_rate(100, 200); /* the host's is less than the VMs' */
	n = 0;
	fake_now_ns += NSEC_PER_SEC;
	assert_int_equal(share_scan(10000), 100 / 4 + 1);
	for (u32 ms = 0; ms < 1000; ms += 3) {
		fake_now_ns += 3 * NSEC_PER_MSEC;
		n += share_scan(10000);
	}
	assert_in_range(n, 98, 102);
	assert_in_range(a.scan_pos - b.scan_pos + 60, 0, 120); /* both had their part */

	share_set_rate(0, 200);
	fake_now_ns += NSEC_PER_SEC;
	assert_int_equal(share_scan(100), 0);
	share_set_rate(200, 0);
	fake_now_ns += NSEC_PER_SEC;
	assert_int_equal(share_scan(100), 0);
	share_set_rate(1000000, 1000000);
	fake_now_ns += NSEC_PER_SEC;
	assert_int_equal(share_scan(77), 77);
}

/* Every page once in a pass, in an order that differs from pass to pass. */
static void scan_order(void **state)
{
	struct share_stats s;
	u64 key;

	(void)state;
	for (gfn_t g = 0; g < PAGES; g++)
		fill(&a, g, g + 1);
	while (gspace_destroy_some(&b, 1000) == false)
		;
	fake_now_ns += NSEC_PER_SEC;
	assert_int_equal(share_scan(PAGES), PAGES);
	share_stats(&s);
	assert_int_equal(s.hints, PAGES); /* none twice, none left out */
	assert_int_equal(share_hinted(a.id), PAGES);
	assert_int_equal(a.scan_pos, PAGES);
	key = a.scan_key;
	fake_now_ns += NSEC_PER_SEC;
	assert_int_equal(share_scan(1), 1);
	assert_int_not_equal(a.scan_key, key);
	assert_int_equal(gspace_init(&b, "b", PAGES, &fake_format, &settings), 0);
}

static void nothing_to_scan(void **state)
{
	(void)state;
	fake_now_ns += NSEC_PER_SEC;
	assert_int_equal(share_scan(100), 0);
	assert_true(a.scan_pos <= 16 * 100); /* bounded also when nothing is private */
	while (!gspace_destroy_some(&a, 100))
		;
	while (!gspace_destroy_some(&b, 100))
		;
	assert_int_equal(share_scan(100), 0);
	assert_int_equal(gspace_init(&a, "a", PAGES, &fake_format, &settings), 0);
	assert_int_equal(gspace_init(&b, "b", PAGES, &fake_format, &settings), 0);
	a.share_group = b.share_group = share_group("friends");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, share_test_start, share_test_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(zero_pages),
	    CASE(equal_pages),
	    CASE(within_one_space),
	    CASE(strangers_do_not_share),
	    CASE(groups),
	    CASE(references_are_bounded),
	    CASE(writes_part),
	    CASE(last_mapper_waits_for_stale_spaces),
	    CASE(give_up_shared),
	    CASE(out_of_frames),
	    CASE(no_memory_for_the_table),
	    CASE(table_size),
	    CASE(nobody_chooses_the_frame),
	    CASE(nobody_fills_the_lot),
	    CASE(lot_is_fair),
	    CASE(sharing_without_memory),
	    CASE(stale_hint),
	    CASE(busy_pages),
	    CASE(hint_of_a_dying_space),
	    CASE(rates),
	    CASE(scan_order),
	    CASE(nothing_to_scan),
	};

	return cmocka_run_group_tests_name("share", tests, NULL, NULL);
}
