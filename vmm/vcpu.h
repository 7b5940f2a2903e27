/*
 * A virtual CPU and the CPU loop that runs it.
 *
 * Each physical CPU loops: let interrupts in, run timers and deferred work, pick a
 * vCPU, run it for a slice. A vCPU that halts or waits for memory is off the run queue. The scheduler's rules are in
 * sched.h.
 *
 * Locking: cpu, state, link, wake, stop and the times belong to the sched_cpu lock (LOCK_RANK_SCHED) of vcpu->cpu; the
 * rest is touched only by the CPU that runs the vCPU, or by the boot CPU while it is OFF.
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include "arch/x86/hv.h"
#include "lib/list.h"
#include "lib/timer.h"
#include "lib/types.h"
#include "vmm/vm.h"

enum vcpu_state {
	VCPU_OFF,   /* not started, or its VM is ending */
	VCPU_READY, /* on the run queue */
	VCPU_RUNNING,
	VCPU_HALTED,      /* HLT, until an event */
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
	bool wake;        /* an event arrived: a HLT about to block does not */
	bool upcall;      /* atomic: an upcall has to be delivered */
	bool stop;        /* is to be OFF: the CPU that runs it sees to it */
	bool ended;       /* for good: the guest cannot start it any more */
	u8 upcall_vector; /* 0: none yet */
	bool starting;    /* the guest is starting it; vm->lock */
	bool reset;       /* takes on `start` before it is entered; set while OFF */
	struct hv_start start;
	u32 cpu;             /* whose queue it belongs to */
	u32 loaded_on;       /* atomic: CPU that holds its registers, CPU_NONE; set by that CPU */
	u64 vtime;           /* run time by weight */
	u64 charged_ns;      /* RUNNING: up to when that is in vtime */
	u32 wakes_seen;      /* vm->mem_wakes when the failing touch began */
	u32 host_wakes_seen; /* the same of wake-ups for all */
	u64 wait_what;       /* the latest wait for memory: for what, by sched_wait_memory(); */
	u64 wait_ran_ns;     /* run time when it began; */
	u64 wait_seen_ns;    /* when; and, atomic, when the first one began that ended with nothing: */
	u64 wait_since_ns;
	u64 irqs_off_since_ns; /* run time at which interrupts were first seen off, and always since; 0: they were on */
	struct timer timer;
	u64 since_ns; /* of the present state */
	u64 ns_in[VCPU_STATES];
	u64 slices;
	struct vm_counts counts; /* its own CPU's only, others read */
	u64 *scratch;            /* one page for copies of guest batches, used within one hypercall */
};

/* Once: how the back end reads guest memory. */
void vcpu_init(void);
/* E_NOMEM. The vCPU is OFF. */
int vcpu_create(struct vm *vm, u32 index, hfn_t root, struct vcpu **out) must_check;
void vcpu_destroy(struct vcpu *v);
void vcpu_note_first_run(const struct vcpu *v); /* it is about to: how long the machine took to get there */

int sched_init_cpu(void) must_check; /* on each CPU, before its loop. E_NOMEM */
_Noreturn void sched_loop(void);
u32 sched_first_cpu(void); /* for a new vCPU */

struct sched_cpu_stats {
	u64 idle_ns, host_ns, steals; /* host: timers and deferred work */
	u32 ready;
	bool running;
};
bool sched_cpu_stats(u32 cpu, struct sched_cpu_stats *out); /* false: no such CPU */

/*
 * Stops every other CPU in its loop, out of guests and with no lock held, until sched_thaw(): for what looks at
 * everything at once, and for the end of the machine. On the boot CPU, no lock held.
 */
void sched_freeze(void);
void sched_thaw(void);

void sched_start(struct vcpu *v); /* OFF -> READY */
/*
 * Any state -> OFF. On return no CPU runs it or holds its registers. Waits for other CPUs: on the boot CPU only, no
 * lock held.
 */
void sched_stop(struct vcpu *v);
/*
 * The guest's own starting and stopping. OFF -> READY, false if it is not OFF or sched_stop() has come first. Any state
 * -> OFF, at once if this CPU runs it or nobody does, else soon. Any CPU.
 */
bool sched_restart(struct vcpu *v) must_check;
void sched_retire(struct vcpu *v);
void sched_poke(struct vcpu *v); /* its VM was paused or resumed */
void sched_wake(struct vcpu *v); /* HALTED -> READY; otherwise remembered for the next HLT */
void sched_halt(struct vcpu *v); /* by the running CPU: RUNNING -> HALTED unless woken meanwhile */
/*
 * By the running CPU, before a touch that may fail; and after it: RUNNING -> WAIT_MEMORY, unless woken since then.
 * what: the page, or anything else that is another one once the guest has come further.
 */
void sched_note_wakes(struct vcpu *v);
void sched_wait_memory(struct vcpu *v, u64 what);
/* for how long it has waited for one thing; 0: it does not. Racy */
u64 sched_starved_ns(const struct vcpu *v, u64 now_ns);
void sched_wake_memory(struct vm *vm); /* NULL: all. Any CPU, no lock of LOCK_RANK_SCHED or above held */

/* exit.c: decides what an exit means. */
void exit_handle(struct vcpu *v, struct hv_exit *e);
const char *exit_kind_name(enum hv_exit_kind k);

/* hypercall.c: true if the instruction is done, false if it has to be repeated (vCPU waits for memory). */
bool hypercall_handle(struct vcpu *v, struct hv_regs *r);

void vcpu_set_timer(struct vcpu *v, u64 vm_ns); /* on the VM's clock; 0: off */

/*
 * vcpu_smp.c: the guest's calls about its vCPUs. Any vCPU of the VM may make them, on any CPU; answers are those of
 * docs/GUEST-ABI.md.
 */
s64 vcpu_call_start(struct vcpu *by, const struct hv_regs *r);
s64 vcpu_call_stop(struct vcpu *by, u64 index);
s64 vcpu_call_send(struct vcpu *by, u64 mask, u64 events);
/* On the CPU that is about to enter v, loaded here: what a start left to do. */
void vcpu_take_start(struct vcpu *v);

#endif
