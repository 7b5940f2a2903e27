/* Swap: slots, transfers, rescue, what is kept of pages that came back. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "mm/swap_slots.h"
#include "mm/zip.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/swap_test.h"

static hfn_t hfn_of(gfn_t gfn)
{
	u32 level;
	u64 e = *pt_find(&gs.pt, gfn_to_gpa(gfn).v, &level);

	return hpa_to_hfn(pt_entry_hpa(gs.pt.fmt, e, level));
}

/* Every page that is on its way out is wanted after all. */
static void touch_everything(struct gspace *space)
{
	fake_mm_on_shootdown = NULL;
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		if (gspace_state(space, gfn) == PAGE_SWAPPING_OUT)
			assert_int_equal(gspace_touch(space, gfn, GSPACE_READ), 0);
}

/* ---- slots ---------------------------------------------------------------- */

static void test_slots_model(void **state)
{
	static struct slots s;
	static u8 model[3000]; /* 1 taken, 2 retired */
	struct prng p;
	u32 first, n, frames = frame_free_count();

	(void)state;
	prng_seed(&p, 3);
	slots_init(&s, sizeof(model));
	assert_int_equal(slots_alloc(&s, 8, &first), 0);
	assert_int_equal(slots_grow(&s, sizeof(model)), 0);
	assert_int_equal(s.active, sizeof(model));
	for (int round = 0; round < 20000; round++) {
		u32 slot = (u32)prng_below(&p, sizeof(model));

		if (prng_below(&p, 40) && (n = slots_alloc(&s, 1 + (u32)prng_below(&p, 32), &first))) {
			for (u32 i = 0; i < n; i++) {
				assert_int_equal(model[first + i], 0);
				model[first + i] = 1;
				*slots_sum(&s, first + i) = first + i;
			}
		}
		for (u32 i = 0; i < 16; i++, slot = (u32)prng_below(&p, sizeof(model))) {
			if (model[slot] != 1)
				continue;
			assert_int_equal(*slots_sum(&s, slot), slot);
			model[slot] = prng_below(&p, 500) ? 0 : 2;
			if (model[slot])
				slots_retire(&s, slot);
			else
				slots_free(&s, slot);
		}
	}
	for (u32 slot = 0; slot < sizeof(model); slot++)
		if (model[slot] == 1)
			slots_free(&s, slot);
	assert_int_equal(s.used, 0);
	assert_true(s.bad > 0);
	assert_true(fake_panics(slots_free(&s, 0)));
	slots_shrink(&s, 0, 100);
	assert_true(s.active > 0); /* retired slots are not forgotten */
	for (u64 left = s.active, got = 0;; got += n) {
		n = slots_alloc(&s, 32, &first);
		if (!n) {
			assert_true(got >= left - s.bad - SLOTS_PER_CHUNK && got <= left - s.bad);
			break;
		}
	}
	assert_true(frames > frame_free_count());
}

static void test_slots_neighbours(void **state)
{
	static struct slots s;
	u32 first, next;

	(void)state;
	slots_init(&s, 2000);
	assert_int_equal(slots_grow(&s, 1000), 0);
	assert_int_equal(s.active, 1008);
	assert_int_equal(slots_alloc(&s, 32, &first), 32);
	assert_int_equal(slots_alloc(&s, 32, &next), 32);
	assert_int_equal(next, first + 32);
	slots_free(&s, first + 5);
	slots_free(&s, first + 6);
	while (slots_alloc(&s, 32, &next) == 32)
		;
	/* The hole is found last, when runs are used up. */
	while (next != first + 5)
		assert_true(slots_alloc(&s, 32, &next) > 0);
	for (u32 i = 0; i < 1008; i++)
		slots_free(&s, i);
	slots_shrink(&s, 505, 100);
	assert_int_equal(s.active, 1008);
	slots_shrink(&s, 504, 100);
	assert_int_equal(s.active, 504);
	slots_shrink(&s, 0, 100);
	assert_int_equal(s.active, 0);
}

/* ---- promises -------------------------------------------------------------- */

