/* drivers/nvme*.c against the controller model of fake_nvme.c, through mm/blk.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/nvme.h"
#include "lib/err.h"
#include "lib/prng.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_nvme.h"
#include "tests/unit/fake_platform.h"

#define PART_START 64U /* sectors */
#define PART_PAGES 256U
#define REQUESTS   200U

static struct fake_nvme fake;
/* Devices stay registered for good: each test has a controller of its own. */
static struct nvme_ctrl ctrls[40], *ctrl;
static struct blk_part parts[2 * ARRAY_SIZE(ctrls)];
static u32 used;
static struct blk_part *part[FAKE_NVME_NS];
static struct blk_req req[REQUESTS];
static u32 done_count;

static void pass_time(void)
{
	fake_now_ns += NSEC_PER_MSEC;
}

static void pass_time_and_run(void)
{
	fake_now_ns += NSEC_PER_MSEC;
	fake_nvme_run(&fake, 1);
}

static int setup(void **state)
{
	(void)state;
	fake_platform_reset();
	fake_mm_start(8192);
	fake_nvme_init(&fake);
	fake_relax = pass_time;
	assert_true(used < ARRAY_SIZE(ctrls));
	ctrl = &ctrls[used++];
	memset(req, 0, sizeof(req));
	done_count = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	/* Its queues go with the arena. */
	ctrl->state = NVME_GONE;
	fake_nvme_free(&fake);
	fake_mm_stop();
	return 0;
}

static int start(void)
{
	int err = nvme_ctrl_init(ctrl, &fake_nvme_ops, &fake, 0);

	if (!err)
		err = nvme_ctrl_start(ctrl);
	if (err)
		return err;
	for (u32 i = 0; i < ctrl->ns_count; i++) {
		part[i] = &parts[2 * used - 1 - i];
		*part[i] = (struct blk_part){.dev = &ctrl->ns[i].dev, .start = PART_START, .pages = PART_PAGES};
		blk_register(part[i]->dev);
		blk_register_part(part[i]);
	}
	return 0;
}

static void on_done(struct blk_req *r)
{
	lock_assert_none();
	r->arg = (void *)1;
	done_count++;
}

static void submit(u32 i, u32 ns, enum blk_op op, u64 page, u32 pages)
{
	struct blk_req *r = &req[i];

	r->op = op;
	r->page = page;
	r->pages = pages;
	r->done = on_done;
	r->arg = NULL;
	for (u32 p = 0; p < pages; p++)
		if (!r->frame[p]) {
			r->frame[p] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false);
			assert_int_not_equal(r->frame[p], HFN_NONE);
		}
	blk_submit(part[ns], r);
}

static void stamp(u32 i, u64 value)
{
	for (u32 p = 0; p < req[i].pages; p++)
		*(u64 *)mm_hfn_to_va(req[i].frame[p]) = value + p;
}

static u64 stamped(u32 i, u32 page)
{
	return *(u64 *)mm_hfn_to_va(req[i].frame[page]);
}

/* What the CPU loop does: time passes, the device works, its completions are reaped. */
static void turn(u64 ms)
{
	fake_now_ns += ms * NSEC_PER_MSEC;
	fake_nvme_run(&fake, ~0U);
	nvme_poll(ctrl);
}

static void run_until_done(u32 count)
{
	for (u32 i = 0; i < 1000000 && done_count < count; i++)
		turn(100);
	assert_int_equal(done_count, count);
}

/* ---- start --------------------------------------------------------------- */

static void test_start_finds_namespaces(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	assert_int_equal(ctrl->ns_count, 2);
	assert_string_equal(ctrl->ns[0].dev.name, "nvme0n1");
	assert_string_equal(ctrl->ns[1].dev.name, "nvme0n2");
	assert_string_equal(ctrl->ns[0].dev.model, "Fake NVMe?");
	assert_int_equal(ctrl->ns[0].dev.sector_bytes, 512);
	assert_int_equal(ctrl->ns[1].dev.sector_bytes, 4096);
	assert_int_equal(ctrl->ns[1].dev.sectors, FAKE_NVME_NS_BYTES / 512);
	assert_int_equal(ctrl->max_pages, BLK_PAGES_MAX);
	assert_int_equal(fake.enables, 1);
}

static void test_start_without_namespace_list(void **state)
{
	(void)state;
	fake.no_active_list = true;
	assert_int_equal(start(), 0);
	assert_int_equal(ctrl->ns_count, 2);
}

