/*
 * Any bytes as firmware tables. Checksums are made good wherever the input asks for it, or the
 * parser would never be seen behind them. Every view is a fresh allocation of exactly its length.
 */
#include <stdlib.h>
#include <string.h>

#include "drivers/acpi.h"
#include "lib/panic.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define BASE      0x1000UL
#define VIEWS_MAX 1024

static u8 mem[0x10000];
static size_t mem_bytes;
static void *views[VIEWS_MAX];
static u32 view_count;

static const void *view(const struct acpi_reader *r, u64 pa, size_t len)
{
	(void)r;
	if (pa < BASE || pa - BASE > mem_bytes || len > mem_bytes - (pa - BASE) || view_count == VIEWS_MAX)
		return NULL;
	views[view_count] = malloc(len + !len);
	memcpy(views[view_count], mem + (pa - BASE), len);
	return views[view_count++];
}

static void seal(size_t at, size_t bytes, size_t where)
{
	u8 sum = 0;

	if (at > mem_bytes || bytes > mem_bytes - at || where >= bytes)
		return;
	mem[at + where] = 0;
	for (size_t i = 0; i < bytes; i++)
		sum += mem[at + i];
	mem[at + where] = -sum;
}

/* A table every 256 bytes: sums are made good for the lengths that stand there. */
static void seal_all(void)
{
	for (size_t at = 256; at + 36 <= mem_bytes; at += 256) {
		u32 bytes;

		memcpy(&bytes, mem + at + 4, 4);
		seal(at, bytes, 9);
	}
	seal(0, 20, 8);
	seal(0, 36, 32);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const struct acpi_reader reader = {view};
	struct machine m;
	u32 bad;

	if (size < 40 || size > sizeof(mem))
		return 0;
	mem_bytes = size;
	memcpy(mem, data, size);
	memcpy(mem, "RSD PTR ", 8);
	seal_all();
	machine_init(&m);
	if (acpi_parse(&reader, BASE, &m, &bad) == 0) {
		CHECK(m.acpi && m.cpu_count <= MACHINE_CPUS_MAX && m.ioapic_count <= MACHINE_IOAPICS_MAX);
		CHECK(!m.s5_valid || (m.s5_type_a <= 7 && m.s5_type_b <= 7));
		CHECK(m.serial.memory || m.serial.addr <= 0xfff8);
		CHECK(m.serial.addr == 0 || m.serial.line < ISA_LINES || m.serial.line == MACHINE_LINE_NONE);
		CHECK(m.serial.addr == 0 || m.serial.stride == 1 || (m.serial.memory && m.serial.stride == 4));
		CHECK(m.reset.bits == 0 || m.reset.memory || m.reset.addr <= 0xffff);
	}
	while (view_count)
		free(views[--view_count]);
	return 0;
}
