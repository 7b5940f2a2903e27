/*
 * abi: calls every hypercall with good and bad arguments and compares the answers with docs/GUEST-ABI.md. Prints each
 * difference and "abi: N passed, M failed", then stays idle (end=1: ends the VM).
 */
#include "guest/apps/apps.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "lib/err.h"
#include "lib/string.h"

#define TIMER_NS    (50 * NSEC_PER_MSEC)
#define ANY_SUCCESS 1000000 /* expected: 0 or more */
#define PAGES       16
#define SMP_NS      (30 * NSEC_PER_SEC) /* another vCPU has answered by then */

struct abi {
	u32 passed, failed;
	u8 *page; /* PAGES adjacent pages */
	u64 gpa, beyond;
	bool done;
};

static void result(struct abi *a, const char *what, s64 found, s64 expected)
{
	bool good = expected == ANY_SUCCESS ? found >= 0 : found == expected;

	if (good) {
		a->passed++;
		return;
	}
	a->failed++;
	print("abi: FAILED %s: %ld, expected %ld\n", what, found, expected);
}

static s64 call(u64 number, u64 a0, u64 a1, u64 a2)
{
	return arch_hypercall(number, a0, a1, a2, NULL);
}

static void test_basic(struct kernel *k, struct abi *a)
{
	result(a, "nop", call(AERO_CALL_NOP, 0, 0, 0), 0);
	result(a, "nop with arguments", call(AERO_CALL_NOP, ~0ul, ~0ul, ~0ul), 0);
	result(a, "first unknown call", call(AERO_CALLS, 0, 0, 0), AERO_E_NOSYS);
	result(a, "largest call", call(~0ul, 0, 0, 0), AERO_E_NOSYS);
	result(a, "call with upper half", call(1ul << 32, 0, 0, 0), AERO_E_NOSYS);
	result(a, "second hello", call(AERO_CALL_HELLO, AERO_ABI_VERSION, 0, arch_pa(k->info)), AERO_E_PERM);
	result(a, "hello of another version", call(AERO_CALL_HELLO, AERO_ABI_VERSION + 1, 0, a->gpa), AERO_E_NOSYS);
}

static void test_console(struct abi *a)
{
	memcpy(a->page + PAGE_SIZE - 10, "abi: text\n", 10);
	result(a, "console write", call(AERO_CALL_CONSOLE_WRITE, a->gpa + PAGE_SIZE - 10, 10, 0), 10);
	result(a, "console write of nothing", call(AERO_CALL_CONSOLE_WRITE, a->gpa, 0, 0), 0);
	result(a, "console write of 1025", call(AERO_CALL_CONSOLE_WRITE, a->gpa, 1025, 0), AERO_E_2BIG);
	result(a, "console write of 2^64-1", call(AERO_CALL_CONSOLE_WRITE, a->gpa, ~0ul, 0), AERO_E_2BIG);
	result(a, "console write from beyond", call(AERO_CALL_CONSOLE_WRITE, a->beyond, 16, 0), AERO_E_FAULT);
	result(a, "console write across the end", call(AERO_CALL_CONSOLE_WRITE, a->beyond - 8, 16, 0), AERO_E_FAULT);
	result(a, "console write from 2^64-8", call(AERO_CALL_CONSOLE_WRITE, -8ul, 16, 0), AERO_E_FAULT);
	result(a, "console read", call(AERO_CALL_CONSOLE_READ, a->gpa, 16, 0), ANY_SUCCESS);
	result(a, "console read of 1025", call(AERO_CALL_CONSOLE_READ, a->gpa, 1025, 0), AERO_E_2BIG);
	result(a, "console read to beyond", call(AERO_CALL_CONSOLE_READ, a->beyond, 16, 0), AERO_E_FAULT);
	result(a, "console read across a page", call(AERO_CALL_CONSOLE_READ, a->gpa + PAGE_SIZE - 8, 16, 0),
	       AERO_E_FAULT);
}

static void test_upcall(struct abi *a)
{
	result(a, "upcall vector 31", call(AERO_CALL_UPCALL, 31, 0, 0), AERO_E_INVAL);
	result(a, "upcall vector 256", call(AERO_CALL_UPCALL, 256, 0, 0), AERO_E_INVAL);
	result(a, "upcall vector 2^32+64", call(AERO_CALL_UPCALL, (1ul << 32) + 64, 0, 0), AERO_E_INVAL);
	result(a, "upcall vector", call(AERO_CALL_UPCALL, KERNEL_UPCALL_VECTOR, 0, 0), 0);
}

