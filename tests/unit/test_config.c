/* vmm/config.c: what a file may say, and the one line that every mistake gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "vmm/config.h"

static struct config config;
static char reports[16384];
static u32 report_count;

static void report(void *arg, const char *text)
{
	assert_ptr_equal(arg, &config);
	assert_null(strchr(text, '\n'));
	assert_true(strlen(reports) + strlen(text) + 2 < sizeof(reports));
	strcat(reports, text);
	strcat(reports, "\n");
	report_count++;
}

static void parse_bytes(const char *text, size_t len)
{
	reports[0] = 0;
	report_count = 0;
	memset(&config, 0x5a, sizeof(config));
	config_parse(text, len, &config, report, &config);
}

static void parse(const char *text)
{
	char *copy = malloc(strlen(text) + 1); /* so that ASan sees a read beyond the end */

	memcpy(copy, text, strlen(text));
	parse_bytes(copy, strlen(text));
	free(copy);
}

static void expect_report(const char *text, const char *line)
{
	parse(text);
	if (!strstr(reports, line))
		fail_msg("expected report '%s', got '%s'", line, reports);
}

static void test_whole_file(void **state)
{
	(void)state;
	parse("; Aerostat\n"
	      "# with b\xc3\xa4\xff comments\n"
	      "[host]\n"
	      "min-free = 32M\n"
	      "share-rate=1000 ; inline\n"
	      "balloon-rate=2000\r\n"
	      "zip-max = 0\n"
	      "log-level = debug\n"
	      "[loader]\n"
	      "options = panic=reboot\n"
	      "\n"
	      "[vm db-1]\n"
	      "memory = 192M\n"
	      "reservation = 25%\n"
	      "limit = 128M\n"
	      "shares = high\n"
	      "vcpus = 2\n"
	      "disk = 64M\n"
	      "balloon-max = 50%\n"
	      "zip-max = 25%\n"
	      "share-group = desks\n"
	      "watchdog = 30\n"
	      "cpu-weight = 3000\n"
	      "cpu-cap = 50\n"
	      "image = other.elf\n"
	      "cmdline = app=db size=64M cache=50%\n"
	      "autostart = no\n"
	      "[vm b]\n"
	      "  memory: 8M");
	assert_string_equal(reports, "");
	assert_int_equal(config.errors, 0);
	assert_int_equal(config.vm_count, 2);
	assert_int_equal(config.host.min_free_pages, 32 * 256);
	assert_int_equal(config.host.share_rate, 1000);
	assert_int_equal(config.host.balloon_rate, 2000);
	assert_int_equal(config.host.zip_percent, ZIP_NONE);
	assert_int_equal(config.host.log_level, LOG_DEBUG + 1);
	assert_string_equal(config.vm[0].name, "db-1");
	assert_int_equal(config.vm[0].memory_bytes, 192 * MIB);
	assert_int_equal(config.vm[0].reservation_bytes, 48 * MIB);
	assert_int_equal(config.vm[0].limit_bytes, 128 * MIB);
	assert_int_equal(config.vm[0].shares, 3840);
	assert_int_equal(config.vm[0].vcpus, 2);
	assert_int_equal(config.vm[0].disk_bytes, 64 * MIB);
	assert_int_equal(config.vm[0].balloon_max_percent, 50);
	assert_int_equal(config.vm[0].zip_percent, 25);
	assert_string_equal(config.vm[0].share_group, "desks");
	assert_string_equal(config.vm[1].share_group, "");
	assert_int_equal(config.vm[0].watchdog_sec, 30);
	assert_int_equal(config.vm[0].cpu_weight, 3000);
	assert_int_equal(config.vm[0].cpu_cap, 50);
	assert_string_equal(config.vm[0].image, "other.elf");
	assert_string_equal(config.vm[0].cmdline, "app=db size=64M cache=50%");
	assert_false(config.vm[0].autostart);
	assert_string_equal(config.vm[1].name, "b");
	assert_int_equal(config.vm[1].memory_bytes, 8 * MIB);
	assert_int_equal(config.vm[1].vcpus, 1);
	assert_string_equal(config.vm[1].image, "guest.elf");
	assert_true(config.vm[1].autostart);
}

