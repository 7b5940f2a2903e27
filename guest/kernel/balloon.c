/* See balloon.h. */
#include "guest/kernel/balloon.h"
#include "guest/kernel/arch.h"
#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"

#define POLL_NS       NSEC_PER_SEC         /* target met */
#define BUSY_NS       (10 * NSEC_PER_MSEC) /* target not met */
#define REFUSED_NS    NSEC_PER_SEC         /* a page that was refused rests */
#define HOLD_NS       (2 * NSEC_PER_SEC)   /* after an emergency */
#define STEP_BATCHES  4                    /* hypercalls in one step */
#define RECLAIM_PAGES 64                   /* begun to be written in one step */
#define RECLAIM_SCAN  4096                 /* looked at for that */
#define ENTRY_MAX     AERO_BALLOON_BATCH_MAX

static u32 held(const struct balloon *b)
{
	return b->ram->count[RAM_BALLOON];
}

/*
 * What is kept free goes with what the guest has: made small it keeps no more than a small one. The page cache follows.
 */
static void set_reserve(struct balloon *b)
{
	b->reserve = CLAMP((b->ram->pages - held(b)) / 64, 64u, 1024u);
	if (b->cache->capacity)
		b->cache->keep_free = b->reserve;
}

int balloon_init(struct balloon *b, struct ram *ram, struct pager *pager, struct cache *cache, struct aero_info *info,
		 u32 features)
{
	*b = (struct balloon){.ram = ram, .pager = pager, .cache = cache, .info = info, .short_sequence = ~0ul};
	b->present = features & AERO_FEATURE_BALLOON;
	b->units_2m = features & AERO_FEATURE_BALLOON_2M;
	b->batch = ram_array(ram, PAGE_SIZE);
	if (!b->batch)
		return E_NOMEM;
	b->batch_gpa = arch_pa(b->batch);
	set_reserve(b);
	return 0;
}

/* Moves the pages of one entry to a state. */
static void entry_set(struct balloon *b, u64 entry, enum ram_state s)
{
	u32 pfn = (u32)(entry >> PAGE_SHIFT);

	if (entry & AERO_BALLOON_2M)
		ram_set_group(b->ram, pfn, s);
	else
		ram_set(b->ram, pfn, s);
}

void balloon_take_ready(struct balloon *b, u32 pfn)
{
	if (b->ready_count == BALLOON_READY_MAX) {
		ram_free(b->ram, pfn);
		return;
	}
	ram_set(b->ram, pfn, RAM_ASIDE);
	b->ready[b->ready_count++] = pfn;
}

static u32 release_ready(struct balloon *b)
{
	u32 n = b->ready_count;

	while (b->ready_count)
		ram_free(b->ram, b->ready[--b->ready_count]);
	return n;
}

static u32 release_refused(struct balloon *b)
{
	u32 n = b->refused_count;

	while (b->refused_count)
		ram_free(b->ram, b->refused[--b->refused_count]);
	return n;
}

/* ---- inflate ---- */

/* The host did not take this one: it rests aside, or is simply free again. */
static void refuse(struct balloon *b, u64 entry, bool rest, u64 now)
{
	entry_set(b, entry, RAM_FREE);
	if (!rest || entry & AERO_BALLOON_2M || b->refused_count == BALLOON_REFUSED_MAX)
		return;
	ram_set(b->ram, (u32)(entry >> PAGE_SHIFT), RAM_ASIDE);
	b->refused[b->refused_count++] = (u32)(entry >> PAGE_SHIFT);
	b->refused_until_ns = now + REFUSED_NS;
}

/* An answer other than OK. False: the host wants no more now. */
static bool inflate_answer(struct balloon *b, u64 entry, u64 now)
{
	u32 n = entry & AERO_BALLOON_2M ? LARGE_PAGES : 1;

	switch (AERO_BALLOON_STATUS(entry)) {
	case AERO_BALLOON_ALREADY:
		entry_set(b, entry, RAM_BALLOON);
		return true;
	case AERO_BALLOON_PINNED:
		b->info->balloon_report.refused_pinned += n;
		refuse(b, entry, true, now);
		return true;
	case AERO_BALLOON_BUSY: /* in transfer, or faster than the rate: a little later */
		b->info->balloon_report.refused_rate += n;
		refuse(b, entry, false, now);
		return false;
	case AERO_BALLOON_OVER:
		b->info->balloon_report.refused_host += n;
		refuse(b, entry, false, now);
		return false;
	default:
		b->info->balloon_report.refused_host += n;
		refuse(b, entry, true, now);
		return true;
	}
}

