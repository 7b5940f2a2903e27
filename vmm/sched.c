/*
 * Run queues: who runs next, where, and how waiting ends. The rules are in sched.h.
 *
 * Locking: a vCPU's scheduling state belongs to the lock of its CPU (`vcpu->cpu`), which changes only when another CPU
 * takes it from the queue; never two such locks at once.
 */
#include "vmm/sched.h"

#include "arch/x86/cpu.h"
#include "lib/err.h"
#include "lib/panic.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define SAME_WAIT_NS   (20 * NSEC_PER_MSEC) /* a guest that ran for longer between two waits had what it waited for */
#define STILL_WAITS_NS (NSEC_PER_SEC / 2)   /* after it was woken: longer than reclaim's period */

static struct sched_cpu *cpus[CPUS_MAX];
static u64 clock_vtime; /* atomic: virtual time of the latest to run */
static u32 host_wakes;  /* atomic: counts sched_wake_memory(NULL) */
static u32 freeze;      /* atomic: number of the freeze in force, 0: none */
static u32 freezes;

struct sched_cpu *sched_this(void)
{
	return this_cpu()->vmm;
}

static struct sched_cpu *sched_at(u32 id)
{
	return id < cpu_count() ? cpus[id] : NULL;
}

/* Locks the queue that v belongs to, which may change until it is locked. */
static struct sched_cpu *lock_of(const struct vcpu *v)
{
	for (;;) {
		struct sched_cpu *s = cpus[READ_ONCE(v->cpu)];

		lock_acquire(&s->lock);
		if (v->cpu == s->id)
			return s;
		lock_release(&s->lock);
	}
}

static void kick(struct sched_cpu *s)
{
	if (s->id != this_cpu()->lib.id)
		cpu_kick(s->id);
}

/* ---- time and shares ----------------------------------------------------- */

static u32 weight_of(const struct vm *vm)
{
	u32 weight = READ_ONCE(vm->config.cpu_weight);

	return weight ? weight : SCHED_WEIGHT;
}

/* ns of run time a VM's cap allows in a period; several vCPUs share them. */
static u64 cap_budget(const struct vm *vm)
{
	return CAP_PERIOD_NS / 100 * READ_ONCE(vm->config.cpu_cap);
}

