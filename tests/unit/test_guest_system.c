/* Whole guests on the fake hypervisor: balloon driver, workloads, console, the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "guest/kernel/app.h"
#include "guest/kernel/arch.h"
#include "lib/string.h"
#include "tests/unit/fake_hv_guest.h"

#define SECOND NSEC_PER_SEC

static struct kernel k;

static u32 held(void)
{
	return k.ram.count[RAM_BALLOON];
}

static void assert_sound(void)
{
	assert_false(fake.panicked);
	assert_true(ram_verify(&k.ram));
	assert_true(pager_verify(&k.pager));
	assert_int_equal(held(), fake.held);
	assert_int_equal(k.info->app.errors, 0);
}

static void finish(void)
{
	assert_sound();
	fake_stop();
}

/* ---- balloon ---- */

static void test_inflate_free(void **state)
{
	u32 touched;

	(void)state;
	fake_boot(&k, 64, 0, "app=idle mem=10%");
	fake_run(&k, SECOND);
	touched = fake_touched();
	assert_true(touched < fake.pages / 8);
	fake_set_target(fake.pages / 2);
	fake_run(&k, SECOND);
	assert_int_equal(held(), fake.pages / 2);
	assert_int_equal(k.info->balloon_report.achieved, fake.pages / 2);
	assert_true(fake_touched() <= touched + 4); /* giving away touches nothing */
	fake_set_target(100);
	fake_run(&k, SECOND);
	assert_int_equal(held(), 100);
	fake_set_target(0);
	fake_run(&k, SECOND);
	assert_int_equal(held(), 0);
	finish();
}

static void test_large_units(void **state)
{
	(void)state;
	fake_start(&k, 64, 0, "app=idle mem=10%");
	fake.features |= AERO_FEATURE_BALLOON_2M;
	kernel_contract(&k);
	kernel_start_app(&k);
	fake_set_target(5 * LARGE_PAGES + 7);
	fake_run(&k, SECOND);
	assert_int_equal(held(), 5 * LARGE_PAGES + 7);
	assert_int_equal(k.balloon.calls_2m, 5);
	assert_int_equal(k.balloon.calls_4k, 7);
	assert_int_equal(k.balloon.up.pages[1], 5 * LARGE_PAGES);
	assert_int_equal(k.balloon.up.pages[0], 7);
	assert_true(k.balloon.up.ticks[0] && k.balloon.up.ticks[1]);
	fake_set_target(2 * LARGE_PAGES);
	fake_run(&k, SECOND);
	assert_int_equal(held(), 2 * LARGE_PAGES);
	assert_int_equal(k.balloon.down.pages[1], 3 * LARGE_PAGES);
	assert_int_equal(k.balloon.down.pages[0], 7);
	finish();
}

/* No more in a step than the host's rate allows. */
static void test_rate(void **state)
{
	(void)state;
	fake_boot(&k, 64, 0, "app=idle mem=10%");
	fake_run(&k, SECOND);
	fake.rate = 10;
	fake_set_target(2000);
	fake_run(&k, SECOND);
	assert_in_range(held(), 500, 1100);
	fake_run(&k, 2 * SECOND);
	assert_int_equal(held(), 2000);
	finish();
}

/* BUSY is tried again, pages that are pinned are put aside, the target is met all the same. */
static void test_refusals(void **state)
{
	(void)state;
	fake_boot(&k, 64, 0, "app=idle mem=10%");
	fake_run(&k, SECOND);
	for (u32 i = fake.pages / 4; i < fake.pages / 4 + 30; i++)
		fake.pinned[i] = 1;
	fake.busy_every = 50;
	fake_set_target(fake.max);
	fake_run(&k, 20 * SECOND);
	assert_int_equal(held(), fake.max);
	assert_int_equal(k.balloon.reserve, (k.ram.pages - fake.max) / 64); /* as of a guest of what is left */
	assert_true(k.info->balloon_report.refused_rate > 0);
	assert_true(k.info->balloon_report.refused_pinned >= 30);
	finish();
}

