/* See share_test.h. */
#include "tests/unit/share_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mm/frame.h"
#include "mm/reclaim.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/mm_test.h"
#include "tests/unit/space_test.h"

struct gspace a, b;

int share_test_start(void **state)
{
	(void)state;
	mm_test_start(FRAMES, 0);
	reclaim_init(&(struct reclaim_config){.min_free = FRAMES / 5}); /* never plenty: no large pages */
	frame_set_reserve(0);
	space_create(&a, "a", PAGES);
	space_create(&b, "b", PAGES);
	a.share_group = b.share_group = share_group("friends");
	share_set_rate(1000000, 1000000);
	fake_now_ns += NSEC_PER_SEC;
	return 0;
}

int share_test_stop(void **state)
{
	(void)state;
	assert_int_equal(gspace_verify_all(), 0);
	while (!gspace_destroy_some(&a, 200))
		assert_int_equal(gspace_verify_all(), 0);
	while (!gspace_destroy_some(&b, 200))
		assert_int_equal(gspace_verify_all(), 0);
	mm_test_stop();
	return 0;
}

void scan_all(void)
{
	for (u32 i = 0; i < 60; i++) {
		fake_now_ns += NSEC_PER_SEC;
		share_scan(500);
	}
}

struct share_stats stats(void)
{
	struct share_stats s;

	share_stats(&s);
	return s;
}

void share_two(u64 stamp)
{
	fill(&a, 1, stamp);
	fill(&b, 2, stamp);
	assert_false(share_offer(&a, 1)); /* leaves no hint */
	scan_all();
	expect_state(&a, 1, PAGE_SHARED);
	assert_int_equal(hfn_of(&a, 1), hfn_of(&b, 2));
}
