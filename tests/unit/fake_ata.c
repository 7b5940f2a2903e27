/* See fake_ata.h. */
#include "tests/unit/fake_ata.h"

#include <stdlib.h>
#include <string.h>

#include "lib/panic.h"
#include "tests/unit/fake_platform.h"

#define READY (ATA_STATUS_DRDY | BIT(4))

static u32 drive(const struct fake_ata *f)
{
	return f->reg[ATA_DEVICE] & ATA_DEVICE_SLAVE ? 1 : 0;
}

static bool is_write(const struct fake_ata *f)
{
	return f->command == ATA_CMD_WRITE || f->command == ATA_CMD_WRITE_EXT || f->command == ATA_CMD_WRITE_MULTIPLE ||
	       f->command == ATA_CMD_WRITE_MULTIPLE_EXT;
}

static bool is_multiple(const struct fake_ata *f)
{
	return f->command == ATA_CMD_READ_MULTIPLE || f->command == ATA_CMD_READ_MULTIPLE_EXT ||
	       f->command == ATA_CMD_WRITE_MULTIPLE || f->command == ATA_CMD_WRITE_MULTIPLE_EXT;
}

static bool is_ext(const struct fake_ata *f)
{
	return f->command == ATA_CMD_READ_EXT || f->command == ATA_CMD_WRITE_EXT ||
	       f->command == ATA_CMD_READ_MULTIPLE_EXT || f->command == ATA_CMD_WRITE_MULTIPLE_EXT;
}

static void fail(struct fake_ata *f, u8 error)
{
	f->error = error;
	f->status = READY | ATA_STATUS_ERR;
	f->left = f->block_left = 0;
}

static void fill_identify(struct fake_ata *f)
{
	u16 id[256] = {0};
	u64 sectors = f->sectors_said ? f->sectors_said : FAKE_ATA_SECTORS;
	const char *model = "aFekA ATd si k                          "; /* bytes swapped in words */

	memcpy(&id[27], model, 40);
	id[47] = (u16)(0x8000 | f->multiple_max);
	id[49] = BIT(9);
	id[60] = (u16)sectors;
	id[61] = (u16)(sectors >> 16);
	id[83] = (u16)(0x4000 | BIT(12) | (f->no_lba48 ? 0 : BIT(10)));
	if (!f->no_lba48)
		for (u32 i = 0; i < 4; i++)
			id[100 + i] = (u16)(sectors >> 16 * i);
	memcpy(f->sector, id, sizeof(id));
	f->at = f->sector;
	f->block_left = sizeof(id);
	f->left = 0;
	f->status = READY | ATA_STATUS_DRQ;
}

static void start_transfer(struct fake_ata *f)
{
	f->lba = f->reg[ATA_LBA0] | (u64)f->reg[ATA_LBA1] << 8 | (u64)f->reg[ATA_LBA2] << 16;
	f->left = f->reg[ATA_COUNT];
	if (is_ext(f)) {
		f->ext_commands++;
		f->lba |= (u64)f->hob[ATA_LBA0] << 24 | (u64)f->hob[ATA_LBA1] << 32 | (u64)f->hob[ATA_LBA2] << 40;
		f->left |= (u32)f->hob[ATA_COUNT] << 8;
	} else {
		f->lba |= (u64)(f->reg[ATA_DEVICE] & 0xf) << 24;
		if (!f->left)
			f->left = 256;
	}
	if (is_multiple(f) && !f->multiple[drive(f)])
		fail(f, 4);
	else if (f->lba + f->left > FAKE_ATA_SECTORS)
		fail(f, 0x10);
	else
		f->status = ATA_STATUS_BSY;
}

static void next_phase(struct fake_ata *f)
{
	u32 sectors = MIN(f->left, is_multiple(f) ? f->multiple[drive(f)] : 1);

	if (f->lba < f->bad_to && f->lba + sectors > f->bad_from) {
		fail(f, 0x40);
		return;
	}
	if (!f->left) {
		f->status = READY;
		return;
	}
	f->at = f->data[drive(f)] + f->lba * BLK_SECTOR;
	f->block_left = sectors * BLK_SECTOR;
	f->lba += sectors;
	f->left -= sectors;
	f->phases++;
	f->status = READY | ATA_STATUS_DRQ;
}

