/* Every hypercall: good, bad in each way, and with its page out of memory when it is made. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/err.h"
#include "mm/balloon.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_hv.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/vm_test.h"

#define BUF_GPA ((u64)BUF << PAGE_SHIFT)
#define BIG     1024U /* first page of a 2 MiB unit */

static const struct fake_machine machine = {.frames = 3000, .swap_pages = 8192, .data_pages = 300, .min_free = 400};
static struct vm *a;

static int start(void **state)
{
	(void)state;
	fake_machine_start(&machine);
	a = vm_test_run("a", 100);
	assert_non_null(a);
	return 0;
}

static s64 call(u64 nr, u64 rdi, u64 rsi, u64 rdx)
{
	return fake_call(a, nr, rdi, rsi, rdx);
}

static void hello(void)
{
	assert_int_equal(call(AERO_CALL_HELLO, AERO_ABI_VERSION, ~0UL, INFO), vm_features_offered(a));
}

static u32 pinned(void)
{
	return a->gs.count[PAGE_PINNED];
}

/* The page is in swap and stays there until let_in(). */
static void put_out(gfn_t gfn, u64 word)
{
	fake_page_write(a, gfn, word);
	fake_swap_out(a, gfn);
	fake_blk.hold = true;
}

static s64 let_in(void)
{
	fake_blk.hold = false;
	return fake_call_again(a);
}

/* ---- numbers and order --------------------------------------------------- */

static void test_numbers(void **state)
{
	static const u64 unknown[] = {AERO_CALLS, AERO_CALLS + 1, 255, 1UL << 32, (1UL << 32) + 1, ~0UL, 1UL << 63};

	(void)state;
	for (u32 round = 0; round < 2; round++) {
		assert_int_equal(call(AERO_CALL_NOP, ~0UL, ~0UL, ~0UL), 0);
		for (u32 i = 0; i < ARRAY_SIZE(unknown); i++)
			assert_int_equal(call(unknown[i], 0, 0, 0), AERO_E_NOSYS);
		if (!round)
			hello();
	}
	assert_int_equal(a->vcpu[0]->counts.hypercalls, 2 * (1 + ARRAY_SIZE(unknown)) + 1);
	assert_int_equal(a->vcpu[0]->counts.hypercall_errors, 2 * ARRAY_SIZE(unknown));
}

static void test_before_hello(void **state)
{
	static const u64 refused[] = {AERO_CALL_CONSOLE_READ,    AERO_CALL_UPCALL,          AERO_CALL_TIMER,
				      AERO_CALL_BALLOON_INFLATE, AERO_CALL_BALLOON_DEFLATE, AERO_CALL_DISK_SETUP,
				      AERO_CALL_DISK_KICK,       AERO_CALL_BALLOON_POLL,    AERO_CALL_MEMORY_ONLINE,
				      AERO_CALL_PAGE_HINT};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(refused); i++)
		assert_int_equal(call(refused[i], 64, 1, 0), AERO_E_PERM);
	fake_page_write(a, BUF, 0x6f6c6c6568);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, BUF_GPA, 5, 0), 5);
	(void)call(AERO_CALL_SHUTDOWN, AERO_SHUTDOWN_OFF, 0, 0);
	fake_vm_await(a, VM_CREATED);
}

static void test_registers_kept(void **state)
{
	static const u64 result_in_rdx =
	    BIT(AERO_CALL_BALLOON_INFLATE) | BIT(AERO_CALL_BALLOON_DEFLATE) | BIT(AERO_CALL_BALLOON_POLL);

	(void)state;
	hello();
	for (u64 nr = 0; nr <= AERO_CALLS; nr++) {
		struct hv_regs *r = &a->vcpu[0]->hv->regs, want;

		if (nr == AERO_CALL_SHUTDOWN)
			continue;
		memset(r, 0x77, sizeof(*r));
		want = *r;
		want.rax = (u64)call(nr, BUF_GPA, 0, 0x1111);
		want.rdi = BUF_GPA;
		want.rsi = 0;
		want.rdx = result_in_rdx & BIT(nr) ? r->rdx : 0x1111;
		assert_memory_equal(r, &want, sizeof(want));
	}
}

