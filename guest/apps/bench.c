/*
 * bench: what the paths into the hypervisor and back cost, in ticks of the TSC. An emulator that counts instructions
 * makes them instructions; docs/BENCHMARKS.md explains the figures.
 *
 * Each path is taken many times and timed one by one; what the measuring itself takes (the median of an empty path) is
 * subtracted. A stage works to its end within one step: nothing else of this kernel runs between two samples. Between
 * stages the machine is left idle, so that the host can do what it does in its idle time.
 *
 * Single faults go from the last page to the first: who goes the other way is given more than what is touched
 * (stage_order). Memory is taken from whole free groups of 2 MiB. A group whose first page has been read is served in 4
 * KiB pages from then on; one that nobody has touched may be served whole.
 */
#include "guest/apps/apps.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "lib/err.h"
#include "lib/string.h"

#define SAMPLES       1024u
#define EXIT_SAMPLES  512u
#define TIMER_SAMPLES 200u
#define TIMER_NS      (100 * NSEC_PER_USEC) /* ahead of now */
#define STOCK_ROUNDS  32u
#define STOCK_BATCH   16u   /* pages touched after each rest: fewer than any stock */
#define CLEAR_SKIP    2047u /* pages that exhaust the stock first */
#define ORDER_GROUPS  4u
#define LARGE_SAMPLES 16u
#define LARGE_SEEN    100u /* a second page that costs less came with the first */
#define COW_COPIES    8u   /* pages of one content */
#define COW_SAMPLES   256u
#define COW_SEEN      200u /* a write that costs less broke nothing */
#define COW_ROUNDS    10u
#define BALLOON_BATCH 64u /* entries of a call */
#define BALLOON_CALLS 64u
#define BALLOON_WAIT  200u /* rests, for a balloon of that size at least */
#define REST_NS       (20 * NSEC_PER_MSEC)
#define COW_REST_NS   (4 * NSEC_PER_SEC) /* the first; each is twice the one before */

struct bench {
	u32 stage, round;
	u64 rest_ns, next_ns; /* after this step; of the next one: others of this kernel wake it too */
	u32 count, own;       /* samples; ticks of the measuring itself */
	u32 group;            /* first pfn of the present group */
	u32 sample[SAMPLES];
};

/* ---- samples ---- */

static void add(struct bench *b, u64 ticks, u32 own)
{
	if (b->count < SAMPLES)
		b->sample[b->count++] = (u32)(ticks > own ? ticks - own : 0);
}

static void sort(u32 *v, u32 n)
{
	for (u32 gap = n / 2; gap; gap /= 2) {
		for (u32 i = gap; i < n; i++) {
			u32 x = v[i], at = i;

			for (; at >= gap && v[at - gap] > x; at -= gap)
				v[at] = v[at - gap];
			v[at] = x;
		}
	}
}

static u32 median(struct bench *b)
{
	sort(b->sample, b->count);
	return b->count ? b->sample[b->count / 2] : 0;
}

static void report(struct bench *b, const char *name)
{
	u32 middle = median(b);
	u64 sum = 0;

	for (u32 i = 0; i < b->count; i++)
		sum += b->sample[i];
	if (b->count)
		print("bench: %s median=%u mean=%lu p99=%u n=%u\n", name, middle, sum / b->count,
		      b->sample[b->count * 99 / 100], b->count);
	else
		print("bench: %s none\n", name);
	b->count = 0;
}

/* ---- exits ---- */

static u32 own_cost(struct bench *b, enum arch_path empty)
{
	u32 own;

	for (u32 i = 0; i < EXIT_SAMPLES; i++)
		add(b, arch_measure(empty, 0), 0);
	own = median(b);
	b->count = 0;
	return own;
}

static void stage_exits(struct kernel *k, struct bench *b)
{
	static const struct {
		enum arch_path path;
		const char *name;
	} exits[] = {
	    {ARCH_PATH_HYPERCALL, "null_hypercall"}, {ARCH_PATH_CPUID, "cpuid"},
	    {ARCH_PATH_MSR_READ, "msr_read"},        {ARCH_PATH_MSR_WRITE, "msr_write"},
	    {ARCH_PATH_PIO_WRITE, "pio_write"},
	};

	(void)k;
	b->own = own_cost(b, ARCH_PATH_NONE);
	for (u32 e = 0; e < ARRAY_SIZE(exits); e++) {
		for (u32 i = 0; i < EXIT_SAMPLES; i++)
			add(b, arch_measure(exits[e].path, 0), b->own);
		report(b, exits[e].name);
	}
	b->stage++;
}

/* ---- timer ---- */

