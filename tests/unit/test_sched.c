/* The CPU loop and what exits mean: who runs, who waits, wake-ups in every order, watchdog, CPUID. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "arch/x86/cpu.h"
#include "lib/err.h"
#include "lib/string.h"
#include "lib/timer.h"
#include "lib/work.h"
#include "mm/balloon.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_hv.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/vm_test.h"
#include "vmm/cpuid.h"
#include "vmm/sched.h"

#define VECTOR 0x40U
#define PAGE   0x300U /* a page nothing else uses */

static const struct fake_machine machine = {.frames = 2048, .swap_pages = 8192, .data_pages = 256, .min_free = 400};
static struct vm *a, *b;
static struct vcpu *v;

static int start(void **state)
{
	(void)state;
	fake_machine_start(&machine);
	a = vm_test_run("a", 0);
	assert_non_null(a);
	v = a->vcpu[0];
	b = NULL;
	return 0;
}

static void start_b(void)
{
	b = vm_test_run("b", 0);
	assert_non_null(b);
}

/* A guest that can be woken: information page, upcall, interrupts on. */
static void hello(struct vm *vm)
{
	vm_test_hello(vm);
	vm->vcpu[0]->hv->irqs_on = true;
}

static bool do_exit(enum hv_exit_kind kind)
{
	struct hv_exit e = {.kind = kind, .len = 2, .text = "as the test wants it"};

	return fake_exit(a, &e);
}

/* ---- slices -------------------------------------------------------------- */

static void test_round_robin(void **state)
{
	u64 before_a, before_b;

	(void)state;
	start_b();
	before_a = v->ns_in[VCPU_RUNNING];
	before_b = b->vcpu[0]->ns_in[VCPU_RUNNING];
	fake_cpu_run(2000);
	before_a = v->ns_in[VCPU_RUNNING] - before_a;
	before_b = b->vcpu[0]->ns_in[VCPU_RUNNING] - before_b;
	assert_true(before_a > 50 * SLICE_NS);
	assert_in_range(before_a, before_b - 2 * SLICE_NS, before_b + 2 * SLICE_NS);
	assert_in_range(v->slices, b->vcpu[0]->slices - 3, b->vcpu[0]->slices + 3);
	assert_int_equal(fake_cpu_idles, 0);
}

static void test_slice_length(void **state)
{
	u64 from;

	(void)state;
	start_b();
	while (v->state != VCPU_RUNNING)
		fake_cpu_run(1);
	from = v->since_ns;
	while (v->state == VCPU_RUNNING) {
		assert_true(fake_now_ns <= from + SLICE_NS);
		fake_cpu_run(1);
	}
	assert_int_equal(v->since_ns, from + SLICE_NS);
}

static void test_paused_does_not_run(void **state)
{
	char why[80];
	u64 entries;

	(void)state;
	start_b();
	assert_int_equal(vm_pause(a, why, sizeof(why)), 0);
	entries = v->hv->entries;
	fake_cpu_run(200);
	assert_int_equal(v->hv->entries, entries);
	assert_int_equal(vm_pause(b, why, sizeof(why)), 0);
	fake_cpu_run(200);
	assert_true(fake_cpu_idles > 100);
	/* What wakes a paused guest makes it ready, and no more. */
	assert_int_equal(vm_resume(b, why, sizeof(why)), 0);
	assert_int_equal(vm_resume(a, why, sizeof(why)), 0);
	hello(a);
	assert_true(do_exit(HV_EXIT_HLT));
	assert_int_equal(v->state, VCPU_HALTED);
	assert_int_equal(vm_pause(a, why, sizeof(why)), 0);
	entries = v->hv->entries;
	vm_post_event(a, AERO_EVENT_CONSOLE);
	fake_cpu_run(100);
	assert_int_equal(v->state, VCPU_READY);
	assert_int_equal(v->hv->entries, entries);
	assert_int_equal(vm_resume(a, why, sizeof(why)), 0);
	fake_cpu_run(10);
	assert_int_equal(v->hv->irqs, 1);
}

/* ---- guests against timers and deferred work ------------------------------ */

static u64 host_cost_ns, host_last_ns, host_gap_ns, host_runs;

/* What a piece of the host's own costs; and how long the next one is kept waiting at most. */
static void host_piece(void)
{
	if (host_runs++)
		host_gap_ns = MAX(host_gap_ns, fake_now_ns - host_last_ns);
	fake_now_ns += host_cost_ns;
	host_last_ns = fake_now_ns;
}

static void always_due(struct timer *t)
{
	host_piece();
	timer_arm(t, fake_now_ns);
}

static void never_done(struct work *w)
{
	host_piece();
	work_queue(w);
}

static void idle_work(struct work *w)
{
	(void)w;
}

