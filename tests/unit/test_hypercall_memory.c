/*
 * Hypercalls about memory - balloon, Dynamic Memory, hints: good, bad in each way, and with its page out of memory when
 * it is made.
 */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/err.h"
#include "mm/balloon.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "tests/unit/call_test.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_hv.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"

#define BIG 1024U /* first page of a 2 MiB unit */

/* ---- balloon ------------------------------------------------------------- */

static u64 *batch(void)
{
	return fake_page(a, BUF);
}

static u32 status(u32 i)
{
	return AERO_BALLOON_STATUS(batch()[i]);
}

static void with_balloon(u32 target)
{
	hello();
	reclaim_set_manual(&a->gs, target);
	fake_cpu_run(2);
	assert_int_equal(a->gs.balloon_target, target);
	fake_page_write(a, BUF, 0);
}

static void test_balloon_arguments(void **state)
{
	static const u64 calls[] = {AERO_CALL_BALLOON_INFLATE, AERO_CALL_BALLOON_DEFLATE};

	(void)state;
	with_balloon(700);
	for (u32 i = 0; i < 2; i++) {
		assert_int_equal(call(calls[i], BUF_GPA, 513, 0x77), AERO_E_2BIG);
		assert_int_equal(call(calls[i], BUF_GPA, 1UL << 61, 0x77), AERO_E_2BIG);
		assert_int_equal(call(calls[i], BUF_GPA, ~0UL, 0x77), AERO_E_2BIG);
		assert_int_equal(call(calls[i], BUF_GPA + 4, 1, 0x77), AERO_E_INVAL);
		assert_int_equal(call(calls[i], BUF_GPA + 8, 512, 0x77), AERO_E_FAULT);
		assert_int_equal(call(calls[i], VM_MEMORY_MIN, 1, 0x77), AERO_E_FAULT);
		assert_int_equal(call(calls[i], ~0UL & ~7UL, 1, 0x77), AERO_E_FAULT);
		assert_int_equal(call(calls[i], 1UL << 44, 1, 0x77), AERO_E_FAULT);
		assert_int_equal(fake_rdx, 0x77);
		assert_int_equal(call(calls[i], BUF_GPA, 0, 0x77), 0);
		assert_int_equal(fake_rdx, 700);
		assert_int_equal(pinned(), 1);
	}
}

static void test_balloon_moves(void **state)
{
	u64 batch_entries[] = {0x400 << 12,
			       0x401 << 12,
			       (0x402 << 12) | 0xff0,
			       BUF_GPA,
			       INFO,
			       0x400 << 12,
			       0x403008,
			       1UL << 52,
			       VM_MEMORY_MIN,
			       (0x600 << 12) | AERO_BALLOON_2M,
			       (0x601 << 12) | AERO_BALLOON_2M};
	static const u32 want[] = {AERO_BALLOON_OK,      AERO_BALLOON_OK,      AERO_BALLOON_OK,
				   AERO_BALLOON_PINNED,  AERO_BALLOON_PINNED,  AERO_BALLOON_ALREADY,
				   AERO_BALLOON_INVALID, AERO_BALLOON_INVALID, AERO_BALLOON_INVALID,
				   AERO_BALLOON_OK,      AERO_BALLOON_INVALID};
	u32 n = ARRAY_SIZE(want);

	(void)state;
	with_balloon(700);
	memcpy(batch(), batch_entries, sizeof(batch_entries));
	assert_int_equal(call(AERO_CALL_BALLOON_INFLATE, BUF_GPA, n, 0), 4);
	assert_int_equal(fake_rdx, 700);
	for (u32 i = 0; i < n; i++) {
		assert_int_equal(status(i), want[i]);
		assert_int_equal(batch()[i] & ~0xff0UL, batch_entries[i] & ~0xff0UL);
	}
	assert_int_equal(balloon_size(&a->gs), 3 + 512);
	/* The same batch, with its statuses, is a good deflate. */
	assert_int_equal(call(AERO_CALL_BALLOON_DEFLATE, BUF_GPA, n, 0), 4);
	assert_int_equal(balloon_size(&a->gs), 0);
	assert_int_equal(status(3), AERO_BALLOON_ALREADY);
	assert_int_equal(status(6), AERO_BALLOON_INVALID);
	assert_int_equal(pinned(), 1);
}

