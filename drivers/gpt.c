/* The table parser: see gpt.h. Knows no device: blocks come through struct gpt_reader. */
#include "drivers/gpt.h"

#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"

#define GPT_SIGNATURE        0x5452415020494645UL /* "EFI PART" */
#define GPT_REVISION_MAJOR   1
#define GPT_HEADER_BYTES_MIN 92U
#define GPT_ENTRY_BYTES_MIN  128U
#define GPT_ENTRY_BYTES_MAX  4096U
#define GPT_ATTR_READ_ONLY   BIT(60)
#define MBR_TYPE_PROTECTIVE  0xee
#define MBR_SIGNATURE        0xaa55

struct packed mbr_entry {
	u8 boot, chs_first[3], type, chs_last[3];
	u32 first, count;
};

struct packed mbr {
	u8 code[446];
	struct mbr_entry entry[4];
	u16 signature;
};
static_assert_size(struct mbr, 512);

struct packed gpt_header {
	u64 signature;
	u32 revision;
	u32 header_bytes;
	u32 header_crc;
	u32 zero;
	u64 my_lba;
	u64 alternate_lba;
	u64 first_usable;
	u64 last_usable;
	u8 disk_guid[16];
	u64 entries_lba;
	u32 entry_count;
	u32 entry_bytes;
	u32 entries_crc;
};
static_assert_size(struct gpt_header, 92);

struct packed gpt_entry {
	u8 type[16];
	u8 guid[16];
	u64 first;
	u64 last;
	u64 attributes;
	u16 name[36];
};
static_assert_size(struct gpt_entry, 128);

struct parse {
	const struct gpt_reader *rd;
	u8 *array, *block;
	struct gpt_header h;
	u8 type[2][16]; /* by enum blk_part_kind */
	struct gpt_table *out;
	const char **why;
};

static const u8 guid_zero[16];

/* ---- small parts --------------------------------------------------------- */