/* An entry of the batch, which becomes RAM_ASIDE until answered. */
static void put_entry(struct balloon *b, u32 n, u64 entry)
{
	b->batch[n] = entry;
	entry_set(b, entry, RAM_ASIDE);
}

/* Large units as far as they go. Returns entries. */
static u32 fill_large(struct balloon *b, u32 want)
{
	u32 n = 0, pfn;

	if (!b->units_2m)
		return 0;
	for (; n < ENTRY_MAX && want >= LARGE_PAGES; n++, want -= LARGE_PAGES) {
		if (b->ram->count[RAM_FREE] < b->reserve + LARGE_PAGES)
			break;
		pfn = ram_find_group(b->ram, RAM_FREE);
		if (pfn == RAM_NONE)
			break;
		put_entry(b, n, (u64)pfn << PAGE_SHIFT | AERO_BALLOON_2M);
	}
	b->calls_2m += n;
	return n;
}

static u32 fill_small(struct balloon *b, u32 want)
{
	u32 n = 0, pfn;

	for (want = MIN(want, ENTRY_MAX); n < want; n++) {
		if (b->ready_count)
			pfn = b->ready[--b->ready_count];
		else if (b->ram->count[RAM_FREE] > b->reserve)
			pfn = ram_alloc(b->ram, RAM_ASIDE);
		else
			break;
		b->batch[n] = (u64)pfn << PAGE_SHIFT; /* it is aside already */
	}
	b->calls_4k += n;
	return n;
}

/*
 * Fills the batch with at most `want` pages, of one unit; all become RAM_ASIDE until answered. Returns entries; *pages:
 * what they hold.
 */
static u32 fill(struct balloon *b, u32 want, u32 *pages)
{
	u32 n = fill_large(b, want);

	*pages = n * LARGE_PAGES;
	if (!n)
		*pages = n = fill_small(b, want);
	return n;
}

/* One hypercall of n entries. False: stop for now. */
static bool inflate_batch(struct balloon *b, u32 n, u64 now)
{
	u64 target;
	bool more = true;
	s64 err = arch_hypercall(AERO_CALL_BALLOON_INFLATE, b->batch_gpa, n, 0, &target);

	b->batches++;
	if (err >= 0)
		b->target = (u32)MIN(target, (u64)b->ram->pages);
	for (u32 i = 0; i < n; i++) {
		if (err < 0)
			refuse(b, b->batch[i], false, now);
		else if (AERO_BALLOON_STATUS(b->batch[i]) == AERO_BALLOON_OK)
			entry_set(b, b->batch[i], RAM_BALLOON);
		else
			more &= inflate_answer(b, b->batch[i], now);
	}
	return err >= 0 && more;
}

/* Makes memory for the balloon: cold cache pages are free at once, application pages follow when they are written. */
static u32 make_room(struct balloon *b, u32 want)
{
	u32 n = cache_shrink(b->cache, want, true);

	if (n < want)
		n += pager_reclaim(b->pager, MIN(want - n, RECLAIM_PAGES), RECLAIM_SCAN, true);
	return n;
}

static u32 takeable(const struct balloon *b)
{
	u32 free = b->ram->count[RAM_FREE];

	return b->ready_count + (free > b->reserve ? free - b->reserve : 0) + cache_shrinkable(b->cache) +
	       pager_evictable(b->pager);
}

/* Nothing can be taken, now or soon: counted once for each target. */
static void note_shortage(struct balloon *b, u32 want)
{
	u64 sequence = READ_ONCE(b->info->balloon.sequence);

	if (takeable(b) || b->pager->count[VPAGE_WRITING] || sequence == b->short_sequence)
		return;
	b->short_sequence = sequence;
	b->info->balloon_report.refused_no_memory += want;
}

/* What a batch took, from its filling to its last answer. Batches are of one unit. */
static void account(struct balloon_cost *c, u32 n, u32 pages, u64 begin_tsc)
{
	u32 large = pages > n;

	c->pages[large] += pages;
	c->ticks[large] += arch_tsc() - begin_tsc;
}

static void inflate(struct balloon *b, u32 want, u64 now)
{
	u32 n, pages;

	for (u32 i = 0; i < STEP_BATCHES && want; i++) {
		u64 begin = arch_tsc();
		bool more;

		n = fill(b, want, &pages);
		if (n == 0)
			break;
		want -= pages;
		more = inflate_batch(b, n, now);
		account(&b->up, n, pages, begin);
		if (!more)
			return;
		want = MIN(want, b->target > held(b) ? b->target - held(b) : 0);
	}
	/* What is already being written will serve the next step. */
	if (want > b->pager->count[VPAGE_WRITING] && make_room(b, want - b->pager->count[VPAGE_WRITING]) == 0)
		note_shortage(b, want);
}

