/* ATA by programmed I/O: identification and the channel's state machine. See ata.h. */
#include "drivers/ata.h"

#include "lib/err.h"
#include "lib/format.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/platform.h"

#define SECTORS_PER_PAGE    8U
#define SECTOR_WORDS        (BLK_SECTOR / 2)
#define LBA28_SECTORS       BIT(28)
#define REQUEST_RETRIES     1
#define STATUS_SETTLE_READS 4  /* of the alternate status: 400 ns */
#define RESET_PULSE_READS   50 /* at least 5 us */
#define IDENTIFY_WORDS      256

static u8 settle(struct ata_channel *c)
{
	for (u32 i = 1; i < STATUS_SETTLE_READS; i++)
		c->hw->in(c, ATA_CONTROL);
	return c->hw->in(c, ATA_CONTROL);
}

static struct ata_drive *drive_of(struct blk_dev *d)
{
	return container_of(d, struct ata_drive, dev);
}

static void select_drive(struct ata_channel *c, const struct ata_drive *d)
{
	c->hw->out(c, ATA_DEVICE, ATA_DEVICE_LBA | (d->slave ? ATA_DEVICE_SLAVE : 0) | 0xa0);
}

/* ---- identification: at boot --------------------------------------------- */

/* Waits for BSY to clear; returns the status, 0xff at the time-out. */
static u8 wait_ready(struct ata_channel *c)
{
	u64 limit_ns = platform_now_ns() + ATA_IDENTIFY_NS;
	u8 status;

	do {
		status = c->hw->in(c, ATA_CONTROL);
		if (!(status & ATA_STATUS_BSY))
			return status;
		platform_relax();
	} while (platform_now_ns() < limit_ns);
	return 0xff;
}

/* A bus without drives floats; registers that do not keep what is written are none. */
static bool drive_answers(struct ata_channel *c, const struct ata_drive *d)
{
	u8 status;

	select_drive(c, d);
	status = settle(c);
	if (status == 0xff || status == 0x7f)
		return false;
	c->hw->out(c, ATA_COUNT, 0x55);
	c->hw->out(c, ATA_LBA0, 0xaa);
	return c->hw->in(c, ATA_COUNT) == 0x55 && c->hw->in(c, ATA_LBA0) == 0xaa;
}

static bool read_identify(struct ata_channel *c, const struct ata_drive *d, u16 *id)
{
	u8 status;

	if (!drive_answers(c, d) || wait_ready(c) == 0xff)
		return false;
	for (enum ata_reg reg = ATA_COUNT; reg <= ATA_LBA2; reg++)
		c->hw->out(c, reg, 0);
	c->hw->out(c, ATA_STATUS, ATA_CMD_IDENTIFY);
	if (settle(c) == 0)
		return false;
	status = wait_ready(c);
	/* A signature in the middle and high bytes: a CD drive or something else that is no disk. */
	if (status == 0xff || c->hw->in(c, ATA_LBA1) || c->hw->in(c, ATA_LBA2))
		return false;
	if ((status & (ATA_STATUS_ERR | ATA_STATUS_DF)) || !(status & ATA_STATUS_DRQ))
		return false;
	c->hw->read(c, id, IDENTIFY_WORDS);
	c->hw->in(c, ATA_STATUS);
	return true;
}

static void copy_model(char *to, size_t size, const u16 *words, u32 count)
{
	size_t end = 0;

	for (u32 i = 0; i < 2 * count && i < size - 1; i++) {
		u8 ch = (u8)(words[i / 2] >> (i % 2 ? 0 : 8));

		to[i] = ch >= ' ' && ch < 0x7f ? (char)ch : ' ';
		if (to[i] != ' ')
			end = i + 1;
	}
	to[end] = '\0';
}

/* False if it is a disk that we cannot drive. */
static bool take_identify(struct ata_drive *d, const u16 *id)
{
	bool valid83 = (id[83] & 0xc000) == 0x4000;
	u32 multiple = id[47] & 0xff;

	if (!(id[49] & BIT(9)))
		return false; /* no LBA */
	if ((id[106] & 0xd000) == 0x5000 && (id[117] | (u32)id[118] << 16) != SECTOR_WORDS)
		return false; /* logical sectors of another size */
	d->lba48 = valid83 && (id[83] & BIT(10));
	d->flush = valid83 && (id[83] & BIT(12));
	d->dev.sectors = MIN(id[60] | (u32)id[61] << 16, LBA28_SECTORS);
	if (d->lba48)
		d->dev.sectors = id[100] | (u64)id[101] << 16 | (u64)id[102] << 32 | (u64)id[103] << 48;
	if (d->dev.sectors == 0 || d->dev.sectors >> 48)
		return false;
	d->block_wanted = 1;
	while (d->block_wanted < SECTORS_PER_PAGE && d->block_wanted * 2 <= multiple)
		d->block_wanted *= 2;
	d->block = 1;
	d->multiple_set = d->block_wanted == 1;
	return true;
}

