/* Console commands over real address spaces: output of each, errors of one line, pieces, completion. */
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
#include "mm/balloon.h"
#include "mm/blk.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_vm.h"
#include "vmm/command.h"
#include "vmm/pairs.h"
#include "vmm/settings.h"

static struct fake_out out;

/* Lines fit the screen, text is plain. */
static void check_text(const char *text)
{
	u32 column = 0;

	for (; *text; text++) {
		if (*text == '\n') {
			column = 0;
			continue;
		}
		assert_true(*text >= ' ' && *text <= '~');
		assert_true(++column <= 80);
	}
	assert_int_equal(column, 0);
}

/* Runs a line piece by piece; its output. */
static const char *run(const char *line, int *err)
{
	static struct command_run r;
	size_t before;

	fake_out_init(&out);
	command_begin(&r, &out.out, line);
	do {
		before = out.len;
		if (!command_step(&r))
			break;
		assert_true(out.len - before <= COMMAND_PIECE_BYTES);
	} while (true);
	assert_true(out.len - before <= COMMAND_PIECE_BYTES);
	*err = r.err;
	return out.text;
}

static const char *ok(const char *line)
{
	int err;
	const char *text = run(line, &err);

	if (err)
		fail_msg("'%s': %s", line, text);
	check_text(text);
	assert_true(strncmp(text, "error: ", 7) != 0 && !strstr(text, "\nerror: "));
	return text;
}

/* Exactly one line, which begins so. */
static void bad(const char *line, const char *start)
{
	int err;
	const char *text = run(line, &err);
	char want[256];

	snprintf(want, sizeof(want), "error: %s", start);
	if (!err || strncmp(text, want, strlen(want)) || strchr(text, '\n') != text + strlen(text) - 1)
		fail_msg("'%s': expected '%s', got '%s'", line, want, text);
}

static void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("expected '%s' in '%s'", part, text);
}

static void make(const char *name, bool start)
{
	char line[128];

	snprintf(line, sizeof(line), "vm create %s memory=8M autostart=%s", name, start ? "yes" : "no");
	ok(line);
}

static void test_words(void **state)
{
	(void)state;
	assert_string_equal(ok(""), "");
	assert_string_equal(ok("  \t "), "");
	bad("frob", "'frob': unknown command; `help` lists them\n");
	bad("vm", "vm: expected one of list, show, create, start, pause, resume, stop, destroy, console, type, set\n");
	bad("vm frob x", "vm 'frob': expected one of list, ");
	bad("vm list x", "expected: vm list\n");
	bad("vm show", "expected: vm show NAME\n");
	bad("vm show nope", "'nope': expected the name of a VM; `vm list` shows them\n");
	bad("fr\x1b[2Job", "'fr?[2Job': unknown command");
	bad("\"vm list", "expected a closing quote at the end of the line\n");
	bad("'vm list\"", "expected a closing quote at the end of the line\n");
	bad("a b c d e f g h i j k l m n o p q r s t u v w x y", "expected at most 24 words\n");
	ok("\"vm\" li\"st\"");
	ok("'vm' ''l'ist'");
	bad("vm show '\" \"'", "'\"?\"': expected the name of a VM");
}

static void test_long_line(void **state)
{
	char text[400];

	(void)state;
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	bad(text, "expected a line of at most 255 characters\n");
	text[255] = 0;
	bad(text, "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx': unknown command");
}

static void test_help(void **state)
{
	(void)state;
	has(ok("help"), "\n  shutdown [force] ");
	has(ok("help vm"), "  vm console NAME ");
	has(ok("help vm set"), "NAME SETTING VALUE");
	has(ok("help mem"), "  mem check ");
	bad("help frob", "'frob': unknown command");
	bad("help vm frob", "vm 'frob': expected one of");
}