static void busy_guest(struct vcpu *vcpu, struct hv_exit *e)
{
	(void)vcpu;
	fake_now_ns += 5 * NSEC_PER_USEC;
	*e = (struct hv_exit){.kind = HV_EXIT_CPUID, .len = 2};
	if (fake_now_ns >= fake_cpu_armed_ns)
		e->kind = HV_EXIT_HOST_IRQ;
}

static u64 run_time(void)
{
	return v->ns_in[VCPU_RUNNING] + (v->state == VCPU_RUNNING ? fake_now_ns - v->since_ns : 0);
}

/* The guest's part of the time, in percent, while the host has always something to do, in pieces of `cost`. */
static u64 guest_percent(u64 cost)
{
	u64 from, ran;

	while (v->state != VCPU_RUNNING)
		fake_cpu_run(1);
	from = fake_now_ns;
	ran = run_time();
	host_cost_ns = cost;
	host_runs = host_gap_ns = 0;
	fake_cpu_run(500);
	assert_true(host_runs > 100);
	return (run_time() - ran) * 100 / (fake_now_ns - from);
}

static void starve(void (*guest)(struct vcpu *vcpu, struct hv_exit *e))
{
	static struct timer t;
	static struct work w;

	fake_guest = guest;
	fake_owes = true;
	timer_init(&t, always_due);
	timer_arm(&t, 0);
	/* Once in a while the guest has all that is owed to it at once. */
	(void)guest_percent(0);
	assert_in_range(host_gap_ns, OWED_NS, OWED_NS + 2 * OWED_MIN_NS);
	assert_true(guest_percent(100) >= 95);
	assert_in_range(guest_percent(NSEC_PER_MSEC), 40, 60);
	timer_cancel(&t);
	work_init(&w, "never-done", never_done);
	work_queue(&w);
	(void)guest_percent(0);
	assert_in_range(host_gap_ns, WORK_SLICE_NS, OWED_NS + 2 * OWED_MIN_NS);
	assert_in_range(guest_percent(NSEC_PER_MSEC), 40, 60);
	assert_in_range(guest_percent(OWED_MAX_NS), 40, 60);
	/* However long it takes: the guest runs, and what waits is not kept for long. */
	assert_true(guest_percent(5 * OWED_MAX_NS) >= 14);
	assert_true(host_gap_ns <= OWED_MAX_NS + SLICE_NS);
	w.fn = idle_work;
	fake_guest = NULL;
	fake_owes = false;
	fake_machine_settle();
}

static void test_guest_is_not_starved(void **state)
{
	(void)state;
	starve(NULL);
	starve(busy_guest);
}

/* ---- halt against wake --------------------------------------------------- */

static void test_halt_then_wake(void **state)
{
	(void)state;
	hello(a);
	assert_true(do_exit(HV_EXIT_HLT));
	assert_int_equal(v->state, VCPU_HALTED);
	fake_cpu_run(50);
	assert_int_equal(v->state, VCPU_HALTED);
	vm_post_event(a, AERO_EVENT_CONSOLE);
	assert_int_equal(v->state, VCPU_READY);
	fake_cpu_run(1);
	assert_int_equal(v->hv->irqs, 1);
	assert_int_equal(((struct aero_info *)fake_page(a, INFO >> PAGE_SHIFT))->events, AERO_EVENT_CONSOLE);
}

static void halt_with_event_before(struct vcpu *vcpu, struct hv_exit *e)
{
	/* The guest looks, finds nothing, and executes HLT; before its exit has been handled the event comes. */
	if (vcpu->hv->skips == 0)
		vm_post_event(vcpu->vm, AERO_EVENT_CONSOLE);
	*e = vcpu->hv->skips ? (struct hv_exit){.kind = HV_EXIT_HOST_IRQ}
			     : (struct hv_exit){.kind = HV_EXIT_HLT, .len = 1};
	if (vcpu->hv->skips)
		fake_guest_spins(vcpu, e);
}

static void test_wake_before_halt(void **state)
{
	(void)state;
	hello(a);
	v->hv->skips = 0;
	fake_guest = halt_with_event_before;
	fake_cpu_run(1);
	assert_int_equal(v->hv->skips, 1);
	assert_int_not_equal(v->state, VCPU_HALTED);
	fake_cpu_run(1);
	assert_int_equal(v->hv->irqs, 1);
}

/* The interrupt is on its way into the guest when it halts: it must still come out of HLT. */
static void test_wake_while_window_closed(void **state)
{
	(void)state;
	hello(a);
	v->hv->irqs_on = false;
	vm_post_event(a, AERO_EVENT_CONSOLE);
	fake_cpu_run(3);
	assert_int_equal(v->hv->irqs, 0);
	assert_true(v->upcall);
	v->hv->irqs_on = true;
	assert_true(do_exit(HV_EXIT_HLT));
	assert_int_not_equal(v->state, VCPU_HALTED);
	fake_cpu_run(1);
	assert_int_equal(v->hv->irqs, 1);
	assert_false(v->upcall);
}