/* ---- HELLO --------------------------------------------------------------- */

static void test_hello(void **state)
{
	static const u64 bad[] = {INFO + 1,  INFO + 8,           VM_MEMORY_MIN, VM_MEMORY_MIN - 1,
				  1UL << 44, ~0UL << PAGE_SHIFT, ~0UL};

	(void)state;
	assert_int_equal(call(AERO_CALL_HELLO, 0, ~0UL, INFO), AERO_E_NOSYS);
	assert_int_equal(call(AERO_CALL_HELLO, 2, ~0UL, INFO), AERO_E_NOSYS);
	assert_int_equal(call(AERO_CALL_HELLO, 1UL << 32 | 1, ~0UL, INFO), AERO_E_NOSYS);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(call(AERO_CALL_HELLO, 1, ~0UL, bad[i]), AERO_E_FAULT);
	assert_int_equal(pinned(), 0);
	assert_int_equal(call(AERO_CALL_HELLO, 1, ~0UL, VM_MEMORY_MIN - PAGE_SIZE), vm_features_offered(a));
	assert_int_equal(call(AERO_CALL_HELLO, 1, ~0UL, INFO), AERO_E_PERM);
	assert_int_equal(pinned(), 1);
}

static void test_hello_grants_what_is_wanted(void **state)
{
	(void)state;
	assert_int_equal(call(AERO_CALL_HELLO, 1, AERO_FEATURE_CONSOLE | 0xffff0000, INFO), AERO_FEATURE_CONSOLE);
	assert_int_equal(call(AERO_CALL_BALLOON_POLL, 0, 0, 0), AERO_E_PERM);
	assert_int_equal(call(AERO_CALL_BALLOON_INFLATE, BUF_GPA, 0, 0), AERO_E_PERM);
	assert_int_equal(call(AERO_CALL_BALLOON_DEFLATE, BUF_GPA, 0, 0), AERO_E_PERM);
	assert_int_equal(call(AERO_CALL_DISK_SETUP, 0, RING, 0), AERO_E_NOENT);
	assert_false(a->gs.balloon_present);
}

static void test_hello_waits(void **state)
{
	struct aero_info info;

	(void)state;
	put_out(INFO >> PAGE_SHIFT, 0x1234);
	assert_int_equal(call(AERO_CALL_HELLO, 1, ~0UL, INFO), FAKE_WAITS);
	assert_true(a->info_hfn == HFN_NONE && a->features == 0 && !a->gs.balloon_present && a->vcpu[0]->counts.hypercalls == 0);
	assert_int_equal(let_in(), vm_features_offered(a));
	assert_true(vm_read_info(a, &info));
	assert_true(info.events == 0 && info.clock.version == 2);
	assert_true(pinned() == 1 && a->vcpu[0]->counts.hypercalls == 1);
}

/* ---- console ------------------------------------------------------------- */

static void test_console_write(void **state)
{
	char text[1100];

	(void)state;
	fake_page_write(a, BUF, 0x6867666564636261); /* abcdefgh */
	fake_page_write(a, BUF + 1, 0x706f6e6d6c6b6a69);
	memset((u8 *)fake_page(a, BUF) + PAGE_SIZE - 3, 'x', 3);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, BUF_GPA, 8, 0), 8);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, BUF_GPA + PAGE_SIZE - 3, 6, 0), 6); /* crosses a page */
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, BUF_GPA, 0, 0), 0);
	assert_int_equal(vm_console_read(a, text, sizeof(text)), 14);
	assert_memory_equal(text, "abcdefghxxxijk", 14);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, BUF_GPA, 1025, 0), AERO_E_2BIG);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, BUF_GPA, ~0UL, 0), AERO_E_2BIG);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, BUF_GPA, 1UL << 32, 0), AERO_E_2BIG);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, VM_MEMORY_MIN, 1, 0), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, VM_MEMORY_MIN - 10, 11, 0), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, ~0UL, 1, 0), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, ~0UL - 5, 10, 0), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, (1UL << 44) + BUF_GPA, 1, 0), AERO_E_FAULT);
	assert_int_equal(vm_console_read(a, text, sizeof(text)), 0);
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, VM_MEMORY_MIN - 1024, 1024, 0), 1024);
}