/* A timer event arrives, and not before its time. */
static void test_timer(struct kernel *k, struct abi *a)
{
	u64 begin = clock_ns(&k->clock), woken;

	events_take(&k->events, AERO_EVENT_TIMER);
	result(a, "timer", call(AERO_CALL_TIMER, begin + TIMER_NS, 0, 0), 0);
	while (!events_take(&k->events, AERO_EVENT_TIMER))
		events_wait(&k->events);
	woken = clock_ns(&k->clock);
	result(a, "timer not early", woken >= begin + TIMER_NS, 1);
	result(a, "timer in the past", call(AERO_CALL_TIMER, 1, 0, 0), 0);
	while (!events_take(&k->events, AERO_EVENT_TIMER))
		events_wait(&k->events);
	result(a, "timer never", call(AERO_CALL_TIMER, ~0ul, 0, 0), 0);
	result(a, "timer off", call(AERO_CALL_TIMER, 0, 0, 0), 0);
	k->timer_ns = 0;
}

static s64 status_of(struct abi *a, u64 number, u64 entry)
{
	u64 *batch = (u64 *)a->page;
	s64 n;

	batch[0] = entry;
	n = call(number, a->gpa, 1, 0);
	return n < 0 ? n : (s64)AERO_BALLOON_STATUS(batch[0]);
}

static void test_balloon_entries(struct abi *a)
{
	u64 page = a->gpa + PAGE_SIZE;

	result(a, "inflate beyond", status_of(a, AERO_CALL_BALLOON_INFLATE, a->beyond), AERO_BALLOON_INVALID);
	result(a, "inflate reserved low bit", status_of(a, AERO_CALL_BALLOON_INFLATE, page | 2), AERO_BALLOON_INVALID);
	result(a, "inflate reserved high bit", status_of(a, AERO_CALL_BALLOON_INFLATE, page | 1ul << 52),
	       AERO_BALLOON_INVALID);
	result(a, "inflate misaligned 2M", status_of(a, AERO_CALL_BALLOON_INFLATE, (LARGE_SIZE + PAGE_SIZE) | 1),
	       AERO_BALLOON_INVALID);
	result(a, "deflate beyond", status_of(a, AERO_CALL_BALLOON_DEFLATE, a->beyond), AERO_BALLOON_INVALID);
	result(a, "deflate of a present page", status_of(a, AERO_CALL_BALLOON_DEFLATE, page), AERO_BALLOON_ALREADY);
}

/* 2 MiB units, granted or not. */
static void test_balloon_large(struct kernel *k, struct abi *a)
{
	bool granted = k->features & AERO_FEATURE_BALLOON_2M;

	result(a, "deflate of a present 2M", status_of(a, AERO_CALL_BALLOON_DEFLATE, LARGE_SIZE | AERO_BALLOON_2M),
	       granted ? AERO_BALLOON_ALREADY : AERO_BALLOON_INVALID);
	if (!granted)
		result(a, "inflate 2M without the feature",
		       status_of(a, AERO_CALL_BALLOON_INFLATE, LARGE_SIZE | AERO_BALLOON_2M), AERO_BALLOON_INVALID);
}

