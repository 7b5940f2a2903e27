/* Reclaim: thresholds and states; and machines with good and bad guests, a good and a bad disk, or none. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/prng.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/reclaim_test.h"

/* ---- thresholds and states ---------------------------------------------------- */

static void test_sliding_scale(void **state)
{
	const u64 gib = GIB >> PAGE_SHIFT;

	(void)state;
	assert_int_equal(reclaim_sliding_min_free(gib), gib * 6 / 100);
	assert_int_equal(reclaim_sliding_min_free(4 * gib), 4 * gib * 6 / 100);
	assert_in_range(reclaim_sliding_min_free(28 * gib), gib * 88 / 100 - 3,
			gib * 88 / 100); /* 0.24 + 0.32 + 0.32 GiB */
	assert_in_range(reclaim_sliding_min_free(128 * gib), gib * 188 / 100 - 3, gib * 188 / 100);
	assert_int_equal(reclaim_sliding_min_free(0), 0);
}

static enum reclaim_state state_at(u32 frames)
{
	set_free(frames);
	fake_now_ns += NSEC_PER_MSEC;
	reclaim_step(fake_now_ns);
	reclaim_stats(&rs);
	return rs.state;
}

static void test_states(void **state)
{
	const struct reclaim_config cfg = {.min_free = 2000};
	u32 free_before = frame_free_count();

	(void)state;
	reclaim_init(&cfg);
	reclaim_stats(&rs);
	assert_int_equal(rs.threshold[RECLAIM_SOFT], 1280);
	assert_int_equal(rs.threshold[RECLAIM_HARD], 640);
	assert_int_equal(rs.threshold[RECLAIM_LOW], 320);
	assert_int_equal(frame_reserve(), 160);
	assert_int_equal(rs.threshold[RECLAIM_CLEAR], 2000);
	assert_int_equal(state_at(2000), RECLAIM_HIGH);
	assert_false(reclaim_pressure());
	set_free(1999);
	assert_true(reclaim_pressure());
	assert_int_equal(state_at(1999), RECLAIM_CLEAR);
	assert_int_equal(state_at(2100), RECLAIM_CLEAR);
	assert_int_equal(state_at(2160), RECLAIM_HIGH);
	assert_int_equal(state_at(1279), RECLAIM_SOFT);
	assert_int_equal(state_at(1400), RECLAIM_SOFT); /* 8 % of minFree of hysteresis */
	assert_int_equal(state_at(1441), RECLAIM_CLEAR);
	assert_int_equal(state_at(300), RECLAIM_LOW);
	assert_int_equal(state_at(400), RECLAIM_LOW);
	assert_int_equal(state_at(481), RECLAIM_HARD);
	assert_int_equal(state_at(481), RECLAIM_HARD);
	assert_int_equal(state_at(2300), RECLAIM_HIGH);
	assert_int_equal(rs.transitions[RECLAIM_LOW], 1);
	assert_int_equal(rs.transitions[RECLAIM_HIGH], 2);
	assert_int_equal(rs.transitions[RECLAIM_CLEAR], 2);
	assert_true(fake_log_has("reclaim: state soft -> clear free="));
	assert_true(fake_log_has("reclaim: state clear -> low free=1.1M min=7.8M cause=\"the hypervisor's own use\""));
	assert_true(fake_log_has("reclaim: state hard -> high free=8.9M min=7.8M cause=\"guests let go\""));
	assert_int_equal(state_at(1500), RECLAIM_CLEAR);
	reclaim_set_min_free(1000);
	assert_int_equal(state_at(1500), RECLAIM_HIGH);
	assert_true(fake_log_has("cause=\"min-free was set\""));
	reclaim_set_min_free(1); /* the smallest that works */
	reclaim_stats(&rs);
	assert_true(rs.threshold[RECLAIM_LOW] > frame_reserve() &&
		    rs.threshold[RECLAIM_HARD] > rs.threshold[RECLAIM_LOW]);
	assert_string_equal(reclaim_state_name(RECLAIM_HARD), "hard");
	set_free(free_before);
}

/* ---- simulations ----------------------------------------------------------------- */

/* 2.25 : 1, every kind of guest, and one that is promised all of its memory. */
static void add_mixed(void)
{
	add("good1", 3000, 2600, SIM_GOOD, 0)->common = 300;
	add("good2", 3000, 2600, SIM_GOOD, 200)->common = 300;
	add("slow", 3000, 2600, SIM_SLOW, 0);
	add("lying", 3000, 2600, SIM_LYING, 0);
	add("absent", 3000, 2600, SIM_ABSENT, 0);
	add("whole", 2000, 1900, SIM_GOOD, 2000);
}

