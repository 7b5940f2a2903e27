/* Virtual machines: table, life cycle in every state, admission, settings, crashes, lost pages, failing memory. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "lib/err.h"
#include "lib/work.h"
#include "mm/balloon.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_hv.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "vmm/pvdisk.h"

#define INFO  0x20000UL
#define RING  0x21000UL
#define BUF   0x300U
#define PAGES (VM_MEMORY_MIN >> PAGE_SHIFT)

static const struct fake_machine machine = {.frames = 3000, .swap_pages = 8192, .data_pages = 1000, .min_free = 400};
static char why[160];
static struct vm *a;

static int start(void **state)
{
	(void)state;
	fake_machine_start(&machine);
	a = NULL;
	return 0;
}

static int finish(void **state)
{
	struct vm *vm;

	(void)state;
	fake_guest = NULL;
	fake_blk.hold = false;
	fake_alloc_fail_at = 0;
	fake_vcpu_create_fails = false;
	fake_machine_verify();
	while ((vm = vm_next(NULL)))
		fake_vm_remove(vm);
	fake_machine_settle();
	assert_null(fake_machine_leak());
	fake_machine_stop();
	return 0;
}

static void hello(void)
{
	assert_true(fake_call(a, AERO_CALL_HELLO, AERO_ABI_VERSION, ~0u, INFO) > 0);
	assert_int_equal(fake_call(a, AERO_CALL_UPCALL, 0x40, 0, 0), 0);
}

static void run_a(u32 disk_pages)
{
	struct vm_config c = fake_vm_config("a");

	c.disk_bytes = (u64)disk_pages << PAGE_SHIFT;
	a = fake_vm_run(&c);
	assert_non_null(a);
	hello();
}

/* ---- table --------------------------------------------------------------- */

static void test_create(void **state)
{
	static const char *const bad[] = {"", "0123456789abcdef", "a b", "a/b", "\xc3\xa4", "x\n"};
	struct vm_config c = fake_vm_config("a");
	struct vm *vm, *again;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(c.name, 0, sizeof(c.name));
		memcpy(c.name, bad[i], strlen(bad[i])); /* the longest has no end */
		assert_int_equal(vm_create(&c, &vm, why, sizeof(why)), E_INVAL);
	}
	c = fake_vm_config("a");
	assert_int_equal(vm_create(&c, &vm, why, sizeof(why)), 0);
	assert_int_equal(vm->state, VM_CREATED);
	assert_ptr_equal(vm_find("a"), vm);
	assert_null(vm_find("b"));
	assert_int_equal(vm_create(&c, &again, why, sizeof(why)), E_EXIST);
	assert_string_equal(why, "a VM named 'a' exists");
	fake_alloc_fail_at = fake_allocs + 1;
	strcpy(c.name, "b");
	assert_int_equal(vm_create(&c, &again, why, sizeof(why)), E_NOMEM);
	assert_null(vm_find("b"));
	assert_int_equal(vm_create(&c, &again, why, sizeof(why)), 0);
	assert_ptr_equal(vm_next(NULL), vm);
	assert_ptr_equal(vm_next(vm), again);
	assert_null(vm_next(again));
	assert_int_equal(vm_destroy(vm, why, sizeof(why)), 0);
	assert_ptr_equal(vm_next(NULL), again);
}

static void test_create_bounds(void **state)
{
	static const struct {
		u64 memory, reservation, limit, disk;
		u32 vcpus, balloon, shares;
		int want;
	} bad[] = {
	    {VM_MEMORY_MIN - PAGE_SIZE, 0, 0, 0, 1, 0, 0, E_RANGE},
	    {VM_MEMORY_MAX + PAGE_SIZE, 0, 0, 0, 1, 0, 0, E_RANGE},
	    {VM_MEMORY_MIN + 1, 0, 0, 0, 1, 0, 0, E_RANGE},
	    {VM_MEMORY_MIN, VM_MEMORY_MIN + PAGE_SIZE, 0, 0, 1, 0, 0, E_RANGE},
	    {2 * VM_MEMORY_MIN, 2 * VM_MEMORY_MIN, VM_MEMORY_MIN, 0, 1, 0, 0, E_RANGE},
	    {VM_MEMORY_MIN, 0, VM_MEMORY_MIN - PAGE_SIZE, 0, 1, 0, 0, E_RANGE}, /* as vm_set_limit() */
	    {VM_MEMORY_MIN, 0, 1, 0, 1, 0, 0, E_RANGE},
	    {VM_MEMORY_MIN, 0, 0, PVDISK_BYTES_MAX + 1, 1, 0, 0, E_RANGE},
	    {VM_MEMORY_MIN, 0, 0, 0, 0, 0, 0, E_RANGE},
	    {VM_MEMORY_MIN, 0, 0, 0, VM_VCPUS_MAX + 1, 0, 0, E_RANGE},
	    {VM_MEMORY_MIN, 0, 0, 0, 1, 96, 0, E_RANGE},
	    {VM_MEMORY_MIN, 0, 0, 0, 1, 0, 1000001, E_RANGE}, /* as vm_set_shares() */
	};
	struct vm *vm;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vm_config c = fake_vm_config("a");

		c.memory_bytes = bad[i].memory;
		c.reservation_bytes = bad[i].reservation;
		c.limit_bytes = bad[i].limit;
		c.disk_bytes = bad[i].disk;
		c.vcpus = bad[i].vcpus;
		c.balloon_max_percent = bad[i].balloon;
		c.shares = bad[i].shares;
		why[0] = 0;
		assert_int_equal(vm_create(&c, &vm, why, sizeof(why)), bad[i].want);
		assert_true(why[0] != 0);
	}
}

