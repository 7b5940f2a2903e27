/* The paravirtual disk: what a guest reads where it never wrote, hostile rings, errors, ends, slices. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/err.h"
#include "lib/work.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_hv.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/vm_test.h"
#include "vmm/pvdisk.h"

#define DISK_PAGES 300U
#define DATA_PAGES 1000U
#define SECRET     0x5ec7e75ec7e75ec7UL

static const struct fake_machine machine = {
    .frames = 2048, .swap_pages = 16384, .data_pages = DATA_PAGES, .min_free = 400};
static struct vm *a, *b;

static struct vm *run_with_disk(const char *name, u32 pages)
{
	struct vm *vm = vm_test_run(name, pages);

	if (!vm)
		return NULL;
	assert_true(fake_call(vm, AERO_CALL_HELLO, AERO_ABI_VERSION, ~0u, INFO) & AERO_FEATURE_DISK);
	assert_int_equal(fake_call(vm, AERO_CALL_DISK_SETUP, 0, RING, 0), pages);
	return vm;
}

/* The partition is full of what others left there. */
static int start(void **state)
{
	(void)state;
	fake_machine_start(&machine);
	for (u32 i = 0; i < DATA_PAGES; i++)
		for (u32 w = 0; w < PAGE_SIZE / 8; w++)
			((u64 *)fake_data_page(i))[w] = SECRET;
	a = run_with_disk("a", DISK_PAGES);
	assert_non_null(a);
	b = NULL;
	return 0;
}

static struct aero_disk_ring *ring(void)
{
	return fake_page(a, RING >> PAGE_SHIFT);
}

static u32 post_raw(u32 op, u64 page, u32 count, u64 gpa)
{
	u32 slot = ring()->posted % AERO_DISK_REQUESTS;

	ring()->request[slot] = (struct aero_disk_request){
	    .page = page, .gpa = gpa, .op = op, .count = count, .status = AERO_DISK_PENDING, .cookie = slot + 100};
	ring()->posted++;
	return slot;
}

static u32 post(u32 op, u64 page, u32 count, gfn_t gfn)
{
	return post_raw(op, page, count, (u64)gfn << PAGE_SHIFT);
}

static s64 kick(void)
{
	return fake_call(a, AERO_CALL_DISK_KICK, 0, 0, 0);
}

static int status(u32 slot)
{
	return ring()->request[slot].status;
}

static int wait(u32 slot)
{
	for (u32 i = 0; status(slot) == AERO_DISK_PENDING && i < 1000; i++)
		fake_cpu_run(1);
	return status(slot);
}

static int request(u32 op, u64 page, u32 count, gfn_t gfn)
{
	u32 slot = post(op, page, count, gfn);

	assert_int_equal(kick(), 1);
	return wait(slot);
}

static void assert_pins(u32 n)
{
	assert_int_equal(a->gs.count[PAGE_PINNED], n + 2); /* information page, ring */
}

static void stamp(gfn_t gfn, u64 word)
{
	fake_page_write(a, gfn, word);
	for (u32 w = 0; w < PAGE_SIZE / 8; w++)
		((u64 *)fake_page(a, gfn))[w] = word + w;
}

static bool is_stamped(gfn_t gfn, u64 word)
{
	for (u32 w = 0; w < PAGE_SIZE / 8; w++)
		if (((u64 *)fake_page(a, gfn))[w] != word + w)
			return false;
	return true;
}

static bool is_zero(gfn_t gfn)
{
	for (u32 w = 0; w < PAGE_SIZE / 8; w++)
		if (((u64 *)fake_page(a, gfn))[w])
			return false;
	return true;
}

static bool has_secret(gfn_t gfn)
{
	for (u32 w = 0; w < PAGE_SIZE / 8; w++)
		if (((u64 *)fake_page(a, gfn))[w] == SECRET)
			return true;
	return false;
}

/* ---- content ------------------------------------------------------------- */

