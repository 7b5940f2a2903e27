/* drivers/ata.c against the channel model of fake_ata.c, through mm/blk.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "tests/unit/fake_ata.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"

#define PART_START 64U
#define PART_PAGES 400U
#define REQUESTS   16U

static struct fake_ata fakes[24], *fake; /* drives stay registered for good: each test has its own */
static struct blk_part parts[2 * ARRAY_SIZE(fakes)], *part[ATA_DRIVES];
static struct blk_req req[REQUESTS];
static u32 used, done_count;

static void pass_time(void)
{
	fake_now_ns += NSEC_PER_MSEC;
	fake_ata_run(fake);
}

static int setup(void **state)
{
	(void)state;
	fake_platform_reset();
	fake_mm_start(2048);
	fake_relax = pass_time;
	assert_true(used < ARRAY_SIZE(fakes));
	fake = &fakes[used++];
	fake_ata_init(fake);
	memset(req, 0, sizeof(req));
	done_count = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake->channel.state = ATA_GONE;
	fake_ata_free(fake);
	fake_mm_stop();
	return 0;
}

static u32 start(void)
{
	u32 found = ata_channel_probe(&fake->channel, 0);

	for (u32 i = 0; i < ATA_DRIVES; i++) {
		struct ata_drive *d = &fake->channel.drive[i];

		if (!d->present)
			continue;
		part[i] = &parts[2 * used - 1 - i];
		*part[i] = (struct blk_part){.dev = &d->dev, .start = PART_START, .pages = PART_PAGES};
		blk_register(&d->dev);
		blk_register_part(part[i]);
	}
	return found;
}

static void on_done(struct blk_req *r)
{
	(void)r;
	lock_assert_none();
	done_count++;
}

static void submit(u32 i, u32 drive, enum blk_op op, u64 page, u32 pages)
{
	struct blk_req *r = &req[i];

	r->op = op;
	r->page = page;
	r->pages = pages;
	r->done = on_done;
	for (u32 p = 0; p < pages; p++)
		if (!r->frame[p])
			r->frame[p] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false);
	blk_submit(part[drive], r);
}

static void run_until_done(u32 count)
{
	for (u32 i = 0; i < 100000 && done_count < count; i++) {
		u32 phases = fake->phases;

		fake_now_ns += NSEC_PER_MSEC;
		fake_ata_run(fake);
		ata_poll(&fake->channel);
		work_run(1);
		assert_true(fake->phases - phases <= 8); /* of a sector each: one page */
	}
	assert_int_equal(done_count, count);
}

static void write_and_read_back(u32 drive, u32 pages, u64 at)
{
	submit(0, drive, BLK_WRITE, at, pages);
	for (u32 p = 0; p < pages; p++)
		memset(mm_hfn_to_va(req[0].frame[p]), (int)(pages + p), PAGE_SIZE);
	run_until_done(done_count + 1);
	assert_int_equal(req[0].status, 0);
	for (u32 p = 0; p < pages; p++)
		assert_memory_equal(fake->data[drive] + PART_START * 512 + (at + p) * PAGE_SIZE,
				    mm_hfn_to_va(req[0].frame[p]), PAGE_SIZE);
	submit(1, drive, BLK_READ, at, pages);
	for (u32 p = 0; p < pages; p++)
		memset(mm_hfn_to_va(req[1].frame[p]), 0, PAGE_SIZE);
	run_until_done(done_count + 1);
	assert_int_equal(req[1].status, 0);
	for (u32 p = 0; p < pages; p++)
		assert_memory_equal(mm_hfn_to_va(req[1].frame[p]), mm_hfn_to_va(req[0].frame[p]), PAGE_SIZE);
}

/* ---- finding ------------------------------------------------------------- */

static void test_probe(void **state)
{
	(void)state;
	assert_int_equal(start(), 2);
	assert_string_equal(part[0]->dev->name, "ata0");
	assert_string_equal(part[1]->dev->name, "ata1");
	assert_string_equal(part[0]->dev->model, "Fake ATA disk");
	assert_int_equal(part[0]->dev->sectors, FAKE_ATA_SECTORS);
	assert_int_equal(fake->control & ATA_CONTROL_NIEN, 0);
}

static void test_probe_nothing(void **state)
{
	(void)state;
	fake->float_status = 0xff;
	assert_int_equal(start(), 0);
	fake->float_status = 0x7f;
	assert_int_equal(start(), 0);
	fake->float_status = 0;
	fake->present[0] = fake->present[1] = false;
	assert_int_equal(start(), 0);
	fake->present[0] = fake->packet[0] = true;
	assert_int_equal(start(), 0);
	fake->packet[0] = false;
	fake->dead = true;
	fake->status = ATA_STATUS_BSY;
	assert_int_equal(start(), 0);
}

static void test_probe_slave_only(void **state)
{
	(void)state;
	fake->present[0] = false;
	assert_int_equal(start(), 1);
	assert_string_equal(part[1]->dev->name, "ata0");
	write_and_read_back(1, 5, 3);
}

/* ---- transfers ----------------------------------------------------------- */

static void all_sizes(void)
{
	for (u32 pages = 1; pages <= BLK_PAGES_MAX; pages++)
		write_and_read_back(pages % 2, pages, 2 * pages);
	write_and_read_back(0, 1, PART_PAGES - 1);
}

