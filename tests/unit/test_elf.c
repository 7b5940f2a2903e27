/* lib/elf.c: a good file, and every way a file can be broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/elf.h"
#include "lib/err.h"

#define PHOFF      64
#define FILE_BYTES 0x3000

/* Offsets of fields in the header and in a program header. */
enum {
	H_CLASS = 4,
	H_DATA = 5,
	H_TYPE = 16,
	H_MACHINE = 18,
	H_VERSION = 20,
	H_ENTRY = 24,
	H_PHOFF = 32,
	H_PHENTSIZE = 54,
	H_PHNUM = 56
};
enum { P_TYPE = 0, P_FLAGS = 4, P_OFFSET = 8, P_VADDR = 16, P_PADDR = 24, P_FILESZ = 32, P_MEMSZ = 40, P_BYTES = 56 };

static u8 file[FILE_BYTES];

static void set16(size_t at, u16 v)
{
	memcpy(file + at, &v, 2);
}
static void set32(size_t at, u32 v)
{
	memcpy(file + at, &v, 4);
}
static void set64(size_t at, u64 v)
{
	memcpy(file + at, &v, 8);
}

static size_t phdr(u32 i, u32 field)
{
	return PHOFF + i * P_BYTES + field;
}

static void set_segment(u32 i, u32 flags, u64 offset, u64 vaddr, u64 filesz, u64 memsz)
{
	set32(phdr(i, P_TYPE), 1);
	set32(phdr(i, P_FLAGS), flags);
	set64(phdr(i, P_OFFSET), offset);
	set64(phdr(i, P_VADDR), vaddr);
	set64(phdr(i, P_PADDR), vaddr - 0x100000);
	set64(phdr(i, P_FILESZ), filesz);
	set64(phdr(i, P_MEMSZ), memsz);
}

/* Text at 2 MiB, data behind it with memory that the file does not have; a note that is not loaded. */
static int build(void **state)
{
	(void)state;
	memset(file, 0, sizeof(file));
	memcpy(file, "\177ELF\2\1\1", 7);
	set16(H_TYPE, 2);
	set16(H_MACHINE, 62);
	set32(H_VERSION, 1);
	set64(H_ENTRY, 0x200010);
	set64(H_PHOFF, PHOFF);
	set16(H_PHENTSIZE, P_BYTES);
	set16(H_PHNUM, 3);
	set_segment(0, ELF_R | ELF_X, 0x1000, 0x200000, 0x1000, 0x1000);
	set32(phdr(1, P_TYPE), 4);
	set64(phdr(1, P_OFFSET), ~0UL);
	set_segment(2, ELF_R | ELF_W, 0x2000, 0x201000, 0x800, 0x5000);
	return 0;
}

static void expect_bad(const char *part)
{
	struct elf_image img;
	const char *why = NULL;

	assert_int_equal(elf_parse(file, sizeof(file), &img, &why), E_INVAL);
	assert_non_null(why);
	if (!strstr(why, part))
		fail_msg("expected '%s' in '%s'", part, why);
}

static void test_good(void **state)
{
	struct elf_image img;
	const char *why;

	(void)state;
	assert_int_equal(elf_parse(file, sizeof(file), &img, &why), 0);
	assert_int_equal(img.count, 2);
	assert_int_equal(img.entry, 0x200010);
	assert_int_equal(img.vaddr_low, 0x200000);
	assert_int_equal(img.vaddr_high, 0x206000);
	assert_int_equal(img.paddr_low, 0x100000);
	assert_int_equal(img.paddr_high, 0x106000);
	assert_int_equal(img.seg[0].flags, ELF_R | ELF_X);
	assert_int_equal(img.seg[1].file_offset, 0x2000);
	assert_int_equal(img.seg[1].file_bytes, 0x800);
	assert_int_equal(img.seg[1].mem_bytes, 0x5000);
}

static void test_top_of_space(void **state)
{
	struct elf_image img;
	const char *why;

	(void)state;
	set_segment(2, ELF_R | ELF_W, 0x2000, 0xffffffff80001000, 0x800, 0x5000);
	assert_int_equal(elf_parse(file, sizeof(file), &img, &why), 0);
	assert_true(img.vaddr_high == 0xffffffff80006000);
}

