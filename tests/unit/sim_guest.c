/* See sim_guest.h. */
#include "tests/unit/sim_guest.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "mm/balloon.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_platform.h"

#define NOTHING         (~0U)
#define SLOW_ONE_IN     20 /* turns of a slow driver that do nothing */
#define VERIFY_PATIENCE 2000000U

void sim_start(struct sim_guest *g, const char *name, u32 pages, u32 logical, enum sim_balloon kind, u32 reservation)
{
	struct mem_alloc alloc = {.reservation = reservation, .limit = pages, .shares = 10};

	memset(g, 0, sizeof(*g));
	CHECK(!gspace_init(&g->gs, name, pages, &fake_format, &alloc));
	g->gs.share_group = share_group("all");
	/* Without swap there is nothing to promise; such a VM would not be admitted, the tests want to see it wait. */
	if (swap_reserve(&g->gs, pages - reservation))
		log_debug("sim", "%s: no swap", name);
	reclaim_add(&g->gs);
	g->gs.balloon_present = kind != SIM_ABSENT;
	g->kind = kind;
	g->logical = logical;
	g->write_percent = 30;
	g->running = true;
	g->todo = NOTHING;
	prng_seed(&g->rnd, (u64)name[0] << 8 | (u8)name[strlen(name) - 1]);
	g->page = calloc(logical, sizeof(*g->page));
	g->free = calloc(pages, sizeof(*g->free));
	g->balloon = calloc(pages, sizeof(*g->balloon));
	for (gfn_t gfn = 0; gfn < pages; gfn++)
		g->free[g->free_count++] = pages - 1 - gfn;
	for (u32 i = 0; i < logical; i++)
		g->page[i].gfn = GFN_NONE;
}

void sim_woken(struct sim_guest *g, struct gspace *gs)
{
	if (!gs || gs == &g->gs)
		g->blocked = false;
}

static u64 content(const struct sim_guest *g, u32 i)
{
	u64 who = i >= g->logical - g->common && !g->page[i].version ? 0 : g->gs.id;

	return who << 48 ^ (u64)g->page[i].version << 24 ^ i ^ 0x5a5a000000000000UL;
}

/* Writes or checks the content of logical page i in its frame. 0, or E_AGAIN: blocked. */
static int move_content(struct sim_guest *g, u32 i, bool write)
{
	gpa_t first = gfn_to_gpa(g->page[i].gfn), last = GPA(first.v + PAGE_SIZE - 8);
	u64 want = content(g, i), a = want, b = want;
	int err;

	err = write ? gspace_write(&g->gs, first, &a, 8) : gspace_read(&g->gs, first, &a, 8);
	if (!err)
		err = write ? gspace_write(&g->gs, last, &b, 8) : gspace_read(&g->gs, last, &b, 8);
	if (err) {
		CHECK(err == E_AGAIN);
		g->blocked = true;
		g->waits++;
		return err;
	}
	g->bad += a != want || b != want;
	return 0;
}

/* Evicts some resident page to the guest's disk. False if none was found. */
static bool evict(struct sim_guest *g)
{
	for (u32 tries = 0; tries < 50; tries++) {
		u32 i = (u32)prng_below(&g->rnd, g->logical);
		gfn_t gfn = g->page[i].gfn;

		if (gfn == GFN_NONE)
			continue;
		/* Its disk reads the page; a bad one would be found here. */
		if (move_content(g, i, false))
			return false;
		g->page[i].gfn = GFN_NONE;
		g->free[g->free_count++] = gfn;
		g->evictions++;
		return true;
	}
	return false;
}

/* Page i gets a frame with its content (from the guest's disk, or new). */
static int make_resident(struct sim_guest *g, u32 i)
{
	gfn_t gfn;
	int err;

	if (!g->free_count && !evict(g))
		return E_AGAIN;
	gfn = g->free[g->free_count - 1];
	g->page[i].gfn = gfn;
	err = move_content(g, i, true);
	if (err) {
		g->page[i].gfn = GFN_NONE;
		return err;
	}
	g->free_count--;
	return 0;
}