static void test_promises(void **state)
{
	struct gspace other = {.name = "other"};

	(void)state;
	swap_stats(&stats);
	assert_int_equal(stats.state, SWAP_ON);
	assert_int_equal(stats.slots, SLOTS);
	assert_int_equal(stats.reserved, PAGES);
	assert_int_equal(stats.unreserved, SLOTS - PAGES);
	assert_int_equal(swap_reserve(&other, SLOTS), E_NOSPC);
	assert_int_equal(swap_reserve(&other, SLOTS - PAGES), 0);
	swap_unreserve(&other);
	assert_int_equal(swap_reserve(&other, 1), 0);
	swap_unreserve(&other);
	assert_int_equal(swap_reserve(&other, 0), 0);
	assert_int_equal(swap_on(&fake_blk_part), E_EXIST);
}

/* A promise that cannot grow stays, also if slots have gone bad since it was made; one that shrinks needs nothing. */
static void test_promise_that_cannot_grow(void **state)
{
	/* and as many to spare fill their tables */
	static const u32 promised = 4 * SLOTS_PER_CHUNK - 16 * BLK_PAGES_MAX;
	static hfn_t held[FRAMES];
	u32 n = 0;

	(void)state;
	assert_int_equal(swap_reserve(&gs, promised), 0);
	fill();
	fake_blk.bad_write_to = SLOTS;
	while (swap_out(&gs, 64))
		fake_blk_drain();
	swap_stats(&stats);
	assert_true(stats.bad >= 200);
	while ((held[n] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false)) != HFN_NONE)
		n++;
	assert_int_equal(swap_reserve(&gs, 2 * PAGES), E_NOMEM);
	assert_int_equal(gs.swap_reserved, promised);
	assert_int_equal(swap_reserve(&gs, promised), 0); /* though there are not so many good ones any more */
	assert_int_equal(swap_reserve(&gs, promised - 1), 0);
	assert_int_equal(swap_reserve(&gs, SLOTS + 1), E_NOSPC);
	swap_stats(&stats);
	assert_int_equal(stats.reserved, promised - 1);
	while (n--)
		frame_free(held[n], 0);
	assert_int_equal(swap_reserve(&gs, 2 * PAGES), 0);
	assert_int_equal(swap_reserve(&gs, PAGES), 0);
}

static void test_off(void **state)
{
	struct gspace other = {.name = "other"};
	struct blk_part data = fake_blk_part;

	(void)state;
	swap_unreserve(&gs);
	swap_init(1, 2);
	swap_stats(&stats);
	assert_int_equal(stats.state, SWAP_OFF);
	assert_string_equal(stats.why, "no swap partition");
	assert_int_equal(stats.unreserved, 0);
	assert_false(swap_can_out());
	assert_int_equal(swap_out(&gs, 10), 0);
	assert_int_equal(swap_reserve(&other, 0), 0);
	assert_int_equal(swap_reserve(&other, 1), E_NOSPC);
	data.kind = BLK_PART_GUEST_DATA;
	assert_int_equal(swap_on(&data), E_INVAL);
	data.kind = BLK_PART_SWAP;
	data.pages = 3;
	assert_int_equal(swap_on(&data), E_INVAL);
	fake_blk_part.dev->gone = true;
	assert_int_equal(swap_on(&fake_blk_part), E_NODEV);
}

/* ---- transfers ------------------------------------------------------------- */

static void test_round_trip(void **state)
{
	u32 used_frames;

	(void)state;
	fill();
	used_frames = frame_free_count();
	all_out();
	check_sum();
	assert_int_equal(gs.count[PAGE_SWAPPED], PAGES);
	assert_int_equal(frame_free_count() - used_frames, PAGES);
	swap_stats(&stats);
	assert_int_equal(stats.used, PAGES);
	assert_int_equal(stats.out, PAGES);
	assert_true(fake_blk.write_requests < PAGES / 16); /* clustered */
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		check_page(gfn, 0);
	swap_stats(&stats);
	assert_int_equal(stats.used, PAGES); /* kept, as long as the pages are as they were */
	assert_int_equal(gs.swap_copies, PAGES);
	assert_int_equal(stats.in, PAGES);
	check_sum();
}

static void all_in(u32 version)
{
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		check_page(gfn, version);
}