static void test_create(void **state)
{
	struct vm *vm;

	(void)state;
	assert_string_equal(
	    ok("vm create db memory=64M reservation=50% shares=low disk=16M cmdline=\"app=db size=64M\""),
	    "db: created\n");
	vm = vm_find("db");
	assert_int_equal(vm->config.reservation_bytes, 32 * MIB);
	assert_int_equal(vm->config.shares, 320);
	assert_string_equal(vm->config.cmdline, "app=db size=64M");
	assert_int_equal(vm->state, VM_CREATED);
	bad("vm create db memory=8M", "a VM named 'db' exists\n");
	bad("vm create d/b memory=8M", "'d/b': expected a name of 1 to 15 characters");
	bad("vm create e", "expected: vm create NAME KEY=VALUE...\n");
	bad("vm create e memory", "'memory': expected KEY=VALUE\n");
	bad("vm create e vcpus=1", "memory: expected memory=SIZE among the keys\n");
	bad("vm create e memory=4M", "memory: expected a size of 8M to 64G, got '4M'\n");
	bad("vm create e memory=8M memory=9M", "memory: expected once: given twice");
	bad("vm create e shares=low memory=8M", "shares: 'low' is a part of memory, which is expected before it\n");
	bad("vm create e memory=8M size=3", "'size': expected a key of a VM: memory, ");
	assert_null(vm_find("e"));
	assert_string_equal(ok("vm create e memory=8M autostart=yes"), "e: created\ne: starting\n");
}

static void test_life(void **state)
{
	(void)state;
	make("a", false);
	assert_string_equal(ok("vm start a"), "a: starting\n");
	bad("vm start a", "'a' is running\n");
	bad("vm destroy a", "'a' is running: stop it first\n");
	assert_string_equal(ok("vm pause a"), "a: paused\n");
	bad("vm pause a", "'a' is paused\n");
	assert_string_equal(ok("vm resume a"), "a: running\n");
	bad("vm stop a now", "'now': expected nothing or force\n");
	assert_string_equal(ok("vm stop a force"), "a: stopping\n");
	bad("vm stop a", "'a' is created\n");
	assert_string_equal(ok("vm destroy a"), "a: destroyed\n");
	bad("vm start a", "'a': expected the name of a VM");
	make("a", false);
	fake_vm_refuse = "not admitted: 3M missing";
	bad("vm start a", "not admitted: 3M missing\n");
}

static void test_list(void **state)
{
	char line[64];
	const char *text;
	u32 rows = 0;

	(void)state;
	assert_string_equal(ok("vm list"),
			    " id name       state    memory consumed balloon swapped app       checked errors\n");
	make("a", true);
	fake_vm_touch(vm_find("a"), 4);
	strcpy(fake_vm_info.app.name, "ver\nify");
	fake_vm_info.app.pages_checked = 1234567;
	has(ok("vm list"), "  1 a          running      8M      16K       0       0 ver?ify   1234567      0\n");
	for (u32 i = 0; i < 38; i++) {
		snprintf(line, sizeof(line), "vm create v%u memory=8M", i);
		ok(line);
	}
	text = ok("vm list");
	for (; *text; text++)
		rows += *text == '\n';
	assert_int_equal(rows, 40);
}

/* Everything a guest may write into its page is shown as figures and clean words. */
static void test_show(void **state)
{
	const char *text;

	(void)state;
	make("a", true);
	ok("vm create b memory=8M cmdline=\"app=idle mem=50%\"");
	fake_vm_touch(vm_find("a"), 3);
	fake_vm_info.app.operations = 77;
	fake_vm_info.app.hit_permille = 973;
	fake_vm_info.balloon_report.achieved = 12;
	text = ok("vm show a");
	has(text, "state=running");
	has(text, "pages=2048 absent=2045 private=3 zero=0");
	has(text, "sum=ok");
	has(text, "app=- app-state=starting operations=77 ");
	has(text, "hit-rate=97.3%");
	has(text, "balloon-achieved=12");
	has(text, "exit-npf=12");
	has(text, "vcpu0=running");
	memset(&fake_vm_info, 0xff, sizeof(fake_vm_info));
	has(ok("vm show a"), "app=??????????????? app-state=? operations=18446744073709551615");
	fake_vm_silent = true;
	has(ok("vm show a"), "guest=silent\n");
	text = ok("vm show b");
	has(text, "state=created");
	has(text, "cmdline=\"app=idle mem=50%\"\n");
	has(text, "pages=0\n");
}