static void test_values(void **state)
{
	static const struct {
		const char *line, *expected;
	} bad[] = {
	    {"memory = x", "aerostat.ini:3: memory: expected a size of 8M to 64G, got 'x'\n"},
	    {"memory = 7M", "aerostat.ini:3: memory: expected a size of 8M to 64G, got '7M'\n"},
	    {"memory = 65G", "aerostat.ini:3: memory: expected"},
	    {"memory = 99999999999999999999", "aerostat.ini:3: memory: expected"},
	    {"memory =", "aerostat.ini:3: memory: expected a size of 8M to 64G, got ''\n"},
	    {"reservation = 101%",
	     "aerostat.ini:3: reservation: expected a size of 0 to 64G or a percentage, got '101%'\n"},
	    {"reservation = %", "aerostat.ini:3: reservation: expected"},
	    {"reservation = -1", "aerostat.ini:3: reservation: expected"},
	    {"limit = 1Z", "aerostat.ini:3: limit: expected"},
	    {"limit = 4K",
	     "aerostat.ini:3: limit: expected 0 (none), or a size or a percentage of memory that is 8M to "
	     "64G, got '4K'\n"},
	    {"limit = 1", "aerostat.ini:3: limit: expected 0 (none), "}, /* less than a page is not none */
	    {"limit = 8191K", "aerostat.ini:3: limit: expected 0 (none), "},
	    {"shares = 0", "aerostat.ini:3: shares: expected 1 to 1000000, low, normal or high, got '0'\n"},
	    {"shares = medium", "aerostat.ini:3: shares: expected"},
	    {"vcpus = 9", "aerostat.ini:3: vcpus: expected 1 to 8, got '9'\n"},
	    {"vcpus = 0", "aerostat.ini:3: vcpus: expected 1 to 8, got '0'\n"},
	    {"disk = 17G", "aerostat.ini:3: disk: expected 0 (none) or a size of 1M to 16G, got '17G'\n"},
	    {"disk = 1K", "aerostat.ini:3: disk: expected"},
	    {"balloon-max = 96", "aerostat.ini:3: balloon-max: expected 1 to 95 percent, got '96'\n"},
	    {"balloon-max = 0", "aerostat.ini:3: balloon-max: expected"},
	    {"zip-max = 51", "aerostat.ini:3: zip-max: expected 0 (off) to 50 percent, got '51'\n"},
	    {"share-group = a b", "aerostat.ini:3: share-group: expected a name of 1 to 15 characters"},
	    {"share-group =", "aerostat.ini:3: share-group: expected"},
	    {"watchdog = 3601", "aerostat.ini:3: watchdog: expected 0 (off) to 3600 seconds, got '3601'\n"},
	    {"image =", "aerostat.ini:3: image: expected a file name"},
	    {"autostart = maybe", "aerostat.ini:3: autostart: expected yes or no, got 'maybe'\n"},
	    {"colour = red", "aerostat.ini:3: 'colour': expected a key of a VM: memory, "},
	    {"= 3", "aerostat.ini:3: '': expected a key of a VM"},
	    {"memory", "aerostat.ini:3: expected key = value\n"},
	    {"memory ; = 8M", "aerostat.ini:3: expected key = value\n"},
	    {"m\x01 = 8M", "aerostat.ini:3: expected printable ASCII text\n"},
	    {"cmdline = b\xc3\xa4r", "aerostat.ini:3: expected printable ASCII text\n"},
	};
	char text[256];

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "[vm a]\nvcpus=1\n%s\n", bad[i].line);
		if (!strncmp(bad[i].line, "vcpus", 5))
			snprintf(text, sizeof(text), "[vm a]\nshares=7\n%s\n", bad[i].line);
		expect_report(text, bad[i].expected);
		snprintf(text, sizeof(text), "[vm a]\n\n%s\nmemory=8M\n", bad[i].line);
		parse(text);
		assert_int_equal(report_count, 1);
		/* What was good stays in force. */
		assert_int_equal(config.vm_count, 1);
		assert_int_equal(config.vm[0].memory_bytes, 8 * MIB);
		assert_int_equal(config.vm[0].limit_bytes, 0);
	}
}

