/* What explains: why, whatif, forecast, ledger. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "mm/frame.h"
#include "mm/reclaim.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/fake_vm.h"
#include "vmm/command.h"
#include "vmm/monitor.h"

static struct fake_out out;
static struct vm *a;

static const char *run(const char *line, int *err)
{
	fake_out_init(&out);
	*err = console_execute(&out.out, line);
	for (const char *c = out.text, *end; *c; c = end + 1) {
		end = strchr(c, '\n');
		assert_non_null(end);
		assert_true(end - c <= 80);
	}
	return out.text;
}

static const char *ok(const char *line)
{
	int err;

	run(line, &err);
	if (err)
		fail_msg("'%s': %s", line, out.text);
	return out.text;
}

static void bad(const char *line, const char *start)
{
	int err;

	run(line, &err);
	assert_int_not_equal(err, 0);
	if (!strstr(out.text, start))
		fail_msg("'%s': expected '%s', got '%s'", line, start, out.text);
}

/* Line breaks count as blanks. */
static void has(const char *text, const char *part)
{
	char flat[8192];
	size_t n = 0;

	for (; *text && n + 1 < sizeof(flat); text++)
		if (*text != '\n')
			flat[n++] = *text;
		else if (text[1] == ' ')
			continue;
		else
			flat[n++] = '\n';
	flat[n] = 0;
	for (char *c; (c = strstr(flat, "  "));)
		memmove(c, c + 1, strlen(c));
	if (!strstr(flat, part))
		fail_msg("expected '%s' in '%s'", part, flat);
}

static void tick(void)
{
	fake_now_ns += NSEC_PER_SEC;
	monitor_sample_begin();
	while (monitor_sample_piece())
		;
}

static void make_a(void)
{
	ok("vm create a memory=8M autostart=yes");
	a = vm_find("a");
	tick();
}

static void test_why(void **state)
{
	(void)state;
	make_a();
	fake_vm_touch(a, 512);
	strcpy(fake_vm_info.app.name, "db");
	fake_vm_info.app.operations = 100;
	tick();
	has(ok("why a"), "a has 8M of memory and holds 2M of RAM; it may hold 8M.");
	has(out.text, "Rule: there is enough for what it may hold");
	has(out.text, "It has no balloon driver");
	has(out.text, "Its workload db does 100 operations a second, 0 us each.\n");
	fake_vm_info.app.hit_permille = 973;
	tick();
	has(ok("why a"), "Its workload db does 0 operations a second, 0 us each, hit rate 97.3%.\n");
	ok("balloon a 2M");
	a->gs.target = 1024;
	a->gs.alloc.limit = 1500;
	tick();
	has(ok("why a"), "Rule: the operator has fixed its balloon");
	has(out.text, "It never gets more than its limit of 5.8M.");
	has(out.text, "divided by shares: 80 of 80 (100%) of ");
	has(out.text, "that comes to 4M.");
	a->gs.target = 1500;
	tick();
	has(ok("why a"),
	    "Rule: its limit of 5.8M keeps it from more, however much is free; up to that there is enough.");
	assert_null(strstr(out.text, "takes nothing for itself"));
	a->gs.target = a->gs.alloc.limit = 256;
	tick();
	has(ok("why a"), "Rule: its limit is 1M, and it holds 1M more: its balloon gives that, or swap takes it.");
	memset(&fake_vm_info, 0xff, sizeof(fake_vm_info));
	tick();
	ok("why a");
	bad("why b", "error: 'b': expected the name of a VM");
	ok("vm create b memory=8M");
	bad("why b", "error: 'b' has no memory");
}

/* Who wants less than its limit is not kept from more by it; shares are told rounded. */
static void test_why_limit_that_does_not_bind(void **state)
{
	struct vm *t;

	(void)state;
	make_a();
	ok("vm create t memory=8M minimum=8M maximum=64M");
	ok("vm start t");
	t = vm_find("t");
	t->gs.dyn.committed = 1024;
	ok("vm set t limit 32M");
	ok("vm set t shares 3");
	ok("vm set a shares 13");
	tick();
	has(ok("why t"), "Rule: there is enough for what it may hold; the host takes nothing for itself.");
	assert_null(strstr(out.text, "its limit"));
	a->gs.target = 1024;
	t->gs.target = 1024;
	tick();
	has(ok("why t"), "divided by shares: 3 of 16 (19%) of ");
}

