/* The reverse map and the pools below it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "mm/frame.h"
#include "mm/pool.h"
#include "mm/rmap.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"

#define FRAMES 2000

static int start(void **state)
{
	(void)state;
	fake_platform_reset();
	fake_mm_start(FRAMES);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	frame_verify();
	fake_mm_stop();
	return 0;
}

static hfn_t shared_frame(void)
{
	hfn_t hfn = frame_alloc(0, FRAME_FOR_GUEST, FRAME_SHARED, false);

	assert_int_not_equal(hfn, HFN_NONE);
	return hfn;
}

static void add(hfn_t hfn, u16 gs, gfn_t gfn)
{
	assert_int_equal(rmap_prepare(1), 0);
	rmap_add(hfn, gs, gfn);
}

static void chain(void **state)
{
	hfn_t hfn = shared_frame();
	u32 cursor = 0;
	gfn_t gfn;
	u16 gs;

	(void)state;
	assert_false(rmap_next(hfn, &cursor, &gs, &gfn));
	add(hfn, 1, 100);
	add(hfn, 2, 100);
	add(hfn, 1, 0xfffffff0);
	assert_int_equal(rmap_refs(hfn), 3);
	assert_true(rmap_has(hfn, 2, 100));
	assert_false(rmap_has(hfn, 2, 0xfffffff0));
	assert_true(rmap_next(hfn, &cursor, &gs, &gfn));
	assert_int_equal(gs, 1);
	assert_int_equal(gfn, 0xfffffff0);
	assert_true(rmap_next(hfn, &cursor, &gs, &gfn));
	assert_int_equal(gs, 2);
	assert_true(rmap_next(hfn, &cursor, &gs, &gfn));
	assert_int_equal(gfn, 100);
	assert_false(rmap_next(hfn, &cursor, &gs, &gfn));

	assert_int_equal(rmap_remove(hfn, 2, 100), 2);
	assert_false(rmap_has(hfn, 2, 100));
	assert_true(fake_panics(rmap_remove(hfn, 2, 100)));
}

static void holds(void **state)
{
	hfn_t hfn = shared_frame();

	(void)state;
	assert_false(rmap_hold(hfn)); /* no mapper */
	assert_false(rmap_hold(frame_zero()));
	add(hfn, 1, 1);
	assert_true(rmap_hold(hfn));
	assert_int_equal(rmap_refs(hfn), 2);
	assert_int_equal(rmap_remove(hfn, 1, 1), 1);
	assert_int_equal(rmap_drop(hfn), 0);
	assert_false(rmap_hold(hfn));

	for (u32 i = 0; i < RMAP_REFS_MAX; i++)
		add(hfn, 1, i);
	assert_false(rmap_hold(hfn)); /* full */
	assert_int_equal(rmap_remove(hfn, 1, 17), RMAP_REFS_MAX - 1);
	assert_true(rmap_hold(hfn));
	assert_false(rmap_hold(hfn));
	rmap_drop(hfn);
}

static void promises(void **state)
{
	hfn_t hfn = shared_frame();
	hfn_t rest[FRAMES];
	u32 n = 0, promised = 0;

	(void)state;
	assert_int_equal(rmap_prepare(10), 0);
	while ((rest[n] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false)) != HFN_NONE)
		n++;
	while (!rmap_prepare(1))
		promised++;
	assert_int_equal(promised + 10, PAGE_SIZE / 12 - 1); /* index 0 is not used */
	assert_int_equal(rmap_prepare(1), E_NOMEM);
	rmap_cancel(promised);
	for (u32 i = 0; i < 10; i++)
		rmap_add(hfn, 3, i);
	assert_int_equal(rmap_nodes(), 10);
	for (u32 i = 0; i < 10; i++)
		rmap_remove(hfn, 3, i);
	while (n--)
		frame_free(rest[n], 0);
	frame_free(hfn, 0);
	assert_int_equal(rmap_bytes(), 3 * PAGE_SIZE);
	rmap_release();
	assert_int_equal(rmap_bytes(), 0);
	assert_int_equal(frame_free_count(), FRAMES - 1);
}

/* Unpromised use, and a release while in use, are our faults and are caught. */
static void misuse(void **state)
{
	hfn_t hfn = shared_frame();

	(void)state;
	assert_true(fake_panics(rmap_add(hfn, 1, 1)));
	fake_mm_start(FRAMES);
	hfn = shared_frame();
	add(hfn, 1, 1);
	assert_true(fake_panics(rmap_release()));
	fake_mm_start(FRAMES);
}

static void pool_grows_and_returns(void **state)
{
	struct pool p = POOL_INIT(16);
	static u32 index[200000];
	u32 n = ARRAY_SIZE(index);

	(void)state;
	for (u32 i = 0; i < n; i++) {
		assert_int_equal(pool_reserve(&p, 1), 0);
		index[i] = pool_take(&p);
		assert_int_not_equal(index[i], 0);
		memset(pool_at(&p, index[i]), 0xff, 16);
		*(u64 *)pool_at(&p, index[i]) = i;
	}
	assert_int_equal(p.used, n);
	assert_int_equal(p.frames, DIV_ROUND_UP(n + 1, 256));
	for (u32 i = 0; i < n; i++)
		assert_int_equal(*(u64 *)pool_at(&p, index[i]), i);
	assert_true(fake_panics(pool_release(&p)));
	for (u32 i = 0; i < n; i++)
		pool_give(&p, index[i]);
	pool_release(&p);
	assert_int_equal(pool_bytes(&p), 0);
	assert_int_equal(frame_free_count(), FRAMES - 1);
}

static void pool_directories(void **state)
{
	struct pool p = POOL_INIT(2048); /* 2 a frame: reaches the second directory with few frames */
	u32 n = 2 * 1100 - 1;

	(void)state;
	assert_int_equal(pool_reserve(&p, n), 0);
	for (u32 i = 0; i < n; i++)
		*(u32 *)pool_at(&p, pool_take(&p)) = i;
	assert_int_equal(p.frames, 1100);
	assert_int_equal(p.dirs, 3);
	assert_int_equal(pool_reserve(&p, FRAMES * 2), E_NOMEM);
	assert_int_equal(p.frames + p.dirs, FRAMES - 1); /* grew as far as it could, and keeps that */
	for (u32 i = 1; i <= n; i++)
		pool_give(&p, i);
	pool_release(&p);
	assert_int_equal(frame_free_count(), FRAMES - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(chain, start, stop),
	    cmocka_unit_test_setup_teardown(holds, start, stop),
	    cmocka_unit_test_setup_teardown(promises, start, stop),
	    cmocka_unit_test_setup_teardown(misuse, start, stop),
	    cmocka_unit_test_setup_teardown(pool_grows_and_returns, start, stop),
	    cmocka_unit_test_setup_teardown(pool_directories, start, stop),
	};

	return cmocka_run_group_tests_name("rmap", tests, NULL, NULL);
}