static void test_balloon_large_not_granted(void **state)
{
	(void)state;
	assert_true(call(AERO_CALL_HELLO, AERO_ABI_VERSION, AERO_FEATURE_BALLOON, INFO) == AERO_FEATURE_BALLOON);
	reclaim_set_manual(&a->gs, 700);
	fake_cpu_run(2);
	fake_page_write(a, BUF, 0);
	batch()[0] = 0x600 << PAGE_SHIFT | AERO_BALLOON_2M;
	batch()[1] = 0x600 << PAGE_SHIFT;
	assert_int_equal(call(AERO_CALL_BALLOON_INFLATE, BUF_GPA, 2, 0), 1);
	assert_true(status(0) == AERO_BALLOON_INVALID && status(1) == AERO_BALLOON_OK);
	assert_int_equal(call(AERO_CALL_BALLOON_DEFLATE, BUF_GPA, 2, 0), 1);
	assert_true(status(0) == AERO_BALLOON_INVALID && balloon_size(&a->gs) == 0);
}

static void test_balloon_over_and_rate(void **state)
{
	(void)state;
	with_balloon(5);
	for (u32 i = 0; i < 10; i++)
		batch()[i] = (u64)(BIG + i) << PAGE_SHIFT;
	assert_int_equal(call(AERO_CALL_BALLOON_INFLATE, BUF_GPA, 10, 0), 5);
	for (u32 i = 0; i < 10; i++)
		assert_int_equal(status(i), i < 5 ? AERO_BALLOON_OK : AERO_BALLOON_OVER);
	reclaim_set_manual(&a->gs, 1300);
	a->gs.balloon_rate = 512; /* a second: one 2 MiB unit at once */
	fake_now_ns += 10 * NSEC_PER_SEC;
	assert_int_equal(call(AERO_CALL_BALLOON_POLL, 0, 0, 0), 1300);
	assert_int_equal(fake_rdx, 512);
	batch()[0] = ((u64)BIG + 512) << PAGE_SHIFT | AERO_BALLOON_2M;
	batch()[1] = ((u64)BIG + 20) << PAGE_SHIFT;
	assert_int_equal(call(AERO_CALL_BALLOON_INFLATE, BUF_GPA, 2, 0), 1);
	assert_true(status(0) == AERO_BALLOON_OK && status(1) == AERO_BALLOON_BUSY);
	assert_int_equal(call(AERO_CALL_BALLOON_POLL, 0, 0, 0), 1300);
	assert_in_range(fake_rdx, 0, 10);
}

/* The page with the batch is away: nothing is moved before it is read, and then once. */
static void test_balloon_waits(void **state)
{
	(void)state;
	with_balloon(100);
	put_out(BUF, (u64)BIG << PAGE_SHIFT);
	assert_int_equal(call(AERO_CALL_BALLOON_INFLATE, BUF_GPA, 1, 0x77), FAKE_WAITS);
	assert_true(balloon_size(&a->gs) == 0 && fake_rdx == 0x77 && pinned() == 1);
	assert_int_equal(let_in(), 1);
	assert_true(balloon_size(&a->gs) == 1 && fake_rdx == 100 && pinned() == 1);
	assert_int_equal(a->gs.stats.balloon_out, 1);
	fake_swap_out(a, BUF);
	fake_blk.hold = true;
	assert_int_equal(call(AERO_CALL_BALLOON_DEFLATE, BUF_GPA, 1, 0x77), FAKE_WAITS);
	assert_int_equal(balloon_size(&a->gs), 1);
	assert_int_equal(let_in(), 1);
	assert_int_equal(balloon_size(&a->gs), 0);
}

