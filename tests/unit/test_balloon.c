/* Balloon batches: every status, hostile entries, 2 MiB units, rate, target, stall. */
/* cmocka.h wants these first, in this order */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "guest/abi/aerostat.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/balloon.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/mm_test.h"

#define FRAMES 8192U
#define PAGES  8192U /* 32 MiB */

_Static_assert((int)BALLOON_OK == (int)AERO_BALLOON_OK && (int)BALLOON_INVALID == (int)AERO_BALLOON_INVALID, "ABI");
_Static_assert((int)BALLOON_PINNED == (int)AERO_BALLOON_PINNED && (int)BALLOON_BUSY == (int)AERO_BALLOON_BUSY, "ABI");
_Static_assert((int)BALLOON_ALREADY == (int)AERO_BALLOON_ALREADY && (int)BALLOON_OVER == (int)AERO_BALLOON_OVER, "ABI");
_Static_assert(BALLOON_BATCH_MAX == AERO_BALLOON_BATCH_MAX, "ABI");

static struct gspace gs;
static const struct mem_alloc alloc = {.limit = PAGES, .shares = 10};
static u64 batch[BALLOON_BATCH_MAX];

static int start(void **state)
{
	(void)state;
	mm_test_start(FRAMES, PAGES);
	reclaim_init(NULL);
	assert_int_equal(swap_on(&fake_blk_part), 0);
	assert_int_equal(gspace_init(&gs, "vm", PAGES, &fake_format, &alloc), 0);
	reclaim_add(&gs);
	assert_int_equal(gs.balloon_max, PAGES * 65 / 100);
	gs.balloon_present = gs.balloon_2m = true;
	balloon_set_target(&gs, PAGES);
	assert_int_equal(gs.balloon_target, gs.balloon_max);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	assert_int_equal(gspace_verify(&gs), 0);
	reclaim_remove(&gs);
	while (!gspace_destroy_some(&gs, 1000))
		fake_blk_drain();
	swap_unreserve(&gs);
	mm_test_stop();
	return 0;
}

static u64 small(u64 gfn)
{
	return gfn << PAGE_SHIFT;
}

static u64 large(u64 gfn)
{
	return small(gfn) | AERO_BALLOON_2M;
}

static u32 inflate(u64 entry)
{
	batch[0] = entry;
	balloon_inflate(&gs, batch, 1);
	assert_true((batch[0] & ~BITS(11, 4)) == (entry & ~BITS(11, 4)));
	return AERO_BALLOON_STATUS(batch[0]);
}

static u32 deflate(u64 entry)
{
	batch[0] = entry;
	balloon_deflate(&gs, batch, 1);
	return AERO_BALLOON_STATUS(batch[0]);
}

static void touch(gfn_t gfn, u32 n)
{
	for (u32 i = 0; i < n; i++)
		assert_int_equal(gspace_touch(&gs, gfn + i, GSPACE_WRITE), 0);
}

static void test_single_pages(void **state)
{
	u32 free;

	(void)state;
	touch(0, 16);
	free = frame_free_count();
	for (u32 i = 0; i < 16; i++)
		batch[i] = small(i);
	assert_int_equal(balloon_inflate(&gs, batch, 16), 16);
	assert_int_equal(balloon_size(&gs), 16);
	assert_int_equal(frame_free_count(), free + 16);
	assert_int_equal(inflate(small(3)), AERO_BALLOON_ALREADY);
	assert_int_equal(inflate(small(100)), AERO_BALLOON_OK); /* never touched */
	assert_int_equal(deflate(small(100)), AERO_BALLOON_OK);
	assert_int_equal(deflate(small(100)), AERO_BALLOON_ALREADY);
	assert_int_equal(gspace_state(&gs, 100), PAGE_ABSENT);
	touch(3, 1); /* broken promise: a zero page */
	assert_int_equal(balloon_size(&gs), 15);
	assert_int_equal(gs.stats.balloon_broken, 1);
	assert_int_equal(balloon_deflate(&gs, batch, 0), 0);
}