static void test_table_full(void **state)
{
	struct vm_config c = fake_vm_config("");
	struct vm *vm;

	(void)state;
	for (u32 i = 0; i < VM_MAX; i++) {
		snprintf(c.name, sizeof(c.name), "vm%u", i);
		assert_int_equal(vm_create(&c, &vm, why, sizeof(why)), 0);
	}
	strcpy(c.name, "more");
	assert_int_equal(vm_create(&c, &vm, why, sizeof(why)), E_NOSPC);
	assert_int_equal(vm_destroy(vm_find("vm7"), why, sizeof(why)), 0);
	assert_int_equal(vm_create(&c, &vm, why, sizeof(why)), 0);
}

/* ---- life cycle ---------------------------------------------------------- */

enum op { OP_START, OP_PAUSE, OP_RESUME, OP_STOP, OP_KILL, OP_DESTROY, OPS };

static int do_op(struct vm *vm, enum op op)
{
	switch (op) {
	case OP_START:
		return vm_start(vm, why, sizeof(why));
	case OP_PAUSE:
		return vm_pause(vm, why, sizeof(why));
	case OP_RESUME:
		return vm_resume(vm, why, sizeof(why));
	case OP_STOP:
		return vm_stop(vm, false, why, sizeof(why));
	case OP_KILL:
		return vm_stop(vm, true, why, sizeof(why));
	default:
		return vm_destroy(vm, why, sizeof(why));
	}
}

static struct vm *vm_in(enum vm_state s)
{
	struct vm_config c = fake_vm_config("a");
	struct vm *vm;

	assert_int_equal(vm_create(&c, &vm, why, sizeof(why)), 0);
	if (s == VM_CREATED)
		return vm;
	assert_int_equal(vm_start(vm, why, sizeof(why)), 0);
	if (s == VM_STARTING)
		return vm;
	fake_vm_await(vm, VM_RUNNING);
	if (s == VM_PAUSED)
		assert_int_equal(vm_pause(vm, why, sizeof(why)), 0);
	if (s == VM_STOPPING)
		assert_int_equal(vm_stop(vm, true, why, sizeof(why)), 0);
	if (s == VM_CRASHED) {
		vm_crash(vm, "test");
		fake_vm_await(vm, VM_CRASHED);
	}
	assert_int_equal(vm->state, s);
	return vm;
}

static void test_every_operation_in_every_state(void **state)
{
	/* The state it leads to at once; -1: E_BUSY and nothing happens; VM_STATES: the VM is no more. */
	static const int want[VM_STATES][OPS] = {
	    [VM_CREATED] = {VM_STARTING, -1, -1, -1, -1, VM_STATES},
	    [VM_STARTING] = {-1, -1, -1, VM_STOPPING, VM_STOPPING, -1},
	    [VM_RUNNING] = {-1, VM_PAUSED, -1, VM_STOPPING, VM_STOPPING, -1}, /* it has not said HELLO */
	    [VM_PAUSED] = {-1, -1, VM_RUNNING, VM_STOPPING, VM_STOPPING, -1},
	    [VM_STOPPING] = {-1, -1, -1, -1, -1, -1},
	    [VM_CRASHED] = {VM_STARTING, -1, -1, -1, -1, VM_STATES},
	};

	(void)state;
	for (enum vm_state s = 0; s < VM_STATES; s++)
		for (enum op op = 0; op < OPS; op++) {
			struct vm *vm = vm_in(s);
			int err = do_op(vm, op);

			assert_int_equal(err, want[s][op] < 0 ? E_BUSY : 0);
			if (err)
				assert_true(strstr(why, vm_state_name(s)) || strstr(why, "first"));
			if (want[s][op] == VM_STATES) {
				assert_null(vm_find("a"));
				continue;
			}
			assert_int_equal(vm->state, err ? (int)s : want[s][op]);
			fake_machine_verify();
			fake_cpu_run(3);
			fake_vm_remove(vm);
			assert_null(fake_machine_leak());
		}
}

static void test_start_image(void **state)
{
	struct vm_config c = fake_vm_config("a");
	struct aero_start *s;
	u8 *code;

	(void)state;
	strcpy(c.cmdline, "app=idle");
	c.memory_bytes = 12 * MIB;
	a = fake_vm_run(&c);
	assert_int_equal(a->vcpu[0]->hv->start.rip, MIB + 0x200);
	assert_int_equal(a->vcpu[0]->hv->start.rdi, 0x1000);
	assert_int_equal(a->vcpu[0]->hv->start.cr3, 0x2000);
	s = fake_page(a, 1);
	assert_true(s->magic == AERO_START_MAGIC && s->abi_version == AERO_ABI_VERSION && s->vcpus == 1);
	assert_true(s->memory_bytes == 12 * MIB && s->image_end == MIB + 3 * PAGE_SIZE && s->disks == 0);
	assert_string_equal(s->name, "a");
	assert_string_equal(s->cmdline, "app=idle");
	code = fake_page(a, 0x101);
	assert_int_equal(code[5000 - 4096 - 1], (u8)(4999 * 7));
	assert_int_equal(code[5000 - 4096], 0);
	code = fake_page(a, 0x102);
	assert_int_equal(code[0], (u8)(8192 * 7));
	assert_int_equal(code[2048], 0);
	/* 1:1 tables for 4 GiB. */
	assert_int_equal(*(u64 *)fake_page(a, 2), 0x3003);
	for (u32 d = 0; d < 4; d++) {
		u64 *pd = fake_page(a, 4 + d);

		assert_int_equal(((u64 *)fake_page(a, 3))[d], ((4 + d) << 12) + 3);
		for (u64 i = 0; i < 512; i++)
			assert_int_equal(pd[i], (d * 512 + i) * LARGE_SIZE + 0x83);
	}
	assert_int_equal(((u64 *)fake_page(a, 3))[4], 0);
}

