/* The monitor over real address spaces: rates, alerts raised and cleared, events, and what they cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "lib/string.h"
#include "mm/blk.h"
#include "mm/frame.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/fake_vm.h"
#include "vmm/command.h"
#include "vmm/monitor.h"

static struct fake_out out;
static struct vm *a;

static const char *ok(const char *line)
{
	fake_out_init(&out);
	if (console_execute(&out.out, line))
		fail_msg("'%s': %s", line, out.text);
	return out.text;
}

static void bad(const char *line, const char *start)
{
	fake_out_init(&out);
	assert_int_not_equal(console_execute(&out.out, line), 0);
	if (!strstr(out.text, start))
		fail_msg("'%s': expected '%s', got '%s'", line, start, out.text);
}

static void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("expected '%s' in '%s'", part, text);
}

static void make_a(void)
{
	ok("vm create a memory=8M autostart=yes");
	a = vm_find("a");
}

/* One second passes. */
static void tick(void)
{
	fake_now_ns += NSEC_PER_SEC;
	monitor_sample_begin();
	while (monitor_sample_piece())
		;
}

static void ticks(u32 n)
{
	while (n--)
		tick();
}

static void test_rates(void **state)
{
	const struct monitor_vm *m;

	(void)state;
	make_a();
	ticks(2);
	a->gs.stats.swap_in += 300;
	a->gs.stats.swap_out += 500;
	fake_vm_info.app.operations += 42;
	fake_vm_info.balloon_report.refaults += 11;
	a->past.exits[HV_EXIT_NPF] += 77;
	fake_now_ns += NSEC_PER_SEC;
	tick();
	m = monitor_find("a");
	assert_non_null(m);
	assert_int_equal(m->rate.swap_in, 150);
	assert_int_equal(m->rate.swap_out, 250);
	assert_int_equal(m->rate.operations, 21);
	assert_int_equal(m->rate.refaults, 155);
	assert_int_equal(m->rate.exits, 38);
	assert_int_equal(m->rate.exits_of[HV_EXIT_NPF], 38);
	/* Started anew, counters count from 0. */
	a->gs.stats.swap_in = 7;
	tick();
	assert_int_equal(m->rate.swap_in, 7);
	assert_int_equal(m->now.pages, 2048);
	tick();
	assert_int_equal(m->rate.swap_in, 0);
}

static void test_blocks_come_and_go(void **state)
{
	u32 before;
	char line[64];

	(void)state;
	tick();
	before = frame_free_count();
	assert_int_equal(monitor_bytes(), 0);
	for (u32 i = 0; i < 40; i++) {
		snprintf(line, sizeof(line), "vm create v%u memory=8M", i);
		ok(line);
	}
	tick();
	assert_non_null(monitor_find("v0"));
	assert_non_null(monitor_find("v39"));
	assert_true(monitor_bytes() <= 40 * 20 * KIB);
	for (u32 i = 0; i < 40; i += 2) {
		snprintf(line, sizeof(line), "vm destroy v%u", i);
		ok(line);
	}
	assert_null(monitor_find("v0"));
	assert_non_null(monitor_find("v1"));
	tick();
	fake_vm_end();
	tick();
	assert_int_equal(monitor_bytes(), 0);
	assert_int_equal(frame_free_count(), before);
}

/* Raised after its time, not before; cleared `alert-clear` seconds after its cause ended. */
static void expect_alert(const char *name, const char *object)
{
	char raised[80], cleared[80];

	snprintf(raised, sizeof(raised), " %-9s %s raised: ", object, name);
	snprintf(cleared, sizeof(cleared), " %-9s %s cleared: after ", object, name);
	has(ok("alerts"), name);
	has(ok("alerts"), object);
	has(ok("events 1"), raised);
	ticks(3);
	assert_string_equal(ok("alerts"), "no alerts\n");
	has(ok("events"), cleared);
}