static void test_mem(void **state)
{
	const char *text;

	(void)state;
	text = ok("mem");
	has(text, "swap=off\n          swap-why=\"no swap partition\"\n");
	has(text, "state=high");
	has(text, "sum check: ok\n");
	make("a", true);
	make("b", false);
	fake_vm_touch(vm_find("a"), 256);
	text = ok("mem");
	has(text, "configured=8M");
	has(text, "overcommit=0.5");
	has(text, "\na             7M      1M      -      -       -      -       -     -      -     -\n");
	has(text, "\na                     8M       1M ");
	has(text, "sum check: ok\n");
	text = ok("mem a");
	has(text, "pages=2048 absent=1792 private=256 ");
	has(text, "balloon-mode=auto");
	bad("mem b", "'b' is created: it has no memory\n");
	bad("mem c", "'c': expected the name of a VM");
	bad("mem a b", "expected: mem [NAME]\n");
}

static void test_zip(void **state)
{
	(void)state;
	has(ok("zip"), "compression: on, at most 10% of a VM's memory\n");
	make("a", true);
	make("b", false);
	for (gfn_t gfn = 0; gfn < 8; gfn++)
		assert_int_equal(gspace_write(&vm_find("a")->gs, GPA(gfn << PAGE_SHIFT), "soft", 4), 0);
	assert_int_equal(swap_out(&vm_find("a")->gs, 8), 8);
	has(ok("zip"), "\n32K in 4K, ");
	has(ok("zip"), "\na                    32K       4K     816K        0          8          0\n");
	has(ok("mem"), " zip=32K zip-pool=4K zip-saved=28K zip-in=8 ");
	has(ok("mem a"), " compressed=8\n");
	has(ok("mem check"), "a: 2048 pages, 0 wrong\n");
	ok("set zip-max 0");
	has(ok("zip"), "compression: off\n");
	has(ok("set"), "zip-max=0% of a VM's memory\n");
	bad("set zip-max 51", "zip-max: expected 0 (off) to 50 percent, got '51'\n");
	bad("zip a", "expected: zip\n");
}

static void test_mem_check(void **state)
{
	struct vm *vm;

	(void)state;
	assert_string_equal(ok("mem check"), "sum check: ok\n");
	make("a", true);
	vm = vm_find("a");
	fake_vm_touch(vm, 20);
	assert_string_equal(ok("mem check"), "a: 2048 pages, 0 wrong\nsum check: ok\n");
	vm->gs.count[PAGE_ABSENT]--;
	has(ok("mem"), "sum check: a: states add up to 2047 of 2048 pages\n");
	assert_null(strstr(ok("mem"), "sum check: ok"));
	assert_null(strstr(ok("mem check"), "sum check: ok"));
	vm->gs.count[PAGE_ABSENT]++;
}

static void test_balloon(void **state)
{
	struct vm *vm;

	(void)state;
	make("a", true);
	make("b", false);
	vm = vm_find("a");
	has(ok("balloon"), "\nb                      -        -        -          - -       off\n");
	assert_string_equal(ok("balloon a 2M"), "a: balloon=2M\n");
	has(ok("balloon"), "manual  none\n");
	assert_int_equal(vm->gs.balloon_manual, 512);
	assert_string_equal(ok("balloon a auto"), "a: balloon=auto\n");
	assert_int_equal(vm->gs.balloon_manual, GFN_NONE);
	bad("balloon a", "expected: balloon NAME SIZE|auto\n");
	bad("balloon a x", "balloon: expected auto or a size of 0 to 5M, got 'x'\n");
	bad("balloon a 9M", "balloon: expected auto or a size of 0 to ");
	bad("balloon b 1M", "'b' is created: it has no balloon\n");
	bad("balloon c 1M", "'c': expected the name of a VM");
	ok("vm set a reservation 7M");
	bad("balloon a 2M", "balloon: expected auto or a size of 0 to 1M, got '2M'\n");
}