static void test_start_refused(void **state)
{
	struct vm_config c = fake_vm_config("a");

	(void)state;
	strcpy(c.image, "other.elf");
	assert_null(fake_vm_run(&c));
	assert_string_equal(fake_why, "no guest image 'other.elf' on the boot volume");
}

static void test_orderly_stop(void **state)
{
	u64 from;

	(void)state;
	run_a(0);
	/* A guest that obeys. */
	assert_int_equal(vm_stop(a, false, why, sizeof(why)), 0);
	assert_int_equal(a->state, VM_RUNNING);
	assert_int_equal(((struct aero_info *)fake_page(a, INFO >> PAGE_SHIFT))->events, AERO_EVENT_SHUTDOWN);
	fake_cpu_run(100);
	assert_int_equal(a->state, VM_RUNNING);
	(void)fake_call(a, AERO_CALL_SHUTDOWN, AERO_SHUTDOWN_OFF, 0, 0);
	fake_vm_await(a, VM_CREATED);
	assert_string_equal(a->why, "shut down by the guest");
	/* One that does not: 5 s. Asking again gives it no more time. */
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	fake_vm_await(a, VM_RUNNING);
	hello();
	from = fake_now_ns;
	assert_int_equal(vm_stop(a, false, why, sizeof(why)), 0);
	while (a->state == VM_RUNNING) {
		assert_true(fake_now_ns <= from + 5 * NSEC_PER_SEC + 10 * NSEC_PER_MSEC);
		assert_int_equal(vm_stop(a, false, why, sizeof(why)), 0);
		fake_cpu_run(10);
	}
	assert_true(fake_now_ns >= from + 5 * NSEC_PER_SEC);
	fake_vm_await(a, VM_CREATED);
	assert_string_equal(a->why, "stopped by the operator, forced");
	/* One that is paused meanwhile. */
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	fake_vm_await(a, VM_RUNNING);
	hello();
	assert_int_equal(vm_stop(a, false, why, sizeof(why)), 0);
	assert_int_equal(vm_pause(a, why, sizeof(why)), 0);
	fake_vm_await(a, VM_CREATED);
}

/* Stops a VM just when its end has begun. */
static void stop_ending(struct work *w)
{
	if (a->state != VM_STOPPING) {
		work_queue(w);
		return;
	}
	assert_true(a->restart);
	assert_int_equal(vm_stop(a, false, why, sizeof(why)), 0);
	assert_int_equal(vm_stop(a, false, why, sizeof(why)), E_BUSY);
}

/* Who asked for the end does not want a new start. */
static void test_stop_answered_by_reboot(void **state)
{
	struct work w;

	(void)state;
	run_a(0);
	assert_int_equal(vm_stop(a, false, why, sizeof(why)), 0);
	(void)fake_call(a, AERO_CALL_SHUTDOWN, AERO_SHUTDOWN_REBOOT, 0, 0);
	fake_machine_settle();
	assert_int_equal(a->state, VM_CREATED);
	/* Nor does one who asks while it is on its way down. */
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	fake_vm_await(a, VM_RUNNING);
	(void)fake_call(a, AERO_CALL_SHUTDOWN, AERO_SHUTDOWN_REBOOT, 0, 0);
	work_init(&w, "stop-ending", stop_ending);
	work_queue(&w);
	fake_machine_settle();
	assert_int_equal(a->state, VM_CREATED);
	assert_string_equal(a->why, "stopped by the operator");
}

static void test_reboot(void **state)
{
	struct hv_vcpu *v;

	(void)state;
	run_a(10);
	fake_page_write(a, BUF, 0x1234);
	for (u32 i = 0; i < 3; i++) {
		(void)fake_call(a, AERO_CALL_SHUTDOWN, AERO_SHUTDOWN_REBOOT, 0, 0);
		assert_int_equal(a->end_asked, VM_END_REBOOT);
		fake_machine_settle();
		assert_int_equal(a->state, VM_RUNNING);
		v = a->vcpu[0]->hv;
		assert_int_equal(v->resets, 1);
		assert_int_equal(fake_page_read(a, BUF), 0);
		assert_true(a->info_hfn == HFN_NONE && a->vcpu[0]->upcall_vector == 0 && a->features == 0);
		assert_int_equal(a->vcpu[0]->counts.exits[HV_EXIT_HYPERCALL], 0);
	}
	/* One that fails. */
	fake_vcpu_create_fails = true;
	(void)fake_call(a, AERO_CALL_SHUTDOWN, AERO_SHUTDOWN_REBOOT, 0, 0);
	fake_machine_settle();
	assert_int_equal(a->state, VM_CREATED);
	assert_non_null(strstr(a->why, "no memory for the structures"));
}