static void test_console_write_waits(void **state)
{
	char text[20];

	(void)state;
	fake_page_write(a, BUF, 1);
	memset((u8 *)fake_page(a, BUF) + PAGE_SIZE - 4, 'x', 4);
	put_out(BUF + 1, 0x79797979);
	assert_int_equal(gspace_touch(&a->gs, BUF, GSPACE_READ), E_AGAIN);
	fake_blk.hold = false;
	fake_cpu_run(5); /* its first page is there, the second is not */
	fake_blk.hold = true;
	assert_int_equal(call(AERO_CALL_CONSOLE_WRITE, BUF_GPA + PAGE_SIZE - 4, 8, 0), FAKE_WAITS);
	assert_int_equal(vm_console_read(a, text, sizeof(text)), 0);
	assert_int_equal(let_in(), 8);
	assert_int_equal(vm_console_read(a, text, sizeof(text)), 8);
	assert_memory_equal(text, "xxxxyyyy", 8);
}

static void test_console_read(void **state)
{
	(void)state;
	hello();
	assert_int_equal(vm_console_write(a, "some text", 9), 9);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, BUF_GPA, 1025, 0), AERO_E_2BIG);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, BUF_GPA, 1UL << 32 | 1, 0), AERO_E_2BIG);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, BUF_GPA + PAGE_SIZE - 4, 5, 0), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, VM_MEMORY_MIN, 1, 0), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, ~0UL, 1, 0), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, (1UL << 44) + BUF_GPA, 1, 0), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, BUF_GPA, 0, 0), 0);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, BUF_GPA + PAGE_SIZE - 4, 4, 0), 4);
	assert_memory_equal((u8 *)fake_page(a, BUF) + PAGE_SIZE - 4, "some", 4);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, BUF_GPA, 1024, 0), 5);
	assert_memory_equal(fake_page(a, BUF), " text\0", 6);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, BUF_GPA, 1024, 0), 0);
	assert_int_equal(pinned(), 1);
}

static void test_console_read_waits(void **state)
{
	(void)state;
	hello();
	assert_int_equal(vm_console_write(a, "some text", 9), 9);
	put_out(BUF, ~0UL);
	assert_int_equal(call(AERO_CALL_CONSOLE_READ, BUF_GPA, 4, 0), FAKE_WAITS);
	assert_int_equal(ring_used(&a->con_in), 9);
	assert_int_equal(let_in(), 4);
	assert_int_equal(ring_used(&a->con_in), 5);
	assert_int_equal(fake_page_read(a, BUF), 0xffffffff656d6f73);
}

/* ---- upcall, timer ------------------------------------------------------- */

static void test_upcall(void **state)
{
	static const u64 bad[] = {0, 3, 31, 256, 1UL << 32 | 64, ~0UL};

	(void)state;
	hello();
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(call(AERO_CALL_UPCALL, bad[i], 0, 0), AERO_E_INVAL);
	assert_int_equal(a->vcpu[0]->upcall_vector, 0);
	assert_int_equal(call(AERO_CALL_UPCALL, 32, 0, 0), 0);
	assert_int_equal(call(AERO_CALL_UPCALL, 255, 0, 0), 0);
	assert_int_equal(a->vcpu[0]->upcall_vector, 255);
}

static void test_timer(void **state)
{
	struct aero_info *info;

	(void)state;
	hello();
	info = fake_page(a, INFO >> PAGE_SHIFT);
	assert_int_equal(call(AERO_CALL_TIMER, 0, 0, 0), 0);
	assert_int_equal(call(AERO_CALL_TIMER, fake_now_ns - a->clock_base_ns + NSEC_PER_SEC, 0, 0), 0);
	assert_int_equal(call(AERO_CALL_TIMER, fake_now_ns - a->clock_base_ns + NSEC_PER_MSEC, 0, 0), 0);
	fake_cpu_run(3);
	assert_int_equal(info->events, AERO_EVENT_TIMER);
	info->events = 0;
	fake_cpu_run(500);
	assert_int_equal(info->events, 0); /* the new time replaced the old */
	assert_int_equal(call(AERO_CALL_TIMER, ~0UL - 1, 0, 0), 0);
	fake_cpu_run(10);
	assert_int_equal(info->events, 0);
}

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

