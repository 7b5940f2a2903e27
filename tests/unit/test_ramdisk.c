/* drivers/ramdisk.c: the option; content, order and time of requests; the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/ramdisk.h"
#include "lib/err.h"
#include "lib/lock.h"
#include "lib/timer.h"
#include "lib/work.h"
#include "mm/blk.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"

#define FRAMES   16384
#define REQUESTS 100U

static struct blk_req req[REQUESTS];
static u32 order[REQUESTS], ended;
static struct blk_part *swap, *data;

static void test_option(void **state)
{
	static const char *const bad[] = {"",
					  "1",
					  "1,",
					  ",1",
					  "1,2,",
					  "1,2,3,4,5",
					  "1,2,3,4,",
					  "x,2",
					  "1;2",
					  "2049,1",
					  "1,2049",
					  "1,2,10000001",
					  "99999999999999999999,1",
					  "1 ,2",
					  "-1,2"};
	struct ramdisk_config c = {0};

	(void)state;
	assert_int_equal(ramdisk_parse("64,2048", &c), 0);
	assert_int_equal(c.swap_mib, 64);
	assert_int_equal(c.data_mib, 2048);
	assert_int_equal(c.latency_us, RAMDISK_LATENCY_US);
	assert_int_equal(c.page_us, RAMDISK_PAGE_US);
	assert_int_equal(ramdisk_parse("0,1,0,7", &c), 0);
	assert_int_equal(c.swap_mib, 0);
	assert_int_equal(c.latency_us, 0);
	assert_int_equal(c.page_us, 7);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(ramdisk_parse(bad[i], &c), E_INVAL);
	assert_int_equal(c.page_us, 7);
}

static void on_done(struct blk_req *r)
{
	lock_assert_none();
	assert_int_equal(r->status, 0);
	order[ended++] = (u32)(r - req);
}

/* The hypervisor's loop, up to a time. */
static void run_until(u64 ns)
{
	for (; fake_now_ns < ns; fake_now_ns += NSEC_PER_USEC) {
		timer_run_expired(fake_now_ns);
		while (work_pending())
			work_run(1);
	}
}

static void submit(struct blk_part *part, u32 i, enum blk_op op, u64 page, u32 pages)
{
	req[i].op = op;
	req[i].page = page;
	req[i].pages = pages;
	req[i].done = on_done;
	for (u32 p = 0; p < pages; p++) {
		if (!req[i].frame[p])
			req[i].frame[p] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false);
		assert_int_not_equal(req[i].frame[p], HFN_NONE);
	}
	blk_submit(part, &req[i]);
}

static u64 *word(u32 i, u32 p)
{
	return mm_hfn_to_va(req[i].frame[p]);
}

/* One machine for all: devices stay registered for good. A disk for which there is no memory is left out before. */
static int start(void **state)
{
	static const struct ramdisk_config c = {8, 4, 100, 4}, too_large = {2048, 0, 100, 4};
	u32 before;

	(void)state;
	fake_platform_reset();
	fake_mm_start(FRAMES);
	before = frame_free_count();
	ramdisk_configure(&too_large);
	ramdisk_init();
	if (frame_free_count() != before || !fake_log_has("no 2048 MiB") || blk_next(NULL))
		return 1;
	ramdisk_configure(&c);
	ramdisk_init();
	swap = blk_part_next(NULL, BLK_PART_SWAP);
	data = blk_part_next(NULL, BLK_PART_GUEST_DATA);
	return !swap || !data;
}

static int stop(void **state)
{
	(void)state;
	fake_mm_stop();
	return 0;
}

static int fresh(void **state)
{
	(void)state;
	memset(req, 0, sizeof(req));
	ended = 0;
	return 0;
}

static void test_parts(void **state)
{
	(void)state;
	assert_int_equal(swap->pages, 8 * MIB / PAGE_SIZE);
	assert_int_equal(data->pages, 4 * MIB / PAGE_SIZE);
	assert_true(swap->dev->whole && swap->dev != data->dev);
	assert_null(blk_part_next(swap, BLK_PART_SWAP));
}

