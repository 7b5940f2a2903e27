/* Virtual machines: table, life cycle in every state, crashes, lost pages, contract. */
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
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_hv.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/vm_test.h"
#include "vmm/pvdisk.h"

static char why[160];
static struct vm *a;

static void run_a(u32 disk_pages)
{
	a = vm_test_run("a", disk_pages);
	vm_test_hello(a);
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
	vm_test_hello(a);
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
	vm_test_hello(a);
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
	vm_test_hello(a);
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
	assert_true(vm_console_line(a, "stats", 5));
	assert_int_equal(vm_console_write(a, many, 1024 - 6 - 4), 1024 - 6 - 4);
	/* nothing of it, or the next line would be another than what was typed */
	assert_false(vm_console_line(a, "stop", 4));
	assert_true(vm_console_line(a, "end", 3));
	assert_int_equal(vm_console_get(a, many, sizeof(many)), 1024);
	assert_memory_equal(many, "stats\r", 6);
	assert_memory_equal(many + 1024 - 4, "end\r", 4);
	memset(many, 'x', 1024);
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
	vm_test_hello(a);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, vm_test_start, vm_test_finish)

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
	    TEST(test_console_rings),
	    TEST(test_info_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
