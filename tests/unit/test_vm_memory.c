/* Memory of virtual machines: failing allocations, overhead and admission, reservation, limit, shares. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/err.h"
#include "mm/frame.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zip.h"
#include "tests/unit/fake_hv.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/vm_test.h"

#define PAGES (VM_MEMORY_MIN >> PAGE_SHIFT)

static char why[160];
static struct vm *a;

/* ---- memory that fails --------------------------------------------------- */

/*
 * Every allocation of a start, one after the other, is refused: either it fails and leaves nothing, or it waits. How
 * many wait.
 */
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
		assert_int_equal(vm_set_reservation(a, (m.ram_unreserved - overhead) << PAGE_SHIFT, why, sizeof(why)),
				 0);
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
	/* 504 slots a frame, those for writes under way and the directory; 128 records of compressed pages a frame. */
	assert_int_equal(zip_frames_for(pages), pages / 128 + 3) /* index 0 is none; two directories */;
	assert_int_equal(overhead_of(mem, 1, 0, 0) - overhead_of(mem, 1, 0, mem),
			 DIV_ROUND_UP(pages + 16 * 32, 504) + 1 + zip_frames_for(pages));
	assert_in_range(overhead_of(mem, 3, 0, 0) - overhead_of(mem, 2, 0, 0), 4, 8);
	/* The second has the directories and spare slots of the first. */
	a = fake_vm_run(&(struct vm_config){.name = "a", .memory_bytes = mem, .vcpus = 1, .image = "guest.elf"});
	assert_non_null(a);
	assert_in_range(overhead_of(mem, 1, 0, 0) - overhead_of(mem, 1, 0, mem) - zip_frames_for(pages), pages / 504,
			pages / 504 + 1);
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

/* ---- Dynamic Memory ------------------------------------------------------ */

static struct vm_config dynamic_config(u64 minimum, u64 memory, u64 maximum)
{
	struct vm_config c = fake_vm_config("a");

	c.minimum_bytes = minimum * MIB;
	c.memory_bytes = memory * MIB;
	c.maximum_bytes = maximum * MIB;
	return c;
}

static void test_dynamic_figures(void **state)
{
	static const struct {
		u64 minimum, memory, maximum, reservation;
		u32 buffer, balloon;
		int want;
	} bad[] = {
	    {8, 8, 0, 0, 0, 0, E_INVAL},    {0, 8, 0, 0, 20, 0, E_INVAL},   {0, 16, 12, 0, 0, 0, E_RANGE},
	    {4, 16, 24, 0, 0, 0, E_RANGE},  {17, 16, 24, 0, 0, 0, E_RANGE}, {8, 16, 65 * 1024, 0, 0, 0, E_RANGE},
	    {8, 16, 24, 25, 0, 0, E_RANGE}, {8, 16, 24, 0, 4, 0, E_RANGE},  {8, 16, 24, 0, 2001, 0, E_RANGE},
	    {8, 16, 24, 0, 0, 50, E_INVAL},
	};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vm_config c = dynamic_config(bad[i].minimum, bad[i].memory, bad[i].maximum);
		struct vm *vm;

		c.reservation_bytes = bad[i].reservation * MIB;
		c.buffer_percent = bad[i].buffer;
		c.balloon_max_percent = bad[i].balloon;
		why[0] = 0;
		assert_int_equal(vm_create(&c, &vm, why, sizeof(why)), bad[i].want);
		assert_true(why[0] != 0);
	}
}