/* Pages that are elsewhere can be given up; those on their way cannot. */
static void test_balloon_of_swapped(void **state)
{
	struct swap_stats s;

	(void)state;
	with_balloon(100);
	fake_page_write(a, BIG, 0x1234);
	fake_page_write(a, BIG + 1, 0x1235);
	fake_swap_out(a, BIG);
	fake_swap_out(a, BIG + 1);
	assert_int_equal(fake_page_read(a, BUF), 0);
	fake_blk.hold = true;
	assert_int_equal(gspace_touch(&a->gs, BIG + 1, GSPACE_READ), E_AGAIN);
	fake_page_write(a, BUF, 0);
	batch()[0] = (u64)BIG << PAGE_SHIFT;
	batch()[1] = (u64)(BIG + 1) << PAGE_SHIFT;
	assert_int_equal(call(AERO_CALL_BALLOON_INFLATE, BUF_GPA, 2, 0), 1);
	assert_true(status(0) == AERO_BALLOON_OK && status(1) == AERO_BALLOON_BUSY);
	fake_blk.hold = false;
	fake_machine_settle();
	assert_int_equal(fake_page_read(a, BIG), 0);
	assert_int_equal(fake_page_read(a, BIG + 1), 0x1235);
	swap_stats(&s);
	assert_int_equal(a->gs.stats.balloon_broken, 1);
}

/* ---- no frame to be had -------------------------------------------------- */

static void test_at_the_limit(void **state)
{
	struct hv_exit e = {.kind = HV_EXIT_NPF, .npf = {.write = true}};
	u32 held;

	(void)state;
	hello();
	for (u32 i = 0; i < 200; i++)
		fake_page_write(a, BUF + 10 + i, i + 1);
	/* No frame for it, and the disk takes none: calls that need a page wait, others do not. */
	held = gspace_consumed(&a->gs);
	a->gs.alloc.limit = a->gs.limit_now = held;
	fake_blk.hold = true;
	assert_int_equal(call(AERO_CALL_NOP, 0, 0, 0), 0);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, BUF_GPA, 10, 0), FAKE_WAITS);
	assert_int_equal(gspace_consumed(&a->gs), held);
	a->gs.alloc.limit = a->gs.pages;
	assert_int_equal(let_in(), 0);
	e.npf.gpa = GPA(BUF_GPA + PAGE_SIZE);
	assert_true(fake_exit(a, &e));
}

/* ---- MEMORY_ONLINE ------------------------------------------------------- */

static int start_growing(void **state)
{
	struct vm_config c = fake_vm_config("a");

	(void)state;
	fake_machine_start(&(struct fake_machine){.frames = 8000, .swap_pages = 8192, .min_free = 400});
	c.minimum_bytes = VM_MEMORY_MIN;
	c.maximum_bytes = 2 * VM_MEMORY_MIN;
	a = fake_vm_run(&c);
	assert_non_null(a);
	return 0;
}

/* The guest says that it needs so many pages; the host has looked. */
static void need(u64 pages)
{
	info()->memory.committed = pages;
	fake_now_ns += NSEC_PER_SEC;
	reclaim_step(fake_now_ns);
	fake_cpu_run(2);
}

static s64 online(u64 gpa, u64 bytes)
{
	return call(AERO_CALL_MEMORY_ONLINE, gpa, bytes, 0);
}

/* ---- hints ---- */

static struct vm *with_disk(void)
{
	struct vm_config c = fake_vm_config("d");

	fake_vm_remove(a);
	c.disk_bytes = 64 * PAGE_SIZE;
	a = fake_vm_run(&c);
	assert_non_null(a);
	hello();
	a->gs.target = 0; /* memory is short */
	return a;
}

static s64 hint(gfn_t gfn, u64 op, u64 block)
{
	struct aero_hint *h;
	s64 n;

	fake_page_write(a, BUF, 0);
	h = fake_page(a, BUF);
	*h = (struct aero_hint){(u64)gfn << PAGE_SHIFT | op, block};
	n = call(AERO_CALL_PAGE_HINT, BUF_GPA, 1, 0);
	return n < 0 || n == FAKE_WAITS ? n : (s64)AERO_HINT_STATUS(((struct aero_hint *)fake_page(a, BUF))->page);
}