static void test_vm_set(void **state)
{
	struct vm *vm;

	(void)state;
	make("a", true);
	vm = vm_find("a");
	assert_string_equal(ok("vm set a reservation 25%"), "a: reservation=2M\n");
	assert_int_equal(vm->gs.alloc.reservation, 512);
	assert_string_equal(ok("vm set a limit 8M"), "a: limit=8M\n");
	assert_string_equal(ok("vm set a shares high"), "a: shares=160\n");
	assert_string_equal(ok("vm set a cpu-weight 3000"), "a: cpu-weight=3000\n");
	assert_string_equal(ok("vm set a cpu-cap 50"), "a: cpu-cap=50\n");
	bad("vm set a cpu-weight 0", "cpu-weight: expected 1 to 100000, got '0'\n");
	bad("vm set a shares many", "shares: expected 1 to 1000000, low, normal or high, got 'many'\n");
	bad("vm set a limit 1Q",
	    "limit: expected 0 (none), or a size or a percentage of memory that is 8M to 64G, got '1Q'\n");
	bad("vm set a limit 4095", "limit: expected 0 (none), ");
	bad("vm set a limit 512K", "limit: expected 0 (none), ");
	bad("vm set a limit 1%", "limit: expected 0 (none), ");
	bad("vm set a limit 0%", "limit: expected 0 (none), ");
	bad("vm set a reservation 16M", "reservation must be at most");
	assert_string_equal(ok("vm set a balloon-rate 4096"), "a: balloon-rate=4096\n");
	bad("vm set a balloon-rate 3",
	    "balloon-rate: expected 0 (the host's) or 64 to 1000000 pages a second, got '3'\n");
	bad("vm set a colour red", "'colour': expected a key of a VM: memory, ");
	bad("vm set a vcpus 2", "'a' is running: vcpus can be set when it is stopped, for its next start\n");
	bad("vm set a limit", "expected: vm set NAME SETTING VALUE\n");
	bad("vm set z limit 1M", "'z': expected the name of a VM");
}

static u64 twelve_mib(struct gspace *gs)
{
	(void)gs;
	return 12 * MIB >> PAGE_SHIFT;
}

static void test_mem_demand(void **state)
{
	struct gspace *gs;

	(void)state;
	make("a", true);
	assert_null(strstr(ok("mem demand"), "\na "));
	has(out.text, "no VM that runs has Dynamic Memory");
	assert_null(strstr(ok("mem a"), "pressure="));
	ok("vm create d startup=16M minimum=8M maximum=32M autostart=yes");
	gs = &vm_find("d")->gs;
	has(ok("mem demand"), "d                    8M     32M         0     16M     16M       0% off     auto\n");
	assert_null(strstr(out.text, "no VM"));
	fake_mm_committed = twelve_mib;
	dynmem_sample(gs);
	has(ok("mem demand"), "       12M   14.3M     16M      75% ok      auto\n");
	has(ok("mem d"), "committed=3072 wanted=3686");
	has(ok("mem d"), "has=4096 pressure=75 demand-status=ok");
	assert_string_equal(ok("vm set d memory 24M"), "d: memory=24M\n");
	assert_int_equal(gs->dyn.fixed, 6144);
	has(ok("mem demand"), "       12M     24M     16M      75% ok      fixed\n");
	assert_string_equal(ok("vm set d memory auto"), "d: memory=auto\n");
	assert_int_equal(gs->dyn.fixed, 0);
	ok("vm set d minimum 12M");
	assert_int_equal(gs->dyn.minimum, 3072);
	ok("vm set d buffer 100%");
	has(ok("mem demand"), "24M     16M      75% low     auto\n");
	bad("vm set d memory 7M", "memory: expected a size of 8M to 64G, got '7M'\n");
	bad("vm set d memory automatic", "memory: expected a size of 8M to 64G, got 'automatic'\n");
	bad("vm set d buffer 4", "buffer: expected 5 to 2000 percent, got '4'\n");
	bad("vm set d minimum x", "minimum: expected a size of 8M to 64G, got 'x'\n");
	bad("vm create e memory=16M maximum=8M", "maximum must be the VM's memory to 64G");
	/* The worst case has it at its maximum. */
	has(ok("mem worst"), "pages=40M");
	fake_mm_committed = NULL;
}

