/* drivers/acpi.c over tables built in a buffer that stands for physical memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/acpi.h"
#include "lib/err.h"

#define MEM_BASE  0x7f000000UL
#define MEM_BYTES 0x4000
#define RSDP      (MEM_BASE + 0x10)
#define XSDT      (MEM_BASE + 0x100)
#define RSDT      (MEM_BASE + 0x200)
#define FADT      (MEM_BASE + 0x400)
#define MADT      (MEM_BASE + 0x800)
#define DSDT      (MEM_BASE + 0x1000)
#define SPCR      (MEM_BASE + 0x1800)

static u8 mem[MEM_BYTES];
static struct machine m;
static u32 bad;

static const void *view(const struct acpi_reader *r, u64 pa, size_t len)
{
	(void)r;
	if (pa < MEM_BASE || pa - MEM_BASE > MEM_BYTES || len > MEM_BYTES - (pa - MEM_BASE))
		return NULL;
	return mem + (pa - MEM_BASE);
}

static const struct acpi_reader reader = {view};

static u8 *at(u64 pa)
{
	return mem + (pa - MEM_BASE);
}
static void set32(u64 pa, u32 v)
{
	memcpy(at(pa), &v, 4);
}
static void set64(u64 pa, u64 v)
{
	memcpy(at(pa), &v, 8);
}

static void seal(u64 pa, u32 bytes, u32 where)
{
	u8 sum = 0;

	*at(pa + where) = 0;
	for (u32 i = 0; i < bytes; i++)
		sum += *at(pa + i);
	*at(pa + where) = -sum;
}

static void head(u64 pa, const char *sig, u32 bytes)
{
	memcpy(at(pa), sig, 4);
	set32(pa + 4, bytes);
}

static void seal_table(u64 pa)
{
	u32 bytes;

	memcpy(&bytes, at(pa + 4), 4);
	seal(pa, bytes, 9);
}

static void build_fadt(void)
{
	head(FADT, "FACP", 244);
	set32(FADT + 40, DSDT);
	set32(FADT + 64, 0x604);
	set32(FADT + 76, 0x608);
	set32(FADT + 112, 1 << 8 | 1 << 10);
	*at(FADT + 116) = 1; /* reset register: I/O */
	set64(FADT + 120, 0xcf9);
	*at(FADT + 128) = 0x0f;
	seal_table(FADT);
	/* Some AML, and Name (_S5_, Package (4) { 5, One, Zero, Zero }) */
	head(DSDT, "DSDT", 36 + 32);
	memcpy(at(DSDT + 36 + 3), "\x08_S5_\x12\x07\x04\x0a\x05\x01\x00\x00", 13);
	seal_table(DSDT);
}

static void build_madt(void)
{
	static const u8 entries[] = {
	    0, 8,  0,    0,  1, 0, 0,    0,                               /* CPU 0 */
	    0, 8,  1,    2,  1, 0, 0,    0,                               /* APIC id 2 */
	    0, 8,  2,    4,  0, 0, 0,    0,                               /* disabled */
	    0, 8,  3,    6,  2, 0, 0,    0,                               /* absent, could come online */
	    1, 12, 0,    0,  0, 0, 0xc0, 0xfe, 0,    0, 0, 0,             /* IOAPIC at fec00000 */
	    2, 10, 0,    0,  2, 0, 0,    0,    0,    0,                   /* line 0 -> 2 */
	    2, 10, 0,    9,  9, 0, 0,    0,    0x0f, 0,                   /* line 9: active low, level */
	    2, 10, 0,    99, 9, 0, 0,    0,    0,    0,                   /* no ISA line */
	    4, 6,  0xff, 0,  0, 1,                                        /* of no interest */
	    9, 16, 0,    0,  0, 1, 0,    0,    1,    0, 0, 0, 7, 0, 0, 0, /* x2APIC id 256 */
	    9, 16, 0,    0,  2, 0, 0,    0,    1,    0, 0, 0, 8, 0, 0, 0, /* id 2 again */
	};

	head(MADT, "APIC", 44 + sizeof(entries));
	memcpy(at(MADT + 44), entries, sizeof(entries));
	seal_table(MADT);
}

