/*
 * Several spaces over a RAM much too small for them, random operations, and a second record of what every page should
 * hold: each read, by guest or hypervisor, must see exactly the bytes last written.
 *
 * Guests translate through a TLB of their own that forgets only in a shootdown: a flush that mm leaves out shows as a
 * stale read or a lost write. While a shootdown is under way (before it takes effect) other vCPUs of the guest go on
 * reading and writing through what they have cached. Half of the guests run on several CPUs: then yet another vCPU
 * walks the tables at such a moment and writes where they let it, and what the others have cached must not tell
 * otherwise.
 *
 * Once with small spaces that never see a large page, once with larger ones and phases of plenty and of need.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/rmap.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zip.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/mm_test.h"

#define SPACES     4
#define PAGES      (large_pages ? PAGES_MAX : 420U)
#define PAGES_MAX  (3 * LARGE_PAGES + 60) /* not a multiple of a region */
#define FRAMES     (large_pages ? 7000U : 800U)
#define PHASE      3000 /* steps of plenty, then of need */
#define NEED_FREE  600  /* frames */
#define DISK_PAGES 8192 /* for swap; behind them each guest's own disk */
#define BLOCKS     96U
#define STEPS      40000
#define CONTENTS   6 /* kinds of common page, the first all zero */
#define TRANSFERS  12

struct tlb_entry {
	hfn_t hfn; /* HFN_NONE: nothing cached */
	bool writable;
};

struct guest {
	struct gspace gs;
	struct tlb_entry tlb[PAGES_MAX];
	u8 want[PAGES_MAX][PAGE_SIZE];
	bool undefined[PAGES_MAX]; /* given up: any content will do until it is written in full */
	u8 copy_of[PAGES_MAX];     /* 1 + block, as it was told: the content has to stay what the block's is */
	u8 written[BLOCKS / 8];
	u32 pins[PAGES_MAX];
	hfn_t pinned[PAGES_MAX];
};

static struct guest guest[SPACES];
static struct prng rnd;
static bool in_shootdown, large_pages;
static hfn_t ballast[8192]; /* frames kept away in phases of need */
static u32 ballast_count;
static struct guest *copying; /* the record of these two pages is behind */
static gfn_t copying_at;
static struct guest *telling; /* pages of this one are told to be copies: it does not write to them meanwhile */
static bool told[PAGES_MAX];
static struct blk_part data_part = {.kind = BLK_PART_GUEST_DATA, .pages = SPACES * BLOCKS, .name = "data"};

/* Transfers begun by hand, beside those of swap_out.c, that always fail in the end. */
static struct {
	struct guest *g;
	gfn_t gfn;
	hfn_t hfn;
} transfer[TRANSFERS];

static struct {
	u32 reads, writes, stale_writes, fresh_writes, waits, pins, rescues, destroyed, shared, orphans;
	u32 fills, splits, rebuilt, stopped, units, grown;
	u32 clean, dropped, clean_in, overwritten, changed_waits;
	u32 across; /* mappers of a shared frame in another space than the one before */
} did;

static u32 below(u32 n)
{
	return prng_below(&rnd, n);
}

static bool one_in(u32 n)
{
	return !below(n);
}

/* ---- content ------------------------------------------------------------- */

static void common_content(u8 *page, u32 kind)
{
	for (u32 i = 0; i < PAGE_SIZE; i++)
		page[i] = kind ? kind * 37 + i * kind : 0;
}

static void check_bytes(const struct guest *g, gfn_t gfn, const u8 *is, u32 from, u32 len)
{
	if (g->undefined[gfn])
		return;
	if (memcmp(is + from, g->want[gfn] + from, len))
		fail_msg("%s gfn %#x: wrong content in state %s", g->gs.name, gfn,
			 page_state_name(gspace_state((struct gspace *)&g->gs, gfn)));
}

/* Half of it such that it does not compress to half a page, and in lengths of all kinds. */
static void odd_content(u8 *page)
{
	u32 random = one_in(4) ? 0 : below(PAGE_SIZE);

	memset(page, below(256), PAGE_SIZE);
	for (u32 i = 0; i < random; i++)
		page[i] = below(256);
}

