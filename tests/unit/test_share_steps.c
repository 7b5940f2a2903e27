/*
 * Page sharing while guests go on: the shootdowns between its steps are where a guest's last writes through stale
 * translations arrive. Tests change pages there.
 */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/err.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/gspace_internal.h"
#include "mm/platform.h"
#include "mm/rmap.h"
#include "mm/share.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/share_test.h"
#include "tests/unit/space_test.h"

static struct {
	struct gspace *gs; /* in whose n-th shootdown */
	u32 n;
	void (*what)(void);
} change;

static void on_shootdown(struct gspace *gs)
{
	if (gs == change.gs && change.n && !--change.n)
		change.what();
}

static void change_at(struct gspace *gs, u32 n, void (*what)(void))
{
	change.gs = gs;
	change.n = n;
	change.what = what;
	fake_mm_on_shootdown = on_shootdown;
}

static hfn_t raw_hfn;

/* A store through a translation that was cached before the page was protected. */
static void stale_store(void)
{
	*(u64 *)mm_hfn_to_va(raw_hfn) = 0xdead;
}

static void guest_writes_a(void)
{
	fill(&a, 1, 99);
}

static void guest_writes_b(void)
{
	fill(&b, 2, 99);
}

static void guest_drops_b(void)
{
	assert_int_equal(gspace_balloon_take(&b, 2), 0);
}

static void guest_drops_a(void)
{
	assert_int_equal(gspace_balloon_take(&a, 1), 0);
}

static u64 first_word(struct gspace *gs, gfn_t gfn)
{
	u64 word;

	assert_int_equal(gspace_read(gs, gfn_to_gpa(gfn), &word, 8), 0);
	return word;
}

/* b has left a hint, a is equal to it. */
static void hint_and_candidate(void)
{
	fill(&b, 2, 6);
	scan_all();
	fill(&a, 1, 6);
}

static void candidate_changes_by_stale_store(void **state)
{
	(void)state;
	hint_and_candidate();
	raw_hfn = hfn_of(&a, 1);
	change_at(&a, 1, stale_store);
	assert_false(share_offer(&a, 1));
	assert_int_equal(change.n, 0);
	expect_state(&a, 1, PAGE_PRIVATE);
	expect_state(&b, 2, PAGE_PRIVATE);
	assert_int_equal(first_word(&a, 1), 0xdead);
	expect_stamp(&b, 2, 6);
	assert_int_equal(stats().false_matches, 0);
}

static void hint_changes_by_stale_store(void **state)
{
	(void)state;
	hint_and_candidate();
	raw_hfn = hfn_of(&b, 2);
	change_at(&b, 1, stale_store);
	assert_false(share_offer(&a, 1));
	assert_int_equal(change.n, 0);
	expect_state(&a, 1, PAGE_PRIVATE);
	expect_state(&b, 2, PAGE_PRIVATE);
	assert_int_equal(first_word(&b, 2), 0xdead);
	expect_stamp(&a, 1, 6);
}

static void candidate_is_written(void **state)
{
	(void)state;
	hint_and_candidate();
	change_at(&a, 1, guest_writes_a);
	assert_false(share_offer(&a, 1));
	expect_state(&a, 1, PAGE_PRIVATE);
	expect_state(&b, 2, PAGE_PRIVATE);
	expect_stamp(&a, 1, 99);
	expect_stamp(&b, 2, 6);
}

/* Written, and in the same moment shared with quite another frame: what was protected is not there any more. */
static void guest_writes_a_like_b3(void)
{
	raw_hfn = hfn_of(&a, 1);
	fill(&a, 1, 33);
	assert_true(share_offer(&a, 1));
	/* To make it worse, its old frame has the old content again, in another page. */
	for (gfn_t gfn = 5; gfn < 20; gfn++) {
		fill(&b, gfn, 6);
		if (hfn_of(&b, gfn) == raw_hfn)
			return;
	}
	fail_msg("frame %#x does not come back", raw_hfn);
}

static void candidate_is_shared_elsewhere(void **state)
{
	(void)state;
	fill(&b, 3, 33);
	fill(&b, 4, 33);
	hint_and_candidate();
	expect_state(&b, 3, PAGE_SHARED);
	change_at(&a, 1, guest_writes_a_like_b3);
	assert_false(share_offer(&a, 1));
	assert_int_equal(hfn_of(&a, 1), hfn_of(&b, 3));
	expect_state(&b, 2, PAGE_PRIVATE);
	expect_stamp(&a, 1, 33);
	expect_stamp(&b, 2, 6);
}

static void candidate_is_dropped(void **state)
{
	(void)state;
	hint_and_candidate();
	change_at(&a, 1, guest_drops_a);
	assert_false(share_offer(&a, 1));
	expect_state(&a, 1, PAGE_BALLOONED);
	expect_stamp(&b, 2, 6);
}

static void hint_is_written(void **state)
{
	(void)state;
	hint_and_candidate();
	change_at(&b, 1, guest_writes_b);
	assert_false(share_offer(&a, 1));
	expect_state(&a, 1, PAGE_PRIVATE);
	expect_state(&b, 2, PAGE_PRIVATE);
	expect_stamp(&a, 1, 6);
	expect_stamp(&b, 2, 99);
}

/*
 * The hint's page has moved and is written before that is flushed: the frame it moved to is free again, and has no
 * entry.
 */
static void moved_hint_is_written(void **state)
{
	(void)state;
	hint_and_candidate();
	change_at(&b, 2, guest_writes_b);
	assert_false(share_offer(&a, 1));
	assert_int_equal(change.n, 0);
	expect_state(&a, 1, PAGE_PRIVATE);
	expect_state(&b, 2, PAGE_PRIVATE);
	expect_stamp(&a, 1, 6);
	expect_stamp(&b, 2, 99);
	frame_verify();
	fill(&b, 7, 6);
	assert_false(share_offer(&b, 7)); /* nothing is found under that hash */
}