static void test_balloon(struct kernel *k, struct abi *a)
{
	u64 second = ~0ul;
	s64 target = arch_hypercall(AERO_CALL_BALLOON_POLL, 0, 0, 0, &second);

	result(a, "balloon poll", target, ANY_SUCCESS);
	result(a, "balloon poll: rate", second < 1ul << 32, 1);
	memset(a->page, 0, PAGE_SIZE);
	second = ~0ul;
	result(a, "inflate nothing", arch_hypercall(AERO_CALL_BALLOON_INFLATE, a->gpa, 0, 0, &second), 0);
	result(a, "inflate: newest target", second <= k->ram.pages, 1);
	result(a, "inflate 513", call(AERO_CALL_BALLOON_INFLATE, a->gpa, 513, 0), AERO_E_2BIG);
	result(a, "inflate 2^64-1", call(AERO_CALL_BALLOON_INFLATE, a->gpa, ~0ul, 0), AERO_E_2BIG);
	result(a, "inflate from beyond", call(AERO_CALL_BALLOON_INFLATE, a->beyond, 1, 0), AERO_E_FAULT);
	result(a, "inflate misaligned", call(AERO_CALL_BALLOON_INFLATE, a->gpa + 4, 1, 0), AERO_E_INVAL);
	result(a, "inflate across a page", call(AERO_CALL_BALLOON_INFLATE, a->gpa + PAGE_SIZE - 8, 2, 0), AERO_E_FAULT);
	result(a, "deflate 513", call(AERO_CALL_BALLOON_DEFLATE, a->gpa, 513, 0), AERO_E_2BIG);
	result(a, "deflate from beyond", call(AERO_CALL_BALLOON_DEFLATE, a->beyond, 1, 0), AERO_E_FAULT);
	test_balloon_entries(a);
	test_balloon_large(k, a);
	if (target == 0)
		result(a, "inflate beyond the target", status_of(a, AERO_CALL_BALLOON_INFLATE, a->gpa + PAGE_SIZE),
		       AERO_BALLOON_OVER);
	result(a, "inflate the shared page", status_of(a, AERO_CALL_BALLOON_INFLATE, arch_pa(k->info)),
	       target == 0 ? AERO_BALLOON_OVER : AERO_BALLOON_PINNED);
}

/* One raw request through the kernel's ring; its status. */
static s64 request(struct kernel *k, u32 op, u64 page, u64 gpa, u32 count)
{
	struct disk *d = &k->disk;
	u32 slot = d->posted % AERO_DISK_REQUESTS;
	struct disk_io io = {.pending = true};

	d->ring->request[slot] = (struct aero_disk_request){.page = page, .gpa = gpa, .op = op, .count = count};
	WRITE_ONCE(d->ring->request[slot].status, AERO_DISK_PENDING);
	d->io[slot] = &io;
	d->in_flight++;
	__atomic_store_n(&d->ring->posted, ++d->posted, __ATOMIC_RELEASE);
	disk_wait(d, &io);
	return io.status;
}

static void test_disk_data(struct kernel *k, struct abi *a)
{
	u8 *read = a->page + 8 * PAGE_SIZE;

	for (u32 i = 0; i < 4 * PAGE_SIZE; i++)
		a->page[i] = (u8)(i * 7 + i / PAGE_SIZE);
	memset(read, 0xff, 4 * PAGE_SIZE);
	result(a, "disk write", request(k, AERO_DISK_WRITE, 5, a->gpa, 4), AERO_DISK_OK);
	result(a, "disk flush", request(k, AERO_DISK_FLUSH, 0, 0, 0), AERO_DISK_OK);
	result(a, "disk read", request(k, AERO_DISK_READ, 5, arch_pa(read), 4), AERO_DISK_OK);
	result(a, "disk content", memcmp(a->page, read, 4 * PAGE_SIZE), 0);
	result(a, "disk read of a page never written", request(k, AERO_DISK_READ, k->disk.pages - 1, arch_pa(read), 1),
	       AERO_DISK_OK);
	result(a, "which is zero", page_is_zero(read), 1);
}

static void test_disk(struct kernel *k, struct abi *a)
{
	u64 end = k->disk.pages;

	result(a, "setup of disk 1", call(AERO_CALL_DISK_SETUP, 1, a->gpa, 0), AERO_E_NOENT);
	result(a, "kick of disk 1", call(AERO_CALL_DISK_KICK, 1, 0, 0), AERO_E_NOENT);
	if (!disk_present(&k->disk)) {
		result(a, "setup without a disk", call(AERO_CALL_DISK_SETUP, 0, a->gpa, 0), AERO_E_NOENT);
		return;
	}
	result(a, "second setup", call(AERO_CALL_DISK_SETUP, 0, a->gpa, 0), AERO_E_PERM);
	result(a, "kick with nothing new", call(AERO_CALL_DISK_KICK, 0, 0, 0), 0);
	test_disk_data(k, a);
	result(a, "disk op 3", request(k, 3, 0, a->gpa, 1), AERO_E_INVAL);
	result(a, "disk count 0", request(k, AERO_DISK_READ, 0, a->gpa, 0), AERO_E_INVAL);
	result(a, "disk count 17", request(k, AERO_DISK_READ, 0, a->gpa, 17), AERO_E_INVAL);
	result(a, "disk misaligned", request(k, AERO_DISK_READ, 0, a->gpa + 512, 1), AERO_E_INVAL);
	result(a, "disk beyond its end", request(k, AERO_DISK_READ, end, a->gpa, 1), AERO_E_NOSPC);
	result(a, "disk across its end", request(k, AERO_DISK_READ, end - 1, a->gpa, 2), AERO_E_NOSPC);
	result(a, "disk page 2^64-1", request(k, AERO_DISK_READ, ~0ul, a->gpa, 1), AERO_E_NOSPC);
	result(a, "disk to beyond memory", request(k, AERO_DISK_READ, 0, a->beyond, 1), AERO_E_FAULT);
	result(a, "disk across the end of memory", request(k, AERO_DISK_READ, 0, a->beyond - PAGE_SIZE, 2),
	       AERO_E_FAULT);
}