static void test_hint_arguments(void **state)
{
	(void)state;
	assert_int_equal(call(AERO_CALL_HELLO, AERO_ABI_VERSION, ~(u64)AERO_FEATURE_HINT, INFO),
			 vm_features_offered(a) & ~AERO_FEATURE_HINT);
	assert_int_equal(call(AERO_CALL_PAGE_HINT, BUF_GPA, 0, 0), AERO_E_PERM);
	with_disk();
	assert_int_equal(call(AERO_CALL_PAGE_HINT, BUF_GPA, 0, 0), 0);
	assert_int_equal(call(AERO_CALL_PAGE_HINT, BUF_GPA, 257, 0), AERO_E_2BIG);
	assert_int_equal(call(AERO_CALL_PAGE_HINT, BUF_GPA, ~0UL, 0), AERO_E_2BIG);
	assert_int_equal(call(AERO_CALL_PAGE_HINT, BUF_GPA, 1UL << 60, 0), AERO_E_2BIG); /* times 16 that is 0 */
	assert_int_equal(call(AERO_CALL_PAGE_HINT, BUF_GPA + 4, 1, 0), AERO_E_INVAL);
	assert_int_equal(call(AERO_CALL_PAGE_HINT, BUF_GPA + 8, 256, 0), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_PAGE_HINT, VM_MEMORY_MIN, 1, 0), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_PAGE_HINT, ~7UL, 1, 0), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_PAGE_HINT, BUF_GPA, 256, 0), 0); /* zeroes: op 0 */
	assert_int_equal(hint(BUF + 1, AERO_HINT_CLEAN, 64), AERO_HINT_INVALID);
	assert_int_equal(hint(BUF, AERO_HINT_CLEAN, 0), AERO_HINT_NOT_NOW); /* the batch itself */
	assert_int_equal(pinned(), 1);
}

/*
 * Told, dropped, and back from the disk as zeroes, as the VM has never written the block; the batch itself may have
 * been out.
 */
static void test_hint(void **state)
{
	(void)state;
	with_disk();
	fake_page_write(a, BUF + 1, 0x1234);
	assert_int_equal(hint(BUF + 1, AERO_HINT_CLEAN, 7), AERO_HINT_OK);
	assert_false(fake_page_writable(a, BUF + 1));
	for (u32 i = 0; i < 50 && gspace_state(&a->gs, BUF + 1) != PAGE_CLEAN; i++)
		(void)swap_out(&a->gs, 8);
	assert_int_equal(gspace_state(&a->gs, BUF + 1), PAGE_CLEAN);
	memset(fake_blk_page(fake_data_part.start / 8 - fake_blk_part.start / 8 + 7), 0x5e, PAGE_SIZE);
	assert_int_equal(fake_page_read(a, BUF + 1), 0);
	fake_page_write(a, BUF + 2, 0x5678);
	put_out(BUF, 0);
	assert_int_equal(call(AERO_CALL_PAGE_HINT, BUF_GPA, 1, 0), FAKE_WAITS);
	assert_int_equal(let_in(), 0);
	fake_swap_out(a, BUF + 2);
	assert_int_equal(hint(BUF + 2, AERO_HINT_OVERWRITE, 0), AERO_HINT_OK);
	assert_int_equal(gspace_state(&a->gs, BUF + 2), PAGE_ABSENT);
}

static void test_online_wants_the_feature(void **state)
{
	(void)state;
	assert_false(vm_features_offered(a) & AERO_FEATURE_MEMORY);
	hello();
	assert_int_equal(online(VM_MEMORY_MIN, PAGE_SIZE), AERO_E_PERM);
}

static void test_online_not_granted(void **state)
{
	(void)state;
	assert_true(vm_features_offered(a) & AERO_FEATURE_MEMORY);
	assert_int_equal(call(AERO_CALL_HELLO, AERO_ABI_VERSION, AERO_FEATURE_BALLOON, INFO), AERO_FEATURE_BALLOON);
	need(4000);
	assert_int_equal(online(VM_MEMORY_MIN, PAGE_SIZE), AERO_E_PERM);
	assert_int_equal(a->gs.pages, VM_MEMORY_MIN >> PAGE_SHIFT);
}

