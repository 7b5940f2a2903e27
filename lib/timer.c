/* Software timers: on each CPU a list sorted by deadline (there are few, a handful per VM) behind that CPU's lock. */
#include "lib/timer.h"

#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/work.h"

void timer_init(struct timer *t, void (*fn)(struct timer *t))
{
	*t = (struct timer){.fn = fn, .home = WORK_BOOT_CPU, .cpu = WORK_BOOT_CPU};
	list_init(&t->link);
}

void timer_init_local(struct timer *t, void (*fn)(struct timer *t))
{
	timer_init(t, fn);
	t->home = TIMER_LOCAL;
}

static void note_next(struct lib_cpu *cpu)
{
	struct list *head = &cpu->timers;
	u64 next = list_empty(head) ? TIMER_NEVER : list_entry(head->next, struct timer, link)->deadline_ns;

	WRITE_ONCE(cpu->timer_next, next);
}

/* cpu->timer_lock held. */
static void take_off(struct lib_cpu *cpu, struct timer *t)
{
	if (!t->armed)
		return;
	t->armed = false;
	list_del(&t->link);
	note_next(cpu);
}

/* From the back: most timers are armed further ahead than those already there; equal ones keep their order. */
static void insert(struct lib_cpu *cpu, struct timer *t, u64 deadline_ns)
{
	struct list *head = &cpu->timers, *before = head->prev;

	while (before != head && list_entry(before, struct timer, link)->deadline_ns > deadline_ns)
		before = before->prev;
	t->deadline_ns = deadline_ns;
	t->armed = true;
	list_insert_between(&t->link, before, before->next);
	note_next(cpu);
}

void timer_cancel(struct timer *t)
{
	struct lib_cpu *cpu = platform_cpu(t->cpu);

	lock_acquire(&cpu->timer_lock);
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
	take_off(cpu, t);
	insert(cpu, t, deadline_ns);
	first = cpu->timers.next == &t->link;
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

/* The due ones leave the list first: a function that arms again at or before now would keep us here. */
static void collect_due(struct lib_cpu *cpu, u64 now_ns)
{
	struct list *head = &cpu->timers;

	while (!list_empty(head) && list_entry(head->next, struct timer, link)->deadline_ns <= now_ns)
		list_add_tail(&cpu->timers_due, list_pop(head));
	note_next(cpu);
}

void timer_run_expired(u64 now_ns)
{
	struct lib_cpu *cpu = platform_this_cpu();
	struct list *link;

	if (timer_next_ns() > now_ns)
		return;
	lock_acquire(&cpu->timer_lock);
	collect_due(cpu, now_ns);
	while ((link = list_pop(&cpu->timers_due))) {
		struct timer *t = list_entry(link, struct timer, link);

		t->armed = false;
		cpu->timer_running = t;
		lock_release(&cpu->timer_lock);
		t->fn(t);
		/* The timer's memory may be gone by now. */
		__atomic_store_n(&cpu->timer_running, NULL, __ATOMIC_RELEASE);
		lock_acquire(&cpu->timer_lock);
	}
	lock_release(&cpu->timer_lock);
}
