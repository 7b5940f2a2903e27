/* See region.h. */
#include "guest/apps/region.h"
#include "guest/kernel/app.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "lib/err.h"
#include "lib/panic.h"

#define FAULTS_PRINTED 8       /* wrong pages described; all are counted */
#define BUSY           0x8000u /* in a generation: its thread is writing */
#define CHECK_TRIES    50      /* to find another thread's words at rest */

static int bad_argument(const char *key, int err)
{
	print("bad argument: %s=\n", key);
	return err;
}

static int read_pages(struct kernel *k, u32 percent, u64 *pages)
{
	u64 whole = k->ram.pages;
	int err = args_pages(&k->args, "mem", whole, whole * percent / 100, pages);

	return err ? bad_argument("mem", err) : 0;
}

static int read_mix(struct region *r, struct kernel *k)
{
	int err;

	err = args_percent(&k->args, "zero", r->content.zero_percent, &r->content.zero_percent);
	if (err)
		return bad_argument("zero", err);
	err = args_percent(&k->args, "same", r->content.same_percent, &r->content.same_percent);
	if (err)
		return bad_argument("same", err);
	err = args_percent(&k->args, "soft", 0, &r->content.soft_percent);
	return err ? bad_argument("soft", err) : 0;
}

static int read_threads(struct region *r, struct kernel *k, u32 most)
{
	u64 threads;
	int err = args_number(&k->args, "cpus", SMP_CPUS_MAX, most, &threads);

	r->threads = (u32)CLAMP(threads, 1, MIN(most, smp.count));
	return err ? bad_argument("cpus", err) : 0;
}

static int create(struct region *r, u64 pages, u32 threads, u64 slots)
{
	struct kernel *k = r->k;
	u32 max;
	int err = read_mix(r, k);

	if (!err)
		err = read_threads(r, k, threads);
	if (err)
		return err;
	for (u32 t = 0; t < r->threads; t++)
		prng_seed(&r->thread[t].prng, k->seed + t);
	max = kernel_region_max(k, slots);
	if (pages > max)
		print("%s: %lu pages do not fit: %u\n", k->app->name, pages, max);
	r->pages = (u32)CLAMP(pages, 1, MAX(max, 1));
	r->generation = ram_array(&k->ram, (size_t)r->pages * r->threads * sizeof(*r->generation));
	if (!r->generation)
		return E_NOMEM;
	return pager_create(&k->pager, r->pages, slots);
}

int region_create(struct region *r, struct kernel *k, u32 otherwise_percent, u32 zero_percent, u32 same_percent,
		  u32 threads)
{
	u64 pages;
	int err = read_pages(k, otherwise_percent, &pages);

	*r = (struct region){.k = k, .content = {k->seed, zero_percent, same_percent}};
	return err ? err : create(r, pages, threads, disk_present(&k->disk) ? k->disk.pages : 0);
}

int region_create_pages(struct region *r, struct kernel *k, u32 pages, u64 slots, u32 zero_percent, u32 same_percent)
{
	*r = (struct region){.k = k, .content = {k->seed, zero_percent, same_percent}};
	return create(r, pages, 1, slots);
}

static u16 *generation_of(struct region *r, u32 thread, u32 page)
{
	return &r->generation[(size_t)page * r->threads + thread];
}

static void *touch(struct region *r, u32 page, bool write)
{
	return arch_app_page(&r->k->pager, page, write);
}

static void fill(struct region *r, u32 thread, u32 page, u32 generation)
{
	struct content_part part = {page, thread, r->threads};

	if (r->threads == 1)
		content_fill(&r->content, page, generation, touch(r, page, true));
	else
		content_fill_part(&r->content, &part, generation, touch(r, page, true));
}

bool region_fill(struct region *r, u32 thread, u64 until_ns)
{
	struct region_thread *t = &r->thread[thread];

	while (t->filled < r->pages) {
		fill(r, thread, t->filled, *generation_of(r, thread, t->filled));
		__atomic_store_n(&t->filled, t->filled + 1, __ATOMIC_RELEASE);
		if (clock_ns(&r->k->clock) >= until_ns)
			break;
	}
	return t->filled == r->pages;
}