/* Without a disk the balloon stops at its reserve and says so; the guest lives. */
static void test_no_memory(void **state)
{
	(void)state;
	fake_boot(&k, 32, 0, "app=verify mem=80%");
	fake_run(&k, 5 * SECOND);
	fake_set_target(fake.max);
	fake_run(&k, 5 * SECOND);
	assert_true(held() > 0 && held() < fake.max);
	assert_true(k.ram.count[RAM_FREE] >= k.balloon.reserve / 2);
	assert_true(k.info->balloon_report.refused_no_memory > 0);
	assert_true(k.info->app.pages_checked > 100);
	fake_set_target(0);
	fake_run(&k, 2 * SECOND);
	assert_int_equal(held(), 0);
	finish();
}

/* With a disk the application's pages follow, and everything comes back right. */
static void test_squeeze(void **state)
{
	u64 checked;

	(void)state;
	fake_boot(&k, 32, 64, "app=verify mem=90% zero=10% same=20%");
	fake_run(&k, 5 * SECOND);
	assert_true(fake_printed("verify: ready"));
	assert_int_equal(k.pager.count[VPAGE_SWAPPED], 0);
	fake_set_target(fake.max);
	fake_run(&k, 10 * SECOND);
	assert_int_equal(held(), fake.max);
	assert_true(k.pager.count[VPAGE_SWAPPED] > fake.pages / 2);
	checked = k.info->app.pages_checked;
	/* As long as it is squeezed nearly all that it reads back is for that. */
	for (u32 i = 0; i < 5; i++) {
		u64 refaults = k.info->balloon_report.refaults, in = k.pager.stats.paged_in;

		fake_run(&k, 10 * SECOND);
		refaults = k.info->balloon_report.refaults - refaults;
		in = k.pager.stats.paged_in - in;
		assert_true(in > 1000);
		assert_in_range(refaults, in * 9 / 10, in * 11 / 10); /* it is told once a second */
	}
	assert_int_equal(held(), fake.max);
	assert_true(k.info->app.pages_checked > checked + 100);
	assert_true(k.info->balloon_report.refault_ns > 0);
	assert_sound();
	fake_set_target(0);
	fake_run(&k, 10 * SECOND);
	assert_int_equal(held(), 0);
	finish();
}

/* The target jumps about while everything runs, with refusals and disk errors in between. */
static void test_turbulence(void **state)
{
	(void)state;
	fake_boot(&k, 32, 64, "app=verify mem=90% write=40%");
	fake.busy_every = 97;
	fake.disk_latency_ns = 2 * NSEC_PER_MSEC;
	for (u32 i = 0; i < 60; i++) {
		fake_set_target((u32)prng_below(&fake.prng, fake.max + 1));
		fake.rate = (u32)prng_below(&fake.prng, 3) * 300;
		if (i % 7 == 3)
			fake.fail_writes = 5;
		if (i % 11 == 3)
			fake.fail_reads = 1;
		fake_run(&k, (1 + prng_below(&fake.prng, 20)) * SECOND / 10);
		assert_sound();
	}
	assert_true(fake.inflated > fake.max);
	assert_true(fake.deflated > fake.max / 2);
	fake_type("check\r");
	fake_run(&k, 20 * SECOND);
	assert_true(fake_printed(" pages, 0 bad\n"));
	finish();
}

/* Only 8 MiB. */
static void test_tiny(void **state)
{
	(void)state;
	fake_boot(&k, 8, 16, "app=verify mem=90%");
	fake_run(&k, 3 * SECOND);
	fake_set_target(fake.max);
	fake_run(&k, 20 * SECOND);
	assert_true(held() > fake.max / 2);
	finish();
}

/* ---- workloads ---- */

static void test_larger_than_memory(void **state)
{
	(void)state;
	fake_boot(&k, 16, 64, "app=verify mem=150%");
	fake_run(&k, 60 * SECOND);
	assert_true(fake_printed("verify: ready"));
	assert_int_equal(k.pager.pages, fake.pages * 3 / 2);
	assert_true(k.pager.stats.major_faults > 100);
	assert_int_equal(k.info->balloon_report.refaults, 0); /* it has no balloon that could be the cause */
	finish();
}

