/* drivers/gpt.c on tables made here, good and bad, and gpt_scan.c on a device in memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/gpt.h"
#include "lib/err.h"
#include "mm/platform.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"

#define DISK_BYTES  (4 * MIB)
#define ENTRIES     128U
#define H_CRC       16
#define H_MY        24
#define H_FIRST     40
#define H_LAST      48
#define H_ARRAY     72
#define H_COUNT     80
#define H_SIZE      84
#define H_ARRAY_CRC 88
#define E_GUID      16
#define E_FIRST     32
#define E_LAST      40
#define E_ATTR      48
#define E_NAME      56

static u8 *disk;
static u32 block;
static u64 blocks;
static u64 fail_from, fail_to; /* blocks that cannot be read */
static u64 work[GPT_WORK_BYTES / 8];
static struct gpt_table table;
static const char *why;

static u64 get(const u8 *p, u32 bytes)
{
	u64 v = 0;

	memcpy(&v, p, bytes);
	return v;
}

static void put(u8 *p, u64 v, u32 bytes)
{
	memcpy(p, &v, bytes);
}

static u8 *at(u64 lba)
{
	return disk + lba * block;
}

static u64 array_blocks(void)
{
	return ENTRIES * 128 / block;
}

static u8 *header(bool backup)
{
	return at(backup ? blocks - 1 : 1);
}

static u8 *entry(bool backup, u32 i)
{
	return at(backup ? blocks - 1 - array_blocks() : 2) + 128 * i;
}

/* Both checksums of a copy, after whatever a test changed in it. */
static void seal(bool backup)
{
	u8 *h = header(backup);

	put(h + H_ARRAY_CRC, gpt_crc32(0, entry(backup, 0), ENTRIES * 128), 4);
	put(h + H_CRC, 0, 4);
	put(h + H_CRC, gpt_crc32(0, h, 92), 4);
}

static void seal_both(void)
{
	seal(false);
	seal(true);
}

static void make_header(bool backup)
{
	u8 *h = header(backup);

	memcpy(h, "EFI PART", 8);
	put(h + 8, 0x10000, 4);
	put(h + 12, 92, 4);
	put(h + H_MY, backup ? blocks - 1 : 1, 8);
	put(h + 32, backup ? 1 : blocks - 1, 8);
	put(h + H_FIRST, 2 + array_blocks(), 8);
	put(h + H_LAST, blocks - 2 - array_blocks(), 8);
	put(h + H_ARRAY, backup ? blocks - 1 - array_blocks() : 2, 8);
	put(h + H_COUNT, ENTRIES, 4);
	put(h + H_SIZE, 128, 4);
}

static void make_entry(u32 i, const char *type, u64 first, u64 last, const char *name)
{
	for (u32 copy = 0; copy < 2; copy++) {
		u8 *e = entry(copy, i);

		assert_int_equal(gpt_guid_parse(type, e), 0);
		memset(e + E_GUID, 0x10 + (int)i, 16);
		put(e + E_FIRST, first, 8);
		put(e + E_LAST, last, 8);
		for (u32 c = 0; name[c]; c++)
			e[E_NAME + 2 * c] = (u8)name[c];
	}
}