static void test_mem_worst(void **state)
{
	(void)state;
	has(ok("mem worst"), "pages=0 reserved=0 head-room=0 overhead=0");
	has(ok("mem worst"), "backed=yes missing=0");
	make("a", true); /* which nothing has promised swap to */
	has(ok("mem worst"), "head-room=");
	has(ok("mem worst"), "backed=no missing=");
	bad("mem worst a", "");
}

static void test_set(void **state)
{
	char line[64], size[FORMAT_SIZE_BYTES];
	struct reclaim_stats reclaim;
	u32 scale;

	(void)state;
	make("a", true);
	reclaim_stats(&reclaim);
	scale = reclaim.min_free;
	has(ok("set"), "log-level=info\n");
	assert_string_equal(ok("set log-level debug"), "log-level=debug\n");
	assert_int_equal(log_get_level(), LOG_DEBUG);
	ok("set balloon-rate 100");
	assert_int_equal(vm_find("a")->gs.balloon_rate, 100);
	has(ok("set"), "balloon-rate=100 pages a second and VM\n");
	ok("set share-rate 0");
	has(ok("set"), "share-rate=0 pages a second\n");
	assert_string_equal(ok("set min-free 1540K"), "min-free=1.5M\n");
	reclaim_stats(&reclaim);
	assert_int_equal(reclaim.min_free, 385);
	assert_string_equal(ok("set min-free 1M"), "min-free=1.2M\n"); /* the least that works */
	bad("set min-free 64G", "min-free: expected at most half of the host's RAM, ");
	has(ok("get min-free"), "min-free=1.2M\n");
	ok("set min-free 2M");
	has(ok("set"), "min-free=2M\n");
	assert_string_equal(ok("get min-free"), "min-free=2M\n");
	ok("set min-free auto");
	has(ok("get min-free"), " (sliding scale)\n");
	reclaim_stats(&reclaim);
	assert_int_equal(reclaim.min_free, scale);
	snprintf(line, sizeof(line), "min-free=%s ", format_size(size, (u64)scale << PAGE_SHIFT));
	has(ok("get min-free"), line);
	assert_string_equal(ok("get"), ok("set"));
	has(ok("get"), "\nalert-swap-full=80 percent\n");
	assert_string_equal(ok("set alert-swap-full 90"), "alert-swap-full=90\n");
	assert_string_equal(ok("get alert-swap-full"), "alert-swap-full=90 percent\n");
	ok("set alert-swap-full 80");
	bad("set alert-swap-full 0", "alert-swap-full: expected 1 to 100 percent, got '0'\n");
	bad("get colour", "'colour': expected a key of the host; `get` lists them\n");
	bad("set share-rate fast", "share-rate: expected 0 (off) to 1000000 pages a second, got 'fast'\n");
	bad("set colour red", "'colour': expected a key of the host: ");
	bad("set log-level", "expected: set KEY VALUE\n");
}

static void test_log(void **state)
{
	const char *text;
	u32 lines = 0;

	(void)state;
	for (u32 i = 0; i < 30; i++)
		log_info("test", "line %u", i);
	text = ok("log");
	for (const char *c = text; *c; c++)
		lines += *c == '\n';
	assert_int_equal(lines, 20);
	has(text, "test: line 10\n");
	has(text, "test: line 29\n");
	assert_null(strstr(text, "line 9\n"));
	has(ok("log 1"), "line 29\n");
	assert_null(strstr(ok("log 1"), "line 28"));
	ok("log 2000");
	bad("log 0", "'0': expected 1 to 2000 lines\n");
	bad("log x", "'x': expected 1 to 2000 lines\n");
	bad("log 2001", "'2001': expected 1 to 2000 lines\n");
}