/* Without the feature bit 0 is a reserved one. */
static void test_large_not_granted(void **state)
{
	(void)state;
	assert_int_equal(inflate(large(0)), AERO_BALLOON_OK);
	gs.balloon_2m = false;
	assert_int_equal(inflate(large(LARGE_PAGES)), AERO_BALLOON_INVALID);
	assert_int_equal(deflate(large(0)), AERO_BALLOON_INVALID);
	assert_int_equal(balloon_size(&gs), LARGE_PAGES);
	assert_int_equal(deflate(small(1)), AERO_BALLOON_OK);
}

static void test_hostile_entries(void **state)
{
	(void)state;
	assert_int_equal(inflate(small(PAGES)), AERO_BALLOON_INVALID);
	assert_int_equal(inflate(small(BITS(39, 0))), AERO_BALLOON_INVALID);
	assert_int_equal(inflate(small(5) | 2), AERO_BALLOON_INVALID);
	assert_int_equal(inflate(small(5) | 8), AERO_BALLOON_INVALID);
	assert_int_equal(inflate(small(5) | BIT(52)), AERO_BALLOON_INVALID);
	assert_int_equal(inflate(~0UL), AERO_BALLOON_INVALID);
	assert_int_equal(inflate(large(1)), AERO_BALLOON_INVALID);
	assert_int_equal(inflate(large(511)), AERO_BALLOON_INVALID);
	assert_int_equal(inflate(large(PAGES)), AERO_BALLOON_INVALID);
	assert_int_equal(deflate(large(7)), AERO_BALLOON_INVALID);
	assert_int_equal(deflate(small(PAGES)), AERO_BALLOON_INVALID);
	assert_int_equal(balloon_size(&gs), 0);
	assert_int_equal(gs.stats.balloon_refused, 11);
	assert_int_equal(inflate(small(9) | 0x550), AERO_BALLOON_OK); /* an old status is overwritten */
	batch[0] = batch[1] = batch[2] = small(20);
	assert_int_equal(balloon_inflate(&gs, batch, 3), 1);
	assert_int_equal(AERO_BALLOON_STATUS(batch[2]), AERO_BALLOON_ALREADY);
}

static void test_pinned_and_in_flight(void **state)
{
	hfn_t hfn;

	(void)state;
	reclaim_set_min_free(FRAMES / 3); /* no plenty, no large pages: the only page with content is to be swapped */
	assert_int_equal(gspace_pin(&gs, 7, true, &hfn), 0);
	assert_int_equal(inflate(small(7)), AERO_BALLOON_PINNED);
	assert_int_equal(deflate(small(7)), AERO_BALLOON_ALREADY);
	touch(0, 7);
	assert_int_equal(inflate(large(0)), AERO_BALLOON_PINNED);
	assert_int_equal(balloon_size(&gs), 0); /* all or nothing */
	gspace_unpin(&gs, 7);
	assert_int_equal(inflate(large(0)), AERO_BALLOON_OK);
	assert_int_equal(balloon_size(&gs), 512);

	assert_int_equal(swap_reserve(&gs, 600), 0);
	touch(600, 1);
	assert_int_equal(gspace_write(&gs, gfn_to_gpa(600), "x", 1), 0);
	fake_blk.hold = true;
	assert_int_equal(swap_out(&gs, 1), 1);
	assert_int_equal(inflate(small(600)), AERO_BALLOON_BUSY);
	fake_blk.hold = false;
	fake_blk_drain();
	assert_int_equal(gspace_state(&gs, 600), PAGE_SWAPPED);
	assert_int_equal(inflate(small(600)), AERO_BALLOON_OK); /* its slot is given back */
	fake_blk_drain();
}

static void test_large_units(void **state)
{
	(void)state;
	touch(0, 512);
	assert_int_equal(inflate(large(0)), AERO_BALLOON_OK);
	assert_int_equal(inflate(large(0)), AERO_BALLOON_ALREADY);
	assert_int_equal(inflate(large(512)), AERO_BALLOON_OK);
	assert_int_equal(balloon_size(&gs), 1024);
	assert_int_equal(deflate(small(5)), AERO_BALLOON_OK);
	assert_int_equal(inflate(large(0)), AERO_BALLOON_ALREADY); /* some of it */
	assert_int_equal(balloon_size(&gs), 1023);
	assert_int_equal(deflate(large(0)), AERO_BALLOON_OK); /* the rest of it */
	assert_int_equal(balloon_size(&gs), 512);
	assert_int_equal(deflate(large(0)), AERO_BALLOON_ALREADY);
}

