/*
 * db: a database's reads through a page cache in guest memory, over a file at the end of disk 0 (the part before it
 * stays swap). size=50% (of the disk, or bytes)  cache=70% (of memory)  update=10% (of operations)  rate=0  report=5
 * (s)  run=0 (s after `ready`: then it reports and rests; 0: for ever). Look-ups are skewed (80 of 100 go to a fifth of
 *      the pages, and so on inside that fifth); every byte of every page
 * read is checked.
 */
#include "guest/apps/apps.h"
#include "guest/apps/file.h"
#include "guest/kernel/console.h"
#include "lib/err.h"
#include "lib/prng.h"
#include "lib/string.h"

#define HOT_PERCENT   20
#define SKEW_PERCENT  80
#define SKEW_SMALLEST 64 /* no skew inside so few pages */

struct db {
	struct file file;
	struct prng prng;
	u32 stride; /* rank to page */
	u32 update_percent;
	u64 rate, report_period_ns, run_ns;
	bool ready, checking, done;
	u32 check_next;
	u64 check_bad;
	u64 operations, updates, checked;
	u64 begin_ns, report_ns, report_operations, report_hits, report_misses;
	u64 window_ns, window_ops, window_busy_ns, window_hits, window_misses;
};

static u32 gcd(u32 a, u32 b)
{
	while (b) {
		u32 t = a % b;

		a = b;
		b = t;
	}
	return a;
}

/* Rank to page: the popular ones are scattered over the file. */
static u32 choose_stride(u32 pages)
{
	u32 stride = (u32)(pages * 618ul / 1000) | 1;

	while (gcd(stride, pages) != 1)
		stride += 2;
	return stride;
}

static int read_args(struct db *d, struct kernel *k, u64 *pages, u64 *cache)
{
	int err = args_pages(&k->args, "size", k->disk.pages, k->disk.pages / 2, pages);

	if (!err)
		err = args_pages(&k->args, "cache", k->ram.pages, k->ram.pages * 70ul / 100, cache);
	if (!err)
		err = args_percent(&k->args, "update", 10, &d->update_percent);
	if (!err)
		err = args_number(&k->args, "rate", 1000000000, 0, &d->rate);
	if (!err)
		err = args_seconds(&k->args, "report", 3600, 5, &d->report_period_ns);
	if (!err)
		err = args_seconds(&k->args, "run", 1000000, 0, &d->run_ns);
	if (err)
		print("db: bad argument\n");
	return err;
}

static int db_start(struct kernel *k)
{
	struct db *d = k->app_state = ram_array(&k->ram, sizeof(*d));
	u64 pages, cache;
	int err;

	if (!d)
		return E_NOMEM;
	if (!file_possible("db", k))
		return E_NOENT;
	prng_seed(&d->prng, k->seed);
	err = read_args(d, k, &pages, &cache);
	if (!err)
		err = file_create(&d->file, "db", k, pages, &(struct content){.seed = k->seed});
	if (!err)
		err = cache_create(&k->cache, d->file.first, d->file.pages,
				   (u32)CLAMP(cache, CACHE_MIN, MAX(d->file.pages, CACHE_MIN)), k->balloon.reserve);
	if (err)
		return err;
	d->stride = choose_stride(d->file.pages);
	print("db: file of %u pages, cache of %u\n", d->file.pages, k->cache.capacity);
	return 0;
}

static void load(struct db *d, struct kernel *k, u64 until_ns)
{
	if (!file_load(&d->file, k, until_ns))
		return;
	d->ready = true;
	d->begin_ns = clock_ns(&k->clock);
	d->report_ns = d->begin_ns + d->report_period_ns;
	k->info->app.state = 1;
	print("db: ready, %u pages loaded\n", d->file.pages);
}

static u32 choose_page(struct db *d)
{
	u64 range = d->file.pages;

	while (range > SKEW_SMALLEST && prng_below(&d->prng, 100) < SKEW_PERCENT)
		range = range * HOT_PERCENT / 100;
	return (u32)(prng_below(&d->prng, range) * d->stride % d->file.pages);
}

static void look_up(struct db *d, struct kernel *k, u32 page, bool update)
{
	void *p = cache_get(&k->cache, page, update);

	if (!p) {
		d->file.failed++;
		return;
	}
	d->checked++;
	file_check(&d->file, page, p);
	if (!update)
		return;
	content_fill(&d->file.content, page, ++d->file.generation[page], p);
	d->updates++;
}