static void test_balloon_alert(void **state)
{
	u64 seq = events_last();

	(void)state;
	ok("set alert-clear 2");
	ok("set alert-balloon-time 5");
	make_a();
	tick();
	fake_vm_touch(a, 300);
	a->gs.balloon_target = 205;
	for (u32 i = 0; i < 205; i++)
		assert_int_equal(gspace_balloon_take(&a->gs, i), 0);
	ticks(5);
	assert_string_equal(ok("alerts"), "no alerts\n");
	tick();
	has(ok("alerts"), "warning  balloon         a   ");
	has(ok("alerts"), "  820K of 8M\n");
	a->gs.balloon_target = 0;
	for (u32 i = 0; i < 205; i++)
		assert_int_equal(gspace_balloon_give(&a->gs, i), 0);
	expect_alert("balloon", "a");
	has(ok("alerts all"), "warning  balloon         a               no ");
	/* One that the operator has fixed is none. */
	ok("balloon a 2M");
	for (u32 i = 0; i < 250; i++)
		assert_int_equal(gspace_balloon_take(&a->gs, i), 0);
	ticks(9);
	assert_null(strstr(ok("alerts"), " balloon "));
	assert_true(events_last() > seq);
}

static void test_vm_alerts(void **state)
{
	(void)state;
	ok("set alert-clear 2");
	make_a();
	ticks(2);
	a->gs.balloon_present = true;
	a->gs.balloon_target = 100;
	a->gs.balloon_progress_ns = fake_now_ns;
	ticks(4);
	assert_string_equal(ok("alerts"), "no alerts\n");
	tick();
	has(ok("alerts"), "warning  balloon-stalled a   ");
	has(ok("events 1"), "balloon-stalled raised: 0 of 400K\n");
	a->gs.balloon_target = 0;
	expect_alert("balloon-stalled", "a");

	for (u32 i = 0; i < 4; i++) {
		a->gs.stats.swap_in += 200;
		assert_null(strstr(ok("alerts"), "refault"));
		tick();
	}
	has(ok("alerts"), "refault         a   ");
	has(ok("alerts"), "200 pages a second\n");
	expect_alert("refault", "a");

	zip_set_percent(10);
	a->gs.zip.frames = zip_max_frames(&a->gs) * 95 / 100;
	tick();
	assert_null(strstr(ok("alerts"), "zip-full"));
	a->gs.zip.frames = zip_max_frames(&a->gs);
	tick();
	has(ok("alerts"), "zip-full        a   ");
	has(ok("alerts"), "816K of 816K\n");
	a->gs.zip.frames = 0;
	expect_alert("zip-full", "a");
	zip_set_percent(0);
	/* A VM that goes takes its alerts with it. */
	for (u32 i = 0; i < 4; i++) {
		a->gs.stats.swap_in += 200;
		tick();
	}
	has(ok("alerts"), "refault");
	ok("vm stop a force");
	ok("vm destroy a");
	assert_string_equal(ok("alerts"), "no alerts\n");
}

/* Dynamic Memory: pressure is an alert, and a balloon that is only what it does not want is none. */
static void test_pressure_alert(void **state)
{
	(void)state;
	ok("set alert-clear 2");
	ok("vm create a startup=8M maximum=16M autostart=yes");
	a = vm_find("a");
	a->gs.dyn.committed = 2500;
	ticks(5);
	assert_string_equal(ok("alerts"), "no alerts\n");
	tick();
	has(ok("alerts"), "warning  pressure        a   ");
	has(ok("alerts"), "  122% with 8M\n");
	has(ok("why a"), "Dynamic Memory: its guest has committed 9.7M and wants 11.7M");
	has(ok("metrics"), "aerostat_vm_memory_pressure_ratio{vm=\"a\"} 1.22\n");
	has(ok("history a pressure"), "pressure of a: now 122.0%");
	has(ok("history host pressure"), "pressure of host: now 122.0%");
	has(ok("top --plain 132x43"), "  122.0");
	a->gs.dyn.committed = 500;
	expect_alert("pressure", "a");
	for (u32 i = 0; i < 1200; i++)
		assert_int_equal(gspace_balloon_take(&a->gs, i), 0);
	ticks(9);
	assert_string_equal(ok("alerts"), "no alerts\n");
	a->gs.dyn.committed = 1000;
	ticks(9);
	has(ok("alerts"), "balloon         a   ");
}

static struct blk_dev *device(void)
{
	static const struct blk_ops ops;
	static struct blk_dev dev = {
	    .name = "nvme0n1", .sectors = 2048, .sector_bytes = 512, .queue_depth = 8, .ops = &ops};

