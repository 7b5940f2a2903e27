/* See mm_test.h. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mm/frame.h"
#include "mm/swap.h"
#include "mm/swap_slots.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/mm_test.h"

#define TRIMS 100 /* go through all the tables of any of these disks */

static u32 free_at_start, slots;

void mm_test_start(u32 frames, u32 disk_pages)
{
	slots = disk_pages;
	fake_platform_reset();
	fake_mm_start(frames);
	if (disk_pages)
		fake_blk_start(disk_pages);
	swap_init(0x5eed, 1);
	free_at_start = frame_free_count();
}

void mm_test_stop(void)
{
	struct swap_stats s;
	u32 missing;

	fake_blk_drain();
	for (u32 i = 0; i < TRIMS; i++)
		swap_trim();
	swap_stats(&s);
	assert_int_equal(s.used, 0);
	assert_int_equal(s.reserved, 0);
	assert_int_equal(s.in_flight_in + s.in_flight_out, 0);
	missing = free_at_start - frame_free_count();
	/* a directory, and tables up to the last of them */
	assert_true(missing <= (s.bad ? 1 + DIV_ROUND_UP(slots, SLOTS_PER_CHUNK) : 0));
	frame_verify();
	fake_blk_stop();
	fake_mm_stop();
}