static s64 hint_status(struct abi *a, u64 page, u64 block)
{
	struct aero_hint *batch = (struct aero_hint *)a->page;
	s64 n;

	*batch = (struct aero_hint){.page = page, .block = block};
	n = call(AERO_CALL_PAGE_HINT, a->gpa, 1, 0);
	return n < 0 ? n : (s64)AERO_HINT_STATUS(batch->page);
}

static void test_hint_entries(struct kernel *k, struct abi *a)
{
	u64 page = a->gpa + PAGE_SIZE;

	result(a, "hint op 0", hint_status(a, page, 0), AERO_HINT_INVALID);
	result(a, "hint op 4", hint_status(a, page | 4, 0), AERO_HINT_INVALID);
	result(a, "hint of a page beyond", hint_status(a, a->beyond | AERO_HINT_OVERWRITE, 0), AERO_HINT_INVALID);
	result(a, "hint with a reserved bit", hint_status(a, page | AERO_HINT_OVERWRITE | 1ul << 52, 0),
	       AERO_HINT_INVALID);
	result(a, "overwrite with a block", hint_status(a, page | AERO_HINT_OVERWRITE, 1), AERO_HINT_INVALID);
	result(a, "changed with a block", hint_status(a, page | AERO_HINT_CHANGED, 1), AERO_HINT_INVALID);
	result(a, "clean beyond the disk", hint_status(a, page | AERO_HINT_CLEAN, k->disk.pages), AERO_HINT_INVALID);
	result(a, "clean of 2^64-1", hint_status(a, page | AERO_HINT_CLEAN, ~0ul), AERO_HINT_INVALID);
	result(a, "overwrite", hint_status(a, page | AERO_HINT_OVERWRITE, 0), AERO_HINT_OK);
	result(a, "changed, of none", hint_status(a, page | AERO_HINT_CHANGED, 0), AERO_HINT_OK);
}

/* A copy stays what it was when its block changes, if that was announced. */
static void test_hint_copy(struct kernel *k, struct abi *a)
{
	u8 *copy = a->page + 2 * PAGE_SIZE, *other = a->page + 3 * PAGE_SIZE;
	u64 block = k->disk.pages - 1, gpa = arch_pa(copy);

	memset(copy, 0x5a, PAGE_SIZE);
	result(a, "disk write of a copy", request(k, AERO_DISK_WRITE, block, gpa, 1), AERO_DISK_OK);
	result(a, "clean", hint_status(a, gpa | AERO_HINT_CLEAN, block) != AERO_HINT_INVALID, 1);
	result(a, "a copy is what it was", copy[0] + copy[PAGE_SIZE - 1], 2 * 0x5a);
	copy[1] = 1;
	result(a, "and can be written", copy[0] + copy[1], 0x5a + 1);
	result(a, "disk write of a changed copy", request(k, AERO_DISK_WRITE, block, gpa, 1), AERO_DISK_OK);
	result(a, "clean again", hint_status(a, gpa | AERO_HINT_CLEAN, block) != AERO_HINT_INVALID, 1);
	result(a, "changed", hint_status(a, gpa | AERO_HINT_CHANGED, 0), AERO_HINT_OK);
	memset(other, 0xa5, PAGE_SIZE);
	result(a, "disk write from elsewhere", request(k, AERO_DISK_WRITE, block, arch_pa(other), 1), AERO_DISK_OK);
	result(a, "which does not change the copy", copy[0] + copy[1], 0x5a + 1);
}