static void test_verify_sees_damage(void **state)
{
	u64 *e;

	(void)state;
	fake_boot(&k, 16, 0, "app=verify mem=50% zero=0%");
	fake_run(&k, 2 * SECOND);
	e = ptab_entry(&k.ptab, pager_va(77), false);
	fake.memory[(*e & PTE_ADDR) + 1234] ^= 1;
	fake_type("check\r");
	fake_run(&k, 3 * SECOND);
	assert_true(k.info->app.errors > 0);
	assert_true(fake_printed("BAD page 77"));
	assert_false(fake_printed(" pages, 0 bad"));
	fake_stop();
}

static void test_rate_of_work(void **state)
{
	(void)state;
	fake_boot(&k, 16, 0, "app=verify mem=50% rate=100");
	fake_run(&k, 2 * SECOND);
	k.info->app.pages_checked = 0;
	fake_run(&k, 10 * SECOND);
	assert_in_range(k.info->app.pages_checked, 1000, 1300);
	finish();
}

/* run=: a report, then rest. sets=: only that part of the region is worked on. */
static void test_run_and_sets(void **state)
{
	u32 before;

	(void)state;
	fake_boot(&k, 16, 0, "app=verify mem=50% write=100 rate=2000 sets=25,100,10 step=10 run=25 report=0");
	fake_run(&k, 8 * SECOND);
	assert_true(fake_printed("verify: works on 512 pages at"));
	assert_false(fake_printed("verify: works on 2048 pages"));
	fake_run(&k, 10 * SECOND);
	assert_true(fake_printed("verify: works on 2048 pages"));
	fake_run(&k, 10 * SECOND);
	assert_true(fake_printed("verify: works on 204 pages"));
	assert_true(fake_printed("verify: done"));
	before = (u32)k.info->app.pages_checked;
	assert_in_range(before, 45000, 55000);
	fake_run(&k, 20 * SECOND);
	assert_int_equal(k.info->app.pages_checked, before);
	finish();
	fake_boot(&k, 32, 64, "app=db size=8M cache=60% run=5");
	fake_run(&k, 30 * SECOND);
	assert_true(fake_printed("db: done"));
	before = (u32)k.info->app.operations;
	fake_run(&k, 20 * SECOND);
	assert_int_equal(k.info->app.operations, before);
	finish();
}

static void test_bad_sets(void **state)
{
	static const char *const bad[] = {"101", "x", "1,,2", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "123456789"};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		char line[80] = "app=verify mem=50% sets=";

		strcat(line, bad[i]);
		fake_start(&k, 16, 0, line);
		kernel_contract(&k);
		assert_int_not_equal(app_find("verify")->start(&k), 0);
		fake_stop();
	}
}

static void test_no_driver(void **state)
{
	(void)state;
	fake_boot(&k, 16, 0, "app=idle mem=50% without=3");
	fake_set_target(500);
	fake_run(&k, 10 * SECOND);
	assert_int_equal(held(), 0);
	assert_int_equal(k.features & (AERO_FEATURE_BALLOON | AERO_FEATURE_BALLOON_2M), 0);
	finish();
}

static void test_idle_sleeps(void **state)
{
	u64 loops;

	(void)state;
	fake_boot(&k, 64, 0, "app=idle mem=50%");
	fake_run(&k, 5 * SECOND);
	assert_true(fake_printed("idle: ready"));
	assert_int_equal(k.pager.count[VPAGE_RESIDENT], fake.pages / 2);
	loops = k.loops;
	fake_run(&k, 60 * SECOND);
	assert_true(k.loops - loops < 150);
	finish();
}

static void test_desktop(void **state)
{
	(void)state;
	fake_boot(&k, 32, 32, "app=desktop");
	fake_run(&k, 5 * SECOND);
	fake_set_target(fake.max);
	fake_run(&k, 20 * SECOND);
	assert_true(fake_printed("desktop: ready"));
	assert_int_equal(held(), fake.max);
	assert_true(k.info->app.pages_checked > 500);
	finish();
}