/* What has not changed is not written again; what has is, whoever wrote it. */
static void test_unchanged_is_not_written(void **state)
{
	u64 written;
	hfn_t hfn;

	(void)state;
	fill();
	all_out();
	all_in(0);
	written = fake_blk.written;
	all_out();
	swap_stats(&stats);
	assert_int_equal(gs.count[PAGE_SWAPPED], PAGES);
	assert_int_equal(fake_blk.written, written);
	assert_int_equal(stats.unchanged, PAGES);
	assert_int_equal(stats.used, PAGES);
	assert_int_equal(gs.swap_copies, 0);
	all_in(0);
	check_sum();

	for (gfn_t gfn = 0; gfn < PAGES; gfn += 4) /* as a guest does: no fault, nobody is told */
		((u64 *)mm_hfn_to_va(hfn_of(gfn)))[0] = ((u64 *)mm_hfn_to_va(hfn_of(gfn)))[PAGE_SIZE / 8 - 1] =
		    stamp(gfn, 1);
	assert_int_equal(gspace_pin(&gs, 1, true, &hfn), 0);
	gspace_unpin(&gs, 1); /* has lost its slot */
	assert_int_equal(gs.swap_copies, PAGES - 1);
	all_out();
	assert_int_equal(fake_blk.written, written + PAGES / 4 + 1);
	swap_stats(&stats);
	assert_int_equal(stats.used, PAGES);
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		check_page(gfn, gfn % 4 == 0);
	check_sum();
}

/* Who reads on where the last read ended gets more at once; who jumps about gets what it asks for. */
static void test_read_ahead(void **state)
{
	static const u32 touched = 200;
	u32 asked = 0;

	(void)state;
	fill();
	all_out();
	fake_blk.latency_ns = 5 * NSEC_PER_MSEC;
	for (gfn_t gfn = PAGES - 1; gfn >= PAGES - touched; gfn--)
		check_page(gfn, 0);
	assert_int_equal(gs.stats.swap_ahead, 0);
	assert_int_equal(gs.stats.swap_in, touched);
	for (gfn_t gfn = 0; gfn < touched; gfn++) {
		asked += gspace_state(&gs, gfn) == PAGE_SWAPPED;
		check_page(gfn, 0);
	}
	assert_true(asked < touched / 2);
	assert_true(gs.stats.swap_ahead >= touched - asked);
	assert_int_equal(fake_mm.poisoned, 0);
	check_sum();
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		check_page(gfn, 0);
}

static u32 slot_of(gfn_t gfn)
{
	u32 level;
	u64 e = *pt_find(&gs.pt, gfn_to_gpa(gfn).v, &level);

	return (u32)pt_token_payload(e);
}

/* However much is read ahead, whoever asks for a page is served. */
static void test_ahead_leaves_room(void **state)
{
	u32 waits = 0;

	(void)state;
	fill();
	all_out();
	fake_blk.hold = true;
	for (gfn_t gfn = 0; gfn + 8 < PAGES && waits < 40; gfn += 8) {
		gs.ahead = 8;
		gs.ahead_next = gfn;
		if (gspace_state(&gs, gfn) != PAGE_SWAPPED)
			continue;
		assert_int_equal(gspace_touch(&gs, gfn, GSPACE_READ), E_AGAIN);
		assert_int_equal(gspace_state(&gs, gfn), PAGE_SWAPPING_IN);
		waits++;
	}
	assert_int_equal(waits, 40);
	assert_in_range(gs.stats.swap_ahead, 8, 31);
	fake_blk.hold = false;
	fake_blk_drain();
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		check_page(gfn, 0);
}

/* A page that was only read ahead and is bad ends nobody until it is asked for. */
static void test_bad_page_ahead(void **state)
{
	gfn_t gfn = 0;

	(void)state;
	fill();
	all_out();
	while (slot_of(gfn + 1) != slot_of(gfn) + 1)
		gfn++;
	gs.ahead = 4;
	gs.ahead_next = gfn;
	fake_blk.bad_read_from = slot_of(gfn + 1);
	fake_blk.bad_read_to = fake_blk.bad_read_from + 1;
	check_page(gfn, 0);
	fake_blk_drain();
	assert_int_equal(gspace_state(&gs, gfn + 1), PAGE_SWAPPED);
	assert_int_equal(fake_mm.poisoned, 0);
	assert_int_equal(touch_wait(gfn + 1, GSPACE_READ), E_IO);
	assert_int_equal(fake_mm.poisoned, 1);
}