static struct aero_info *info(void)
{
	return fake_page(a, INFO >> PAGE_SHIFT);
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
	assert_int_equal(call(AERO_CALL_HELLO, AERO_ABI_VERSION, ~(u64)AERO_FEATURE_HINT, INFO), vm_features_offered(a) & ~AERO_FEATURE_HINT);
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

/* Told, dropped, and back from the disk as zeroes, as the VM has never written the block; the batch itself may have been out. */
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, vm_test_finish)
#define GROW_TEST(name) cmocka_unit_test_setup_teardown(name, start_growing, vm_test_finish)
#define SMP_TEST(f) cmocka_unit_test_setup_teardown(f, start_smp, vm_test_finish)

/* ---- several vCPUs ------------------------------------------------------- */

#define CPUS 3U

static u64 ran; /* vCPUs, a bit each */

static void others_run(struct vcpu *v, struct hv_exit *e)
{
	ran |= BIT(v->index);
	fake_guest_spins(v, e);
}

static int start_smp(void **state)
{
	struct vm_config c = fake_vm_config("a");

	(void)state;
	fake_machine_start(&machine);
	c.vcpus = CPUS;
	a = fake_vm_run(&c);
	assert_non_null(a);
	ran = 0;
	fake_guest = others_run;
	return 0;
}

static s64 start_vcpu(u64 index, u64 rip, u64 cr3)
{
	struct hv_regs *r = &a->vcpu[fake_caller]->hv->regs;

	r->r8 = cr3;
	r->r9 = 0xa49;
	return call(AERO_CALL_VCPU_START, index, rip, 0x7000);
}

static void test_vcpu_refused(void **state)
{
	(void)state;
	assert_int_equal(call(AERO_CALL_VCPU_SEND, 1, AERO_EVENT_GUEST(0), 0), AERO_E_PERM);
	assert_int_equal(call(AERO_CALL_HELLO, AERO_ABI_VERSION, ~0UL & ~AERO_FEATURE_SMP, INFO) & AERO_FEATURE_SMP, 0);
	assert_int_equal(start_vcpu(1, MIB, 0), AERO_E_PERM);
	a->features |= AERO_FEATURE_SMP;
	assert_int_equal(start_vcpu(0, MIB, 0), AERO_E_BUSY);
	assert_int_equal(start_vcpu(CPUS, MIB, 0), AERO_E_NOENT);
	assert_int_equal(start_vcpu(~0UL, MIB, 0), AERO_E_NOENT);
	assert_int_equal(start_vcpu(1, 1UL << 47, 0), AERO_E_INVAL);
	assert_int_equal(start_vcpu(1, MIB, 8), AERO_E_INVAL);
	assert_int_equal(start_vcpu(1, MIB, VM_MEMORY_MIN), AERO_E_FAULT);
	assert_int_equal(start_vcpu(1, MIB, 1UL << 63), AERO_E_FAULT);
	assert_int_equal(call(AERO_CALL_VCPU_STOP, 0, 0, 0), AERO_E_PERM);
	assert_int_equal(call(AERO_CALL_VCPU_STOP, CPUS, 0, 0), AERO_E_NOENT);
	assert_int_equal(call(AERO_CALL_VCPU_SEND, 1, 0, 0), AERO_E_INVAL);
	assert_int_equal(call(AERO_CALL_VCPU_SEND, 1, AERO_EVENT_GUEST(0) | AERO_EVENT_DISK(0), 0), AERO_E_INVAL);
	assert_int_equal(call(AERO_CALL_VCPU_SEND, BIT(CPUS), AERO_EVENT_GUEST(0), 0), AERO_E_NOENT);
	fake_cpu_run(20);
	assert_int_equal(ran, BIT(0));
	assert_true(a->vcpu[1]->state == VCPU_OFF && a->vcpu[2]->state == VCPU_OFF);
}