/* A guest that does nothing but reboot does not fill the log. */
static void test_reboot_loop_is_quiet(void **state)
{
	u32 lines = 0;

	(void)state;
	run_a(0);
	for (u32 i = 0; i < 60; i++) {
		(void)fake_call(a, AERO_CALL_SHUTDOWN, AERO_SHUTDOWN_REBOOT, 0, 0);
		fake_vm_await(a, VM_RUNNING);
	}
	for (const char *at = strstr(fake_log, " vm: "); at; at = strstr(at + 1, " vm: "))
		lines++;
	assert_in_range(lines, 1, 25);
}

/* ---- crashes and lost pages ---------------------------------------------- */

static void test_crash(void **state)
{
	(void)state;
	run_a(0);
	(void)fake_call(a, AERO_CALL_SHUTDOWN, AERO_SHUTDOWN_CRASH, 0, 0);
	assert_int_equal(a->end_asked, VM_END_CRASH);
	vm_crash(a, "second"); /* the first reason stays */
	fake_machine_settle();
	assert_int_equal(a->state, VM_CRASHED);
	assert_string_equal(a->why, "the guest reported a crash");
	vm_crash(a, "third");
	assert_int_equal(a->state, VM_CRASHED);
	assert_string_equal(a->why, "the guest reported a crash");
	/* What nobody knows is a crash, too, and no restart. */
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	fake_vm_await(a, VM_RUNNING);
	(void)fake_call(a, AERO_CALL_SHUTDOWN, ~0UL, 0, 0);
	fake_vm_await(a, VM_CRASHED);
}

static void test_crash_while_starting(void **state)
{
	struct vm_config c = fake_vm_config("a");

	(void)state;
	for (u32 passes = 0; passes < 4; passes++) {
		c.disk_bytes = 10 * PAGE_SIZE;
		assert_int_equal(vm_create(&c, &a, why, sizeof(why)), 0);
		assert_int_equal(vm_start(a, why, sizeof(why)), 0);
		for (u32 i = 0; i < passes; i++)
			work_run(1);
		assert_int_equal(a->state, VM_STARTING);
		mm_gspace_poisoned(&a->gs, 5, "test");
		fake_machine_settle();
		assert_int_equal(a->state, VM_CRASHED);
		assert_string_equal(a->why, "page 0x5 is lost: test");
		fake_vm_remove(a);
		assert_null(fake_machine_leak());
	}
}

static void test_poison(void **state)
{
	(void)state;
	run_a(10);
	mm_gspace_poisoned(&a->gs, 5, "first");
	mm_gspace_poisoned(&a->gs, 6, "second");
	fake_vm_await(a, VM_CRASHED);
	assert_string_equal(a->why, "page 0x5 is lost: first");
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	fake_vm_await(a, VM_RUNNING);
	assert_int_equal(vm_pause(a, why, sizeof(why)), 0);
	mm_gspace_poisoned(&a->gs, 7, "paused");
	fake_vm_await(a, VM_CRASHED);
	assert_string_equal(a->why, "page 0x7 is lost: paused");
}

/* By the whole way: the swap device cannot read back what the guest touches. */
static void test_poison_by_device(void **state)
{
	struct hv_exit e = {.kind = HV_EXIT_NPF, .npf = {.gpa = GPA((u64)BUF << PAGE_SHIFT), .read = true}};

	(void)state;
	run_a(0);
	fake_page_write(a, BUF, 0x1234);
	fake_swap_out(a, BUF);
	fake_blk.bad_read_to = fake_blk_part.pages;
	assert_false(fake_exit(a, &e));
	fake_vm_await(a, VM_CRASHED);
	assert_non_null(strstr(a->why, "swap read error"));
	fake_blk.bad_read_to = 0;
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	fake_vm_await(a, VM_RUNNING);
}

/*
 * The last transfer ends, and a page turns out to be lost, while the reaper's timer is set: the VM may be gone, or
 * started again, when that would fire.
 */
static void stop_poisoned(void)
{
	struct aero_disk_ring *ring;

	assert_int_equal(fake_call(a, AERO_CALL_DISK_SETUP, 0, RING, 0), 10);
	ring = fake_page(a, RING >> PAGE_SHIFT);
	ring->request[0] = (struct aero_disk_request){.op = AERO_DISK_FLUSH, .status = AERO_DISK_PENDING};
	ring->posted = 1;
	fake_blk.hold = true;
	assert_int_equal(fake_call(a, AERO_CALL_DISK_KICK, 0, 0, 0), 1);
	assert_int_equal(vm_stop(a, true, why, sizeof(why)), 0);
	fake_cpu_run(1);
	assert_true(a->life_timer.armed);
	fake_blk.hold = false;
	fake_blk_poll();
	mm_gspace_poisoned(&a->gs, 5, "too late");
	for (u32 i = 0; a->state == VM_STOPPING && i < 1000; i++)
		work_run(1);
	assert_int_equal(a->state, VM_CREATED);
	assert_false(a->life_timer.armed);
}

static void test_poison_while_stopping(void **state)
{
	(void)state;
	run_a(10);
	stop_poisoned();
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	for (u32 i = 0; a->state == VM_STARTING && i < 1000; i++)
		work_run(1);
	assert_int_equal(a->state, VM_RUNNING);
	fake_cpu_run(100);
	assert_int_equal(a->state, VM_RUNNING);
	hello();
	stop_poisoned();
	assert_int_equal(vm_destroy(a, why, sizeof(why)), 0);
	fake_cpu_run(100);
}

