/*
 * GUID partition tables: finds Aerostat's own partitions. Reads only; nothing here can write.
 *
 * A table counts when a protective MBR is there and header and entry array pass their CRCs and bounds; the
 * primary first, then the backup at the last block. Everything on the disk is taken for hostile.
 */
#ifndef DRIVERS_GPT_H
#define DRIVERS_GPT_H

#include "lib/types.h"
#include "mm/blk.h"

#define GPT_PARTS_MAX       16U                               /* Aerostat partitions kept of one disk */
#define GPT_ARRAY_BYTES_MAX (128 * KIB)                       /* entry array; 16 KiB is usual */
#define GPT_WORK_BYTES      (GPT_ARRAY_BYTES_MAX + PAGE_SIZE) /* work space of gpt_parse(): array, one block */

struct gpt_reader {
	/* Reads count native blocks from lba; buf has room for them. 0 or a negative code. */
	int (*read)(void *arg, u64 lba, u32 count, void *buf);
	void *arg;
	u32 block_bytes; /* 512 or 4096 */
	u64 blocks;      /* of the device */
};

struct gpt_part {
	enum blk_part_kind kind;
	u64 first, last; /* native blocks, inclusive */
	u8 guid[16];
	char name[37];
};

struct gpt_table {
	bool backup;             /* the primary was damaged */
	u32 used;                /* partitions of any type */
	u32 count;               /* of part[] */
	u32 refused;             /* Aerostat partitions not taken */
	const char *why_refused; /* of the last of those */
	struct gpt_part part[GPT_PARTS_MAX];
};

/*
 * Pure parser. work: GPT_WORK_BYTES, 8-aligned. E_NOENT: no table; E_INVAL: damaged (both copies); E_IO and other
 * codes of read as they are. *why (never NULL on failure) says what is wrong.
 */
int gpt_parse(const struct gpt_reader *rd, void *work, struct gpt_table *out, const char **why) must_check;

/* Reads the table of one device, logs and registers its Aerostat partitions (blk_register_part). Returns how many. */
u32 gpt_scan(struct blk_dev *d);
/* All of a device that has no table, because it is Aerostat's own, becomes one partition. */
void gpt_make_whole(struct blk_dev *d, enum blk_part_kind kind, struct blk_part *to);

/* Mixed-endian bytes of a GUID in text form; E_INVAL. */
int gpt_guid_parse(const char *text, u8 guid[16]) must_check;
u32 gpt_crc32(u32 crc, const void *data, size_t len); /* crc of what came before, 0 at first */

#endif