static void test_bound_of_a_call(void **state)
{
	(void)state;
	gs.balloon_rate = 1 << 20;
	for (u32 i = 0; i < 10; i++)
		batch[i] = large(i * 512);
	assert_int_equal(balloon_inflate(&gs, batch, 10), BALLOON_CALL_PAGES / 512);
	assert_int_equal(AERO_BALLOON_STATUS(batch[7]), AERO_BALLOON_OK);
	assert_int_equal(AERO_BALLOON_STATUS(batch[8]), AERO_BALLOON_BUSY);
	/* Units that achieve nothing use the bound up as well. */
	for (u32 i = 0; i < BALLOON_BATCH_MAX; i++)
		batch[i] = large(15 * 512);
	assert_int_equal(balloon_deflate(&gs, batch, BALLOON_BATCH_MAX), 0);
	assert_int_equal(AERO_BALLOON_STATUS(batch[7]), AERO_BALLOON_ALREADY);
	assert_int_equal(AERO_BALLOON_STATUS(batch[8]), AERO_BALLOON_BUSY);
	/* So do units with one page in the balloon each. */
	for (u32 i = 0; i < 8; i++)
		assert_int_equal(deflate(large(i * 512)), AERO_BALLOON_OK);
	for (u32 i = 0; i < 12; i++)
		assert_int_equal(inflate(small(i * 512)), AERO_BALLOON_OK);
	for (u32 i = 0; i < 12; i++)
		batch[i] = large(i * 512);
	assert_int_equal(balloon_deflate(&gs, batch, 12), BALLOON_CALL_PAGES / 512);
	assert_int_equal(AERO_BALLOON_STATUS(batch[8]), AERO_BALLOON_BUSY);
	assert_int_equal(balloon_size(&gs), 4);
	assert_true(fake_panics(balloon_inflate(&gs, batch, BALLOON_BATCH_MAX + 1)));
}

/* Single pages out of large ones are no cheap way around it. */
static void test_bound_of_splits(void **state)
{
	(void)state;
	gs.balloon_rate = 1 << 20;
	for (u32 i = 0; i < 10; i++) {
		touch(i * 512, 1);
		batch[i] = small(i * 512 + 3);
	}
	assert_int_equal(gs.stats.large_fills, 10);
	assert_int_equal(balloon_inflate(&gs, batch, 10), BALLOON_CALL_PAGES / 512);
	assert_int_equal(gs.stats.large_splits, BALLOON_CALL_PAGES / 512);
	assert_int_equal(AERO_BALLOON_STATUS(batch[8]), AERO_BALLOON_BUSY);
}

static void test_target_and_maximum(void **state)
{
	(void)state;
	balloon_set_target(&gs, 600);
	assert_int_equal(inflate(large(0)), AERO_BALLOON_OK);
	assert_int_equal(inflate(large(512)), AERO_BALLOON_OVER);
	for (u32 i = 0; i < 100; i++)
		batch[i] = small(1000 + i);
	assert_int_equal(balloon_inflate(&gs, batch, 100), 88);
	assert_int_equal(AERO_BALLOON_STATUS(batch[88]), AERO_BALLOON_OVER);
	assert_int_equal(deflate(large(0)), AERO_BALLOON_OK); /* below the target: the guest could touch them as well */
	balloon_set_target(&gs, ~0U);
	assert_int_equal(gs.balloon_target, gs.balloon_max);
}

static void test_rate(void **state)
{
	u32 moved = 0;

	(void)state;
	gs.balloon_rate = 1000;
	balloon_allowance(&gs, fake_now_ns);
	assert_int_equal(balloon_allowance(&gs, fake_now_ns), 512);
	assert_int_equal(inflate(large(0)), AERO_BALLOON_OK);
	assert_int_equal(inflate(small(600)), AERO_BALLOON_BUSY);
	for (u32 i = 0; i < 3000; i++) { /* 3 s, fractions of pages are kept */
		fake_now_ns += NSEC_PER_MSEC;
		moved += inflate(small(600 + moved)) == AERO_BALLOON_OK;
	}
	assert_in_range(moved, 2990, 3000);
	fake_now_ns += 3600 * NSEC_PER_SEC;
	assert_int_equal(balloon_allowance(&gs, fake_now_ns), 512);
	gs.balloon_rate = 0;
	assert_int_equal(balloon_allowance(&gs, fake_now_ns + NSEC_PER_SEC), BALLOON_RATE_DEFAULT / 4);
	assert_int_equal(balloon_allowance(&gs, 0), BALLOON_RATE_DEFAULT / 4); /* a clock that went back */
}

