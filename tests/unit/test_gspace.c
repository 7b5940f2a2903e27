/* Guest address spaces: how they begin and end, and the guards around what they hold. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/err.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/space_test.h"

#define FRAMES     1500
#define PAGES      1000
#define DISK_PAGES 4096

static const struct mem_alloc settings = {.limit = PAGES, .shares = 40};

static int start(void **state)
{
	(void)state;
	space_test_start(FRAMES, DISK_PAGES, PAGES);
	return 0;
}

/* ---- life ---------------------------------------------------------------- */

static void begins_empty(void **state)
{
	(void)state;
	assert_int_equal(one.count[PAGE_ABSENT], PAGES);
	assert_int_equal(one.pt.tables, 1);
	assert_int_equal(gspace_consumed(&one), 0);
	assert_string_equal(one.name, "one");
	assert_int_not_equal(one.tlb_gen, 0);
	assert_ptr_equal(gspace_by_id(one.id), &one);
	assert_null(gspace_by_id(0));
	assert_null(gspace_by_id(GSPACE_MAX));
	assert_null(gspace_by_id(65535));
	assert_null(gspace_get(65535));
	assert_ptr_equal(gspace_next(NULL), &one);
	assert_null(gspace_next(&one));
	expect_state(&one, 0, PAGE_ABSENT);
	expect_state(&one, PAGES + 5, PAGE_ABSENT);
}

static void ids_are_unique(void **state)
{
	static struct gspace many[GSPACE_MAX];
	static u8 seen[GSPACE_MAX];
	u32 n = 0, before = frame_free_count();

	(void)state;
	memset(seen, 0, sizeof(seen));
	seen[one.id] = 1;
	while (!gspace_init(&many[n], "many", 1, &fake_format, &settings)) {
		assert_true(many[n].id > 0 && many[n].id < GSPACE_MAX);
		assert_int_equal(seen[many[n].id]++, 0);
		n++;
	}
	assert_int_equal(n, GSPACE_MAX - 2);
	for (u32 i = 0; i < n; i++)
		destroy(&many[i]);
	assert_int_equal(frame_free_count(), before);
}

static void init_out_of_memory(void **state)
{
	hfn_t held[FRAMES];
	u32 n = 0;

	(void)state;
	while ((held[n] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false)) != HFN_NONE)
		n++;
	assert_int_equal(gspace_init(&two, "two", 10, &fake_format, &settings), E_NOMEM);
	assert_null(gspace_next(&one));
	while (n--)
		frame_free(held[n], 0);
}

static void destroy_is_bounded(void **state)
{
	u32 calls = 0, before;

	(void)state;
	space_create(&two, "two", PAGES);
	for (gfn_t g = 0; g < 700; g++)
		fill(&two, g, g);
	before = frame_free_count();
	assert_false(gspace_destroy_some(&two, 100));
	assert_true(frame_free_count() - before <= 100);
	assert_int_equal(gspace_verify_all(), 0);
	assert_int_equal(gspace_touch(&two, 650, GSPACE_READ), E_FAULT);
	assert_int_equal(gspace_balloon_take(&two, 650), E_INVAL);
	assert_null(gspace_get(two.id));
	assert_ptr_equal(gspace_by_id(two.id), &two);
	while (!gspace_destroy_some(&two, 100))
		calls++;
	assert_true(calls >= 5 && calls < 20);
	assert_null(gspace_by_id(two.id));
}

/* Each CPU counts what it changes: pages come on some and go on another. */
static void counted_on_many_cpus(void **state)
{
	u64 host[PAGE_STATES];

	(void)state;
	space_create(&two, "two", PAGES);
	for (u32 i = 0; i < 60; i++) {
		fake_cpu_index = i % 3;
		touch(i % 2 ? &one : &two, i, i % 6 < 2 ? GSPACE_READ : GSPACE_WRITE);
	}
	fake_cpu_index = 3;
	gspace_host_counts(host);
	assert_int_equal(host[PAGE_PRIVATE], 40);
	assert_int_equal(host[PAGE_ZERO], 20);
	assert_int_equal(host[PAGE_ABSENT], 2 * PAGES - 60);
	assert_int_equal(gspace_verify_all(), 0);
	destroy(&two);
	gspace_host_counts(host);
	assert_int_equal(host[PAGE_PRIVATE], 20);
	assert_int_equal(host[PAGE_ABSENT], PAGES - 30);
	for (gfn_t g = 0; g < 60; g++)
		if (g % 2)
			touch(&one, g, GSPACE_WRITE);
	gspace_host_counts(host);
	assert_int_equal(host[PAGE_PRIVATE], 30);
	assert_int_equal(host[PAGE_ZERO], 0);
	fake_cpu_index = 0;
}