/* A slot goes with its page. */
static void test_copies_go(void **state)
{
	(void)state;
	fill();
	all_out();
	all_in(0);
	for (gfn_t gfn = 0; gfn < 100; gfn++)
		assert_int_equal(gspace_balloon_take(&gs, gfn), 0);
	gspace_flush(&gs);
	swap_stats(&stats);
	assert_int_equal(gs.swap_copies, PAGES - 100);
	assert_int_equal(stats.used, PAGES - 100);
	/* A page on its way out, unchanged but touched. */
	fake_mm_on_shootdown = touch_everything;
	swap_out(&gs, 32);
	fake_mm_on_shootdown = NULL;
	fake_blk_drain();
	assert_int_equal(gs.stats.swap_rescued, 32);
	assert_int_equal(gs.swap_copies, PAGES - 100);
	for (gfn_t gfn = 100; gfn < PAGES; gfn++)
		check_page(gfn, 0);
	check_sum();
}

/* Slots are for pages that go out, not for those that have come back. */
static void test_copies_make_room(void **state)
{
	(void)state;
	fill();
	all_out();
	for (gfn_t gfn = 600; gfn--;) /* not in the order that is read ahead */
		check_page(gfn, 0);
	swap_unreserve(&gs);
	assert_int_equal(swap_reserve(&gs, 500), 0);
	swap_shed(&gs);
	assert_int_equal(gs.swap_copies, 76);
	swap_shed(&gs);
	swap_stats(&stats);
	assert_int_equal(gs.swap_copies, 76);
	assert_int_equal(stats.used, 500);
	for (gfn_t gfn = 0; gfn < 600; gfn++)
		write_page(gfn, 1);
	for (int i = 0; i < 20; i++) {
		swap_out(&gs, 16);
		fake_blk_drain();
	}
	assert_int_equal(gs.count[PAGE_SWAPPED] + gs.swap_copies, 500);
	assert_true(gs.count[PAGE_SWAPPED] > 480);
	swap_stats(&stats);
	assert_int_equal(stats.used, 500);
	check_sum();
}

/* A device that went away keeps nothing: the page in RAM is the only one. */
static void test_copies_of_a_lost_device(void **state)
{
	(void)state;
	fill();
	all_out();
	all_in(0);
	fake_blk.gone = true;
	fake_blk_poll();
	fake_blk_part.dev->gone = true;
	assert_int_equal(swap_out(&gs, 32), 0);
	zip_init(1, 10); /* even if another tier still works */
	swap_out(&gs, 32);
	assert_int_equal(gs.count[PAGE_SWAPPED], 0);
	all_in(0);
	zip_init(1, 0);
}

/* Pages go out while the guest writes; model and memory agree at all times. */
static void test_random_use(void **state)
{
	static u32 version[PAGES];
	struct prng p;

	(void)state;
	memset(version, 0, sizeof(version));
	prng_seed(&p, 5);
	fake_blk.latency_ns = 5 * NSEC_PER_MSEC;
	fill();
	for (int i = 0; i < 30000; i++) {
		gfn_t gfn = (gfn_t)prng_below(&p, PAGES);

		fake_now_ns += prng_below(&p, NSEC_PER_MSEC);
		if (!prng_below(&p, 8))
			swap_out(&gs, 1 + (u32)prng_below(&p, 80));
		fake_blk_poll();
		if (prng_below(&p, 3)) {
			assert_int_equal(touch_wait(gfn, GSPACE_WRITE), 0);
			write_page(gfn, ++version[gfn]);
		} else {
			check_page(gfn, version[gfn]);
		}
		if (i % 1000 == 0)
			check_sum();
	}
	swap_stats(&stats);
	assert_true(stats.rescued > 20 && stats.out > 1000 && stats.in > 1000);
	assert_int_equal(stats.checksum_errors, 0);
}

static void test_rescue(void **state)
{
	u32 n;

	(void)state;
	fill();
	fake_blk.hold = true;
	n = swap_out(&gs, 64);
	assert_int_equal(n, 64);
	assert_int_equal(gs.count[PAGE_SWAPPING_OUT], 64);
	for (gfn_t gfn = 0; gfn < PAGES; gfn++) {
		check_page(gfn, 0); /* without any transfer ending */
		write_page(gfn, 1);
	}
	assert_int_equal(gs.count[PAGE_PRIVATE], PAGES);
	assert_true(swap_busy(&gs));
	fake_blk.hold = false;
	fake_blk_drain();
	assert_false(swap_busy(&gs));
	swap_stats(&stats);
	assert_int_equal(stats.used, 0);
	assert_int_equal(stats.rescued, 64);
	assert_int_equal(gs.stats.swap_rescued, 64);
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		check_page(gfn, 1);
}