static void test_write_read(void **state)
{
	struct pvdisk_stats s;

	(void)state;
	for (u32 i = 0; i < 16; i++)
		stamp(BUF + i, 1000 * i);
	assert_int_equal(request(AERO_DISK_WRITE, 7, 16, BUF), AERO_DISK_OK);
	assert_memory_equal(fake_data_page(7), fake_page(a, BUF), PAGE_SIZE);
	for (u32 i = 0; i < 16; i++)
		stamp(BUF + i, 1);
	assert_int_equal(request(AERO_DISK_FLUSH, 0, 0, 0), AERO_DISK_OK);
	assert_int_equal(request(AERO_DISK_READ, 7, 16, BUF + 16), AERO_DISK_OK);
	for (u32 i = 0; i < 16; i++)
		assert_true(is_stamped(BUF + 16 + i, 1000 * i));
	assert_int_equal(ring()->completed, 3);
	assert_pins(0);
	pvdisk_stats(a->disk, &s);
	assert_true(s.reads == 1 && s.writes == 1 && s.read_pages == 16 && s.write_pages == 16 && s.errors == 0);
}

static void test_unwritten_is_zero(void **state)
{
	struct pvdisk_stats s;

	(void)state;
	stamp(BUF, 5);
	stamp(BUF + 1, 5);
	fake_blk.hold = true; /* no device is needed for it */
	assert_int_equal(request(AERO_DISK_READ, 0, 2, BUF), AERO_DISK_OK);
	assert_true(is_zero(BUF) && is_zero(BUF + 1));
	assert_int_equal(request(AERO_DISK_READ, DISK_PAGES - 16, 16, BUF), AERO_DISK_OK);
	pvdisk_stats(a->disk, &s);
	assert_int_equal(s.zero_reads, 2);
	assert_pins(0);
}

/* Every mix of written and unwritten pages in one request, and what the guest sees while it is under way. */
static void test_mixed_read(void **state)
{
	(void)state;
	fake_blk.early_reads = true;
	for (u32 mix = 1; mix < 64; mix++) {
		u32 first = 6 * (mix % 32), slot;

		fake_vm_remove(a);
		a = run_with_disk("a", DISK_PAGES);
		for (u32 i = 0; i < 6; i++) {
			stamp(BUF + i, 100 * mix + i);
			if (mix & BIT(i))
				assert_int_equal(request(AERO_DISK_WRITE, first + i, 1, BUF + i), AERO_DISK_OK);
		}
		fake_blk.hold = true;
		slot = post(AERO_DISK_READ, first, 6, BUF + 16);
		assert_int_equal(kick(), 1);
		for (u32 i = 0; status(slot) == AERO_DISK_PENDING; i++) {
			assert_true(i < 100);
			for (u32 p = 0; p < 6; p++)
				assert_false(has_secret(BUF + 16 + p));
			fake_blk.hold = i % 2;
			fake_cpu_run(1);
		}
		fake_blk.hold = false;
		assert_int_equal(status(slot), AERO_DISK_OK);
		for (u32 i = 0; i < 6; i++)
			assert_true(mix & BIT(i) ? is_stamped(BUF + 16 + i, 100 * mix + i) : is_zero(BUF + 16 + i));
		assert_pins(0);
		for (u32 i = 0; i < 6; i++)
			memset(fake_data_page(first + i), 0x5e, PAGE_SIZE);
	}
}

/*
 * A write of a page that is being read as unwritten ends first: what the read found on the disk before it must not
 * come through as the guest's own.
 */
static void test_write_overtakes_read(void **state)
{
	(void)state;
	for (u32 early = 0; early < 2; early++)
		for (u32 round = 0; round < 40; round++) {
			u32 page = 2 * round + 100 * early, w, r;

			fake_blk.early_reads = early;
			stamp(BUF, 77);
			assert_int_equal(request(AERO_DISK_WRITE, page, 1, BUF), AERO_DISK_OK);
			r = post(AERO_DISK_READ, page, 2, BUF + 4);
			w = post(AERO_DISK_WRITE, page + 1, 1, BUF);
			fake_blk.hold = true;
			assert_int_equal(kick(), 2);
			fake_blk.hold = false;
			assert_int_equal(wait(r), AERO_DISK_OK);
			assert_int_equal(wait(w), AERO_DISK_OK);
			assert_true(is_stamped(BUF + 4, 77));
			assert_true(is_stamped(BUF + 5, 77) || is_zero(BUF + 5));
			assert_int_equal(request(AERO_DISK_READ, page, 2, BUF + 4), AERO_DISK_OK);
			assert_true(is_stamped(BUF + 5, 77));
		}
}

