/* See kernel.h. */
#include "guest/kernel/kernel.h"
#include "guest/kernel/app.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/panic.h"
#include "lib/string.h"

#define PUBLISH_NS     (200 * NSEC_PER_MSEC)
#define TELL_PAGES_MIN 256 /* of the cache, each time that figures are published */
#define TELL_PAGES_MAX 4096
#define TELL_ROUND     64 /* so often for all of it */
#define REGION_RESERVE 96 /* pages an application leaves to the kernel, at least */

void kernel_init(struct kernel *k, void *meta, u32 first_free, u32 low_first, u32 low_end)
{
	smp_init(&k->events);
	ram_init(&k->ram, (u32)(k->start.memory_bytes >> PAGE_SHIFT),
		 grow_max(k->start.memory_bytes, k->start.memory_max), meta);
	ram_release(&k->ram, low_first, low_end);
	ram_release(&k->ram, first_free, k->ram.pages);
}

static u32 need_memory(void *arg, u32 want)
{
	struct kernel *k = arg;
	u32 n = cache_shrink(&k->cache, want, false);

	if (!n)
		n = grow_step(k);
	return n ? n : balloon_relieve(&k->balloon, clock_ns(&k->clock));
}

static void squeezed(void *arg, u32 pfn)
{
	struct kernel *k = arg;

	balloon_take_ready(&k->balloon, pfn);
}

static void must(int err, const char *what)
{
	if (err)
		panic("%s: error %d", what, err);
}

/* The shared page, events and clock; from here on all calls are allowed. */
static void greet(struct kernel *k)
{
	u64 without;
	s64 granted;

	must(args_number(&k->args, "without", ~0u, 0, &without), "without");
	k->info = ram_array(&k->ram, PAGE_SIZE);
	if (!k->info)
		panic("no memory for the shared page");
	granted = arch_hypercall(AERO_CALL_HELLO, AERO_ABI_VERSION, KERNEL_FEATURES & ~without, arch_pa(k->info), NULL);
	if (granted < 0)
		panic("hello refused: %ld", granted);
	k->features = (u32)granted;
	k->hello = true;
	events_init(&k->events, &k->info->events);
	clock_attach(&k->clock, k->info);
	must((int)arch_hypercall(AERO_CALL_UPCALL, KERNEL_UPCALL_VECTOR, 0, 0, NULL), "upcall");
	if (k->features & AERO_FEATURE_SMP)
		smp_prepare(k->start.vcpus, k->info);
}

static void open_disk(struct kernel *k)
{
	int err = k->features & AERO_FEATURE_DISK && k->start.disks ? disk_open(&k->disk, 0, &k->ram) : E_NOENT;

	if (err == 0)
		print("disk 0: %lu MiB\n", k->disk.pages * PAGE_SIZE / MIB);
	else
		print("disk 0: none (%d): no paging\n", err);
	if (err)
		k->disk = (struct disk){.index = 0};
}

/* seed: what a workload does is as random, and the same in each VM of this name. */
static void choose_seed(struct kernel *k)
{
	memcpy(&k->seed, k->start.random, sizeof(k->seed));
	must(args_number(&k->args, "seed", ~0UL, k->seed, &k->seed), "seed");
	k->seed ^= hash_bytes(k->start.name, strlen(k->start.name), 0);
}

void kernel_contract(struct kernel *k)
{
	int err = args_parse(&k->args, k->start.cmdline);

	clock_init(&k->clock, k->start.tsc_khz);
	greet(k);
	if (err)
		print("command line is too long: cut\n");
	choose_seed(k);
	print("aerostat guest: %s, %lu MiB, %u vCPU, features %#x\n", k->start.name, k->start.memory_bytes / MIB,
	      k->start.vcpus, k->features);
	open_disk(k);
	pager_prepare(&k->pager, &k->ram, &k->ptab, &k->disk, &k->clock);
	cache_prepare(&k->cache, &k->ram, &k->disk, &k->clock);
	must(hints_init(&k->hints, &k->ram, k->features), "hints");
	k->pager.hints = k->cache.hints = &k->hints;
	must(balloon_init(&k->balloon, &k->ram, &k->pager, &k->cache, k->info, k->features), "balloon");
	k->pager.need_memory = need_memory;
	k->pager.squeezed = squeezed;
	k->pager.arg = k;
}

