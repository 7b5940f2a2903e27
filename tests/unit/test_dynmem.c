/*
 * Dynamic Memory: what a VM wants and is offered; and simulations of guests that need now more, now less, on a machine
 * that has it or has not. Frames, spaces, balloon, reclaim and swap are the real ones.
 */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "mm/balloon.h"
#include "mm/dynmem.h"
#include "mm/gspace.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "mm/wss.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/mm_test.h"

#define FRAMES  16384U /* 64 MiB */
#define SLOTS   65536U
#define TICK_NS (10 * NSEC_PER_MSEC)
#define MB      256U /* pages */
#define GUESTS  3U

struct guest {
	struct gspace gs;
	u32 need;    /* pages of its work, from page 0 on */
	u32 touched; /* of these, written */
	u64 says;    /* what it says it has committed; 0: the truth */
	bool lazy;   /* takes nothing on line */
	u64 stamp;
	u64 bad;
};

static struct guest guest[GUESTS];
static u32 guests;

static u64 committed_of(struct gspace *gs)
{
	const struct guest *g = container_of(gs, struct guest, gs);

	return g->says ? g->says : g->need;
}

static int start(void **state)
{
	(void)state;
	mm_test_start(FRAMES, SLOTS);
	fake_blk.latency_ns = NSEC_PER_MSEC;
	reclaim_init(NULL);
	wss_configure(WSS_SAMPLES_DEFAULT, 5, true);
	assert_int_equal(swap_on(&fake_blk_part), 0);
	fake_mm_committed = committed_of;
	guests = 0;
	return 0;
}

static struct guest *add(const char *name, u32 startup, u32 minimum, u32 maximum, u32 reservation, u32 shares)
{
	struct mem_alloc alloc = {.reservation = reservation, .limit = MAX(maximum, startup), .shares = shares};
	struct guest *g = &guest[guests++];

	memset(g, 0, sizeof(*g));
	assert_int_equal(gspace_init(&g->gs, name, startup, &fake_format, &alloc), 0);
	assert_int_equal(swap_reserve(&g->gs, MAX(maximum, startup) - reservation), 0);
	g->gs.dyn =
	    (struct dynmem){.minimum = minimum, .maximum = maximum, .buffer = 20, .offered = startup, .present = true};
	g->gs.balloon_present = true;
	g->need = startup / 2;
	g->stamp = (u64)name[0] << 56;
	reclaim_add(&g->gs);
	return g;
}

/* ---- guests at work ------------------------------------------------------ */

static bool ballooned(struct guest *g, gfn_t gfn)
{
	return gspace_state(&g->gs, gfn) == PAGE_BALLOONED;
}

/* Gives what is above its work, from the end; takes back the lowest. */
static void drive_balloon(struct guest *g)
{
	u64 entry[BALLOON_BATCH_MAX];
	u32 target = g->gs.balloon_target, size = balloon_size(&g->gs), n = 0;

	if (size < target) {
		for (gfn_t gfn = g->gs.pages; gfn-- > g->touched && n < MIN(target - size, BALLOON_BATCH_MAX);)
			if (!ballooned(g, gfn))
				entry[n++] = (u64)gfn << PAGE_SHIFT;
		(void)balloon_inflate(&g->gs, entry, n);
	} else if (size > target) {
		for (gfn_t gfn = 0; gfn < g->gs.pages && n < MIN(size - target, BALLOON_BATCH_MAX); gfn++)
			if (ballooned(g, gfn))
				entry[n++] = (u64)gfn << PAGE_SHIFT;
		(void)balloon_deflate(&g->gs, entry, n);
	}
}

/* Its work grows as far as memory reaches, and shrinks; what it wrote it finds again. */
static void work(struct guest *g)
{
	u64 word;

	if (g->touched > g->need)
		g->touched = g->need;
	for (u32 i = 0; i < 200 && g->touched < g->need && g->touched < g->gs.pages && !ballooned(g, g->touched); i++) {
		word = g->stamp | g->touched;
		if (gspace_write(&g->gs, gfn_to_gpa(g->touched), &word, sizeof(word)))
			break;
		g->touched++;
	}
	for (u32 i = 0; i < 8 && g->touched; i++) {
		gfn_t gfn = (gfn_t)((fake_now_ns / TICK_NS * 8 + i) * 7919 % g->touched);

		if (!gspace_read(&g->gs, gfn_to_gpa(gfn), &word, sizeof(word)))
			g->bad += word != (g->stamp | gfn);
	}
}