static void test_db(void **state)
{
	u32 before, squeezed;

	(void)state;
	fake_boot(&k, 32, 64, "app=db size=32M cache=60%");
	fake_run(&k, 20 * SECOND);
	assert_true(fake_printed("db: ready"));
	fake_run(&k, 30 * SECOND);
	before = k.info->app.hit_permille;
	assert_true(before > 600);
	assert_true(k.cache.used > 4000);
	fake_set_target(fake.max);
	fake_run(&k, 30 * SECOND);
	assert_int_equal(held(), fake.max);
	squeezed = k.info->app.hit_permille;
	assert_true(squeezed < before);
	assert_true(k.info->balloon_report.refaults > 100); /* of its cache */
	assert_sound();
	fake_set_target(0);
	fake_run(&k, 60 * SECOND);
	assert_true(k.info->app.hit_permille > squeezed);
	fake_type("check\r");
	fake_run(&k, 20 * SECOND);
	assert_true(fake_printed("8192 pages, 0 bad"));
	finish();
}

/*
 * Reads through the cache, whole pages written, blocks written past the cache; the host makes use of all that it is
 * told.
 */
static void test_stream(void **state)
{
	(void)state;
	fake_boot(&k, 32, 64, "app=stream file=8M mem=8M past=10 run=20");
	fake_run(&k, 60 * SECOND);
	assert_true(fake_printed("stream: done"));
	assert_true(k.hints.stats.clean > 2048 && k.hints.stats.overwrite > 2048 && k.hints.stats.changed > 100);
	assert_true(fake.dropped > 100);
	fake_set_target(fake.max);
	fake_run(&k, 20 * SECOND);
	fake_set_target(0);
	fake_type("check\r");
	fake_run(&k, 20 * SECOND);
	assert_true(fake_printed("check: 2048 pages of the file, 0 bad"));
	assert_true(fake_printed("check: 2048 pages, 0 bad"));
	assert_int_equal(k.info->app.errors, 0);
	assert_sound();
	finish();
	fake_start(&k, 32, 64, "app=stream file=8M mem=8M past=10 run=5 without=128");
	kernel_contract(&k);
	kernel_start_app(&k);
	fake_run(&k, 30 * SECOND);
	assert_true(fake_printed("stream: done"));
	assert_true(fake.hints == 0 && k.info->app.errors == 0);
	finish();
}

static void test_db_without_disk(void **state)
{
	(void)state;
	fake_start(&k, 16, 0, "app=db");
	kernel_contract(&k);
	assert_false(fake_try((void (*)(void *))kernel_start_app, &k));
	assert_true(fake_printed("db: needs a disk"));
	fake_stop();
}

static void test_abi(void **state)
{
	(void)state;
	fake_boot(&k, 16, 16, "app=abi end=1");
	fake_run(&k, 10 * SECOND);
	assert_true(fake_printed(" passed, 0 failed"));
	assert_true(fake.ended);
	assert_int_equal(fake.how, AERO_SHUTDOWN_OFF);
	fake_stop();
	fake_boot(&k, 16, 0, "app=abi");
	fake_run(&k, 10 * SECOND);
	assert_true(fake_printed(" passed, 0 failed"));
	fake_stop();
}

/* Those a guest survives by hypercalls alone. */
static void test_wild(void **state)
{
	static const char *const how[] = {"wildcall", "ringlie", "hintlie", "infolie"};
	char line[64] = "app=crash after=1 then=run how=";

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(how); i++) {
		str_copy(line + 31, how[i], sizeof(line) - 31);
		fake_boot(&k, 16, 16, line);
		fake.lies = true;
		fake_run(&k, 20 * SECOND);
		assert_true(fake_printed("crash: survived"));
		assert_false(fake.ended);
		fake_stop();
	}
	fake_boot(&k, 16, 16, "app=crash after=1 how=wildcall calls=100");
	fake_run(&k, 5 * SECOND);
	assert_true(fake.ended);
	assert_int_equal(fake.how, AERO_SHUTDOWN_CRASH);
	fake_stop();
	fake_boot(&k, 16, 16, "app=crash after=1 how=off");
	fake_run(&k, 3 * SECOND);
	assert_true(fake.ended);
	assert_int_equal(fake.how, AERO_SHUTDOWN_OFF);
	fake_stop();
}

/* ---- console, command line, the end ---- */