static void test_dynamic_memory(void **state)
{
	static const char *const bad[] = {"minimum = 7M", "minimum = x",  "maximum = 65G",
					  "maximum =",    "buffer = 4",   "buffer = 2001%",
					  "buffer = -20", "buffer = 20M", "startup = 1M"};
	char text[256], key[32];

	(void)state;
	parse("[vm a]\nstartup = 64M\nminimum = 32M\nmaximum = 192M\nbuffer = 30%\nshares = low\n[vm b]\nmemory = 8M\n"
	      "maximum = 16M\n");
	assert_string_equal(reports, "");
	assert_int_equal(config.vm[0].memory_bytes, 64 * MIB);
	assert_int_equal(config.vm[0].minimum_bytes, 32 * MIB);
	assert_int_equal(config.vm[0].maximum_bytes, 192 * MIB);
	assert_int_equal(config.vm[0].buffer_percent, 30);
	assert_int_equal(config.vm[0].shares, 320);
	assert_true(config.vm[1].minimum_bytes == 0 && config.vm[1].maximum_bytes == 16 * MIB);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(key, sizeof(key), "%.7s: expected", bad[i]);
		if (!strncmp(bad[i], "buffer", 6))
			strcpy(key, "buffer: expecte");
		snprintf(text, sizeof(text), "[vm a]\nvcpus = 1\n%s\nmemory = 8M\n", bad[i]);
		expect_report(text, key);
		assert_int_equal(report_count, 1);
		assert_int_equal(config.vm[0].memory_bytes, 8 * MIB);
	}
	expect_report(
	    "[vm a]\nmemory=8M\nstartup=16M\n",
	    "aerostat.ini:3: startup: expected once: memory and startup are the same, the first value stays\n");
	assert_int_equal(config.vm[0].memory_bytes, 8 * MIB);
}

static void test_host_values(void **state)
{
	(void)state;
	expect_report("[host]\nmin-free=512K\n",
		      "aerostat.ini:2: min-free: expected a size of 1M to 64G, or auto, got '512K'\n");
	expect_report("[host]\nmin-free=auto\n", "");
	assert_int_equal(config.host.min_free_pages, CONFIG_MIN_FREE_AUTO);
	expect_report("[host]\nshare-rate=-1\n",
		      "aerostat.ini:2: share-rate: expected 0 (off) to 1000000 pages a second, got '-1'\n");
	expect_report("[host]\nballoon-rate=0\n",
		      "aerostat.ini:2: balloon-rate: expected 64 to 1000000 pages a second, got '0'\n");
	expect_report("[host]\nlog-level=loud\n",
		      "aerostat.ini:2: log-level: expected error, warning, info or debug, got 'loud'\n");
	expect_report("[host]\nmemory=8M\n", "aerostat.ini:2: 'memory': expected a key of the host: min-free, ");
	expect_report("[loader]\noption=1\n", "aerostat.ini:2: 'option': expected the loader's key: options\n");
	parse("[host]\nshare-rate=0\n");
	assert_int_equal(config.host.share_rate, CONFIG_RATE_OFF);
	assert_int_equal(config.errors, 0);
}