/* Writes a whole page or a few bytes; keeps the record. A page without defined content is written in full. */
static void write_bytes(struct guest *g, gfn_t gfn, u8 *page)
{
	if (g->undefined[gfn] || one_in(2)) {
		if (one_in(3))
			odd_content(g->want[gfn]);
		else
			common_content(g->want[gfn], below(CONTENTS));
		memcpy(page, g->want[gfn], PAGE_SIZE);
		g->undefined[gfn] = false;
	} else {
		u32 at = below(PAGE_SIZE - 8);
		u64 value = prng_next(&rnd);

		memcpy(g->want[gfn] + at, &value, 8);
		memcpy(page + at, &value, 8);
	}
}

/* ---- what a guest does --------------------------------------------------- */

static bool walk(struct guest *g, gfn_t gfn, struct tlb_entry *t)
{
	u32 level;
	u64 e = *pt_find(&g->gs.pt, (u64)gfn << PAGE_SHIFT, &level);

	if (!pt_entry_present(g->gs.pt.fmt, e))
		return false;
	t->hfn = hpa_to_hfn(pt_entry_hpa(g->gs.pt.fmt, e, level)) + (level == 2 ? gfn % LARGE_PAGES : 0);
	t->writable = g->gs.pt.fmt->leaf_prot(e, level) & PT_W;
	return true;
}

/* Translates as a CPU does: the TLB, then the tables, then a fault. NULL: the vCPU has to wait. */
static u8 *guest_access(struct guest *g, gfn_t gfn, bool write)
{
	struct tlb_entry *t = &g->tlb[gfn];

	for (u32 tries = 0; tries < 3; tries++) {
		int err;

		if (t->hfn != HFN_NONE && (t->writable || !write))
			return mm_hfn_to_va(t->hfn);
		if (walk(g, gfn, t) && (t->writable || !write))
			continue;
		err = gspace_touch(&g->gs, gfn, write ? GSPACE_WRITE : GSPACE_READ);
		if (err == E_AGAIN) {
			did.waits++;
			return NULL;
		}
		assert_int_equal(err, 0);
	}
	fail_msg("a fault does not end");
	return NULL;
}

static void guest_read(struct guest *g, gfn_t gfn)
{
	u8 *page = guest_access(g, gfn, false);

	if (!page)
		return;
	check_bytes(g, gfn, page, 0, PAGE_SIZE);
	did.reads++;
}

static void guest_write(struct guest *g, gfn_t gfn)
{
	u8 *page = guest_access(g, gfn, true);

	if (!page)
		return;
	write_bytes(g, gfn, page);
	did.writes++;
}

/* By us: what was copied and the record agree only when it is through; or the guest keeps its hands off it. */
static bool being_copied(const struct guest *g, gfn_t gfn)
{
	return (g == copying && (gfn == copying_at || gfn == copying_at + 1)) || (g == telling && told[gfn]);
}

/* Another vCPU, on a third CPU, that has nothing cached: what it finds in the tables it may use at once. */
static void fresh_write(struct guest *g, gfn_t gfn)
{
	struct tlb_entry t = {.hfn = HFN_NONE};

	if (!g->gs.concurrent || g->gs.dying || g->undefined[gfn] || being_copied(g, gfn))
		return;
	if (!walk(g, gfn, &t) || !t.writable)
		return;
	write_bytes(g, gfn, mm_hfn_to_va(t.hfn));
	did.fresh_writes++;
}

static void forget(struct guest *g)
{
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		g->tlb[gfn].hfn = HFN_NONE;
}

/* The other vCPUs while a shootdown of `gs` is on its way: only what is cached, no faults. */
static void on_shootdown(struct gspace *gs)
{
	struct guest *target = (struct guest *)gs;

	if (in_shootdown) {
		forget(target);
		return;
	}
	in_shootdown = true;
	/* A region to be rebuilt is touched: that stops it. */
	if (gs->moving != GFN_NONE && one_in(3)) {
		gfn_t gfn = gs->moving + below(LARGE_PAGES);

		/* what was given up may not be used by way of the TLB */
		if (!target->undefined[gfn] && !being_copied(target, gfn))
			guest_write(target, gfn);
		did.stopped += gs->moving == GFN_NONE;
	}
	for (u32 i = 0; i < 20; i++) {
		struct guest *g = one_in(3) ? &guest[below(SPACES)] : target;
		gfn_t gfn = below(g->gs.pages);
		struct tlb_entry *t = &g->tlb[gfn];

		fresh_write(g, gfn);
		if (t->hfn == HFN_NONE || g->undefined[gfn] || being_copied(g, gfn))
			continue;
		check_bytes(g, gfn, mm_hfn_to_va(t->hfn), 0, PAGE_SIZE);
		/* Others' writes come when their own translations may be stale too: that is what mm has to bear. */
		if (t->writable && one_in(2)) {
			write_bytes(g, gfn, mm_hfn_to_va(t->hfn));
			did.stale_writes++;
		}
	}
	forget(target);
	in_shootdown = false;
}

