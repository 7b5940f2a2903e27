/*
 * One CPU's part of the scheduler, shared by sched.c (queues, fairness) and run.c (the CPU loop).
 *
 * Shares. Each vCPU has a virtual time: its run time divided by its VM's weight. Who is furthest behind runs next, from
 * the CPU's own queue or, if that one is further behind by STEAL_NS, from another's. A vCPU that comes back from a wait
 * is set to the clock of those that ran meanwhile, less WAKE_CREDIT_NS: waiting saves nothing up. So a woken vCPU waits
 * for one slice at most if it has had less than its share, else for a slice of each of the others. A VM with a cap gets
 * cap percent of one CPU in each CAP_PERIOD_NS; what it overdraws counts against the next.
 *
 * Where a vCPU's registers are. A CPU keeps the state of the vCPU it ran last (FPU, VMCS: hv->release()) until it runs
 * another: a guest that halts and goes on pays nothing. `vcpu->loaded_on` names that CPU; only a vCPU that is loaded
 * nowhere may be taken by another CPU. So a vCPU waits for its CPU at most as long as that takes to come to its loop.
 *
 * Guests against timers and deferred work. These come between two pieces of a slice. What they take, OWED_MIN_NS at
 * least, is owed to the guests of that CPU, and what guests run pays for it. Once OWED_NS are owed, timers and work
 * wait until all of it is paid, or nobody can run. So a timer that is always due, or work that queues itself again, has
 * at most half of a CPU (more if one piece takes longer than OWED_MAX_NS), and a guest that was picked always gets to
 * its next instructions; a transfer in many short pieces is not held up between them. The other way round, work that
 * waits ends a guest's turn after WORK_SLICE_NS or what is owed. Interrupts are taken at any time: they only queue.
 *
 * No wake-up is lost: a CPU says `idle` and then looks at all queues; who queues a vCPU looks at `idle` afterwards. A
 * vCPU counts as waiting for memory (`waiters`) and then looks at the counters of wake-ups; who wakes counts and then
 * looks at `waiters`. All four are sequentially consistent.
 */
#ifndef VMM_SCHED_H
#define VMM_SCHED_H

#include "lib/list.h"
#include "lib/lock.h"
#include "lib/types.h"

struct vcpu;
struct vm;

#define SLICE_NS       (5 * NSEC_PER_MSEC)
#define STEAL_NS       SLICE_NS
#define WAKE_CREDIT_NS SLICE_NS
#define PREEMPT_NS     NSEC_PER_MSEC /* a woken vCPU so far behind the running one does not wait for its slice's end */
#define WORK_SLICE_NS  NSEC_PER_MSEC /* a guest's turn while deferred work waits */
#define OWED_MIN_NS    (20 * NSEC_PER_USEC)
#define OWED_NS        (2 * NSEC_PER_MSEC)
#define OWED_MAX_NS    (4 * SLICE_NS)
#define HOST_BILL_NS   (10 * NSEC_PER_USEC)
#define CAP_PERIOD_NS  (100 * NSEC_PER_MSEC)
#define SCHED_WEIGHT   1000U /* of a VM that asks for none */
#define CPU_NONE       (~0U)

struct sched_cpu {
	struct lock lock; /* the lists, current, and state, vtime and cpu of vCPUs whose cpu is this */
	u32 id;
	struct list ready, memory; /* READY vCPUs; WAIT_MEMORY vCPUs */
	struct vcpu *current;      /* RUNNING here, or NULL */
	u64 best_vtime;            /* atomic: least of those that may be taken, ~0 if none; a hint */
	u64 slice_end_ns;
	u32 idle;    /* atomic */
	u32 waiters; /* atomic: on `memory`, or about to be */
	u32 resched; /* atomic: the running vCPU gives way before its slice ends */
	u32 unload;  /* atomic: somebody waits for `loaded` to be released */
	u32 frozen;  /* atomic: last sched_freeze() this CPU has stopped for */
	/* Its own CPU's only. */
	struct vcpu *loaded; /* whose state is in this CPU, or NULL */
	u64 owed_ns;         /* what timers and work have taken and guests have not had since */
	bool paying;         /* guests come first until nothing is owed */
	u64 unbilled_ns;     /* of host_ns: not yet taken off the running vCPU's time */
	u64 armed_ns;        /* what the hardware timer is set for */
	u64 unpark_ns;       /* about to sleep: when a cap lets the first of `ready` run again, ~0 if none */
	u64 idle_ns, host_ns, steals, kicks_to_idle;
};

struct sched_cpu *sched_this(void);
/* Who runs now, RUNNING and loaded here; NULL: nobody may. */
struct vcpu *sched_pick(struct sched_cpu *s, u64 now);
/* Timers and work had this CPU for so long: not the run time of the vCPU in whose slice that was. */
void sched_host_ran(struct sched_cpu *s, u64 ns);
/* Says that this CPU is about to sleep; false if there is something to run after all. And that it sleeps no more. */
bool sched_idle_begin(struct sched_cpu *s);
void sched_idle_end(struct sched_cpu *s);
/* Stops here while the machine is frozen. */
void sched_freeze_point(struct sched_cpu *s);

#endif
