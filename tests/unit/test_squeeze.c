/*
 * Guests that make it hard to take memory back, by chance or on purpose: all of mm over simulated disk and time. What
 * is promised must be had in bounded time, whatever the others do.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "lib/prng.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/reclaim.h"
#include "mm/rmap.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zip.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/mm_test.h"

#define FRAMES   4096U
#define SLOTS    16384U
#define TICK_NS  (2 * NSEC_PER_MSEC)
#define PATIENCE 30000U /* ticks: a minute */
#define OTHER    (1UL << 40)

static struct gspace one, two;
static u32 spaces; /* begun: one first */

static int start(void **state)
{
	(void)state;
	mm_test_start(FRAMES, SLOTS);
	fake_blk.latency_ns = NSEC_PER_MSEC;
	reclaim_init(NULL);
	assert_int_equal(swap_on(&fake_blk_part), 0);
	share_set_rate(1000000, 1000000);
	zip_init(3, 0);
	return 0;
}

static void add(struct gspace *gs, const char *name, u32 pages, u32 reservation)
{
	struct mem_alloc alloc = {.reservation = reservation, .limit = pages, .shares = pages};

	assert_int_equal(gspace_init(gs, name, pages, &fake_format, &alloc), 0);
	assert_int_equal(swap_reserve(gs, pages - reservation), 0);
	reclaim_add(gs);
	spaces++;
}

static void tick(void)
{
	fake_now_ns += TICK_NS;
	fake_blk_poll();
	reclaim_step(fake_now_ns);
	share_scan(64);
}

static void end(struct gspace *gs)
{
	u32 left = PATIENCE;

	reclaim_remove(gs);
	while (!gspace_destroy_some(gs, 256)) {
		assert_true(left--);
		tick();
	}
	swap_unreserve(gs);
}

/* Everything comes back. */
static int finish(void **state)
{
	(void)state;
	for (; spaces; spaces--)
		end(spaces == 1 ? &one : &two);
	mm_test_stop();
	return 0;
}

static void put(struct gspace *gs, gfn_t gfn, u64 value)
{
	u32 left = PATIENCE;

	while (gspace_write(gs, gfn_to_gpa(gfn), &value, sizeof(value))) {
		assert_true(left--); /* the guest is stuck */
		tick();
	}
}

static void expect(struct gspace *gs, gfn_t gfn, u64 value)
{
	u64 seen = 0;
	u32 left = PATIENCE;

	while (gspace_read(gs, gfn_to_gpa(gfn), &seen, sizeof(seen))) {
		assert_true(left--);
		tick();
	}
	assert_int_equal(seen, value);
}

static void expect_clean(void)
{
	fake_blk_drain();
	assert_int_equal(gspace_verify_all(), 0);
}

/* Two guests without a balloon, each larger than the machine: whether they are equal or not, swap has room for them. */
static void two_larger_than_the_machine(u64 difference)
{
	const u32 pages = FRAMES + 400;

	add(&one, "one", pages, 0);
	add(&two, "two", pages, 0);
	for (gfn_t gfn = 0; gfn < pages; gfn++) {
		put(&one, gfn, gfn + 1);
		put(&two, gfn, gfn + 1 + difference);
		tick();
	}
	for (gfn_t gfn = 0; gfn < pages; gfn++) {
		expect(&one, gfn, gfn + 1);
		expect(&two, gfn, gfn + 1 + difference);
	}
	expect_clean();
}

static void different_guests_are_swapped(void **state)
{
	(void)state;
	two_larger_than_the_machine(OTHER);
}

static void shared_pages_are_swapped_when_nothing_else_is_left(void **state)
{
	(void)state;
	two_larger_than_the_machine(0);
}