/* ---- what others do ------------------------------------------------------ */

static void hv_copy(struct guest *g)
{
	gfn_t gfn = below(g->gs.pages - 1);
	u32 at = below(PAGE_SIZE), len = 1 + below(PAGE_SIZE);
	static u8 buf[2 * PAGE_SIZE];
	u32 first = MIN(len, PAGE_SIZE - at);
	bool write = one_in(2) && !g->undefined[gfn] && !g->undefined[gfn + 1];
	int err;

	copying = g;
	copying_at = gfn;
	if (!write) {
		err = gspace_read(&g->gs, GPA(((u64)gfn << PAGE_SHIFT) + at), buf + at, len);
		copying = NULL;
		if (err)
			goto waits;
		check_bytes(g, gfn, buf, at, first);
		if (len > first)
			check_bytes(g, gfn + 1, buf + PAGE_SIZE, 0, len - first);
		return;
	}
	for (u32 i = 0; i < len; i++)
		buf[i] = below(256);
	/* A part may have been written before it had to wait: the same bytes again, until it is done. */
	for (u32 i = 0; i < 200; i++) {
		err = gspace_write(&g->gs, GPA(((u64)gfn << PAGE_SHIFT) + at), buf, len);
		if (!err)
			break;
		swap_out(&guest[below(SPACES)].gs, 16);
		fake_blk_drain();
	}
	copying = NULL;
	if (err)
		goto waits;
	memcpy(g->want[gfn] + at, buf, first);
	memcpy(g->want[gfn + 1], buf + first, len - first);
	return;
waits:
	assert_int_equal(err, E_AGAIN);
	if (write) /* the first page may have been changed */
		g->undefined[gfn] = true;
}

static void pin(struct guest *g, gfn_t gfn)
{
	hfn_t hfn;
	bool whole = one_in(3);
	int err = whole ? gspace_pin_new(&g->gs, gfn, &hfn) : gspace_pin(&g->gs, gfn, true, &hfn);

	g->undefined[gfn] |= whole && !err;
	if (err) {
		assert_int_equal(err, E_AGAIN);
		return;
	}
	assert_true(!g->pins[gfn] || g->pinned[gfn] == hfn); /* it stays where it is */
	g->pinned[gfn] = hfn;
	g->pins[gfn]++;
	did.pins++;
}

/* A device writes to a pinned page, or lets go of it. */
static void dma(struct guest *g, gfn_t gfn)
{
	if (!g->pins[gfn])
		return;
	check_bytes(g, gfn, mm_hfn_to_va(g->pinned[gfn]), 0, PAGE_SIZE);
	if (one_in(2)) {
		write_bytes(g, gfn, mm_hfn_to_va(g->pinned[gfn]));
	} else {
		g->pins[gfn]--;
		gspace_unpin(&g->gs, gfn);
	}
}

static void balloon(struct guest *g)
{
	u32 n = 1 + below(20);

	while (n--) {
		gfn_t gfn = below(g->gs.pages);

		if (one_in(2)) {
			if (!gspace_balloon_take(&g->gs, gfn))
				g->undefined[gfn] = true;
		} else if (!gspace_balloon_give(&g->gs, gfn)) {
			g->undefined[gfn] = true;
		}
	}
	if (one_in(4))
		gspace_flush(&g->gs); /* else the next operation that must */
}

static u8 *block_of(const struct guest *g, u32 block)
{
	return fake_blk_page(DISK_PAGES + (g - guest) * BLOCKS + block);
}

