/*
 * Deferred work of one CPU, first in first out. The list is this CPU's own: interrupts are off whenever the
 * hypervisor runs, and handlers run only in windows in which nothing else does, so the list needs no
 * lock. Only the queued flag is shared among CPUs.
 */
#include "lib/work.h"

#include "lib/lock.h"
#include "lib/platform.h"

void lib_cpu_init(struct lib_cpu *cpu, u32 id)
{
	*cpu = (struct lib_cpu){.id = id};
	list_init(&cpu->work);
	list_init(&cpu->timers);
}

void work_init(struct work *w, const char *name, void (*fn)(struct work *w))
{
	*w = (struct work){.fn = fn, .name = name};
	list_init(&w->link);
}

void work_queue(struct work *w)
{
	if (__atomic_exchange_n(&w->queued, 1, __ATOMIC_ACQ_REL))
		return;
	list_add_tail(&platform_this_cpu()->work, &w->link);
}

bool work_pending(void)
{
	return !list_empty(&platform_this_cpu()->work);
}

bool work_is_queued(const struct work *w)
{
	return __atomic_load_n(&w->queued, __ATOMIC_ACQUIRE);
}

u32 work_run(u32 max)
{
	struct lib_cpu *cpu = platform_this_cpu();
	u32 ran = 0;

	for (; ran < max; ran++) {
		struct list *link = list_pop(&cpu->work);
		struct work *w;

		if (!link)
			break;
		w = list_entry(link, struct work, link);
		w->runs++;
		/* Before the call: what arrives while fn runs must queue it again. */
		__atomic_store_n(&w->queued, 0, __ATOMIC_RELEASE);
		w->fn(w);
		lock_assert_none();
	}
	return ran;
}
