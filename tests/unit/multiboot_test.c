/* See multiboot_test.h. */
#include "tests/unit/multiboot_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/err.h"

struct boot_mem entries[ENTRIES];
struct memmap map;
struct mb2_info out;
const char *why;

void forget_result(void)
{
	memmap_init(&map, entries, ENTRIES);
	memset(&out, 0x5a, sizeof(out));
	why = NULL;
}

void expect_refused(int err, const char *reason)
{
	assert_int_equal(err, E_INVAL);
	if (!why || !strstr(why, reason))
		fail_msg("expected '%s', got '%s'", reason, why ? why : "(none)");
}