/*
 * The host's part of one timer: the call that arms it and, later, the longest hole in a loop that does nothing but read
 * the TSC until the event is there. The hole has this kernel's own interrupt entry and return in it: `trap`.
 */
static u64 one_timer(struct kernel *k, u32 own, u32 trap)
{
	u64 t0, arm, last, hole = 0;

	t0 = arch_tsc();
	arch_hypercall(AERO_CALL_TIMER, clock_ns(&k->clock) + TIMER_NS, 0, 0, NULL);
	arm = arch_tsc() - t0;
	last = arch_tsc();
	while (!(READ_ONCE(*k->events.shared) & AERO_EVENT_TIMER)) {
		u64 now = arch_tsc();

		hole = MAX(hole, now - last);
		last = now;
	}
	hole = MAX(hole, arch_tsc() - last);
	events_take(&k->events, AERO_EVENT_TIMER);
	return arm - MIN(arm, own) + hole - MIN(hole, trap);
}

static void stage_timer(struct kernel *k, struct bench *b)
{
	u32 trap = own_cost(b, ARCH_PATH_TRAP);

	k->timer_ns = 0;
	for (u32 i = 0; i < TIMER_SAMPLES; i++)
		add(b, one_timer(k, b->own, trap), 0);
	report(b, "timer_upcall");
	b->stage++;
}

/* ---- faults ---- */

static u64 touch(u32 pfn, enum arch_path how)
{
	return arch_measure(how, (u64)arch_phys((u64)pfn << PAGE_SHIFT));
}

/* Takes a free group for good. False: none left. */
static bool next_group(struct kernel *k, struct bench *b)
{
	b->group = ram_find_group(&k->ram, RAM_FREE);
	if (b->group == RAM_NONE)
		return false;
	for (u32 i = 0; i < RAM_GROUP; i++)
		ram_set(&k->ram, b->group + i, RAM_KERNEL);
	return true;
}

static bool next_small_group(struct kernel *k, struct bench *b)
{
	if (!next_group(k, b))
		return false;
	touch(b->group, ARCH_PATH_READ);
	return true;
}

static void stage_stock(struct kernel *k, struct bench *b)
{
	u32 at = b->round % (RAM_GROUP / STOCK_BATCH) * STOCK_BATCH;

	if (b->round < STOCK_ROUNDS && (at || next_small_group(k, b))) {
		for (u32 i = STOCK_BATCH; i-- > (at ? 0 : 1);)
			add(b, touch(b->group + at + i, ARCH_PATH_WRITE), b->own);
		b->round++;
		return;
	}
	report(b, "fault_4k_stock");
	b->round = 0;
	b->stage++;
}

static void stage_clear(struct kernel *k, struct bench *b)
{
	u32 at = 0;

	for (u32 i = 0; i < CLEAR_SKIP + SAMPLES; i++, at--) {
		u64 ticks;

		if (at == 0) {
			if (!next_small_group(k, b))
				break;
			at = RAM_GROUP - 1;
		}
		ticks = touch(b->group + at, ARCH_PATH_WRITE);
		if (i >= CLEAR_SKIP)
			add(b, ticks, b->own);
	}
	report(b, "fault_4k_clear");
	b->stage++;
}

/*
 * All of a region, first page to last: the host may bring more than what is touched. A sample is a page's part of the
 * whole.
 */
static void stage_order(struct kernel *k, struct bench *b)
{
	for (u32 n = 0; n < ORDER_GROUPS && next_small_group(k, b); n++) {
		u64 ticks = 0;

		for (u32 i = 1; i < RAM_GROUP; i++)
			ticks += touch(b->group + i, ARCH_PATH_WRITE) - b->own;
		add(b, ticks / (RAM_GROUP - 1), 0);
	}
	report(b, "fault_4k_order");
	b->stage++;
}

static void stage_large(struct kernel *k, struct bench *b)
{
	for (u32 i = 0; i < LARGE_SAMPLES && next_group(k, b); i++) {
		u64 ticks = touch(b->group, ARCH_PATH_WRITE);

		if (touch(b->group + RAM_GROUP - 1, ARCH_PATH_READ) < b->own + LARGE_SEEN)
			add(b, ticks, b->own);
	}
	report(b, "fault_2m_clear");
	b->stage++;
}

/* ---- copy-on-write ---- */

static void fill(struct bench *b, struct kernel *k)
{
	for (u32 i = 1; i < RAM_GROUP; i++) {
		u64 *page = arch_phys((u64)(b->group + i) << PAGE_SHIFT);
		u64 content = k->seed + b->round * RAM_GROUP + i / COW_COPIES + 1;

		for (u32 w = 0; w < PAGE_SIZE / sizeof(*page); w++)
			page[w] = content * (w + 1);
	}
}

