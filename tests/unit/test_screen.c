/* What takes the screen or runs other commands: top, the pager, JSON, --plain, watch, repeat, more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/format.h"
#include "lib/string.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/fake_vm.h"
#include "vmm/command.h"
#include "vmm/monitor.h"
#include "vmm/pager.h"
#include "vmm/top.h"

static struct fake_out out;

/* Runs a line piece by piece. */
static const char *run(const char *line, struct command_run *r)
{
	size_t before = 0;
	bool more;

	fake_out_init(&out);
	command_begin(r, &out.out, line);
	do {
		before = out.len;
		more = command_step(r);
		assert_true(out.len - before <= COMMAND_PIECE_BYTES);
	} while (more);
	return out.text;
}

static const char *ok(const char *line)
{
	struct command_run r;

	run(line, &r);
	if (r.err)
		fail_msg("'%s': %s", line, out.text);
	return out.text;
}

static void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("expected '%s' in '%s'", part, text);
}

static void bad(const char *line, const char *start)
{
	struct command_run r;

	run(line, &r);
	assert_int_not_equal(r.err, 0);
	has(out.text, start);
}

static void tick(void)
{
	fake_now_ns += NSEC_PER_SEC;
	monitor_sample_begin();
	while (monitor_sample_piece())
		;
}

static void make_vms(u32 count)
{
	char line[64];

	for (u32 i = 0; i < count; i++) {
		snprintf(line, sizeof(line), "vm create v%u memory=8M autostart=%s", i, i < 4 ? "yes" : "no");
		ok(line);
		if (i < 4)
			fake_vm_touch(vm_find(line + 10) ? vm_find(line + 10) : command_vm_at(i), 16 * (i + 1));
	}
	tick();
}

/* The n-th word of the row that begins with name; "" if there is none. */
static const char *cell(const char *text, const char *name, u32 n)
{
	static char word[32];
	char start[32];
	const char *s;

	snprintf(start, sizeof(start), "\n %s ", name);
	s = strstr(text, start);
	word[0] = 0;
	for (s = s ? s + 2 : ""; *s && *s != '\n'; n--) {
		size_t len = strcspn(s, " \n");

		if (!n)
			snprintf(word, sizeof(word), "%.*s", (int)len, s);
		if (!n)
			return word;
		s += len + strspn(s + len, " ");
	}
	return word;
}

static void check_screen(const char *text, u32 columns, u32 rows)
{
	u32 lines = 0;

	for (const char *end; *text; text = end + 1, lines++) {
		end = strchr(text, '\n');
		assert_non_null(end);
		assert_true(end - text < columns);
		for (const char *c = text; c < end; c++)
			assert_true(*c >= ' ' && *c <= '~');
	}
	assert_true(lines <= rows);
}

static void test_top_fits(void **state)
{
	static const char *const line[] = {"top --plain",        "top --plain effect",
					   "top --plain 132x43", "top --plain effect 132x43",
					   "top --plain 60x16",  "top --plain 260x100"};
	static const u32 size[][2] = {{80, 24}, {80, 24}, {132, 43}, {132, 43}, {60, 16}, {260, 100}};

	(void)state;
	/* Everything as large as it can be. */
	make_vms(40);
	memset(&fake_vm_info, 0xff, sizeof(fake_vm_info));
	command_vm_at(0)->gs.stats.swap_in = ~0UL >> 1;
	command_vm_at(0)->past.exits[HV_EXIT_HLT] = ~0UL >> 1;
	tick();
	for (u32 i = 0; i < ARRAY_SIZE(line); i++) {
		const char *text = ok(line[i]);

		has(text, "\n NAME ");
		has(text, "aerostat up ");
		assert_true(str_eq(text + strlen(text) - 3, "ok\n"));
		out.text[out.len - 3] = 0;
		check_screen(out.text, size[i][0], size[i][1]);
	}
	bad("top --plain 40x20", "error: '40x20': expected memory, effect or COLUMNSxROWS of 60x16 to 260x100\n");
	bad("top --plain x", "error: 'x': expected");
	bad("top --plain 80x", "error: '80x': expected");
	bad("top --plain 99999999999x24", "expected");
}