static void test_vcpu_start_stop(void **state)
{
	(void)state;
	hello();
	for (u32 round = 0; round < 3; round++) {
		struct vcpu *v = a->vcpu[1];

		info()->vcpu_events[1] = AERO_EVENT_GUEST(1);
		v->upcall = true;
		ran = 0;
		assert_int_equal(start_vcpu(1, MIB + round, 0x5000), 0);
		assert_int_equal(start_vcpu(1, MIB, 0), AERO_E_BUSY);
		fake_cpu_run(20);
		assert_int_equal(ran, BIT(0) | BIT(1));
		assert_int_equal(v->hv->resets, round + 1);
		assert_true(v->hv->start.rip == MIB + round && v->hv->start.rsp == 0x7000);
		assert_true(v->hv->start.cr3 == 0x5000 && v->hv->start.rdi == 0xa49);
		assert_true(info()->vcpu_events[1] == 0 && !v->upcall && !v->upcall_vector);
		fake_caller = 1;
		assert_int_equal(call(AERO_CALL_UPCALL, 65, 0, 0), 0);
		assert_int_equal(call(AERO_CALL_TIMER, NSEC_PER_SEC * 1000, 0, 0), 0);
		assert_true(v->timer.armed && !a->vcpu[0]->timer.armed);
		if (round == 1) { /* by itself: the call does not come back */
			(void)call(AERO_CALL_VCPU_STOP, 1, 0, 0);
			fake_caller = 0;
		} else {
			fake_caller = 0;
			assert_int_equal(call(AERO_CALL_VCPU_STOP, 1, 0, 0), 0);
		}
		assert_int_equal(v->state, VCPU_OFF);
		assert_int_equal(call(AERO_CALL_VCPU_STOP, 1, 0, 0), 0);
		ran = 0;
		fake_cpu_run(20);
		assert_int_equal(ran, BIT(0));
	}
	assert_int_equal(a->vcpu[2]->hv->resets, 0);
	/* No start when the VM is ending. */
	sched_stop(a->vcpu[2]);
	assert_int_equal(start_vcpu(2, MIB, 0), AERO_E_BUSY);
	assert_int_equal(a->vcpu[2]->state, VCPU_OFF);
}

static void begin(u32 index)
{
	assert_int_equal(start_vcpu(index, MIB, 0), 0);
	fake_cpu_run(10);
	fake_caller = index;
	assert_int_equal(call(AERO_CALL_UPCALL, 64 + index, 0, 0), 0);
	a->vcpu[index]->hv->irqs_on = true;
	fake_caller = 0;
}

/* Each vCPU has its events, its interrupt, its timer. */
static void test_vcpu_events(void **state)
{
	struct vcpu *one, *two;

	(void)state;
	hello();
	begin(1);
	begin(2);
	one = a->vcpu[1];
	two = a->vcpu[2];
	assert_int_equal(call(AERO_CALL_VCPU_SEND, BIT(1), AERO_EVENT_GUEST(0) | AERO_EVENT_GUEST(31), 0), 0);
	fake_cpu_run(20);
	assert_true(info()->vcpu_events[1] == (AERO_EVENT_GUEST(0) | AERO_EVENT_GUEST(31)));
	assert_true(info()->vcpu_events[2] == 0 && info()->events == 0);
	assert_true(one->hv->irqs == 1 && two->hv->irqs == 0);
	assert_int_equal(call(AERO_CALL_VCPU_SEND, BIT(0) | BIT(2), AERO_EVENT_GUEST(4), 0), 0);
	fake_cpu_run(20);
	assert_true(info()->vcpu_events[2] == AERO_EVENT_GUEST(4) && info()->events == AERO_EVENT_GUEST(4));
	assert_true(one->hv->irqs == 1 && two->hv->irqs == 1);
	/* A timer is the caller's. */
	fake_caller = 2;
	assert_int_equal(call(AERO_CALL_TIMER, 1, 0, 0), 0);
	fake_caller = 0;
	fake_cpu_run(20);
	assert_true(info()->vcpu_events[2] == (AERO_EVENT_GUEST(4) | AERO_EVENT_TIMER));
	assert_true(two->hv->irqs == 2 && info()->events == AERO_EVENT_GUEST(4));
	/* The VM's are vCPU 0's. */
	vm_post_event(a, AERO_EVENT_BALLOON);
	assert_true(info()->events == (AERO_EVENT_GUEST(4) | AERO_EVENT_BALLOON));
}

