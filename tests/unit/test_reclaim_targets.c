/*
 * Reclaim: what each VM may hold - limits, reservations, shares and the idle tax - how soon that holds, and what the
 * operator is told.
 */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/err.h"
#include "mm/balloon.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zip.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/reclaim_test.h"

static void test_limit(void **state)
{
	struct sim_guest *good = add("good", 2000, 1500, SIM_GOOD, 0), *absent = add("abs", 2000, 1500, SIM_ABSENT, 0);

	(void)state;
	run(2000, 20);
	assert_int_equal(good->gs.balloon_target, 0);
	good->gs.alloc.limit = absent->gs.alloc.limit = 1000;
	run(20000, 6);
	reclaim_stats(&rs);
	assert_int_equal(rs.state, RECLAIM_HIGH);
	assert_int_equal(good->gs.balloon_target, 1000);
	assert_int_equal(good->gs.count[PAGE_BALLOONED], 1000);
	assert_true(gspace_consumed(&good->gs) <= 1000);
	assert_true(gspace_consumed(&absent->gs) <= 1000);
	assert_true(absent->gs.count[PAGE_SWAPPED] > 100);
	good->gs.alloc.limit = 2000;
	run(10000, 6);
	assert_int_equal(good->gs.count[PAGE_BALLOONED], 0);
	check_consistent();
}

/* Who is at its limit does not wait for the period: room is made as soon as it is asked for. */
static void test_limit_between_periods(void **state)
{
	struct sim_guest *g = add("g", 2000, 1000, SIM_ABSENT, 0);
	gfn_t gfn = 0;
	u64 wakes;
	int err;

	(void)state;
	run(2000, 20);
	g->gs.alloc.limit = 600;
	run(20000, 6);
	fake_blk_drain();
	reclaim_step(fake_now_ns += NSEC_PER_SEC); /* a period */
	fake_blk_drain();
	for (u32 round = 0; round < 5; round++) {
		for (err = 0; gfn < 2000 && !err; gfn++)
			err = gspace_state(&g->gs, gfn) == PAGE_ABSENT ? gspace_touch(&g->gs, gfn, GSPACE_WRITE) : 0;
		assert_int_equal(err, E_AGAIN);
		assert_true(reclaim_pressure());
		wakes = fake_mm.wakes;
		reclaim_step(fake_now_ns += 2 * NSEC_PER_MSEC);
		fake_blk_drain();
		assert_true(fake_mm.wakes > wakes);
		assert_true(reclaim_may_alloc(&g->gs));
	}
	assert_true(gspace_consumed(&g->gs) <= 600);
	check_consistent();
}

/*
 * A limit far below what it holds, with plenty free: its guest goes on, so that its balloon driver can run, and the
 * balloon gives what it can before swap takes any. However guests behave, after 64 periods the limit is kept.
 */
static void test_limit_far_below(void **state)
{
	struct sim_guest *g = add("g", 4000, 3500, SIM_GOOD, 0);
	u64 operations, before;

	(void)state;
	run(2000, 20);
	before = g->operations;
	run(250, 6);
	before = g->operations - before;
	assert_true(gspace_consumed(&g->gs) > 3000);
	g->gs.alloc.limit = 2000;
	reclaim_rebalance();
	for (u32 i = 0; i < 60; i++) {
		operations = g->operations;
		run(250, 6);
		assert_true(g->operations - operations >= before / 2);
		assert_int_equal(g->gs.balloon_trouble, BALLOON_FINE);
	}
	assert_true(gspace_consumed(&g->gs) <= 2000);
	assert_int_equal(g->gs.stats.swap_out, 0);
	assert_int_equal(balloon_size(&g->gs), 2000);
	check_consistent();
}

static void test_limit_far_below_without_help(void **state)
{
	struct sim_guest *a = add("deaf", 3000, 2900, SIM_DEAF, 0), *b = add("lying", 3000, 2900, SIM_LYING, 0);
	u32 held = 0;

	(void)state;
	run(3000, 20);
	assert_true(gspace_consumed(&a->gs) > 2000);
	a->gs.alloc.limit = b->gs.alloc.limit = 600;
	reclaim_rebalance();
	run(17000, 20);
	for (u32 i = 0; i < 2000; i++) {
		run(2, 20);
		held = MAX(held, MAX(gspace_consumed(&a->gs), gspace_consumed(&b->gs)));
	}
	assert_true(held <= 600);
	assert_int_equal(a->gs.balloon_trouble, BALLOON_STALLED);
	/* Raised, it is in force at once. */
	a->gs.alloc.limit = 3000;
	run(2000, 20);
	assert_true(gspace_consumed(&a->gs) > 1000);
	check_consistent();
}

