/* See space_test.h. */
#include "tests/unit/space_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mm/reclaim.h"
#include "mm/swap.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/mm_test.h"

struct gspace one, two;

void space_create(struct gspace *gs, const char *name, gfn_t pages)
{
	const struct mem_alloc alloc = {.limit = pages, .shares = 40};

	assert_int_equal(gspace_init(gs, name, pages, &fake_format, &alloc), 0);
}

void space_test_start(u32 frames, u32 disk_pages, gfn_t pages)
{
	mm_test_start(frames, disk_pages);
	assert_int_equal(swap_on(&fake_blk_part), 0);
	reclaim_init(&(struct reclaim_config){.min_free = 1});
	frame_set_reserve(0);
	space_create(&one, "one", pages);
	assert_int_equal(swap_reserve(&one, pages), 0);
}

int space_test_stop(void **state)
{
	(void)state;
	assert_int_equal(gspace_verify_all(), 0);
	destroy(&one);
	mm_test_stop();
	return 0;
}

void touch(struct gspace *gs, gfn_t gfn, enum gspace_access access)
{
	assert_int_equal(gspace_touch(gs, gfn, access), 0);
}

void fill(struct gspace *gs, gfn_t gfn, u64 stamp)
{
	u64 page[PAGE_SIZE / 8];

	for (u32 i = 0; i < ARRAY_SIZE(page); i++)
		page[i] = stamp * (i + 1);
	assert_int_equal(gspace_write(gs, gfn_to_gpa(gfn), page, PAGE_SIZE), 0);
}

void expect_stamp(struct gspace *gs, gfn_t gfn, u64 stamp)
{
	u64 page[PAGE_SIZE / 8];

	assert_int_equal(gspace_read(gs, gfn_to_gpa(gfn), page, PAGE_SIZE), 0);
	for (u32 i = 0; i < ARRAY_SIZE(page); i++)
		assert_int_equal(page[i], stamp * (i + 1));
}

void expect_state(struct gspace *gs, gfn_t gfn, enum page_state s)
{
	assert_string_equal(page_state_name(gspace_state(gs, gfn)), page_state_name(s));
	assert_int_equal(gspace_verify_all(), 0);
}

struct page look(struct gspace *gs, gfn_t gfn)
{
	struct page p;

	lock_acquire(&gs->lock);
	page_look(gs, gfn, &p);
	lock_release(&gs->lock);
	return p;
}

hfn_t hfn_of(struct gspace *gs, gfn_t gfn)
{
	return look(gs, gfn).payload;
}

void destroy(struct gspace *gs)
{
	swap_unreserve(gs);
	for (u32 i = 0; !gspace_destroy_some(gs, 300); i++) {
		assert_int_equal(gspace_verify(gs), 0);
		fake_blk_drain();
		assert_true(i < 1000);
	}
}