	if (!blk_next(NULL))
		blk_register(&dev);
	return blk_next(NULL);
}

static void test_host_alerts(void **state)
{
	struct blk_dev *d = device();

	(void)state;
	ok("set alert-clear 2");
	ok("vm create b memory=8M autostart=yes");
	make_a();
	ticks(2);
	d->stats.errors += 3;
	tick();
	has(ok("alerts"), "critical device          host  ");
	has(ok("alerts"), "3 errors, 0 resets\n");
	expect_alert("device", "host");
	d->stats.resets++;
	tick();
	has(ok("alerts"), "0 errors, 1 resets\n");
	expect_alert("device", "host");
	d->gone = true;
	ticks(5);
	has(ok("alerts"), "nvme0n1 gone\n");
	d->gone = false;
	expect_alert("device", "host");

	/* The cascade: a slow disk, and as many VMs that page. */
	d->stats.reads += 10;
	d->stats.read_ns += 10 * 60 * NSEC_PER_MSEC;
	a->gs.stats.swap_in += 5;
	tick();
	assert_string_equal(ok("alerts"), "no alerts\n");
	d->stats.reads += 10;
	d->stats.read_ns += 10 * 60 * NSEC_PER_MSEC;
	a->gs.stats.swap_in += 5;
	vm_find("b")->gs.stats.swap_out += 5;
	tick();
	has(ok("alerts"), "critical disk-cascade    host  ");
	has(ok("alerts"), "60.0ms, 2 VMs page\n");
	expect_alert("disk-cascade", "host");
}

/*
 * A vCPU that waits for one page for 5 s: the VM is starved, and unless its own limit is why, the host is out of
 * memory.
 */
static void test_starved_alert(void **state)
{
	(void)state;
	ok("set alert-clear 2");
	make_a();
	ticks(2);
	fake_vm_starved_ns = 4 * NSEC_PER_SEC;
	tick();
	assert_string_equal(ok("alerts"), "no alerts\n");
	has(ok("why a"),
	    "It stands still: for 4s it has waited for a page and got none: no swap. Swap:\n  no swap partition.\n");
	has(ok("metrics"), "aerostat_vm_memory_starved_seconds{vm=\"a\"} 4.0");
	fake_vm_starved_ns = 7 * NSEC_PER_SEC;
	tick();
	has(ok("alerts"), "critical no-memory       host  ");
	has(ok("alerts"), "no swap: 1 VMs, a 7s\n");
	has(ok("alerts"), "critical starved         a     ");
	has(ok("alerts"), "no swap, 7s\n");
	has(ok("metrics"), "aerostat_alert_raised{alert=\"no-memory\"} 1\n");
	has(ok("metrics"), "aerostat_vm_alert_raised{vm=\"a\",alert=\"starved\"} 1\n");
	/* It has a frame, and waits for the disk. */
	a->gs.count[PAGE_SWAPPING_IN] = 1;
	ticks(3);
	has(ok("alerts"), "a page is not read, 7s\n");
	assert_null(strstr(ok("alerts"), "no-memory"));
	a->gs.count[PAGE_SWAPPING_IN] = 0;
	/* Paused it waits for its operator. */
	ok("vm pause a");
	ticks(3);
	assert_string_equal(ok("alerts"), "no alerts\n");
	has(ok("events"), "host      no-memory cleared: after ");
	ok("vm resume a");
	a->gs.alloc.limit = gspace_consumed(&a->gs);
	tick();
	has(ok("alerts"), "critical starved         a     ");
	has(ok("alerts"), "limit, no swap, 7s\n");
	has(ok("events 1"), " a         starved raised: limit, no swap, 7s\n");
	assert_null(strstr(ok("alerts"), "no-memory"));
	/* Its limit is lifted: memory is what it lacks if it still stands still in 5 s. */
	a->gs.alloc.limit = a->gs.pages;
	tick();
	assert_null(strstr(ok("alerts"), "no-memory"));
	ticks(6);
	fake_vm_starved_ns = 0;
	expect_alert("no-memory", "host");
}

static void swap_second(u32 pages)
{
	struct host_rates *r = (struct host_rates *)&monitor_host()->rate;

	fake_now_ns += NSEC_PER_SEC;
	r->swap_out_mean = monitor_smoothed(r->swap_out_mean, pages);
	alerts_look_host();
}

