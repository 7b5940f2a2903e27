/* What explains: why, whatif, forecast, ledger. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "mm/frame.h"
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
	has(out.text, "Its workload db does 100 operations a second");
	ok("balloon a 2M");
	a->gs.target = 1024;
	a->gs.alloc.limit = 1500;
	tick();
	has(ok("why a"), "Rule: the operator has fixed its balloon");
	has(out.text, "Rule: its limit of 5.8M keeps it from more");
	has(out.text, "divided by shares: 80 of 80 (100%)");
	memset(&fake_vm_info, 0xff, sizeof(fake_vm_info));
	tick();
	ok("why a");
	bad("why b", "error: 'b': expected the name of a VM");
	ok("vm create b memory=8M");
	bad("why b", "error: 'b' has no memory");
}

static void test_whatif(void **state)
{
	char line[40];
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
	bad("whatif balloon a", "error: 'balloon': expected start NAME, or balloon NAME SIZE");
	bad("whatif balloon a x", "error: 'x': expected a size");
	bad("whatif balloon b 1M", "error: 'b' has no memory");
	bad("whatif rain a", "error: 'rain': expected start NAME");

	/* What would be left is below min-free, and above where soft begins. */
	snprintf(line, sizeof(line), "set min-free %uM", (frame_free_count() - 2048) / 256 + 1);
	ok(line);
	tick();
	has(ok("whatif start b"), "state clear, nothing is taken from anybody");
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
	ok("ledger");
	has(out.text, "swap private swapped ");
	has(ok("swap"), "\na ");
	has(out.text, "swap-total=");
	has(ok("share"), "\na ");
	has(out.text, "shared-frames=");
	has(ok("host work reset"), "work: ");
	has(ok("host work"), "longest-us");
	bad("host work x", "error: 'x': expected nothing or reset");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fake_vm_fresh, fake_vm_over)
	const struct CMUnitTest tests[] = {T(test_why), T(test_whatif), T(test_forecast), T(test_ledger)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