static void test_whatif(void **state)
{
	u32 free;

	(void)state;
	make_a();
	ok("vm create b memory=8M");
	ok("vm create c memory=64M");
	tick();
	has(ok("whatif start b"), "b would start: reservation and swap suffice.");
	has(out.text, "state high, nothing is taken from anybody");
	has(ok("whatif start c"), "so memory becomes short: of 2 VMs that all want all, it could hold ");
	fake_vm_refuse = "not admitted: 3M missing";
	has(ok("whatif start b"), "b would not start: not admitted: 3M missing");
	fake_vm_refuse = NULL;
	bad("whatif start a", "error: 'a' is running");
	bad("whatif start d", "error: 'd': expected the name of a VM");

	fake_vm_info.memory.free = 256;
	fake_vm_info.memory.cached = 256;
	tick();
	free = frame_free_count();
	has(ok("whatif balloon a 1M"), "would grow by 1M, which leaves its guest 7M.");
	has(out.text, "gives 1M and notices nothing");
	has(ok("whatif balloon a 2M"), "of which 1M would go");
	has(ok("whatif balloon a 4M"), "it would page 2M to its own disk");
	has(ok("whatif balloon a 6M"), "Not possible: the balloon of a holds at most 5");
	has(ok("whatif balloon a 0"), "would give back 0");
	assert_int_equal(frame_free_count(), free);
	assert_int_equal(a->gs.balloon_manual, GFN_NONE);
	bad("whatif balloon a", "error: 'balloon': expected start NAME, or balloon|reservation NAME SIZE");
	bad("whatif balloon a x", "error: 'x': expected a size");
	bad("whatif balloon b 1M", "error: 'b' has no memory");
	bad("whatif rain a", "error: 'rain': expected start NAME");

	/* What would be left is below min-free, and above where soft begins. */
	reclaim_set_min_free(frame_free_count() - 2048 + 256);
	tick();
	has(ok("whatif start b"), "state clear, nothing is taken from anybody");
}

/* Two VMs that want all, and room for one and a half. */
static void test_whatif_reservation(void **state)
{
	u32 target;

	(void)state;
	make_a();
	ok("vm create b memory=8M autostart=yes");
	fake_vm_touch(a, 1700);
	fake_vm_touch(vm_find("b"), 1700);
	reclaim_set_min_free((frame_free_count() + 500) * 100 / 112);
	tick();
	has(ok("whatif reservation a 0"), "a has a reservation of 0 now: nothing would change.\n");
	assert_null(strstr(out.text, "taken"));
	has(ok("whatif reservation a 4M"), "a could have a reservation of 4M instead of 0.");
	has(out.text, "Nothing would be taken for that, beyond what is to be taken now.");
	has(out.text, "If all VMs wanted all, it could hold 5");
	has(out.text, ", as it is now.");
	assert_null(strstr(out.text, "b could hold"));
	zip_set_percent(0);
	tick();
	has(ok("whatif reservation a 100%"), "it could hold 8M instead of 5");
	has(out.text, "b could hold 3");
	has(out.text, "by compression and swap.");
	has(out.text, "Compression is off.");
	target = a->gs.alloc.reservation;
	assert_int_equal(target, 0);
	/* A balloon can take it. */
	a->gs.balloon_present = true;
	zip_set_percent(10);
	tick();
	has(ok("whatif reservation b 100%"), "all of it by balloons.");
	fake_vm_refuse = "not admitted: 3M missing";
	has(ok("whatif reservation a 2M"), "a could not have a reservation of 2M: not admitted: 3M missing");
	fake_vm_refuse = NULL;
	bad("whatif reservation a", "error: 'reservation': expected start NAME");
	bad("whatif reservation a x", "error: 'x': expected a size or a percentage");
	bad("whatif reservation c 1M", "error: 'c': expected the name of a VM");
}

/* Far less is held than all could want, and that much is free: nobody loses anything before it is used. */
static void test_whatif_reservation_while_memory_is_free(void **state)
{
	u32 consumed;

	(void)state;
	make_a();
	ok("vm create b memory=8M autostart=yes");
	fake_vm_touch(a, 1700);
	fake_vm_touch(vm_find("b"), 300);
	consumed = gspace_consumed(&a->gs);
	reclaim_set_min_free((frame_free_count() - 1000) * 100 / 112);
	tick();
	has(ok("whatif reservation b 4M"), "b could have a reservation of 4M instead of 0.");
	has(out.text, "Nothing would be taken for that: ");
	assert_null(strstr(out.text, "by compression"));
	/* The real thing takes nothing either. */
	ok("vm set b reservation 4M");
	for (u32 i = 0; i < 20; i++)
		reclaim_step(fake_now_ns += 250 * NSEC_PER_MSEC);
	tick();
	assert_int_equal(gspace_consumed(&a->gs), consumed);
	has(ok("whatif reservation b 4M"), "b has a reservation of 4M now: nothing would change.");
	/* More than is free: only what is missing comes from the other. */
	has(ok("whatif reservation b 8M"), "When it uses its reservation, ");
	has(out.text, " would be taken from VMs that run: 0 by balloons, ");
}