/* ---- deflate ---- */

static u32 find_ballooned(struct balloon *b)
{
	u32 pfn = ram_find(b->ram, RAM_BALLOON, b->search);

	if (pfn == RAM_NONE)
		pfn = ram_find(b->ram, RAM_BALLOON, 0);
	b->search = pfn == RAM_NONE ? 0 : pfn + 1;
	return pfn;
}

/* Of one unit, as fill(). */
static u32 fill_deflate(struct balloon *b, u32 want, u32 *pages)
{
	u32 n = 0, pfn;

	*pages = 0;
	while (b->units_2m && n < ENTRY_MAX && want - *pages >= LARGE_PAGES) {
		pfn = ram_find_group(b->ram, RAM_BALLOON);
		if (pfn == RAM_NONE)
			break;
		put_entry(b, n++, (u64)pfn << PAGE_SHIFT | AERO_BALLOON_2M);
		*pages += LARGE_PAGES;
	}
	if (n)
		return n;
	while (n < MIN(want, ENTRY_MAX)) {
		pfn = find_ballooned(b);
		if (pfn == RAM_NONE)
			break;
		put_entry(b, n++, (u64)pfn << PAGE_SHIFT);
	}
	*pages = n;
	return n;
}

/* A page is ours again only when the host says so. Returns pages freed. */
static u32 deflate_batch(struct balloon *b, u32 n)
{
	u32 freed = 0;
	u64 target;
	s64 err = arch_hypercall(AERO_CALL_BALLOON_DEFLATE, b->batch_gpa, n, 0, &target);

	b->batches++;
	if (err >= 0)
		b->target = (u32)MIN(target, (u64)b->ram->pages);
	for (u32 i = 0; i < n; i++) {
		u32 status = err < 0 ? AERO_BALLOON_BUSY : AERO_BALLOON_STATUS(b->batch[i]);
		bool ours = status == AERO_BALLOON_OK || status == AERO_BALLOON_ALREADY;

		entry_set(b, b->batch[i], ours ? RAM_FREE : RAM_BALLOON);
		freed += ours ? (b->batch[i] & AERO_BALLOON_2M ? LARGE_PAGES : 1) : 0;
	}
	return freed;
}

static u32 deflate(struct balloon *b, u32 want)
{
	u32 freed = 0, n, pages, got;

	for (u32 i = 0; i < STEP_BATCHES && freed < want; i++) {
		u64 begin = arch_tsc();

		n = fill_deflate(b, want - freed, &pages);
		if (n == 0)
			break;
		got = deflate_batch(b, n);
		account(&b->down, n, pages, begin);
		freed += got;
		if (got < pages)
			break;
	}
	return freed;
}

/* ---- the driver ---- */

static void report(struct balloon *b)
{
	b->info->balloon_report.achieved = held(b);
	b->info->balloon_report.refaults = b->pager->stats.refaults + b->cache->stats.refaults;
	b->info->balloon_report.refault_ns = b->pager->stats.refault_ns + b->cache->stats.refault_ns;
}

void balloon_step(struct balloon *b, u64 now)
{
	u64 allowed;
	s64 target;
	u32 before = held(b);

	b->next_ns = now + POLL_NS;
	if (!b->present)
		return;
	target = arch_hypercall(AERO_CALL_BALLOON_POLL, 0, 0, 0, &allowed);
	if (target < 0)
		return;
	b->target = b->ram->balloon_target = (u32)MIN((u64)target, (u64)b->ram->pages);
	if (b->refused_count && now >= b->refused_until_ns)
		release_refused(b);
	if (b->target > before && now >= b->hold_until_ns)
		inflate(b, (u32)MIN(b->target - before, allowed), now);
	else if (b->target < before)
		deflate(b, (u32)MIN(before - b->target, allowed));
	set_reserve(b);
	if (held(b) >= b->target)
		release_ready(b);
	if (held(b) != b->target)
		b->next_ns = now + BUSY_NS;
	if (held(b) < b->target && takeable(b) == 0)
		b->next_ns = now + POLL_NS;
	report(b);
}

u32 balloon_relieve(struct balloon *b, u64 now)
{
	u32 n = release_ready(b) + release_refused(b);

	if (n)
		return n;
	n = deflate(b, MIN(held(b), BALLOON_EMERGENCY));
	b->emergencies += n > 0;
	b->hold_until_ns = now + HOLD_NS;
	b->next_ns = MIN(b->next_ns, now + HOLD_NS);
	report(b);
	return n;
}