static int build(void **state)
{
	(void)state;
	memset(mem, 0, sizeof(mem));
	machine_init(&m);
	memcpy(at(RSDP), "RSD PTR ", 8);
	*at(RSDP + 15) = 2;
	set32(RSDP + 16, RSDT);
	set32(RSDP + 20, 36);
	set64(RSDP + 24, XSDT);
	seal(RSDP, 20, 8);
	seal(RSDP, 36, 32);
	head(XSDT, "XSDT", 36 + 16);
	set64(XSDT + 36, FADT);
	set64(XSDT + 44, MADT);
	seal_table(XSDT);
	head(RSDT, "RSDT", 36 + 4);
	set32(RSDT + 36, MADT);
	seal_table(RSDT);
	build_fadt();
	build_madt();
	return 0;
}

static void test_everything(void **state)
{
	(void)state;
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_int_equal(bad, 0);
	assert_true(m.acpi);
	assert_int_equal(m.cpu_count, 3);
	assert_int_equal(m.cpu_apic_id[1], 2);
	assert_int_equal(m.cpu_apic_id[2], 256);
	assert_int_equal(m.ioapic_count, 1);
	assert_int_equal(m.ioapic[0].addr, 0xfec00000);
	assert_int_equal(m.isa[0].gsi, 2);
	assert_false(m.isa[0].level);
	assert_true(m.isa[9].level && m.isa[9].active_low);
	assert_int_equal(m.isa[4].gsi, 4);
	assert_int_equal(m.pm_timer_port, 0x608);
	assert_true(m.pm_timer_32);
	assert_int_equal(m.pm1a_cnt, 0x604);
	assert_int_equal(m.pm1b_cnt, 0);
	assert_true(m.s5_valid);
	assert_int_equal(m.s5_type_a, 5);
	assert_int_equal(m.s5_type_b, 1);
	assert_int_equal(m.reset.bits, 8);
	assert_false(m.reset.memory);
	assert_int_equal(m.reset.addr, 0xcf9);
	assert_int_equal(m.reset_value, 0x0f);
}

static void test_root(void **state)
{
	assert_int_equal(acpi_parse(&reader, 0, &m, &bad), E_NOENT);
	assert_int_equal(acpi_parse(&reader, 0x1000, &m, &bad), E_NOENT);
	*at(RSDP + 9) ^= 1;
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), E_INVAL);
	build(state);
	*at(XSDT + 36) ^= 1; /* checksum: falls back to the RSDT, which has the MADT only */
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_int_equal(m.pm_timer_port, 0);
	assert_int_equal(m.cpu_count, 3);
	build(state);
	*at(RSDP + 15) = 0; /* ACPI 1: no XSDT */
	seal(RSDP, 20, 8);
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_int_equal(m.pm_timer_port, 0);
	build(state);
	*at(XSDT + 36) ^= 1;
	*at(RSDT + 36) ^= 1;
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), E_INVAL);
	assert_false(m.acpi);
}

static void test_broken_tables(void **state)
{
	(void)state;
	*at(FADT + 50) ^= 1;
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_int_equal(bad, 1);
	assert_int_equal(m.pm_timer_port, 0);
	assert_int_equal(m.cpu_count, 3);
	build(state);
	set32(MADT + 4, 0x7fffffff); /* longer than memory */
	set64(XSDT + 36, 0);
	seal_table(XSDT);
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_int_equal(bad, 2);
	assert_int_equal(m.cpu_count, 0);
}

/* A MADT cut at every length, and entries of length zero: the walk ends and stays inside. */
static void test_madt_ends(void **state)
{
	u32 whole;

	memcpy(&whole, at(MADT + 4), 4);
	for (u32 n = 36; n <= whole; n++) {
		build(state);
		set32(MADT + 4, n);
		seal_table(MADT);
		assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
		assert_int_equal(bad, 0);
	}
	build(state);
	*at(MADT + 45) = 0;
	seal_table(MADT);
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_int_equal(m.cpu_count, 0);
}