static bool drive_probe(struct ata_channel *c, struct ata_drive *d, u32 index)
{
	u16 id[IDENTIFY_WORDS];

	if (!read_identify(c, d, id))
		return false;
	format_buf(d->dev.name, sizeof(d->dev.name), "ata%u", index);
	copy_model(d->dev.model, sizeof(d->dev.model), &id[27], 20);
	if (!take_identify(d, id)) {
		log_warn("ata", "%s: %s: not supported", d->dev.name, d->dev.model);
		return false;
	}
	d->channel = c;
	d->dev.sector_bytes = BLK_SECTOR;
	d->dev.queue_depth = 4;
	d->dev.ops = &ata_blk_ops;
	d->dev.priv = d;
	d->present = true;
	return true;
}

u32 ata_channel_probe(struct ata_channel *c, u32 index)
{
	u32 found = 0;

	c->hw->out(c, ATA_CONTROL, ATA_CONTROL_NIEN);
	for (u32 i = 0; i < ATA_DRIVES; i++)
		found += drive_probe(c, &c->drive[i], index + found);
	if (found)
		c->hw->out(c, ATA_CONTROL, 0);
	return found;
}

/* ---- ends of a request --------------------------------------------------- */

static void finish(struct ata_channel *c, struct blk_req *r, int status)
{
	list_del(&r->link);
	r->status = status;
	list_add_tail(&c->done, &r->link);
}

static void current_over(struct ata_channel *c, int status)
{
	struct blk_req *r = c->current;

	c->current = NULL;
	c->state = ATA_IDLE;
	if (!status)
		c->resets_in_row = 0;
	finish(c, r, status);
}

static void give_up(struct ata_channel *c)
{
	log_error("ata", "channel at %#x does not recover from resets: given up", c->ports);
	if (c->current)
		current_over(c, E_NODEV);
	c->state = ATA_GONE;
	for (u32 i = 0; i < ATA_DRIVES; i++)
		WRITE_ONCE(c->drive[i].dev.gone, true);
	while (!list_empty(&c->pending))
		finish(c, list_entry(c->pending.next, struct blk_req, link), E_NODEV);
}

static void reset_begin(struct ata_channel *c)
{
	if (c->resets_in_row++ == ATA_RESETS_MAX) {
		give_up(c);
		return;
	}
	c->hw->out(c, ATA_CONTROL, ATA_CONTROL_SRST);
	for (u32 i = 0; i < RESET_PULSE_READS; i++)
		c->hw->in(c, ATA_CONTROL);
	c->hw->out(c, ATA_CONTROL, 0);
	settle(c);
	for (u32 i = 0; i < ATA_DRIVES; i++) {
		struct ata_drive *d = &c->drive[i];

		d->multiple_set = d->block_wanted == 1;
		d->block = 1;
	}
	c->state = ATA_RESET;
	c->deadline_ns = platform_now_ns() + ATA_RESET_NS;
}

static void timed_out(struct ata_channel *c)
{
	struct blk_req *r = c->current;

	if (c->state == ATA_RESET) {
		give_up(c);
		return;
	}
	log_warn("ata", "%s: command timed out: channel reset", r->dev->name);
	r->dev->stats.timeouts++;
	r->dev->stats.resets++;
	if (r->driver[0]++ == REQUEST_RETRIES) {
		current_over(c, E_TIMEDOUT);
	} else {
		c->current = NULL;
		list_add(&c->pending, &r->link);
	}
	reset_begin(c);
}

/* The drive reports an error of its own. Without a data phase left open it takes the next command as it is. */
static void current_failed(struct ata_channel *c, u8 status)
{
	struct blk_dev *d = c->current->dev;

	log_warn("ata", "%s: %s at sector %llu failed: status %#x, error %#x", d->name,
		 c->current->op == BLK_READ    ? "read"
		 : c->current->op == BLK_WRITE ? "write"
					       : "flush",
		 (unsigned long long)c->current->sector, status, c->hw->in(c, ATA_ERROR));
	current_over(c, E_IO);
	if (status & (ATA_STATUS_DRQ | ATA_STATUS_DF)) {
		d->stats.resets++;
		reset_begin(c);
	}
}

/* ---- commands ------------------------------------------------------------ */