static void test_timer_wakes(void **state)
{
	u64 now;

	(void)state;
	hello(a);
	now = fake_now_ns - a->clock_base_ns;
	assert_int_equal(fake_call(a, AERO_CALL_TIMER, now + 20 * NSEC_PER_MSEC, 0, 0), 0);
	assert_true(do_exit(HV_EXIT_HLT));
	while (v->state == VCPU_HALTED)
		fake_cpu_run(1);
	assert_true(fake_now_ns - a->clock_base_ns >= now + 20 * NSEC_PER_MSEC);
	assert_true(fake_now_ns - a->clock_base_ns <= now + 21 * NSEC_PER_MSEC + SLICE_NS);
	assert_true(v->upcall || v->hv->irqs == 1);
}

/* A spinning guest is taken off the CPU for its timer, in time. */
static void test_timer_cuts_slice(void **state)
{
	u64 at;

	(void)state;
	hello(a);
	at = fake_now_ns - a->clock_base_ns + 1234567;
	assert_int_equal(fake_call(a, AERO_CALL_TIMER, at, 0, 0), 0);
	for (u32 i = 0; !v->hv->irqs; i++) {
		assert_true(i < 100);
		fake_cpu_run(1);
	}
	assert_in_range(fake_now_ns - a->clock_base_ns, at, at + SLICE_NS);
	/* In the past: at once. Off: never. Beyond the clock: never. */
	assert_int_equal(fake_call(a, AERO_CALL_TIMER, 1, 0, 0), 0);
	fake_cpu_run(2);
	assert_int_equal(v->hv->irqs, 2);
	assert_int_equal(fake_call(a, AERO_CALL_TIMER, at + NSEC_PER_SEC, 0, 0), 0);
	assert_int_equal(fake_call(a, AERO_CALL_TIMER, 0, 0, 0), 0);
	assert_false(v->timer.armed);
	assert_int_equal(fake_call(a, AERO_CALL_TIMER, ~0UL, 0, 0), 0);
	assert_false(v->timer.armed);
	fake_cpu_run(1000);
	assert_int_equal(v->hv->irqs, 2);
}

/* From the event to the upcall in the guest, which sleeps for `passes` of the loop before. */
static u64 wake_latency(u32 passes)
{
	u64 irqs = v->hv->irqs, since;

	((struct aero_info *)fake_page(a, INFO >> PAGE_SHIFT))->events = 0;
	assert_true(do_exit(HV_EXIT_HLT));
	assert_int_equal(v->state, VCPU_HALTED);
	fake_cpu_run(passes);
	since = fake_now_ns;
	vm_post_event(a, AERO_EVENT_CONSOLE);
	while (v->hv->irqs == irqs)
		fake_cpu_run(1);
	return fake_now_ns - since;
}

/*
 * While two others want all of the CPU: who has had less than its share waits for one slice at most, who has had more
 * for a slice of each.
 */
static void test_wake_is_bounded(void **state)
{
	struct vm_config config = fake_vm_config("c");
	struct vm *c;
	u64 longest = 0;

	(void)state;
	start_b();
	c = fake_vm_run(&config);
	assert_non_null(c);
	hello(a);
	for (u32 i = 0; i < 40; i++)
		assert_in_range(wake_latency(100 + i), 0, SLICE_NS);
	for (u32 i = 0; i < 40; i++) {
		u64 slices = v->slices;

		while (v->slices < slices + i % 4) /* without a sleep */
			fake_cpu_run(1);
		longest = MAX(longest, wake_latency(i % 3));
	}
	assert_in_range(longest, 0, 2 * SLICE_NS + PREEMPT_NS);
	fake_vm_remove(c);
}

/* ---- memory wait against wake -------------------------------------------- */

static struct hv_exit npf(gfn_t gfn, bool write)
{
	return (struct hv_exit){.kind = HV_EXIT_NPF, .npf = {.gpa = gfn_to_gpa(gfn), .write = write, .read = !write}};
}

static void test_wait_for_page(void **state)
{
	struct hv_exit e = npf(PAGE, false);

	(void)state;
	fake_page_write(a, PAGE, 0x1234);
	fake_swap_out(a, PAGE);
	fake_blk.hold = true;
	assert_false(fake_exit(a, &e));
	assert_int_equal(v->state, VCPU_WAIT_MEMORY);
	fake_cpu_run(100);
	assert_int_equal(v->state, VCPU_WAIT_MEMORY);
	fake_blk.hold = false;
	fake_cpu_run(2);
	assert_int_not_equal(v->state, VCPU_WAIT_MEMORY);
	assert_int_equal(gspace_state(&a->gs, PAGE), PAGE_PRIVATE);
	assert_int_equal(fake_page_read(a, PAGE), 0x1234);
	assert_int_equal(v->hv->exceptions, 0);
}

