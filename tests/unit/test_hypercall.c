/*
 * Every hypercall but those about memory (test_hypercall_memory.c): good, bad in each way, and with its page out of
 * memory when it is made.
 */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/err.h"
#include "tests/unit/call_test.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_hv.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"

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
	assert_true(a->info_hfn == HFN_NONE && a->features == 0 && !a->gs.balloon_present &&
		    a->vcpu[0]->counts.hypercalls == 0);
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
	fake_machine_start(&vm_test_machine);
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

#define TEST(name)     cmocka_unit_test_setup_teardown(name, call_test_start, vm_test_finish)
#define SMP_TEST(name) cmocka_unit_test_setup_teardown(name, start_smp, vm_test_finish)

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
	    SMP_TEST(test_vcpu_refused),
	    SMP_TEST(test_vcpu_start_stop),
	    SMP_TEST(test_vcpu_events),
	    SMP_TEST(test_vcpu_halt_and_wake),
	    SMP_TEST(test_vcpu_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