static void operate(struct db *d, struct kernel *k)
{
	u64 begin = clock_ns(&k->clock);

	look_up(d, k, choose_page(d), prng_below(&d->prng, 100) < d->update_percent);
	d->operations++;
	d->window_ops++;
	d->window_busy_ns += clock_ns(&k->clock) - begin;
}

static u32 permille(u64 hits, u64 misses)
{
	return hits + misses ? (u32)(hits * 1000 / (hits + misses)) : 0;
}

static void publish(struct db *d, struct kernel *k)
{
	struct aero_info *i = k->info;
	const struct cache_stats *s = &k->cache.stats;
	u64 now = clock_ns(&k->clock);

	i->app.operations = d->operations;
	i->app.errors = d->file.bad;
	i->app.pages_checked = d->checked;
	if (now - d->window_ns < NSEC_PER_SEC)
		return;
	i->app.latency_ns = d->window_ops ? d->window_busy_ns / d->window_ops : 0;
	i->app.hit_permille = permille(s->hits - d->window_hits, s->misses - d->window_misses);
	d->window_ns = now;
	d->window_ops = d->window_busy_ns = 0;
	d->window_hits = s->hits;
	d->window_misses = s->misses;
}

static void db_report(struct kernel *k)
{
	struct db *d = k->app_state;
	const struct cache_stats *s = &k->cache.stats;
	u64 ops = d->operations - d->report_operations, now = clock_ns(&k->clock);
	u64 span = now - (d->report_ns - d->report_period_ns);
	u32 hit = permille(s->hits - d->report_hits, s->misses - d->report_misses);

	print("db: ops=%lu ops_s=%lu hit=%u.%u%% latency_us=%lu cached=%u dirty_out=%lu updates=%lu checked=%lu "
	      "bad=%lu failed=%lu\n",
	      d->operations, span ? ops * NSEC_PER_SEC / span : 0, hit / 10, hit % 10,
	      k->info->app.latency_ns / NSEC_PER_USEC, k->cache.used, s->writebacks, d->updates, d->checked,
	      d->file.bad, d->file.failed);
	d->report_operations = d->operations;
	d->report_hits = s->hits;
	d->report_misses = s->misses;
	d->report_ns = now + d->report_period_ns;
}

static void check_some(struct db *d, struct kernel *k, u64 until_ns)
{
	while (d->check_next < d->file.loaded) {
		look_up(d, k, d->check_next++, false);
		if (clock_ns(&k->clock) >= until_ns)
			return;
	}
	d->checking = false;
	print("check: %u pages, %lu bad\n", d->check_next, d->file.bad - d->check_bad);
}

static u64 run(struct db *d, struct kernel *k, u64 until_ns)
{
	do {
		u64 at = d->begin_ns;

		if (d->rate)
			at += mul_div(d->operations, NSEC_PER_SEC, d->rate);
		if (at > clock_ns(&k->clock))
			return at;
		operate(d, k);
	} while (clock_ns(&k->clock) < until_ns);
	return 0;
}

static u64 db_step(struct kernel *k, u64 until_ns)
{
	struct db *d = k->app_state;
	u64 wish = 0;

	if (d->checking)
		check_some(d, k, until_ns);
	else if (d->done)
		wish = KERNEL_NEVER;
	else if (d->ready)
		wish = run(d, k, until_ns);
	else
		load(d, k, until_ns);
	publish(d, k);
	if (d->ready && !d->done && d->report_period_ns && clock_ns(&k->clock) >= d->report_ns)
		db_report(k);
	if (d->ready && !d->done && d->run_ns && clock_ns(&k->clock) - d->begin_ns >= d->run_ns) {
		d->done = true;
		db_report(k);
		print("db: done\n");
	}
	return wish;
}

static void db_check(struct kernel *k)
{
	struct db *d = k->app_state;
	int err = cache_flush(&k->cache);

	d->checking = true;
	d->check_next = 0;
	d->check_bad = d->file.bad;
	print("check: begins, %u pages%s\n", d->file.loaded, err ? " (write-back failed)" : "");
}

const struct app app_db = {.name = "db", .start = db_start, .step = db_step, .report = db_report, .check = db_check};