/* While there is plenty of memory a VM comes down to its limit, though all that it holds is shared with another. */
static void shared_pages_are_taken_for_a_limit(void **state)
{
	const u32 pages = 500, limit = 120; /* no large pages, which are left alone in times of plenty */
	u64 joined;

	(void)state;
	add(&one, "one", pages, 0);
	add(&two, "two", pages, 0);
	one.share_group = two.share_group = share_group("both");
	for (gfn_t gfn = 0; gfn < pages; gfn++) {
		put(&one, gfn, gfn + 1);
		put(&two, gfn, gfn + 1);
	}
	for (u32 i = 0; i < 5000 && one.count[PAGE_SHARED] < pages; i++)
		tick();
	assert_int_equal(one.count[PAGE_SHARED], pages);
	assert_true(gspace_consumed(&one) > 2 * limit);
	joined = one.stats.shared_in;
	one.alloc.limit = limit;
	for (u32 i = 0; i < 20000 && gspace_consumed(&one) > limit; i++)
		tick();
	assert_true(gspace_consumed(&one) <= limit);
	assert_int_equal(one.stats.shared_in, joined); /* none was taken only to be shared again */
	for (gfn_t gfn = 0; gfn < pages; gfn++)
		expect(&one, gfn, gfn + 1);
	expect_clean();
}

/* Makes its pages equal in pairs, waits until they are shared, and changes one of each pair. */
static void hoard(struct gspace *gs, u32 pages)
{
	for (gfn_t gfn = 0; gfn < pages; gfn++)
		put(gs, gfn, 1000 + gfn / 2);
	for (u32 i = 0; i < 2000; i++)
		tick();
	for (gfn_t gfn = 0; gfn < pages; gfn += 2)
		put(gs, gfn, OTHER + gfn);
}

static u32 sole_frames(void)
{
	u32 n = 0;

	for (hfn_t hfn = 0; hfn < frame_span(); hfn++)
		n += frame_get(hfn)->state == FRAME_SHARED && rmap_refs(hfn) == 1;
	return n;
}

static void frames_that_nobody_else_maps_are_private_again(void **state)
{
	u32 made;

	(void)state;
	add(&one, "one", 3400, 0); /* large pages are left alone in times of plenty */
	hoard(&one, 3400);
	made = sole_frames();
	assert_true(made > 500);
	for (u32 i = 0; i < 4000; i++)
		tick();
	assert_true(sole_frames() < made / 20);
	assert_true(one.count[PAGE_PRIVATE] > 3000); /* and it is charged for them */
	assert_true(gspace_consumed(&one) > 3000);
	expect_clean();
}

/* What was promised to the second VM is had, however the first one holds its pages. */
static void hoarded_pages_are_taken(void **state)
{
	(void)state;
	share_set_rate(1000000, 1000000);
	add(&one, "one", 6000, 0);
	hoard(&one, 3600);
	share_set_rate(0, 0); /* they stay as they are */
	add(&two, "two", 1500, 1500);
	for (gfn_t gfn = 0; gfn < 1500; gfn++)
		put(&two, gfn, gfn + 1);
	for (gfn_t gfn = 0; gfn < 1500; gfn++)
		expect(&two, gfn, gfn + 1);
	for (gfn_t gfn = 0; gfn < 3600; gfn += 2) {
		expect(&one, gfn, OTHER + gfn);
		expect(&one, gfn + 1, 1000 + gfn / 2);
	}
	expect_clean();
}

/* A guest that touches whatever is being written, on a slow disk, keeps nothing by it. */
static void a_sweep_does_not_keep_pages_from_swap(void **state)
{
	u32 got = 0;

	(void)state;
	fake_blk.latency_ns = 20 * NSEC_PER_MSEC;
	share_set_rate(0, 0);
	add(&one, "one", 6000, 0);
	for (gfn_t gfn = 0; gfn < 3500; gfn++)
		put(&one, gfn, gfn + 1);
	add(&two, "two", 1500, 1500);
	for (u32 i = 0; i < PATIENCE && got < 1500; i++) {
		u64 value = got + 1;

		while (got < 1500 && !gspace_write(&two, gfn_to_gpa(got), &value, sizeof(value)))
			value = ++got + 1;
		tick();
		for (gfn_t gfn = 0; gfn < 3500; gfn++)
			if (gspace_state(&one, gfn) == PAGE_SWAPPING_OUT)
				(void)!gspace_touch(&one, gfn, GSPACE_READ);
	}
	assert_int_equal(got, 1500);
	for (gfn_t gfn = 0; gfn < 3500; gfn++)
		expect(&one, gfn, gfn + 1);
	expect_clean();
}