/* All copies of the block are taken back. False: that has to wait for memory, and the block must not change. */
static bool block_changes(struct guest *g, u32 block)
{
	struct hint h[HINT_BATCH_MAX];
	int err = E_AGAIN;
	u32 n = 0;

	for (gfn_t gfn = 0; gfn < g->gs.pages && n < ARRAY_SIZE(h); gfn++)
		if (g->copy_of[gfn] == block + 1)
			h[n++] = (struct hint){(u64)gfn << PAGE_SHIFT | HINT_CHANGED, 0};
	for (u32 i = 0; i < 50 && err == E_AGAIN; i++) {
		err = clean_hints(&g->gs, h, n);
		if (err == E_AGAIN) {
			did.changed_waits++;
			swap_out(&guest[below(SPACES)].gs, 16);
			fake_blk_drain();
		}
	}
	if (err == E_AGAIN)
		return false;
	assert_int_equal(err, n);
	for (u32 i = 0; i < n; i++)
		g->copy_of[h[i].page >> PAGE_SHIFT] = 0;
	return true;
}

/* The block comes to hold what the page does; false if it cannot. */
static bool write_back(struct guest *g, gfn_t gfn, u32 block)
{
	static const u8 zero[PAGE_SIZE];
	bool is_zero = !memcmp(g->want[gfn], zero, PAGE_SIZE);

	if (g->written[block / 8] >> block % 8 & 1 && !memcmp(block_of(g, block), g->want[gfn], PAGE_SIZE))
		return true;
	if (!(g->written[block / 8] >> block % 8 & 1) && is_zero)
		return true;
	if (!block_changes(g, block))
		return false;
	memcpy(block_of(g, block), g->want[gfn], PAGE_SIZE);
	g->written[block / 8] |= 1 << block % 8;
	return true;
}

/* Copies of blocks, often of adjacent ones; pages to be overwritten; and what is no use at all. */
static void hint(struct guest *g)
{
	struct hint h[24];
	u32 n = 0, block = below(BLOCKS);
	gfn_t gfn = below(g->gs.pages);

	bool used[BLOCKS] = {false};

	memset(told, 0, sizeof(told));
	telling = g;
	for (u32 i = 1 + below(ARRAY_SIZE(h)); i; i--, gfn++, block++) {
		if (one_in(4)) {
			gfn = below(g->gs.pages);
			block = below(BLOCKS);
		}
		if (gfn >= g->gs.pages || block >= BLOCKS || told[gfn] || used[block])
			continue;
		if (one_in(12)) {
			h[n++] = (struct hint){(u64)gfn << PAGE_SHIFT | HINT_OVERWRITE, 0};
			g->undefined[gfn] = told[gfn] = true;
			did.overwritten++;
		} else if (!g->undefined[gfn] && write_back(g, gfn, block)) {
			h[n++] = (struct hint){(u64)gfn << PAGE_SHIFT | HINT_CLEAN, block};
			told[gfn] = used[block] = true;
		}
	}
	assert_in_range(clean_hints(&g->gs, h, n), 0, n);
	telling = NULL;
	for (u32 i = 0; i < n; i++) {
		if ((h[i].page & 15) != HINT_CLEAN || h[i].page >> 4 & 0xff)
			continue;
		g->copy_of[h[i].page >> PAGE_SHIFT] = h[i].block + 1;
		did.clean++;
	}
}

/* Phases of plenty and of need. */
static void set_phase(bool need)
{
	while (!need && ballast_count)
		frame_free(ballast[--ballast_count], 0);
	while (need && frame_free_count() > NEED_FREE && ballast_count < ARRAY_SIZE(ballast)) {
		hfn_t hfn = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false);

		assert_int_not_equal(hfn, HFN_NONE);
		ballast[ballast_count++] = hfn;
	}
}

static void transfer_step(struct guest *g)
{
	u32 i = below(TRANSFERS);

	if (transfer[i].g) {
		did.orphans += frame_get(transfer[i].hfn)->state == FRAME_HV;
		if (one_in(2)) {
			gspace_swap_out_failed(&transfer[i].g->gs, transfer[i].gfn, transfer[i].hfn);
		} else if (gspace_state(&transfer[i].g->gs, transfer[i].gfn) == PAGE_SWAPPING_OUT) {
			return;
		} else {
			assert_int_equal(
			    gspace_swap_out_done_all(&transfer[i].g->gs, 1, &transfer[i].gfn, &transfer[i].hfn, 1), 0);
		}
		transfer[i].g->gs.swap_in_flight--;
		transfer[i].g = NULL;
		return;
	}
	if (!gspace_random_private(&g->gs, &rnd, &transfer[i].gfn))
		return;
	if (gspace_swap_out_begin(&g->gs, transfer[i].gfn, &transfer[i].hfn))
		return;
	transfer[i].g = g;
	g->gs.swap_in_flight++; /* as swap_out.c: the space waits for it */
	gspace_flush(&g->gs);
}

