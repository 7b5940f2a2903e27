/* See swap_test.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/err.h"
#include "mm/reclaim.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/mm_test.h"
#include "tests/unit/swap_test.h"

struct gspace gs;
struct swap_stats stats;

const struct mem_alloc all_of_it = {.reservation = 0, .limit = PAGES, .shares = 10};

int start(void **state)
{
	(void)state;
	mm_test_start(FRAMES, SLOTS);
	reclaim_init(NULL);
	assert_int_equal(swap_on(&fake_blk_part), 0);
	assert_int_equal(gspace_init(&gs, "vm", PAGES, &fake_format, &all_of_it), 0);
	reclaim_add(&gs);
	assert_int_equal(swap_reserve(&gs, PAGES), 0);
	return 0;
}

void end_space(struct gspace *g)
{
	reclaim_remove(g);
	for (int i = 0; !gspace_destroy_some(g, 128); i++) {
		fake_now_ns += NSEC_PER_MSEC;
		fake_blk_poll();
		assert_true(i < 10000);
	}
	swap_unreserve(g);
}

int finish_unchecked(void **state)
{
	(void)state;
	end_space(&gs);
	fake_mm_stop();
	fake_blk_stop();
	return 0;
}

int finish(void **state)
{
	(void)state;
	end_space(&gs);
	mm_test_stop();
	return 0;
}

u64 stamp(gfn_t gfn, u32 version)
{
	return 0x1000000000000001UL + ((u64)version << 32) + gfn;
}

void write_page(gfn_t gfn, u32 version)
{
	u64 v = stamp(gfn, version);

	assert_int_equal(gspace_touch(&gs, gfn, GSPACE_WRITE), 0);
	assert_int_equal(gspace_write(&gs, gfn_to_gpa(gfn), &v, sizeof(v)), 0);
	assert_int_equal(gspace_write(&gs, GPA(gfn_to_gpa(gfn).v + PAGE_SIZE - 8), &v, sizeof(v)), 0);
}

int touch_wait(gfn_t gfn, enum gspace_access access)
{
	int err;

	while ((err = gspace_touch(&gs, gfn, access)) == E_AGAIN) {
		assert_true(fake_blk.pending > 0);
		fake_now_ns += NSEC_PER_MSEC;
		fake_blk_poll();
		if (fake_mm.poisoned)
			return E_IO;
	}
	return err;
}

void check_page(gfn_t gfn, u32 version)
{
	u64 v[2];

	assert_int_equal(touch_wait(gfn, GSPACE_READ), 0);
	assert_int_equal(gspace_read(&gs, gfn_to_gpa(gfn), &v[0], 8), 0);
	assert_int_equal(gspace_read(&gs, GPA(gfn_to_gpa(gfn).v + PAGE_SIZE - 8), &v[1], 8), 0);
	assert_true(v[0] == stamp(gfn, version) && v[1] == v[0]);
}

void fill(void)
{
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		write_page(gfn, 0);
}

void all_out(void)
{
	u32 idle = 0;

	while (gs.count[PAGE_SWAPPED] < PAGES && idle < 10) {
		idle = swap_out(&gs, 64) ? 0 : idle + 1;
		fake_blk_drain();
	}
}

void check_sum(void)
{
	assert_int_equal(gspace_verify(&gs), 0);
}