/* A write that failed did not make the page the guest's own. */
static void test_failed_write_shows_nothing(void **state)
{
	(void)state;
	fake_blk.bad_write_from = fake_blk_part.pages + 11;
	fake_blk.bad_write_to = fake_blk_part.pages + 12;
	stamp(BUF, 1);
	stamp(BUF + 1, 2);
	assert_int_equal(request(AERO_DISK_WRITE, 10, 2, BUF), AERO_E_IO);
	assert_pins(0);
	stamp(BUF, 0);
	assert_int_equal(request(AERO_DISK_READ, 10, 2, BUF), AERO_DISK_OK);
	assert_false(has_secret(BUF) || has_secret(BUF + 1));
}

static void test_restart_is_a_new_disk(void **state)
{
	char why[80];

	(void)state;
	stamp(BUF, 42);
	assert_int_equal(request(AERO_DISK_WRITE, 3, 1, BUF), AERO_DISK_OK);
	(void)fake_call(a, AERO_CALL_SHUTDOWN, AERO_SHUTDOWN_REBOOT, 0, 0);
	fake_vm_await(a, VM_RUNNING);
	assert_int_equal(fake_call(a, AERO_CALL_DISK_KICK, 0, 0, 0), AERO_E_PERM);
	assert_true(fake_call(a, AERO_CALL_HELLO, AERO_ABI_VERSION, ~0u, INFO) > 0);
	assert_int_equal(fake_call(a, AERO_CALL_DISK_KICK, 0, 0, 0), AERO_E_NOENT);
	assert_int_equal(fake_call(a, AERO_CALL_DISK_SETUP, 0, RING, 0), DISK_PAGES);
	assert_int_equal(request(AERO_DISK_READ, 3, 1, BUF), AERO_DISK_OK);
	assert_true(is_zero(BUF));
	assert_int_equal(vm_stop(a, true, why, sizeof(why)), 0);
}

/* ---- bad requests -------------------------------------------------------- */

static void test_bad_requests(void **state)
{
	static const struct {
		u64 page, gpa;
		u32 op, count;
		int want;
	} bad[] = {
	    {0, BUF << PAGE_SHIFT, 3, 1, AERO_E_INVAL},
	    {0, BUF << PAGE_SHIFT, ~0u, 1, AERO_E_INVAL},
	    {0, BUF << PAGE_SHIFT, AERO_DISK_READ, 0, AERO_E_INVAL},
	    {0, BUF << PAGE_SHIFT, AERO_DISK_READ, 17, AERO_E_INVAL},
	    {0, BUF << PAGE_SHIFT, AERO_DISK_WRITE, ~0u, AERO_E_INVAL},
	    {0, (BUF << PAGE_SHIFT) + 8, AERO_DISK_READ, 1, AERO_E_INVAL},
	    {0, 0, AERO_DISK_FLUSH, 1, AERO_E_INVAL},
	    {DISK_PAGES, BUF << PAGE_SHIFT, AERO_DISK_READ, 1, AERO_E_NOSPC},
	    {DISK_PAGES - 1, BUF << PAGE_SHIFT, AERO_DISK_READ, 2, AERO_E_NOSPC},
	    {DISK_PAGES - 15, BUF << PAGE_SHIFT, AERO_DISK_WRITE, 16, AERO_E_NOSPC},
	    {~0UL, BUF << PAGE_SHIFT, AERO_DISK_WRITE, 1, AERO_E_NOSPC},
	    {~0UL - 7, BUF << PAGE_SHIFT, AERO_DISK_WRITE, 16, AERO_E_NOSPC},
	    {1UL << 32, BUF << PAGE_SHIFT, AERO_DISK_READ, 1, AERO_E_NOSPC},
	    {0, VM_MEMORY_MIN, AERO_DISK_READ, 1, AERO_E_FAULT},
	    {0, VM_MEMORY_MIN - PAGE_SIZE, AERO_DISK_READ, 2, AERO_E_FAULT},
	    {0, VM_MEMORY_MIN - 15 * PAGE_SIZE, AERO_DISK_WRITE, 16, AERO_E_FAULT},
	    {0, ~0UL << PAGE_SHIFT, AERO_DISK_WRITE, 1, AERO_E_FAULT},
	    {0, 1UL << 44, AERO_DISK_WRITE, 1, AERO_E_FAULT},
	    {0, (1UL << 44) + (BUF << PAGE_SHIFT), AERO_DISK_READ, 1, AERO_E_FAULT},
	};
	u32 slot;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		slot = post_raw(bad[i].op, bad[i].page, bad[i].count, bad[i].gpa);
		assert_int_equal(kick(), 1);
		assert_int_equal(status(slot), bad[i].want); /* at once */
		assert_int_equal(ring()->completed, i + 1);
		assert_int_equal(ring()->request[slot].cookie, slot + 100);
		assert_pins(0);
	}
	assert_int_equal(fake_blk.written + fake_blk.read, 0);
	/* A flush does not look at what it does not use. */
	slot = post_raw(AERO_DISK_FLUSH, ~0UL, 0, ~0UL);
	assert_int_equal(kick(), 1);
	assert_int_equal(wait(slot), AERO_DISK_OK);
	/* The last pages of both. */
	assert_int_equal(request(AERO_DISK_WRITE, DISK_PAGES - 16, 16, a->gs.pages - 16), AERO_DISK_OK);
	assert_pins(0);
	assert_int_equal(*(u64 *)fake_data_page(DISK_PAGES), SECRET);
}

