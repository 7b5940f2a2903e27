/*
 * gpt_parse() on a disk made of the input. The first byte chooses the sector size, blocks that cannot be read, and what
 * is made good, as hardly any input would come past it otherwise: MBR, header, checksums, type GUIDs, places.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/gpt.h"
#include "lib/err.h"
#include "lib/panic.h"

#define DISK_BYTES (64 * KIB)
#define ENTRIES    16U

enum flag {
	SECTOR_4K = 1,
	BROKEN_HEADER = 2,
	GOOD_MBR = 4,
	GOOD_SUMS = 8,
	GOOD_HEADER = 16,
	GOOD_TYPES = 32,
	GOOD_PLACES = 64
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static u8 disk[DISK_BYTES];
static u64 work[GPT_WORK_BYTES / 8];

struct source {
	u32 block;
	bool broken_first;
};

static int read_disk(void *arg, u64 lba, u32 count, void *buf)
{
	const struct source *s = arg;
	u64 blocks = DISK_BYTES / s->block;

	CHECK(lba < blocks && count && count <= blocks - lba);
	if (s->broken_first && lba == 1)
		return E_IO;
	memcpy(buf, disk + lba * s->block, (size_t)count * s->block);
	return 0;
}

static u32 get32(const u8 *p)
{
	u32 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void put32(u8 *p, u32 v)
{
	memcpy(p, &v, sizeof(v));
}

static void put64(u8 *p, u64 v)
{
	memcpy(p, &v, sizeof(v));
}

/* Array at block 2, and room for one like it at the end. */
static void make_header(const struct source *s)
{
	u8 *h = disk + s->block;
	u64 blocks = DISK_BYTES / s->block, array = DIV_ROUND_UP(ENTRIES * 128, s->block);

	put32(h + 8, 0x10000);
	put32(h + 12, 92);
	put64(h + 24, 1);
	put64(h + 40, 2 + array);
	put64(h + 48, blocks - 2 - array);
	put64(h + 72, 2);
	put32(h + 80, ENTRIES);
	put32(h + 84, 128);
}

/* Places of the size of the disk: one byte of each field counts. */
static void make_places(const struct source *s)
{
	for (u32 i = 0; i < ENTRIES; i++) {
		u8 *e = disk + 2 * s->block + 128 * i;
		u64 page = PAGE_SIZE / s->block;

		put64(e + 32, e[32] % (DISK_BYTES / PAGE_SIZE) * page);
		put64(e + 40, e[40] % (DISK_BYTES / PAGE_SIZE) * page + page - 1);
	}
}

static void make_types(const struct source *s)
{
	for (u32 i = 0; i < ENTRIES; i++) {
		u8 *e = disk + 2 * s->block + 128 * i;
		bool swap = e[0] & 1;

		if (e[0])
			CHECK(!gpt_guid_parse(swap ? GPT_TYPE_AEROSTAT_SWAP : GPT_TYPE_AEROSTAT_GUEST_DATA, e));
	}
}

static void make_sums(const struct source *s, u64 lba)
{
	u8 *h = disk + lba * s->block;
	u64 array = get32(h + 72), bytes = (u64)get32(h + 80) * get32(h + 84);
	u32 header_bytes = get32(h + 12);

	memcpy(h, "EFI PART", 8);
	if (array * s->block < DISK_BYTES && bytes <= DISK_BYTES - array * s->block)
		put32(h + 88, gpt_crc32(0, disk + array * s->block, bytes));
	put32(h + 16, 0);
	put32(h + 16, gpt_crc32(0, h, MIN(header_bytes, s->block)));
}

static void check(const struct gpt_table *t, u64 blocks, u32 block)
{
	CHECK(t->count <= GPT_PARTS_MAX && t->count + t->refused <= t->used);
	for (u32 i = 0; i < t->count; i++) {
		const struct gpt_part *p = &t->part[i];

		CHECK(p->first >= 2 && p->first <= p->last && p->last < blocks - 1);
		CHECK(p->first * block % PAGE_SIZE == 0 && strnlen(p->name, sizeof(p->name)) < sizeof(p->name));
		for (u32 j = 0; j < i; j++)
			CHECK(t->part[j].last < p->first || t->part[j].first > p->last);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct source s;
	struct gpt_reader rd = {.read = read_disk, .arg = &s};
	struct gpt_table table;
	const char *why = NULL;
	u32 from;

	if (size < 1)
		return 0;
	s = (struct source){.block = data[0] & SECTOR_4K ? 4096 : 512, .broken_first = data[0] & BROKEN_HEADER};
	rd.block_bytes = s.block;
	rd.blocks = DISK_BYTES / s.block;
	from = data[0] & GOOD_HEADER ? 2 * s.block : data[0] & GOOD_MBR ? s.block : 0;
	memset(disk, 0, sizeof(disk));
	memcpy(disk + from, data + 1, MIN(size - 1, sizeof(disk) - from));
	if (data[0] & GOOD_MBR) {
		disk[446 + 4] = 0xee;
		disk[510] = 0x55;
		disk[511] = 0xaa;
	}
	if (data[0] & GOOD_HEADER)
		make_header(&s);
	if (data[0] & GOOD_TYPES)
		make_types(&s);
	if (data[0] & GOOD_PLACES)
		make_places(&s);
	if (data[0] & GOOD_SUMS) {
		make_sums(&s, 1);
		make_sums(&s, rd.blocks - 1);
	}
	if (gpt_parse(&rd, work, &table, &why))
		CHECK(why);
	else
		check(&table, rd.blocks, s.block);
	return 0;
}