/* A VM is not destroyed while something that points to it is queued. */
static void test_destroy_with_notification(void **state)
{
	(void)state;
	run_a(0);
	assert_int_equal(vm_stop(a, true, why, sizeof(why)), 0);
	for (u32 i = 0; a->state == VM_STOPPING && i < 1000; i++)
		work_run(1);
	mm_balloon_notify(&a->gs);
	assert_int_equal(vm_destroy(a, why, sizeof(why)), E_BUSY);
	fake_cpu_run(2);
	assert_int_equal(vm_destroy(a, why, sizeof(why)), 0);
}

/* ---- memory that fails --------------------------------------------------- */

/* Every allocation of a start, one after the other, is refused: either it fails and leaves nothing, or it waits. How many wait. */
static u32 start_without_memory(void)
{
	struct vm_config c = fake_vm_config("a");
	u32 failed = 0, i;

	c.disk_bytes = 100 * PAGE_SIZE;
	assert_int_equal(vm_create(&c, &a, why, sizeof(why)), 0);
	for (i = 1;; i++) {
		u32 before;
		int err;

		fake_alloc_fail_at = fake_allocs + i;
		err = vm_start(a, why, sizeof(why));
		if (err) {
			assert_int_equal(err, E_NOMEM);
			assert_int_equal(a->state, VM_CREATED);
			failed++;
		} else {
			fake_vm_await(a, VM_RUNNING);
			before = fake_allocs;
			assert_int_equal(vm_stop(a, true, why, sizeof(why)), 0);
			fake_vm_await(a, VM_CREATED);
		}
		fake_machine_verify();
		if (!err && fake_alloc_fail_at > before)
			break;
		fake_alloc_fail_at = 0;
	}
	fake_alloc_fail_at = 0;
	fake_vm_remove(a);
	assert_null(fake_machine_leak());
	assert_true(failed >= 7);
	return i - failed;
}

static void test_start_without_memory(void **state)
{
	(void)state;
	assert_true(start_without_memory() >= 3); /* a large page holds the image */
	reclaim_set_min_free(frame_free_count() / 3);
	assert_true(start_without_memory() > 10); /* page by page */
	reclaim_set_min_free(0);
}

/* The same for a guest that starts to work. */
static void test_guest_without_memory(void **state)
{
	struct vm_config c = fake_vm_config("a");

	(void)state;
	c.disk_bytes = 100 * PAGE_SIZE;
	for (u32 i = 1; i < 40; i++) {
		s64 n;

		a = fake_vm_run(&c);
		fake_alloc_fail_at = fake_allocs + i;
		n = fake_call(a, AERO_CALL_HELLO, AERO_ABI_VERSION, ~0u, INFO);
		if (n == FAKE_WAITS) {
			assert_int_equal(a->info_hfn, HFN_NONE);
			n = fake_call_again(a);
		}
		assert_int_equal(n, vm_features_offered(a));
		n = fake_call(a, AERO_CALL_DISK_SETUP, 0, RING + LARGE_SIZE, 0);
		if (n == FAKE_WAITS)
			n = fake_call_again(a);
		assert_int_equal(n, 100);
		for (u32 p = 0; p < 20; p++) {
			struct hv_exit e = {
			    .kind = HV_EXIT_NPF,
			    .npf = {.gpa = GPA(2 * LARGE_SIZE + p * PAGE_SIZE), .write = p % 2, .read = true}};

			if (!fake_exit(a, &e))
				(void)fake_call_again(a);
		}
		fake_machine_verify();
		fake_alloc_fail_at = 0;
		fake_vm_remove(a);
		assert_null(fake_machine_leak());
	}
}

/* ---- admission and settings ---------------------------------------------- */

static void assert_sums(void)
{
	struct vm_host_memory m;

	vm_host_memory(&m);
	assert_int_equal(m.total, m.hypervisor + m.free + m.guest);
	assert_true(m.ram_unreserved < m.total);
}

static void test_admission_ram(void **state)
{
	struct vm_config c = fake_vm_config("a");
	struct vm_host_memory m;
	u64 overhead;
	struct vm *b;

	(void)state;
	fake_machine_stop();
	fake_machine_start(&(struct fake_machine){.frames = 1600, .swap_pages = 8192, .min_free = 400});
	/* Two VMs' own structures exist before their admission. */
	assert_int_equal(vm_create(&c, &a, why, sizeof(why)), 0);
	strcpy(c.name, "b");
	assert_int_equal(vm_create(&c, &b, why, sizeof(why)), 0);
	vm_host_memory(&m);
	assert_in_range(m.ram_unreserved, 1000, 1200);
	assert_sums();
	/* A page too many. What is reserved needs no slot. */
	for (u32 i = 0; i < 2; i++) {
		overhead = vm_overhead_frames(&a->config);
		assert_int_equal(vm_set_reservation(a, (m.ram_unreserved - overhead) << PAGE_SHIFT, why, sizeof(why)), 0);
	}
	assert_int_equal(overhead, vm_overhead_frames(&a->config));
	assert_int_equal(vm_set_reservation(a, (m.ram_unreserved - overhead + 1) << PAGE_SHIFT, why, sizeof(why)), 0);
	assert_int_equal(vm_start(a, why, sizeof(why)), E_NOMEM);
	assert_non_null(strstr(why, "not admitted: reservation"));
	assert_int_equal(vm_set_reservation(a, (m.ram_unreserved - overhead) << PAGE_SHIFT, why, sizeof(why)), 0);
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	fake_vm_await(a, VM_RUNNING);
	assert_sums();
	/* It has all of it: another has to wait until it is gone, or wants less. */
	assert_int_equal(vm_start(b, why, sizeof(why)), E_NOMEM);
	assert_int_equal(vm_set_reservation(a, 100 << PAGE_SHIFT, why, sizeof(why)), 0);
	assert_int_equal(vm_start(b, why, sizeof(why)), 0);
	fake_vm_await(b, VM_RUNNING);
	assert_sums();
}