/* Halted until somebody sends; one that comes just before the HLT is not missed. */
static void test_vcpu_halt_and_wake(void **state)
{
	struct hv_exit hlt = {.kind = HV_EXIT_HLT, .len = 1};
	struct vcpu *one;

	(void)state;
	hello();
	begin(1);
	one = a->vcpu[1];
	for (u32 round = 0; round < 3; round++) {
		fake_caller = 1;
		assert_true(fake_exit(a, &hlt));
		assert_int_equal(one->state, VCPU_HALTED);
		fake_caller = 0;
		fake_cpu_run(10);
		assert_int_equal(one->state, VCPU_HALTED);
		ran = 0;
		assert_int_equal(call(AERO_CALL_VCPU_SEND, BIT(1), AERO_EVENT_GUEST(0), 0), 0);
		fake_cpu_run(10);
		assert_true(ran & BIT(1));
		assert_int_equal(one->hv->irqs, round + 1);
	}
	one->hv->irqs_on = false; /* the interrupt cannot be delivered before the STI that goes with the HLT */
	assert_int_equal(call(AERO_CALL_VCPU_SEND, BIT(1), AERO_EVENT_GUEST(0), 0), 0);
	fake_cpu_run(5);
	one->hv->irqs_on = true;
	fake_caller = 1;
	(void)fake_exit(a, &hlt);
	fake_caller = 0;
	fake_cpu_run(5);
	assert_int_not_equal(one->state, VCPU_HALTED);
	assert_int_equal(one->hv->irqs, 4);
}

/* What one vCPU does wrong ends the VM on all. */
static void test_vcpu_crash(void **state)
{
	struct hv_exit e = {.kind = HV_EXIT_TRIPLE_FAULT};

	(void)state;
	hello();
	begin(1);
	begin(2);
	fake_caller = 2;
	(void)fake_exit(a, &e);
	fake_caller = 0;
	fake_vm_await(a, VM_CRASHED);
	assert_null(a->vcpu[0]);
	assert_null(a->vcpu[1]);
	assert_true(a->past.exits[HV_EXIT_TRIPLE_FAULT] == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_numbers),
	    TEST(test_before_hello),
	    TEST(test_registers_kept),
	    TEST(test_hello),
	    TEST(test_hello_grants_what_is_wanted),
	    TEST(test_hello_waits),
	    TEST(test_console_write),
	    TEST(test_console_write_waits),
	    TEST(test_console_read),
	    TEST(test_console_read_waits),
	    TEST(test_upcall),
	    TEST(test_timer),
	    TEST(test_balloon_arguments),
	    TEST(test_balloon_moves),
	    TEST(test_balloon_large_not_granted),
	    TEST(test_balloon_over_and_rate),
	    TEST(test_balloon_waits),
	    TEST(test_balloon_of_swapped),
	    TEST(test_at_the_limit),
	    SMP_TEST(test_vcpu_refused),
	    SMP_TEST(test_vcpu_start_stop),
	    SMP_TEST(test_vcpu_events),
	    SMP_TEST(test_vcpu_halt_and_wake),
	    SMP_TEST(test_vcpu_crash),
	    TEST(test_hint_arguments),
	    TEST(test_hint),
	    TEST(test_online_wants_the_feature),
	    GROW_TEST(test_online_not_granted),
	    GROW_TEST(test_online),
	    GROW_TEST(test_online_page_lies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