static void test_commands(void **state)
{
	char text[16 * 1024] = "[commands]\n";

	(void)state;
	parse("[commands]\n0 = vm list\n0.25=mem db ; looks\n2.5 = balloon db 32M\n2.5 = vm type db \"stats all\"\n"
	      "86400.999 = shutdown\n");
	assert_string_equal(reports, "");
	assert_int_equal(config.command_count, 5);
	assert_int_equal(config.command[0].at_ms, 0);
	assert_string_equal(config.command[0].line, "vm list");
	assert_int_equal(config.command[1].at_ms, 250);
	assert_string_equal(config.command[1].line, "mem db");
	assert_int_equal(config.command[3].at_ms, 2500);
	assert_string_equal(config.command[3].line, "vm type db \"stats all\"");
	assert_int_equal(config.command[4].at_ms, 86400999);
	expect_report("[commands]\n2=mem\n1.999=mem\n",
		      "aerostat.ini:3: 1.999: expected a time that is not before the last command's\n");
	assert_int_equal(config.command_count, 1);
	expect_report("[commands]\n1 s=mem\n",
		      "aerostat.ini:2: expected seconds of 0 to 86400, such as 2.5, got '1 s'\n");
	expect_report("[commands]\n-1=mem\n", "got '-1'\n");
	expect_report("[commands]\n1.=mem\n", "got '1.'\n");
	expect_report("[commands]\n.5=mem\n", "got '.5'\n");
	expect_report("[commands]\n1.0005=mem\n", "got '1.0005'\n");
	expect_report("[commands]\n86401=mem\n", "got '86401'\n");
	expect_report("[commands]\n1=\n", "aerostat.ini:2: 1: expected a command of at most 100 characters\n");
	for (u32 i = 0; i < CONFIG_COMMANDS_MAX; i++)
		strcat(text, "1=mem\n");
	parse(text);
	assert_int_equal(config.errors, 0);
	strcat(text, "1=mem\n");
	expect_report(text, "aerostat.ini:258: expected at most 256 commands: this one is left out\n");
	assert_int_equal(config.command_count, CONFIG_COMMANDS_MAX);
}

static void test_sections(void **state)
{
	(void)state;
	expect_report(
	    "memory=8M\n",
	    "aerostat.ini:1: expected a section [host], [loader], [commands] or [vm NAME] before the first key\n");
	expect_report("[guest]\nmemory=8M\n",
		      "aerostat.ini:1: expected a section [host], [loader], [commands] or [vm NAME], got '[guest]'\n");
	expect_report("[vm a\nmemory=8M\n",
		      "aerostat.ini:1: expected a section [host], [loader], [commands] or [vm NAME]\n");
	expect_report("[vm a] x\nmemory=8M\n", "aerostat.ini:1: expected a section");
	expect_report("[vm]\nmemory=8M\n", "aerostat.ini:1: [vm]: expected a name of 1 to 15 characters");
	expect_report("[vm a b]\nmemory=8M\n", "aerostat.ini:1: [vm]: expected a name of 1 to 15 characters");
	expect_report("[vm abcdefghijklmnop]\nmemory=8M\n", "got 'abcdefghijklmnop'\n");
	expect_report("[vm a]\n[vm b]\nmemory=8M\n", "aerostat.ini:1: expected a key in this section\n");
	expect_report("[vm a]\nvcpus=1\n", "aerostat.ini:1: memory: expected in every VM: this one is left out\n");
	/* Keys below a bad header belong to nobody, least of all to the section before. */
	expect_report("[vm a]\nmemory=8M\n[vm\nmemory=16M\n", "aerostat.ini:3: expected a section");
	assert_int_equal(report_count, 1);
	assert_int_equal(config.vm_count, 1);
	assert_int_equal(config.vm[0].memory_bytes, 8 * MIB);
	parse("[vm a] ; comment\nmemory=8M\n");
	assert_int_equal(config.errors, 0);
}

static void test_duplicates(void **state)
{
	(void)state;
	expect_report("[vm a]\nmemory=8M\n[vm a]\nmemory=16M\n",
		      "aerostat.ini:3: [vm a]: expected a name of its own: this second section is left out\n");
	assert_int_equal(config.vm[0].memory_bytes, 8 * MIB);
	expect_report("[vm a]\nmemory=8M\nmemory=16M\n",
		      "aerostat.ini:3: memory: expected once: given twice, the first value stays\n");
	assert_int_equal(config.vm[0].memory_bytes, 8 * MIB);
	expect_report("[host]\nmin-free=8M\nmin-free=9M\n",
		      "aerostat.ini:3: min-free: expected once: given twice, the first value stays\n");
	/* A value that was refused does not count. */
	parse("[vm a]\nmemory=x\nmemory=16M\n");
	assert_int_equal(report_count, 1);
	assert_int_equal(config.vm[0].memory_bytes, 16 * MIB);
}

