/*
 * Software timers: on each CPU a pairing heap, earliest deadline at the root, behind that CPU's lock. Each of many
 * guests has its timer there, and the one that arms its own must not pay for the others: arming is one comparison.
 */
#include "lib/timer.h"

#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/work.h"

void timer_init(struct timer *t, void (*fn)(struct timer *t))
{
	*t = (struct timer){.fn = fn, .home = WORK_BOOT_CPU, .cpu = WORK_BOOT_CPU};
}

void timer_init_local(struct timer *t, void (*fn)(struct timer *t))
{
	timer_init(t, fn);
	t->home = TIMER_LOCAL;
}

/* ---- the heap: cpu->timer_lock held -------------------------------------- */

static bool earlier(const struct timer *a, const struct timer *b)
{
	return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->order < b->order;
}

/* One heap of two. */
static struct timer *meld(struct timer *a, struct timer *b)
{
	struct timer *first = a, *second = b;

	if (!a || !b)
		return a ? a : b;
	if (earlier(b, a)) {
		first = b;
		second = a;
	}
	second->prev = first;
	second->next = first->child;
	if (second->next)
		second->next->prev = second;
	first->child = second;
	return first;
}

/*
 * One heap of siblings: in pairs from the left, then all from the right, which keeps the cost of a removal logarithmic
 * over many.
 */
static struct timer *meld_siblings(struct timer *first)
{
	struct timer *pairs = NULL, *root = NULL, *a, *b;

	if (!first->next) {
		first->prev = NULL;
		return first;
	}
	while ((a = first)) {
		b = a->next;
		first = b ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b)
			b->next = b->prev = NULL;
		a = meld(a, b);
		a->next = pairs;
		pairs = a;
	}
	while ((a = pairs)) {
		pairs = a->next;
		a->next = NULL;
		root = meld(root, a);
	}
	return root;
}

static void note_next(struct lib_cpu *cpu)
{
	WRITE_ONCE(cpu->timer_next, cpu->timers ? cpu->timers->deadline_ns : TIMER_NEVER);
}

static void take_off(struct lib_cpu *cpu, struct timer *t)
{
	struct timer *below = t->child ? meld_siblings(t->child) : NULL;

	if (t == cpu->timers) {
		cpu->timers = below;
		note_next(cpu);
	} else {
		if (t->prev->child == t)
			t->prev->child = t->next;
		else
			t->prev->next = t->next;
		if (t->next)
			t->next->prev = t->prev;
		cpu->timers = meld(cpu->timers, below);
	}
	t->child = t->next = t->prev = NULL;
	t->armed = false;
}

/*
 * No deadline lies before what has been called already: so what is armed by a timer's function comes after all that
 * were due before it.
 */
static void insert(struct lib_cpu *cpu, struct timer *t, u64 deadline_ns)
{
	t->deadline_ns = MAX(deadline_ns, cpu->timer_ran_ns);
	t->order = cpu->timer_order++;
	t->armed = true;
	cpu->timers = meld(cpu->timers, t);
	if (cpu->timers == t)
		note_next(cpu);
}

/* ---- arming and cancelling ----------------------------------------------- */

void timer_cancel(struct timer *t)
{
	struct lib_cpu *cpu = platform_cpu(t->cpu);

	lock_acquire(&cpu->timer_lock);
	if (t->armed)
		take_off(cpu, t);
	lock_release(&cpu->timer_lock);
}

void timer_arm(struct timer *t, u64 deadline_ns)
{
	struct lib_cpu *here = platform_this_cpu(), *cpu = t->home == TIMER_LOCAL ? here : platform_cpu(t->home);
	bool first;

	if (t->cpu != cpu->id) {
		timer_cancel(t);
		t->cpu = cpu->id;
	}
	lock_acquire(&cpu->timer_lock);
	if (t->armed)
		take_off(cpu, t);
	insert(cpu, t, deadline_ns);
	first = cpu->timers == t;
	lock_release(&cpu->timer_lock);
	if (first && cpu != here)
		platform_kick(cpu->id);
}

void timer_cancel_sync(struct timer *t)
{
	struct lib_cpu *cpu = platform_cpu(t->cpu);

	lock_assert_none();
	timer_cancel(t);
	while (cpu != platform_this_cpu() && __atomic_load_n(&cpu->timer_running, __ATOMIC_ACQUIRE) == t)
		platform_relax();
	CHECK(!READ_ONCE(t->armed)); /* a function that arms itself again has another way to end */
}

u64 timer_next_ns(void)
{
	return READ_ONCE(platform_this_cpu()->timer_next);
}

void timer_run_expired(u64 now_ns)
{
	struct lib_cpu *cpu = platform_this_cpu();
	struct timer *t;
	u64 order;

	if (timer_next_ns() > now_ns)
		return;
	lock_acquire(&cpu->timer_lock);
	cpu->timer_ran_ns = MAX(cpu->timer_ran_ns, now_ns);
	order = cpu->timer_order;
	/*
	 * Those armed meanwhile wait for the next call: a function that arms again at or before now would keep us here.
	 */
	while ((t = cpu->timers) && t->deadline_ns <= now_ns && t->order < order) {
		take_off(cpu, t);
		cpu->timer_running = t;
		lock_release(&cpu->timer_lock);
		t->fn(t);
		/* The timer's memory may be gone by now. */
		__atomic_store_n(&cpu->timer_running, NULL, __ATOMIC_RELEASE);
		if (timer_next_ns() > now_ns) /* most often; what another CPU arms from now on comes with a kick */
			return;
		lock_acquire(&cpu->timer_lock);
	}
	lock_release(&cpu->timer_lock);
}