/* Every page keeps what was written to it, across the blocks it is made of; the rest is zero. */
static void test_content(void **state)
{
	(void)state;
	submit(swap, 0, BLK_READ, 1000, 32);
	memset(word(0, 7), 0xaa, PAGE_SIZE);
	run_until(fake_now_ns + NSEC_PER_MSEC);
	assert_int_equal(ended, 1);
	assert_true(*word(0, 7) == 0);
	for (u32 i = 0; i < 32; i++) {
		submit(swap, i, BLK_WRITE, i * 32, 32);
		for (u32 p = 0; p < 32; p++)
			*word(i, p) = 1000000 + i * 32 + p;
	}
	submit(data, 40, BLK_WRITE, 512, 1);
	*word(40, 0) = 5;
	run_until(fake_now_ns + 10 * NSEC_PER_MSEC);
	assert_int_equal(ended, 34);
	for (u32 i = 0; i < 32; i++)
		submit(swap, i, BLK_READ, (31 - i) * 32, 32);
	submit(data, 40, BLK_READ, 512, 1);
	*word(40, 0) = 6;
	run_until(fake_now_ns + 10 * NSEC_PER_MSEC);
	assert_int_equal(ended, 67);
	for (u32 i = 0; i < 32; i++)
		for (u32 p = 0; p < 32; p++)
			assert_true(*word(i, p) == 1000000 + (31 - i) * 32 + p);
	assert_true(*word(40, 0) == 5);
}

/* A request takes its latency and its pages; the pages of those before it come first, their latencies overlap. */
static void test_time(void **state)
{
	u64 begin = fake_now_ns;

	(void)state;
	submit(swap, 0, BLK_READ, 0, 1);
	submit(swap, 1, BLK_READ, 0, 10);
	submit(swap, 2, BLK_WRITE, 0, 1);
	submit(swap, 3, BLK_FLUSH, 0, 0);
	submit(data, 4, BLK_READ, 0, 1);
	run_until(begin + 103 * NSEC_PER_USEC);
	assert_int_equal(ended, 0);
	run_until(begin + 106 * NSEC_PER_USEC);
	assert_int_equal(ended, 2); /* one of each disk */
	run_until(begin + 143 * NSEC_PER_USEC);
	assert_int_equal(ended, 2);
	run_until(begin + 146 * NSEC_PER_USEC);
	assert_int_equal(ended, 3);
	run_until(begin + 150 * NSEC_PER_USEC);
	assert_int_equal(ended, 5);
	assert_int_equal(order[2], 1);
	assert_int_equal(order[3], 2);
	assert_int_equal(order[4], 3);
}

static void test_many(void **state)
{
	(void)state;
	for (u32 i = 0; i < REQUESTS; i++)
		submit(swap, i, i % 2 ? BLK_READ : BLK_WRITE, i * 10, 1 + i % 3);
	assert_int_equal(swap->dev->in_flight, REQUESTS);
	run_until(fake_now_ns + 2 * NSEC_PER_MSEC);
	assert_int_equal(ended, REQUESTS);
	for (u32 i = 0; i < REQUESTS; i++)
		assert_int_equal(order[i], i);
}

/* Last: nothing is lost, and nothing goes there any more. */
static void test_shutdown(void **state)
{
	(void)state;
	for (u32 i = 0; i < 60; i++)
		submit(swap, i, BLK_WRITE, i, 8);
	swap->dev->ops->shutdown(swap->dev);
	assert_int_equal(ended, 60);
	assert_int_equal(swap->dev->in_flight, 0);
	assert_true(swap->dev->gone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_option),
	    cmocka_unit_test_setup(test_parts, fresh),
	    cmocka_unit_test_setup(test_content, fresh),
	    cmocka_unit_test_setup(test_time, fresh),
	    cmocka_unit_test_setup(test_many, fresh),
	    cmocka_unit_test_setup(test_shutdown, fresh),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