/*
 * Equal pages are made, the host has time to share them, and each is written to: until enough of them were shared. A
 * host that has many guests comes by seldom, and nobody tells whether it has been here: so the times grow. A page that
 * was written to is equal to none.
 */
static void stage_cow(struct kernel *k, struct bench *b)
{
	if (b->round == 0 && !next_small_group(k, b))
		b->round = COW_ROUNDS;
	for (u32 i = 1; i < RAM_GROUP && b->round && b->group != RAM_NONE; i++) {
		u64 ticks = touch(b->group + i, ARCH_PATH_WRITE);

		if (ticks > b->own + COW_SEEN)
			add(b, ticks, b->own);
	}
	if (b->round < COW_ROUNDS && b->count < COW_SAMPLES) {
		fill(b, k);
		b->rest_ns = COW_REST_NS << b->round++;
		return;
	}
	report(b, "cow_break");
	b->round = 0;
	b->stage++;
}

/* ---- balloon ---- */

/* One call for the batch in k->balloon; what it took, a page. 0: the host did not take all of it. */
static u32 balloon_call(struct kernel *k, struct bench *b, u32 call)
{
	u64 t0 = arch_tsc(), ticks;
	s64 done = arch_hypercall(call, k->balloon.batch_gpa, BALLOON_BATCH, 0, NULL);

	ticks = arch_tsc() - t0;
	return done == BALLOON_BATCH ? (u32)((ticks - MIN(ticks, (u64)b->own)) / BALLOON_BATCH) : 0;
}

/* Single pages of the balloon come back, are written to, and go again. False: it has too few. */
static bool balloon_trip(struct kernel *k, struct bench *b, u32 *give, u32 *take)
{
	u32 pfn[BALLOON_BATCH], at = 0;

	for (u32 i = 0; i < BALLOON_BATCH; i++, at = pfn[i - 1] + 1) {
		pfn[i] = ram_find(&k->ram, RAM_BALLOON, at);
		if (pfn[i] == RAM_NONE)
			return false;
		k->balloon.batch[i] = (u64)pfn[i] << PAGE_SHIFT;
	}
	*give = balloon_call(k, b, AERO_CALL_BALLOON_DEFLATE);
	for (u32 i = 0; i < BALLOON_BATCH; i++) {
		touch(pfn[i], ARCH_PATH_WRITE);
		k->balloon.batch[i] = (u64)pfn[i] << PAGE_SHIFT;
	}
	*take = balloon_call(k, b, AERO_CALL_BALLOON_INFLATE);
	return true;
}

/*
 * With the balloon that the operator has asked for, if any. Takes are kept in the upper half of the samples meanwhile.
 */
static void stage_balloon(struct kernel *k, struct bench *b)
{
	u32 give, take, n = 0;

	if (k->balloon.target < BALLOON_BATCH && b->round++ < BALLOON_WAIT)
		return;
	if (k->ram.count[RAM_BALLOON] < k->balloon.target && b->round++ < BALLOON_WAIT)
		return;
	for (u32 i = 0; i < BALLOON_CALLS && balloon_trip(k, b, &give, &take); i++)
		if (give && take) {
			b->sample[SAMPLES / 2 + n++] = take;
			add(b, give, 0);
		}
	report(b, "balloon_give");
	for (u32 i = 0; i < n; i++)
		add(b, b->sample[SAMPLES / 2 + i], 0);
	report(b, "balloon_take");
	b->stage++;
}

static void stage_end(struct kernel *k, struct bench *b)
{
	(void)k;
	print("bench: end\n");
	b->stage++;
}

static void (*const stages[])(struct kernel *k, struct bench *b) = {
    stage_exits, stage_timer, stage_cow, stage_stock, stage_clear, stage_order, stage_large, stage_balloon, stage_end,
};

static int bench_start(struct kernel *k)
{
	k->app_state = ram_array(&k->ram, sizeof(struct bench));
	return k->app_state ? 0 : E_NOMEM;
}

static u64 bench_step(struct kernel *k, u64 until_ns)
{
	struct bench *b = k->app_state;

	(void)until_ns;
	if (b->stage == ARRAY_SIZE(stages))
		return KERNEL_NEVER;
	if (clock_ns(&k->clock) < b->next_ns)
		return b->next_ns;
	k->info->app.operations++;
	k->info->app.state = b->stage + 1 == ARRAY_SIZE(stages) ? 2 : 1;
	b->rest_ns = REST_NS;
	stages[b->stage](k, b);
	b->next_ns = clock_ns(&k->clock) + b->rest_ns;
	return b->next_ns;
}

const struct app app_bench = {.name = "bench", .start = bench_start, .step = bench_step};
