/* Software timers of this CPU: a list sorted by deadline (there are few, a handful per VM). */
#include "lib/timer.h"

#include "lib/platform.h"

void timer_init(struct timer *t, void (*fn)(struct timer *t))
{
	*t = (struct timer){.fn = fn};
	list_init(&t->link);
}

void timer_arm(struct timer *t, u64 deadline_ns)
{
	struct list *head = &platform_this_cpu()->timers;
	struct list *before;

	timer_cancel(t);
	before = head->prev;
	/* From the back: most timers are armed further ahead than those already there; equal ones keep their order. */
	while (before != head && list_entry(before, struct timer, link)->deadline_ns > deadline_ns)
		before = before->prev;
	t->deadline_ns = deadline_ns;
	t->armed = true;
	list_insert_between(&t->link, before, before->next);
}

void timer_cancel(struct timer *t)
{
	if (!t->armed)
		return;
	t->armed = false;
	list_del(&t->link);
}

u64 timer_next_ns(void)
{
	struct list *head = &platform_this_cpu()->timers;

	return list_empty(head) ? TIMER_NEVER : list_entry(head->next, struct timer, link)->deadline_ns;
}

void timer_run_expired(u64 now_ns)
{
	struct list *head = &platform_this_cpu()->timers;

	struct list due = LIST_INIT(due), *link;

	/* A callback that re-arms at or before now would keep us here: take the due ones off first. */
	while (!list_empty(head) && list_entry(head->next, struct timer, link)->deadline_ns <= now_ns)
		list_add_tail(&due, list_pop(head));
	while ((link = list_pop(&due))) {
		struct timer *t = list_entry(link, struct timer, link);

		t->armed = false;
		t->fn(t);
	}
}