static void test_wake_before_wait(void **state)
{
	(void)state;
	/* As run_piece() does: counter, failing touch, (wake), wait. */
	while (v->state != VCPU_RUNNING)
		fake_cpu_run(1);
	sched_note_wakes(v);
	mm_wake(&a->gs);
	sched_wait_memory(v, PAGE);
	assert_int_equal(v->state, VCPU_RUNNING);
	sched_note_wakes(v);
	mm_wake(NULL);
	sched_wait_memory(v, PAGE);
	assert_int_equal(v->state, VCPU_RUNNING);
	/* That wake has been seen; another VM's does not count. */
	fake_cpu_run(1);
	start_b();
	while (v->state != VCPU_RUNNING)
		fake_cpu_run(1);
	sched_note_wakes(v);
	mm_wake(&b->gs);
	sched_wait_memory(v, PAGE);
	assert_int_equal(v->state, VCPU_WAIT_MEMORY);
	fake_cpu_run(10);
	assert_int_equal(v->state, VCPU_WAIT_MEMORY);
	mm_wake(&a->gs);
	fake_cpu_run(10);
	assert_int_not_equal(v->state, VCPU_WAIT_MEMORY);
	sched_note_wakes(v);
}

/*
 * Refused again and again for the same page is one wait; the next page is another, and so is the same one after a while
 * of running.
 */
static void test_starved(void **state)
{
	u64 begun;

	(void)state;
	while (v->state != VCPU_RUNNING)
		fake_cpu_run(1);
	sched_note_wakes(v);
	begun = fake_now_ns;
	sched_wait_memory(v, PAGE);
	for (u32 i = 0; i < 20; i++) {
		fake_now_ns += 250 * NSEC_PER_MSEC;
		assert_int_equal(v->state, VCPU_WAIT_MEMORY);
		mm_wake(NULL);
		while (v->state != VCPU_RUNNING)
			fake_cpu_run(1);
		sched_note_wakes(v);
		sched_wait_memory(v, PAGE);
		assert_in_range(sched_starved_ns(v, fake_now_ns), fake_now_ns - begun - NSEC_PER_MSEC,
				fake_now_ns - begun);
	}
	mm_wake(NULL);
	while (v->state != VCPU_RUNNING)
		fake_cpu_run(1);
	assert_true(sched_starved_ns(v, fake_now_ns) > 4 * NSEC_PER_SEC); /* it may be refused again */
	assert_int_equal(sched_starved_ns(v, fake_now_ns + NSEC_PER_SEC), 0);
	sched_note_wakes(v);
	sched_wait_memory(v, PAGE + 1);
	assert_true(sched_starved_ns(v, fake_now_ns) < NSEC_PER_MSEC);
	mm_wake(NULL);
	while (v->state != VCPU_RUNNING)
		fake_cpu_run(1);
	fake_now_ns += 30 * NSEC_PER_MSEC;
	sched_note_wakes(v);
	sched_wait_memory(v, PAGE + 1);
	assert_true(sched_starved_ns(v, fake_now_ns) < NSEC_PER_MSEC);
	mm_wake(NULL);
	fake_cpu_run(10);
}

/* A guest that sleeps between two waits has come further: its first page is often the same one. */
static void test_sleep_ends_starvation(void **state)
{
	struct vcpu *w = v;

	(void)state;
	hello(a);
	for (u32 i = 0; i < 3; i++) {
		while (w->state != VCPU_RUNNING)
			fake_cpu_run(1);
		sched_note_wakes(w);
		sched_wait_memory(w, PAGE);
		assert_true(sched_starved_ns(w, fake_now_ns) < NSEC_PER_SEC);
		mm_wake(NULL);
		while (w->state != VCPU_RUNNING)
			fake_cpu_run(1);
		sched_note_wakes(w);
		((struct aero_info *)fake_page(a, INFO >> PAGE_SHIFT))->events = 0;
		assert_true(do_exit(HV_EXIT_HLT));
		assert_int_equal(w->state, VCPU_HALTED);
		fake_now_ns += 10 * NSEC_PER_SEC;
		sched_wake(w);
	}
}

/* A VM that was paused starts to wait when it goes on. */
static void test_pause_is_no_starvation(void **state)
{
	char why[128];

	(void)state;
	while (v->state != VCPU_RUNNING)
		fake_cpu_run(1);
	sched_note_wakes(v);
	sched_wait_memory(v, PAGE);
	assert_int_equal(vm_pause(a, why, sizeof(why)), 0);
	fake_now_ns += 60 * NSEC_PER_SEC;
	assert_int_equal(vm_resume(a, why, sizeof(why)), 0);
	assert_true(sched_starved_ns(v, fake_now_ns) < NSEC_PER_SEC);
	fake_now_ns += 2 * NSEC_PER_SEC;
	assert_true(sched_starved_ns(v, fake_now_ns) >= 2 * NSEC_PER_SEC);
	mm_wake(NULL);
	fake_cpu_run(10);
}