static void expect_swapping(bool raised)
{
	assert_true(!strstr(ok("alerts"), "swapping") != raised);
}

/*
 * A page now and then is no swapping; a burst is told once, with its present figures, until it has been over for a
 * while.
 */
static void test_swapping_alert(void **state)
{
	(void)state;
	ok("set alert-clear 2");
	tick();
	for (u32 i = 0; i < 60; i++) {
		swap_second(i % 6 == 0);
		expect_swapping(false);
	}
	swap_second(64);
	has(ok("alerts"), "critical swapping        host  ");
	has(ok("alerts"), "out 9/s, in 0/s\n");
	for (u32 i = 0; i < 10; i++) {
		swap_second(0);
		expect_swapping(true);
	}
	has(ok("alerts"), "out 3/s, in 0/s\n");
	for (u32 i = 0; i < 12; i++)
		swap_second(0);
	expect_swapping(false);
	/* More than the operator minds is needed. */
	ok("set alert-swap 10");
	swap_second(64);
	expect_swapping(false);
	swap_second(64);
	expect_swapping(true);
	for (u32 i = 0; i < 30; i++)
		swap_second(0);
	expect_swapping(false);
	ok("set alert-swap 0");
}

/* The balloon of a VM that ends goes with its other pages: nobody waits for it. */
static void test_an_ending_vm_does_not_stall(void **state)
{
	(void)state;
	make_a();
	ticks(2);
	a->gs.balloon_present = true;
	a->gs.balloon_target = 100;
	a->gs.balloon_progress_ns = fake_now_ns;
	a->state = VM_STOPPING;
	ticks(9);
	assert_string_equal(ok("alerts"), "no alerts\n");
	a->state = VM_RUNNING;
	tick();
	has(ok("alerts"), "balloon-stalled");
}

static void test_events(void **state)
{
	char line[64];
	u64 seq;

	(void)state;
	make_a();
	ticks(2);
	seq = events_last();
	ok("vm pause a");
	tick();
	snprintf(line, sizeof(line), "events since %lu", seq);
	has(ok(line), " info     a         running -> paused\n");
	assert_int_equal(events_last(), seq + 1);
	ok("vm set a reservation 25%");
	has(ok("events 1"), " info     a         set reservation 2M (was 0)\n");
	ok("vm set a shares high");
	has(ok("events 1"), " info     a         set shares 160\n");
	ok("vm set a cpu-weight 20");
	has(ok("events 1"), " info     a         set cpu-weight 20\n");
	bad("vm set a limit 1Q", "limit: expected");
	assert_int_equal(events_last(), seq + 4);
	for (u32 i = 0; i < 2 * EVENTS_KEPT; i++)
		events_add(EVENT_WARNING, "a-name-of-15-ch", "number %u %s", i,
			   "and a text that is much too long for a row");
	for (const char *c = ok("events 256"), *end; *c; c = end + 1) {
		end = strchr(c, '\n');
		assert_true(end - c <= 80);
	}
	has(out.text, " number 511 and a text that is much too\n");
	assert_null(strstr(out.text, "number 255 "));
	has(out.text, "number 256 ");
	snprintf(line, sizeof(line), "events since %lu", events_last());
	assert_null(strstr(ok(line), "number"));
	bad("events 0", "error: '0': expected a count of 1 to 256, or since NUMBER\n");
	bad("events till 3", "error: 'till': expected a count");
	bad("events since x", "error: 'x': expected a count");
	bad("alerts none", "error: 'none': expected nothing or all\n");
}

/* Means are of what there was so far, until their time has passed once. */
static void test_overcommit(void **state)
{
	u64 now;

	(void)state;
	make_a();
	ticks(4);
	ok("vm create b memory=64M autostart=yes");
	ticks(4);
	now = figures_overcommit(&monitor_host()->now);
	assert_true(now > 4 && now < 1000);
	assert_in_range(monitor_overcommit(0), now / 2, now * 3 / 4);
	assert_int_equal(monitor_overcommit(2), monitor_overcommit(0));
	ticks(600);
	assert_in_range(monitor_overcommit(0), now - 1, now);
	assert_in_range(monitor_overcommit(2), now - now / 50 - 1, now);
}