/* Run time against the cap. When a period is over, whoever notices begins the next with what is owed. */
static void charge_cap(struct vm *vm, u64 ns, u64 now)
{
	u64 budget = cap_budget(vm), start = __atomic_load_n(&vm->cap_start_ns, __ATOMIC_ACQUIRE), used, periods;

	if (!budget)
		return;
	used = __atomic_add_fetch(&vm->cap_used_ns, ns, __ATOMIC_ACQ_REL);
	if (now < start + CAP_PERIOD_NS)
		return;
	periods = (now - start) / CAP_PERIOD_NS;
	if (__atomic_compare_exchange_n(&vm->cap_start_ns, &start, start + periods * CAP_PERIOD_NS, false,
					__ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		__atomic_sub_fetch(&vm->cap_used_ns, MIN(used, budget * periods), __ATOMIC_ACQ_REL);
}

/* Until when the VM's cap keeps it off; 0: it may run. */
static u64 parked_until(const struct vm *vm, u64 now)
{
	u64 budget = cap_budget(vm), used = READ_ONCE(vm->cap_used_ns), start = READ_ONCE(vm->cap_start_ns);
	u64 until = start + (budget ? used / budget : 0) * CAP_PERIOD_NS;

	return budget && used >= budget && until > now ? until : 0;
}

/* Run time up to now, if v is running. */
static void charge(struct vcpu *v, u64 now)
{
	u64 ns = now - v->charged_ns;

	if (v->state != VCPU_RUNNING || (s64)ns <= 0)
		return;
	v->charged_ns = now;
	v->vtime += ns * SCHED_WEIGHT / weight_of(v->vm);
	charge_cap(v->vm, ns, now);
}

static void set_state(struct vcpu *v, enum vcpu_state s)
{
	u64 now = platform_now_ns();

	charge(v, now);
	v->ns_in[v->state] += now - v->since_ns;
	v->since_ns = v->charged_ns = now;
	WRITE_ONCE(v->state, s);
}

static void advance_clock(u64 vtime)
{
	u64 old = __atomic_load_n(&clock_vtime, __ATOMIC_RELAXED);

	while (old < vtime &&
	       !__atomic_compare_exchange_n(&clock_vtime, &old, vtime, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* ---- queues: s->lock held ------------------------------------------------ */

static bool vm_may_run(const struct vm *vm)
{
	return READ_ONCE(vm->state) == VM_RUNNING && !READ_ONCE(vm->end_asked);
}

/* The one furthest behind of those that may run; movable: that another CPU could take. unpark: when a cap frees one. */
static struct vcpu *best_of(struct sched_cpu *s, bool movable, u64 *unpark)
{
	struct vcpu *best = NULL;
	u64 now = platform_now_ns();

	*unpark = ~0UL;

	list_for_each (l, &s->ready) {
		struct vcpu *v = list_entry(l, struct vcpu, link);
		u64 until = parked_until(v->vm, now);

		if (!vm_may_run(v->vm) || (movable && v->loaded_on != CPU_NONE))
			continue;
		if (until)
			*unpark = MIN(*unpark, until);
		else if (!best || v->vtime < best->vtime)
			best = v;
	}
	return best;
}

/* After each change of the queue, or of what may be taken from it. */
static void publish(struct sched_cpu *s)
{
	u64 unpark;
	struct vcpu *v = list_empty(&s->ready) ? NULL : best_of(s, true, &unpark);

	__atomic_store_n(&s->best_vtime, v ? v->vtime : ~0UL, __ATOMIC_SEQ_CST);
}

static void enqueue(struct sched_cpu *s, struct vcpu *v)
{
	set_state(v, VCPU_READY);
	list_add_tail(&s->ready, &v->link);
	publish(s);
}

/* Wakes s if it sleeps. The claim keeps two wakers from counting on the same sleeper. */
static bool claim_idle(struct sched_cpu *s)
{
	if (!s || !READ_ONCE(s->idle) || !__atomic_exchange_n(&s->idle, 0, __ATOMIC_SEQ_CST))
		return false;
	s->kicks_to_idle++;
	kick(s);
	return true;
}

static void claim_any_idle(u32 not )
{
	u32 count = cpu_count();

	for (u32 i = 1; i < count; i++)
		if (claim_idle(cpus[(not +i) % count]))
			return;
}

/* v has become READY on s: somebody who can run it soon has to know. */
static void announce(struct sched_cpu *s, struct vcpu *v)
{
	struct vcpu *c = s->current;
	u64 now = platform_now_ns();

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (claim_idle(s))
		return;
	if (c)
		charge(c, now);
	if (c && v->vtime + PREEMPT_NS < c->vtime) {
		WRITE_ONCE(s->resched, 1);
		kick(s);
	} else if (v->loaded_on == CPU_NONE) {
		claim_any_idle(s->id);
	}
}

/* READY again after a wait: no credit for it but a little. */
static void wake_up(struct sched_cpu *s, struct vcpu *v)
{
	u64 clock = __atomic_load_n(&clock_vtime, __ATOMIC_RELAXED);

	v->vtime = MAX(v->vtime, clock > WAKE_CREDIT_NS ? clock - WAKE_CREDIT_NS : 0);
	enqueue(s, v);
	announce(s, v);
}

/* ---- beginning and end of a vCPU ----------------------------------------- */

void sched_start(struct vcpu *v)
{
	struct sched_cpu *s = lock_of(v);

	CHECK(v->state == VCPU_OFF && v->loaded_on == CPU_NONE);
	v->wake = v->upcall = v->stop = false;
	v->vtime = 0;
	wake_up(s, v);
	lock_release(&s->lock);
}

bool sched_restart(struct vcpu *v)
{
	struct sched_cpu *s = lock_of(v);
	bool may = v->state == VCPU_OFF && !v->ended;

	if (may) {
		v->wake = v->stop = false;
		WRITE_ONCE(v->upcall, false);
		WRITE_ONCE(v->wait_since_ns, 0);
		wake_up(s, v);
	}
	lock_release(&s->lock);
	return may;
}

/* Which CPU a new vCPU belongs to at first: in turn. */
u32 sched_first_cpu(void)
{
	static u32 turn;

	return __atomic_fetch_add(&turn, 1, __ATOMIC_RELAXED) % cpu_count();
}

static void unload(struct sched_cpu *s)
{
	struct vcpu *v = s->loaded, *ready;

	hv->release(v->hv);
	s->loaded = NULL;
	lock_acquire(&s->lock);
	__atomic_store_n(&v->loaded_on, CPU_NONE, __ATOMIC_RELEASE);
	publish(s);
	ready = v->state == VCPU_READY ? v : NULL;
	lock_release(&s->lock);
	if (ready)
		claim_any_idle(s->id);
}

/* Takes v off whatever it is on. RUNNING elsewhere: that CPU does it when it sees `stop`. */
static void stop_begin(struct vcpu *v, bool for_good)
{
	struct sched_cpu *s = lock_of(v);

	v->stop = true;
	v->ended |= for_good;
	if (v->state == VCPU_RUNNING && s != sched_this()) {
		kick(s);
		lock_release(&s->lock);
		return;
	}
	if (v->state == VCPU_WAIT_MEMORY)
		__atomic_sub_fetch(&s->waiters, 1, __ATOMIC_SEQ_CST);
	list_del(&v->link);
	if (s->current == v)
		s->current = NULL;
	if (v->state != VCPU_OFF)
		set_state(v, VCPU_OFF);
	publish(s);
	lock_release(&s->lock);
}

void sched_stop(struct vcpu *v)
{
	struct sched_cpu *here = sched_this(), *s;
	u32 on;

	lock_assert_none();
	CHECK(here->id == 0); /* two CPUs that stop each other's vCPUs would wait for each other */
	stop_begin(v, true);
	while (READ_ONCE(v->state) != VCPU_OFF)
		platform_relax();
	on = __atomic_load_n(&v->loaded_on, __ATOMIC_ACQUIRE);
	if (on == here->id) {
		unload(here);
	} else if (on != CPU_NONE) {
		s = cpus[on];
		__atomic_store_n(&s->unload, 1, __ATOMIC_SEQ_CST);
		WRITE_ONCE(s->idle, 0);
		kick(s);
		while (__atomic_load_n(&v->loaded_on, __ATOMIC_ACQUIRE) != CPU_NONE)
			platform_relax();
	}
}

void sched_retire(struct vcpu *v)
{
	stop_begin(v, false);
}

void sched_poke(struct vcpu *v)
{
	struct sched_cpu *s = lock_of(v);

	if (v->wait_since_ns) /* what it waits for, it waits for from now on */
		WRITE_ONCE(v->wait_since_ns, platform_now_ns());
	publish(s);
	if (v->state == VCPU_READY)
		announce(s, v);
	kick(s);
	lock_release(&s->lock);
}

/* ---- waiting for an event ------------------------------------------------ */

static __attribute__((noinline)) void wake_locked(struct vcpu *v)
{
	struct sched_cpu *s = lock_of(v);

	if (v->state == VCPU_HALTED) {
		wake_up(s, v);
	} else {
		v->wake = true;
		if (v->state == VCPU_RUNNING)
			kick(s); /* the upcall goes in with the next entry */
	}
	lock_release(&s->lock);
}

void sched_wake(struct vcpu *v)
{
	/* here, in the host: only this CPU takes it out of RUNNING, and it looks at `wake` before that */
	if (sched_this()->current == v)
		WRITE_ONCE(v->wake, true);
	else
		wake_locked(v);
}

void sched_halt(struct vcpu *v)
{
	struct sched_cpu *s = lock_of(v);

	CHECK(s->current == v);
	WRITE_ONCE(v->wait_since_ns, 0); /* who sleeps has what it waited for */
	if (!v->wake && !v->stop) {
		set_state(v, VCPU_HALTED);
		s->current = NULL;
	}
	v->wake = false;
	lock_release(&s->lock);
}

/* ---- waiting for memory -------------------------------------------------- */

void sched_note_wakes(struct vcpu *v)
{
	v->wakes_seen = __atomic_load_n(&v->vm->mem_wakes, __ATOMIC_SEQ_CST);
	v->host_wakes_seen = __atomic_load_n(&host_wakes, __ATOMIC_SEQ_CST);
}

static bool woken(const struct vcpu *v)
{
	return __atomic_load_n(&v->vm->mem_wakes, __ATOMIC_SEQ_CST) != v->wakes_seen ||
	       __atomic_load_n(&host_wakes, __ATOMIC_SEQ_CST) != v->host_wakes_seen;
}

/* Woken, refused and back at once is one wait. */
static void note_wait(struct vcpu *v, u64 what)
{
	u64 now = platform_now_ns(), ran = v->ns_in[VCPU_RUNNING] + now - v->since_ns;

	if (v->wait_what != what || ran - v->wait_ran_ns > SAME_WAIT_NS || !v->wait_since_ns)
		WRITE_ONCE(v->wait_since_ns, now);
	v->wait_what = what;
	v->wait_ran_ns = ran;
	WRITE_ONCE(v->wait_seen_ns, now);
}

u64 sched_starved_ns(const struct vcpu *v, u64 now_ns)
{
	u64 since = READ_ONCE(v->wait_since_ns), seen = READ_ONCE(v->wait_seen_ns);
	bool waits = READ_ONCE(v->state) == VCPU_WAIT_MEMORY || now_ns - seen < STILL_WAITS_NS;

	return waits && since && now_ns > since ? now_ns - since : 0;
}

void sched_wait_memory(struct vcpu *v, u64 what)
{
	struct sched_cpu *s = lock_of(v);

	CHECK(s->current == v);
	note_wait(v, what);
	__atomic_add_fetch(&s->waiters, 1, __ATOMIC_SEQ_CST);
	if (v->stop || woken(v)) {
		__atomic_sub_fetch(&s->waiters, 1, __ATOMIC_SEQ_CST);
	} else {
		set_state(v, VCPU_WAIT_MEMORY);
		list_add_tail(&s->memory, &v->link);
		s->current = NULL;
	}
	lock_release(&s->lock);
}

static void wake_waiters(struct sched_cpu *s)
{
	lock_acquire(&s->lock);
	list_for_each_safe (l, &s->memory) {
		struct vcpu *v = list_entry(l, struct vcpu, link);

		if (!woken(v))
			continue;
		list_del(&v->link);
		__atomic_sub_fetch(&s->waiters, 1, __ATOMIC_SEQ_CST);
		wake_up(s, v);
	}
	lock_release(&s->lock);
}

void sched_wake_memory(struct vm *vm)
{
	u32 count = cpu_count();

	__atomic_add_fetch(vm ? &vm->mem_wakes : &host_wakes, 1, __ATOMIC_SEQ_CST);
	for (u32 i = 0; i < count; i++)
		if (cpus[i] && __atomic_load_n(&cpus[i]->waiters, __ATOMIC_SEQ_CST))
			wake_waiters(cpus[i]);
}

static __attribute__((noinline)) void bill(struct sched_cpu *s)
{
	u64 ns = s->unbilled_ns;
	struct vcpu *v;

	s->unbilled_ns = 0;
	lock_acquire(&s->lock);
	v = s->current;
	if (v) {
		v->since_ns += ns;
		v->charged_ns += ns;
		v->ns_in[VCPU_READY] += ns;
	}
	lock_release(&s->lock);
}

void sched_host_ran(struct sched_cpu *s, u64 ns)
{
	s->host_ns += ns;
	s->unbilled_ns += ns;
	if (s->unbilled_ns >= HOST_BILL_NS || !s->current) /* a timer here and there is not worth the lock */
		bill(s);
}

/* ---- choosing ------------------------------------------------------------ */

/* The running vCPU's turn may be over. s->lock held. */
static void give_way(struct sched_cpu *s)
{
	struct vcpu *v = s->current;
	u64 now = platform_now_ns();
	bool resched = __atomic_exchange_n(&s->resched, 0, __ATOMIC_ACQ_REL);

	if (!v)
		return;
	charge(v, now);
	if (!v->stop && !resched && now < s->slice_end_ns && vm_may_run(v->vm) && !parked_until(v->vm, now))
		return;
	s->current = NULL;
	if (v->stop)
		set_state(v, VCPU_OFF);
	else
		enqueue(s, v);
}

/* s->lock held; v on s's queue. */
static void run_now(struct sched_cpu *s, struct vcpu *v, struct sched_cpu *to)
{
	list_del(&v->link);
	set_state(v, VCPU_RUNNING);
	if (v->slices++ == 0)
		vcpu_note_first_run(v);
	v->cpu = to->id;
	advance_clock(v->vtime);
	publish(s);
}

static struct vcpu *take_own(struct sched_cpu *s, u64 *vtime)
{
	u64 unpark;
	struct vcpu *v = best_of(s, false, &unpark);

	*vtime = v ? v->vtime : ~0UL;
	return v;
}

/* The CPU with a vCPU worth taking by one whose own best is at `vtime`. */
static struct sched_cpu *victim_for(const struct sched_cpu *s, u64 vtime)
{
	struct sched_cpu *victim = NULL;
	u64 least = vtime == ~0UL ? ~0UL : vtime > STEAL_NS ? vtime - STEAL_NS : 0;
	u32 count = cpu_count();

	for (u32 i = 1; i < count; i++) {
		struct sched_cpu *o = cpus[(s->id + i) % count];
		u64 best = o ? __atomic_load_n(&o->best_vtime, __ATOMIC_SEQ_CST) : ~0UL;

		if (best < least) {
			least = best;
			victim = o;
		}
	}
	return victim;
}

static struct vcpu *steal(struct sched_cpu *s, struct sched_cpu *from)
{
	struct vcpu *v;
	u64 unpark;

	lock_acquire(&from->lock);
	v = best_of(from, true, &unpark);
	if (v)
		run_now(from, v, s);
	else
		publish(from);
	lock_release(&from->lock);
	return v;
}

/*
 * The common case, without the lock: whoever ran goes on. `current` is this CPU's own; who wants it to end says so
 * (stop, resched, unload, the VM's state) and then kicks this CPU, so that what is seen too late here ends the guest's
 * turn at once. A VM with a cap is charged each time.
 */
static struct vcpu *goes_on(const struct sched_cpu *s, u64 now)
{
	struct vcpu *v = s->current;

	if (!v || READ_ONCE(v->stop) || READ_ONCE(s->resched) || READ_ONCE(s->unload) || v->vm->config.cpu_cap ||
	    !vm_may_run(v->vm) || now >= s->slice_end_ns)
		return NULL;
	return v;
}

static struct vcpu *choose(struct sched_cpu *s)
{
	struct sched_cpu *victim = NULL;
	struct vcpu *v;
	u64 vtime;

	lock_acquire(&s->lock);
	give_way(s);
	v = s->current;
	if (!v) {
		v = take_own(s, &vtime);
		victim = cpu_count() > 1 ? victim_for(s, vtime) : NULL;
		if (v && !victim)
			run_now(s, v, s);
	}
	lock_release(&s->lock);
	if (victim) {
		v = steal(s, victim);
		s->steals += v != NULL;
		lock_acquire(&s->lock);
		if (!v && (v = take_own(s, &vtime)))
			run_now(s, v, s);
		lock_release(&s->lock);
	}
	return v;
}

static __attribute__((noinline)) struct vcpu *pick_anew(struct sched_cpu *s)
{
	struct vcpu *v = choose(s);
	bool asked = __atomic_exchange_n(&s->unload, 0, __ATOMIC_ACQ_REL);

	if (s->loaded && s->loaded != v && (v || asked))
		unload(s);
	if (!v || v == s->current)
		return v;
	lock_acquire(&s->lock);
	s->current = v;
	s->unbilled_ns = 0; /* another's */
	s->loaded = v;
	WRITE_ONCE(v->loaded_on, s->id);
	s->slice_end_ns = v->since_ns + SLICE_NS;
	if (v->stop) /* meanwhile */
		give_way(s);
	v = s->current;
	lock_release(&s->lock);
	return v;
}

struct vcpu *sched_pick(struct sched_cpu *s, u64 now)
{
	struct vcpu *v = goes_on(s, now);

	return v ? v : pick_anew(s);
}

/* ---- sleeping ------------------------------------------------------------ */

bool sched_idle_begin(struct sched_cpu *s)
{
	u32 count = cpu_count();
	bool any;

	__atomic_store_n(&s->idle, 1, __ATOMIC_SEQ_CST);
	lock_acquire(&s->lock);
	any = best_of(s, false, &s->unpark_ns) || READ_ONCE(s->unload);
	lock_release(&s->lock);
	for (u32 i = 0; i < count && !any; i++)
		any = cpus[i] && cpus[i] != s && __atomic_load_n(&cpus[i]->best_vtime, __ATOMIC_SEQ_CST) != ~0UL;
	any |= READ_ONCE(freeze) != 0;
	if (any)
		sched_idle_end(s);
	return !any;
}

void sched_idle_end(struct sched_cpu *s)
{
	WRITE_ONCE(s->idle, 0);
}

void sched_freeze_point(struct sched_cpu *s)
{
	u32 n;

	while ((n = __atomic_load_n(&freeze, __ATOMIC_ACQUIRE)) && s->id != 0) {
		__atomic_store_n(&s->frozen, n, __ATOMIC_RELEASE);
		platform_relax();
	}
}

void sched_freeze(void)
{
	CHECK(this_cpu()->lib.id == 0);
	lock_assert_none();
	__atomic_store_n(&freeze, ++freezes, __ATOMIC_SEQ_CST);
	for (u32 i = 1; i < cpu_count(); i++) {
		cpu_kick(i);
		while (__atomic_load_n(&cpus[i]->frozen, __ATOMIC_ACQUIRE) != freezes)
			platform_relax();
	}
}

void sched_thaw(void)
{
	__atomic_store_n(&freeze, 0, __ATOMIC_RELEASE);
}

/* ---- figures and start --------------------------------------------------- */

bool sched_cpu_stats(u32 id, struct sched_cpu_stats *out)
{
	const struct sched_cpu *s = sched_at(id);

	if (!s)
		return false;
	*out = (struct sched_cpu_stats){
	    .idle_ns = READ_ONCE(s->idle_ns), .host_ns = READ_ONCE(s->host_ns), .steals = READ_ONCE(s->steals)};
	lock_acquire(&cpus[id]->lock);
	list_for_each (l, &s->ready)
		out->ready++;
	out->running = s->current != NULL;
	lock_release(&cpus[id]->lock);
	return true;
}

int sched_init_cpu(void)
{
	hfn_t hfn = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	struct sched_cpu *s;

	if (hfn == HFN_NONE)
		return E_NOMEM;
	s = mm_hfn_to_va(hfn);
	s->id = this_cpu()->lib.id;
	lock_init(&s->lock, "sched", LOCK_RANK_SCHED);
	list_init(&s->ready);
	list_init(&s->memory);
	s->best_vtime = s->unpark_ns = ~0UL;
	s->armed_ns = ~0UL;
	this_cpu()->vmm = s;
	cpus[s->id] = s;
	return 0;
}