/* Down has a rate of its own, and beyond it a credit, for a guest that is short of memory. */
static void test_rate_down_and_credit(void **state)
{
	u32 back = 0;

	(void)state;
	gs.balloon_rate = 1 << 20;
	gs.balloon_rate_down = 1000;
	fake_now_ns += 20 * NSEC_PER_SEC; /* the credit is whole */
	for (u32 i = 0; i < 6; i++)
		assert_int_equal(inflate(large(i * 512)), AERO_BALLOON_OK);
	assert_int_equal(balloon_credit_pages(&gs), 512); /* 3 % of the VM are less */
	balloon_set_target(&gs, 3072);
	for (u32 i = 0; i < 6; i++)
		back += deflate(large(i * 512)) == AERO_BALLOON_OK;
	assert_int_equal(back, 2);
	assert_int_equal(gs.stats.balloon_relief, 1024);
	assert_int_equal(gs.relief_pages, 1024);
	fake_now_ns += NSEC_PER_SEC / 10; /* 100 by the rate, 5 by the credit */
	for (u32 i = 0, before = back = 0; i < 512; i++, before = back) {
		back += deflate(small(2048 + i)) == AERO_BALLOON_OK;
		if (back == before)
			break;
	}
	assert_in_range(back, 100, 107);
	fake_now_ns += 20 * NSEC_PER_SEC;
	/* What is above the target anyway is no relief. */
	gs.stats.balloon_relief = 0;
	balloon_set_target(&gs, 0);
	assert_int_equal(deflate(large(1536)), AERO_BALLOON_OK);
	assert_int_equal(gs.stats.balloon_relief, 0);
}

static void test_deadline(void **state)
{
	(void)state;
	gs.balloon_rate = 1000;
	assert_int_equal(balloon_deadline_ms(&gs, 2000, 500), 2500);
	assert_int_equal(balloon_deadline_ms(&gs, 0, 500), 0);
	gs.balloon_deadline_ms = balloon_deadline_ms(&gs, 100, 500);
	balloon_set_target(&gs, 100);
	assert_int_equal(balloon_judge(&gs, fake_now_ns), BALLOON_FINE);
	fake_now_ns += NSEC_PER_SEC / 2;
	balloon_judge(&gs, fake_now_ns);
	assert_int_equal(gs.stats.balloon_late, 0);
	fake_now_ns += NSEC_PER_SEC;
	balloon_judge(&gs, fake_now_ns);
	balloon_judge(&gs, fake_now_ns);
	assert_int_equal(gs.stats.balloon_late, 1);
}

static void give_and_touch(u32 pages)
{
	for (u32 i = 0; i < pages; i++) {
		assert_int_equal(inflate(small(i)), AERO_BALLOON_OK);
		touch(i, 1);
	}
}

static void test_liar(void **state)
{
	(void)state;
	gs.balloon_rate = 1 << 20;
	gs.balloon_present = true;
	balloon_set_target(&gs, 1000);
	give_and_touch(BALLOON_LIE_PAGES - 1);
	assert_int_equal(balloon_judge(&gs, fake_now_ns), BALLOON_FINE);
	give_and_touch(1);
	assert_int_equal(balloon_judge(&gs, fake_now_ns), BALLOON_LYING);
	assert_true(fake_log_has("touches what it gave, 128 pages so far; swap takes its part"));
	fake_now_ns += BALLOON_DISTRUST_NS - 1;
	balloon_set_target(&gs, 0);
	assert_int_equal(balloon_judge(&gs, fake_now_ns), BALLOON_LYING);
	fake_now_ns += 1;
	assert_int_equal(balloon_judge(&gs, fake_now_ns), BALLOON_FINE);
	assert_true(fake_log_has("keeps its word again"));
	/* Who gives much more than it breaks is no liar. */
	balloon_set_target(&gs, 4000);
	for (u32 i = 0; i < 4; i++)
		assert_int_equal(inflate(large(1024 + i * 512)), AERO_BALLOON_OK);
	give_and_touch(BALLOON_LIE_PAGES);
	assert_int_equal(balloon_judge(&gs, fake_now_ns), BALLOON_FINE);
}

