/* What the operator may type on the VM's console. */
#include "guest/kernel/app.h"
#include "guest/kernel/console.h"
#include "guest/kernel/kernel.h"
#include "lib/string.h"

static void print_memory(const struct kernel *k)
{
	const u32 *r = k->ram.count;

	print("pages: total=%u max=%u grown=%lu free=%u kernel=%u app=%u cache=%u balloon=%u aside=%u\n", k->ram.pages,
	      k->ram.max, k->grown, r[RAM_FREE], r[RAM_KERNEL], r[RAM_APP], r[RAM_CACHE], r[RAM_BALLOON], r[RAM_ASIDE]);
}

static void print_pager(const struct kernel *k)
{
	const struct pager_stats *s = &k->pager.stats;
	const u32 *n = k->pager.count;

	print("region: pages=%u blank=%u resident=%u writing=%u swapped=%u slots=%lu\n", k->pager.pages, n[VPAGE_BLANK],
	      n[VPAGE_RESIDENT], n[VPAGE_WRITING], n[VPAGE_SWAPPED], k->pager.slots);
	print("paging: minor=%lu major=%lu in=%lu out=%lu dropped=%lu rescued=%lu stalls=%lu errors=%lu retries=%lu\n",
	      s->minor_faults, s->major_faults, s->paged_in, s->paged_out, s->dropped, s->rescued, s->stalls,
	      s->write_errors, s->read_retries);
}

static void print_devices(const struct kernel *k)
{
	const struct balloon *b = &k->balloon;
	const struct disk_stats *d = &k->disk.stats;

	print("balloon: target=%u held=%u ready=%u refused=%u reserve=%u batches=%lu small=%lu large=%lu "
	      "emergencies=%lu\n",
	      b->target, k->ram.count[RAM_BALLOON], b->ready_count, b->refused_count, b->reserve, b->batches,
	      b->calls_4k, b->calls_2m, b->emergencies);
	print("balloon cost: up_4k=%lu/%lu up_2m=%lu/%lu down_4k=%lu/%lu down_2m=%lu/%lu ticks/pages\n", b->up.ticks[0],
	      b->up.pages[0], b->up.ticks[1], b->up.pages[1], b->down.ticks[0], b->down.pages[0], b->down.ticks[1],
	      b->down.pages[1]);
	print("disk: pages=%lu reads=%lu writes=%lu kicks=%lu errors=%lu\n", k->disk.pages, d->reads, d->writes,
	      d->kicks, d->errors);
}

static void command_stats(struct kernel *k)
{
	print_memory(k);
	print_pager(k);
	print_devices(k);
	print("kernel: loops=%lu sleeps=%lu uptime_ms=%lu\n", k->loops, k->sleeps, clock_ns(&k->clock) / NSEC_PER_MSEC);
	if (k->app->report)
		k->app->report(k);
}

static void command_check(struct kernel *k)
{
	print("kernel tables: %s\n", ram_verify(&k->ram) && pager_verify(&k->pager) ? "good" : "BAD");
	if (k->app->check)
		k->app->check(k);
	else
		print("check: %s has nothing to check\n", k->app->name);
}

void kernel_command(struct kernel *k, char *line)
{
	if (str_eq(line, ""))
		return;
	if (str_eq(line, "stats"))
		command_stats(k);
	else if (str_eq(line, "check"))
		command_check(k);
	else if (str_eq(line, "off"))
		k->ending = true;
	else if (str_eq(line, "help"))
		print("stats: figures; check: verify everything; off: end this VM; help\n");
	else
		print("unknown command '%s'; try help\n", line);
}