bool region_shrink(struct region *r, u32 to, u64 until_ns)
{
	struct region_thread *t = &r->thread[0];
	struct kernel *k = r->k;

	CHECK(r->threads == 1);
	while (t->filled > to) {
		u32 n = MIN(t->filled - to, PAGER_BATCH), first = t->filled - n, done = 0;

		for (u32 i = 0; i < n; i++)
			region_read(r, 0, first + i);
		t->filled = first;
		while (done < n) {
			done += pager_discard(&k->pager, first + done, n - done);
			if (done < n)
				disk_wait_any(&k->disk);
		}
		for (u32 i = 0; i < n; i++) /* another content next time */
			++*generation_of(r, 0, first + i);
		if (clock_ns(&k->clock) >= until_ns)
			break;
	}
	return t->filled == to;
}

static u32 filled(const struct region *r)
{
	u32 least = r->pages;

	for (u32 t = 0; t < r->threads; t++)
		least = MIN(least, __atomic_load_n(&r->thread[t].filled, __ATOMIC_ACQUIRE));
	return least;
}

bool region_filled(const struct region *r)
{
	return filled(r) == r->pages;
}

static void complain(struct region *r, u32 thread, u32 page, u32 of, u32 generation, const struct content_fault *f)
{
	if (r->thread[thread].bad++ < FAULTS_PRINTED)
		print("%s: BAD page %u of thread %u generation %u: %s; at %u found %#lx, expected %#lx (vCPU %u)\n",
		      r->k->app->name, page, of, generation, f->what, f->offset, f->found, f->expected, thread);
}

/* A thread's own words, or the whole page if there is only one. */
static void check_own(struct region *r, u32 thread, u32 page)
{
	struct content_part part = {page, thread, r->threads};
	u32 generation = *generation_of(r, thread, page);
	const void *p = touch(r, page, false);
	struct content_fault f;
	bool good;

	r->thread[thread].checked++;
	if (r->threads == 1)
		good = content_check(&r->content, page, generation, p, &f);
	else
		good = content_check_part(&r->content, &part, generation, p, &f);
	if (!good)
		complain(r, thread, page, thread, generation, &f);
}

/* The words of thread `of`, if it leaves them alone meanwhile; false: it did not. */
static bool check_other(struct region *r, u32 thread, u32 of, u32 page)
{
	struct content_part part = {page, of, r->threads};
	u16 *generation = generation_of(r, of, page), before = __atomic_load_n(generation, __ATOMIC_ACQUIRE);
	struct content_fault f;
	bool good;

	if (before & BUSY || page >= __atomic_load_n(&r->thread[of].filled, __ATOMIC_ACQUIRE))
		return false;
	good = content_check_part(&r->content, &part, before, touch(r, page, false), &f);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (__atomic_load_n(generation, __ATOMIC_ACQUIRE) != before)
		return false;
	r->thread[thread].checked++;
	if (!good)
		complain(r, thread, page, of, before, &f);
	return true;
}

static void account(struct region *r, u32 thread, u64 begin_ns)
{
	r->thread[thread].window_ops++;
	r->thread[thread].window_busy_ns += clock_ns(&r->k->clock) - begin_ns;
}

void region_read(struct region *r, u32 thread, u32 page)
{
	u64 begin = clock_ns(&r->k->clock);

	check_own(r, thread, page);
	for (u32 of = 0; of < r->threads; of++)
		if (of != thread)
			check_other(r, thread, of, page);
	account(r, thread, begin);
}

static u32 next_generation(const struct region *r, u32 generation)
{
	return r->threads == 1 ? (u16)(generation + 1) : (generation + 1) % BUSY;
}