/* Fields say what `mem NAME` says at the same moment. */
static void test_top_equals_mem(void **state)
{
	static const struct {
		const char *title, *key;
		u32 column;
	} field[] = {{"MEMSZ", "pages=", 1},      {"CNSM", "consumed=", 2},         {"SZTGT", "target=", 3},
		     {"MCTLSZ", "ballooned=", 4}, {"MCTLTG", "balloon-target=", 5}, {"SWCUR", "swapped=", 6},
		     {"SHRD", "shared=", 9}};
	static const char *const all[] = {"GRANT",  "TCHD",  "%ACTV",  "%ACTVS", "%ACTVF", "RESV",   "LIMIT",
					  "SHARES", "MCTL?", "MCTLMX", "SWTGT",  "SWR/s",  "SWW/s",  "ZERO",
					  "SHSAVD", "COW/s", "ZIP",    "OVHD",   "OVHDMX", "%LAT_M", "CACHSZ",
					  "CACHUS", "ZIP/s", "UNZP/s", "%PRES",  "TCHD_W", "COWH"};
	char screen[8192], want[FORMAT_SIZE_BYTES], name[8], line[16];

	(void)state;
	make_vms(4);
	for (u32 i = 0; i < 20; i++)
		assert_int_equal(gspace_balloon_take(&command_vm_at(2)->gs, i), 0);
	tick();
	snprintf(screen, sizeof(screen), "%s", ok("top --plain"));
	for (u32 v = 0; v < 4; v++) {
		snprintf(name, sizeof(name), "v%u", v);
		snprintf(line, sizeof(line), "mem v%u", v);
		ok(line);
		for (u32 i = 0; i < ARRAY_SIZE(field); i++) {
			const char *at = strstr(out.text, field[i].key);

			has(screen, field[i].title);
			assert_non_null(at);
			format_size(want, strtoul(at + strlen(field[i].key), NULL, 10) << PAGE_SHIFT);
			assert_string_equal(cell(screen, name, field[i].column), want);
		}
	}
	assert_string_equal(cell(screen, "v2", 4), "80K");
	/* What swap has to take: while memory is not short, what is held above the limit. */
	command_vm_at(3)->gs.target = 10;
	command_vm_at(3)->gs.alloc.limit = 40;
	tick();
	has(ok("top --plain"), " swap-target=96K\n");
	command_vm_at(3)->gs.balloon_target = 8;
	tick();
	has(ok("top --plain"), " swap-target=64K\n");
	((struct monitor_host *)monitor_host())->now.reclaim.state = RECLAIM_HARD;
	has(ok("top --plain"), " swap-target=184K\n");
	/* All columns, on the widest screen. */
	ok("top --plain 260x43");
	for (u32 i = 0; i < ARRAY_SIZE(all); i++)
		has(out.text, all[i]);
	ok("mem");
	has(screen, strstr(out.text, "hypervisor=") ? "hypervisor=" : "?");
}

static void check_lines(const char *text)
{
	for (const char *end; *text; text = end + 1) {
		end = strchr(text, '\n');
		assert_non_null(end);
		if (end - text > 80)
			fail_msg("%d columns: %.*s", (int)(end - text), (int)(end - text), text);
	}
}