static void test_posted_abuse(void **state)
{
	(void)state;
	ring()->posted = AERO_DISK_REQUESTS + 1;
	assert_int_equal(kick(), AERO_E_INVAL);
	ring()->posted = ~0u; /* behind what was taken */
	assert_int_equal(kick(), AERO_E_INVAL);
	ring()->posted = 1u << 31;
	assert_int_equal(kick(), AERO_E_INVAL);
	assert_int_equal(ring()->completed, 0);
	/* Too far ahead while others are under way: those end, nothing else happens. */
	ring()->posted = 0;
	fake_blk.hold = true;
	stamp(BUF, 1);
	assert_int_equal(post(AERO_DISK_WRITE, 0, 1, BUF), 0);
	assert_int_equal(kick(), 1);
	ring()->posted = 1000;
	fake_blk.hold = false;
	assert_int_equal(wait(0), AERO_DISK_OK);
	fake_cpu_run(20);
	assert_int_equal(ring()->completed, 1);
	ring()->posted = 1;
	assert_int_equal(kick(), 0);
	assert_int_equal(request(AERO_DISK_FLUSH, 0, 0, 0), AERO_DISK_OK);
	/* A whole ring of rubbish is answered in one call. */
	for (u32 i = 0; i < AERO_DISK_REQUESTS; i++)
		post(9, 0, 0, 0);
	assert_int_equal(kick(), AERO_DISK_REQUESTS);
	assert_int_equal(ring()->completed, 2 + AERO_DISK_REQUESTS);
}

static void test_more_than_device_takes(void **state)
{
	(void)state;
	fake_blk.hold = true;
	for (u32 i = 0; i < AERO_DISK_REQUESTS; i++) {
		stamp(BUF + i, 1000 * i);
		post(AERO_DISK_WRITE, i, 1, BUF + i);
	}
	assert_int_equal(kick(), 16);
	assert_pins(16);
	assert_int_equal(kick(), 0);
	fake_blk.hold = false;
	for (u32 i = 0; i < AERO_DISK_REQUESTS; i++)
		assert_int_equal(wait(i), AERO_DISK_OK);
	assert_int_equal(ring()->completed, AERO_DISK_REQUESTS);
	assert_pins(0);
	for (u32 i = 0; i < AERO_DISK_REQUESTS; i++)
		assert_memory_equal(fake_data_page(i), fake_page(a, BUF + i), PAGE_SIZE);
}

/* What was taken is what counts, whatever the guest writes into the slot afterwards. */
static void test_slot_changed_after_kick(void **state)
{
	u32 slot;

	(void)state;
	stamp(BUF, 3);
	fake_blk.hold = true;
	slot = post(AERO_DISK_WRITE, 5, 1, BUF);
	assert_int_equal(kick(), 1);
	memset(&ring()->request[slot], 0xff, sizeof(ring()->request[slot]));
	ring()->completed = 12345;
	fake_blk.hold = false;
	for (u32 i = 0; ring()->completed == 12345; i++) {
		assert_true(i < 100);
		fake_cpu_run(1);
	}
	assert_int_equal(ring()->completed, 1);
	assert_int_equal(status(slot), AERO_DISK_OK);
	assert_memory_equal(fake_data_page(5), fake_page(a, BUF), PAGE_SIZE);
	assert_pins(0);
}