static void test_manual(void **state)
{
	struct sim_guest *g = add("g", 2000, 500, SIM_GOOD, 900);

	(void)state;
	run(500, 6);
	reclaim_set_manual(&g->gs, 700);
	run(2000, 6);
	assert_int_equal(balloon_size(&g->gs), 700);
	reclaim_set_manual(&g->gs, 1500);
	assert_int_equal(g->gs.balloon_target, 1100); /* not into the reservation */
	reclaim_set_manual(&g->gs, GFN_NONE);
	run(5000, 6);
	assert_int_equal(balloon_size(&g->gs), 0);
}

static void test_stalled_is_told(void **state)
{
	(void)state;
	for (u32 i = 0; i < 4; i++)
		add("g0\0g1\0g2\0g3" + 3 * i, 3600, 3000, i ? SIM_GOOD : SIM_DEAF, 0);
	run(20000, 6);
	assert_true(fake_log_has("balloon: warning: g0: no progress for 5 s at 0 of "));
	assert_true(guest[0]->gs.count[PAGE_SWAPPED] > 200);
	guest[0]->kind = SIM_GOOD;
	run(10000, 6);
	assert_true(fake_log_has("balloon: g0: moves again"));
	check_consistent();
}

/* Three fill the machine; two go idle and one frees nothing: with the tax the idle ones give to the busy one. */
static void test_idle_tax(void **state)
{
	u32 busy, held[2];

	(void)state;
	for (u32 i = 0; i < 3; i++)
		add("g0\0g1\0g2" + 3 * i, 4000, 3800, SIM_GOOD, 0);
	idle = 6;
	for (u32 tax = 0; tax < 2; tax++) {
		reclaim_set_tax(tax ? 75 : 0);
		idle = 0;
		run(20000, 6);
		idle = 6;
		run(60000, 6);
		held[tax] = gspace_consumed(&guest[0]->gs);
		check_consistent();
	}
	busy = gspace_consumed(&guest[1]->gs);
	assert_in_range(wss_active(&guest[1]->gs), 0, 800);
	assert_true(held[1] > held[0] + 300);
	assert_true(held[1] > 3 * busy / 2);
	assert_true(held[1] > 3800 * 95 / 100); /* nearly all that it works on */
}

/*
 * Idle guests hold less than they are entitled to. What is free beyond the goal goes to the busy one's balloon, down to
 * the goal and no further, and then everything stands still.
 */
static void test_plenty_goes_to_the_ballooned(void **state)
{
	u32 target, moves = 0, goal;

	(void)state;
	add("busy", 6000, 5800, SIM_GOOD, 0);
	add("i1", 3000, 1200, SIM_GOOD, 0);
	add("i2", 3000, 1200, SIM_GOOD, 0);
	add("end", 3000, 2800, SIM_GOOD, 0);
	run(20000, 10);
	assert_true(balloon_size(&guest[0]->gs) > 1500);
	end_guest(3);
	idle = 6;
	run(30000, 20);
	reclaim_stats(&rs);
	goal = rs.min_free * 112 / 100;
	assert_int_equal(rs.state, RECLAIM_HIGH);
	assert_in_range(rs.free, rs.min_free * 105 / 100, goal + 300);
	for (u32 t = 0; t < 100; t++) {
		target = guest[0]->gs.balloon_target;
		run(250, 20);
		moves += guest[0]->gs.balloon_target != target;
	}
	assert_true(moves < 10);
	reclaim_stats(&rs);
	assert_int_equal(rs.state, RECLAIM_HIGH);
	/* The idle ones come back: nobody is the worse for it. */
	idle = 0;
	run(20000, 10);
	check_consistent();
	for (u32 i = 0; i < guests; i++)
		assert_int_equal(sim_verify(guest[i], host_tick), 0);
}

/* As run(), and the scanner works as often as it does in earnest. */
static void run_scanned(u32 ms, u32 accesses)
{
	for (u32 i = 0; i < ms; i += 10) {
		run(10, accesses);
		reclaim_scan();
	}
}

/* How often balloon targets turned upward in `periods`, of all guests. */
static u32 count_turns(u32 periods, u32 accesses)
{
	u32 turns = 0, last[GUESTS];
	bool fell[GUESTS] = {false};

	for (u32 i = 0; i < guests; i++)
		last[i] = guest[i]->gs.balloon_target;
	for (u32 t = 0; t < periods; t++) {
		run_scanned(250, accesses);
		for (u32 i = 0; i < guests; i++) {
			u32 is = guest[i]->gs.balloon_target;

			turns += is > last[i] && fell[i];
			fell[i] = is < last[i] || (fell[i] && is == last[i]);
			last[i] = is;
		}
	}
	return turns;
}

/*
 * Half of what all hold is the same: with what that saves their balloons fall until free memory is the goal, and stay.
 */