static void test_parts_of_memory(void **state)
{
	(void)state;
	expect_report("[vm a]\nreservation=50%\nmemory=8M\n",
		      "aerostat.ini:2: reservation: '50%' is a part of memory, which is expected before it\n");
	expect_report("[vm a]\nshares=low\nmemory=8M\n",
		      "aerostat.ini:2: shares: 'low' is a part of memory, which is expected before it\n");
	parse("[vm a]\nmemory=64G\nreservation=100%\nlimit=33%\nshares=low\n");
	assert_int_equal(config.errors, 0);
	assert_true(config.vm[0].reservation_bytes == 64 * GIB);
	assert_true(config.vm[0].limit_bytes == (64 * GIB / 100 * 33 & PAGE_MASK));
	assert_int_equal(config.vm[0].shares, 65536 * 5);
}

static void test_limits(void **state)
{
	static char big[CONFIG_BYTES_MAX + 100];
	char text[1200], *at = big;

	(void)state;
	/* The longest line, and one longer. */
	memset(text, 0, sizeof(text));
	strcpy(text, "[vm a]\nmemory=8M\ncmdline=");
	memset(text + strlen(text), 'x', 255);
	parse(text);
	assert_int_equal(config.errors, 0);
	strcat(text, "y");
	expect_report(text, "aerostat.ini:3: cmdline: expected text of at most 255 characters, got 'xxxx");
	memset(text + strlen(text), 'x', 200);
	expect_report(text, "aerostat.ini:3: expected a line of at most 400 characters\n");
	assert_int_equal(config.vm_count, 1);

	for (u32 i = 0; i < CONFIG_VMS_MAX + 2; i++)
		at += sprintf(at, "[vm v%u]\nmemory=8M\n", i);
	parse(big);
	assert_int_equal(config.vm_count, CONFIG_VMS_MAX);
	assert_int_equal(config.errors, 2);
	assert_non_null(strstr(reports, "aerostat.ini:129: [vm v64]: expected at most 64 VMs: this one is left out\n"));

	memset(big, 'x', sizeof(big));
	for (u32 i = 99; i < sizeof(big); i += 100)
		big[i] = '\n';
	parse_bytes(big, sizeof(big));
	assert_int_equal(report_count, CONFIG_REPORTS_MAX + 1);
	assert_true(config.errors > 2600);
	assert_non_null(strstr(reports, "further errors are not shown"));

	memset(big, '\n', sizeof(big));
	parse_bytes(big, sizeof(big));
	assert_string_equal(reports,
			    "aerostat.ini:262144: expected at most 256 KiB: the rest of the file is not read\n");
	parse_bytes(big, 0);
	assert_int_equal(config.errors, 0);
}

static void test_bytes(void **state)
{
	(void)state;
	parse("\xef\xbb\xbf[vm a]\nmemory=8M\n");
	assert_int_equal(config.errors, 0);
	parse_bytes("[vm a]\nmem\0ory=8M\nmemory=16M", 28);
	assert_string_equal(reports, "aerostat.ini:2: expected printable ASCII text\n");
	assert_int_equal(config.vm[0].memory_bytes, 16 * MIB);
}

static void test_setter(void **state)
{
	struct vm_config vm;
	char why[200];
	u32 seen = 0;

	(void)state;
	config_vm_defaults(&vm);
	assert_int_equal(config_set_vm(&vm, &seen, "memory", "64M", why, sizeof(why)), 0);
	assert_int_equal(config_set_vm(&vm, &seen, "memory", "64M", why, sizeof(why)), E_EXIST);
	assert_int_equal(config_set_vm(&vm, &seen, "vcpus", "2x", why, sizeof(why)), E_INVAL);
	assert_int_equal(config_set_vm(&vm, &seen, "vcpus", "20", why, sizeof(why)), E_RANGE);
	assert_int_equal(config_set_vm(&vm, NULL, "x\x1by", "20", why, sizeof(why)), E_NOENT);
	assert_non_null(strstr(why, "'x?y': expected"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole_file),     cmocka_unit_test(test_values),
	    cmocka_unit_test(test_dynamic_memory), cmocka_unit_test(test_host_values),
	    cmocka_unit_test(test_commands),       cmocka_unit_test(test_sections),
	    cmocka_unit_test(test_duplicates),     cmocka_unit_test(test_parts_of_memory),
	    cmocka_unit_test(test_limits),         cmocka_unit_test(test_bytes),
	    cmocka_unit_test(test_setter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