static void test_same_page_many_times(void **state)
{
	(void)state;
	stamp(BUF, 9);
	stamp(BUF + 1, 9);
	assert_int_equal(request(AERO_DISK_WRITE, 0, 2, BUF), AERO_DISK_OK);
	fake_blk.hold = true;
	for (u32 i = 0; i < 16; i++)
		post(i % 3 ? AERO_DISK_READ : AERO_DISK_WRITE, i % 2, 1 + (i < 15 && i % 2 == 0), BUF + i % 2);
	assert_int_equal(kick(), 16);
	assert_pins(2);
	/* Nobody takes a page from under a transfer. */
	assert_int_equal(gspace_balloon_take(&a->gs, BUF), E_BUSY);
	fake_blk.hold = false;
	for (u32 i = 1; i <= 16; i++)
		assert_int_equal(wait(i), AERO_DISK_OK);
	assert_pins(0);
}

/* Transfers into the pages that guest and hypervisor share do harm to the guest only. */
static void test_transfer_into_ring_and_info(void **state)
{
	(void)state;
	fake_page_write(a, BUF, ~0UL);
	memset(fake_page(a, BUF), 0xff, PAGE_SIZE);
	assert_int_equal(request(AERO_DISK_WRITE, 0, 1, BUF), AERO_DISK_OK);
	post(AERO_DISK_READ, 0, 1, INFO >> PAGE_SHIFT);
	post(AERO_DISK_READ, 0, 1, RING >> PAGE_SHIFT);
	assert_int_equal(kick(), 2);
	fake_cpu_run(50);
	assert_int_equal(fake_blk.pending, 0);
	assert_pins(0);
	assert_int_equal(ring()->completed, 3);
	vm_post_event(a, AERO_EVENT_CONSOLE);
	assert_int_equal(a->state, VM_RUNNING);
	assert_int_equal(kick(), AERO_E_INVAL); /* posted is all ones */
}

static void test_setup(void **state)
{
	static const u64 bad[] = {RING + 8, VM_MEMORY_MIN, 1UL << 44, ~0UL << PAGE_SHIFT};
	struct vm_config c = fake_vm_config("b");

	(void)state;
	assert_int_equal(fake_call(a, AERO_CALL_DISK_SETUP, 0, RING, 0), AERO_E_PERM);
	assert_int_equal(fake_call(a, AERO_CALL_DISK_SETUP, 1, RING, 0), AERO_E_NOENT);
	assert_int_equal(fake_call(a, AERO_CALL_DISK_SETUP, 1UL << 32, RING, 0), AERO_E_NOENT);
	assert_int_equal(fake_call(a, AERO_CALL_DISK_KICK, 1, 0, 0), AERO_E_NOENT);
	/* A VM without a disk. */
	b = fake_vm_run(&c);
	assert_int_equal(fake_call(b, AERO_CALL_DISK_SETUP, 0, RING, 0), AERO_E_PERM);
	assert_int_equal(fake_call(b, AERO_CALL_HELLO, AERO_ABI_VERSION, ~0u, INFO) & AERO_FEATURE_DISK, 0);
	assert_int_equal(fake_call(b, AERO_CALL_DISK_SETUP, 0, RING, 0), AERO_E_NOENT);
	assert_int_equal(fake_call(b, AERO_CALL_DISK_KICK, 0, 0, 0), AERO_E_NOENT);
	fake_vm_remove(b);
	/* One that did not ask for the feature, and one with bad rings. */
	c.disk_bytes = 20 * PAGE_SIZE;
	b = fake_vm_run(&c);
	assert_int_equal(fake_call(b, AERO_CALL_HELLO, AERO_ABI_VERSION, AERO_FEATURE_TIMER, INFO), AERO_FEATURE_TIMER);
	assert_int_equal(fake_call(b, AERO_CALL_DISK_SETUP, 0, RING, 0), AERO_E_NOENT);
	fake_vm_remove(b);
	b = fake_vm_run(&c);
	assert_true(fake_call(b, AERO_CALL_HELLO, AERO_ABI_VERSION, ~0u, INFO) > 0);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(fake_call(b, AERO_CALL_DISK_SETUP, 0, bad[i], 0), AERO_E_FAULT);
	assert_int_equal(b->gs.count[PAGE_PINNED], 1);
	assert_int_equal(fake_call(b, AERO_CALL_DISK_SETUP, 0, RING, 0), 20);
}