static void test_hint(struct kernel *k, struct abi *a)
{
	if (!(k->features & AERO_FEATURE_HINT)) {
		result(a, "hints without the feature", call(AERO_CALL_PAGE_HINT, a->gpa, 0, 0), AERO_E_PERM);
		return;
	}
	result(a, "hints of nothing", call(AERO_CALL_PAGE_HINT, a->gpa, 0, 0), 0);
	result(a, "hints 257", call(AERO_CALL_PAGE_HINT, a->gpa, 257, 0), AERO_E_2BIG);
	result(a, "hints 2^64-1", call(AERO_CALL_PAGE_HINT, a->gpa, ~0ul, 0), AERO_E_2BIG);
	result(a, "hints misaligned", call(AERO_CALL_PAGE_HINT, a->gpa + 4, 1, 0), AERO_E_INVAL);
	result(a, "hints from beyond", call(AERO_CALL_PAGE_HINT, a->beyond, 1, 0), AERO_E_FAULT);
	result(a, "hints across a page", call(AERO_CALL_PAGE_HINT, a->gpa + PAGE_SIZE - 8, 1, 0), AERO_E_FAULT);
	test_hint_entries(k, a);
	if (disk_present(&k->disk))
		test_hint_copy(k, a);
}

static void test_clock(struct kernel *k, struct abi *a)
{
	u64 before = clock_ns(&k->clock), after;

	for (u32 i = 0; i < 1000; i++)
		after = clock_ns(&k->clock);
	result(a, "clock advances", after > before, 1);
	result(a, "clock version even", k->info->clock.version & 1, 0);
	result(a, "info: reserved is zero", k->info->pad0[0] | k->info->pad0[sizeof(k->info->pad0) - 1], 0);
}

static void test_vcpu_refusals(struct kernel *k, struct abi *a)
{
	u64 beyond = k->start.vcpus;

	result(a, "vcpu start of one that runs", call(AERO_CALL_VCPU_START, 0, 0, 0), AERO_E_BUSY);
	result(a, "vcpu start of one too many", call(AERO_CALL_VCPU_START, beyond, 0, 0), AERO_E_NOENT);
	result(a, "vcpu start of 2^64-1", call(AERO_CALL_VCPU_START, ~0ul, 0, 0), AERO_E_NOENT);
	result(a, "vcpu start at 2^63", call(AERO_CALL_VCPU_START, 0, 1ul << 63, 0), AERO_E_INVAL);
	result(a, "vcpu stop of vCPU 0", call(AERO_CALL_VCPU_STOP, 0, 0, 0), AERO_E_PERM);
	result(a, "vcpu stop of one too many", call(AERO_CALL_VCPU_STOP, beyond, 0, 0), AERO_E_NOENT);
	result(a, "vcpu send to nobody", call(AERO_CALL_VCPU_SEND, 0, AERO_EVENT_GUEST(5), 0), 0);
	result(a, "vcpu send of nothing", call(AERO_CALL_VCPU_SEND, 1, 0, 0), AERO_E_INVAL);
	result(a, "vcpu send of the host's events", call(AERO_CALL_VCPU_SEND, 1, AERO_EVENT_TIMER, 0), AERO_E_INVAL);
	result(a, "vcpu send to one too many", call(AERO_CALL_VCPU_SEND, 1ul << beyond, AERO_EVENT_GUEST(5), 0),
	       AERO_E_NOENT);
	events_take(&k->events, AERO_EVENT_GUEST(31));
	result(a, "vcpu send to itself", call(AERO_CALL_VCPU_SEND, 1, AERO_EVENT_GUEST(31), 0), 0);
	result(a, "which arrives", events_take(&k->events, ~0ul) >> 63, 1);
}

static bool online(u32 vcpu)
{
	return __atomic_load_n(&smp.online, __ATOMIC_SEQ_CST) & BIT(vcpu);
}

/* Until vCPU 1 has said that it is there; it does so by an event. */
static bool await_online(struct kernel *k)
{
	u64 end = clock_ns(&k->clock) + SMP_NS;

	while (!online(1) && clock_ns(&k->clock) < end) {
		call(AERO_CALL_TIMER, clock_ns(&k->clock) + TIMER_NS, 0, 0);
		smp_sleep();
	}
	return online(1);
}