static void test_notify_and_stall(void **state)
{
	u32 told = fake_mm.balloon_notified;

	(void)state;
	balloon_set_target(&gs, 100);
	balloon_set_target(&gs, 100);
	assert_int_equal(fake_mm.balloon_notified, told + 1);
	assert_false(balloon_stalled(&gs, fake_now_ns + 4 * NSEC_PER_SEC));
	assert_true(balloon_stalled(&gs, fake_now_ns + 6 * NSEC_PER_SEC));
	fake_now_ns += 6 * NSEC_PER_SEC;
	inflate(small(1)); /* one page is progress */
	assert_false(balloon_stalled(&gs, fake_now_ns));
	balloon_set_target(&gs, 200); /* a new target does not forgive an old stall */
	assert_true(balloon_stalled(&gs, fake_now_ns + 6 * NSEC_PER_SEC));
	balloon_set_target(&gs, 1);
	assert_false(balloon_stalled(&gs, fake_now_ns + 6 * NSEC_PER_SEC));
}

/* Random batches against a model of the set of ballooned pages. */
static void test_random_batches(void **state)
{
	static u8 out[PAGES];
	struct prng p;
	u32 held = 0;

	(void)state;
	memset(out, 0, sizeof(out));
	prng_seed(&p, 11);
	for (int round = 0; round < 300; round++) {
		u32 n = 1 + (u32)prng_below(&p, 64);
		bool up = prng_below(&p, 2);

		fake_now_ns += NSEC_PER_SEC;
		for (u32 i = 0; i < n; i++) {
			u64 gfn = prng_below(&p, PAGES);

			batch[i] = prng_below(&p, 40) ? small(gfn) : large(gfn & ~511UL);
			if (!prng_below(&p, 4))
				batch[i] = prng_next(&p) & (BITS(24, 12) | BITS(11, 0));
		}
		if (up)
			balloon_inflate(&gs, batch, n);
		else
			balloon_deflate(&gs, batch, n);
		for (u32 i = 0; i < n; i++) {
			u32 pages = batch[i] & 1 ? 512 : 1;

			for (u32 j = 0; j < pages && !AERO_BALLOON_STATUS(batch[i]); j++) {
				u8 *o = &out[(batch[i] >> PAGE_SHIFT) + j];

				held += up - *o;
				assert_true(!up || !*o);
				*o = up;
			}
		}
		assert_int_equal(balloon_size(&gs), held);
		touch((gfn_t)prng_below(&p, 512), 1); /* only pages of the first unit, checked below */
		for (gfn_t gfn = 0; gfn < 512; gfn++) {
			bool is = gspace_state(&gs, gfn) == PAGE_BALLOONED;

			held -= out[gfn] && !is;
			out[gfn] = is;
		}
	}
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		assert_int_equal(gspace_state(&gs, gfn) == PAGE_BALLOONED, out[gfn]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_single_pages, start, finish),
	    cmocka_unit_test_setup_teardown(test_large_not_granted, start, finish),
	    cmocka_unit_test_setup_teardown(test_hostile_entries, start, finish),
	    cmocka_unit_test_setup_teardown(test_pinned_and_in_flight, start, finish),
	    cmocka_unit_test_setup_teardown(test_large_units, start, finish),
	    cmocka_unit_test_setup_teardown(test_bound_of_a_call, start, finish),
	    cmocka_unit_test_setup_teardown(test_bound_of_splits, start, finish),
	    cmocka_unit_test_setup_teardown(test_target_and_maximum, start, finish),
	    cmocka_unit_test_setup_teardown(test_rate, start, finish),
	    cmocka_unit_test_setup_teardown(test_rate_down_and_credit, start, finish),
	    cmocka_unit_test_setup_teardown(test_deadline, start, finish),
	    cmocka_unit_test_setup_teardown(test_liar, start, finish),
	    cmocka_unit_test_setup_teardown(test_notify_and_stall, start, finish),
	    cmocka_unit_test_setup_teardown(test_random_batches, start, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