static void check_whole_untouched(const struct sim_guest *g)
{
	assert_int_equal(g->gs.count[PAGE_BALLOONED], 0);
	assert_int_equal(g->gs.stats.balloon_out, 0);
	assert_int_equal(g->gs.stats.swap_out, 0);
	assert_int_equal(g->gs.balloon_target, 0);
}

static void test_mixed_guests(void **state)
{
	u64 operations[GUESTS];
	u64 counts[PAGE_STATES];

	(void)state;
	add_mixed();
	for (u32 s = 0; s < 30; s++) {
		for (u32 i = 0; i < guests; i++)
			operations[i] = guest[i]->operations;
		run(1000, 6);
		check_consistent();
		check_whole_untouched(guest[5]);
		for (u32 i = 0; i < guests; i++)
			assert_true(guest[i]->operations > operations[i]); /* nobody stands still */
	}
	gspace_host_counts(counts);
	swap_stats(&ss);
	reclaim_stats(&rs);
	assert_true(counts[PAGE_BALLOONED] > 1000);
	assert_true(counts[PAGE_SWAPPED] > 1000);
	assert_true(ss.in > 100 && ss.out > 1000);
	assert_true(counts[PAGE_SHARED] > 0 || guest[0]->gs.stats.shared_in > 0);
	assert_true(guest[0]->gs.count[PAGE_BALLOONED] > 200);
	assert_true(guest[0]->waits > 0 || guest[4]->waits > 0);
	assert_int_equal(fake_mm.poisoned, 0);
	for (u32 i = 0; i < guests; i++)
		assert_int_equal(sim_verify(guest[i], host_tick), 0);
	check_consistent();
}

/* Guests stop; the others' balloons come down without ever going up again, and memory is back. */
static void test_memory_returns(void **state)
{
	u32 last[2], rises = 0;

	(void)state;
	add_mixed();
	run(15000, 6);
	assert_true(guest[0]->gs.balloon_target > 200 && guest[1]->gs.balloon_target > 200);
	end_guest(5);
	end_guest(4);
	end_guest(3);
	end_guest(2);
	for (u32 t = 0; t < 200; t++) {
		for (u32 i = 0; i < 2; i++)
			last[i] = guest[i]->gs.balloon_target;
		run(250, 6);
		for (u32 i = 0; i < 2; i++)
			rises += guest[i]->gs.balloon_target > last[i];
	}
	reclaim_stats(&rs);
	assert_int_equal(rs.state, RECLAIM_HIGH);
	assert_int_equal(rs.ballooned, 0);
	assert_int_equal(rs.ballooned_target, 0);
	assert_true(rises <= 2);
	for (u32 i = 0; i < 2; i++) {
		assert_int_equal(guest[i]->gs.target, guest[i]->gs.pages);
		assert_int_equal(sim_verify(guest[i], host_tick), 0);
	}
	check_consistent();
}

/* Good balloons alone are enough, if there is time: no swap at all once things have settled. */
static void test_settles(void **state)
{
	u64 out, targets = 0;

	(void)state;
	for (u32 i = 0; i < 4; i++)
		add("g0\0g1\0g2\0g3" + 3 * i, 3600, 3000, SIM_GOOD, 0);
	run(30000, 6);
	check_consistent();
	reclaim_stats(&rs);
	assert_in_range(rs.state, RECLAIM_HIGH, RECLAIM_SOFT);
	swap_stats(&ss);
	out = ss.out;
	for (u32 i = 0; i < guests; i++) {
		targets += guest[i]->gs.target;
		assert_true(guest[i]->gs.balloon_target <= guest[i]->gs.balloon_max);
	}
	assert_true(targets <= FRAMES);
	for (u32 t = 0; t < 40; t++) {
		u32 before = guest[0]->gs.balloon_target;

		run(250, 6);
		assert_true(guest[0]->gs.balloon_target >= before);
	}
	swap_stats(&ss);
	assert_true(ss.out - out < 200);
}

/* No swap: the balloons have to do. Nobody is killed, everybody goes on. */
static void test_no_swap_good_balloons(void **state)
{
	u64 operations[GUESTS];

	(void)state;
	for (u32 i = 0; i < 3; i++)
		add("g0\0g1\0g2" + 3 * i, 4000, 3900, SIM_GOOD, 0);
	for (u32 s = 0; s < 20; s++) {
		for (u32 i = 0; i < guests; i++)
			operations[i] = guest[i]->operations;
		run(1000, 6);
		for (u32 i = 0; i < guests && s > 2; i++)
			assert_true(guest[i]->operations > operations[i]);
	}
	check_consistent();
	swap_stats(&ss);
	assert_int_equal(ss.out, 0);
}

/* No swap and nobody gives anything: who is over its target waits, the operator is told, and one end frees the others.
 */