static int access_page(struct sim_guest *g, u32 i)
{
	int err = 0;

	if (g->page[i].gfn == GFN_NONE)
		err = make_resident(g, i);
	else
		err = move_content(g, i, false);
	if (err)
		return err;
	if (prng_below(&g->rnd, 100) < g->write_percent && i < g->logical - g->common) {
		g->page[i].version++;
		err = move_content(g, i, true);
		if (err)
			g->page[i].version--; /* nothing was written: both words lie in one page, and no time passes
						 between */
	}
	return err;
}

void sim_run(struct sim_guest *g, u32 n)
{
	for (u32 k = 0; k < n && g->running && !g->blocked; k++) {
		u32 i = (u32)prng_below(&g->rnd, g->logical);

		/* Three in four accesses go to a quarter of the pages. */
		if (prng_below(&g->rnd, 4))
			i /= 4;
		if (g->todo != NOTHING)
			i = g->todo; /* what had to wait is run again, as an instruction would be */
		g->todo = i;
		if (access_page(g, i))
			continue;
		g->todo = NOTHING;
		g->operations++;
	}
}

/* ---- balloon driver ------------------------------------------------------- */

static void inflate(struct sim_guest *g, u32 n)
{
	u64 batch[64];
	u32 count = 0;

	n = MIN(n, ARRAY_SIZE(batch));
	while (count < n && (g->free_count || evict(g)))
		batch[count++] = (u64)g->free[--g->free_count] << PAGE_SHIFT;
	balloon_inflate(&g->gs, batch, count);
	while (count--) {
		bool taken = !(batch[count] >> 4 & 0xff);
		gfn_t gfn = (gfn_t)(batch[count] >> PAGE_SHIFT);

		if (taken && g->kind != SIM_LYING)
			g->balloon[g->balloon_count++] = gfn;
		else
			g->free[g->free_count++] = gfn;
	}
}

static void deflate(struct sim_guest *g, u32 n)
{
	u64 batch[64];
	u32 count = 0;

	n = MIN(MIN(n, g->balloon_count), ARRAY_SIZE(batch));
	while (count < n)
		batch[count++] = (u64)g->balloon[--g->balloon_count] << PAGE_SHIFT;
	balloon_deflate(&g->gs, batch, count);
	while (count--) {
		gfn_t gfn = (gfn_t)(batch[count] >> PAGE_SHIFT);

		if (batch[count] >> 4 & 0xff)
			g->balloon[g->balloon_count++] = gfn;
		else
			g->free[g->free_count++] = gfn;
	}
}

void sim_balloon(struct sim_guest *g)
{
	u32 target = g->gs.balloon_target, size = balloon_size(&g->gs);

	if (!g->running || g->blocked || g->kind == SIM_ABSENT || g->kind == SIM_DEAF)
		return;
	if (g->kind == SIM_SLOW) {
		if (!prng_below(&g->rnd, SLOW_ONE_IN) && target > size)
			inflate(g, 1);
		else if (target < size)
			deflate(g, 8);
		return;
	}
	if (target > size)
		inflate(g, target - size);
	else if (target < size)
		deflate(g, size - target);
}

/* ---- end ------------------------------------------------------------------ */

u64 sim_verify(struct sim_guest *g, void (*pump)(void))
{
	u64 bad = g->bad;
	u32 turns = 0;

	for (u32 i = 0; i < g->logical; i++) {
		if (g->page[i].gfn == GFN_NONE)
			continue;
		while (move_content(g, i, false)) {
			while (g->blocked) {
				pump();
				CHECK(turns++ < VERIFY_PATIENCE);
			}
		}
	}
	return g->bad - bad;
}

void sim_end(struct sim_guest *g, void (*pump)(void))
{
	u32 turns = 0;

	g->running = false;
	reclaim_remove(&g->gs);
	while (!gspace_destroy_some(&g->gs, 256)) {
		pump();
		CHECK(turns++ < VERIFY_PATIENCE);
	}
	swap_unreserve(&g->gs);
	free(g->page);
	free(g->free);
	free(g->balloon);
}