static void take_offer(struct guest *g)
{
	u32 pages = g->gs.pages;

	if (!g->lazy && g->gs.dyn.offered > pages)
		assert_int_equal(gspace_grow(&g->gs, pages, g->gs.dyn.offered - pages), 0);
}

static void check_bounds(const struct guest *g)
{
	const struct dynmem *d = &g->gs.dyn;
	u32 sum = 0;

	for (u32 s = 0; s < PAGE_STATES; s++)
		sum += g->gs.count[s];
	assert_int_equal(sum, g->gs.pages);
	if (!d->maximum)
		return;
	assert_true(g->gs.pages <= d->maximum && d->offered <= d->maximum);
	assert_true(g->gs.pages - g->gs.balloon_target >= MIN(d->minimum, g->gs.pages));
	assert_true(dynmem_wanted(&g->gs) <= d->maximum && dynmem_wanted(&g->gs) >= d->minimum);
	assert_true(dynmem_pressure(&g->gs) <= DYNMEM_PRESSURE_MAX);
}

static void run(u64 ms)
{
	for (u64 end = fake_now_ns + ms * NSEC_PER_MSEC; fake_now_ns < end;) {
		fake_now_ns += TICK_NS;
		fake_blk_poll();
		for (u32 i = 0; i < 3; i++)
			reclaim_step(fake_now_ns);
		for (u32 i = 0; i < guests; i++) {
			take_offer(&guest[i]);
			drive_balloon(&guest[i]);
			work(&guest[i]);
			check_bounds(&guest[i]);
		}
	}
}

static int finish(void **state)
{
	(void)state;
	fake_blk_drain();
	assert_int_equal(gspace_verify_all(), 0);
	for (u32 i = 0; i < guests; i++) {
		assert_int_equal(guest[i].bad, 0);
		reclaim_remove(&guest[i].gs);
		swap_unreserve(&guest[i].gs);
		for (u32 n = 0; !gspace_destroy_some(&guest[i].gs, 1000); n++) {
			assert_true(n < 1000);
			fake_blk_drain();
		}
	}
	mm_test_stop();
	return 0;
}

/* ---- what it wants ------------------------------------------------------- */

static void test_wanted(void **state)
{
	struct guest *g = add("a", 16 * MB, 8 * MB, 48 * MB, 0, 100);
	struct dynmem *d = &g->gs.dyn;

	(void)state;
	assert_int_equal(dynmem_wanted(&g->gs), 16 * MB); /* has said nothing yet */
	assert_false(dynmem_active(&g->gs));
	assert_int_equal(dynmem_status(&g->gs), DYNMEM_OFF);
	assert_int_equal(dynmem_pressure(&g->gs), 0);
	d->committed = 1;
	assert_int_equal(dynmem_wanted(&g->gs), 8 * MB);
	d->committed = 10 * MB;
	assert_int_equal(dynmem_wanted(&g->gs), 12 * MB);
	assert_int_equal(dynmem_pressure(&g->gs), 62);
	assert_int_equal(dynmem_status(&g->gs), DYNMEM_OK);
	d->committed = 15 * MB;
	assert_int_equal(dynmem_status(&g->gs), DYNMEM_LOW);
	d->committed = 20 * MB;
	assert_int_equal(dynmem_status(&g->gs), DYNMEM_WARNING);
	assert_int_equal(dynmem_pressure(&g->gs), 125);
	d->committed = 40 * MB;
	assert_int_equal(dynmem_wanted(&g->gs), 48 * MB);
	d->committed = GFN_NONE - 1;
	assert_int_equal(dynmem_wanted(&g->gs), 48 * MB);
	assert_int_equal(dynmem_pressure(&g->gs), DYNMEM_PRESSURE_MAX);
	/* A reservation is the least, whatever the minimum; the operator's word goes before the guest's. */
	d->committed = 1;
	g->gs.alloc.reservation = 10 * MB;
	assert_int_equal(dynmem_wanted(&g->gs), 10 * MB);
	d->fixed = 30 * MB;
	assert_int_equal(dynmem_wanted(&g->gs), 30 * MB);
	d->present = false;
	assert_int_equal(dynmem_wanted(&g->gs), 16 * MB);
	d->present = true;
	d->fixed = 0;
	g->gs.alloc.reservation = 0;
}