static void test_what_sharing_saves_is_given_back(void **state)
{
	u32 goal, saved = 0;

	(void)state;
	for (u32 i = 0; i < 4; i++)
		add("g0\0g1\0g2\0g3" + 3 * i, 4000, 3900, SIM_GOOD, 0)->common = 1900;
	share_set_rate(0, 0); /* the scanner comes late, to balloons that are full */
	run(20000, 2);
	share_set_rate(1000000, 1000000);
	run_scanned(60000, 1);
	reclaim_stats(&rs);
	goal = rs.min_free * 112 / 100;
	assert_true(rs.ballooned > 500);
	assert_in_range(rs.free, rs.threshold[RECLAIM_SOFT], goal + 4 * 64);
	for (u32 i = 0; i < guests; i++)
		saved += gspace_saved(&guest[i]->gs);
	assert_true(saved > 1500);
	assert_in_range(count_turns(240, 1), 0, 4);
	check_consistent();
	for (u32 i = 0; i < guests; i++)
		assert_int_equal(sim_verify(guest[i], host_tick), 0);
}

/* A balloon that is only a little too large for a reservation falls all the same. */
static void test_reservation_is_had_to_the_last_page(void **state)
{
	struct gspace *gs;
	u32 balloon;

	(void)state;
	add("g0", 6000, 5800, SIM_GOOD, 0);
	add("g1", 5000, 4800, SIM_GOOD, 0);
	run(20000, 10);
	gs = &guest[0]->gs;
	idle = 3;
	reclaim_set_min_free(frame_free_count() * 88 / 100); /* what is free now is just the goal */
	run(2000, 0);
	assert_int_equal(reclaim_state_now(), RECLAIM_HIGH);
	balloon = gs->balloon_target;
	assert_true(balloon > 500 && balloon_size(gs) == balloon);
	gs->alloc.reservation = gs->pages - balloon + 20;
	reclaim_rebalance();
	run(10000, 10);
	assert_in_range(gs->balloon_target, 1, balloon - 20);
	assert_in_range(balloon_size(gs), 1, balloon - 20);
	check_consistent();
}

/* Two have balloons when memory is back. One needs only part of what is its own: the other gets the rest. */
static void test_room_is_for_who_uses_it(void **state)
{
	struct sim_guest *large, *small;

	(void)state;
	large = add("large", 6000, 5800, SIM_GOOD, 0);
	small = add("small", 4000, 2900, SIM_GOOD, 0);
	add("end", 4000, 3800, SIM_GOOD, 0);
	run(20000, 10);
	assert_true(balloon_size(&large->gs) > 1000 && balloon_size(&small->gs) > 1000);
	end_guest(2);
	for (u32 t = 0; t < 6; t++)
		run(5000, 10);
	reclaim_stats(&rs);
	assert_in_range(rs.free, rs.threshold[RECLAIM_SOFT], rs.min_free * 112 / 100 + 300);
	assert_in_range(gspace_consumed(&small->gs), 2800, 2950);
	assert_true(gspace_consumed(&large->gs) > 4200);
	assert_in_range(count_turns(240, 10), 0, 4);
	check_consistent();
}

/* A step that is no period's: 1 ms after the last one. */
static void step_between(void)
{
	fake_now_ns += NSEC_PER_MSEC;
	assert_true(reclaim_pressure());
	reclaim_step(fake_now_ns);
	assert_false(reclaim_pressure());
}

/* Settings and large changes of free memory are answered at once, not at the period's end. */
static void test_targets_follow_at_once(void **state)
{
	struct gspace *a = &add("a", 6000, 10, SIM_ABSENT, 0)->gs, *b = &add("b", 6000, 10, SIM_ABSENT, 0)->gs;
	u32 before, free;

	(void)state;
	idle = 3;
	share_set_rate(0, 0);
	run(2000, 0);
	reclaim_stats(&rs);
	free = frame_free_count();
	assert_int_equal(a->target, b->target);
	before = a->target;
	a->alloc.shares *= 3;
	reclaim_rebalance();
	step_between();
	assert_true(a->target > before * 4 / 3 && b->target < before * 2 / 3);
	before = b->target;
	set_free(frame_free_count() - rs.min_free / 5); /* a small one waits */
	assert_false(reclaim_pressure());
	assert_int_equal(b->target, before);
	set_free(frame_free_count() - rs.min_free / 5);
	step_between();
	assert_true(b->target < before);
	before = b->target;
	set_free(free);
	step_between();
	assert_true(b->target > before);
}

