/* See region.h. */
#include "guest/apps/region.h"
#include "guest/kernel/app.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "lib/err.h"

#define FAULTS_PRINTED 8 /* wrong pages described; all are counted */

static int bad_argument(const char *key, int err)
{
	print("bad argument: %s=\n", key);
	return err;
}

static int read_args(struct region *r, struct kernel *k, u32 percent, u64 *pages)
{
	u64 whole = k->ram.pages;
	int err;

	err = args_pages(&k->args, "mem", whole, whole * percent / 100, pages);
	if (err)
		return bad_argument("mem", err);
	err = args_percent(&k->args, "zero", r->content.zero_percent, &r->content.zero_percent);
	if (err)
		return bad_argument("zero", err);
	err = args_percent(&k->args, "same", r->content.same_percent, &r->content.same_percent);
	if (err)
		return bad_argument("same", err);
	err = args_percent(&k->args, "soft", 0, &r->content.soft_percent);
	return err ? bad_argument("soft", err) : 0;
}

int region_create(struct region *r, struct kernel *k, u32 otherwise_percent, u32 zero_percent, u32 same_percent)
{
	u64 slots = disk_present(&k->disk) ? k->disk.pages : 0, pages;
	u32 max;
	int err;

	*r = (struct region){.k = k, .content = {k->seed, zero_percent, same_percent}};
	prng_seed(&r->prng, k->seed);
	err = read_args(r, k, otherwise_percent, &pages);
	if (err)
		return err;
	max = kernel_region_max(k, slots);
	if (pages > max)
		print("%s: %lu pages do not fit: %u\n", k->app->name, pages, max);
	r->pages = (u32)CLAMP(pages, 1, MAX(max, 1));
	r->generation = ram_array(&k->ram, r->pages * sizeof(*r->generation));
	if (!r->generation)
		return E_NOMEM;
	return pager_create(&k->pager, r->pages, slots);
}

bool region_fill(struct region *r, u64 until_ns)
{
	while (r->filled < r->pages) {
		u32 page = r->filled++;

		content_fill(&r->content, page, 0, arch_app_page(&r->k->pager, page, true));
		if (clock_ns(&r->k->clock) >= until_ns)
			break;
	}
	return r->filled == r->pages;
}

static void check(struct region *r, u32 page, const void *p)
{
	struct content_fault f;

	r->checked++;
	if (content_check(&r->content, page, r->generation[page], p, &f))
		return;
	if (r->bad++ < FAULTS_PRINTED)
		print("%s: BAD page %u generation %u: %s; at %u found %#lx, expected %#lx\n", r->k->app->name, page,
		      r->generation[page], f.what, f.offset, f.found, f.expected);
}

static void account(struct region *r, u64 begin_ns)
{
	r->window_ops++;
	r->window_busy_ns += clock_ns(&r->k->clock) - begin_ns;
}

void region_read(struct region *r, u32 page)
{
	u64 begin = clock_ns(&r->k->clock);

	check(r, page, arch_app_page(&r->k->pager, page, false));
	account(r, begin);
}

void region_write(struct region *r, u32 page)
{
	u64 begin = clock_ns(&r->k->clock);

	check(r, page, arch_app_page(&r->k->pager, page, false));
	r->generation[page]++;
	r->newest = MAX(r->newest, r->generation[page]);
	content_fill(&r->content, page, r->generation[page], arch_app_page(&r->k->pager, page, true));
	r->written++;
	account(r, begin);
}

void region_check_begin(struct region *r)
{
	r->checking = true;
	r->check_next = 0;
	r->check_bad = r->bad;
	print("check: begins, %u pages\n", r->filled);
}

bool region_check_step(struct region *r, u64 until_ns)
{
	while (r->check_next < r->filled) {
		region_read(r, r->check_next++);
		if (clock_ns(&r->k->clock) >= until_ns)
			return true;
	}
	r->checking = false;
	print("check: %u pages, %lu bad\n", r->check_next, r->bad - r->check_bad);
	return false;
}

void region_publish(struct region *r)
{
	struct aero_info *i = r->k->info;
	u64 now = clock_ns(&r->k->clock);

	i->app.pages_checked = r->checked;
	i->app.errors = r->bad;
	i->app.operations = r->checked + r->filled;
	i->app.state = r->filled == r->pages;
	if (now - r->window_ns < NSEC_PER_SEC)
		return;
	i->app.latency_ns = r->window_ops ? r->window_busy_ns / r->window_ops : 0;
	r->window_ns = now;
	r->window_ops = r->window_busy_ns = 0;
}

void region_print(const struct region *r)
{
	const struct kernel *k = r->k;

	print("%s: checked=%lu bad=%lu gen=%u written=%lu resident=%u swapped=%u ballooned=%u\n", k->app->name,
	      r->checked, r->bad, r->newest, r->written, k->pager.count[VPAGE_RESIDENT], k->pager.count[VPAGE_SWAPPED],
	      k->ram.count[RAM_BALLOON]);
}