static void test_online(void **state)
{
	static const u64 bad[][2] = {{VM_MEMORY_MIN, 0},
				     {VM_MEMORY_MIN, 1},
				     {VM_MEMORY_MIN, PAGE_SIZE + 8},
				     {VM_MEMORY_MIN + 1, PAGE_SIZE},
				     {VM_MEMORY_MIN - PAGE_SIZE, PAGE_SIZE},
				     {VM_MEMORY_MIN + PAGE_SIZE, PAGE_SIZE},
				     {0, PAGE_SIZE},
				     {~0UL << PAGE_SHIFT, PAGE_SIZE},
				     {1UL << 44 | VM_MEMORY_MIN, PAGE_SIZE}};

	(void)state;
	hello();
	assert_int_equal(info()->growth.online, VM_MEMORY_MIN);
	assert_int_equal(info()->growth.offered, VM_MEMORY_MIN);
	assert_int_equal(info()->growth.maximum, 2 * VM_MEMORY_MIN);
	assert_int_equal(online(VM_MEMORY_MIN, PAGE_SIZE), AERO_E_NOSPC);
	need(2200); /* 2640 with its buffer: in steps of 2 MiB, 3072 */
	assert_int_equal(info()->growth.offered, 12 * MIB);
	assert_true(info()->events & AERO_EVENT_MEMORY);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(online(bad[i][0], bad[i][1]), AERO_E_INVAL);
	assert_int_equal(online(VM_MEMORY_MIN, 4 * MIB + PAGE_SIZE), AERO_E_NOSPC);
	assert_int_equal(online(VM_MEMORY_MIN, ~0UL << PAGE_SHIFT), AERO_E_NOSPC);
	assert_int_equal(a->gs.pages, 2048);
	assert_int_equal(online(VM_MEMORY_MIN, PAGE_SIZE), 0);
	assert_int_equal(a->gs.pages, 2049);
	assert_int_equal(info()->growth.online, VM_MEMORY_MIN + PAGE_SIZE);
	assert_int_equal(online(VM_MEMORY_MIN, PAGE_SIZE), AERO_E_INVAL); /* it has that */
	assert_int_equal(online(VM_MEMORY_MIN + PAGE_SIZE, 4 * MIB - PAGE_SIZE), 0);
	assert_int_equal(a->gs.pages, 3072);
	fake_page_write(a, 3071, 77);
	assert_int_equal(fake_page_read(a, 3071), 77);
	/* For calls it is memory as any other. */
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, (3071UL << PAGE_SHIFT) + 8, 4, 0), 4);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, 3072UL << PAGE_SHIFT, 4, 0), AERO_E_FAULT);
	/* An offer that the guest did not take is withdrawn when it wants no more. */
	need(3000);
	assert_int_equal(info()->growth.offered, 16 * MIB);
	need(1);
	assert_int_equal(info()->growth.offered, 12 * MIB);
	assert_int_equal(online(12 * MIB, PAGE_SIZE), AERO_E_NOSPC);
	/* And never more than the maximum, whatever it says. */
	need(~0UL);
	assert_int_equal(info()->growth.offered, 16 * MIB);
	assert_int_equal(online(12 * MIB, 4 * MIB), 0);
	need(~0UL >> 1);
	assert_int_equal(info()->growth.offered, 16 * MIB);
	assert_int_equal(online(16 * MIB, PAGE_SIZE), AERO_E_NOSPC);
	assert_int_equal(a->gs.pages, 4096);
	assert_int_equal(a->gs.swap_reserved, 4096);
}

/* The guest may scribble over the page: what is offered is the host's, not the page's. */
static void test_online_page_lies(void **state)
{
	(void)state;
	hello();
	info()->growth.offered = info()->growth.maximum = 1UL << 40;
	assert_int_equal(online(VM_MEMORY_MIN, PAGE_SIZE), AERO_E_NOSPC);
	assert_int_equal(a->gs.pages, 2048);
}

#define TEST(name)      cmocka_unit_test_setup_teardown(name, call_test_start, vm_test_finish)
#define GROW_TEST(name) cmocka_unit_test_setup_teardown(name, start_growing, vm_test_finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_balloon_arguments),
	    TEST(test_balloon_moves),
	    TEST(test_balloon_large_not_granted),
	    TEST(test_balloon_over_and_rate),
	    TEST(test_balloon_waits),
	    TEST(test_balloon_of_swapped),
	    TEST(test_at_the_limit),
	    TEST(test_hint_arguments),
	    TEST(test_hint),
	    TEST(test_online_wants_the_feature),
	    GROW_TEST(test_online_not_granted),
	    GROW_TEST(test_online),
	    GROW_TEST(test_online_page_lies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