static u64 unreserved(void)
{
	struct vm_host_memory m;

	vm_host_memory(&m);
	return m.ram_unreserved;
}

static u64 overhead_of(u64 memory, u32 vcpus, u64 disk, u64 reservation)
{
	struct vm_config c = fake_vm_config("x");

	c.memory_bytes = memory;
	c.vcpus = vcpus;
	c.disk_bytes = disk;
	c.reservation_bytes = reservation;
	return vm_overhead_frames(&c);
}

/* Tables, bitmap of the disk and tables for slots are all in it. */
static void test_overhead_parts(void **state)
{
	const u64 mem = 64 * MIB, pages = mem >> PAGE_SHIFT;

	(void)state;
	fake_machine_stop();
	fake_machine_start(&(struct fake_machine){.frames = 3000, .swap_pages = 40000, .min_free = 400});
	/* 16 GiB: a bit a page are 128 frames, and 4 for the rest. */
	assert_int_equal(overhead_of(mem, 1, 16 * GIB, 0) - overhead_of(mem, 1, 0, 0), 132);
	/* 504 slots a frame, those for writes under way and the directory. */
	assert_int_equal(overhead_of(mem, 1, 0, 0) - overhead_of(mem, 1, 0, mem), DIV_ROUND_UP(pages + 16 * 32, 504) + 1);
	assert_in_range(overhead_of(mem, 3, 0, 0) - overhead_of(mem, 2, 0, 0), 4, 8);
	/* The second has the directories and spare slots of the first. */
	a = fake_vm_run(&(struct vm_config){.name = "a", .memory_bytes = mem, .vcpus = 1, .image = "guest.elf"});
	assert_non_null(a);
	assert_in_range(overhead_of(mem, 1, 0, 0) - overhead_of(mem, 1, 0, mem), pages / 504, pages / 504 + 1);
}

/* Whatever a guest does with its pages, what is left to be promised stays as it is. */
static void test_overhead_covers_all(void **state)
{
	struct vm_config c = fake_vm_config("a");
	u64 before, overhead, after;
	struct vm_host_memory m;

	(void)state;
	c.vcpus = 2;
	c.disk_bytes = 100 * PAGE_SIZE;
	before = unreserved();
	overhead = vm_overhead_frames(&c);
	a = fake_vm_run(&c);
	assert_non_null(a);
	assert_sums();
	after = unreserved();
	/* A vCPU takes less here than on a processor. */
	assert_in_range(before - after - vm_headroom_frames(0), overhead - 2 * 8, overhead);
	for (u32 i = 0; i < 1500; i++)
		fake_page_write(a, 0x200 + i, i / 2); /* by twos equal */
	for (u32 i = 0; i < 40; i++) {
		fake_now_ns += NSEC_PER_SEC;
		share_scan(1000);
		assert_int_equal(unreserved(), after);
	}
	assert_true(a->gs.count[PAGE_SHARED] > 100);
	vm_host_memory(&m);
	assert_true(m.overhead_held > 20 && m.overhead_held < m.overhead);
	assert_sums();
}

/* A VM that would not fit with its disk's bitmap. */
static void test_admission_counts_disk(void **state)
{
	struct vm_config c = fake_vm_config("a");

	(void)state;
	c.reservation_bytes = (unreserved() - 100) << PAGE_SHIFT;
	c.memory_bytes = c.reservation_bytes;
	c.disk_bytes = 16 * GIB;
	assert_null(fake_vm_run(&c));
	assert_non_null(strstr(fake_why, "not admitted: reservation"));
	c.disk_bytes = 0;
	a = fake_vm_run(&c);
	assert_non_null(a);
	/* What it gives up pays for the slots that it then needs. */
	reclaim_set_min_free(400 + unreserved());
	assert_int_equal(unreserved(), 0);
	assert_int_equal(vm_set_reservation(a, c.reservation_bytes - PAGE_SIZE, why, sizeof(why)), E_NOMEM);
	assert_int_equal(vm_set_reservation(a, c.reservation_bytes - 100 * PAGE_SIZE, why, sizeof(why)), 0);
}

static void test_admission_swap(void **state)
{
	struct vm_config c = fake_vm_config("a");
	struct swap_stats s;
	struct vm *b;

	(void)state;
	fake_machine_stop();
	fake_machine_start(&(struct fake_machine){.frames = 3000, .swap_pages = 3000, .min_free = 400});
	a = fake_vm_run(&c);
	assert_int_equal(a->gs.swap_reserved, PAGES);
	swap_stats(&s);
	assert_int_equal(s.unreserved, 3000 - PAGES);
	strcpy(c.name, "b");
	assert_null(fake_vm_run(&c));
	assert_non_null(strstr(fake_why, "not admitted: memory above the reservation needs 8M of swap, 3M unreserved"));
	c.reservation_bytes = (PAGES - (3000 - PAGES) - 1) << PAGE_SHIFT;
	assert_null(fake_vm_run(&c));
	c.reservation_bytes += PAGE_SIZE;
	b = fake_vm_run(&c);
	assert_non_null(b);
	assert_int_equal(b->gs.swap_reserved, 3000 - PAGES);
	swap_stats(&s);
	assert_int_equal(s.unreserved, 0);
}