/* Names as long as they may be: no row is wider than the screen, and none of them is cut. */
static void test_long_names(void **state)
{
	static const char *const line[] = {
	    "vm list", "mem",    "mem demand",  "balloon",           "share", "swap", "zip", "ledger", "alerts all",
	    "alerts",  "events", "top --plain", "top --plain effect"};
	const char *name = "fifteen-letters";
	struct vm *vm;

	(void)state;
	ok("vm create fifteen-letters memory=12M minimum=8M maximum=64M share-group=a-group-of-many autostart=yes");
	vm = vm_find(name);
	fake_vm_touch(vm, 300);
	tick();
	strcpy(fake_vm_info.app.name, "desktop");
	fake_vm_info.app.pages_checked = 12345678;
	vm->gs.balloon_present = true;
	for (u32 i = 0; i < 30; i++) { /* every tier, with numbers of many digits */
		vm->gs.stats.swap_out += 12345;
		vm->gs.stats.swap_in += 2345;
		vm->gs.stats.balloon_out += 23456;
		vm->gs.stats.balloon_back += 3456;
		vm->gs.stats.zip_in += 3456;
		vm->gs.stats.shared_in += 4567;
		vm->gs.stats.cow_breaks += 123;
		tick();
	}
	for (u32 i = 0; i < ARRAY_SIZE(line); i++) {
		check_lines(ok(line[i]));
		has(out.text, name);
	}
	has(ok("vm list"), "fifteen-letters running ");
	has(out.text, " desktop  12345678      0\n"); /* back in its columns */
}

static void test_question_mark(void **state)
{
	static const char *const line[][2] = {{"?", "Commands ("},
					      {"vm set ?", "for example: vm set db reservation 50%"},
					      {"vm set db ?", "for example: vm set db"},
					      {"mem ?", "for example: mem check"},
					      {"balloon web 3M ?", "for example: balloon"},
					      {"vm ?", "vm create NAME"}};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(line); i++)
		has(ok(line[i][0]), line[i][1]);
	bad("nonsense ?", "error: 'nonsense': unknown command");
	bad("vm nonsense ?", "error: vm 'nonsense': expected one of");
}

/* The first VM on the screen. */
static const char *first(struct top *t)
{
	static char name[16];
	const char *s;

	fake_out_init(&out);
	top_begin(t);
	while (top_piece(t, &out.out))
		;
	s = strstr(out.text, "NAME ");
	s = strchr(s, '\n') + 2;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(s, " "), s);
	return name;
}

static void keys(struct top *t, const char *text)
{
	for (; *text; text++)
		top_key(t, (u8)*text);
}

static void test_top_keys(void **state)
{
	struct top t;

	(void)state;
	make_vms(6);
	top_init(&t, 80, 24, true);
	assert_string_equal(first(&t), "v0");
	keys(&t, "c");
	assert_string_equal(first(&t), "v3");
	has(out.text, "by CNSM");
	keys(&t, "R");
	assert_int_equal(first(&t)[1] >= '4', true); /* those without memory have none */
	keys(&t, "i");
	assert_string_equal(first(&t), "v0");
	keys(&t, "2");
	first(&t);
	has(out.text, "page effect");
	has(out.text, " %CPU EXIT/s ");
	keys(&t, "\x1b[C");
	first(&t);
	assert_null(strstr(out.text, "%CPU"));
	for (u32 i = 0; i < 50; i++)
		keys(&t, "\x1b[C");
	first(&t);
	has(out.text, "STATE");
	keys(&t, "\x1b[43;132R");
	assert_int_equal(t.columns, 132);
	assert_int_equal(t.rows, 43);
	keys(&t, "\x1b[1;1R\x1b[9999999;99999999R\x1b[R\x1bOA\x1b[Z\x1b\x1b[;;R");
	assert_true(t.columns >= TOP_COLUMNS_MIN && t.rows >= TOP_ROWS_MIN && t.rows <= TOP_ROWS_MAX);
	keys(&t, "++-");
	assert_int_equal(t.interval, 2);
	for (u32 c = 0; c < 256; c++)
		if (c != 'q' && c != 3)
			top_key(&t, (u8)c);
	first(&t);
	assert_false(t.done);
	keys(&t, "\x1b"
		 "Xq");
	assert_true(t.done);
}