/* Starts with little and may grow; a balloon tells in its guest's pressure. */
static void test_whatif_dynamic_memory(void **state)
{
	struct vm *t;

	(void)state;
	make_a();
	ok("vm create t memory=8M minimum=8M maximum=64M");
	has(ok("whatif start t"),
	    "With Dynamic Memory it has 8M at first; its maximum of 64M is promised RAM or swap.");
	has(out.text, "If it touches all of its 8M");
	has(out.text, "If its guest comes to want the maximum:");
	has(out.text, "It wants up to 64M and");
	ok("vm start t");
	t = vm_find("t");
	t->gs.dyn.committed = 1024;
	tick();
	has(ok("whatif balloon t 2M"), "its guest has committed 4M, so its pressure would be 66% instead of 50%.");
	assert_int_equal(t->gs.balloon_manual, GFN_NONE);
}

static void test_forecast(void **state)
{
	(void)state;
	make_a();
	ok("vm create b memory=8M autostart=yes");
	for (u32 i = 0; i < 8; i++)
		tick();
	has(ok("forecast"), "hard (below ");
	has(out.text, "swap full: not at this rate");
	for (u32 i = 0; i < 4; i++) {
		for (u32 k = 0; k < 200; k++)
			assert_int_equal(gspace_touch(&a->gs, i * 200 + k, GSPACE_WRITE), 0);
		tick();
	}
	has(ok("forecast"), "a second\n");
	has(out.text, "s at this rate\n");
	has(out.text, ", -");
}

/* Totals are the counters; what comes back is laid to what is away longest. */
static void commands_beside_it(void)
{
	ok("ledger");
	has(out.text, "swap private swapped ");
	has(ok("swap"), "\na ");
	has(out.text, "swap-total=");
	has(ok("share"), "\na ");
	has(out.text, "shared-frames=");
	has(ok("ledger ?"), "for example: ledger db");
	has(ok("host work reset"), "work: ");
	has(ok("host work"), "longest-us");
	bad("host work x", "error: 'x': expected nothing or reset");
}

static void test_ledger(void **state)
{
	const struct monitor_vm *m;
	struct ledger_entry e;
	u64 seq = ledger_last() + 1, before = ledger_last();

	(void)state;
	make_a();
	a->gs.stats.swap_out += 100;
	tick();
	a->gs.stats.swap_out += 50;
	tick();
	m = monitor_find("a");
	assert_int_equal(ledger_last(), before + 1);
	for (u32 i = 0; i < 10; i++)
		tick();
	a->gs.stats.swap_in += 90;
	a->gs.stats.balloon_out += 7;
	tick();
	a->gs.stats.swap_out += 10;
	tick();
	assert_int_equal(ledger_last(), before + 3);
	a->gs.stats.swap_in += 65;
	tick();
	assert_true(ledger_read(&seq, &e));
	assert_int_equal(e.tier, LEDGER_SWAP);
	assert_int_equal(e.out, 150);
	assert_int_equal(e.back, 150);
	assert_true(e.away_us / e.back > 11 * 1000000UL && e.away_us / e.back < 14 * 1000000UL);
	assert_true(ledger_read(&seq, &e) && e.tier == LEDGER_BALLOON && e.out == 7 && e.back == 0);
	assert_true(ledger_read(&seq, &e) && e.out == 10 && e.back == 5);
	assert_false(ledger_read(&seq, &e));
	assert_int_equal(m->ledger[LEDGER_SWAP].out, a->gs.stats.swap_out);
	assert_int_equal(m->ledger[LEDGER_SWAP].back, a->gs.stats.swap_in);
	has(ok("ledger a"), "share-out=0 share-back=0 balloon-out=7 balloon-back=0 zip-out=0 zip-back=0");
	has(out.text, "swap-out=160 swap-back=155");
	has(out.text, " a swap private swapped soft 150 150 1");
	bad("ledger z", "error: 'z': expected the name of a VM");
	/* Its next life has nothing to do with it. */
	ok("vm stop a force");
	tick();
	ok("vm start a");
	tick();
	a->gs.stats.swap_out = 20;
	a->gs.stats.swap_in = 20;
	tick();
	has(ok("ledger a"), "swap-out=20 swap-back=20");
	seq = before + 3;
	assert_true(ledger_read(&seq, &e) && e.out == 10 && e.back == 5);
	for (u32 i = 0; i < 300; i++) {
		a->gs.stats.swap_out += 3;
		for (u32 k = 0; k < 5; k++)
			tick();
	}
	a->gs.stats.swap_in += 800;
	tick();
	has(ok("ledger a"), "swap-out=920 swap-back=820");
	commands_beside_it();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fake_vm_fresh, fake_vm_over)
	const struct CMUnitTest tests[] = {T(test_why),
					   T(test_why_limit_that_does_not_bind),
					   T(test_whatif),
					   T(test_whatif_reservation),
					   T(test_whatif_reservation_while_memory_is_free),
					   T(test_whatif_dynamic_memory),
					   T(test_forecast),
					   T(test_ledger)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