static void test_admission_no_swap(void **state)
{
	struct vm_config c = fake_vm_config("a");

	(void)state;
	fake_machine_stop();
	fake_machine_start(&(struct fake_machine){.frames = 3000, .min_free = 400});
	assert_null(fake_vm_run(&c));
	assert_non_null(strstr(fake_why, "swap off: no swap partition"));
	c.reservation_bytes = c.memory_bytes;
	a = fake_vm_run(&c);
	assert_non_null(a);
	assert_int_equal(a->gs.alloc.reservation, PAGES);
	/* It cannot give its reservation up. */
	assert_int_equal(vm_set_reservation(a, 0, why, sizeof(why)), E_NOSPC);
	assert_int_equal(a->gs.alloc.reservation, PAGES);
	assert_int_equal(a->config.reservation_bytes, VM_MEMORY_MIN);
}

/* Every page has somewhere to be, whatever the figures in the configuration. */
static void test_admission_odd_figures(void **state)
{
	struct vm_config c = fake_vm_config("a");

	(void)state;
	for (u64 r = 4090; r < 4100; r++) {
		c.reservation_bytes = r;
		c.limit_bytes = VM_MEMORY_MIN + r;
		a = fake_vm_run(&c);
		assert_non_null(a);
		assert_int_equal(a->gs.alloc.reservation + a->gs.swap_reserved, PAGES);
		assert_int_equal(vm_set_reservation(a, 4096 + r, why, sizeof(why)), 0);
		assert_int_equal(a->gs.alloc.reservation + a->gs.swap_reserved, PAGES);
		fake_vm_remove(a);
	}
}

static void test_set_reservation(void **state)
{
	struct vm_config c = fake_vm_config("a");

	(void)state;
	c.limit_bytes = VM_MEMORY_MIN;
	assert_int_equal(vm_create(&c, &a, why, sizeof(why)), 0);
	assert_int_equal(vm_set_reservation(a, VM_MEMORY_MIN + 1, why, sizeof(why)), E_RANGE);
	assert_int_equal(vm_set_reservation(a, 3 * MIB + 17, why, sizeof(why)), 0);
	assert_int_equal(a->config.reservation_bytes, 3 * MIB);
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	for (u64 mib = 0; mib <= 8; mib++) {
		assert_int_equal(vm_set_reservation(a, mib * MIB, why, sizeof(why)), 0);
		assert_int_equal(a->gs.alloc.reservation, mib * 256);
		assert_int_equal(a->gs.swap_reserved, (8 - mib) * 256);
	}
	/* Not without the RAM for it: all is as it was. */
	fake_vm_await(a, VM_RUNNING);
	assert_int_equal(vm_set_reservation(a, 4 * MIB, why, sizeof(why)), 0);
	reclaim_set_min_free(2500);
	assert_int_equal(vm_set_reservation(a, 8 * MIB, why, sizeof(why)), E_NOMEM);
	assert_true(a->gs.alloc.reservation == 1024 && a->gs.swap_reserved == 1024);
	assert_int_equal(a->config.reservation_bytes, 4 * MIB);
	/* Nor without tables for the slots. */
	reclaim_set_min_free(400);
	assert_int_equal(vm_set_reservation(a, 8 * MIB, why, sizeof(why)), 0);
	for (u32 i = 0; i < 100; i++)
		swap_trim();
	fake_alloc_fail_at = fake_allocs + 2;
	assert_int_equal(vm_set_reservation(a, 0, why, sizeof(why)), E_NOMEM);
	assert_true(a->gs.alloc.reservation == 2048 && a->gs.swap_reserved == 0);
	fake_alloc_fail_at = 0;
	assert_int_equal(vm_set_reservation(a, 0, why, sizeof(why)), 0);
	assert_int_equal(a->gs.swap_reserved, 2048);
}

static void test_set_limit_and_shares(void **state)
{
	struct vm_config c = fake_vm_config("a");

	(void)state;
	c.memory_bytes = 16 * MIB;
	c.reservation_bytes = 9 * MIB;
	a = fake_vm_run(&c);
	assert_int_equal(a->gs.alloc.limit, 4096);
	assert_int_equal(a->gs.alloc.shares, 160);
	assert_int_equal(vm_set_limit(a, 9 * MIB - 1, why, sizeof(why)), E_RANGE);
	assert_int_equal(vm_set_limit(a, 12 * MIB + 100, why, sizeof(why)), 0);
	assert_int_equal(a->gs.alloc.limit, 3072);
	assert_int_equal(vm_set_reservation(a, 13 * MIB, why, sizeof(why)), E_RANGE);
	assert_int_equal(vm_set_limit(a, 64 * MIB, why, sizeof(why)), 0);
	assert_int_equal(a->gs.alloc.limit, 4096);
	assert_int_equal(vm_set_limit(a, 0, why, sizeof(why)), 0);
	assert_int_equal(a->gs.alloc.limit, 4096);
	assert_int_equal(vm_set_reservation(a, 0, why, sizeof(why)), 0);
	assert_int_equal(vm_set_limit(a, VM_MEMORY_MIN - PAGE_SIZE, why, sizeof(why)), E_RANGE);
	assert_int_equal(vm_set_shares(a, 0, why, sizeof(why)), E_RANGE);
	assert_int_equal(vm_set_shares(a, 1000001, why, sizeof(why)), E_RANGE);
	assert_int_equal(vm_set_shares(a, 1000000, why, sizeof(why)), 0);
	assert_int_equal(a->gs.alloc.shares, 1000000);
}