static void test_top_selects_and_scrolls(void **state)
{
	struct top t;

	(void)state;
	make_vms(40);
	top_init(&t, 80, 24, true);
	t.plain = false;
	first(&t);
	has(out.text, "\x1b[H");
	has(out.text, "\n>v0 ");
	has(out.text, "q leaves\x1b[K\x1b[J");
	for (u32 i = 0; i < 39; i++)
		keys(&t, "\x1b[B");
	first(&t);
	has(out.text, "\n>v39 ");
	assert_null(strstr(out.text, "\n v0 "));
	for (u32 i = 0; i < 60; i++)
		keys(&t, "\x1b[A");
	first(&t);
	has(out.text, "\n>v0 ");
	/* VMs go away between two pieces. */
	top_begin(&t);
	top_piece(&t, &out.out);
	fake_vm_end();
	while (top_piece(&t, &out.out))
		;
	keys(&t, "\x1b[B\x1b[A");
	first(&t);
}

static void test_plain_flag(void **state)
{
	struct command_run r;

	(void)state;
	make_vms(1);
	assert_string_equal(ok("vm pause v0 --plain"), "v0: paused\nok\n");
	bad("--plain vm pause v0", "error: 'v0' is paused\n");
	assert_null(strstr(out.text, "ok\n"));
	assert_string_equal(ok("vm resume v0"), "v0: running\n");
	run("watch 2 vm list", &r);
	assert_int_equal(r.request, COMMAND_WATCH);
	assert_int_equal(r.left, 2);
	assert_string_equal(r.rest, "vm list");
	run("--plain repeat  3   vm create \"a b\" --plain", &r);
	assert_int_equal(r.request, COMMAND_REPEAT);
	assert_string_equal(r.rest, "vm create \"a b\" --plain");
	assert_string_equal(out.text, "");
	run("more log 200", &r);
	assert_int_equal(r.request, COMMAND_MORE);
	assert_string_equal(r.rest, "log 200");
	run("top 100x30 effect", &r);
	assert_int_equal(r.request, COMMAND_TOP);
	assert_int_equal(r.at, 100);
	run("terminal plain", &r);
	assert_int_equal(r.request, COMMAND_TERMINAL);
	bad("watch 0 mem", "error: '0': expected 1 to 3600 seconds\n");
	bad("watch 1 watch 1 mem", "error: 'watch': expected a command that prints and ends\n");
	bad("more top", "error: 'top': expected");
	bad("repeat 2", "error: expected: repeat COUNT COMMAND\n");
	bad("terminal blue", "error: 'blue': expected plain or vt100\n");
}

static void test_json(void **state)
{
	struct command_run r;

	(void)state;
	make_vms(2);
	assert_string_equal(ok("--json get alert-clear"),
			    "{\"output\":[\"alert-clear=10 seconds without cause\"],\"ok\":true}\n");
	has(ok("--json mem v0"), "{\"output\":[{\"pages\":2048,\"absent\":2032,\"private\":16,");
	has(ok("mem --json"), "{\"total\":\"16M\",");
	has(out.text, "\"swap-why\":\"no swap partition\"");
	has(out.text, "{\"name\":\"v1\",\"memory\":\"8M\",\"consumed\":\"128K\",");
	has(ok("vm list --json"), "{\"id\":1,\"name\":\"v0\",\"state\":\"running\",\"memory\":\"8M\",");
	has(ok("events 1 --json"), "\"level\":\"info\",\"object\":\"");
	run("--json vm show \"a", &r);
	assert_string_equal(
	    out.text, "{\"output\":[],\"ok\":false,\"error\":\"expected a closing quote at the end of the line\"}\n");
	run("--json", &r);
	assert_string_equal(out.text, "{\"output\":[],\"ok\":true}\n");
	has(ok("--json top"), "\"ok\":true}\n");
}