static u8 request_command(const struct ata_drive *d, const struct blk_req *r, bool ext)
{
	bool multiple = d->block > 1;

	if (r->op == BLK_FLUSH)
		return d->lba48 ? ATA_CMD_FLUSH_EXT : ATA_CMD_FLUSH;
	if (r->op == BLK_READ) {
		if (multiple)
			return ext ? ATA_CMD_READ_MULTIPLE_EXT : ATA_CMD_READ_MULTIPLE;
		return ext ? ATA_CMD_READ_EXT : ATA_CMD_READ;
	}
	if (multiple)
		return ext ? ATA_CMD_WRITE_MULTIPLE_EXT : ATA_CMD_WRITE_MULTIPLE;
	return ext ? ATA_CMD_WRITE_EXT : ATA_CMD_WRITE;
}

static void out_lba(struct ata_channel *c, u32 count, u64 lba)
{
	c->hw->out(c, ATA_COUNT, (u8)count);
	c->hw->out(c, ATA_LBA0, (u8)lba);
	c->hw->out(c, ATA_LBA1, (u8)(lba >> 8));
	c->hw->out(c, ATA_LBA2, (u8)(lba >> 16));
}

static void issue_request(struct ata_channel *c)
{
	struct blk_req *r = c->current;
	const struct ata_drive *d = drive_of(r->dev);
	u32 count = r->pages * SECTORS_PER_PAGE;
	u64 lba = r->sector;
	bool ext = lba + count > LBA28_SECTORS;
	u8 device = ATA_DEVICE_LBA | (d->slave ? ATA_DEVICE_SLAVE : 0) | 0xa0;

	if (r->op != BLK_FLUSH) {
		if (ext)
			out_lba(c, count >> 8, lba >> 24);
		else
			device |= lba >> 24 & 0xf;
		out_lba(c, count, lba); /* a count of 256 is written as 0 in the short form */
	}
	c->hw->out(c, ATA_DEVICE, device);
	c->moved = 0;
	c->state = ATA_TRANSFER;
	c->hw->out(c, ATA_STATUS, request_command(d, r, ext));
	settle(c);
}

static void issue(struct ata_channel *c)
{
	struct ata_drive *d = drive_of(c->current->dev);

	c->deadline_ns = platform_now_ns() + ATA_COMMAND_NS;
	if (d->multiple_set) {
		issue_request(c);
		return;
	}
	c->hw->out(c, ATA_COUNT, (u8)d->block_wanted);
	c->hw->out(c, ATA_STATUS, ATA_CMD_SET_MULTIPLE);
	c->state = ATA_MULTIPLE;
	settle(c);
}

/* Moves one data phase; sectors never cross a page, pages are frames of their own. */
static void move_block(struct ata_channel *c)
{
	struct blk_req *r = c->current;
	u32 sectors = MIN(drive_of(r->dev)->block, r->pages * SECTORS_PER_PAGE - c->moved);
	u8 *at = (u8 *)mm_hfn_to_va(r->frame[c->moved / SECTORS_PER_PAGE]) + c->moved % SECTORS_PER_PAGE * BLK_SECTOR;

	if (r->op == BLK_READ)
		c->hw->read(c, at, sectors * SECTOR_WORDS);
	else
		c->hw->write(c, at, sectors * SECTOR_WORDS);
	c->moved += sectors;
	c->deadline_ns = platform_now_ns() + ATA_COMMAND_NS;
	settle(c);
}

/* Reading is over with the last block; writing only when the drive has taken it. */
static bool transfer_complete(const struct ata_channel *c)
{
	return c->moved == c->current->pages * SECTORS_PER_PAGE;
}

/* Up to one page of the transfer. */
static void transfer(struct ata_channel *c)
{
	u32 limit = c->moved + SECTORS_PER_PAGE;

	while (c->moved < limit) {
		u8 status = c->hw->in(c, ATA_STATUS);

		if (status & ATA_STATUS_BSY)
			return;
		if (status & (ATA_STATUS_ERR | ATA_STATUS_DF)) {
			current_failed(c, status);
			return;
		}
		if (transfer_complete(c)) {
			if (!(status & ATA_STATUS_DRQ))
				current_over(c, 0);
			return;
		}
		if (!(status & ATA_STATUS_DRQ))
			return;
		move_block(c);
		if (c->current->op == BLK_READ && transfer_complete(c)) {
			current_over(c, 0);
			return;
		}
	}
}

/* ---- the state machine --------------------------------------------------- */