/* Events for a guest that waits for memory are not lost, and do not wake it too early. */
static void test_event_while_waiting(void **state)
{
	struct hv_exit e = npf(PAGE, true);

	(void)state;
	hello(a);
	fake_page_write(a, PAGE, 0x1234);
	fake_swap_out(a, PAGE);
	fake_blk.hold = true;
	assert_false(fake_exit(a, &e));
	vm_post_event(a, AERO_EVENT_CONSOLE);
	fake_cpu_run(10);
	assert_int_equal(v->state, VCPU_WAIT_MEMORY);
	assert_int_equal(v->hv->irqs, 0);
	fake_blk.hold = false;
	fake_cpu_run(3);
	assert_int_equal(v->hv->irqs, 1);
	/* The next HLT is one too early, and not one too late. */
	(void)do_exit(HV_EXIT_HLT);
	(void)do_exit(HV_EXIT_HLT);
	assert_int_equal(v->state, VCPU_HALTED);
}

static void use_next_page(struct vcpu *vcpu, struct hv_exit *e)
{
	u64 *next = &vcpu->hv->regs.rbx;

	if (*next && gspace_state(&vcpu->vm->gs, (gfn_t)*next) == PAGE_PRIVATE)
		*(u64 *)fake_page(vcpu->vm, (gfn_t)*next) = *next << 32 | vcpu->vm->id;
	while (*next < vcpu->vm->gs.pages - 16) {
		enum page_state s = gspace_state(&vcpu->vm->gs, (gfn_t)++ * next);

		if (s != PAGE_PRIVATE && s != PAGE_PINNED) {
			*e = npf((gfn_t)*next, true);
			return;
		}
	}
	fake_guest_spins(vcpu, e);
}

/* Two guests want more than there is: both come to their ends, by swap, however often they wait. */
static void test_memory_runs_short(void **state)
{
	(void)state;
	fake_vm_remove(a);
	fake_machine_stop();
	fake_machine_start(&(struct fake_machine){.frames = 1200, .swap_pages = 8192, .min_free = 320});
	a = fake_vm_run(
	    &(struct vm_config){.name = "a", .memory_bytes = VM_MEMORY_MIN, .vcpus = 1, .image = "guest.elf"});
	assert_non_null(a);
	start_b();
	fake_guest = use_next_page;
	for (u32 i = 0; a->vcpu[0]->hv->regs.rbx < 2000 || b->vcpu[0]->hv->regs.rbx < 2000; i++) {
		assert_true(i < 100000);
		fake_cpu_run(1);
	}
	assert_true(a->gs.stats.waits + b->gs.stats.waits > 0);
	assert_true(a->gs.count[PAGE_COMPRESSED] + a->gs.count[PAGE_SWAPPED] > 100);
}

/* ---- watchdog ------------------------------------------------------------ */

static void test_watchdog(void **state)
{
	(void)state;
	a->config.watchdog_sec = 2;
	v->hv->irqs_on = true;
	fake_cpu_run(1000); /* 5 s */
	assert_int_equal(a->state, VM_RUNNING);
	v->hv->irqs_on = false;
	fake_cpu_run(390);
	assert_int_equal(a->state, VM_RUNNING);
	fake_cpu_run(20);
	assert_int_not_equal(a->state, VM_RUNNING);
	fake_machine_settle();
	assert_int_equal(a->state, VM_CRASHED);
	assert_non_null(strstr(a->why, "watchdog"));
}

static void test_watchdog_off(void **state)
{
	(void)state;
	fake_cpu_run(5000);
	assert_int_equal(a->state, VM_RUNNING);
}

/* Interrupts off when we look twice, minutes apart, but the guest slept in between: it is well. */
static void test_watchdog_sleeper(void **state)
{
	struct hv_exit look = {.kind = HV_EXIT_HOST_IRQ};

	(void)state;
	hello(a);
	a->config.watchdog_sec = 1;
	for (u32 i = 0; i < 1000; i++) {
		v->hv->irqs_on = false;
		assert_true(fake_exit(a, &look));
		assert_int_equal(a->state, VM_RUNNING);
		fake_now_ns += 4 * NSEC_PER_MSEC;
		v->hv->irqs_on = true;
		(void)do_exit(HV_EXIT_HLT);
	}
	assert_int_equal(a->state, VM_RUNNING);
}

/* ---- exits --------------------------------------------------------------- */