static void test_setup_waits_for_its_page(void **state)
{
	struct vm_config c = fake_vm_config("b");

	(void)state;
	c.disk_bytes = 20 * PAGE_SIZE;
	b = fake_vm_run(&c);
	assert_true(fake_call(b, AERO_CALL_HELLO, AERO_ABI_VERSION, ~0u, INFO) > 0);
	fake_page_write(b, RING >> PAGE_SHIFT, 0x1111);
	fake_swap_out(b, RING >> PAGE_SHIFT);
	fake_blk.hold = true;
	assert_int_equal(fake_call(b, AERO_CALL_DISK_SETUP, 0, RING, 0), FAKE_WAITS);
	assert_int_equal(b->gs.count[PAGE_PINNED], 1);
	fake_blk.hold = false;
	assert_int_equal(fake_call_again(b), 20);
	assert_int_equal(fake_page_read(b, RING >> PAGE_SHIFT), 0);
	assert_int_equal(b->gs.count[PAGE_PINNED], 2);
}

/* ---- waiting, errors, ends ----------------------------------------------- */

static void test_buffer_in_swap(void **state)
{
	struct pvdisk_stats s;
	u32 slot;

	(void)state;
	for (u32 i = 0; i < 8; i++)
		stamp(BUF + i, 500 + i);
	fake_swap_out(a, BUF + 5);
	fake_blk.hold = true;
	slot = post(AERO_DISK_WRITE, 0, 8, BUF);
	assert_int_equal(kick(), 1); /* the request waits, not the guest */
	assert_int_equal(a->vcpu[0]->state == VCPU_WAIT_MEMORY, 0);
	fake_cpu_run(10);
	assert_int_equal(status(slot), AERO_DISK_PENDING);
	fake_now_ns += 7 * NSEC_PER_SEC;
	pvdisk_stats(a->disk, &s);
	assert_true(s.starved_ns >= 7 * NSEC_PER_SEC);
	fake_blk.hold = false;
	assert_int_equal(wait(slot), AERO_DISK_OK);
	for (u32 i = 0; i < 8; i++) {
		u64 word = 500 + i;

		assert_memory_equal(fake_data_page(i), &word, 8);
	}
	assert_pins(0);
	pvdisk_stats(a->disk, &s);
	assert_true(s.waits > 0);
	assert_int_equal(s.starved_ns, 0);
}

/* How long a request stood behind others is not how long it has waited for its page. */
static void test_waits_one_after_the_other(void **state)
{
	struct pvdisk_stats s;
	u32 first, second;

	(void)state;
	for (gfn_t gfn = BUF; gfn < BUF + 8; gfn++) {
		fake_page_write(a, gfn, 0x100 + gfn);
		fake_swap_out(a, gfn);
	}
	fake_blk.hold = true;
	first = post(AERO_DISK_WRITE, 0, 1, BUF);
	second = post(AERO_DISK_WRITE, 8, 7, BUF + 1);
	kick();
	for (u32 i = 0; i < 7; i++) {
		fake_now_ns += NSEC_PER_SEC;
		fake_cpu_run(10);
	}
	pvdisk_stats(a->disk, &s);
	assert_true(s.starved_ns >= 7 * NSEC_PER_SEC);
	fake_blk.hold = false;
	assert_int_equal(wait(first), AERO_DISK_OK);
	fake_blk.hold = true;
	fake_cpu_run(10);
	assert_int_equal(status(second), AERO_DISK_PENDING);
	pvdisk_stats(a->disk, &s);
	assert_in_range(s.starved_ns, 1, NSEC_PER_SEC);
	fake_blk.hold = false;
	assert_int_equal(wait(second), AERO_DISK_OK);
	assert_pins(0);
}

/* A request's pages: the first six are in memory, the others in swap. */
static void scatter(gfn_t first)
{
	for (gfn_t gfn = first; gfn < first + 16; gfn++)
		fake_page_write(a, gfn, 500 + gfn);
	for (gfn_t gfn = first + 6; gfn < first + 16; gfn++)
		fake_swap_out(a, gfn);
}

/*
 * All that the VM may hold is pages of requests that lack others. What is pinned cannot be taken from it, so nothing
 * else would ever end the wait: those that wait do not hold on to what each of them lacks.
 */