static void moved_hint_is_dropped(void **state)
{
	(void)state;
	hint_and_candidate();
	change_at(&b, 2, guest_drops_b);
	assert_false(share_offer(&a, 1));
	assert_int_equal(change.n, 0);
	expect_state(&b, 2, PAGE_BALLOONED);
	expect_stamp(&a, 1, 6);
	frame_verify();
}

static void hint_is_dropped(void **state)
{
	(void)state;
	hint_and_candidate();
	change_at(&b, 1, guest_drops_b);
	assert_false(share_offer(&a, 1));
	expect_state(&b, 2, PAGE_BALLOONED);
	expect_stamp(&a, 1, 6);
}

/* While it is held for comparison the frame's only mapper writes: it copies, and what was compared stands. */
static void match_is_written_while_held(void **state)
{
	(void)state;
	hint_and_candidate();
	change_at(&a, 1, guest_writes_b);
	assert_true(share_offer(&a, 1));
	expect_state(&a, 1, PAGE_SHARED);
	expect_state(&b, 2, PAGE_PRIVATE);
	expect_stamp(&a, 1, 6);
	expect_stamp(&b, 2, 99);
	fill(&a, 1, 5);
	expect_state(&a, 1, PAGE_PRIVATE);
}

/* The same, and the comparison fails as well: the hold was the last reference. */
static void held_match_is_left_alone(void)
{
	guest_drops_b();
	*(u64 *)mm_hfn_to_va(hfn_of(&a, 1)) = 0xdead;
}

static void match_is_dropped_while_held(void **state)
{
	hfn_t hfn;

	(void)state;
	hint_and_candidate();
	hfn = hfn_of(&b, 2);
	change_at(&a, 1, held_match_is_left_alone);
	assert_false(share_offer(&a, 1));
	/* b had dropped its page and not flushed: nobody takes a frame that was shared for itself then. The next write
	 * does. */
	expect_state(&a, 1, PAGE_SHARED);
	expect_state(&b, 2, PAGE_BALLOONED);
	assert_int_not_equal(frame_get(hfn)->state, FRAME_SHARED);
	assert_int_equal(first_word(&a, 1), 0xdead);
	gspace_flush(&b);
	fill(&a, 1, 5);
	expect_state(&a, 1, PAGE_PRIVATE);
}

/* Two contents with one hash cannot be had; a match that is changed behind our back looks the same. */
static void false_match(void **state)
{
	hfn_t hfn;

	(void)state;
	share_two(6);
	hfn = hfn_of(&a, 1);
	fill(&b, 3, 6);
	*(u64 *)mm_hfn_to_va(hfn) ^= 1;
	assert_false(share_offer(&b, 3));
	assert_int_equal(stats().false_matches, 1);
	expect_state(&b, 3, PAGE_PRIVATE);
	*(u64 *)mm_hfn_to_va(hfn) ^= 1;
	assert_true(share_offer(&b, 3));
	assert_int_equal(rmap_refs(hfn), 3);
}

static void zero_page_changes(void **state)
{
	(void)state;
	assert_int_equal(gspace_touch(&a, 1, GSPACE_WRITE), 0);
	raw_hfn = hfn_of(&a, 1);
	change_at(&a, 1, stale_store);
	assert_int_equal(gspace_share_zero(&a, 1), E_INVAL);
	expect_state(&a, 1, PAGE_PRIVATE);
	assert_int_equal(first_word(&a, 1), 0xdead);
	*(u64 *)mm_hfn_to_va(raw_hfn) = 0;
	change_at(&a, 1, guest_writes_a);
	assert_int_equal(gspace_share_zero(&a, 1), E_INVAL);
	expect_stamp(&a, 1, 99);
	assert_int_equal(gspace_share_zero(&a, 1), E_INVAL);
	assert_int_equal(gspace_share_zero(&a, 2), E_INVAL);
}

static void merge_compares(void **state)
{
	hfn_t own, with;

	(void)state;
	share_two(6);
	with = hfn_of(&b, 2);
	fill(&a, 5, 7);
	own = hfn_of(&a, 5);
	assert_true(rmap_hold(with));
	assert_int_equal(gspace_share_merge(&a, 5, own, with), E_AGAIN); /* not protected */
	assert_int_equal(gspace_share_protect(&a, 5, with, false), E_INVAL);
	assert_int_equal(gspace_share_protect(&a, 5, own, true), E_INVAL); /* has no hint */
	assert_int_equal(gspace_share_protect(&a, 5, own, false), 0);
	assert_int_equal(gspace_share_merge(&a, 5, own, with), E_INVAL);
	gspace_share_undo(&a, 5, own);
	gspace_share_drop(&a, with);
	expect_state(&a, 5, PAGE_PRIVATE);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, share_test_start, share_test_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(candidate_changes_by_stale_store),
	    CASE(hint_changes_by_stale_store),
	    CASE(candidate_is_written),
	    CASE(candidate_is_shared_elsewhere),
	    CASE(candidate_is_dropped),
	    CASE(hint_is_written),
	    CASE(moved_hint_is_written),
	    CASE(moved_hint_is_dropped),
	    CASE(hint_is_dropped),
	    CASE(match_is_written_while_held),
	    CASE(match_is_dropped_while_held),
	    CASE(false_match),
	    CASE(zero_page_changes),
	    CASE(merge_compares),
	};

	return cmocka_run_group_tests_name("share_steps", tests, NULL, NULL);
}