static void test_no_way_out(void **state)
{
	u64 operations;

	(void)state;
	for (u32 i = 0; i < 3; i++)
		add("g0\0g1\0g2" + 3 * i, 4000, 3900, i == 2 ? SIM_DEAF : SIM_ABSENT, 0);
	run(30000, 6);
	check_consistent();
	reclaim_stats(&rs);
	assert_int_equal(rs.state, RECLAIM_LOW);
	assert_true(guest[0]->blocked && guest[1]->blocked && guest[2]->blocked);
	assert_true(fake_log_has("reclaim: warning: VMs wait and no memory could be taken back for "));
	assert_true(fake_log_has("swap off: no swap partition"));
	assert_true(frame_free_count() >= frame_reserve());
	operations = guest[0]->operations;
	run(5000, 6);
	assert_int_equal(guest[0]->operations, operations);
	end_guest(2);
	run(5000, 6);
	assert_true(guest[0]->operations > operations + 1000);
	reclaim_stats(&rs);
	assert_int_equal(rs.state, RECLAIM_HIGH);
}

static void test_slow_disk(void **state)
{
	u64 operations[GUESTS];

	(void)state;
	fake_blk.latency_ns = 20 * NSEC_PER_MSEC;
	fake_blk.per_page_ns = 4 * NSEC_PER_MSEC; /* 1 MB/s */
	for (u32 i = 0; i < 4; i++)
		add("g0\0g1\0g2\0g3" + 3 * i, 3600, 3000, i % 2 ? SIM_ABSENT : SIM_LYING, 0);
	run(20000, 6);
	for (u32 s = 0; s < 5; s++) {
		for (u32 i = 0; i < guests; i++)
			operations[i] = guest[i]->operations;
		run(5000, 6);
		check_consistent();
		for (u32 i = 0; i < guests; i++)
			assert_true(guest[i]->operations > operations[i]);
	}
	assert_true(fake_log_has("low"));
	fake_blk.latency_ns = fake_blk.per_page_ns = 0;
}

/* The swap device stops taking pages: those in memory run on, those out are read; nothing is lost. */
static void test_write_errors_under_pressure(void **state)
{
	(void)state;
	for (u32 i = 0; i < 4; i++)
		add("g0\0g1\0g2\0g3" + 3 * i, 2600, 2500, i % 2 ? SIM_GOOD : SIM_ABSENT, 0);
	run(5000, 6);
	swap_stats(&ss);
	assert_true(ss.used > 0);
	fake_blk.bad_write_to = SLOTS;
	run(20000, 6);
	swap_stats(&ss);
	assert_int_equal(ss.state, SWAP_FAILED);
	check_consistent();
	assert_int_equal(fake_mm.poisoned, 0);
	/* Two end: what is left fits. */
	end_guest(3);
	end_guest(2);
	run(5000, 6);
	for (u32 i = 0; i < guests; i++)
		assert_int_equal(sim_verify(guest[i], host_tick), 0);
}

/*
 * Guests of all kinds come and go under pressure, disks slow and quick. Ends with every frame and slot back (finish).
 */
static void test_churn(void **state)
{
	static const char name[] = "c0\0c1\0c2\0c3\0c4\0c5";
	struct prng p;

	(void)state;
	prng_seed(&p, 77);
	for (u32 round = 0; round < 40; round++) {
		if (guests < GUESTS && (guests < 3 || prng_below(&p, 2))) {
			u32 pages = 1000 + (u32)prng_below(&p, 3000);
			struct sim_guest *g =
			    add(name + 3 * guests, pages, pages - (u32)prng_below(&p, 900),
				(enum sim_balloon)prng_below(&p, SIM_ABSENT + 1), (u32)prng_below(&p, 300));

			g->common = (u32)prng_below(&p, 200);
		} else {
			end_guest((u32)prng_below(&p, guests));
		}
		fake_blk.latency_ns = prng_below(&p, 30) * NSEC_PER_MSEC;
		run(500, 20);
		check_consistent();
	}
	assert_int_equal(fake_mm.poisoned, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_sliding_scale, start, finish),
	    cmocka_unit_test_setup_teardown(test_states, start, finish),
	    cmocka_unit_test_setup_teardown(test_mixed_guests, start, finish),
	    cmocka_unit_test_setup_teardown(test_memory_returns, start, finish),
	    cmocka_unit_test_setup_teardown(test_settles, start, finish),
	    cmocka_unit_test_setup_teardown(test_no_swap_good_balloons, start_without_swap, finish),
	    cmocka_unit_test_setup_teardown(test_no_way_out, start_without_swap, finish),
	    cmocka_unit_test_setup_teardown(test_slow_disk, start, finish),
	    cmocka_unit_test_setup_teardown(test_write_errors_under_pressure, start, finish),
	    cmocka_unit_test_setup_teardown(test_churn, start, finish),
	};

	return cmocka_run_group_tests_name("reclaim", tests, NULL, NULL);
}
