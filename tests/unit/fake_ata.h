/* Two ATA disks on one channel, in memory, with switches for what can go wrong. Runs one phase per fake_ata_run(). */
#ifndef TESTS_FAKE_ATA_H
#define TESTS_FAKE_ATA_H

#include "drivers/ata.h"
#include "lib/types.h"

#define FAKE_ATA_SECTORS 4096U

struct fake_ata {
	struct ata_channel channel; /* first: how the callbacks find us */
	u8 *data[ATA_DRIVES];
	bool present[ATA_DRIVES], packet[ATA_DRIVES];
	u8 float_status; /* non-zero: no drive at all, the bus reads as this */
	u32 multiple_max;
	bool no_lba48;
	u64 sectors_said; /* by IDENTIFY, if not 0 */

	u8 reg[8], hob[8], status, error, control;
	u32 multiple[ATA_DRIVES];
	u8 command;
	u64 lba;
	u32 left, block_left; /* sectors of the command; bytes of the data phase */
	u8 *at;
	u8 sector[BLK_SECTOR]; /* IDENTIFY data */

	bool hang, dead; /* commands never end; not even resets do */
	u64 bad_from, bad_to;
	u32 resets, flushes, commands, phases, ext_commands;
};

extern const struct ata_hw_ops fake_ata_ops;
void fake_ata_init(struct fake_ata *f);
void fake_ata_free(struct fake_ata *f);
/* Ends what the drive is busy with: the next data phase, or the command. */
void fake_ata_run(struct fake_ata *f);

#endif
