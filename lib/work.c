/*
 * Deferred work of one CPU, first in first out. The list is its CPU's own: interrupts are off whenever the
 * hypervisor runs, and handlers run only in windows in which nothing else does. Other CPUs push onto `posted`, a stack
 * without a lock, which the owner takes as a whole; whoever finds it empty sends the kick.
 */
#include "lib/work.h"

#include "lib/lock.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "lib/timer.h"

static struct work_kind kinds[WORK_KINDS_MAX];
static u32 kind_count;

void lib_cpu_init(struct lib_cpu *cpu, u32 id)
{
	*cpu = (struct lib_cpu){.id = id, .timer_next = TIMER_NEVER};
	lock_init(&cpu->timer_lock, "timers", LOCK_RANK_WORK);
	list_init(&cpu->work);
}

/* ---- what items took ---- */

static struct work_kind *kind_of(const char *name)
{
	u32 i = 0;

	while (i < kind_count && !str_eq(kinds[i].name, name))
		i++;
	if (i == kind_count && i < WORK_KINDS_MAX)
		kinds[kind_count++].name = name;
	return &kinds[MIN(i, WORK_KINDS_MAX - 1)];
}

const struct work_kind *work_kind(u32 i)
{
	return i < kind_count ? &kinds[i] : NULL;
}

void work_kinds_reset(void)
{
	for (u32 i = 0; i < kind_count; i++)
		kinds[i] = (struct work_kind){.name = kinds[i].name};
}

static void note_time(struct work_kind *k, u64 ns)
{
	k->runs++;
	k->ns += ns;
	if (ns > k->longest_ns)
		k->longest_ns = ns;
}

/* ---- items ---- */

void work_init_on(struct work *w, u32 home, const char *name, void (*fn)(struct work *w))
{
	*w = (struct work){.fn = fn, .name = name, .home = home, .kind = kind_of(name)};
	list_init(&w->link);
}

void work_init(struct work *w, const char *name, void (*fn)(struct work *w))
{
	work_init_on(w, WORK_BOOT_CPU, name, fn);
}

static void post(struct lib_cpu *home, struct work *w)
{
	struct work *first = __atomic_load_n(&home->posted, __ATOMIC_RELAXED);

	do
		w->next = first;
	while (!__atomic_compare_exchange_n(&home->posted, &first, w, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	if (!first)
		platform_kick(home->id);
}

void work_queue(struct work *w)
{
	struct lib_cpu *cpu = platform_this_cpu();

	if (__atomic_exchange_n(&w->queued, 1, __ATOMIC_ACQ_REL))
		return;
	if (w->home == cpu->id)
		list_add_tail(&cpu->work, &w->link);
	else
		post(platform_cpu(w->home), w);
}

bool work_pending(void)
{
	struct lib_cpu *cpu = platform_this_cpu();

	return !list_empty(&cpu->work) || __atomic_load_n(&cpu->posted, __ATOMIC_ACQUIRE);
}

bool work_is_queued(const struct work *w)
{
	return __atomic_load_n(&w->queued, __ATOMIC_ACQUIRE);
}

/* Moves what others have posted to the list, oldest first. */
static void take_posted(struct lib_cpu *cpu)
{
	struct work *w = __atomic_exchange_n(&cpu->posted, NULL, __ATOMIC_ACQUIRE);
	struct list *at = cpu->work.prev;

	for (; w; w = w->next)
		list_insert_between(&w->link, at, at->next);
}

u32 work_run(u32 max)
{
	struct lib_cpu *cpu = platform_this_cpu();
	u32 ran = 0;

	for (; ran < max; ran++) {
		struct work_kind *kind;
		struct list *link;
		struct work *w;
		u64 from;

		if (READ_ONCE(cpu->posted))
			take_posted(cpu);
		link = list_pop(&cpu->work);
		if (!link)
			break;
		w = list_entry(link, struct work, link);
		w->runs++;
		kind = w->kind; /* fn may be the end of w. NULL: a static item, which nobody made by work_init() */
		/* Before the call: what arrives while fn runs must queue it again. */
		__atomic_store_n(&w->queued, 0, __ATOMIC_RELEASE);
		from = platform_now_ns();
		w->fn(w);
		if (kind)
			note_time(kind, platform_now_ns() - from);
		lock_assert_none();
	}
	return ran;
}