static void multiple_over(struct ata_channel *c, u8 status)
{
	struct ata_drive *d = drive_of(c->current->dev);

	d->block = status & (ATA_STATUS_ERR | ATA_STATUS_DF) ? 1 : d->block_wanted;
	d->multiple_set = true;
	issue(c);
}

static void start_next(struct ata_channel *c)
{
	struct list *link = list_pop(&c->pending);

	if (!link)
		return;
	c->current = list_entry(link, struct blk_req, link);
	c->state = ATA_SELECT;
	c->deadline_ns = platform_now_ns() + ATA_COMMAND_NS;
	select_drive(c, drive_of(c->current->dev));
	settle(c);
}

/* Moves on by one state if the hardware is ready to. */
static void advance(struct ata_channel *c)
{
	u8 status;

	if (c->state == ATA_IDLE)
		start_next(c);
	if (c->state == ATA_IDLE || c->state == ATA_GONE)
		return;
	if (c->state == ATA_TRANSFER) {
		transfer(c);
		return;
	}
	status = c->hw->in(c, ATA_STATUS);
	if (status & (ATA_STATUS_BSY | ATA_STATUS_DRQ))
		return;
	if (c->state == ATA_SELECT)
		issue(c);
	else if (c->state == ATA_MULTIPLE)
		multiple_over(c, status);
	else
		c->state = ATA_IDLE; /* reset is over */
}

static void step(struct ata_channel *c)
{
	enum ata_state before;

	/* A page at a time: a transfer that stays in its state waits for the next call. */
	do {
		before = c->state;
		advance(c);
	} while (c->state != before && c->state != ATA_IDLE && c->state != ATA_GONE);
	if (c->state != ATA_IDLE && c->state != ATA_GONE && platform_now_ns() > c->deadline_ns)
		timed_out(c);
}

/* No interrupt tells that a drive is ready for the first block of a write, nor that a new request waits. */
static bool wants_step(const struct ata_channel *c)
{
	if (c->state == ATA_IDLE)
		return !list_empty(&c->pending);
	return c->state == ATA_TRANSFER && c->current->op == BLK_WRITE && c->moved == 0;
}

void ata_poll(struct ata_channel *c)
{
	struct list done = LIST_INIT(done);
	bool again;

	lock_acquire(&c->lock);
	step(c);
	list_move_all(&c->done, &done);
	again = wants_step(c);
	lock_release(&c->lock);
	blk_complete_list(&done);
	if (again)
		work_queue(&c->work);
}

static void poll_work(struct work *w)
{
	ata_poll(container_of(w, struct ata_channel, work));
}

void ata_channel_init(struct ata_channel *c, const struct ata_hw_ops *hw)
{
	lock_init(&c->lock, "ata", LOCK_RANK_BLK);
	list_init(&c->pending);
	list_init(&c->done);
	work_init(&c->work, "ata", poll_work);
	c->hw = hw;
	for (u32 i = 0; i < ATA_DRIVES; i++)
		c->drive[i].slave = i > 0;
}

/* ---- struct blk_ops ------------------------------------------------------ */

static void drive_submit(struct blk_dev *d, struct blk_req *r)
{
	struct ata_drive *drive = drive_of(d);
	struct ata_channel *c = drive->channel;

	lock_acquire(&c->lock);
	list_init(&r->link);
	r->driver[0] = 0; /* retries */
	if (c->state == ATA_GONE)
		finish(c, r, E_NODEV);
	else if (r->op == BLK_FLUSH && !drive->flush)
		finish(c, r, 0);
	else
		list_add_tail(&c->pending, &r->link);
	lock_release(&c->lock);
	work_queue(&c->work);
}

static void drive_poll(struct blk_dev *d)
{
	ata_poll(drive_of(d)->channel);
}

static void drive_shutdown(struct blk_dev *d)
{
	struct ata_drive *drive = drive_of(d);
	struct ata_channel *c = drive->channel;

	lock_acquire(&c->lock);
	/* Requests are over by now (blk_shutdown_all); what is left in the drive's cache goes to the medium. */
	if (c->state == ATA_IDLE && drive->flush) {
		select_drive(c, drive);
		settle(c);
		c->hw->out(c, ATA_STATUS, drive->lba48 ? ATA_CMD_FLUSH_EXT : ATA_CMD_FLUSH);
		settle(c);
		if (wait_ready(c) == 0xff)
			log_warn("ata", "%s: cache flush does not end", d->name);
		c->hw->in(c, ATA_STATUS);
	}
	WRITE_ONCE(d->gone, true);
	lock_release(&c->lock);
}

const struct blk_ops ata_blk_ops = {.submit = drive_submit, .poll = drive_poll, .shutdown = drive_shutdown};
