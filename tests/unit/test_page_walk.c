/* The software walk of guest page tables: every paging mode, large pages, holes, and tables full of rubbish. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "arch/x86/hv.h"
#include "arch/x86/x86_bits.h"
#include "lib/err.h"
#include "lib/prng.h"

#define MEMORY 0x10000U
#define P      1UL
#define PS     0x80UL

static _Alignas(8) u8 memory[MEMORY];
static u32 reads, wait_at;

static int read_memory(void *arg, gpa_t gpa, void *dst, size_t len)
{
	assert_ptr_equal(arg, memory);
	if (++reads == wait_at)
		return E_AGAIN;
	if (gpa.v >= MEMORY || MEMORY - gpa.v < len)
		return E_FAULT;
	memcpy(dst, memory + gpa.v, len);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	memset(memory, 0, sizeof(memory));
	reads = wait_at = 0;
	return 0;
}

static void put8(u64 gpa, u64 v)
{
	memcpy(memory + gpa, &v, 8);
}
static void put4(u64 gpa, u32 v)
{
	memcpy(memory + gpa, &v, 4);
}

static int walk(const struct hv_sys *s, u64 gva, u64 *gpa)
{
	gpa_t out = GPA(0);
	int err = hv_guest_translate(s, GVA(gva), read_memory, memory, &out);

	*gpa = out.v;
	return err;
}

static const struct hv_sys no_paging = {.cr0 = CR0_PE};
static const struct hv_sys legacy = {.cr0 = CR0_PE | CR0_PG, .cr3 = 0x1018, .cr4 = CR4_PSE};
static const struct hv_sys pae = {.cr0 = CR0_PE | CR0_PG, .cr3 = 0x1020, .cr4 = CR4_PAE};
static const struct hv_sys wide = {.cr0 = CR0_PE | CR0_PG, .cr3 = 0x1000, .cr4 = CR4_PAE, .efer = EFER_LME | EFER_LMA};

static void test_no_paging(void **state)
{
	u64 gpa;

	(void)state;
	assert_int_equal(walk(&no_paging, 0x112345678, &gpa), 0);
	assert_int_equal(gpa, 0x12345678);
	assert_int_equal(reads, 0);
}

static void test_legacy(void **state)
{
	struct hv_sys no_pse = legacy;
	u64 gpa;

	(void)state;
	put4(0x1000 + 4 * 1, 0x2000 | P);
	put4(0x2000 + 4 * 3, 0x00abc000 | P);
	put4(0x1000 + 4 * 2, 0x12c00000 | 0x3U << 13 | PS | P);
	assert_int_equal(walk(&legacy, 0x00403123, &gpa), 0);
	assert_int_equal(gpa, 0xabc123);
	assert_int_equal(walk(&legacy, 0x00812345, &gpa), 0);
	assert_int_equal(gpa, 0x312c12345);
	no_pse.cr4 = 0;
	assert_int_equal(walk(&no_pse, 0x00812345, &gpa), E_FAULT);
	assert_int_equal(walk(&legacy, 0x00c00000, &gpa), E_FAULT);
	assert_int_equal(walk(&legacy, 0x00404000, &gpa), E_FAULT);
}

static void test_pae(void **state)
{
	u64 gpa;

	(void)state;
	put8(0x1020 + 8 * 3, 0x2000 | P);
	put8(0x2000 + 8 * 1, 0x3000 | P);
	put8(0x3000 + 8 * 2, BIT(63) | 0x500000000 | P);
	put8(0x2000 + 8 * 2, 0x40000000 | PS | P);
	assert_int_equal(walk(&pae, 0xc0202abc, &gpa), 0);
	assert_int_equal(gpa, 0x500000abc);
	assert_int_equal(walk(&pae, 0xc0412345, &gpa), 0);
	assert_int_equal(gpa, 0x40012345);
	assert_int_equal(walk(&pae, 0x00000000, &gpa), E_FAULT);
}

static void test_long_mode(void **state)
{
	u64 gpa, high = 0xffff800000000000;

	(void)state;
	put8(0x1000 + 8 * 256, 0x2000 | P);
	put8(0x2000, 0x3000 | P);
	put8(0x3000, 0x4000 | P);
	put8(0x4000 + 8 * 5, BIT(63) | 0x7000 | P);
	put8(0x3000 + 8, 0x600000 | BIT(12) | PS | P); /* bit 12 is PAT in a large page */
	put8(0x2000 + 8, 0x80000000 | PS | P);
	put8(0x1000, 0x5000 | PS | P); /* bit 7 means nothing at the top: a table */
	assert_int_equal(walk(&wide, high + 0x5fff, &gpa), 0);
	assert_int_equal(gpa, 0x7fff);
	assert_int_equal(reads, 4);
	assert_int_equal(walk(&wide, high + 0x212345, &gpa), 0);
	assert_int_equal(gpa, 0x612345);
	assert_int_equal(walk(&wide, high + 0x51234567, &gpa), 0);
	assert_int_equal(gpa, 0x91234567);
	assert_int_equal(walk(&wide, 0, &gpa), E_FAULT);
	assert_int_equal(walk(&wide, 0x0000800000000000, &gpa), E_FAULT); /* not canonical */
	put8(0x2000, 0x123456789000 | P);
	assert_int_equal(walk(&wide, high, &gpa), E_FAULT);
}

static void test_waits(void **state)
{
	u64 gpa;

	(void)state;
	for (u64 level = 0; level < 4; level++)
		put8(0x1000 * (level + 1), (0x1000 * (level + 2)) | P);
	for (u32 n = 1; n <= 4; n++) {
		reads = 0;
		wait_at = n;
		assert_int_equal(walk(&wide, 0x123, &gpa), E_AGAIN);
	}
	wait_at = 0;
	assert_int_equal(walk(&wide, 0x123, &gpa), 0);
	assert_int_equal(gpa, 0x5123);
}

static void test_rubbish(void **state)
{
	const struct hv_sys *modes[] = {&legacy, &pae, &wide};
	struct prng rnd;
	u64 gpa;

	(void)state;
	prng_seed(&rnd, 3);
	for (u32 i = 0; i < MEMORY; i += 8)
		put8(i, (prng_next(&rnd) & (prng_below(&rnd, 2) ? 0xffffUL : ~0UL)) | P);
	for (u32 i = 0; i < 100000; i++) {
		reads = 0;
		walk(modes[i % 3], prng_next(&rnd) >> prng_below(&rnd, 40), &gpa);
		assert_in_range(reads, 0, 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_no_paging, setup), cmocka_unit_test_setup(test_legacy, setup),
	    cmocka_unit_test_setup(test_pae, setup),       cmocka_unit_test_setup(test_long_mode, setup),
	    cmocka_unit_test_setup(test_waits, setup),     cmocka_unit_test_setup(test_rubbish, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