/* Who has grown most of all, but long ago, is not why memory is short now. */
static void test_growth_long_ago_is_no_cause(void **state)
{
	struct sim_guest *early = add("early", 7000, 10, SIM_ABSENT, 0), *late = add("late", 2000, 10, SIM_ABSENT, 0);
	u64 value = 1;
	gfn_t gfn = 0;

	(void)state;
	idle = 3;
	share_set_rate(0, 0);
	reclaim_stats(&rs);
	reclaim_set_min_free(rs.min_free); /* nor is that, as by the configuration file at boot */
	for (; frame_free_count() > rs.min_free + 700; gfn++)
		assert_int_equal(gspace_write(&early->gs, gfn_to_gpa(gfn), &value, 8), 0);
	run(60000, 0);
	assert_int_equal(reclaim_state_now(), RECLAIM_HIGH);
	for (gfn = 0; frame_free_count() >= rs.min_free; gfn++)
		assert_int_equal(gspace_write(&late->gs, gfn_to_gpa(gfn), &value, 8), 0);
	run(10, 0);
	assert_int_equal(reclaim_state_now(), RECLAIM_CLEAR);
	assert_true(fake_log_has("state high -> clear"));
	assert_true(fake_log_has("cause=\"late grew by 2."));
	check_consistent();
}

/* In state low, pages are compressed between two periods: who waits hears of their frames at once. */
static void test_compressed_pages_are_told_at_once(void **state)
{
	const struct reclaim_config cfg = {.min_free = 1500, .hysteresis_pct = 60};
	struct gspace *gs = &add("hog", 9000, 10, SIM_ABSENT, 0)->gs;
	u32 wakes, refused = 0;

	(void)state;
	reclaim_init(&cfg);
	reclaim_add(gs);
	zip_init(3, 30);
	idle = 1;
	for (u64 value = 1; !refused; value++)
		refused = gspace_write(gs, gfn_to_gpa((gfn_t)value), &value, sizeof(value)) != 0;
	fake_now_ns += NSEC_PER_SEC;
	reclaim_step(fake_now_ns);
	for (u32 i = 0; i < 4; i++) {
		assert_false(reclaim_may_alloc(gs));
		wakes = fake_mm.wakes;
		fake_now_ns += NSEC_PER_MSEC;
		reclaim_step(fake_now_ns);
		assert_int_equal(reclaim_state_now(), RECLAIM_LOW);
		assert_int_equal(fake_mm.wakes, wakes + 1);
	}
	assert_true(gs->count[PAGE_COMPRESSED] > 300);
	/* Nobody waits: nobody is woken. */
	wakes = fake_mm.wakes;
	fake_now_ns += NSEC_PER_MSEC;
	reclaim_step(fake_now_ns);
	assert_int_equal(fake_mm.wakes, wakes);
	check_consistent();
}

static void test_cause_and_liar_are_told(void **state)
{
	(void)state;
	for (u32 i = 0; i < 4; i++)
		add("g0\0g1\0g2\0g3" + 3 * i, 3600, 3000, i ? SIM_GOOD : SIM_LYING, 0);
	run(20000, 6);
	assert_true(fake_log_has(" grew by "));
	assert_true(fake_log_has("balloons took ") || fake_log_has("swap took "));
	assert_true(fake_log_has("balloon: warning: g0: touches what it gave"));
	assert_true(guest[0]->gs.count[PAGE_SWAPPED] > 200);
	guest[0]->kind = SIM_GOOD;
	run(30000, 6);
	assert_true(fake_log_has("balloon: g0: keeps its word again"));
	assert_true(balloon_size(&guest[0]->gs) > 200);
	check_consistent();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_limit, start, finish),
	    cmocka_unit_test_setup_teardown(test_limit_between_periods, start, finish),
	    cmocka_unit_test_setup_teardown(test_limit_far_below, start, finish),
	    cmocka_unit_test_setup_teardown(test_limit_far_below_without_help, start, finish),
	    cmocka_unit_test_setup_teardown(test_manual, start, finish),
	    cmocka_unit_test_setup_teardown(test_stalled_is_told, start, finish),
	    cmocka_unit_test_setup_teardown(test_idle_tax, start, finish),
	    cmocka_unit_test_setup_teardown(test_plenty_goes_to_the_ballooned, start, finish),
	    cmocka_unit_test_setup_teardown(test_what_sharing_saves_is_given_back, start, finish),
	    cmocka_unit_test_setup_teardown(test_reservation_is_had_to_the_last_page, start, finish),
	    cmocka_unit_test_setup_teardown(test_room_is_for_who_uses_it, start, finish),
	    cmocka_unit_test_setup_teardown(test_targets_follow_at_once, start, finish),
	    cmocka_unit_test_setup_teardown(test_growth_long_ago_is_no_cause, start, finish),
	    cmocka_unit_test_setup_teardown(test_compressed_pages_are_told_at_once, start_without_swap, finish),
	    cmocka_unit_test_setup_teardown(test_cause_and_liar_are_told, start, finish),
	};

	return cmocka_run_group_tests_name("reclaim_targets", tests, NULL, NULL);
}
