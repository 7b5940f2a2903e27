/*
 * Reclaim: thresholds and states; and simulations of a machine with more guest memory than it has, good and bad guests,
 * a good and a bad disk. Everything below is the real thing: frames, spaces, sharing, balloon, swap.
 */
/* cmocka.h wants these first, in this order */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/balloon.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/wss.h"
#include "mm/zip.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/sim_guest.h"

#define FRAMES  8192U
#define SLOTS   32768U
#define GUESTS  6U
#define TICK_NS (2 * NSEC_PER_MSEC)

static struct sim_guest pool[GUESTS], *guest[GUESTS]; /* spaces may not move */
static u32 guests, free_before;
static u32 idle; /* bit i: guest i only answers its balloon */
static struct reclaim_stats rs;
static struct swap_stats ss;

static void on_wake(struct gspace *gs)
{
	for (u32 i = 0; i < guests; i++)
		sim_woken(guest[i], gs);
}

static int start_machine(bool with_swap)
{
	fake_platform_reset();
	fake_mm_start(FRAMES);
	fake_blk_start(SLOTS);
	fake_blk.latency_ns = NSEC_PER_MSEC;
	swap_init(0x5eed, 1);
	reclaim_init(NULL);
	/* Guests of the simulation set no accessed bits. */
	wss_configure(WSS_SAMPLES_DEFAULT, 5, true);
	if (with_swap)
		assert_int_equal(swap_on(&fake_blk_part), 0);
	fake_mm_on_wake = on_wake;
	fake_log_echo = getenv("SIM_TRACE") != NULL;
	guests = idle = 0;
	zip_set_percent(0);
	free_before = frame_free_count();
	return 0;
}

static int start(void **state)
{
	(void)state;
	return start_machine(true);
}

static int start_without_swap(void **state)
{
	(void)state;
	return start_machine(false);
}

/* What the CPU loop does between guests' slices. */
static void host_tick(void)
{
	static u64 due;

	fake_now_ns += TICK_NS;
	fake_blk_poll();
	for (u32 i = 0; i < 4 && (reclaim_pressure() || fake_now_ns >= due); i++) {
		reclaim_step(fake_now_ns);
		reclaim_scan();
		due = fake_now_ns + 250 * NSEC_PER_MSEC;
	}
	if (due > fake_now_ns + NSEC_PER_SEC)
		due = 0; /* another test's clock */
}

/* SIM_TRACE=1: the log, and where everything stands, before each run(). */
static void trace(void)
{
	struct share_stats sh;

	share_stats(&sh);
	reclaim_stats(&rs);
	swap_stats(&ss);
	fprintf(stderr, "t=%lu %s free=%u swap in=%lu out=%lu used=%lu share scanned=%lu matches=%lu pages=%lu\n",
		fake_now_ns / NSEC_PER_SEC, reclaim_state_name(rs.state), rs.free, ss.in, ss.out, ss.used, sh.scanned,
		sh.matches, sh.shared_pages);
	for (u32 i = 0; i < guests; i++) {
		const struct gspace *gs = &guest[i]->gs;

		fprintf(stderr,
			"  %-8s held %u of %u balloon %u of %u swapped %u absent %u shared %u zero %u operations %lu "
			"waits %lu%s\n",
			gs->name, gspace_consumed(gs), gs->target, balloon_size(gs), gs->balloon_target,
			gs->count[PAGE_SWAPPED], gs->count[PAGE_ABSENT], gs->count[PAGE_SHARED], gs->count[PAGE_ZERO],
			guest[i]->operations, guest[i]->waits, guest[i]->blocked ? " blocked" : "");
	}
}

static void run(u64 ms, u32 accesses)
{
	if (getenv("SIM_TRACE"))
		trace();
	for (u64 end = fake_now_ns + ms * NSEC_PER_MSEC; fake_now_ns < end;) {
		host_tick();
		for (u32 i = 0; i < guests; i++) {
			sim_balloon(guest[i]); /* its interrupt comes first */
			if (!(idle & BIT(i)))
				sim_run(guest[i], accesses);
		}
	}
}

static struct sim_guest *add(const char *name, u32 pages, u32 logical, enum sim_balloon kind, u32 reservation)
{
	struct sim_guest *g = pool;

	while (g->running)
		g++;
	guest[guests++] = g;
	sim_start(g, name, pages, logical, kind, reservation);
	return g;
}

static void check_consistent(void)
{
	assert_int_equal(gspace_verify_all(), 0);
	for (u32 i = 0; i < guests; i++) {
		u64 sum = 0;

		for (u32 s = 0; s < PAGE_STATES; s++)
			sum += guest[i]->gs.count[s];
		assert_int_equal(sum, guest[i]->gs.pages);
		assert_int_equal(guest[i]->bad, 0);
	}
}

static void end_guest(u32 i)
{
	sim_end(guest[i], host_tick);
	guest[i] = guest[guests - 1];
	guests--;
}

static int finish(void **state)
{
	(void)state;
	for (u32 i = 0; i < guests; i++)
		sim_end(guest[i], host_tick);
	guests = 0;
	fake_blk_drain();
	for (u32 i = 0; i < 100; i++)
		swap_trim();
	swap_stats(&ss);
	assert_int_equal(ss.used + ss.reserved + ss.in_flight_in + ss.in_flight_out, 0);
	if (!ss.bad)
		assert_int_equal(frame_free_count(), free_before);
	frame_verify();
	fake_mm_stop();
	fake_blk_stop();
	return 0;
}

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

static hfn_t taken[FRAMES];
static u32 taken_count;

static void set_free(u32 frames)
{
	while (frame_free_count() > frames) {
		taken[taken_count] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false);
		assert_true(taken[taken_count++] != HFN_NONE);
	}
	while (frame_free_count() < frames)
		frame_free(taken[--taken_count], 0);
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
 * A limit far below what it holds, with plenty free: its guest goes on, so that its balloon driver can run, and the balloon
 * gives what it can before swap takes any. However guests behave, after 64 periods the limit is kept.
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
 * Idle guests hold less than they are entitled to. What is free beyond the goal goes to the busy one's balloon, down to the goal
 * and no further, and then everything stands still.
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

/* Half of what all hold is the same: with what that saves their balloons fall until free memory is the goal, and stay. */
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

/* Guests of all kinds come and go under pressure, disks slow and quick. Ends with every frame and slot back (finish). */
static void test_churn(void **state)
{
	static const char name[] = "c0\0c1\0c2\0c3\0c4\0c5";
	struct prng p;

	(void)state;
	prng_seed(&p, 77);
	for (u32 round = 0; round < 40; round++) {
		if (guests < GUESTS && (guests < 3 || prng_below(&p, 2))) {
			u32 pages = 1000 + (u32)prng_below(&p, 3000);
			struct sim_guest *g = add(name + 3 * guests, pages, pages - (u32)prng_below(&p, 900),
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
		cmocka_unit_test_setup_teardown(test_churn, start, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