/* ---- compressed pages ---------------------------------------------------------- */

#define SOFT_BYTES 1900U /* of a page that compresses to just under half */

/* A page that compresses so that two of them take a frame. Waits as a guest would. */
static void put_soft(struct gspace *gs, gfn_t gfn)
{
	u8 data[SOFT_BYTES];
	struct prng p;
	u32 left = PATIENCE;

	prng_seed(&p, gfn + 1);
	for (u32 i = 0; i < SOFT_BYTES; i++)
		data[i] = (u8)prng_next(&p);
	while (gspace_write(gs, gfn_to_gpa(gfn), data, SOFT_BYTES)) {
		assert_true(left--);
		tick();
	}
}

static void expect_soft(struct gspace *gs, gfn_t gfn)
{
	u8 data[SOFT_BYTES];
	struct prng p;
	u32 left = PATIENCE;

	while (gspace_read(gs, gfn_to_gpa(gfn), data, SOFT_BYTES)) {
		assert_true(left--);
		tick();
	}
	prng_seed(&p, gfn + 1);
	for (u32 i = 0; i < SOFT_BYTES; i++)
		assert_int_equal(data[i], (u8)prng_next(&p));
}

/*
 * What one VM holds in compressed pages is taken for what another was promised, however much of it its settings allow.
 */
static void compressed_pages_are_taken(void **state)
{
	const u32 pages = 6000, promised = 3000;

	(void)state;
	zip_set_percent(25);
	share_set_rate(0, 0);
	add(&one, "one", 12000, 0);
	for (gfn_t gfn = 0; gfn < pages; gfn++)
		put_soft(&one, gfn);
	for (u32 i = 0; i < 2000; i++)
		tick();
	assert_true(one.zip.frames > FRAMES / 4);
	add(&two, "two", promised, promised);
	for (gfn_t gfn = 0; gfn < promised; gfn++)
		put(&two, gfn, gfn + 1);
	for (gfn_t gfn = 0; gfn < pages; gfn++)
		expect_soft(&one, gfn);
	for (gfn_t gfn = 0; gfn < promised; gfn++)
		expect(&two, gfn, gfn + 1);
	expect_clean();
}

/* A VM whose limit is less than its compressed pages may take goes on. */
static void compressed_pages_below_a_limit(void **state)
{
	const u32 pages = 4000;

	(void)state;
	zip_set_percent(25);
	share_set_rate(0, 0);
	add(&one, "one", 8000, 0);
	one.alloc.limit = 600;
	one.limit_now = 600;
	for (gfn_t gfn = 0; gfn < pages; gfn++)
		put_soft(&one, gfn);
	for (gfn_t gfn = 0; gfn < pages; gfn++)
		expect_soft(&one, gfn);
	expect_clean();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(different_guests_are_swapped, start, finish),
	    cmocka_unit_test_setup_teardown(shared_pages_are_swapped_when_nothing_else_is_left, start, finish),
	    cmocka_unit_test_setup_teardown(shared_pages_are_taken_for_a_limit, start, finish),
	    cmocka_unit_test_setup_teardown(frames_that_nobody_else_maps_are_private_again, start, finish),
	    cmocka_unit_test_setup_teardown(hoarded_pages_are_taken, start, finish),
	    cmocka_unit_test_setup_teardown(a_sweep_does_not_keep_pages_from_swap, start, finish),
	    cmocka_unit_test_setup_teardown(compressed_pages_are_taken, start, finish),
	    cmocka_unit_test_setup_teardown(compressed_pages_below_a_limit, start, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