static void test_start_skips_odd_namespaces(void **state)
{
	(void)state;
	fake.metadata[0] = 8;
	fake.shift[1] = 12;
	fake.blocks[1] = 1UL << 50;
	assert_int_equal(start(), 0);
	assert_int_equal(ctrl->ns_count, 0);
}

static void test_start_failures(void **state)
{
	(void)state;
	fake.never_ready = true;
	assert_int_equal(start(), E_NODEV);
	assert_true(fake.quiesced);
	fake_nvme_free(&fake);
	fake_nvme_init(&fake);
	fake.never_idle = true;
	fake.csts = NVME_CSTS_RDY;
	assert_int_equal(start(), E_NODEV);
	fake_nvme_free(&fake);
	fake_nvme_init(&fake);
	fake.dead_admin = true;
	assert_int_equal(start(), E_NODEV);
	fake_nvme_free(&fake);
	fake_nvme_init(&fake);
	fake.fail_create = true;
	assert_int_equal(start(), E_NODEV);
	fake_nvme_free(&fake);
	fake_nvme_init(&fake);
	fake.removed = true;
	assert_int_equal(start(), E_NODEV);
	fake_nvme_free(&fake);
	fake_nvme_init(&fake);
	fake.cap |= 1UL << 48; /* pages of 8 KiB at least */
	assert_int_equal(start(), E_NOSYS);
}

/* ---- transfers ----------------------------------------------------------- */

static void write_and_read_back(u32 ns, u32 pages, u64 at)
{
	u64 value = at << 32 | pages << 8;

	submit(0, ns, BLK_WRITE, at, pages);
	stamp(0, value);
	run_until_done(done_count + 1);
	assert_int_equal(req[0].status, 0);
	for (u32 p = 0; p < pages; p++)
		assert_int_equal(*(u64 *)(fake.data[ns] + PART_START * 512 + (at + p) * PAGE_SIZE), value + p);
	submit(1, ns, BLK_READ, at, pages);
	stamp(1, 0);
	run_until_done(done_count + 1);
	assert_int_equal(req[1].status, 0);
	for (u32 p = 0; p < pages; p++)
		assert_int_equal(stamped(1, p), value + p);
}

static void test_transfer_sizes(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	for (u32 ns = 0; ns < FAKE_NVME_NS; ns++)
		for (u32 pages = 1; pages <= BLK_PAGES_MAX; pages++)
			write_and_read_back(ns, pages, 3 * pages);
	write_and_read_back(0, 1, PART_PAGES - 1);
	assert_int_equal(fake.pages_max, BLK_PAGES_MAX);
	assert_int_equal(part[0]->dev->stats.writes, BLK_PAGES_MAX + 1);
	assert_int_equal(part[0]->dev->in_flight, 0);
	assert_true(part[0]->dev->stats.read_ns > 0);
}

static void test_transfer_split_by_mdts(void **state)
{
	(void)state;
	fake.mdts = 2;
	assert_int_equal(start(), 0);
	assert_int_equal(ctrl->max_pages, 4);
	write_and_read_back(0, 32, 0);
	write_and_read_back(1, 7, 40);
	assert_int_equal(fake.pages_max, 4);
	assert_int_equal(fake.reads, 8 + 2);
}

static void test_many_in_flight(void **state)
{
	struct prng rnd;
	u64 expect[PART_PAGES] = {0};

	(void)state;
	prng_seed(&rnd, 7);
	fake.reversed = true;
	assert_int_equal(start(), 0);
	/* 200 requests on 63 slots; each page is written at most once at a time. */
	for (u32 round = 0; round < 20; round++) {
		u32 count = PART_PAGES / 2;

		for (u32 i = 0; i < count; i++) {
			submit(i, 0, BLK_WRITE, 2 * i, 2);
			stamp(i, expect[2 * i] = prng_next(&rnd));
		}
		run_until_done(done_count + count);
		for (u32 i = 0; i < count; i++)
			submit(i, 0, BLK_READ, 2 * i, 2);
		run_until_done(done_count + count);
		for (u32 i = 0; i < count; i++)
			assert_int_equal(stamped(i, 1), expect[2 * i] + 1);
	}
	assert_int_equal(fake.waiting_max, NVME_ENTRIES - 1);
}

static void test_small_rings(void **state)
{
	(void)state;
	fake.cap = (fake.cap & ~0xffffUL) | 1; /* two entries: one command at a time */
	assert_int_equal(start(), 0);
	for (u32 i = 0; i < 10; i++)
		submit(i, 0, BLK_WRITE, i, 1);
	run_until_done(10);
	assert_int_equal(fake.waiting_max, 1);
}