static void destroy_waits(void **state)
{
	struct gspace *held;
	hfn_t hfn;

	(void)state;
	space_create(&two, "two", PAGES);
	assert_int_equal(gspace_pin(&two, 5, true, &hfn), 0);
	held = gspace_get(two.id);
	assert_ptr_equal(held, &two);
	for (u32 i = 0; i < 10; i++)
		assert_false(gspace_destroy_some(&two, 1000));
	assert_int_equal(two.count[PAGE_PINNED], 1);
	gspace_unpin(&two, 5);
	for (u32 i = 0; i < 10; i++)
		assert_false(gspace_destroy_some(&two, 1000));
	assert_int_equal(two.count[PAGE_ABSENT], PAGES);
	gspace_put(held);
	assert_true(gspace_destroy_some(&two, 1000));
}

/* A huge space that was hardly touched is given back in few steps. */
static void destroy_skips_what_was_never_there(void **state)
{
	u32 calls = 0;

	(void)state;
	assert_int_equal(gspace_init(&two, "huge", 16 << 18, &fake_format, &settings), 0);
	touch(&two, (16 << 18) - 1, GSPACE_WRITE);
	touch(&two, 7 << 18, GSPACE_WRITE);
	while (!gspace_destroy_some(&two, 1000))
		calls++;
	assert_true(calls < 20);
}

/* ---- guards -------------------------------------------------------------- */

static void illegal_changes_panic(void **state)
{
	static const enum page_state want[] = {PAGE_ABSENT,      PAGE_ZERO,       PAGE_SHARED,
					       PAGE_BALLOONED,   PAGE_SWAPPED,    PAGE_SWAPPING_OUT,
					       PAGE_SWAPPING_IN, PAGE_COMPRESSED, PAGE_PINNED};
	hfn_t hfn;

	(void)state;
	assert_int_equal(gspace_pin(&one, 1, true, &hfn), 0);
	for (u32 i = 0; i < ARRAY_SIZE(want); i++) {
		lock_acquire(&one.lock);
		assert_true(fake_panics(gspace_change(&one, pt_find(&one.pt, PAGE_SIZE, &(u32){0}), 1, want[i], hfn)));
		lock_init(&one.lock, "gspace", LOCK_RANK_GSPACE);
	}
	assert_non_null(strstr(fake_panic_text, "pinned -> pinned"));
	/* Nothing was changed by these attempts. */
	expect_state(&one, 1, PAGE_PINNED);
	gspace_unpin(&one, 1);
	assert_true(fake_panics(gspace_unpin(&one, 1)));
	lock_init(&one.lock, "gspace", LOCK_RANK_GSPACE);
}

static void verify_finds_damage(void **state)
{
	struct frame *f;
	hfn_t hfn;
	u64 *entry;

	(void)state;
	fill(&one, 1, 1);
	fill(&one, 2, 2);
	hfn = hfn_of(&one, 1);
	f = frame_get(hfn);
	entry = pt_find(&one.pt, PAGE_SIZE, &(u32){0});
	assert_int_equal(gspace_verify_all(), 0);

	f->owner++;
	assert_int_equal(gspace_verify(&one), 1);
	f->owner--;
	f->gfn = 2;
	assert_int_equal(gspace_verify(&one), 1);
	f->gfn = 1;
	f->pins = 1;
	assert_int_equal(gspace_verify(&one), 1);
	f->pins = 0;
	*entry ^= FAKE_READ_ONLY;
	assert_int_equal(gspace_verify(&one), 1);
	*entry ^= FAKE_READ_ONLY;
	one.count[PAGE_PRIVATE]--;
	assert_int_equal(gspace_verify(&one), 2); /* that count, and the sum */
	one.count[PAGE_ZERO]++;
	assert_int_equal(gspace_verify(&one), 2);
	one.count[PAGE_PRIVATE]++;
	one.count[PAGE_ZERO]--;
	frame_get(frame_zero())->refs++;
	assert_int_equal(gspace_verify_all(), 1);
	frame_get(frame_zero())->refs--;
	assert_int_equal(gspace_verify_all(), 0);
	assert_true(fake_log_has("its frame belongs to another"));
}

static void state_names(void **state)
{
	(void)state;
	for (u32 s = 0; s < PAGE_STATES; s++)
		assert_true(strlen(page_state_name(s)) > 3);
	assert_string_equal(page_state_name(PAGE_STATES), "?");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, start, space_test_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(begins_empty),
	    CASE(ids_are_unique),
	    CASE(init_out_of_memory),
	    CASE(destroy_is_bounded),
	    CASE(counted_on_many_cpus),
	    CASE(destroy_waits),
	    CASE(destroy_skips_what_was_never_there),
	    CASE(illegal_changes_panic),
	    CASE(verify_finds_damage),
	    cmocka_unit_test(state_names),
	};

	return cmocka_run_group_tests_name("gspace", tests, NULL, NULL);
}
