/*
 * A virtual CPU and the CPU loop that runs it.
 *
 * Each physical CPU loops: let interrupts in, run timers and deferred work, pick a
 * vCPU, run it for a slice. A vCPU that halts or waits for memory is off the run queue.
 *
 * Locking: state, link and wake flags belong to the sched_cpu lock (LOCK_RANK_SCHED) of vcpu->cpu; the rest is touched
 * only by the CPU that runs the vCPU, or while it is off the queue.
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include "arch/x86/hv.h"
#include "lib/list.h"
#include "lib/timer.h"
#include "lib/types.h"

struct vm;

enum vcpu_state {
	VCPU_OFF,	  /* not started, or its VM is ending */
	VCPU_READY,	  /* on the run queue */
	VCPU_RUNNING,
	VCPU_HALTED,	  /* HLT, until an event */
	VCPU_WAIT_MEMORY, /* a page is on its way, or none is free */
	VCPU_STATES
};
const char *vcpu_state_name(enum vcpu_state s);

struct vcpu {
	struct list link; /* run queue or memory waiters */
	struct vm *vm;
	struct hv_vcpu *hv;
	u32 index;
	enum vcpu_state state;
	bool wake;	  /* an event arrived: a HLT about to block does not */
	bool upcall;	  /* atomic: an upcall has to be delivered */
	u32 wakes_seen;	  /* vm->mem_wakes when the failing touch began */
	u64 irqs_off_since_ns; /* run time at which interrupts were first seen off, and always since; 0: they were on */
	struct timer timer;
	u64 since_ns;	  /* of the present state */
	u64 ns_in[VCPU_STATES];
	u64 slices;
	u64 *scratch;	  /* one page for copies of guest batches, used within one hypercall */
};

/* Once: how the back end reads guest memory. */
void vcpu_init(void);
/* E_NOMEM. The vCPU is OFF. */
int vcpu_create(struct vm *vm, u32 index, hfn_t root, struct vcpu **out) must_check;
void vcpu_destroy(struct vcpu *v);
void vcpu_note_first_run(const struct vcpu *v); /* it is about to: how long the machine took to get there */

void sched_init_cpu(void); /* on each CPU, before its loop */
_Noreturn void sched_loop(void);

void sched_start(struct vcpu *v); /* OFF -> READY */
void sched_stop(struct vcpu *v);  /* any -> OFF; the caller's CPU may be running it */
void sched_wake(struct vcpu *v);  /* HALTED -> READY; otherwise remembered for the next HLT */
void sched_halt(struct vcpu *v);  /* by the running CPU: RUNNING -> HALTED unless woken meanwhile */
void sched_wait_memory(struct vcpu *v); /* by the running CPU: unless mem_wakes moved since wakes_seen */
void sched_wake_memory(struct vm *vm); /* NULL: all. Any context; takes effect before the next guest entry */

/* exit.c: decides what an exit means. */
void exit_handle(struct vcpu *v, struct hv_exit *e);
const char *exit_kind_name(enum hv_exit_kind k);

/* hypercall.c: true if the instruction is done, false if it has to be repeated (vCPU waits for memory). */
bool hypercall_handle(struct vcpu *v, struct hv_regs *r);

void vcpu_set_timer(struct vcpu *v, u64 vm_ns); /* on the VM's clock; 0: off */

#endif