static void test_doorbell_stride(void **state)
{
	(void)state;
	fake.cap |= 3UL << 32;
	assert_int_equal(start(), 0);
	write_and_read_back(0, 3, 9);
}

static void test_flush(void **state)
{
	(void)state;
	fake.write_cache = true;
	assert_int_equal(start(), 0);
	submit(0, 1, BLK_FLUSH, 0, 0);
	run_until_done(1);
	assert_int_equal(fake.flushes, 1);
}

static void test_flush_without_cache(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	submit(0, 0, BLK_FLUSH, 0, 0);
	assert_int_equal(done_count, 0); /* never from within blk_submit */
	assert_int_equal(work_run(10), 1);
	assert_int_equal(done_count, 1);
	assert_int_equal(fake.flushes, 0);
}

static void test_raw_read(void **state)
{
	hfn_t frame;

	(void)state;
	assert_int_equal(start(), 0);
	fake_relax = pass_time_and_run;
	frame = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	memset(fake.data[0], 0x5a, PAGE_SIZE);
	assert_int_equal(blk_read_raw(part[0]->dev, 0, 1, &frame), 0);
	assert_int_equal(*(u32 *)mm_hfn_to_va(frame), 0x5a5a5a5a);
	assert_int_equal(blk_read_raw(part[0]->dev, FAKE_NVME_NS_BYTES / 512 - 8, 1, &frame), 0);
	assert_int_equal(blk_read_raw(part[0]->dev, FAKE_NVME_NS_BYTES / 512 - 7, 1, &frame), E_RANGE);
	assert_int_equal(blk_read_raw(part[0]->dev, ~0UL, 1, &frame), E_RANGE);
	assert_int_equal(blk_read_raw(part[1]->dev, 1, 1, &frame), E_RANGE);
	fake.fail_status = 0x281;
	assert_int_equal(blk_read_raw(part[0]->dev, 0, 1, &frame), E_IO);
}

static void test_submit_checks(void **state)
{
	struct blk_part foreign = {.dev = NULL};

	(void)state;
	assert_int_equal(start(), 0);
	foreign = *part[0];
	req[0] = (struct blk_req){.op = BLK_WRITE, .pages = 1, .done = on_done};
	assert_true(fake_panics(blk_submit(&foreign, &req[0])));
	req[0].page = PART_PAGES;
	assert_true(fake_panics(blk_submit(part[0], &req[0])));
	req[0].page = PART_PAGES - 1;
	req[0].pages = 2;
	assert_true(fake_panics(blk_submit(part[0], &req[0])));
	req[0].page = ~0UL;
	assert_true(fake_panics(blk_submit(part[0], &req[0])));
	req[0].page = 0;
	req[0].pages = BLK_PAGES_MAX + 1;
	assert_true(fake_panics(blk_submit(part[0], &req[0])));
	assert_int_equal(fake.writes, 0);
}

/* ---- errors -------------------------------------------------------------- */

static void test_io_error(void **state)
{
	(void)state;
	fake.mdts = 1;
	assert_int_equal(start(), 0);
	fake.fail_status = 0x281; /* unrecovered read error */
	submit(0, 0, BLK_READ, 0, 16);
	run_until_done(1);
	assert_int_equal(req[0].status, E_IO);
	assert_int_equal(part[0]->dev->stats.errors, 1);
	fake.fail_status = 0;
	write_and_read_back(0, 16, 0);
}

static void test_error_stops_pieces(void **state)
{
	(void)state;
	fake.mdts = 1;
	fake.cap = (fake.cap & ~0xffffUL) | 2; /* two pieces at a time */
	assert_int_equal(start(), 0);
	fake.fail_status = 0x280;
	submit(0, 0, BLK_WRITE, 0, 32);
	run_until_done(1);
	assert_int_equal(req[0].status, E_IO);
	assert_true(fake.writes <= 4);
}

static void test_passing_fault_is_retried_once(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	fake.fail_status = NVME_SC_NS_NOT_READY;
	submit(0, 0, BLK_WRITE, 0, 1);
	run_until_done(1);
	assert_int_equal(req[0].status, E_TIMEDOUT);
	assert_int_equal(fake.writes, 2);
}

static void test_unknown_completions(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	submit(0, 0, BLK_WRITE, 0, 1);
	fake.stray = 3;
	run_until_done(1);
	assert_int_equal(ctrl->bad_completions, 3);
	assert_int_equal(req[0].status, 0);
	write_and_read_back(0, 2, 0);
}