static void test_fadt_variants(void **state)
{
	set32(FADT + 76, 0); /* only the 64-bit forms are there */
	*at(FADT + 208) = 1;
	set64(FADT + 212, 0x1008);
	set32(FADT + 40, 0);
	set64(FADT + 140, DSDT);
	seal_table(FADT);
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_int_equal(m.pm_timer_port, 0x1008);
	assert_true(m.s5_valid);
	build(state);
	set64(FADT + 120, 0x10000); /* no such port */
	set32(FADT + 76, 0x123456);
	seal_table(FADT);
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_int_equal(m.reset.bits, 0);
	assert_int_equal(m.pm_timer_port, 0);
	build(state);
	set32(FADT + 4, 116); /* ACPI 1 size: no reset register */
	seal_table(FADT);
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_int_equal(m.reset.bits, 0);
	assert_int_equal(m.pm_timer_port, 0x608);
}

/* \_S5 at the very end of the table, cut at every length. */
static void test_s5_ends(void **state)
{
	for (u32 n = 36; n < 36 + 3 + 10; n++) {
		build(state);
		set32(DSDT + 4, n);
		seal_table(DSDT);
		assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
		assert_false(m.s5_valid);
	}
	build(state);
	memcpy(at(DSDT + 39), "\x08_S5_\x12\x07\x04\x0a\x09\x01", 11); /* type 9 does not fit the register */
	seal_table(DSDT);
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_false(m.s5_valid);
}

/* In the place of the FADT. */
static void build_spcr(u32 bytes, u8 kind, u8 space, u64 addr)
{
	head(SPCR, "SPCR", bytes);
	*at(SPCR + 36) = kind;
	*at(SPCR + 40) = space;
	*at(SPCR + 41) = 8;
	set64(SPCR + 44, addr);
	*at(SPCR + 52) = 3; /* 8259 and IOAPIC */
	*at(SPCR + 53) = 3;
	set32(SPCR + 54, 19);
	*at(SPCR + 58) = 7;
	seal_table(SPCR);
	set64(XSDT + 36, SPCR);
	seal_table(XSDT);
}

static void test_serial(void **state)
{
	build_spcr(80, 0, 1, 0x2f8);
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_true(m.serial.addr == 0x2f8 && !m.serial.memory);
	assert_int_equal(m.serial.line, 3);
	assert_int_equal(m.serial.baud, 115200);
	build(state);
	build_spcr(59, 0x12, 0, 0xfe030000); /* the shortest, in memory, 32-bit registers, IOAPIC line beyond ISA */
	*at(SPCR + 43) = 3;
	*at(SPCR + 52) = 2;
	*at(SPCR + 58) = 99;
	seal_table(SPCR);
	assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
	assert_true(m.serial.addr == 0xfe030000 && m.serial.memory);
	assert_int_equal(m.serial.stride, 4);
	assert_int_equal(m.serial.line, MACHINE_LINE_NONE);
	assert_int_equal(m.serial.baud, 0);
}

static void test_serial_refused(void **state)
{
	static const struct {
		u32 bytes;
		u8 kind, space;
		u64 addr;
	} none[] = {
	    {58, 0, 1, 0x3f8},  {80, 3, 1, 0x3f8}, {80, 0, 2, 0x3f8},
	    {80, 0, 1, 0xfff9}, {80, 0, 0, ~0UL},  {80, 0, 1, 0},
	};

	for (u32 i = 0; i < ARRAY_SIZE(none); i++) {
		build(state);
		build_spcr(none[i].bytes, none[i].kind, none[i].space, none[i].addr);
		assert_int_equal(acpi_parse(&reader, RSDP, &m, &bad), 0);
		assert_int_equal(bad, 0);
		assert_true(m.serial.addr == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_everything, build),    cmocka_unit_test_setup(test_root, build),
	    cmocka_unit_test_setup(test_broken_tables, build), cmocka_unit_test_setup(test_madt_ends, build),
	    cmocka_unit_test_setup(test_fadt_variants, build), cmocka_unit_test_setup(test_s5_ends, build),
	    cmocka_unit_test_setup(test_serial, build),        cmocka_unit_test(test_serial_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