static void test_help_and_completion(void **state)
{
	char add[CONSOLE_LINE_MAX];

	(void)state;
	make_vms(1);
	has(ok("help vm set"), "\n    for example: vm set db reservation 50%\n");
	assert_null(strstr(ok("help"), "for example"));
#define COMPLETES(line, text) (command_complete(line, add, sizeof(add)), assert_string_equal(add, text))
	COMPLETES("vm set v0 res", "ervation ");
	COMPLETES("vm set v0 l", "imit ");
	COMPLETES("vm set v0 mem", "ory ");
	COMPLETES("vm set v0 cpu-w", "eight ");
	COMPLETES("set alert-cl", "ear ");
	COMPLETES("get min", "-free ");
	COMPLETES("history v0 ref", "aults ");
	COMPLETES("history host disk-", "latency ");
	COMPLETES("history v0 balloon min", "utes ");
	COMPLETES("vm create new mem", "ory=");
	COMPLETES("vm create new memory=8M cmd", "line=");
	COMPLETES("balloon v0 a", "uto ");
	COMPLETES("balloon v0 auto x", "");
	COMPLETES("watch 2 ball", "oon ");
	COMPLETES("vm stop v0 f", "orce ");
	COMPLETES("top eff", "ect ");
	COMPLETES("mem v0 v", "");
	COMPLETES("frob x y z a b c d e f g", "");
}

static void test_metrics(void **state)
{
	const char *text;

	(void)state;
	make_vms(40);
	strcpy(fake_vm_info.app.name, "db");
	fake_vm_info.app.hit_permille = 973;
	tick();
	text = ok("metrics");
	has(text, "# HELP aerostat_uptime_seconds ");
	has(text, "# TYPE aerostat_swap_out_pages_total counter\n");
	has(text, "\naerostat_vm_memory_size_bytes{vm=\"v0\"} 8388608\n");
	has(text, "\naerostat_vm_pages_bytes{vm=\"v0\",state=\"private\"} 65536\n");
	has(text, "\naerostat_vm_guest_hit_ratio{vm=\"v1\"} 0.973\n");
	has(text, "\naerostat_vm_up{vm=\"v39\"} 0\n");
	assert_null(strstr(text, "vm_memory_size_bytes{vm=\"v39\"}"));
	assert_string_equal(text + strlen(text) - 6, "# EOF\n");
}

static void test_pager(void **state)
{
	static struct pager p;
	const char *text;
	char line[16];

	(void)state;
	pager_begin(&p);
	for (u32 i = 0; i < 60; i++)
		pager_put(&p, line, (size_t)snprintf(line, sizeof(line), "line %u\n", i));
	assert_int_equal(pager_take(&p, &text), strlen("line 0\n") * 10 + strlen("line 10\n") * 13);
	assert_true(pager_waits(&p));
	assert_int_equal(pager_take(&p, &text), 0);
	pager_key(&p, 'x');
	assert_true(pager_waits(&p));
	pager_key(&p, '\r');
	assert_int_equal(pager_take(&p, &text), 8);
	assert_memory_equal(text, "line 23\n", 8);
	assert_true(pager_waits(&p));
	pager_key(&p, ' ');
	assert_int_equal(pager_take(&p, &text), 8 * 23);
	pager_key(&p, ' ');
	assert_int_equal(pager_take(&p, &text), 8 * 13);
	assert_false(pager_waits(&p));
	for (u32 i = 0; i < 2000; i++) /* never more than it holds */
		pager_put(&p, "0123456789\n", 11);
	pager_key(&p, 'q');
	assert_true(p.quit);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fake_vm_fresh, fake_vm_over)
	const struct CMUnitTest tests[] = {
	    T(test_top_fits),
	    T(test_top_equals_mem),
	    T(test_top_keys),
	    T(test_top_selects_and_scrolls),
	    T(test_long_names),
	    T(test_question_mark),
	    T(test_plain_flag),
	    T(test_json),
	    T(test_metrics),
	    T(test_pager),
	    T(test_help_and_completion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