static void test_requests_do_not_starve_each_other(void **state)
{
	(void)state;
	for (u32 i = 0; i < 16; i++)
		scatter(BUF + i * 16);
	a->gs.alloc.limit = a->gs.limit_now = 16 * 6 + 2;
	for (u32 i = 0; i < 16; i++)
		post(AERO_DISK_WRITE, i * 16, 16, BUF + i * 16);
	assert_int_equal(kick(), 16);
	for (u32 i = 0; i < 3000 && ring()->completed < 16; i++) {
		fake_cpu_run(1);
		reclaim_step(fake_now_ns);
	}
	for (u32 i = 0; i < 16; i++)
		assert_int_equal(status(i), AERO_DISK_OK);
	for (u32 i = 0; i < 256; i++) {
		u64 word = 500 + BUF + i;

		assert_memory_equal(fake_data_page(i), &word, 8);
	}
	assert_pins(0);
}

/* Part of its pages are pinned when the VM ends. */
static void test_stop_while_waiting(void **state)
{
	(void)state;
	for (u32 i = 0; i < 8; i++)
		stamp(BUF + i, 500 + i);
	fake_swap_out(a, BUF + 5);
	assert_int_equal(fake_page_read(a, BUF), 500);
	fake_blk.hold = true;
	post(AERO_DISK_WRITE, 0, 8, BUF);
	assert_int_equal(kick(), 1);
	assert_pins(1);
	fake_blk.hold = false;
	fake_vm_remove(a);
	a = NULL;
}

static void test_lost_buffer(void **state)
{
	(void)state;
	stamp(BUF, 1);
	fake_swap_out(a, BUF);
	fake_blk.bad_read_to = fake_blk_part.pages;
	post(AERO_DISK_WRITE, 0, 1, BUF);
	assert_int_equal(kick(), 1);
	fake_vm_await(a, VM_CRASHED);
	assert_non_null(strstr(a->why, "is lost"));
}

static void test_device_errors(void **state)
{
	struct pvdisk_stats s;

	(void)state;
	stamp(BUF, 1);
	assert_int_equal(request(AERO_DISK_WRITE, 0, 1, BUF), AERO_DISK_OK);
	fake_blk.bad_read_from = fake_blk.bad_write_from = fake_blk_part.pages;
	fake_blk.bad_read_to = fake_blk.bad_write_to = fake_blk_part.pages + DATA_PAGES;
	assert_int_equal(request(AERO_DISK_WRITE, 0, 1, BUF), AERO_E_IO);
	assert_int_equal(request(AERO_DISK_READ, 0, 1, BUF + 1), AERO_E_IO);
	assert_int_equal(request(AERO_DISK_READ, 0, 4, BUF + 1), AERO_E_IO); /* written and not */
	assert_pins(0);
	assert_int_equal(request(AERO_DISK_READ, 1, 4, BUF + 1), AERO_DISK_OK); /* nothing there to be read */
	fake_blk.bad_read_to = fake_blk.bad_write_to = 0;
	assert_int_equal(request(AERO_DISK_READ, 0, 1, BUF + 1), AERO_DISK_OK);
	pvdisk_stats(a->disk, &s);
	assert_int_equal(s.errors, 3);
	fake_blk.gone = true;
	assert_int_equal(request(AERO_DISK_WRITE, 0, 1, BUF), AERO_E_IO);
	assert_int_equal(request(AERO_DISK_FLUSH, 0, 0, 0), AERO_E_IO);
	assert_int_equal(request(AERO_DISK_READ, 0, 1, BUF), AERO_E_IO);
	assert_pins(0);
	assert_int_equal(a->state, VM_RUNNING);
}

static void test_stop_in_flight(void **state)
{
	char why[80];

	(void)state;
	fake_blk.hold = true;
	for (u32 i = 0; i < 40; i++) {
		stamp(BUF + i, i);
		post(AERO_DISK_WRITE, i, 1, BUF + i);
	}
	assert_int_equal(kick(), 16);
	assert_int_equal(vm_stop(a, true, why, sizeof(why)), 0);
	fake_cpu_run(200);
	assert_int_equal(a->state, VM_STOPPING);
	assert_int_equal(fake_blk.pending, 16);
	assert_pins(16);
	assert_int_equal(vm_destroy(a, why, sizeof(why)), E_BUSY);
	fake_blk.hold = false;
	fake_machine_settle();
	assert_int_equal(a->state, VM_CREATED);
	assert_int_equal(*(u64 *)fake_data_page(20), SECRET); /* what was not taken is not written */
}