static void test_host_and_disk(void **state)
{
	static const struct blk_ops ops;
	static struct blk_dev dev = {
	    .name = "nvme0n1", .model = "a model", .sectors = 2048, .sector_bytes = 512, .queue_depth = 8, .ops = &ops};
	const char *text;

	(void)state;
	text = ok("host");
	has(text, "backend=none asids=7");
	has(text, "frames=4096 frames-free=");
	assert_string_equal(ok("disk"), "no disks\n");
	blk_register(&dev);
	text = ok("disk");
	has(text, "device=nvme0n1 size=1M state=ok sector=512 queue=0/8\nmodel=\"a model\"\nreads=0");
}

static void test_shutdown(void **state)
{
	struct command_run r;
	u32 waits = 0;

	(void)state;
	make("a", true);
	fake_vm_deaf = true;
	fake_out_init(&out);
	command_begin(&r, &out.out, "shutdown");
	while (command_step(&r)) {
		assert_true(r.wait);
		waits++;
	}
	/* Asked first, forced after six seconds. */
	assert_int_equal(r.err, 0);
	assert_int_equal(r.request, COMMAND_POWEROFF);
	assert_true(waits * COMMAND_WAIT_NS >= 6 * NSEC_PER_SEC);
	assert_string_equal(out.text, "stopping 1 VMs\npowering off\n");
	assert_int_equal(vm_find("a")->state, VM_CREATED);

	ok("vm start a");
	command_begin(&r, &out.out, "reboot force");
	assert_true(command_step(&r));
	assert_false(command_step(&r));
	assert_int_equal(r.request, COMMAND_REBOOT);
	bad("shutdown now", "'now': expected nothing or force\n");
}

static void test_attach(void **state)
{
	struct command_run r;

	(void)state;
	make("a", false);
	fake_out_init(&out);
	command_begin(&r, &out.out, "vm console a");
	assert_false(command_step(&r));
	assert_int_equal(r.request, COMMAND_ATTACH);
	assert_string_equal(r.name, "a");
	assert_string_equal(out.text, "");
}

static void test_type(void **state)
{
	(void)state;
	make("a", false);
	bad("vm type a stats", "'a' is created\n");
	ok("vm start a");
	fake_vm_typed[0] = 0;
	assert_string_equal(ok("vm type a \"check all\""), "");
	assert_string_equal(fake_vm_typed, "check all\r");
	fake_vm_typed[0] = 0;
	assert_string_equal(ok("vm type a ?"), ""); /* guests have a help, too */
	assert_string_equal(fake_vm_typed, "?\r");
	assert_non_null(strstr(ok("vm type ?"), "for example: vm type db stats"));
	bad("vm type b stats", "'b': expected the name of a VM");
	bad("vm type a", "expected: vm type NAME TEXT");
	fake_vm_deaf = true;
	bad("vm type a stats", "'a' does not read what is typed\n");
	fake_vm_deaf = false;
}

/* A VM that goes away between two pieces. */
static void test_vms_change_between_pieces(void **state)
{
	struct command_run r;
	char line[64], why[64];

	(void)state;
	for (u32 i = 0; i < 20; i++) {
		snprintf(line, sizeof(line), "vm create v%u memory=8M", i);
		ok(line);
	}
	fake_out_init(&out);
	command_begin(&r, &out.out, "vm list");
	assert_true(command_step(&r));
	for (u32 i = 0; i < 20; i++) {
		snprintf(line, sizeof(line), "v%u", i);
		assert_int_equal(vm_destroy(vm_find(line), why, sizeof(why)), 0);
	}
	assert_false(command_step(&r));
	make("a", true);
	command_begin(&r, &out.out, "vm show a");
	assert_true(command_step(&r));
	fake_vm_end();
	assert_false(command_step(&r));
	assert_int_equal(r.err, E_NOENT);
}

static const char *completion(const char *line)
{
	static char add[CONSOLE_LINE_MAX];

	command_complete(line, add, sizeof(add));
	return add;
}