static void make_disk(u32 block_bytes)
{
	u64 page = PAGE_SIZE / block_bytes;

	block = block_bytes;
	blocks = DISK_BYTES / block;
	memset(disk, 0, DISK_BYTES);
	disk[446 + 4] = 0xee;
	disk[510] = 0x55;
	disk[511] = 0xaa;
	make_header(false);
	make_header(true);
	make_entry(0, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", 16 * page, 31 * page, "EFI system");
	make_entry(3, GPT_TYPE_AEROSTAT_SWAP, 64 * page, 128 * page - 1, "swap");
	make_entry(7, GPT_TYPE_AEROSTAT_GUEST_DATA, 200 * page, 300 * page, "data \xe9");
	seal_both();
	fail_from = fail_to = 0;
}

static int disk_read(void *arg, u64 lba, u32 count, void *buf)
{
	(void)arg;
	assert_true(lba < blocks && count <= blocks - lba);
	if (lba < fail_to && lba + count > fail_from)
		return E_IO;
	memcpy(buf, at(lba), (size_t)count * block);
	return 0;
}

static int parse(void)
{
	struct gpt_reader rd = {.read = disk_read, .block_bytes = block, .blocks = blocks};

	why = NULL;
	return gpt_parse(&rd, work, &table, &why);
}

static int setup(void **state)
{
	(void)state;
	fake_platform_reset();
	disk = malloc(DISK_BYTES);
	make_disk(512);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(disk);
	return 0;
}

static void test_crc(void **state)
{
	(void)state;
	assert_int_equal(gpt_crc32(0, "123456789", 9), 0xcbf43926);
	assert_int_equal(gpt_crc32(gpt_crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
}

static void test_guid(void **state)
{
	static const u8 swap[16] = {0x47, 0x57, 0xe0, 0xa3, 0x9f, 0x5a, 0x17, 0x4a,
				    0x9b, 0x1f, 0x53, 0x77, 0x61, 0x70, 0xa3, 0xe0};
	u8 guid[16];

	(void)state;
	assert_int_equal(gpt_guid_parse(GPT_TYPE_AEROSTAT_SWAP, guid), 0);
	assert_memory_equal(guid, swap, 16);
	assert_int_equal(gpt_guid_parse("A3E05747-5A9F-4A17-9B1F-53776170A3E0", guid), 0);
	assert_memory_equal(guid, swap, 16);
	assert_int_equal(gpt_guid_parse("a3e05747-5a9f-4a17-9b1f-53776170a3e", guid), E_INVAL);
	assert_int_equal(gpt_guid_parse("a3e05747-5a9f-4a17-9b1f-53776170a3e00", guid), E_INVAL);
	assert_int_equal(gpt_guid_parse("a3e057475a9f-4a17-9b1f-53776170a3e0-", guid), E_INVAL);
	assert_int_equal(gpt_guid_parse("a3e0574g-5a9f-4a17-9b1f-53776170a3e0", guid), E_INVAL);
	assert_int_equal(gpt_guid_parse("", guid), E_INVAL);
}

static void test_good(void **state)
{
	(void)state;
	for (u32 bytes = 512; bytes <= 4096; bytes *= 8) {
		u64 page = PAGE_SIZE / bytes;

		make_disk(bytes);
		assert_int_equal(parse(), 0);
		assert_false(table.backup);
		assert_int_equal(table.used, 3);
		assert_int_equal(table.count, 2);
		assert_int_equal(table.refused, 0);
		assert_int_equal(table.part[0].kind, BLK_PART_SWAP);
		assert_int_equal(table.part[0].first, 64 * page);
		assert_int_equal(table.part[0].last, 128 * page - 1);
		assert_string_equal(table.part[0].name, "swap");
		assert_int_equal(table.part[0].guid[0], 0x13);
		assert_int_equal(table.part[1].kind, BLK_PART_GUEST_DATA);
		assert_string_equal(table.part[1].name, "data ?");
	}
}

static void test_backup(void **state)
{
	(void)state;
	header(false)[H_MY] ^= 1;
	assert_int_equal(parse(), 0);
	assert_true(table.backup);
	assert_int_equal(table.count, 2);
	make_disk(4096);
	entry(false, 3)[E_FIRST]++;
	assert_int_equal(parse(), 0);
	assert_true(table.backup);
	assert_int_equal(table.part[0].first, 64);
	make_disk(512);
	fail_from = 1;
	fail_to = 2;
	assert_int_equal(parse(), 0);
	assert_true(table.backup);
}

static void test_both_bad(void **state)
{
	(void)state;
	entry(false, 3)[0] ^= 1;
	entry(true, 3)[0] ^= 1;
	assert_int_equal(parse(), E_INVAL);
	assert_string_equal(why, "GPT entry array checksum wrong");
	make_disk(512);
	memset(header(false), 0, 92);
	memset(header(true), 0, 92);
	assert_int_equal(parse(), E_INVAL);
	assert_string_equal(why, "no GPT header");
	fail_to = blocks;
	assert_int_equal(parse(), E_IO);
}

static void test_not_gpt(void **state)
{
	(void)state;
	disk[446 + 4] = 0x83;
	assert_int_equal(parse(), E_NOENT);
	disk[446 + 16 + 4] = 0xee; /* hybrid */
	assert_int_equal(parse(), 0);
	disk[511] = 0;
	assert_int_equal(parse(), E_NOENT);
	blocks = 5;
	assert_int_equal(parse(), E_NOENT);
}

/* Changes a field of both headers, checksums made good again: must be refused. */
static void refuse_header(u32 offset, u64 v, u32 bytes)
{
	make_disk(512);
	for (u32 copy = 0; copy < 2; copy++) {
		u8 *h = header(copy);

		put(h + offset, v, bytes);
		put(h + H_CRC, 0, 4);
		put(h + H_CRC, gpt_crc32(0, h, MIN((u32)get(h + 12, 4), 512U)), 4);
	}
	assert_int_equal(parse(), E_INVAL);
	assert_int_equal(table.count, 0);
}

static void test_hostile_headers(void **state)
{
	(void)state;
	refuse_header(8, 0x20000, 4);
	refuse_header(12, 91, 4);
	refuse_header(12, 513, 4);
	refuse_header(12, ~0U, 4);
	refuse_header(H_MY, 2, 8);
	refuse_header(H_FIRST, 0, 8);
	refuse_header(H_FIRST, ~0UL, 8);
	refuse_header(H_FIRST, 2, 8); /* array inside the usable area */
	refuse_header(H_LAST, DISK_BYTES / 512 - 1, 8);
	refuse_header(H_LAST, ~0UL, 8);
	refuse_header(H_LAST, 3, 8);
	refuse_header(H_ARRAY, 0, 8);
	refuse_header(H_ARRAY, 1, 8);
	refuse_header(H_ARRAY, ~0UL, 8);
	refuse_header(H_ARRAY, DISK_BYTES / 512 - 2, 8);
	refuse_header(H_ARRAY, 1000, 8);
	refuse_header(H_COUNT, 0, 4);
	refuse_header(H_COUNT, ~0U, 4);
	refuse_header(H_COUNT, 1025, 4);
	refuse_header(H_SIZE, 0, 4);
	refuse_header(H_SIZE, 64, 4);
	refuse_header(H_SIZE, 192, 4);
	refuse_header(H_SIZE, 1U << 31, 4);
}

/* Changes a field of the swap entry: that one must be refused, the other kept. */
static void refuse_entry(u32 offset, u64 v, const char *reason)
{
	make_disk(512);
	put(entry(false, 3) + offset, v, 8);
	seal(false);
	assert_int_equal(parse(), 0);
	assert_int_equal(table.count, 1);
	assert_int_equal(table.part[0].kind, BLK_PART_GUEST_DATA);
	assert_int_equal(table.refused, 1);
	assert_string_equal(table.why_refused, reason);
}

/* Swap reaches into guest data: neither can be trusted. */
static void refuse_both(u64 last)
{
	make_disk(512);
	put(entry(false, 3) + E_LAST, last, 8);
	seal(false);
	assert_int_equal(parse(), 0);
	assert_int_equal(table.count, 0);
	assert_int_equal(table.refused, 2);
}

static void test_hostile_entries(void **state)
{
	(void)state;
	refuse_entry(E_FIRST, 0, "lies outside the usable area");
	refuse_entry(E_FIRST, 33, "lies outside the usable area");
	refuse_entry(E_FIRST, ~0UL, "lies outside the usable area");
	refuse_entry(E_LAST, 511, "lies outside the usable area");
	refuse_entry(E_FIRST, 513, "does not start at a multiple of 4 KiB");
	refuse_entry(E_LAST, 514, "is smaller than 4 KiB");
	refuse_entry(E_FIRST, 248, "overlaps another partition");
	refuse_entry(E_ATTR, BIT(60), "is marked read-only");
	refuse_both(1600);
	refuse_both(DISK_BYTES / 512 - 1);
	refuse_both(~0UL);
	make_disk(512);
	memset(entry(false, 3) + E_GUID, 0, 16);
	seal(false);
	assert_int_equal(parse(), 0);
	assert_int_equal(table.count, 1);
}

static void test_long_name_and_many(void **state)
{
	(void)state;
	for (u32 i = 0; i < ENTRIES; i++)
		make_entry(i, GPT_TYPE_AEROSTAT_SWAP, 64 + 8 * i, 64 + 8 * i + 7,
			   "123456789012345678901234567890123456");
	seal_both();
	assert_int_equal(parse(), 0);
	assert_int_equal(table.count, GPT_PARTS_MAX);
	assert_int_equal(table.refused, ENTRIES - GPT_PARTS_MAX);
	assert_int_equal(strlen(table.part[0].name), 36);
}

/* ---- gpt_scan on a device ------------------------------------------------ */

static struct list submitted = LIST_INIT(submitted);

static void mem_submit(struct blk_dev *d, struct blk_req *r)
{
	(void)d;
	assert_int_equal(r->op, BLK_READ);
	list_add_tail(&submitted, &r->link);
}

static void mem_poll(struct blk_dev *d)
{
	struct list *link = list_pop(&submitted);
	struct blk_req *r;

	(void)d;
	if (!link)
		return;
	r = list_entry(link, struct blk_req, link);
	for (u32 i = 0; i < r->pages; i++)
		memcpy(mm_hfn_to_va(r->frame[i]), disk + r->sector * 512 + i * PAGE_SIZE, PAGE_SIZE);
	blk_complete(r, 0);
}

static const struct blk_ops mem_ops = {.submit = mem_submit, .poll = mem_poll};

static void scan_disk(struct blk_dev *d, u32 block_bytes, u32 expect)
{
	struct blk_part *p = NULL;

	*d = (struct blk_dev){.name = "mem", .sectors = DISK_BYTES / 512, .sector_bytes = block_bytes, .ops = &mem_ops};
	blk_register(d);
	assert_int_equal(gpt_scan(d), expect);
	if (!expect)
		return;
	while ((p = blk_part_next(p, BLK_PART_SWAP)))
		if (p->dev == d)
			break;
	assert_non_null(p);
	assert_int_equal(p->start, 64 * 8);
	assert_int_equal(p->pages, 64);
	assert_string_equal(p->name, "swap");
}

static void test_scan(void **state)
{
	static struct blk_dev dev[4];

	(void)state;
	fake_mm_start(1024);
	scan_disk(&dev[0], 512, 2);
	assert_true(fake_log_has("swap partition on mem: 256K at sector 512 'swap'"));
	make_disk(4096);
	header(false)[0] = 0;
	scan_disk(&dev[1], 4096, 2);
	assert_true(fake_log_has("using the backup"));
	make_disk(512);
	put(entry(false, 3) + E_FIRST, 513, 8);
	put(entry(false, 7) + E_FIRST, 5, 8);
	seal(false);
	scan_disk(&dev[2], 512, 0);
	assert_true(fake_log_has("2 Aerostat partition(s) not used; the last one lies outside the usable area"));
	memset(disk, 0, DISK_BYTES);
	scan_disk(&dev[3], 512, 0);
	assert_true(fake_log_has("mem: no partition table"));
	fake_mm_stop();
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_crc),
	    T(test_guid),
	    T(test_good),
	    T(test_backup),
	    T(test_both_bad),
	    T(test_not_gpt),
	    T(test_hostile_headers),
	    T(test_hostile_entries),
	    T(test_long_name_and_many),
	    T(test_scan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