/* An orderly end with a transfer that never comes back for long: nothing of the next run is touched by it. */
static void test_restart_after_flight(void **state)
{
	char why[80];

	(void)state;
	stamp(BUF, 1);
	fake_blk.hold = true;
	post(AERO_DISK_WRITE, 0, 1, BUF);
	assert_int_equal(kick(), 1);
	assert_int_equal(vm_stop(a, true, why, sizeof(why)), 0);
	fake_cpu_run(5);
	fake_blk.hold = false;
	fake_vm_await(a, VM_CREATED);
	assert_int_equal(vm_start(a, why, sizeof(why)), 0);
	fake_vm_await(a, VM_RUNNING);
	fake_cpu_run(100);
	assert_int_equal(a->state, VM_RUNNING);
}

/* ---- slices -------------------------------------------------------------- */

static bool slice_is(struct vm *vm, u32 first, u32 pages, u64 word)
{
	struct vm *keep = a;
	bool good;

	a = vm;
	stamp(BUF, word);
	assert_int_equal(request(AERO_DISK_WRITE, 0, 1, BUF), AERO_DISK_OK);
	assert_int_equal(request(AERO_DISK_WRITE, pages - 1, 1, BUF), AERO_DISK_OK);
	a = keep;
	good = *(u64 *)fake_data_page(first) == word && *(u64 *)fake_data_page(first + pages - 1) == word;
	if (first)
		good &= *(u64 *)fake_data_page(first - 1) != word;
	if (first + pages < DATA_PAGES)
		good &= *(u64 *)fake_data_page(first + pages) != word;
	return good;
}

static void test_slices_first_fit(void **state)
{
	struct vm *c, *d, *e;

	(void)state;
	b = run_with_disk("b", 300);
	c = run_with_disk("c", 300);
	assert_true(b && c);
	assert_true(slice_is(a, 0, 300, 0xa) && slice_is(b, 300, 300, 0xb) && slice_is(c, 600, 300, 0xc));
	assert_null(run_with_disk("d", 101));
	assert_non_null(strstr(fake_why, "guest-data partition full"));
	d = run_with_disk("d", 100);
	assert_true(slice_is(d, 900, 100, 0xd));
	assert_null(run_with_disk("e", 1));
	/* Holes are used again, the first that fits first. */
	fake_vm_remove(b);
	fake_vm_remove(d);
	b = run_with_disk("b", 200);
	d = run_with_disk("d", 100);
	e = run_with_disk("e", 100);
	assert_true(slice_is(b, 300, 200, 0x1b) && slice_is(d, 500, 100, 0x1d) && slice_is(e, 900, 100, 0x1e));
	fake_vm_remove(c);
	fake_vm_remove(d);
	c = run_with_disk("c", 400); /* two holes become one */
	assert_true(slice_is(c, 500, 400, 0x2c));
	fake_vm_remove(c);
	fake_vm_remove(e);
}

static void test_no_partition(void **state)
{
	struct fake_machine without = machine;

	(void)state;
	fake_vm_remove(a);
	fake_machine_stop();
	without.data_pages = 0;
	fake_machine_start(&without);
	a = run_with_disk("a", 10);
	assert_null(a);
	assert_non_null(strstr(fake_why, "no guest-data partition"));
	fake_machine_stop();
	fake_machine_start(&machine);
	fake_blk.gone = true;
	blk_poll_all();
	assert_null(run_with_disk("a", 10));
	assert_non_null(strstr(fake_why, "no guest-data partition"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, vm_test_finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_write_read),
	    TEST(test_unwritten_is_zero),
	    TEST(test_mixed_read),
	    TEST(test_write_overtakes_read),
	    TEST(test_failed_write_shows_nothing),
	    TEST(test_restart_is_a_new_disk),
	    TEST(test_bad_requests),
	    TEST(test_posted_abuse),
	    TEST(test_more_than_device_takes),
	    TEST(test_slot_changed_after_kick),
	    TEST(test_same_page_many_times),
	    TEST(test_transfer_into_ring_and_info),
	    TEST(test_setup),
	    TEST(test_setup_waits_for_its_page),
	    TEST(test_buffer_in_swap),
	    TEST(test_waits_one_after_the_other),
	    TEST(test_requests_do_not_starve_each_other),
	    TEST(test_stop_while_waiting),
	    TEST(test_lost_buffer),
	    TEST(test_device_errors),
	    TEST(test_stop_in_flight),
	    TEST(test_restart_after_flight),
	    TEST(test_slices_first_fit),
	    TEST(test_no_partition),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