/*
 * Memory that may be added counts as far as the disk has room for what would go there: until it is, or while the host
 * is short of it, the rest is paged.
 */
u32 kernel_region_max(const struct kernel *k, u64 slots)
{
	u64 reserve = MAX(REGION_RESERVE, k->balloon.reserve / 2), max, more;

	if (k->ram.count[RAM_FREE] <= reserve)
		return 0;
	/* Bytes a page in tables of the pager (8 an entry, 12 a page) and the workload (2 for each vCPU, and 2). */
	max = (k->ram.count[RAM_FREE] - reserve) * PAGE_SIZE / (PAGE_SIZE + 22 + 2 * smp.count);
	more = k->features & AERO_FEATURE_MEMORY ? MAX(max, (u64)k->ram.max - k->ram.pages) : max;
	if (slots)
		max += MIN(slots, more) * 9 / 10;
	return (u32)MIN(max, GFN_NONE - 1);
}

/* prefault: all free memory has been used before, as after some time of work. */
static void use_free(struct kernel *k)
{
	for (u32 pfn = ram_find(&k->ram, RAM_FREE, 0); pfn != RAM_NONE; pfn = ram_find(&k->ram, RAM_FREE, pfn + 1))
		*(volatile u64 *)arch_phys((u64)pfn << PAGE_SHIFT) = pfn;
}

void kernel_start_app(struct kernel *k)
{
	const char *name;
	int err;

	name = args_text(&k->args, "app", "idle");
	k->app = app_find(name);
	if (!k->app) {
		print("no workload '%s' (there are: %s): idle instead\n", name, app_names());
		k->app = app_find("idle");
	}
	str_copy(k->info->app.name, k->app->name, sizeof(k->info->app.name));
	err = k->app->start(k);
	if (err)
		panic("%s: cannot start: error %d", k->app->name, err);
	if (str_eq(args_text(&k->args, "prefault", ""), "1"))
		use_free(k);
}

static u64 committed(const struct kernel *k)
{
	const u32 *n = k->pager.count;

	return k->ram.count[RAM_KERNEL] + n[VPAGE_RESIDENT] + n[VPAGE_WRITING] + n[VPAGE_SWAPPED] + n[VPAGE_READING];
}

void kernel_publish(struct kernel *k)
{
	const struct pager_stats *s = &k->pager.stats;
	struct aero_info *i = k->info;

	i->memory.total = k->ram.pages;
	i->memory.free = k->ram.count[RAM_FREE];
	i->memory.cached = k->ram.count[RAM_CACHE];
	i->memory.committed = committed(k);
	i->memory.paged_in = s->paged_in;
	i->memory.paged_out = s->paged_out;
	i->memory.allocation_stalls = s->stalls;
	i->memory.major_faults = s->major_faults;
	i->memory.minor_faults = s->minor_faults;
}

static void set_timer(struct kernel *k, u64 until_ns)
{
	if (until_ns == k->timer_ns)
		return;
	arch_hypercall(AERO_CALL_TIMER, until_ns, 0, 0, NULL);
	k->timer_ns = until_ns;
}

void kernel_sleep(struct kernel *k, u64 until_ns)
{
	console_flush();
	if (k->events.collected) /* arrived while the application waited for its disk */
		return;
	set_timer(k, until_ns == KERNEL_NEVER ? 0 : until_ns);
	k->sleeps++;
	smp_sleep();
}