static void test_console(void **state)
{
	(void)state;
	fake_boot(&k, 16, 16, "app=desktop");
	fake_run(&k, SECOND);
	fake_type("hepl\b\blp\r\nst");
	fake_run(&k, SECOND);
	assert_true(fake_printed("check: verify everything"));
	assert_false(fake_printed("pages: total="));
	fake_type("ats\nnonsense\n");
	fake_run(&k, SECOND);
	assert_true(fake_printed("pages: total=4096"));
	assert_true(fake_printed("unknown command 'nonsense'"));
	fake_type("off\r");
	fake_run(&k, SECOND);
	assert_true(fake.ended);
	assert_int_equal(fake.how, AERO_SHUTDOWN_OFF);
	fake_stop();
}

static void test_shutdown(void **state)
{
	static const char *const lines[] = {"app=verify", "app=idle", "app=desktop", "app=db", "app=crash after=1000"};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(lines); i++) {
		fake_boot(&k, 16, 16, lines[i]);
		fake_run(&k, SECOND);
		assert_false(fake.ended);
		fake_post(AERO_EVENT_SHUTDOWN);
		fake_run(&k, SECOND);
		assert_true(fake.ended);
		assert_int_equal(fake.how, AERO_SHUTDOWN_OFF);
		assert_int_equal(k.info->app.state, 2);
		fake_stop();
	}
}

static void test_strange_lines(void **state)
{
	(void)state;
	fake_boot(&k, 16, 0, "app=dance");
	fake_run(&k, SECOND);
	assert_true(fake_printed("no workload 'dance'"));
	assert_true(fake_printed("idle: ready"));
	fake_stop();
	fake_boot(&k, 16, 0, "app=verify mem=400%");
	fake_run(&k, 5 * SECOND);
	assert_true(fake_printed("do not fit"));
	assert_true(fake_printed("verify: ready"));
	assert_false(fake.panicked);
	fake_stop();
	fake_start(&k, 16, 0, "app=verify mem=lots");
	kernel_contract(&k);
	assert_false(fake_try((void (*)(void *))kernel_start_app, &k));
	assert_true(fake_printed("bad argument: mem="));
	fake_stop();
}

static void test_slow_machine(void **state)
{
	(void)state;
	fake_start(&k, 16, 32, "app=verify mem=80%");
	fake.tsc_step_ns = 200 * NSEC_PER_USEC; /* a hundredth of the speed */
	fake.disk_latency_ns = 50 * NSEC_PER_MSEC;
	kernel_contract(&k);
	kernel_start_app(&k);
	fake_run(&k, 10 * SECOND);
	fake_set_target(fake.max);
	fake_run(&k, 120 * SECOND);
	assert_true(held() > fake.max / 2);
	fake_post(AERO_EVENT_SHUTDOWN);
	fake_run(&k, 2 * SECOND);
	assert_true(fake.ended);
	fake_stop();
}

/* ---- memory that grows ---- */

static void boot_growing(u32 mib, u32 max_mib, u32 disk_mib, const char *cmdline)
{
	fake_start_growing(&k, mib, max_mib, disk_mib, cmdline);
	fake.max = fake.room;
	kernel_contract(&k);
	kernel_start_app(&k);
}

static void test_grows(void **state)
{
	(void)state;
	boot_growing(16, 64, 0, "app=idle mem=10%");
	fake_run(&k, SECOND);
	assert_int_equal(k.ram.pages, 4096);
	fake_offer(4096 + 700);
	fake_run(&k, SECOND / 10);
	assert_int_equal(k.ram.pages, 4796);
	assert_int_equal(k.grown, 700);
	assert_int_equal(fake.onlined, 1);
	fake_offer(4096 + 100); /* less than it has: nothing */
	fake_run(&k, SECOND);
	assert_int_equal(k.ram.pages, 4796);
	fake_offer(16384);
	fake_run(&k, SECOND);
	assert_int_equal(k.ram.pages, 16384);
	assert_int_equal(k.info->memory.total, 16384);
	/* The balloon takes of it what the host wants. */
	fake_set_target(13000);
	fake_run(&k, SECOND);
	assert_int_equal(held(), 13000);
	fake_set_target(0);
	fake_run(&k, SECOND);
	finish();
}

