/*
 * Some hundred broken configurations, made by rule: every key with values that no key of its kind takes, broken lines,
 * broken sections, and random damage. Each costs what it touches and nothing else, and each report names the file, the
 * line, the key and what was expected.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/prng.h"
#include "vmm/config.h"

#define HEAD  "; a good start\n[host]\nshare-rate = 1000\n\n[vm first]\nmemory = 8M\n"
#define TAIL  "[vm last]\nmemory = 16M\ncmdline = app=idle\n"
#define LINES 6U /* of HEAD */

static struct config config;
static char reports[40000];
static u32 report_count, files;

static void report(void *arg, const char *line)
{
	(void)arg;
	assert_true(strlen(reports) + strlen(line) + 2 < sizeof(reports));
	strcat(reports, line);
	strcat(reports, "\n");
	report_count++;
}

static void parse(const char *text, size_t len)
{
	char *copy = malloc(len + !len); /* so that ASan sees a read beyond the end */

	memcpy(copy, text, len);
	reports[0] = 0;
	report_count = 0;
	memset(&config, 0x5a, sizeof(config));
	config_parse(copy, len, &config, report, NULL);
	assert_int_equal(config.errors != 0, report_count != 0);
	free(copy);
	files++;
}

static const struct vm_config *find(const char *name)
{
	for (u32 i = 0; i < config.vm_count; i++)
		if (!strcmp(config.vm[i].name, name))
			return &config.vm[i];
	return NULL;
}

/* The VM before the damage and the one behind it are as they should be. */
static void check_rest(void)
{
	assert_int_equal(config.host.share_rate, 1000);
	assert_non_null(find("first"));
	assert_true(find("first")->memory_bytes == 8 * MIB);
	assert_non_null(find("last"));
	assert_true(find("last")->memory_bytes == 16 * MIB);
	assert_string_equal(find("last")->cmdline, "app=idle");
}

/* What stands in `middle` is wrong in its line `line`; the report says so, about `key` if there is one. */
static void expect_bad(const char *middle, u32 line, const char *key)
{
	static char text[4096];
	char where[64];
	const char *said;

	snprintf(text, sizeof(text), HEAD "%s\n" TAIL, middle);
	parse(text, strlen(text));
	snprintf(where, sizeof(where), "aerostat.ini:%u: ", LINES + line);
	said = strstr(reports, where);
	if (report_count != 1 || !said || !strstr(said, "expected") || (key && !strstr(said, key)))
		fail_msg("for '%s': expected one report '%s...%s...expected ...', got '%s'", middle, where,
			 key ? key : "", reports);
	check_rest();
}

static const char *const no_number[] = {"",     "x",   "-1",       "1.5",  "99999999999999999999",
					"12 3", "1e3", "+5",       "64Q",  "--",
					"10 M", "0x",  "1,000",    "M",    "\"8M\"",
					"8M;",  "8MM", "\xc2\xb5", "8M 9M"};

static void test_vm_numbers(void **state)
{
	static const char *const keys[] = {"memory", "reservation", "limit",       "shares",
					   "vcpus",  "disk",        "balloon-max", "watchdog"};
	char middle[256];

	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(keys); k++)
		for (u32 v = 0; v < ARRAY_SIZE(no_number); v++) {
			bool ascii = (s8)no_number[v][0] >= 0;

			/* Whatever its value, the key may be given again. */
			snprintf(middle, sizeof(middle), "[vm bad]\n%s = %s\n%s", keys[k], no_number[v],
				 k ? "memory = 8M" : "memory = 32M");
			expect_bad(middle, 2, ascii ? keys[k] : NULL);
			assert_non_null(find("bad"));
		}
}

static void test_host_values(void **state)
{
	static const char *const keys[] = {"min-free", "balloon-rate", "log-level"};
	char middle[256];

	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(keys); k++)
		for (u32 v = 0; v < ARRAY_SIZE(no_number); v++) {
			if ((s8)no_number[v][0] < 0)
				continue; /* the section has no other key, which would be a second report */
			snprintf(middle, sizeof(middle), "\n[host]\n%s = %s", keys[k], no_number[v]);
			expect_bad(middle, 3, keys[k]);
		}
}

static void test_words(void **state)
{
	static const char *const words[] = {"YES", "on", "true", "1", "ye", "yess", "y e s", "noo"};
	char middle[600], longer[400];

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(words); i++) {
		snprintf(middle, sizeof(middle), "[vm bad]\nmemory = 8M\nautostart = %s", words[i]);
		expect_bad(middle, 3, "autostart");
	}
	expect_bad("[vm bad]\nmemory = 8M\nimage =", 3, "image");
	memset(longer, 'x', sizeof(longer));
	longer[64] = 0;
	snprintf(middle, sizeof(middle), "[vm bad]\nmemory = 8M\nimage = %s", longer);
	expect_bad(middle, 3, "image");
	longer[64] = 'x';
	longer[256] = 0;
	snprintf(middle, sizeof(middle), "[vm bad]\nmemory = 8M\ncmdline = %s", longer);
	expect_bad(middle, 3, "cmdline");
}

