/*
 * stream: a job that reads its input from beginning to end and writes its output anew, again and again. The input is a
 * file at the end of disk 0, read through the page cache; the output a region of memory, written in whole pages that
 * nobody looks at before. All pages read are checked.
 *   file=35%  mem=35% (of memory)  soft=0% (of the content compresses)  past=0 (of so many pages read, one is then
 *             rewritten past the cache; 0: none)
 * report=5 (s)  run=0 (s after `ready`: then it reports and rests; 0: for ever)
 */
#include "guest/apps/apps.h"
#include "guest/apps/file.h"
#include "guest/apps/region.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "lib/err.h"

#define PIECE FILE_PIECE /* pages read, and pages written, in turn */

struct stream {
	struct region out;
	struct file file;
	u32 in_at, out_at, past, past_due;
	bool ready, checking, done;
	u32 check_next;
	u64 check_bad, read, rewritten;
	u64 begin_ns, report_ns, report_period_ns, run_ns;
};

static int read_args(struct stream *s, struct kernel *k, u64 *file, u64 *out, struct content *content)
{
	u64 whole = k->ram.pages, past;
	int err = args_pages(&k->args, "file", whole, whole * 35 / 100, file);

	if (!err)
		err = args_pages(&k->args, "mem", whole, whole * 35 / 100, out);
	if (!err)
		err = args_percent(&k->args, "soft", 0, &content->soft_percent);
	if (!err)
		err = args_number(&k->args, "past", 1000000, 0, &past);
	s->past = (u32)past;
	if (!err)
		err = args_seconds(&k->args, "report", 3600, 5, &s->report_period_ns);
	if (!err)
		err = args_seconds(&k->args, "run", 1000000, 0, &s->run_ns);
	if (err)
		print("stream: bad argument\n");
	return err;
}

static int stream_start(struct kernel *k)
{
	struct stream *s = k->app_state = ram_array(&k->ram, sizeof(*s));
	struct content content = {.seed = k->seed + 1}; /* not the region's */
	u64 file, out;
	int err;

	if (!s)
		return E_NOMEM;
	if (!file_possible("stream", k))
		return E_NOENT;
	err = read_args(s, k, &file, &out, &content);
	if (!err) /* whole pieces */
		err = file_create(&s->file, "stream", k, MIN(file, k->disk.pages) / PIECE * PIECE, &content);
	if (!err)
		err = cache_create(&k->cache, s->file.first, s->file.pages, s->file.pages, k->balloon.reserve);
	if (!err)
		err = region_create_pages(&s->out, k, (u32)MAX(out, PIECE), s->file.first, 0, 0);
	if (!err)
		print("stream: file of %u pages, output of %u\n", s->file.pages, s->out.pages);
	return err;
}

static void load(struct stream *s, struct kernel *k, u64 until_ns)
{
	if (!file_load(&s->file, k, until_ns) || !region_fill(&s->out, 0, until_ns))
		return;
	s->ready = true;
	s->begin_ns = clock_ns(&k->clock);
	s->report_ns = s->begin_ns + s->report_period_ns;
	print("stream: ready, %u pages loaded\n", s->file.pages);
}

static void read_page(struct stream *s, struct kernel *k, u32 page)
{
	const void *p = cache_get(&k->cache, page, false);

	s->read += p != NULL;
	s->file.failed += p == NULL;
	if (p)
		file_check(&s->file, page, p);
}

/* A new generation of a page of the file, past the cache: what is cached stays the old one until it is dropped. */
static void rewrite(struct stream *s, struct kernel *k, u32 page)
{
	const void *cached;

	content_fill(&s->file.content, page, (u16)(s->file.generation[page] + 1), s->file.piece);
	cache_changes(&k->cache, page);
	if (disk_transfer(&k->disk, AERO_DISK_WRITE, s->file.first + page, arch_pa(s->file.piece), 1)) {
		s->file.failed++;
		return;
	}
	cached = cache_peek(&k->cache, page);
	if (cached)
		file_check(&s->file, page, cached);
	cache_drop(&k->cache, page);
	s->file.generation[page]++;
	s->rewritten++;
}

static void read_piece(struct stream *s, struct kernel *k)
{
	for (u32 i = 0; i < PIECE; i++) {
		read_page(s, k, s->in_at);
		if (s->past && ++s->past_due >= s->past) {
			rewrite(s, k, s->in_at);
			s->past_due = 0;
		}
		s->in_at = (s->in_at + 1) % s->file.pages;
	}
}

static void write_piece(struct stream *s)
{
	u32 n = MIN(PIECE, s->out.pages - s->out_at);

	region_overwrite(&s->out, s->out_at, n);
	s->out_at = (s->out_at + n) % s->out.pages;
}

static void stream_report(struct kernel *k)
{
	struct stream *s = k->app_state;
	const struct hint_stats *h = &k->hints.stats;

	print(
	    "stream: pages=%lu read=%lu written=%lu rewritten=%lu bad=%lu failed=%lu cached=%u misses=%lu clean=%lu overwrite=%lu "
	    "changed=%lu not_now=%lu calls=%lu\n",
	    s->read + s->out.thread[0].written, s->read, s->out.thread[0].written, s->rewritten, s->file.bad,
	    s->file.failed, k->cache.used, k->cache.stats.misses, h->clean, h->overwrite, h->changed, h->not_now,
	    h->calls);
}

static void check_some(struct stream *s, struct kernel *k, u64 until_ns)
{
	while (s->check_next < s->file.loaded) {
		read_page(s, k, s->check_next++);
		if (clock_ns(&k->clock) >= until_ns)
			return;
	}
	s->checking = false;
	print("check: %u pages of the file, %lu bad\n", s->check_next, s->file.bad - s->check_bad);
	region_check_begin(&s->out);
}

static void publish(struct stream *s, struct kernel *k)
{
	struct aero_info *i = k->info;

	region_publish(&s->out);
	i->app.operations = s->read + s->out.thread[0].written;
	i->app.errors = s->file.bad + s->out.thread[0].bad;
	i->app.pages_checked = s->read + s->out.thread[0].checked;
	i->app.state = s->ready;
}

static void run(struct stream *s, struct kernel *k, u64 until_ns)
{
	do {
		read_piece(s, k);
		write_piece(s);
	} while (clock_ns(&k->clock) < until_ns);
}

static void pass_time(struct stream *s, struct kernel *k)
{
	u64 now = clock_ns(&k->clock);

	if (s->report_period_ns && now >= s->report_ns) {
		stream_report(k);
		s->report_ns += s->report_period_ns;
	}
	if (s->run_ns && now - s->begin_ns >= s->run_ns) {
		s->done = true;
		stream_report(k);
		print("stream: done\n");
	}
}

static u64 stream_step(struct kernel *k, u64 until_ns)
{
	struct stream *s = k->app_state;
	u64 wish = 0;

	if (s->out.checking)
		region_check_step(&s->out, until_ns);
	else if (s->checking)
		check_some(s, k, until_ns);
	else if (s->done)
		wish = KERNEL_NEVER;
	else if (s->ready)
		run(s, k, until_ns);
	else
		load(s, k, until_ns);
	publish(s, k);
	if (s->ready && !s->done)
		pass_time(s, k);
	return wish;
}

static void stream_check(struct kernel *k)
{
	struct stream *s = k->app_state;

	s->checking = true;
	s->check_next = 0;
	s->check_bad = s->file.bad;
	print("check: begins, %u pages of the file\n", s->file.loaded);
}

const struct app app_stream = {
    .name = "stream", .start = stream_start, .step = stream_step, .report = stream_report, .check = stream_check};