static void test_transfer_multiple(void **state)
{
	(void)state;
	assert_int_equal(start(), 2);
	all_sizes();
	assert_int_equal(fake->channel.drive[0].block, 8);
	assert_int_equal(part[0]->dev->in_flight + part[1]->dev->in_flight, 0);
}

static void test_transfer_odd_multiple(void **state)
{
	(void)state;
	fake->multiple_max = 5;
	assert_int_equal(start(), 2);
	all_sizes();
	assert_int_equal(fake->channel.drive[0].block, 4);
}

static void test_transfer_single(void **state)
{
	(void)state;
	fake->multiple_max = 0;
	fake->no_lba48 = true;
	assert_int_equal(start(), 2);
	all_sizes();
}

static void test_long_addresses(void **state)
{
	(void)state;
	fake->sectors_said = 1UL << 36;
	assert_int_equal(start(), 2);
	*part[0] = (struct blk_part){.link = part[0]->link, .dev = part[0]->dev, .start = 1UL << 35, .pages = 64};
	submit(0, 0, BLK_READ, 1, 32);
	run_until_done(1);
	/* The model has no such sector, but must have been asked for exactly this one. */
	assert_int_equal(req[0].status, E_IO);
	assert_int_equal(fake->ext_commands, 1);
	assert_int_equal(fake->lba, (1UL << 35) + 8);
}

static void test_queue(void **state)
{
	(void)state;
	assert_int_equal(start(), 2);
	for (u32 i = 0; i < REQUESTS; i++)
		submit(i, i % 2, i % 3 ? BLK_WRITE : BLK_READ, 4 * i, 4);
	assert_int_equal(done_count, 0);
	run_until_done(REQUESTS);
	for (u32 i = 0; i < REQUESTS; i++)
		assert_int_equal(req[i].status, 0);
}

static void test_flush(void **state)
{
	(void)state;
	assert_int_equal(start(), 2);
	submit(0, 1, BLK_FLUSH, 0, 0);
	run_until_done(1);
	assert_int_equal(req[0].status, 0);
	assert_int_equal(fake->flushes, 1);
}

/* ---- errors -------------------------------------------------------------- */

static void test_bad_sectors(void **state)
{
	(void)state;
	assert_int_equal(start(), 2);
	fake->bad_from = PART_START + 8 * 10;
	fake->bad_to = fake->bad_from + 1;
	submit(0, 0, BLK_READ, 8, 4);
	submit(1, 0, BLK_WRITE, 8, 4);
	submit(2, 0, BLK_READ, 12, 4);
	run_until_done(3);
	assert_int_equal(req[0].status, E_IO);
	assert_int_equal(req[1].status, E_IO);
	assert_int_equal(req[2].status, 0);
	assert_int_equal(part[0]->dev->stats.errors, 2);
}

static void test_hang_once(void **state)
{
	(void)state;
	assert_int_equal(start(), 2);
	write_and_read_back(0, 2, 0);
	fake->hang = true;
	submit(2, 0, BLK_WRITE, 4, 3);
	for (u32 i = 0; i < 20 && !fake->resets; i++) {
		fake_now_ns += NSEC_PER_SEC;
		ata_poll(&fake->channel);
	}
	assert_int_equal(fake->resets, 1);
	fake->hang = false;
	run_until_done(3);
	assert_int_equal(req[2].status, 0);
	assert_int_equal(fake->channel.drive[0].block, 8); /* set again after the reset */
	write_and_read_back(0, 32, 0);
}

static void test_hang_for_good(void **state)
{
	(void)state;
	assert_int_equal(start(), 2);
	fake->hang = true;
	for (u32 i = 0; i < 4; i++)
		submit(i, i % 2, BLK_READ, 0, 1);
	for (u32 i = 0; i < 200; i++) {
		fake_now_ns += NSEC_PER_SEC;
		ata_poll(&fake->channel);
	}
	assert_int_equal(done_count, 4);
	assert_int_equal(req[0].status, E_TIMEDOUT);
	assert_int_equal(req[3].status, E_NODEV);
	assert_true(part[0]->dev->gone && part[1]->dev->gone);
	submit(5, 0, BLK_READ, 0, 1);
	blk_poll_all();
	assert_int_equal(req[5].status, E_NODEV);
}

static void test_dead_reset(void **state)
{
	(void)state;
	assert_int_equal(start(), 2);
	fake->dead = true;
	submit(0, 0, BLK_READ, 0, 1);
	for (u32 i = 0; i < 100; i++) {
		fake_now_ns += NSEC_PER_SEC;
		ata_poll(&fake->channel);
	}
	assert_int_equal(req[0].status, E_NODEV);
	assert_true(part[0]->dev->gone);
}

static void test_shutdown(void **state)
{
	(void)state;
	assert_int_equal(start(), 2);
	submit(0, 0, BLK_WRITE, 0, 32);
	blk_shutdown_all();
	assert_int_equal(req[0].status, 0);
	assert_int_equal(fake->flushes, 2);
	submit(1, 0, BLK_WRITE, 0, 1);
	blk_poll_all();
	assert_int_equal(req[1].status, E_NODEV);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_probe),
	    T(test_probe_nothing),
	    T(test_probe_slave_only),
	    T(test_transfer_multiple),
	    T(test_transfer_odd_multiple),
	    T(test_transfer_single),
	    T(test_long_addresses),
	    T(test_queue),
	    T(test_flush),
	    T(test_bad_sectors),
	    T(test_hang_once),
	    T(test_hang_for_good),
	    T(test_dead_reset),
	    T(test_shutdown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