static void test_keys(void **state)
{
	static const char *const wrong[] = {"Memory",   "mem",          "memoryy",     "memory.size",
					    "=",        "reservation%", "balloon_max", "vm",
					    "min-free", "options",      "log-level",   "-"};
	char middle[256];

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(wrong); i++) {
		snprintf(middle, sizeof(middle), "[vm bad]\nmemory = 8M\n%s = 1", wrong[i]);
		expect_bad(middle, 3, "memory, ");
		snprintf(middle, sizeof(middle), "[loader]\n%s = 1", wrong[i]);
		if (strcmp(wrong[i], "options"))
			expect_bad(middle, 2, "options");
	}
}

static void test_lines(void **state)
{
	static const char *const lines[] = {"memory", "memory 8M",     "8M",       "===",          "x",
					    "yes no", "memory ; = 8M", "}{",       "<xml/>",       "{\"memory\": 8}",
					    "\x01",   "\x7f",          "\xff\xfe", "a\x1b[2J = 1", "k\x08y = 1"};
	char middle[1200], longer[500];

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(lines); i++) {
		snprintf(middle, sizeof(middle), "[vm bad]\nmemory = 8M\n\n%s\n", lines[i]);
		expect_bad(middle, 4, NULL);
	}
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	snprintf(middle, sizeof(middle), "[vm bad]\nmemory = 8M\n%s", longer);
	expect_bad(middle, 3, "400");
	snprintf(middle, sizeof(middle), "[vm bad]\nmemory = 8M\nk = %s", longer);
	expect_bad(middle, 3, "400");
}

static void test_sections(void **state)
{
	static const char *const heads[] = {
	    "[]",         "[vm]",       "[vm ]",     "[vm a b]", "[vm \xc3\xa4]", "[vm abcdefghijklmnop]",
	    "[vm a.b]",   "[vm first]", "[host",     "[vm x",    "[guest]",       "[HOST]",
	    "[host ]",    "[ host]",    "[loader2]", "[[host]]", "[vm a]]",       "[vm x] y",
	    "[host] = 1", "[vm\tx/]",   "[vmx]",     "[VM x]",   "[vm ../x]",     "[vm x%s]"};
	char middle[256];

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(heads); i++) {
		snprintf(middle, sizeof(middle), "%s\nmemory = 64M\nvcpus = 1", heads[i]);
		expect_bad(middle, 1, NULL);
		assert_int_equal(config.vm_count, 2);
	}
	expect_bad("[vm none]", 1, "key");
	expect_bad("[vm bad]\nshares = low\nmemory = 8M", 2, "shares");
	expect_bad("[vm bad]\nlimit = 50%\nmemory = 8M", 2, "limit");
	expect_bad("[vm none]\nvcpus = 1", 1, "memory");
	expect_bad("[vm bad]\nmemory = 8M\nmemory = 9M", 3, "memory");
}

/* A good file with random bytes changed, cut out and doubled: no crash, bounded reports, only VMs that make sense. */
static void test_damage(void **state)
{
	static const char good[] = HEAD "[vm db]\nmemory = 192M\nreservation = 50%\nshares = high\ndisk = 64M\n"
					"watchdog = 30\ncmdline = app=db size=64M cache=50%\nautostart = no\n[loader]\n"
					"options = panic=reboot\n" TAIL;
	char text[2 * sizeof(good)];
	struct prng rng;

	(void)state;
	prng_seed(&rng, 200);
	for (u32 round = 0; round < 3000; round++) {
		size_t len = sizeof(good) - 1;

		memcpy(text, good, len);
		for (u32 n = 1 + prng_below(&rng, 8); n; n--) {
			size_t at = prng_below(&rng, len - 20), piece = 1 + prng_below(&rng, 19);

			switch (prng_below(&rng, 3)) {
			case 0:
				text[at] = (char)prng_below(&rng, 256);
				break;
			case 1:
				memmove(text + at, text + at + piece, len - at - piece);
				len -= piece;
				break;
			default:
				if (len + piece > sizeof(text))
					break;
				memmove(text + at + piece, text + at, len - at);
				len += piece;
				break;
			}
		}
		parse(text, len);
		assert_true(config.vm_count <= CONFIG_VMS_MAX && report_count <= CONFIG_REPORTS_MAX + 1);
		for (u32 i = 0; i < config.vm_count; i++) {
			const struct vm_config *vm = &config.vm[i];

			assert_true(config_name_ok(vm->name));
			assert_true(vm->memory_bytes >= VM_MEMORY_MIN && vm->memory_bytes <= VM_MEMORY_MAX);
			assert_true(vm->vcpus >= 1 && vm->vcpus <= VM_VCPUS_MAX);
		}
		for (const char *line = reports; *line; line = strchr(line, '\n') + 1)
			assert_true(!strncmp(line, "aerostat.ini:", 13));
	}
}

static void test_there_were_many(void **state)
{
	(void)state;
	print_message("%u configurations\n", files);
	assert_true(files - 3000 >= 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_vm_numbers), cmocka_unit_test(test_host_values),     cmocka_unit_test(test_words),
	    cmocka_unit_test(test_keys),       cmocka_unit_test(test_lines),           cmocka_unit_test(test_sections),
	    cmocka_unit_test(test_damage),     cmocka_unit_test(test_there_were_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