void fake_ata_run(struct fake_ata *f)
{
	if (f->hang || f->dead || !(f->status & ATA_STATUS_BSY))
		return;
	if (is_write(f) || f->left)
		next_phase(f);
	else
		f->status = READY;
}

static void phase_moved(struct fake_ata *f)
{
	f->status = f->left || is_write(f) ? ATA_STATUS_BSY : READY;
}

static void command(struct fake_ata *f, u8 v)
{
	u32 d = drive(f);

	CHECK(!(f->status & (ATA_STATUS_BSY | ATA_STATUS_DRQ)));
	f->command = v;
	f->commands++;
	f->left = 0;
	if (v == ATA_CMD_IDENTIFY) {
		if (!f->packet[d]) {
			fill_identify(f);
			return;
		}
		f->reg[ATA_LBA1] = 0x14;
		f->reg[ATA_LBA2] = 0xeb;
		fail(f, 4);
	} else if (v == ATA_CMD_SET_MULTIPLE) {
		CHECK(f->reg[ATA_COUNT] <= f->multiple_max);
		f->multiple[d] = f->reg[ATA_COUNT];
		f->status = ATA_STATUS_BSY;
	} else if (v == ATA_CMD_FLUSH || v == ATA_CMD_FLUSH_EXT) {
		f->flushes++;
		f->status = ATA_STATUS_BSY;
	} else {
		start_transfer(f);
	}
}

static u8 hw_in(struct ata_channel *c, enum ata_reg reg)
{
	struct fake_ata *f = (struct fake_ata *)c;

	fake_now_ns += 100;
	if (f->float_status)
		return f->float_status;
	if (!f->present[drive(f)])
		return 0;
	switch (reg) {
	case ATA_STATUS:
	case ATA_CONTROL:
		return f->status;
	case ATA_ERROR:
		return f->error;
	default:
		return f->reg[reg];
	}
}

static void reset(struct fake_ata *f)
{
	f->resets++;
	f->status = f->dead ? ATA_STATUS_BSY : READY;
	f->left = f->block_left = 0;
	memset(f->multiple, 0, sizeof(f->multiple));
	f->reg[ATA_DEVICE] = 0;
}

static void hw_out(struct ata_channel *c, enum ata_reg reg, u8 v)
{
	struct fake_ata *f = (struct fake_ata *)c;

	if (reg == ATA_CONTROL) {
		if ((f->control & ATA_CONTROL_SRST) && !(v & ATA_CONTROL_SRST))
			reset(f);
		f->control = v;
	} else if (reg == ATA_STATUS) {
		if (f->present[drive(f)] && !f->float_status)
			command(f, v);
	} else {
		f->hob[reg] = f->reg[reg];
		f->reg[reg] = v;
	}
}

static void hw_read(struct ata_channel *c, void *to, u32 words)
{
	struct fake_ata *f = (struct fake_ata *)c;

	CHECK((f->status & ATA_STATUS_DRQ) && !is_write(f) && 2 * words == f->block_left);
	memcpy(to, f->at, 2 * words);
	phase_moved(f);
}

static void hw_write(struct ata_channel *c, const void *from, u32 words)
{
	struct fake_ata *f = (struct fake_ata *)c;

	CHECK((f->status & ATA_STATUS_DRQ) && is_write(f) && 2 * words == f->block_left);
	memcpy(f->at, from, 2 * words);
	phase_moved(f);
}

const struct ata_hw_ops fake_ata_ops = {.in = hw_in, .out = hw_out, .read = hw_read, .write = hw_write};

void fake_ata_init(struct fake_ata *f)
{
	*f = (struct fake_ata){.present = {true, true}, .multiple_max = 16, .status = READY};
	for (u32 i = 0; i < ATA_DRIVES; i++)
		f->data[i] = calloc(FAKE_ATA_SECTORS, BLK_SECTOR);
	ata_channel_init(&f->channel, &fake_ata_ops);
}

void fake_ata_free(struct fake_ata *f)
{
	for (u32 i = 0; i < ATA_DRIVES; i++)
		free(f->data[i]);
}