u32 gpt_crc32(u32 crc, const void *data, size_t len)
{
	const u8 *p = data;

	crc = ~crc;
	while (len--) {
		crc ^= *p++;
		for (u32 bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (0xedb88320U & -(crc & 1));
	}
	return ~crc;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int gpt_guid_parse(const char *text, u8 guid[16])
{
	/* Where each byte of the text goes: the first three fields are little-endian. */
	static const u8 place[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

	for (u32 i = 0; i < 16; i++) {
		int hi, lo;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
			return E_INVAL;
		hi = hex_digit(text[0]);
		lo = hi < 0 ? -1 : hex_digit(text[1]);
		if (lo < 0)
			return E_INVAL;
		guid[place[i]] = (u8)(hi << 4 | lo);
		text += 2;
	}
	return *text ? E_INVAL : 0;
}

static int fail(struct parse *p, int err, const char *why)
{
	*p->why = why;
	return err;
}

/* ---- header -------------------------------------------------------------- */

static int check_mbr(struct parse *p)
{
	struct mbr mbr;
	int err = p->rd->read(p->rd->arg, 0, 1, p->block);

	if (err)
		return fail(p, err, "block 0 cannot be read");
	memcpy(&mbr, p->block, sizeof(mbr));
	if (mbr.signature != MBR_SIGNATURE)
		return fail(p, E_NOENT, "no partition table");
	for (u32 i = 0; i < 4; i++)
		if (mbr.entry[i].type == MBR_TYPE_PROTECTIVE)
			return 0;
	return fail(p, E_NOENT, "no protective MBR: not a GPT disk");
}

static u64 array_blocks(const struct parse *p)
{
	return DIV_ROUND_UP((u64)p->h.entry_count * p->h.entry_bytes, p->rd->block_bytes);
}

static int check_geometry(struct parse *p, u64 lba)
{
	const struct gpt_header *h = &p->h;
	u64 last = p->rd->blocks - 1, count;

	if (h->entry_bytes < GPT_ENTRY_BYTES_MIN || h->entry_bytes > GPT_ENTRY_BYTES_MAX ||
	    (h->entry_bytes & (h->entry_bytes - 1)))
		return fail(p, E_INVAL, "GPT entry size out of range");
	if (h->entry_count == 0 || (u64)h->entry_count * h->entry_bytes > GPT_ARRAY_BYTES_MAX)
		return fail(p, E_INVAL, "GPT entry count out of range");
	count = array_blocks(p);
	/* Room for headers and arrays at both ends. */
	if (h->first_usable < 2 + count || h->first_usable > h->last_usable || h->last_usable >= last ||
	    last - h->last_usable <= count)
		return fail(p, E_INVAL, "GPT usable area out of range");
	if (h->entries_lba < 2 || h->entries_lba >= last || count > last - h->entries_lba)
		return fail(p, E_INVAL, "GPT entry array out of range");
	if (h->entries_lba <= h->last_usable && h->entries_lba + count > h->first_usable)
		return fail(p, E_INVAL, "GPT entry array inside the usable area");
	if (lba >= h->first_usable && lba <= h->last_usable)
		return fail(p, E_INVAL, "GPT header inside the usable area");
	return 0;
}

static int read_header(struct parse *p, u64 lba)
{
	struct gpt_header *h = &p->h;
	u32 crc, zero = 0;
	int err = p->rd->read(p->rd->arg, lba, 1, p->block);

	if (err)
		return fail(p, err, "GPT header cannot be read");
	memcpy(h, p->block, sizeof(*h));
	if (h->signature != GPT_SIGNATURE)
		return fail(p, E_INVAL, "no GPT header");
	if (h->revision >> 16 != GPT_REVISION_MAJOR)
		return fail(p, E_INVAL, "GPT header of unknown revision");
	if (h->header_bytes < GPT_HEADER_BYTES_MIN || h->header_bytes > p->rd->block_bytes)
		return fail(p, E_INVAL, "GPT header size out of range");
	memcpy(p->block + offsetof(struct gpt_header, header_crc), &zero, sizeof(zero));
	crc = gpt_crc32(0, p->block, h->header_bytes);
	if (crc != h->header_crc)
		return fail(p, E_INVAL, "GPT header checksum wrong");
	if (h->my_lba != lba)
		return fail(p, E_INVAL, "GPT header names another block as its own");
	return check_geometry(p, lba);
}

static int read_array(struct parse *p)
{
	const struct gpt_header *h = &p->h;
	int err = p->rd->read(p->rd->arg, h->entries_lba, (u32)array_blocks(p), p->array);

	if (err)
		return fail(p, err, "GPT entry array cannot be read");
	if (gpt_crc32(0, p->array, (size_t)h->entry_count * h->entry_bytes) != h->entries_crc)
		return fail(p, E_INVAL, "GPT entry array checksum wrong");
	return 0;
}

/* ---- entries ------------------------------------------------------------- */

static void entry_get(const struct parse *p, u32 index, struct gpt_entry *e)
{
	memcpy(e, p->array + (size_t)index * p->h.entry_bytes, sizeof(*e));
}

static bool entry_used(const struct gpt_entry *e)
{
	return memcmp(e->type, guid_zero, sizeof(guid_zero)) != 0;
}

static bool overlaps_another(const struct parse *p, u32 index, const struct gpt_entry *e)
{
	for (u32 i = 0; i < p->h.entry_count; i++) {
		struct gpt_entry o;

		if (i == index)
			continue;
		entry_get(p, i, &o);
		if (entry_used(&o) && o.first <= e->last && e->first <= o.last)
			return true;
	}
	return false;
}

/* NULL if the entry can be used, else why not. */
static const char *entry_fault(const struct parse *p, u32 index, const struct gpt_entry *e)
{
	u32 per_page = PAGE_SIZE / p->rd->block_bytes;

	if (e->first > e->last || e->first < p->h.first_usable || e->last > p->h.last_usable)
		return "lies outside the usable area";
	if (e->first % per_page)
		return "does not start at a multiple of 4 KiB";
	if (e->last - e->first + 1 < per_page)
		return "is smaller than 4 KiB";
	if (!memcmp(e->guid, guid_zero, sizeof(guid_zero)))
		return "has no GUID of its own";
	if (e->attributes & GPT_ATTR_READ_ONLY)
		return "is marked read-only";
	if (overlaps_another(p, index, e))
		return "overlaps another partition";
	if (p->out->count == GPT_PARTS_MAX)
		return "is one too many";
	return NULL;
}

static void entry_take(struct parse *p, const struct gpt_entry *e, enum blk_part_kind kind)
{
	struct gpt_part *part = &p->out->part[p->out->count++];
	u32 i;

	part->kind = kind;
	part->first = e->first;
	part->last = e->last;
	memcpy(part->guid, e->guid, sizeof(part->guid));
	for (i = 0; i < ARRAY_SIZE(e->name) && e->name[i]; i++)
		part->name[i] = e->name[i] >= ' ' && e->name[i] < 0x7f ? (char)e->name[i] : '?';
	part->name[i] = '\0';
}

static void parse_entry(struct parse *p, u32 index)
{
	struct gpt_entry e;
	const char *fault;
	u32 kind;

	entry_get(p, index, &e);
	if (!entry_used(&e))
		return;
	p->out->used++;
	for (kind = 0; kind < ARRAY_SIZE(p->type); kind++)
		if (!memcmp(e.type, p->type[kind], sizeof(e.type)))
			break;
	if (kind == ARRAY_SIZE(p->type))
		return;
	fault = entry_fault(p, index, &e);
	if (fault) {
		p->out->refused++;
		p->out->why_refused = fault;
		return;
	}
	entry_take(p, &e, kind);
}

static int parse_copy(struct parse *p, u64 lba)
{
	int err = read_header(p, lba);

	if (!err)
		err = read_array(p);
	if (err)
		return err;
	for (u32 i = 0; i < p->h.entry_count; i++)
		parse_entry(p, i);
	return 0;
}

int gpt_parse(const struct gpt_reader *rd, void *work, struct gpt_table *out, const char **why)
{
	struct parse p = {.rd = rd, .array = work, .block = (u8 *)work + GPT_ARRAY_BYTES_MAX, .out = out, .why = why};
	const char *why_primary;
	int err;

	CHECK(rd->block_bytes == 512 || rd->block_bytes == 4096);
	CHECK(!gpt_guid_parse(GPT_TYPE_AEROSTAT_SWAP, p.type[BLK_PART_SWAP]));
	CHECK(!gpt_guid_parse(GPT_TYPE_AEROSTAT_GUEST_DATA, p.type[BLK_PART_GUEST_DATA]));
	memset(out, 0, sizeof(*out));
	if (rd->blocks < 6)
		return fail(&p, E_NOENT, "too small for a partition table");
	err = check_mbr(&p);
	if (err)
		return err;
	err = parse_copy(&p, 1);
	if (!err)
		return 0;
	why_primary = *why;
	out->backup = true;
	if (!parse_copy(&p, rd->blocks - 1))
		return 0;
	return fail(&p, err, why_primary);
}