static void handle_events(struct kernel *k)
{
	u64 events = events_take(&k->events, ~0UL);
	char *line;

	if (events & AERO_EVENT_TIMER)
		k->timer_ns = 0;
	if (events & AERO_EVENT_DISK(0))
		disk_reap(&k->disk);
	if (events & AERO_EVENT_BALLOON)
		k->balloon.next_ns = 0;
	if (events & AERO_EVENT_MEMORY)
		grow_step(k);
	if (events & AERO_EVENT_CONSOLE) {
		while ((line = console_poll()))
			kernel_command(k, line);
	}
	if (events & AERO_EVENT_SHUTDOWN)
		k->ending = true;
}

static u64 app_step(struct kernel *k)
{
	u64 wish, until = clock_ns(&k->clock) + KERNEL_SLICE_NS;

	if (!k->app->work)
		return k->app->step(k, until);
	kernel_unlock();
	wish = k->app->step(k, until);
	kernel_lock();
	return wish;
}

static bool turn(struct kernel *k)
{
	u64 now, wish;

	k->loops++;
	handle_events(k);
	if (k->ending)
		return false;
	now = clock_ns(&k->clock);
	if (now >= k->balloon.next_ns)
		balloon_step(&k->balloon, now);
	if (now >= k->stats_ns) {
		grow_step(k); /* what there were no tables for */
		kernel_publish(k);
		cache_tell(&k->cache, CLAMP(k->cache.capacity / TELL_ROUND, TELL_PAGES_MIN, TELL_PAGES_MAX));
		k->stats_ns = now + PUBLISH_NS;
	}
	wish = app_step(k);
	wish = MIN(wish, k->balloon.next_ns);
	if (wish > clock_ns(&k->clock)) {
		kernel_publish(k);
		kernel_sleep(k, wish);
	}
	return true;
}

bool kernel_turn(struct kernel *k)
{
	bool more;

	kernel_lock();
	more = turn(k);
	kernel_unlock();
	return more;
}

/* ---- the other vCPUs ---- */

static void other_sleep(struct smp_cpu *c, u64 until_ns)
{
	u64 timer = until_ns == KERNEL_NEVER ? 0 : until_ns;

	if (c->events->collected) /* while it waited for the lock */
		return;
	if (timer != c->timer_ns)
		arch_hypercall(AERO_CALL_TIMER, timer, 0, 0, NULL);
	c->timer_ns = timer;
	smp_sleep();
}

void kernel_run_other(struct kernel *k)
{
	struct smp_cpu *c = smp_this();
	u64 wish;

	must((int)arch_hypercall(AERO_CALL_UPCALL, KERNEL_UPCALL_VECTOR, 0, 0, NULL), "upcall");
	c->depth = 0;
	c->timer_ns = 0;
	kernel_lock(); /* translations are in order when it is let go of */
	__atomic_or_fetch(&smp.online, BIT(c->index), __ATOMIC_SEQ_CST);
	kernel_unlock();
	smp_send(BIT(0));
	for (;;) {
		c->loops++;
		if (events_take(c->events, ~0UL) & AERO_EVENT_TIMER)
			c->timer_ns = 0;
		wish = k->app->work && !READ_ONCE(k->ending)
			   ? k->app->work(k, c->index, clock_ns(&k->clock) + KERNEL_SLICE_NS)
			   : KERNEL_NEVER;
		if (wish > clock_ns(&k->clock))
			other_sleep(c, wish);
	}
}

void kernel_start_others(void)
{
	for (u32 i = 1; i < smp.count; i++) {
		must((int)arch_start_cpu(i), "start of a vCPU");
		while (!(__atomic_load_n(&smp.online, __ATOMIC_SEQ_CST) & BIT(i)))
			smp_sleep();
	}
	if (smp.count > 1)
		print("%u vCPUs\n", smp.count);
}

void kernel_run(struct kernel *k)
{
	while (kernel_turn(k))
		;
	if (k->app->report)
		k->app->report(k);
	k->info->app.state = 2;
	kernel_publish(k);
	print("%s: ends on request\n", k->app->name);
	kernel_shutdown(AERO_SHUTDOWN_OFF);
}

void kernel_shutdown(enum aero_shutdown how)
{
	console_flush();
	for (;;)
		arch_hypercall(AERO_CALL_SHUTDOWN, how, 0, 0, NULL);
}