static void test_grow(void **state)
{
	struct guest *g = add("a", 3 * MB + 7, MB, 8 * MB, 0, 100);
	u64 word = 42;

	(void)state;
	assert_int_equal(gspace_grow(&g->gs, 3 * MB + 7, 1), E_NOSPC);
	g->gs.dyn.offered = 6 * MB;
	assert_int_equal(gspace_grow(&g->gs, 3 * MB + 7, 0), E_INVAL);
	assert_int_equal(gspace_grow(&g->gs, 3 * MB + 6, 1), E_INVAL);
	assert_int_equal(gspace_grow(&g->gs, 3 * MB + 8, 1), E_INVAL);
	assert_int_equal(gspace_grow(&g->gs, (1UL << 32) + 3 * MB + 7, 1), E_INVAL);
	assert_int_equal(gspace_grow(&g->gs, 3 * MB + 7, 3 * MB - 6), E_NOSPC);
	assert_int_equal(gspace_grow(&g->gs, 3 * MB + 7, ~0UL), E_NOSPC);
	assert_int_equal(gspace_grow(&g->gs, 3 * MB + 7, 1UL << 32), E_NOSPC);
	assert_int_equal(gspace_touch(&g->gs, 3 * MB + 7, GSPACE_WRITE), E_FAULT);
	assert_int_equal(gspace_grow(&g->gs, 3 * MB + 7, 5), 0);
	check_bounds(g);
	assert_int_equal(gspace_write(&g->gs, gfn_to_gpa(3 * MB + 11), &word, sizeof(word)), 0);
	assert_int_equal(gspace_touch(&g->gs, 3 * MB + 12, GSPACE_WRITE), E_FAULT);
	assert_int_equal(gspace_grow(&g->gs, 3 * MB + 12, 3 * MB - 12), 0);
	assert_int_equal(g->gs.pages, 6 * MB);
	assert_int_equal(g->gs.dyn.grown, 3 * MB - 7);
	word = 1;
	assert_int_equal(gspace_read(&g->gs, gfn_to_gpa(6 * MB - 1), &word, sizeof(word)), 0);
	assert_int_equal(word, 0); /* as all memory */
	assert_int_equal(gspace_verify_all(), 0);
	/* A region that has become whole is as others. */
	assert_int_equal(gspace_balloon_take(&g->gs, 4 * MB), 0);
	g->need = 0;
	g->says = 1;
}

static void test_grow_when_dying(void **state)
{
	struct guest *g = add("a", 4 * MB, MB, 8 * MB, 0, 100);

	(void)state;
	g->gs.dyn.offered = 6 * MB;
	assert_int_equal(gspace_touch(&g->gs, 5, GSPACE_WRITE), 0);
	assert_int_equal(gspace_touch(&g->gs, 3 * MB, GSPACE_WRITE), 0);
	reclaim_remove(&g->gs);
	assert_false(gspace_destroy_some(&g->gs, 1));
	assert_int_equal(gspace_grow(&g->gs, 4 * MB, 1), E_PERM);
	reclaim_add(&g->gs);
}

/* ---- with the whole of reclaim ------------------------------------------- */

/* A guest that needs more has it within two seconds; one that falls idle gives it back bit by bit. */
static void test_up_and_down(void **state)
{
	struct guest *g = add("a", 12 * MB, 6 * MB, 40 * MB, 0, 100);
	u32 before;

	(void)state;
	g->need = 5 * MB;
	run(1000);
	assert_int_equal(dynmem_have(&g->gs), 12 * MB); /* what it has too much it keeps for some seconds */
	run(30000);
	assert_in_range(dynmem_have(&g->gs), 6 * MB, 8 * MB + 64);
	g->need = 30 * MB;
	run(2500);
	assert_int_equal(g->touched, 30 * MB);
	assert_true(dynmem_have(&g->gs) >= 35 * MB);
	assert_in_range(dynmem_pressure(&g->gs), 75, 90);
	assert_int_equal(dynmem_status(&g->gs), DYNMEM_OK);
	assert_int_equal(g->gs.pages % LARGE_PAGES, 0);
	g->need = 5 * MB;
	before = dynmem_have(&g->gs);
	run(4000);
	assert_int_equal(dynmem_have(&g->gs), before);
	run(4000);
	assert_in_range(dynmem_have(&g->gs), 12 * MB, before - MB);
	run(30000);
	assert_in_range(dynmem_have(&g->gs), 6 * MB, 8 * MB + 64);
	/* And the size is what it was; the balloon holds it. */
	assert_true(g->gs.pages >= 35 * MB);
	g->need = 36 * MB;
	run(2500);
	assert_int_equal(g->touched, 36 * MB);
	assert_int_equal(g->gs.count[PAGE_SWAPPED], 0);
}