/* What is offered and gone when it asks, or not granted at all, changes nothing. */
static void test_grow_refused(void **state)
{
	(void)state;
	boot_growing(16, 64, 0, "app=idle mem=10%");
	fake_run(&k, SECOND);
	fake_offer(8192);
	fake.offered = 0;
	fake_run(&k, SECOND);
	assert_int_equal(k.ram.pages, 4096);
	fake_offer(8192);
	fake_run(&k, SECOND);
	assert_int_equal(k.ram.pages, 8192);
	k.info->growth.offered = ~0ul;
	fake_run(&k, SECOND);
	assert_int_equal(k.ram.pages, 8192);
	finish();
	fake_start_growing(&k, 16, 64, 0, "app=idle mem=10%");
	fake.features &= ~AERO_FEATURE_MEMORY;
	kernel_contract(&k);
	kernel_start_app(&k);
	fake_offer(8192);
	fake_run(&k, SECOND);
	assert_int_equal(k.ram.pages, 4096);
	assert_int_equal(fake.onlined, 0);
	finish();
}

static u64 committed(void)
{
	return k.info->memory.committed;
}

/* High and low water, with a host that gives what is committed and takes the rest. */
static void test_tide(void **state)
{
	u64 high = 0, low = ~0ul;

	(void)state;
	boot_growing(16, 64, 64, "app=tide high=44M low=6M hold=2 rate=20000");
	for (u32 i = 0; i < 600; i++) {
		u32 want = (u32)MIN(committed() * 12 / 10, (u64)fake.room);

		if (want > fake.pages)
			fake_offer(MIN((u32)ALIGN_UP(want, LARGE_PAGES), fake.room));
		fake_set_target(want < fake.pages ? fake.pages - want : 0);
		fake_run(&k, SECOND / 20);
		assert_false(fake.panicked);
		high = MAX(high, committed());
		if (high > 11000)
			low = MIN(low, committed());
	}
	assert_true(fake_printed("tide: high, 11264 pages stamped"));
	assert_true(fake_printed("tide: low, 1536 pages kept"));
	assert_in_range(high, 11264, 12500);
	assert_in_range(low, 1536, 2500);
	assert_true(k.ram.pages >= 11264 && k.grown > 6000);
	assert_true(k.info->app.pages_checked > 20000);
	finish();
}

/* The same where nothing is ever added: what does not fit is paged. */
static void test_tide_without_more(void **state)
{
	(void)state;
	boot_growing(16, 64, 64, "app=tide high=24M low=3M hold=1 rate=5000");
	fake_run(&k, 60 * SECOND);
	assert_true(fake_printed("tide: high, 6144 pages stamped"));
	assert_true(fake_printed("tide: low, 768 pages kept"));
	assert_true(k.pager.stats.paged_out > 1000);
	assert_int_equal(k.ram.pages, 4096);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_inflate_free),
	    cmocka_unit_test(test_large_units),
	    cmocka_unit_test(test_rate),
	    cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_no_memory),
	    cmocka_unit_test(test_squeeze),
	    cmocka_unit_test(test_turbulence),
	    cmocka_unit_test(test_tiny),
	    cmocka_unit_test(test_larger_than_memory),
	    cmocka_unit_test(test_verify_sees_damage),
	    cmocka_unit_test(test_rate_of_work),
	    cmocka_unit_test(test_run_and_sets),
	    cmocka_unit_test(test_bad_sets),
	    cmocka_unit_test(test_no_driver),
	    cmocka_unit_test(test_idle_sleeps),
	    cmocka_unit_test(test_desktop),
	    cmocka_unit_test(test_db),
	    cmocka_unit_test(test_stream),
	    cmocka_unit_test(test_db_without_disk),
	    cmocka_unit_test(test_abi),
	    cmocka_unit_test(test_wild),
	    cmocka_unit_test(test_console),
	    cmocka_unit_test(test_shutdown),
	    cmocka_unit_test(test_strange_lines),
	    cmocka_unit_test(test_slow_machine),
	    cmocka_unit_test(test_grows),
	    cmocka_unit_test(test_grow_refused),
	    cmocka_unit_test(test_tide),
	    cmocka_unit_test(test_tide_without_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
