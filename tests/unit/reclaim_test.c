/* See reclaim_test.h. */
#include "tests/unit/reclaim_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "mm/balloon.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/share.h"
#include "mm/wss.h"
#include "mm/zip.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/mm_test.h"

struct sim_guest *guest[GUESTS];
u32 guests, idle;
struct reclaim_stats rs;
struct swap_stats ss;
static struct sim_guest pool[GUESTS]; /* spaces may not move */

static void on_wake(struct gspace *gs)
{
	for (u32 i = 0; i < guests; i++)
		sim_woken(guest[i], gs);
}

static int start_machine(bool with_swap)
{
	mm_test_start(FRAMES, SLOTS);
	fake_blk.latency_ns = NSEC_PER_MSEC;
	reclaim_init(NULL);
	/* Guests of the simulation set no accessed bits. */
	wss_configure(WSS_SAMPLES_DEFAULT, 5, true);
	if (with_swap)
		assert_int_equal(swap_on(&fake_blk_part), 0);
	fake_mm_on_wake = on_wake;
	fake_log_echo = getenv("SIM_TRACE") != NULL;
	guests = idle = 0;
	zip_set_percent(0);
	return 0;
}

int start(void **state)
{
	(void)state;
	return start_machine(true);
}

int start_without_swap(void **state)
{
	(void)state;
	return start_machine(false);
}

void host_tick(void)
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

void run(u64 ms, u32 accesses)
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

struct sim_guest *add(const char *name, u32 pages, u32 logical, enum sim_balloon kind, u32 reservation)
{
	struct sim_guest *g = pool;

	while (g->running)
		g++;
	guest[guests++] = g;
	sim_start(g, name, pages, logical, kind, reservation);
	return g;
}

void check_consistent(void)
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

void end_guest(u32 i)
{
	sim_end(guest[i], host_tick);
	guest[i] = guest[guests - 1];
	guests--;
}

int finish(void **state)
{
	(void)state;
	for (u32 i = 0; i < guests; i++)
		sim_end(guest[i], host_tick);
	guests = 0;
	mm_test_stop();
	return 0;
}

static hfn_t taken[FRAMES];
static u32 taken_count;

void set_free(u32 frames)
{
	while (frame_free_count() > frames) {
		taken[taken_count] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false);
		assert_true(taken[taken_count++] != HFN_NONE);
	}
	while (frame_free_count() < frames)
		frame_free(taken[--taken_count], 0);
}