static void test_history(void **state)
{
	const struct monitor_vm *m;
	u32 lines = 0;

	(void)state;
	make_a();
	has(ok("history a balloon"), "balloon of a: no seconds yet\n");
	ticks(30);
	fake_vm_touch(a, 256);
	ticks(30);
	m = monitor_find("a");
	assert_int_equal(m->history->count[HISTORY_SECONDS], 60);
	assert_int_equal(m->history->count[HISTORY_MINUTES], 1);
	assert_int_equal(history_get(m->history, HISTORY_MINUTES, 0)->value[0], 128);
	assert_string_equal(history_vm_field[0].name, "consumed");
	has(ok("history a consumed"), "consumed of a: now 1M, lowest 0, highest 1M; 1s a column\n       1M |      ");
	has(out.text, "     512K |                              ##############################\n");
	has(out.text, "        0 +------");
	has(ok("history a consumed minutes"), "now 512K, lowest 512K, highest 512K; 1m a column\n     512K |#\n");
	for (const char *c = ok("history a csv"); *c; c++)
		lines += *c == '\n';
	assert_int_equal(lines, 61);
	has(out.text, "second,consumed,target,balloon,balloon-target,");
	has(out.text, ",256,2048,0,0,0,0,0,0,0,0,");
	has(ok("history host json minutes"), "\"rows\":[\n[");
	has(ok("history host free"), "free of host: now 1");
	has(ok("history host state hours"), "state of host: no hours yet\n");
	bad("history a colour", "error: 'colour': expected csv, json or: consumed target ");
	bad("history b consumed", "error: 'b': expected the name of a VM");
	bad("history a consumed weeks", "error: 'weeks': expected seconds, minutes or hours\n");
	/* Rings go round; hours are means of minutes. */
	ticks(3600);
	assert_int_equal(m->history->count[HISTORY_HOURS], 1);
	assert_int_equal(m->history->count[HISTORY_MINUTES], 61);
	assert_int_equal(history_first(m->history, HISTORY_SECONDS), 3540);
	assert_int_equal(history_get(m->history, HISTORY_HOURS, 0)->value[0], (128 + 59 * 256 + 30) / 60);
	has(ok("history a cpu"), "2s a column\n");
	a->gs.stats.zip_in += 40;
	a->gs.stats.zip_out += 30;
	tick();
	has(ok("history a zip-in"), "zip-in of a: now 40/s");
	has(ok("history a zip-out"), "zip-out of a: now 30/s");
	has(ok("history a pressure"), "pressure of a: now 0.0%");
	has(ok("history host zip-in"), "zip-in of host: now 0/s");
}

/* The VM goes away while it is printed. */
static void test_history_ends_with_its_vm(void **state)
{
	struct command_run r;

	(void)state;
	make_a();
	ticks(60);
	fake_out_init(&out);
	command_begin(&r, &out.out, "history a csv");
	assert_true(command_step(&r));
	assert_true(out.len <= COMMAND_PIECE_BYTES);
	fake_vm_end();
	assert_false(command_step(&r));
	has(out.text, "\nerror: 'a': expected the name of a VM");
}

static void test_forty_vms_in_pieces(void **state)
{
	char line[64];
	u32 pieces = 1;

	(void)state;
	for (u32 i = 0; i < 40; i++) {
		snprintf(line, sizeof(line), "vm create v%u memory=8M", i);
		ok(line);
	}
	fake_now_ns += NSEC_PER_SEC;
	monitor_sample_begin();
	while (monitor_sample_piece())
		pieces++;
	assert_int_equal(pieces, 3);
	has(ok("alerts all"), "refault         v39 ");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fake_vm_fresh, fake_vm_over)
	const struct CMUnitTest tests[] = {
	    T(test_overcommit),
	    T(test_rates),
	    T(test_blocks_come_and_go),
	    T(test_balloon_alert),
	    T(test_vm_alerts),
	    T(test_pressure_alert),
	    T(test_host_alerts),
	    T(test_events),
	    T(test_forty_vms_in_pieces),
	    T(test_history),
	    T(test_history_ends_with_its_vm),
	    T(test_an_ending_vm_does_not_stall),
	    T(test_starved_alert),
	    T(test_swapping_alert),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