/* What it may ever have is what counts. */
static void test_dynamic_admission(void **state)
{
	struct vm_config c = dynamic_config(0, 8, 16);
	struct vm_host_memory before, after;

	(void)state;
	c.reservation_bytes = 9 * MIB; /* more than it starts with */
	vm_host_memory(&before);
	assert_int_equal(vm_create(&c, &a, why, sizeof(why)), 0);
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	vm_host_memory(&after);
	assert_int_equal(a->gs.pages, 2048);
	assert_int_equal(a->gs.alloc.limit, 4096);
	assert_int_equal(a->gs.swap_reserved, 1792);
	assert_int_equal(a->gs.dyn.minimum, 2048);
	assert_int_equal(a->gs.dyn.maximum, 4096);
	assert_int_equal(a->gs.dyn.buffer, 20);
	assert_true(before.ram_unreserved - after.ram_unreserved >= 2304 + vm_overhead_frames(&c) / 2);
	assert_int_equal(before.swap_unreserved - after.swap_unreserved, 1792);
	assert_int_equal(vm_set_reservation(a, 16 * MIB, why, sizeof(why)), E_NOMEM); /* it has not got so much */
	assert_int_equal(vm_set_reservation(a, 4 * MIB, why, sizeof(why)), 0);
	assert_int_equal(a->gs.swap_reserved, 3072);
	fake_vm_await(a, VM_RUNNING);
	fake_vm_remove(a);
	/* A maximum that nothing backs. */
	c = dynamic_config(0, 8, 4096);
	assert_int_equal(vm_create(&c, &a, why, sizeof(why)), 0);
	assert_int_not_equal(vm_start(a, why, sizeof(why)), 0);
	assert_non_null(strstr(why, "not admitted"));
	assert_int_equal(vm_destroy(a, why, sizeof(why)), 0);
	a = NULL;
}

static void test_set_memory(void **state)
{
	struct vm_config c = dynamic_config(8, 10, 16);

	(void)state;
	assert_int_equal(vm_create(&c, &a, why, sizeof(why)), 0);
	assert_int_equal(vm_set_memory(a, 17 * MIB, why, sizeof(why)), E_RANGE);
	assert_int_equal(vm_set_memory(a, 7 * MIB, why, sizeof(why)), E_RANGE);
	assert_int_equal(vm_set_memory(a, 12 * MIB, why, sizeof(why)), 0);
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	fake_vm_await(a, VM_RUNNING);
	assert_int_equal(a->gs.pages, 3072);
	assert_int_equal(vm_set_memory(a, 14 * MIB, why, sizeof(why)), E_BUSY); /* its guest cannot */
	a->gs.dyn.present = true;
	assert_int_equal(vm_set_memory(a, 17 * MIB, why, sizeof(why)), E_RANGE);
	assert_int_equal(vm_set_memory(a, 14 * MIB, why, sizeof(why)), 0);
	assert_int_equal(dynmem_wanted(&a->gs), 3584);
	assert_int_equal(vm_set_memory(a, 0, why, sizeof(why)), 0);
	assert_int_equal(a->gs.dyn.fixed, 0);
	assert_int_equal(vm_set_minimum(a, 13 * MIB, why, sizeof(why)), E_RANGE);
	assert_int_equal(vm_set_minimum(a, 9 * MIB, why, sizeof(why)), 0);
	assert_int_equal(a->gs.dyn.minimum, 2304);
	assert_int_equal(vm_set_buffer(a, 4, why, sizeof(why)), E_RANGE);
	assert_int_equal(vm_set_buffer(a, 50, why, sizeof(why)), 0);
	assert_int_equal(a->gs.dyn.buffer, 50);
	fake_vm_remove(a);
	/* Without Dynamic Memory: only while it is stopped. */
	c = fake_vm_config("a");
	assert_int_equal(vm_create(&c, &a, why, sizeof(why)), 0);
	assert_int_equal(vm_set_memory(a, 0, why, sizeof(why)), E_INVAL);
	assert_int_equal(vm_set_memory(a, 9 * MIB, why, sizeof(why)), 0);
	assert_int_equal(vm_set_minimum(a, 8 * MIB, why, sizeof(why)), E_INVAL);
	assert_int_equal(vm_set_buffer(a, 20, why, sizeof(why)), E_INVAL);
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	fake_vm_await(a, VM_RUNNING);
	assert_int_equal(a->gs.pages, 2304);
	assert_int_equal(vm_set_memory(a, 8 * MIB, why, sizeof(why)), E_INVAL);
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
	assert_true(a->gs.count[PAGE_COMPRESSED] + a->gs.count[PAGE_SWAPPED] > 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, vm_test_start, vm_test_finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_start_without_memory), TEST(test_guest_without_memory), TEST(test_admission_ram),
	    TEST(test_overhead_parts),       TEST(test_overhead_covers_all),  TEST(test_admission_counts_disk),
	    TEST(test_admission_swap),       TEST(test_admission_no_swap),    TEST(test_admission_odd_figures),
	    TEST(test_set_reservation),      TEST(test_set_limit_and_shares), TEST(test_dynamic_figures),
	    TEST(test_dynamic_admission),    TEST(test_set_memory),           TEST(test_limit_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