static void test_saturation(void **state)
{
	u32 total = 0, n;

	(void)state;
	fill();
	fake_blk.hold = true;
	while ((n = swap_out(&gs, 1000)))
		total += n;
	assert_in_range(total, 64, 512);
	assert_false(swap_can_out());
	fake_blk.hold = false;
	fake_blk_drain();
	assert_true(swap_can_out());
	all_out();

	/* More reads than records: the touch is told to wait, and is woken. */
	fake_blk.hold = true;
	for (gfn_t gfn = 0; gfn < 100; gfn++)
		assert_int_equal(gspace_touch(&gs, gfn, GSPACE_READ), E_AGAIN);
	assert_in_range(gs.count[PAGE_SWAPPING_IN], 32, 99);
	n = fake_mm.wakes;
	fake_blk.hold = false;
	fake_blk_drain();
	assert_true(fake_mm.wakes > n);
	for (gfn_t gfn = 0; gfn < 100; gfn++)
		check_page(gfn, 0);
}

static void test_slow_device(void **state)
{
	u32 deep, n = 0;

	(void)state;
	fill();
	fake_blk.latency_ns = NSEC_PER_MSEC;
	for (int i = 0; i < 20; i++) {
		swap_out(&gs, 16);
		fake_blk_drain();
	}
	fake_blk.latency_ns = NSEC_PER_SEC;
	while (swap_out(&gs, 16))
		n++;
	deep = fake_blk.pending;
	fake_blk_drain();
	for (int i = 0; i < 3; i++) {
		swap_out(&gs, 16);
		fake_blk_drain();
	}
	while (swap_out(&gs, 16))
		n++;
	assert_true(deep > 4);
	assert_int_equal(fake_blk.pending, 1);
	fake_blk_drain();
}

static void test_zero_pages_need_no_slot(void **state)
{
	(void)state;
	for (gfn_t gfn = 0; gfn < 200; gfn++)
		assert_int_equal(gspace_touch(&gs, gfn, GSPACE_WRITE), 0);
	assert_true(swap_out(&gs, 32) > 0);
	fake_blk_drain();
	assert_true(gs.count[PAGE_ZERO] > 0);
	assert_int_equal(fake_blk.written, 0);
	swap_stats(&stats);
	assert_int_equal(stats.used, 0);
}

static void test_quota(void **state)
{
	(void)state;
	swap_unreserve(&gs);
	assert_int_equal(swap_reserve(&gs, 100), 0);
	fill();
	all_out();
	assert_int_equal(gs.count[PAGE_SWAPPED], 100);
	assert_int_equal(swap_out(&gs, 10), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_slots_model, start, finish_unchecked),
	    cmocka_unit_test_setup_teardown(test_slots_neighbours, start, finish),
	    cmocka_unit_test_setup_teardown(test_promises, start, finish),
	    cmocka_unit_test_setup_teardown(test_promise_that_cannot_grow, start, finish),
	    cmocka_unit_test_setup_teardown(test_off, start, finish_unchecked),
	    cmocka_unit_test_setup_teardown(test_round_trip, start, finish),
	    cmocka_unit_test_setup_teardown(test_unchanged_is_not_written, start, finish),
	    cmocka_unit_test_setup_teardown(test_read_ahead, start, finish),
	    cmocka_unit_test_setup_teardown(test_ahead_leaves_room, start, finish),
	    cmocka_unit_test_setup_teardown(test_bad_page_ahead, start, finish),
	    cmocka_unit_test_setup_teardown(test_copies_go, start, finish),
	    cmocka_unit_test_setup_teardown(test_copies_make_room, start, finish),
	    cmocka_unit_test_setup_teardown(test_copies_of_a_lost_device, start, finish_unchecked),
	    cmocka_unit_test_setup_teardown(test_random_use, start, finish),
	    cmocka_unit_test_setup_teardown(test_rescue, start, finish),
	    cmocka_unit_test_setup_teardown(test_saturation, start, finish),
	    cmocka_unit_test_setup_teardown(test_slow_device, start, finish),
	    cmocka_unit_test_setup_teardown(test_zero_pages_need_no_slot, start, finish),
	    cmocka_unit_test_setup_teardown(test_quota, start, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