static void test_exit_exceptions(void **state)
{
	static const struct {
		enum hv_exit_kind kind;
		u8 vector;
		bool has_error;
	} want[] = {{HV_EXIT_UNDEFINED, 6, false}, {HV_EXIT_CR_WRITE, 13, true}};
	struct hv_exit e = {.kind = HV_EXIT_HYPERCALL, .len = 3, .cpl = 3};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(want); i++) {
		assert_true(do_exit(want[i].kind));
		assert_int_equal(v->hv->exceptions, i + 1);
		assert_int_equal(v->hv->exception, want[i].vector);
		assert_int_equal(v->hv->exception_has_error, want[i].has_error);
		assert_int_equal(v->hv->exception_error, 0);
		assert_int_equal(v->hv->skips, 0);
		assert_int_equal(a->vcpu[0]->counts.exits[want[i].kind], 1);
	}
	/* A process is not the kernel. */
	v->hv->regs.rax = AERO_CALL_SHUTDOWN;
	assert_true(fake_exit(a, &e));
	assert_int_equal(v->hv->exception, 6);
	assert_int_equal(a->vcpu[0]->counts.hypercalls, 0);
	assert_int_equal(a->state, VM_RUNNING);
}

static void test_exit_ends(void **state)
{
	static const struct {
		enum hv_exit_kind kind;
		const char *why;
	} want[] = {{HV_EXIT_TRIPLE_FAULT, "triple fault"},
		    {HV_EXIT_EXCEPTION, "exception"},
		    {HV_EXIT_BAD_STATE, "invalid guest state"},
		    {HV_EXIT_UNKNOWN, "unexpected exit"}};
	char why[80];

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(want); i++) {
		fake_dumps = 0;
		(void)do_exit(want[i].kind);
		fake_machine_settle();
		assert_int_equal(fake_dumps, 1);
		assert_int_equal(a->state, VM_CRASHED);
		assert_non_null(strstr(a->why, want[i].why));
		assert_non_null(strstr(a->why, "as the test wants it"));
		assert_int_equal(vm_start(a, why, sizeof(why)), 0);
		fake_vm_await(a, VM_RUNNING);
		assert_string_equal(a->why, "");
	}
	v = a->vcpu[0];
	(void)do_exit(HV_EXIT_HLT); /* interrupts are off */
	fake_machine_settle();
	assert_int_equal(a->state, VM_CRASHED);
	assert_non_null(strstr(a->why, "halted with interrupts off"));
}

static bool io(u16 port, u8 bytes, bool in, bool string, u32 value)
{
	struct hv_exit e = {.kind = HV_EXIT_IO,
			    .len = 2,
			    .io = {.port = port, .bytes = bytes, .in = in, .string = string, .value = value}};

	return fake_exit(a, &e);
}

static void test_exit_io(void **state)
{
	struct hv_regs *r = &v->hv->regs;
	char text[8];

	(void)state;
	r->rax = 0x1122334455667700;
	assert_true(io(0x60, 1, true, false, 0));
	assert_int_equal(r->rax, 0x11223344556677ff);
	r->rax = 0x1122334455660000;
	assert_true(io(0x60, 2, true, false, 0));
	assert_int_equal(r->rax, 0x112233445566ffff);
	r->rax = 0x1122334455660000;
	assert_true(io(0xcfc, 4, true, false, 0));
	assert_int_equal(r->rax, 0xffffffff);
	assert_int_equal(v->hv->skips, 3);
	assert_int_equal(v->hv->skipped_len, 2);
	/* Writes go nowhere, but for one port. */
	assert_true(io(0x3f8, 1, false, false, 'x'));
	assert_true(io(0xe9, 2, false, false, 'x'));
	assert_true(io(0xe9, 1, false, false, 'y'));
	assert_int_equal(vm_console_read(a, text, sizeof(text)), 1);
	assert_int_equal(text[0], 'y');
	assert_int_equal(v->hv->skips, 6);
	assert_true(io(0xe9, 1, false, true, 'z'));
	assert_int_equal(v->hv->exception, 13);
	assert_int_equal(v->hv->skips, 6);
	assert_int_equal(vm_console_read(a, text, sizeof(text)), 0);
}

static bool msr(u32 index, bool write, u64 value)
{
	struct hv_exit e = {
	    .kind = write ? HV_EXIT_MSR_WRITE : HV_EXIT_MSR_READ, .len = 2, .msr = {.index = index, .value = value}};

	return fake_exit(a, &e);
}

static void test_exit_msr(void **state)
{
	static const u32 refused[] = {0x1b /* APIC_BASE */, 0x3a, 0x480, 0xc0000080,
				      0xc0010114,           0x8b, 0x2ff, 0x4ae20001};
	struct hv_regs *r = &v->hv->regs;
	u8 *page;
	u64 tsc;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(refused); i++) {
		assert_true(msr(refused[i], true, 1));
		assert_true(msr(refused[i], false, 0));
		assert_int_equal(v->hv->exceptions, 2 * i + 2);
		assert_int_equal(v->hv->exception, 13);
		assert_true(v->hv->exception_has_error);
	}
	assert_true(msr(AERO_MSR_HYPERCALL, false, 0));
	assert_int_equal(v->hv->exceptions, 2 * ARRAY_SIZE(refused) + 1);
	assert_int_equal(v->hv->skips, 0);

	tsc = __builtin_ia32_rdtsc();
	r->rax = r->rdx = ~0UL;
	assert_true(msr(0x10, false, 0));
	assert_true(r->rax <= 0xffffffff && r->rdx <= 0xffffffff);
	assert_true((r->rdx << 32 | r->rax) >= tsc);
	assert_true(msr(0x10, true, 5));
	assert_int_equal(v->hv->exception, 13);

	assert_true(msr(AERO_MSR_HYPERCALL, true, (u64)PAGE << PAGE_SHIFT | 1));
	page = fake_page(a, PAGE);
	assert_memory_equal(page, ((u8[]){0x0f, 0x01, 0xd9, 0xc3, 0, 0}), 6);
	assert_int_equal(v->hv->skips, 2);
}

