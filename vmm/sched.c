/*
 * The CPU loop: interrupts, timers, deferred work, then a vCPU for a slice.
 * Run queues are per CPU, round robin. The vCPU that a CPU runs stays in
 * VCPU_RUNNING between the pieces of its slice.
 *
 * A wake-up for memory is a counter on the VM (mem_wakes) and one per host: a vCPU reads
 * them before the touch that fails and does not block if they moved, so no wake is lost.
 */
#include "arch/x86/cpu.h"
#include "lib/lock.h"
#include "lib/panic.h"
#include "lib/work.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define SLICE_NS (5 * NSEC_PER_MSEC)
#define WORK_PER_PASS 16 /* deferred work items between two pieces of a slice */

struct sched_cpu {
	struct lock lock;
	struct list ready, memory; /* READY vCPUs; WAIT_MEMORY vCPUs */
	struct vcpu *current;
	u64 slice_end_ns;
	u64 armed_ns;		   /* what the hardware timer is set for */
	u32 wake_all;		   /* atomic: wake every memory waiter */
	struct work wake_work;
};

/* Where a vCPU's queue is: with one CPU started, all are here. */
static struct sched_cpu *sched_of(const struct vcpu *v)
{
	(void)v;
	return this_cpu()->vmm;
}

static void set_state(struct vcpu *v, enum vcpu_state s)
{
	u64 now = platform_now_ns();

	v->ns_in[v->state] += now - v->since_ns;
	v->since_ns = now;
	v->state = s;
}

static void enqueue(struct sched_cpu *s, struct vcpu *v)
{
	set_state(v, VCPU_READY);
	list_add_tail(&s->ready, &v->link);
}

void sched_start(struct vcpu *v)
{
	struct sched_cpu *s = sched_of(v);

	lock_acquire(&s->lock);
	CHECK(v->state == VCPU_OFF);
	v->wake = v->upcall = false;
	enqueue(s, v);
	lock_release(&s->lock);
}

void sched_stop(struct vcpu *v)
{
	struct sched_cpu *s = sched_of(v);

	lock_acquire(&s->lock);
	list_del(&v->link);
	if (s->current == v)
		s->current = NULL;
	if (v->state != VCPU_OFF)
		set_state(v, VCPU_OFF);
	lock_release(&s->lock);
}

void sched_wake(struct vcpu *v)
{
	struct sched_cpu *s = sched_of(v);

	lock_acquire(&s->lock);
	if (v->state == VCPU_HALTED)
		enqueue(s, v);
	else
		v->wake = true;
	lock_release(&s->lock);
}

void sched_halt(struct vcpu *v)
{
	struct sched_cpu *s = sched_of(v);

	lock_acquire(&s->lock);
	if (!v->wake) {
		set_state(v, VCPU_HALTED);
		s->current = NULL;
	}
	v->wake = false;
	lock_release(&s->lock);
}

void sched_wait_memory(struct vcpu *v)
{
	struct sched_cpu *s = sched_of(v);

	lock_acquire(&s->lock);
	if (READ_ONCE(v->vm->mem_wakes) == v->wakes_seen && !s->wake_all) {
		set_state(v, VCPU_WAIT_MEMORY);
		list_add_tail(&s->memory, &v->link);
		s->current = NULL;
	}
	lock_release(&s->lock);
}

static void wake_waiters(struct work *w)
{
	struct sched_cpu *s = container_of(w, struct sched_cpu, wake_work);
	bool all;

	lock_acquire(&s->lock);
	all = __atomic_exchange_n(&s->wake_all, 0, __ATOMIC_ACQ_REL);
	list_for_each_safe(l, &s->memory) {
		struct vcpu *v = list_entry(l, struct vcpu, link);

		if (all || READ_ONCE(v->vm->mem_wakes) != v->wakes_seen) {
			list_del(&v->link);
			enqueue(s, v);
		}
	}
	lock_release(&s->lock);
}

void sched_wake_memory(struct vm *vm)
{
	struct sched_cpu *s = this_cpu()->vmm;

	if (vm)
		__atomic_add_fetch(&vm->mem_wakes, 1, __ATOMIC_ACQ_REL);
	else
		__atomic_store_n(&s->wake_all, 1, __ATOMIC_RELEASE);
	work_queue(&s->wake_work);
}