/* A guest that wants more than its limit gets on, with the rest in swap. */
static u32 touch_at;

static void touch_all(struct vcpu *v, struct hv_exit *e)
{
	if (touch_at >= BUF && gspace_state(&v->vm->gs, touch_at) == PAGE_PRIVATE)
		*(u64 *)fake_page(v->vm, touch_at) = touch_at;
	if (touch_at < v->vm->gs.pages - 1)
		*e = (struct hv_exit){.kind = HV_EXIT_NPF,
				      .npf = {.gpa = gfn_to_gpa(++touch_at), .write = true, .read = false}};
	else
		fake_guest_spins(v, e);
}

static void test_limit_holds(void **state)
{
	struct vm_config c = fake_vm_config("a");

	(void)state;
	c.memory_bytes = 16 * MIB;
	c.limit_bytes = 8 * MIB;
	a = fake_vm_run(&c);
	touch_at = BUF - 1;
	fake_guest = touch_all;
	for (u32 i = 0; touch_at < a->gs.pages - 1; i++) {
		assert_true(i < 100000);
		assert_true(gspace_consumed(&a->gs) <= 2048);
		fake_cpu_run(1);
	}
	assert_true(a->gs.count[PAGE_SWAPPED] > 1000);
}

/* ---- contract ------------------------------------------------------------ */

static void test_console_rings(void **state)
{
	char text[64], many[VM_CONSOLE_BYTES];

	(void)state;
	run_a(0);
	assert_int_equal(vm_console_write(a, "hello", 5), 5);
	assert_int_equal(((struct aero_info *)fake_page(a, INFO >> PAGE_SHIFT))->events, AERO_EVENT_CONSOLE);
	assert_int_equal(vm_console_get(a, text, 3), 3);
	assert_int_equal(vm_console_get(a, text, 64), 2);
	memset(many, 'x', sizeof(many));
	assert_int_equal(vm_console_write(a, many, sizeof(many)), 1024);
	assert_int_equal(vm_console_write(a, many, 1), 0);
	/* What the guest prints and nobody reads: the latest is kept. */
	assert_int_equal(vm_console_put(a, "first", 5), 5);
	for (u32 i = 0; i < 8; i++)
		assert_int_equal(vm_console_put(a, many, 1024), 1024);
	assert_int_equal(a->con_dropped, 5);
	assert_int_equal(vm_console_read(a, many, sizeof(many)), sizeof(many));
	assert_int_equal(many[0], 'x');
	assert_int_equal(vm_console_read(a, text, sizeof(text)), 0);
}

static void test_info_page(void **state)
{
	struct aero_info info, *page;

	(void)state;
	a = fake_vm_run(&(struct vm_config){.name = "a",
					    .memory_bytes = VM_MEMORY_MIN,
					    .reservation_bytes = MIB,
					    .vcpus = 1,
					    .image = "guest.elf",
					    .balloon_max_percent = 50});
	assert_false(vm_read_info(a, &info));
	vm_post_event(a, AERO_EVENT_CONSOLE); /* nobody to tell */
	hello();
	assert_true(vm_read_info(a, &info));
	assert_true(info.events == 0 && info.clock.version == 2 && info.clock.shift == 32 &&
		    info.clock.mult == 1UL << 32);
	assert_true(info.balloon.target == 0 && info.balloon.floor == 256 && info.balloon.max == 1024);
	assert_int_equal(info.balloon.rate, BALLOON_RATE_DEFAULT);
	page = fake_page(a, INFO >> PAGE_SHIFT);
	reclaim_set_manual(&a->gs, 300);
	fake_cpu_run(1);
	assert_int_equal(page->balloon.target, 300);
	assert_int_equal(page->balloon.sequence, info.balloon.sequence + 1);
	assert_int_equal(page->events, AERO_EVENT_BALLOON);
	/* Scribbled over by the guest: nothing that counts comes from there. */
	memset(page, 0xff, sizeof(*page));
	assert_true(vm_read_info(a, &info));
	assert_int_equal(info.app.name[15], 0);
	reclaim_set_manual(&a->gs, 200);
	fake_cpu_run(1);
	assert_int_equal(page->balloon.target, 200);
	assert_int_equal(a->gs.balloon_target, 200);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_create),
	    TEST(test_create_bounds),
	    TEST(test_table_full),
	    TEST(test_every_operation_in_every_state),
	    TEST(test_start_image),
	    TEST(test_start_refused),
	    TEST(test_orderly_stop),
	    TEST(test_stop_answered_by_reboot),
	    TEST(test_reboot),
	    TEST(test_reboot_loop_is_quiet),
	    TEST(test_crash),
	    TEST(test_crash_while_starting),
	    TEST(test_poison),
	    TEST(test_poison_by_device),
	    TEST(test_poison_while_stopping),
	    TEST(test_destroy_with_notification),
	    TEST(test_start_without_memory),
	    TEST(test_guest_without_memory),
	    TEST(test_admission_ram),
	    TEST(test_overhead_parts),
	    TEST(test_overhead_covers_all),
	    TEST(test_admission_counts_disk),
	    TEST(test_admission_swap),
	    TEST(test_admission_no_swap),
	    TEST(test_admission_odd_figures),
	    TEST(test_set_reservation),
	    TEST(test_set_limit_and_shares),
	    TEST(test_limit_holds),
	    TEST(test_console_rings),
	    TEST(test_info_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
