/*
 * The CPU loop: interrupts, timers, deferred work, then a vCPU for a piece of its slice. Who that is, sched.c says.
 * The vCPU that a CPU runs stays in VCPU_RUNNING between the pieces of its slice.
 */
#include "arch/x86/cpu.h"
#include "lib/panic.h"
#include "lib/work.h"
#include "mm/frame.h"
#include "vmm/sched.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define WORK_PER_PASS 16                  /* deferred work items between two pieces of a slice */
#define WORK_PASS_NS  (2 * NSEC_PER_MSEC) /* no further item after that */

static void arm_hardware_timer(struct sched_cpu *s, u64 deadline)
{
	if (deadline != s->armed_ns) {
		cpu_timer_arm(deadline);
		s->armed_ns = deadline;
	}
}

/*
 * A guest that has interrupts off whenever we look, for watchdog_sec of its own run time, is hung: nothing can reach
 * it. Looked at when the host takes the CPU back, which it does at least once a slice.
 */
static void watchdog_check(struct vcpu *v)
{
	u32 limit = v->vm->config.watchdog_sec;
	u64 run;

	if (likely(!limit))
		return;
	if (hv->irq_enabled(v->hv)) {
		v->irqs_off_since_ns = 0;
		return;
	}
	run = v->ns_in[VCPU_RUNNING] + platform_now_ns() - v->since_ns;
	if (v->irqs_off_since_ns == 0)
		v->irqs_off_since_ns = run;
	else if (run - v->irqs_off_since_ns > limit * NSEC_PER_SEC)
		vm_crash(v->vm, "watchdog: interrupts off for %u s of run time", limit);
}

static void deliver_upcall(struct vcpu *v)
{
	if (READ_ONCE(v->upcall) && v->upcall_vector && hv->inject_irq(v->hv, v->upcall_vector))
		WRITE_ONCE(v->upcall, false);
}

/* One stay in the guest. What tlb.h says about it begins and ends here. */
static void enter_guest(struct vcpu *v, struct hv_exit *e)
{
	struct gspace *gs = &v->vm->gs;
	struct tlb_cpu *tlb = &this_cpu()->tlb;
	u64 gen;

	if (READ_ONCE(gs->tlb_dirty))
		gspace_flush(gs);
	e->kind = HV_EXIT_NONE;
	gen = tlb_guest_begin(tlb, &gs->tlb_gen);
	hv->run(v->hv, gen, e);
	tlb_guest_end(tlb);
}

/*
 * Runs v, from now on, until the host is wanted, the vCPU blocks or gives way, or work may be served. Returns the time
 * when it ended.
 */
static u64 run_piece(struct sched_cpu *s, struct vcpu *v, u64 from)
{
	u64 owed_until = s->paying ? from + s->owed_ns : 0;
	u64 work_end = work_pending() ? from + WORK_SLICE_NS : TIMER_NEVER, next, now;
	struct hv_exit e;

	if (unlikely(v->reset))
		vcpu_take_start(v);
	do {
		lock_assert_none();
		deliver_upcall(v);
		next = timer_next_ns();
		next = MIN(next, work_end);
		next = MAX(next, owed_until);
		arm_hardware_timer(s, MIN(next, s->slice_end_ns));
		enter_guest(v, &e);
		if (e.kind == HV_EXIT_HOST_IRQ) {
			v->counts.exits[HV_EXIT_HOST_IRQ]++;
			watchdog_check(v);
			break;
		}
		sched_note_wakes(v);
		exit_handle(v, &e);
	} while (READ_ONCE(v->state) == VCPU_RUNNING && !READ_ONCE(s->resched) && !READ_ONCE(v->vm->end_asked) &&
		 (!work_pending() || platform_now_ns() < owed_until));
	now = platform_now_ns();
	s->owed_ns -= MIN(now - from, s->owed_ns);
	s->paying &= s->owed_ns != 0;
	return now;
}

/* Timers and deferred work. Returns the time when they are done. */
static u64 serve(struct sched_cpu *s, u64 from)
{
	u64 now, took;

	if (timer_next_ns() > from && !work_pending())
		return from;
	timer_run_expired(from);
	for (u32 i = 0; i < WORK_PER_PASS && work_pending() && platform_now_ns() - from < WORK_PASS_NS; i++)
		work_run(1);
	now = platform_now_ns();
	took = now - from;
	s->owed_ns = MIN(s->owed_ns + MAX(took, OWED_MIN_NS), OWED_MAX_NS);
	s->paying = s->owed_ns >= OWED_NS;
	sched_host_ran(s, took);
	return now;
}

static void sleep(struct sched_cpu *s)
{
	u64 since = platform_now_ns();

	if (!sched_idle_begin(s))
		return;
	arm_hardware_timer(s, MIN(timer_next_ns(), s->unpark_ns));
	cpu_idle();
	sched_idle_end(s);
	s->idle_ns += platform_now_ns() - since;
}

_Noreturn void sched_loop(void)
{
	struct sched_cpu *s = sched_this();
	struct vcpu *v;
	u64 now = platform_now_ns();

	for (;;) {
		sched_freeze_point(s);
		cpu_irq_window();
		s->armed_ns = 0; /* the timer may have fired */
		if (!s->paying)
			now = serve(s, now);
		v = sched_pick(s, now);
		if (v) {
			now = run_piece(s, v, now);
			continue;
		}
		s->owed_ns = 0; /* nobody to give it to */
		s->paying = false;
		if (!work_pending() && !frame_stock_fill())
			sleep(s);
		now = platform_now_ns();
	}
}