static void end_transfers(struct guest *g)
{
	for (u32 i = 0; i < TRANSFERS; i++)
		if (transfer[i].g == g) {
			gspace_swap_out_failed(&g->gs, transfer[i].gfn, transfer[i].hfn);
			g->gs.swap_in_flight--;
			transfer[i].g = NULL;
		}
}

/* Balloon units: all of a region or nothing. */
static void balloon_large(struct guest *g, gfn_t first)
{
	gfn_t at;
	u32 given, out = g->gs.count[PAGE_BALLOONED];

	if (one_in(2)) {
		if (gspace_balloon_take_large(&g->gs, first, &at)) {
			assert_int_equal(g->gs.count[PAGE_BALLOONED], out);
			return;
		}
		assert_int_equal(g->gs.count[PAGE_BALLOONED], out + LARGE_PAGES);
		did.units++;
	} else {
		given = gspace_balloon_give_large(&g->gs, first);
		assert_int_equal(g->gs.count[PAGE_BALLOONED], out - given);
		if (!given)
			return;
	}
	/* Undefined is only what was given up; but a page that is written again in full makes no difference. */
	for (gfn_t gfn = first; gfn < first + LARGE_PAGES; gfn++)
		g->undefined[gfn] |= gspace_state(&g->gs, gfn) == PAGE_BALLOONED;
	gspace_flush(&g->gs); /* as before the guest runs again: it would find too many of these pages in its TLB */
}

static void unpin_all(struct guest *g, gfn_t gfn)
{
	while (g->pins[gfn]) {
		g->pins[gfn]--;
		gspace_unpin(&g->gs, gfn);
	}
}

/* Nothing is under way in a region, and often every page of it is written: it can be rebuilt, or given up. */
static void settle(struct guest *g, gfn_t first)
{
	bool write = one_in(2);

	end_transfers(g);
	fake_blk_drain();
	for (gfn_t gfn = first; gfn < first + LARGE_PAGES; gfn++) {
		enum page_state s;

		unpin_all(g, gfn);
		if (write && !guest_access(g, gfn, true))
			fake_blk_drain();
		s = gspace_state(&g->gs, gfn);
		if (!write && s == PAGE_BALLOONED && !gspace_balloon_give(&g->gs, gfn))
			g->undefined[gfn] = true;
	}
}

static void large_step(struct guest *g)
{
	gfn_t first = below(g->gs.pages / LARGE_PAGES) * LARGE_PAGES;

	if (one_in(3))
		settle(g, first);
	if (one_in(2))
		gspace_rebuild(&g->gs, 4);
	else
		balloon_large(g, first);
}

static void create(struct guest *g)
{
	const struct mem_alloc settings = {.limit = PAGES, .shares = 10};
	char name[8];
	u32 n = g - guest;

	snprintf(name, sizeof(name), "g%u", n);
	assert_int_equal(
	    gspace_init(&g->gs, name, PAGES - below(PAGES / 2), n % 4 ? &fake_format : &fake_format_plain, &settings),
	    0);
	g->gs.share_group = share_group(n % 2 ? "odd" : "even");
	assert_int_equal(swap_reserve(&g->gs, PAGES), 0);
	g->gs.dyn.offered = PAGES;
	g->gs.concurrent = n < SPACES / 2;
	memset(g->written, 0, sizeof(g->written)); /* what an earlier guest wrote is still on the disk */
	gspace_set_disk(&g->gs, &(struct clean_disk){&data_part, n * BLOCKS, BLOCKS, g->written});
	for (gfn_t gfn = 0; gfn < PAGES; gfn++) {
		g->tlb[gfn].hfn = HFN_NONE;
		g->undefined[gfn] = false;
		g->copy_of[gfn] = 0;
		memset(g->want[gfn], 0, PAGE_SIZE);
	}
}

