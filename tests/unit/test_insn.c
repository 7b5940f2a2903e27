/* Recognition of exiting instructions: what it accepts, what it refuses, and that it stays inside its bytes. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86/insn.h"
#include "lib/err.h"
#include "lib/prng.h"

/* Decodes from a heap copy of exactly n bytes, so that ASan sees a byte too many. */
static int decode(const char *bytes, size_t n, bool long_mode, enum insn_id want, struct insn *out)
{
	u8 *copy = malloc(n ? n : 1);
	int err;

	memcpy(copy, bytes, n);
	err = insn_decode(copy, n, long_mode, want, out);
	free(copy);
	return err;
}

static void test_plain(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		enum insn_id id;
	} list[] = {
	    {"\x0f\xa2", 2, INSN_CPUID},       {"\xf4", 1, INSN_HLT},
	    {"\x0f\x01\xd9", 3, INSN_VMMCALL}, {"\x0f\x32", 2, INSN_RDMSR},
	    {"\x0f\x30", 2, INSN_WRMSR},       {"\x0f\x08", 2, INSN_CACHE},
	    {"\x0f\x09", 2, INSN_CACHE},       {"\x0f\x22\xe0", 3, INSN_MOV_TO_CR4},
	};
	struct insn insn;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		for (int wide = 0; wide < 2; wide++) {
			assert_int_equal(decode(list[i].bytes, list[i].n, wide, list[i].id, &insn), 0);
			assert_int_equal(insn.len, list[i].n);
			for (size_t n = 0; n < list[i].n; n++)
				assert_int_equal(decode(list[i].bytes, n, wide, list[i].id, &insn), E_2BIG);
		}
		for (u32 id = 0; id < INSN_IDS; id++)
			if (id != list[i].id)
				assert_int_not_equal(decode(list[i].bytes, list[i].n, true, id, &insn), 0);
	}
}

static void test_prefixes(void **state)
{
	struct insn insn;

	(void)state;
	assert_int_equal(decode("\x66\x2e\xf2\x48\x0f\xa2", 6, true, INSN_CPUID, &insn), 0);
	assert_int_equal(insn.len, 6);
	/* REX is INC or DEC outside 64-bit mode, and must come last in it. */
	assert_int_equal(decode("\x48\x0f\xa2", 3, false, INSN_CPUID, &insn), E_INVAL);
	assert_int_equal(decode("\x48\x66\x0f\xa2", 4, true, INSN_CPUID, &insn), E_INVAL);
	/* Fifteen bytes are the most there can be. */
	assert_int_equal(
	    decode("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x0f\xa2", 15, true, INSN_CPUID, &insn), 0);
	assert_int_equal(
	    decode("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x0f", 15, true, INSN_CPUID, &insn),
	    E_INVAL);
}

static void test_mov_cr4(void **state)
{
	struct insn insn;

	(void)state;
	assert_int_equal(decode("\x41\x0f\x22\xe1", 4, true, INSN_MOV_TO_CR4, &insn), 0);
	assert_int_equal(insn.gpr, 9);
	assert_int_equal(decode("\x0f\x22\xe7", 3, true, INSN_MOV_TO_CR4, &insn), 0);
	assert_int_equal(insn.gpr, 7);
	assert_int_equal(decode("\x0f\x22\xc0", 3, true, INSN_MOV_TO_CR4, &insn), E_INVAL);     /* CR0 */
	assert_int_equal(decode("\x44\x0f\x22\xe0", 4, true, INSN_MOV_TO_CR4, &insn), E_INVAL); /* CR12 */
}

static void test_random(void **state)
{
	struct insn insn;
	struct prng rnd;
	char bytes[INSN_BYTES_MAX];

	(void)state;
	prng_seed(&rnd, 2);
	for (u32 i = 0; i < 200000; i++) {
		size_t n = prng_below(&rnd, sizeof(bytes) + 1);

		for (size_t k = 0; k < n; k++)
			bytes[k] = prng_below(&rnd, 3) ? "\x0f\x66\x48\x22\x01\xf4"[prng_below(&rnd, 6)]
						       : (char)prng_next(&rnd);
		if (decode(bytes, n, i & 1, (enum insn_id)prng_below(&rnd, INSN_IDS), &insn) == 0)
			assert_in_range(insn.len, 1, n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_plain),
	    cmocka_unit_test(test_prefixes),
	    cmocka_unit_test(test_mov_cr4),
	    cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