static void test_completion(void **state)
{
	(void)state;
	make("alpha", false);
	make("alpine", false);
	make("beta", false);
	assert_string_equal(completion("shu"), "tdown ");
	assert_string_equal(completion("he"), "lp ");
	assert_string_equal(completion("h"), "");
	assert_string_equal(completion("zz"), "");
	assert_string_equal(completion("vm"), " ");
	assert_string_equal(completion("vm sho"), "w ");
	assert_string_equal(completion("vm  s"), "");
	assert_string_equal(completion("vm show a"), "lp");
	assert_string_equal(completion("vm show alpi"), "ne ");
	assert_string_equal(completion("vm show beta x"), "");
	assert_string_equal(completion("balloon b"), "eta ");
	assert_string_equal(completion("mem c"), "heck ");
	assert_string_equal(completion("mem b"), "eta ");
	assert_string_equal(completion("help vm cons"), "ole ");
	assert_string_equal(completion("help ba"), "lloon ");
	assert_string_equal(completion("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b"), "");
}

static char list[1024];

static const char *candidates(const char *line, size_t size)
{
	command_candidates(line, list, size);
	return list;
}

static void test_candidates(void **state)
{
	char name[] = "vm-000-of-a-lot";

	(void)state;
	assert_string_equal(candidates("shu", sizeof(list)), "");
	assert_string_equal(candidates("zz", sizeof(list)), "");
	assert_string_equal(candidates("h", sizeof(list)), "help  history  host");
	assert_string_equal(candidates("m", sizeof(list)), "mem  metrics  more"); /* mem is in the table four times */
	assert_string_equal(candidates("vm s", sizeof(list)), "show  start  stop  set");
	make("alpha", false);
	make("alpine", false);
	assert_string_equal(candidates("mem ", sizeof(list)), "demand  worst  check  alpha  alpine");
	assert_string_equal(candidates("vm show a", sizeof(list)), "alpha  alpine");
	assert_string_equal(candidates("vm set alpha cpu", sizeof(list)), "cpu-weight  cpu-cap");
	candidates("", sizeof(list));
	assert_true(str_starts(list, "help  vm  balloon  mem  share"));
	assert_true(strstr(list, "shutdown  reboot") && strchr(list, '\n'));
	for (const char *row = list; row; row = strchr(row, '\n') ? strchr(row, '\n') + 1 : NULL)
		assert_true(strcspn(row, "\n") <= 79);
	for (u32 i = 0; i < 38; i++) {
		name[4] = (char)('0' + i / 10);
		name[5] = (char)('0' + i % 10);
		make(name, false);
	}
	assert_true(strstr(candidates("vm show vm", sizeof(list)), "vm-037-of-a-lot") != NULL && !strstr(list, "..."));
	candidates("vm show vm", 512);
	assert_true(strlen(list) > 512 - 24 && strlen(list) < 512);
	assert_string_equal(list + strlen(list) - 4, " ...");
	assert_null(strstr(list, "vm-037"));
	for (size_t size = 64; size < 200; size++)
		assert_true(strlen(candidates("vm show vm", size)) < size);
}

static void test_pairs(void **state)
{
	struct pairs p;

	(void)state;
	fake_out_init(&out);
	pairs_begin(&p, &out.out);
	for (u32 i = 0; i < 30; i++)
		pairs_number(&p, "key", 1234567890);
	pairs_end(&p);
	pairs_end(&p);
	check_text(out.text);
	fake_out_init(&out);
	pairs_text(&p, "why", "a \"b\"\n\xff");
	assert_string_equal(out.text, "why=\"a ?b???\"\n");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fake_vm_fresh, fake_vm_over)
	const struct CMUnitTest tests[] = {
	    T(test_words),      T(test_long_line),     T(test_help),
	    T(test_create),     T(test_life),          T(test_list),
	    T(test_show),       T(test_mem),           T(test_zip),
	    T(test_mem_check),  T(test_balloon),       T(test_vm_set),
	    T(test_set),        T(test_mem_demand),    T(test_mem_worst),
	    T(test_log),        T(test_host_and_disk), T(test_shutdown),
	    T(test_attach),     T(test_type),          T(test_vms_change_between_pieces),
	    T(test_completion), T(test_candidates),    T(test_pairs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