/* Stops vCPU 1 and starts it again, some times: it is as new each time. */
static void test_vcpu_life(struct kernel *k, struct abi *a)
{
	s64 err;

	for (u32 round = 0; round < 3; round++) {
		u64 end = clock_ns(&k->clock) + SMP_NS;

		result(a, "vcpu stop", call(AERO_CALL_VCPU_STOP, 1, 0, 0), 0);
		result(a, "vcpu stop of a stopped one", call(AERO_CALL_VCPU_STOP, 1, 0, 0), 0);
		__atomic_and_fetch(&smp.online, ~(u32)BIT(1), __ATOMIC_SEQ_CST);
		do
			err = arch_start_cpu(1); /* busy until it has really stopped */
		while (err == AERO_E_BUSY && clock_ns(&k->clock) < end);
		result(a, "vcpu start", err, 0);
		result(a, "vcpu start twice", call(AERO_CALL_VCPU_START, 1, 0, 0), AERO_E_BUSY);
		result(a, "it runs", await_online(k), 1);
		result(a, "vcpu send", call(AERO_CALL_VCPU_SEND, 2, SMP_EVENT, 0), 0);
	}
	k->timer_ns = 0;
}

static void test_memory(struct kernel *k, struct abi *a)
{
	u64 end = a->beyond;

	if (!(k->features & AERO_FEATURE_MEMORY)) {
		result(a, "memory without the feature", call(AERO_CALL_MEMORY_ONLINE, end, PAGE_SIZE, 0), AERO_E_PERM);
		return;
	}
	result(a, "memory of nothing", call(AERO_CALL_MEMORY_ONLINE, end, 0, 0), AERO_E_INVAL);
	result(a, "memory from 0", call(AERO_CALL_MEMORY_ONLINE, 0, PAGE_SIZE, 0), AERO_E_INVAL);
	result(a, "memory with a hole", call(AERO_CALL_MEMORY_ONLINE, end + PAGE_SIZE, PAGE_SIZE, 0), AERO_E_INVAL);
	result(a, "memory misaligned", call(AERO_CALL_MEMORY_ONLINE, end + 8, PAGE_SIZE, 0), AERO_E_INVAL);
	result(a, "memory of half a page", call(AERO_CALL_MEMORY_ONLINE, end, PAGE_SIZE / 2, 0), AERO_E_INVAL);
	result(a, "memory beyond the offer", call(AERO_CALL_MEMORY_ONLINE, end, k->info->growth.maximum, 0),
	       AERO_E_NOSPC);
	result(a, "memory of 2^64-4096", call(AERO_CALL_MEMORY_ONLINE, end, -PAGE_SIZE, 0), AERO_E_NOSPC);
}

static void test_vcpus(struct kernel *k, struct abi *a)
{
	if (!(k->features & AERO_FEATURE_SMP)) {
		result(a, "vcpu send without the feature", call(AERO_CALL_VCPU_SEND, 1, AERO_EVENT_GUEST(0), 0),
		       AERO_E_PERM);
		return;
	}
	test_vcpu_refusals(k, a);
	if (smp.count > 1)
		test_vcpu_life(k, a);
}

static int abi_start(struct kernel *k)
{
	struct abi *a = k->app_state = ram_array(&k->ram, sizeof(*a));

	if (!a)
		return E_NOMEM;
	a->page = ram_array(&k->ram, PAGES * PAGE_SIZE);
	if (!a->page)
		return E_NOMEM;
	a->gpa = arch_pa(a->page);
	print("abi: ready\n");
	return 0;
}

static u64 abi_step(struct kernel *k, u64 until_ns)
{
	struct abi *a = k->app_state;

	(void)until_ns;
	if (a->done)
		return KERNEL_NEVER;
	a->done = true;
	a->beyond = (u64)k->ram.pages << PAGE_SHIFT;
	k->info->app.state = 1;
	test_basic(k, a);
	test_console(a);
	test_upcall(a);
	test_timer(k, a);
	test_clock(k, a);
	test_balloon(k, a);
	test_disk(k, a);
	test_memory(k, a);
	test_hint(k, a);
	test_vcpus(k, a);
	k->info->app.operations = a->passed + a->failed;
	k->info->app.errors = a->failed;
	k->info->app.state = 2;
	print("abi: %u passed, %u failed\n", a->passed, a->failed);
	if (str_eq(args_text(&k->args, "end", "0"), "1"))
		k->ending = true;
	return 0;
}

const struct app app_abi = {.name = "abi", .start = abi_start, .step = abi_step};
