/*
 * ATA disks behind legacy IDE ports, by programmed I/O: what Bochs has. Asynchronous towards the block layer: requests
 * queue per channel, and each step (interrupt or poll) moves at most one 4 KiB page, so the CPU loop is never held.
 *
 *   ata.c       the channel's state machine and identification; talks through struct ata_hw_ops
 *   ata_port.c  ports, interrupts, registration: the only file that knows the machine
 *
 * One command is in flight a channel. A command that hangs leads to a soft reset of the channel and one more try; a
 * channel that stays dead is given up. Submission only queues: the hardware is touched by ata_poll() alone.
 *
 * Locking: channel->lock (LOCK_RANK_BLK) guards everything; finished requests are completed without it.
 */
#ifndef DRIVERS_ATA_H
#define DRIVERS_ATA_H

#include "lib/list.h"
#include "lib/lock.h"
#include "lib/types.h"
#include "lib/work.h"
#include "mm/blk.h"

#define ATA_DRIVES      2U
#define ATA_COMMAND_NS  (10 * NSEC_PER_SEC) /* without any progress */
#define ATA_RESET_NS    (31 * NSEC_PER_SEC) /* the standard's bound for a reset */
#define ATA_IDENTIFY_NS (5 * NSEC_PER_SEC)
#define ATA_RESETS_MAX  3U /* in a row without a command done well */

enum ata_reg {
	ATA_DATA,
	ATA_ERROR, /* read; features when written */
	ATA_COUNT,
	ATA_LBA0,
	ATA_LBA1,
	ATA_LBA2,
	ATA_DEVICE,
	ATA_STATUS, /* read: clears the interrupt; command when written */
	ATA_CONTROL /* alternate status when read */
};

#define ATA_STATUS_ERR             BIT(0)
#define ATA_STATUS_DRQ             BIT(3)
#define ATA_STATUS_DF              BIT(5)
#define ATA_STATUS_DRDY            BIT(6)
#define ATA_STATUS_BSY             BIT(7)
#define ATA_CONTROL_NIEN           BIT(1)
#define ATA_CONTROL_SRST           BIT(2)
#define ATA_DEVICE_LBA             BIT(6)
#define ATA_DEVICE_SLAVE           BIT(4)

#define ATA_CMD_READ               0x20
#define ATA_CMD_READ_EXT           0x24
#define ATA_CMD_READ_MULTIPLE_EXT  0x29
#define ATA_CMD_WRITE              0x30
#define ATA_CMD_WRITE_EXT          0x34
#define ATA_CMD_WRITE_MULTIPLE_EXT 0x39
#define ATA_CMD_READ_MULTIPLE      0xc4
#define ATA_CMD_WRITE_MULTIPLE     0xc5
#define ATA_CMD_SET_MULTIPLE       0xc6
#define ATA_CMD_FLUSH              0xe7
#define ATA_CMD_FLUSH_EXT          0xea
#define ATA_CMD_IDENTIFY           0xec

struct ata_channel;

struct ata_hw_ops {
	u8 (*in)(struct ata_channel *c, enum ata_reg reg);
	void (*out)(struct ata_channel *c, enum ata_reg reg, u8 v);
	void (*read)(struct ata_channel *c, void *to, u32 words);
	void (*write)(struct ata_channel *c, const void *from, u32 words);
};

struct ata_drive {
	struct blk_dev dev;
	struct ata_channel *channel;
	bool present, slave, lba48, flush;
	bool multiple_set; /* lost by a reset */
	u32 block;         /* sectors that one data phase moves: 1, 2, 4 or 8 */
	u32 block_wanted;  /* by IDENTIFY */
};

enum ata_state {
	ATA_IDLE,
	ATA_SELECT,   /* the drive is selected; waits until it takes a command */
	ATA_MULTIPLE, /* SET MULTIPLE MODE before the request itself */
	ATA_TRANSFER,
	ATA_RESET,
	ATA_GONE
};

struct ata_channel {
	struct lock lock;
	const struct ata_hw_ops *hw;
	u16 ports, control; /* ata_port.c's */
	enum ata_state state;
	u64 deadline_ns;
	struct blk_req *current;
	u32 moved; /* sectors of current */
	u32 resets_in_row;
	struct list pending, done;
	struct work work;
	struct ata_drive drive[ATA_DRIVES];
};

void ata_channel_init(struct ata_channel *c, const struct ata_hw_ops *hw);
/* Looks for disks; spins, bounded by ATA_IDENTIFY_NS a drive. index numbers the first drive. Returns disks found. */
u32 ata_channel_probe(struct ata_channel *c, u32 index);
void ata_poll(struct ata_channel *c);
extern const struct blk_ops ata_blk_ops;

/* ata_port.c: both legacy channels. Returns disks registered. */
u32 ata_probe_all(void);

#endif