/* A guest ends: no vCPU runs. Its transfers end while it goes. */
static void destroy(struct guest *g)
{
	for (gfn_t gfn = 0; gfn < PAGES; gfn++) {
		g->tlb[gfn].hfn = HFN_NONE;
		unpin_all(g, gfn);
	}
	gspace_set_disk(&g->gs, NULL);
	while (clean_busy(&g->gs))
		fake_blk_drain();
	for (u32 i = 0; !gspace_destroy_some(&g->gs, 1 + below(200)); i++) {
		assert_true(i < 10000);
		if (i == 5)
			end_transfers(g);
		if (i % 8 == 7)
			fake_blk_drain();
	}
	swap_unreserve(&g->gs);
	did.destroyed++;
	did.rescues += g->gs.stats.swap_rescued;
	did.dropped += g->gs.stats.clean_out;
	did.clean_in += g->gs.stats.clean_in;
	did.fills += g->gs.stats.large_fills;
	did.splits += g->gs.stats.large_splits;
	did.rebuilt += g->gs.stats.large_rebuilt;
}

/* Its guest takes more memory on line: all of the offer, or a part. */
static void grow(struct guest *g)
{
	u32 pages = g->gs.pages, left = PAGES - pages;

	if (!left)
		return;
	assert_int_equal(gspace_grow(&g->gs, pages, left + 1), E_NOSPC);
	assert_int_equal(gspace_grow(&g->gs, pages, 1 + below(left)), 0);
	did.grown++;
}

static void step(struct guest *g)
{
	gfn_t gfn = below(g->gs.pages);
	bool was;

	switch (below(26)) {
	case 0 ... 6:
		guest_read(g, gfn);
		break;
	case 7 ... 12:
		guest_write(g, gfn);
		break;
	case 13:
		hv_copy(g);
		break;
	case 14:
		if (one_in(4))
			pin(g, gfn);
		break;
	case 15:
		dma(g, gfn);
		break;
	case 16:
		balloon(g);
		break;
	case 17:
		swap_out(&g->gs, 1 + below(40));
		break;
	case 18:
		fake_now_ns += below(3 * NSEC_PER_MSEC);
		fake_blk_poll();
		break;
	case 19:
	case 20:
		fake_now_ns += NSEC_PER_MSEC;
		share_scan(1 + below(64));
		break;
	case 21:
		did.shared += share_offer(&g->gs, gfn);
		break;
	case 22:
		transfer_step(g);
		break;
	case 23:
		if (large_pages)
			large_step(g);
		break;
	case 24:
		hint(g);
		break;
	default:
		assert_int_equal(gspace_test_accessed(&g->gs, gfn, &was), g->gs.pt.fmt->accessed ? 0 : E_NOSYS);
		for (u32 n = below(8); n; n--)
			gspace_watch(&g->gs, below(g->gs.pages), one_in(2) || !gspace_has_accessed(&g->gs));
		if (one_in(2))
			gspace_flush(&g->gs);
		if (one_in(10))
			grow(g);
		if (one_in(large_pages ? 50 : 200)) {
			destroy(g);
			create(g);
		}
	}
}

/* No shared frame is mapped by two groups. */
static void check_groups(void)
{
	for (hfn_t h = fake_mm_first; h < frame_span(); h++) {
		u32 cursor = 0;
		u16 id, last = 0;
		gfn_t gfn;
		u64 group = 0;

		if (frame_get(h)->state != FRAME_SHARED)
			continue;
		while (rmap_next(h, &cursor, &id, &gfn)) {
			struct gspace *gs = gspace_by_id(id);

			assert_true(!group || group == gs->share_group);
			did.across += last && id != last;
			group = gs->share_group;
			last = id;
		}
	}
}

static void verify(void)
{
	check_groups();
	if (gspace_verify_all()) {
		fputs(fake_log, stderr);
		fail_msg("inconsistent");
	}
	frame_verify();
}

static void check_everything(void)
{
	for (u32 i = 0; i < SPACES; i++)
		for (gfn_t gfn = 0; gfn < guest[i].gs.pages; gfn++) {
			u8 page[PAGE_SIZE];

			copying = &guest[i];
			copying_at = gfn;
			while (gspace_read(&guest[i].gs, GPA((u64)gfn << PAGE_SHIFT), page, PAGE_SIZE)) {
				swap_out(&guest[below(SPACES)].gs, 32);
				fake_blk_drain();
			}
			copying = NULL;
			check_bytes(&guest[i], gfn, page, 0, PAGE_SIZE);
		}
}

static u32 orphans, fills; /* of all runs */