void region_write(struct region *r, u32 thread, u32 page)
{
	u64 begin = clock_ns(&r->k->clock);
	u16 *generation = generation_of(r, thread, page);
	u32 next = next_generation(r, *generation);

	check_own(r, thread, page);
	if (r->threads > 1)
		__atomic_store_n(generation, next | BUSY, __ATOMIC_SEQ_CST);
	fill(r, thread, page, next);
	__atomic_store_n(generation, (u16)next, __ATOMIC_SEQ_CST);
	r->thread[thread].newest = MAX(r->thread[thread].newest, next);
	r->thread[thread].written++;
	account(r, thread, begin);
}

void region_overwrite(struct region *r, u32 first, u32 n)
{
	struct region_thread *t = &r->thread[0];

	CHECK(r->threads == 1);
	pager_overwrite(&r->k->pager, first, n);
	for (u32 page = first; page < first + n; page++) {
		u64 begin = clock_ns(&r->k->clock);
		u16 *generation = generation_of(r, 0, page);

		fill(r, 0, page, ++*generation);
		t->newest = MAX(t->newest, (u32)*generation);
		t->written++;
		account(r, 0, begin);
	}
}

u32 region_meet(struct region *r)
{
	u32 turn = __atomic_fetch_add(&r->turn, 1, __ATOMIC_RELAXED);

	return (u32)(content_mix(r->content.seed + turn / r->threads) % r->pages);
}

/* ---- all of it ----------------------------------------------------------- */

static struct region_thread sum(const struct region *r)
{
	struct region_thread s = {.filled = filled(r)};

	for (u32 i = 0; i < r->threads; i++) {
		const struct region_thread *t = &r->thread[i];

		s.newest = MAX(s.newest, t->newest);
		s.checked += READ_ONCE(t->checked);
		s.bad += READ_ONCE(t->bad);
		s.written += READ_ONCE(t->written);
		s.window_ops += READ_ONCE(t->window_ops);
		s.window_busy_ns += READ_ONCE(t->window_busy_ns);
	}
	return s;
}

void region_check_begin(struct region *r)
{
	r->checking = true;
	r->check_next = 0;
	r->check_bad = sum(r).bad;
	print("check: begins, %u pages\n", filled(r));
}

static void check_page(struct region *r, u32 page)
{
	u64 begin = clock_ns(&r->k->clock);

	check_own(r, 0, page);
	for (u32 of = 1; of < r->threads; of++)
		for (u32 i = 0; i < CHECK_TRIES && !check_other(r, 0, of, page); i++)
			arch_relax();
	account(r, 0, begin);
}

bool region_check_step(struct region *r, u64 until_ns)
{
	u32 end = filled(r);

	while (r->check_next < end) {
		check_page(r, r->check_next++);
		if (clock_ns(&r->k->clock) >= until_ns)
			return true;
	}
	r->checking = false;
	print("check: %u pages, %lu bad\n", r->check_next, sum(r).bad - r->check_bad);
	return false;
}

void region_publish(struct region *r)
{
	struct aero_info *i = r->k->info;
	struct region_thread s = sum(r);
	u64 now = clock_ns(&r->k->clock);

	i->app.pages_checked = s.checked;
	i->app.errors = s.bad;
	i->app.operations = s.checked + s.filled;
	i->app.state = s.filled == r->pages;
	if (now - r->window_ns < NSEC_PER_SEC)
		return;
	i->app.latency_ns = s.window_ops ? s.window_busy_ns / s.window_ops : 0;
	r->window_ns = now;
	for (u32 t = 0; t < r->threads; t++)
		r->thread[t].window_ops = r->thread[t].window_busy_ns = 0;
}

void region_print(const struct region *r)
{
	const struct kernel *k = r->k;
	struct region_thread s = sum(r);

	print("%s: checked=%lu bad=%lu gen=%u written=%lu resident=%u swapped=%u ballooned=%u\n", k->app->name,
	      s.checked, s.bad, s.newest, s.written, k->pager.count[VPAGE_RESIDENT], k->pager.count[VPAGE_SWAPPED],
	      k->ram.count[RAM_BALLOON]);
}