static void test_hang_is_aborted_and_retried(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	fake.swallow = 1;
	submit(0, 0, BLK_WRITE, 5, 3);
	stamp(0, 77);
	run_until_done(1);
	assert_int_equal(req[0].status, 0);
	assert_int_equal(fake.aborts, 1);
	assert_int_equal(fake.enables, 1);
	assert_int_equal(part[0]->dev->stats.timeouts, 1);
	assert_int_equal(*(u64 *)(fake.data[0] + PART_START * 512 + 7 * PAGE_SIZE), 79);
}

static void test_hang_without_abort_resets(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	fake.swallow = 2;
	fake.ignore_abort = true;
	for (u32 i = 0; i < 4; i++)
		submit(i, i % 2, BLK_WRITE, 10 + i, 1);
	run_until_done(4);
	for (u32 i = 0; i < 4; i++)
		assert_int_equal(req[i].status, 0);
	assert_int_equal(fake.enables, 2);
	assert_int_equal(part[0]->dev->stats.resets, 1);
	assert_int_equal(part[0]->dev->in_flight, 0);
	write_and_read_back(0, 32, 0);
}

static void test_hang_for_good_times_out_then_gone(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	fake.swallow = ~0U;
	fake.ignore_abort = true;
	submit(0, 0, BLK_READ, 0, 1);
	run_until_done(1);
	assert_int_equal(req[0].status, E_TIMEDOUT);
	assert_false(part[0]->dev->gone);
	for (u32 i = 1; i < 4; i++)
		submit(i, 0, BLK_READ, 0, 1);
	run_until_done(4);
	assert_int_equal(req[1].status, E_TIMEDOUT);
	submit(4, 1, BLK_READ, 0, 1);
	run_until_done(5);
	assert_int_equal(req[4].status, E_NODEV);
	assert_true(part[0]->dev->gone && part[1]->dev->gone);
	assert_true(fake.quiesced);
	submit(5, 0, BLK_READ, 0, 1);
	assert_int_equal(done_count, 5);
	work_run(10);
	assert_int_equal(req[5].status, E_NODEV);
}

static void test_slow_is_not_dead(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	for (u32 i = 0; i < 60; i++)
		submit(i, 0, BLK_WRITE, 2 * i, 2);
	/* 450 ms a command: the last one waits 27 s, with answers coming in all the time. */
	for (u32 i = 0; i < 60; i++) {
		fake_now_ns += 450 * NSEC_PER_MSEC;
		fake_nvme_run(&fake, 1);
		nvme_poll(ctrl);
	}
	assert_int_equal(done_count, 60);
	assert_int_equal(fake.aborts, 0);
	assert_int_equal(part[0]->dev->stats.timeouts, 0);
}

static void test_one_lost_among_many(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	fake.swallow = 1;
	submit(0, 0, BLK_WRITE, 0, 1);
	turn(0);
	for (u32 i = 1; done_count < 400; i = i % 100 + 1) {
		submit(i, 0, BLK_WRITE, 1, 1);
		turn(100);
		assert_true(req[i].arg);
	}
	assert_true(req[0].arg);
	assert_int_equal(req[0].status, 0);
	assert_int_equal(fake.aborts, 1);
}

static void test_fatal_status(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	for (u32 i = 0; i < 100; i++)
		submit(i, 0, BLK_WRITE, i, 1);
	fake.csts |= NVME_CSTS_CFS;
	turn(100);
	run_until_done(100);
	for (u32 i = 0; i < 100; i++)
		assert_int_equal(req[i].status, 0);
	assert_int_equal(fake.enables, 2);
	assert_int_equal(ctrl->resets_in_row, 0);
}

static void test_reset_fails_for_good(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	for (u32 i = 0; i < 100; i++)
		submit(i, 0, BLK_WRITE, i, 1);
	fake.csts |= NVME_CSTS_CFS;
	fake.never_ready = true;
	fake_now_ns += 100 * NSEC_PER_MSEC;
	nvme_poll(ctrl);
	run_until_done(100);
	for (u32 i = 0; i < 100; i++)
		assert_int_equal(req[i].status, E_NODEV);
	assert_int_equal(fake.enables, 1 + NVME_RESETS_MAX);
	assert_int_equal(part[0]->dev->in_flight, 0);
}

static void test_stuck_disable_never_frees_frames_early(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	submit(0, 0, BLK_WRITE, 0, 1);
	fake.never_idle = true;
	fake.csts |= NVME_CSTS_CFS;
	for (u32 i = 0; i < 100000 && !done_count; i++) {
		nvme_poll(ctrl);
		fake_now_ns += 10 * NSEC_PER_MSEC;
		assert_true(!done_count || fake.quiesced);
	}
	assert_int_equal(req[0].status, E_NODEV);
}