static void test_hypercall_page(void **state)
{
	static const u64 bad[] = {(u64)PAGE << PAGE_SHIFT,
				  (u64)PAGE << PAGE_SHIFT | 3,
				  ((u64)PAGE << PAGE_SHIFT) + 9,
				  VM_MEMORY_MIN | 1,
				  1UL << 44 | 1,
				  1UL << 63 | 1,
				  0,
				  ~0UL};
	u64 exceptions = 0;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(msr(AERO_MSR_HYPERCALL, true, bad[i]));
		assert_int_equal(v->hv->exceptions, ++exceptions);
	}
	/* Its page is elsewhere: the write is done when it is back. */
	fake_page_write(a, PAGE, ~0UL);
	fake_swap_out(a, PAGE);
	fake_blk.hold = true;
	assert_false(msr(AERO_MSR_HYPERCALL, true, (u64)PAGE << PAGE_SHIFT | 1));
	assert_int_equal(v->state, VCPU_WAIT_MEMORY);
	assert_int_equal(v->hv->exceptions, exceptions);
	fake_blk.hold = false;
	(void)fake_call_again(a);
	assert_int_equal(v->hv->exceptions, exceptions);
	assert_int_equal(v->hv->skips, 1);
	assert_int_equal(fake_page_read(a, PAGE), 0xffffffffc3d9010f);
}

static void test_exit_npf(void **state)
{
	struct hv_exit e = npf(PAGE, false);

	(void)state;
	assert_true(fake_exit(a, &e));
	assert_int_equal(gspace_state(&a->gs, PAGE), PAGE_ZERO);
	e = npf(PAGE, true);
	assert_true(fake_exit(a, &e));
	assert_int_equal(gspace_state(&a->gs, PAGE), PAGE_PRIVATE);
	e = npf(a->gs.pages - 1, true);
	assert_true(fake_exit(a, &e));
	assert_int_equal(v->hv->skips + v->hv->exceptions, 0); /* the instruction runs again */
	e = npf(a->gs.pages, false);
	(void)fake_exit(a, &e);
	fake_machine_settle();
	assert_int_equal(a->state, VM_CRASHED);
	assert_non_null(strstr(a->why, "beyond memory: gpa 0x800000"));
}

/* Numbers of frames that do not fit into 32 bits are no frames of ours. */
static void test_exit_npf_far(void **state)
{
	struct hv_exit e = npf(0, true);

	(void)state;
	e.npf.gpa = GPA((1UL << 44) + ((u64)PAGE << PAGE_SHIFT));
	(void)fake_exit(a, &e);
	fake_machine_settle();
	assert_int_equal(a->state, VM_CRASHED);
}

/* ---- CPUID --------------------------------------------------------------- */

static void cpuid_of(u32 leaf, u32 subleaf, struct cpuid_regs *c)
{
	struct hv_exit e = {.kind = HV_EXIT_CPUID, .len = 2};
	struct hv_regs *r = &v->hv->regs;

	*r = (struct hv_regs){.rax = 0xdead00000000 | leaf, .rcx = 0xdead00000000 | subleaf, .rbx = ~0UL, .rdx = ~0UL};
	assert_true(fake_exit(a, &e));
	*c = (struct cpuid_regs){(u32)r->rax, (u32)r->rbx, (u32)r->rcx, (u32)r->rdx};
	assert_true(r->rax >> 32 == 0 && r->rbx >> 32 == 0 && r->rcx >> 32 == 0 && r->rdx >> 32 == 0);
}