/* Cut at every length: never accepted until the last byte of the last segment is there. */
static void test_truncated(void **state)
{
	struct elf_image img;
	const char *why;

	(void)state;
	for (u64 n = 0; n < 0x2800; n++)
		assert_int_equal(elf_parse(file, n, &img, &why), E_INVAL);
	assert_int_equal(elf_parse(file, 0x2800, &img, &why), 0);
	assert_int_equal(elf_parse(file, 0, &img, &why), E_INVAL);
	assert_string_equal(why, "empty file");
	assert_int_equal(elf_parse(file, 63, &img, &why), E_INVAL);
	assert_non_null(strstr(why, "truncated"));
}

static void test_unaligned(void **state)
{
	static u8 shifted[FILE_BYTES + 3];
	struct elf_image img;
	const char *why;

	(void)state;
	memcpy(shifted + 3, file, sizeof(file));
	assert_int_equal(elf_parse(shifted + 3, sizeof(file), &img, &why), 0);
}

static void test_header(void **state)
{
	static const struct {
		u32 at, bytes;
		u64 value;
		const char *why;
	} cases[] = {
	    {0, 1, 'M', "not an ELF file"},
	    {H_CLASS, 1, 1, "ELF64"},
	    {H_DATA, 1, 2, "ELF64"},
	    {H_MACHINE, 2, 183, "x86-64"},
	    {H_TYPE, 2, 3, "not an executable"},
	    {H_VERSION, 4, 2, "not an executable"},
	    {H_PHENTSIZE, 2, 32, "program header"},
	    {H_PHNUM, 2, 0, "program header"},
	    {H_PHNUM, 2, 65535, "program header"},
	    {H_PHOFF, 8, FILE_BYTES - 8, "truncated"},
	    {H_PHOFF, 8, ~0UL, "truncated"},
	    {H_ENTRY, 8, 0x1fffff, "entry"},
	    {H_ENTRY, 8, 0x201000, "entry"}, /* data is not executable */
	    {H_ENTRY, 8, ~0UL, "entry"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		build(state);
		memcpy(file + cases[i].at, &cases[i].value, cases[i].bytes);
		expect_bad(cases[i].why);
	}
}

static void test_segments(void **state)
{
	(void)state;
	set64(phdr(2, P_OFFSET), ~0UL - 0x100);
	expect_bad("truncated");
	build(state);
	set64(phdr(2, P_FILESZ), ~0UL);
	expect_bad("truncated");
	build(state);
	set64(phdr(2, P_MEMSZ), 0x7ff);
	expect_bad("larger in the file");
	build(state);
	set64(phdr(2, P_MEMSZ), ~0UL);
	expect_bad("wraps");
	build(state);
	set64(phdr(2, P_PADDR), ~0UL - 0x100);
	expect_bad("wraps");
	build(state);
	set64(phdr(2, P_VADDR), 0x200fff);
	expect_bad("overlap");
	build(state);
	set64(phdr(2, P_PADDR), 0x100fff);
	expect_bad("overlap");
	build(state);
	set32(phdr(0, P_TYPE), 6);
	set32(phdr(2, P_TYPE), 6);
	expect_bad("no load segment");
}

static void test_too_many(void **state)
{
	(void)state;
	set16(H_PHNUM, ELF_SEGMENTS_MAX + 1);
	for (u32 i = 0; i <= ELF_SEGMENTS_MAX; i++)
		set_segment(i, ELF_R | ELF_X, 0x2000, 0x200000 + i * 0x1000, 0x10, 0x1000);
	expect_bad("too many");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_good, build),      cmocka_unit_test_setup(test_top_of_space, build),
	    cmocka_unit_test_setup(test_truncated, build), cmocka_unit_test_setup(test_unaligned, build),
	    cmocka_unit_test_setup(test_header, build),    cmocka_unit_test_setup(test_segments, build),
	    cmocka_unit_test_setup(test_too_many, build),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
