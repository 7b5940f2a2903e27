/* Reads the partition tables of registered devices and registers Aerostat's partitions. At boot, one CPU, no lock. */
#include "drivers/gpt.h"

#include "lib/err.h"
#include "lib/format.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define WORK_ORDER 6 /* holds GPT_WORK_BYTES and the page that the device reads into */
_Static_assert(GPT_WORK_BYTES + PAGE_SIZE <= PAGE_SIZE << WORK_ORDER, "work space");
_Static_assert(sizeof(struct blk_part) * GPT_PARTS_MAX <= PAGE_SIZE, "one page of partitions");

struct scan {
	struct blk_dev *dev;
	hfn_t bounce;
};

/* Page by page through the bounce page: devices are read in whole pages, blocks may lie anywhere. */
static int scan_read(void *arg, u64 lba, u32 count, void *buf)
{
	struct scan *s = arg;
	u64 at = lba * s->dev->sector_bytes;
	u64 end = at + (u64)count * s->dev->sector_bytes;
	u64 last_page = s->dev->sectors * BLK_SECTOR - PAGE_SIZE;
	u8 *to = buf;

	while (at < end) {
		u64 page = MIN(ALIGN_DOWN(at, PAGE_SIZE), last_page);
		u64 bytes = MIN(end, page + PAGE_SIZE) - at;
		int err = blk_read_raw(s->dev, page / BLK_SECTOR, 1, &s->bounce);

		if (err)
			return err;
		memcpy(to, (u8 *)mm_hfn_to_va(s->bounce) + (at - page), bytes);
		to += bytes;
		at += bytes;
	}
	return 0;
}

static const char *kind_name(enum blk_part_kind kind)
{
	return kind == BLK_PART_SWAP ? "swap" : "guest-data";
}

static void register_part(struct blk_dev *d, const struct gpt_part *from, struct blk_part *to)
{
	u32 sectors_per_block = d->sector_bytes / BLK_SECTOR;
	char size[FORMAT_SIZE_BYTES];

	*to = (struct blk_part){
	    .dev = d,
	    .kind = from->kind,
	    .start = from->first * sectors_per_block,
	    .pages = (from->last - from->first + 1) * d->sector_bytes / PAGE_SIZE,
	};
	memcpy(to->guid, from->guid, sizeof(to->guid));
	str_copy(to->name, from->name, sizeof(to->name));
	blk_register_part(to);
	log_info("gpt", "%s partition on %s: %s at sector %llu '%s'", kind_name(to->kind), d->name,
		 format_size(size, to->pages * PAGE_SIZE), (unsigned long long)to->start, to->name);
}

static u32 register_all(struct blk_dev *d, const struct gpt_table *t)
{
	hfn_t hfn;
	struct blk_part *parts;

	if (t->backup)
		log_warn("gpt", "%s: primary partition table damaged, using the backup", d->name);
	if (t->refused)
		log_warn("gpt", "%s: %u Aerostat partition(s) not used; the last one %s", d->name, t->refused,
			 t->why_refused);
	if (!t->count)
		return 0;
	hfn = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	if (hfn == HFN_NONE) {
		log_error("gpt", "%s: no memory for its partitions", d->name);
		return 0;
	}
	parts = mm_hfn_to_va(hfn);
	for (u32 i = 0; i < t->count; i++)
		register_part(d, &t->part[i], &parts[i]);
	return t->count;
}

static u32 scan_with(struct blk_dev *d, hfn_t work)
{
	struct scan s = {.dev = d, .bounce = work + (1U << WORK_ORDER) - 1};
	struct gpt_reader rd = {
	    .read = scan_read,
	    .arg = &s,
	    .block_bytes = d->sector_bytes,
	    .blocks = d->sectors / (d->sector_bytes / BLK_SECTOR),
	};
	struct gpt_table table;
	const char *why = "";
	int err = gpt_parse(&rd, mm_hfn_to_va(work), &table, &why);

	if (!err)
		return register_all(d, &table);
	if (err == E_NOENT)
		log_info("gpt", "%s: %s", d->name, why);
	else
		log_warn("gpt", "%s: %s (%s); the disk is not used", d->name, why, err_name(err));
	return 0;
}

u32 gpt_scan(struct blk_dev *d)
{
	hfn_t work;
	u32 found;

	if (d->sectors < 2 * PAGE_SIZE / BLK_SECTOR) {
		log_info("gpt", "%s: too small for a partition table", d->name);
		return 0;
	}
	work = frame_alloc(WORK_ORDER, FRAME_FOR_HV, FRAME_HV, false);
	if (work == HFN_NONE) {
		log_error("gpt", "%s: no memory to read its partition table", d->name);
		return 0;
	}
	found = scan_with(d, work);
	frame_free(work, WORK_ORDER);
	return found;
}

void gpt_make_whole(struct blk_dev *d, enum blk_part_kind kind, struct blk_part *to)
{
	CHECK(d->whole);
	*to = (struct blk_part){.dev = d, .kind = kind, .pages = d->sectors * BLK_SECTOR / PAGE_SIZE};
	str_copy(to->name, kind_name(kind), sizeof(to->name));
	blk_register_part(to);
}