static void test_cpuid_masks(void **state)
{
	struct cpuid_regs c;
	u32 max;

	(void)state;
	cpuid_of(0, 0, &c);
	max = c.eax;
	assert_true(max <= 7);
	cpuid_of(1, 0, &c);
	/* ECX: DTES64 MONITOR DS-CPL VMX SMX EST TM2 FMA PDCM PCID DCA x2APIC TSC-deadline XSAVE OSXSAVE AVX F16C */
	assert_int_equal(c.ecx & (BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(12) | BIT(15) |
				  BIT(17) | BIT(18) | BIT(21) | BIT(24) | BIT(26) | BIT(27) | BIT(28) | BIT(29)),
			 0);
	assert_true(c.ecx & BIT(31));
	/* EDX: DE MCE APIC MTRR MCA PSE-36 PSN DS ACPI SS HTT TM PBE */
	assert_int_equal(c.edx & (BIT(2) | BIT(7) | BIT(9) | BIT(12) | BIT(14) | BIT(17) | BIT(18) | BIT(21) | BIT(22) |
				  BIT(27) | BIT(28) | BIT(29) | BIT(31)),
			 0);
	assert_int_equal(c.ebx >> 24, 0);        /* APIC id: the vCPU */
	assert_int_equal(c.ebx >> 16 & 0xff, 1); /* logical processors */
	cpuid_of(7, 0, &c);
	assert_int_equal(c.eax | c.edx, 0);
	assert_int_equal(
	    c.ebx & (BIT(2) | BIT(4) | BIT(5) | BIT(10) | BIT(11) | BIT(12) | BIT(14) | BIT(15) | BIT(16) | BIT(25)),
	    0); /* SGX HLE AVX2 INVPCID RTM PQM MPX PQE AVX512F PT */
	assert_int_equal(c.ecx & ~BIT(2), 0);
	cpuid_of(0x80000001, 0, &c);
	assert_int_equal(c.ecx & ~(BIT(0) | BIT(5) | BIT(8)), 0); /* SVM is bit 2 */
	assert_int_equal(c.edx & (BIT(9) | BIT(12) | BIT(14) | BIT(26) | BIT(27)), 0);
	assert_true(c.edx & BIT(29));
}

static void test_cpuid_allow_list(void **state)
{
	static const u32 known[] = {0,          1,          7,          0x40000000, 0x40000001, 0x40000002, 0x80000000,
				    0x80000001, 0x80000002, 0x80000003, 0x80000004, 0x80000007, 0x80000008};
	struct cpuid_regs c;

	(void)state;
	for (u32 base = 0; base < 0xd0000000; base += 0x10000000)
		for (u32 i = 0; i < 0x120; i++) {
			bool is_known = false;

			for (u32 k = 0; k < ARRAY_SIZE(known); k++)
				is_known |= known[k] == base + i;
			cpuid_guest(v, base + i, 0, &c);
			if (!is_known)
				assert_int_equal(c.eax | c.ebx | c.ecx | c.edx, 0);
			cpuid_guest(v, base + i, 1, &c);
			if (!is_known || base + i == 7)
				assert_int_equal(c.eax | c.ebx | c.ecx | c.edx, 0);
		}
}

static void test_cpuid_hypervisor(void **state)
{
	struct cpuid_regs c;

	(void)state;
	cpuid_of(AERO_CPUID_BASE, 0, &c);
	assert_int_equal(c.eax, AERO_CPUID_TSC);
	assert_memory_equal(&c.ebx, "Aerostat-HV", 12);
	cpuid_of(AERO_CPUID_FEATURES, 0, &c);
	assert_int_equal(c.eax, AERO_ABI_VERSION);
	assert_int_equal(c.ebx, vm_features_offered(a));
	assert_int_equal(c.ebx & AERO_FEATURE_DISK, 0);
	assert_int_equal(c.ecx, AERO_MSR_HYPERCALL);
	assert_int_equal(c.edx, 0);
	cpuid_of(AERO_CPUID_TSC, 0, &c);
	assert_int_equal((u64)c.ebx << 32 | c.eax, cpu_tsc_khz());
	assert_int_equal(c.ecx, 8);
	cpuid_of(AERO_CPUID_TSC + 1, 0, &c);
	assert_int_equal(c.eax | c.ebx | c.ecx | c.edx, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, vm_test_finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_round_robin),
	    TEST(test_slice_length),
	    TEST(test_paused_does_not_run),
	    TEST(test_halt_then_wake),
	    TEST(test_wake_before_halt),
	    TEST(test_wake_while_window_closed),
	    TEST(test_timer_wakes),
	    TEST(test_timer_cuts_slice),
	    TEST(test_wait_for_page),
	    TEST(test_wake_before_wait),
	    TEST(test_event_while_waiting),
	    TEST(test_memory_runs_short),
	    TEST(test_starved),
	    TEST(test_sleep_ends_starvation),
	    TEST(test_pause_is_no_starvation),
	    TEST(test_watchdog),
	    TEST(test_watchdog_off),
	    TEST(test_watchdog_sleeper),
	    TEST(test_exit_exceptions),
	    TEST(test_exit_ends),
	    TEST(test_exit_io),
	    TEST(test_exit_msr),
	    TEST(test_hypercall_page),
	    TEST(test_exit_npf),
	    TEST(test_exit_npf_far),
	    TEST(test_cpuid_masks),
	    TEST(test_cpuid_allow_list),
	    TEST(test_cpuid_hypervisor),
	    TEST(test_guest_is_not_starved),
	    TEST(test_wake_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