static void test_removed(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	submit(0, 0, BLK_WRITE, 0, 1);
	fake.removed = true;
	run_until_done(1);
	assert_int_equal(req[0].status, E_NODEV);
	assert_true(part[0]->dev->gone);
}

/* Where reads of a slot that is empty give zeroes, its configuration tells. No reset is waited for. */
static void test_pulled(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	submit(0, 0, BLK_WRITE, 0, 1);
	fake.pulled = true;
	fake.csts = 0;
	fake_now_ns += 100 * NSEC_PER_MSEC;
	nvme_poll(ctrl);
	assert_int_equal(req[0].status, E_NODEV);
	assert_true(part[0]->dev->gone);
	assert_true(fake.quiesced);
	assert_int_equal(fake.enables, 1);
	assert_true(fake_log_has("device removed: given up"));
}

static void test_shutdown(void **state)
{
	(void)state;
	assert_int_equal(start(), 0);
	for (u32 i = 0; i < 10; i++)
		submit(i, 0, BLK_WRITE, i, 1);
	fake_relax = pass_time_and_run;
	blk_shutdown_all();
	assert_int_equal(done_count, 10);
	assert_int_equal(fake.shutdowns, 1);
	assert_true(fake.quiesced);
	submit(11, 1, BLK_READ, 0, 1);
	blk_poll_all();
	assert_int_equal(req[11].status, E_NODEV);
}

/* Anything at any time: every request ends exactly once and what is reported written is there. */
static void test_storm(void **state)
{
	struct prng rnd;
	u32 submitted = 0;

	(void)state;
	prng_seed(&rnd, 99);
	fake.mdts = 3;
	assert_int_equal(start(), 0);
	for (u32 step = 0; step < 20000; step++) {
		u32 i = prng_below(&rnd, REQUESTS);

		if (submitted == done_count || (req[i].arg && submitted - done_count < 150) || !req[i].done) {
			if (!req[i].done || req[i].arg) {
				u32 pages = 1 + prng_below(&rnd, BLK_PAGES_MAX);

				submitted++;
				submit(i, prng_below(&rnd, 2), prng_below(&rnd, 2) ? BLK_WRITE : BLK_READ,
				       prng_below(&rnd, PART_PAGES - pages), pages);
			}
		}
		if (prng_below(&rnd, 500) == 0)
			fake.swallow = prng_below(&rnd, 4);
		if (prng_below(&rnd, 700) == 0)
			fake.csts |= NVME_CSTS_CFS;
		fake.reversed = prng_below(&rnd, 2);
		fake.ignore_abort = prng_below(&rnd, 2);
		fake.fail_status = prng_below(&rnd, 20) == 0 ? 0x281 : 0;
		fake_now_ns += prng_below(&rnd, 60) * NSEC_PER_MSEC;
		fake_nvme_run(&fake, prng_below(&rnd, 8));
		nvme_poll(ctrl);
	}
	fake.swallow = 0;
	run_until_done(submitted);
	assert_int_equal(part[0]->dev->in_flight + part[1]->dev->in_flight, 0);
	assert_false(part[0]->dev->gone);
	assert_true(fake.enables > 5);
	fake.fail_status = 0;
	write_and_read_back(0, 32, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_start_finds_namespaces),
	    T(test_start_without_namespace_list),
	    T(test_start_skips_odd_namespaces),
	    T(test_start_failures),
	    T(test_transfer_sizes),
	    T(test_transfer_split_by_mdts),
	    T(test_many_in_flight),
	    T(test_small_rings),
	    T(test_doorbell_stride),
	    T(test_flush),
	    T(test_flush_without_cache),
	    T(test_raw_read),
	    T(test_submit_checks),
	    T(test_io_error),
	    T(test_error_stops_pieces),
	    T(test_passing_fault_is_retried_once),
	    T(test_unknown_completions),
	    T(test_hang_is_aborted_and_retried),
	    T(test_hang_without_abort_resets),
	    T(test_hang_for_good_times_out_then_gone),
	    T(test_slow_is_not_dead),
	    T(test_one_lost_among_many),
	    T(test_fatal_status),
	    T(test_reset_fails_for_good),
	    T(test_stuck_disable_never_frees_frames_early),
	    T(test_removed),
	    T(test_pulled),
	    T(test_storm),
	    T(test_shutdown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