static void begin(u64 seed)
{
	mm_test_start(FRAMES, DISK_PAGES + SPACES * BLOCKS);
	fake_blk_part.pages = DISK_PAGES;
	if (!data_part.dev) {
		data_part.dev = fake_blk_part.dev;
		blk_register_part(&data_part);
	}
	data_part.start = fake_blk_part.start + DISK_PAGES * PAGE_SIZE / BLK_SECTOR;
	fake_blk.latency_ns = 2 * NSEC_PER_MSEC;
	swap_init(seed, seed + 1);
	clean_init();
	zip_init(seed + 2, 3);
	assert_int_equal(swap_on(&fake_blk_part), 0);
	reclaim_init(&(struct reclaim_config){.min_free = 1});
	frame_set_reserve(40);
	share_set_rate(1000000, 1000000);
	prng_seed(&rnd, seed);
	memset(&did, 0, sizeof(did));
	fake_mm_on_shootdown = on_shootdown;
	for (u32 i = 0; i < SPACES; i++)
		create(&guest[i]);
}

static void work(bool large)
{
	for (u32 i = 0; i < STEPS; i++) {
		if (large && i % PHASE == 0)
			set_phase(i / PHASE % 2);
		step(&guest[below(SPACES)]);
		if (i % 400 == 0)
			verify();
	}
	set_phase(false);
	verify();
	check_everything();
}

/* All spaces end. What was done is told, and must have been enough. */
static void end(u64 seed, bool large)
{
	struct share_stats s;
	struct swap_stats w;
	struct zip_stats z;
	u32 broken = 0, cow = 0;

	share_stats(&s);
	swap_stats(&w);
	zip_stats(&z);
	for (u32 i = 0; i < SPACES; i++) {
		broken += guest[i].gs.stats.balloon_broken;
		cow += guest[i].gs.stats.cow_breaks;
	}
	for (u32 i = 0; i < SPACES; i++)
		destroy(&guest[i]);
	assert_true(did.grown);
	print_message("hints: %u clean, %u dropped, %u back, %u overwritten, %u waits to change\n", did.clean,
		      did.dropped, did.clean_in, did.overwritten, did.changed_waits);
	assert_true(did.clean && did.dropped && did.clean_in && did.overwritten && did.changed_waits);
	if (large) {
		print_message("large: %u fills, %u splits, %u rebuilt, %u of them touched, %u units\n", did.fills,
			      did.splits, did.rebuilt, did.stopped, did.units);
		assert_true(did.splits && did.rebuilt && did.stopped && did.units);
		fills += did.fills;
	}
	print_message(
	    "seed %lu: %u reads, %u writes (%u while stale, %u beside it), %u waits, %u pins, %lu out, %lu in, %u rescued, "
	    "%u orphans, "
	    "%lu matches, %lu zero, %u cow, %u broken, %u ended, "
	    "%lu compressed (%lu same), %lu back, %lu poor, %lu full, %lu no memory, %lu blocks out, %lu in, %lu unchanged\n",
	    seed, did.reads, did.writes, did.stale_writes, did.fresh_writes, did.waits, did.pins, w.out, w.in,
	    did.rescues, did.orphans, s.matches, s.zero_found, cow, broken, did.destroyed, z.in, z.same, z.out, z.poor,
	    z.full, z.no_memory, w.packed_out, w.packed_in, w.unchanged);
	assert_true(w.out && w.in && did.rescues && did.fresh_writes && s.matches && s.zero_found && did.destroyed &&
		    did.across);
	assert_true(z.in && z.out && z.same && z.poor && w.unchanged && (large || (w.packed_out && w.packed_in)));
	orphans += did.orphans;
	assert_int_equal(w.checksum_errors + z.errors, 0);
	assert_int_equal(fake_mm.poisoned, 0);
}

static void run(u64 seed, bool large)
{
	large_pages = large;
	begin(seed);
	work(large);
	end(seed, large);
	mm_test_stop();
}

static void model(void **state)
{
	const char *seed = getenv("SEED");

	(void)state;
	if (seed) {
		run(strtoul(seed, NULL, 0), false);
		run(strtoul(seed, NULL, 0), true);
		return;
	}
	for (u64 s = 1; s <= 3; s++) {
		run(s, false);
		run(s, true);
	}
	assert_true(orphans && fills);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(model)};

	return cmocka_run_group_tests_name("gspace_model", tests, NULL, NULL);
}