/* Where there is not enough for all, by shares; a neighbour keeps what it was promised. */
static void test_by_shares(void **state)
{
	struct guest *a = add("a", 8 * MB, 4 * MB, 60 * MB, 0, 300), *b = add("b", 8 * MB, 4 * MB, 60 * MB, 0, 100);
	struct guest *c = add("c", 12 * MB, 0, 0, 12 * MB, 100);

	(void)state;
	c->gs.dyn.present = false;
	c->need = 12 * MB;
	run(2000);
	assert_int_equal(c->touched, 12 * MB);
	a->need = b->need = 50 * MB;
	run(60000);
	assert_true(dynmem_have(&a->gs) > dynmem_have(&b->gs) + 4 * MB);
	assert_true(gspace_consumed(&a->gs) > gspace_consumed(&b->gs) * 3 / 2);
	assert_true(dynmem_pressure(&b->gs) > dynmem_pressure(&a->gs));
	assert_int_equal(dynmem_status(&b->gs), DYNMEM_WARNING);
	assert_int_equal(gspace_consumed(&c->gs), 12 * MB);
	assert_int_equal(c->gs.stats.swap_out, 0);
	/* One of them needs it no more: the other has it. */
	a->need = 4 * MB;
	run(30000);
	assert_true(b->touched > 40 * MB);
	assert_int_equal(c->gs.stats.swap_out, 0);
}

/* Whatever a guest says, it stays between its bounds, and a reservation is had. */
static void test_liars(void **state)
{
	struct guest *a = add("a", 8 * MB, 4 * MB, 60 * MB, 0, 100), *c = add("c", 24 * MB, 0, 0, 24 * MB, 100);
	struct prng rnd;

	(void)state;
	prng_seed(&rnd, 5);
	c->gs.dyn.present = false;
	c->need = 6 * MB;
	a->need = 8 * MB;
	a->says = ~0UL;
	run(3000);
	a->need = 60 * MB; /* and it touches all it can get */
	run(20000);
	c->need = 24 * MB;
	run(20000);
	assert_int_equal(c->touched, 24 * MB);
	assert_int_equal(gspace_consumed(&c->gs), 24 * MB);
	assert_int_equal(c->gs.stats.swap_out, 0);
	for (u32 i = 0; i < 200; i++) {
		a->says = prng_below(&rnd, 3) ? prng_next(&rnd) >> prng_below(&rnd, 64) : 1;
		a->lazy = prng_below(&rnd, 2);
		run(300);
	}
	assert_int_equal(gspace_consumed(&c->gs), 24 * MB);
	assert_int_equal(c->gs.stats.swap_out, 0);
}

/* The operator's size, and back; a guest that cannot is left as it is. */
static void test_fixed(void **state)
{
	struct guest *g = add("a", 12 * MB, 6 * MB, 40 * MB, 0, 100), *old = add("o", 12 * MB, 6 * MB, 40 * MB, 0, 100);

	(void)state;
	old->gs.dyn.present = false;
	old->need = 2 * MB;
	g->need = 5 * MB;
	g->gs.dyn.fixed = 20 * MB;
	run(1000);
	assert_int_equal(dynmem_have(&g->gs), 20 * MB);
	run(10000);
	assert_int_equal(dynmem_have(&g->gs), 20 * MB);
	g->gs.dyn.fixed = 9 * MB;
	run(2500);
	assert_in_range(dynmem_have(&g->gs), 9 * MB, 9 * MB + 64);
	g->gs.dyn.fixed = 0;
	run(20000);
	assert_in_range(dynmem_have(&g->gs), 6 * MB, 8 * MB + 64);
	assert_int_equal(dynmem_have(&old->gs), 12 * MB);
	assert_int_equal(old->gs.pages, 12 * MB);
}

/* A balloon that the operator has fixed says what the guest has: there is no way around it. */
static void test_fixed_balloon(void **state)
{
	struct guest *g = add("a", 12 * MB, 6 * MB, 40 * MB, 0, 100);

	(void)state;
	reclaim_set_manual(&g->gs, 2 * MB);
	g->need = 30 * MB;
	run(5000);
	assert_int_equal(dynmem_have(&g->gs), 10 * MB);
	reclaim_set_manual(&g->gs, GFN_NONE);
	run(3000);
	assert_int_equal(g->touched, 30 * MB);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)
	const struct CMUnitTest tests[] = {
	    TEST(test_wanted),    TEST(test_grow),  TEST(test_grow_when_dying), TEST(test_up_and_down),
	    TEST(test_by_shares), TEST(test_liars), TEST(test_fixed),           TEST(test_fixed_balloon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