static struct vcpu *pick(struct sched_cpu *s)
{
	struct vcpu *v = s->current;

	lock_acquire(&s->lock);
	if (v && (platform_now_ns() >= s->slice_end_ns || v->vm->state != VM_RUNNING)) {
		enqueue(s, v);
		s->current = v = NULL;
	}
	if (!v) {
		/* Those of a paused VM stay queued and are passed over. */
		list_for_each(l, &s->ready) {
			struct vcpu *c = list_entry(l, struct vcpu, link);

			if (c->vm->state == VM_RUNNING) {
				v = c;
				break;
			}
		}
		if (v) {
			list_del(&v->link);
			set_state(v, VCPU_RUNNING);
			if (v->slices++ == 0)
				vcpu_note_first_run(v);
			s->current = v;
			s->slice_end_ns = v->since_ns + SLICE_NS;
		}
	}
	lock_release(&s->lock);
	return v;
}

static void arm_hardware_timer(struct sched_cpu *s, u64 deadline)
{
	if (deadline != s->armed_ns) {
		cpu_timer_arm(deadline);
		s->armed_ns = deadline;
	}
}

/*
 * A guest that has interrupts off whenever we look, for watchdog_sec of its own run time, is hung: nothing can reach it.
 * Looked at when the host takes the CPU back, which it does at least once a slice.
 */
static void watchdog_check(struct vcpu *v)
{
	u64 run = v->ns_in[VCPU_RUNNING] + platform_now_ns() - v->since_ns;
	u32 limit = v->vm->config.watchdog_sec;

	if (hv->irq_enabled(v->hv)) {
		v->irqs_off_since_ns = 0;
		return;
	}
	if (v->irqs_off_since_ns == 0)
		v->irqs_off_since_ns = run;
	else if (limit && run - v->irqs_off_since_ns > limit * NSEC_PER_SEC)
		vm_crash(v->vm, "watchdog: interrupts off for %u s of run time", limit);
}

static void deliver_upcall(struct vcpu *v)
{
	if (READ_ONCE(v->upcall) && v->vm->upcall_vector && hv->inject_irq(v->hv, v->vm->upcall_vector))
		WRITE_ONCE(v->upcall, false);
}

/* Runs v until the host is wanted, the vCPU blocks, or work is pending. */
static void run_piece(struct sched_cpu *s, struct vcpu *v)
{
	struct hv_exit e;

	do {
		lock_assert_none();
		deliver_upcall(v);
		if (READ_ONCE(v->vm->gs.tlb_dirty))
			gspace_flush(&v->vm->gs);
		arm_hardware_timer(s, MIN(s->slice_end_ns, timer_next_ns()));
		e.kind = HV_EXIT_NONE;
		hv->run(v->hv, READ_ONCE(v->vm->gs.tlb_gen), &e);
		v->wakes_seen = READ_ONCE(v->vm->mem_wakes);
		exit_handle(v, &e);
		if (e.kind == HV_EXIT_HOST_IRQ)
			watchdog_check(v);
	} while (e.kind != HV_EXIT_HOST_IRQ && v->state == VCPU_RUNNING && !work_pending());
}

void sched_init_cpu(void)
{
	hfn_t hfn = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	struct sched_cpu *s;

	CHECK(hfn != HFN_NONE);
	s = mm_hfn_to_va(hfn);
	lock_init(&s->lock, "sched", LOCK_RANK_SCHED);
	list_init(&s->ready);
	list_init(&s->memory);
	work_init(&s->wake_work, "wake", wake_waiters);
	s->armed_ns = TIMER_NEVER;
	this_cpu()->vmm = s;
}

_Noreturn void sched_loop(void)
{
	struct sched_cpu *s = this_cpu()->vmm;
	struct vcpu *v;

	for (;;) {
		cpu_irq_window();
		s->armed_ns = 0; /* the timer may have fired */
		timer_run_expired(platform_now_ns());
		work_run(WORK_PER_PASS);
		v = pick(s);
		if (v) {
			run_piece(s, v);
		} else if (!work_pending() && !frame_stock_fill()) {
			arm_hardware_timer(s, timer_next_ns());
			cpu_idle();
		}
	}
}
