/* The compression tier over the real address spaces: what is kept, what goes on to swap, what comes back, and what is
 * damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "mm/zip.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/mm_test.h"

#define FRAMES 2048U
#define SLOTS  1024U
#define PAGES  400U

static struct gspace gs;
static struct prng rnd;
static struct zip_stats zip;

static void begin(bool with_swap)
{
	const struct mem_alloc alloc = {.limit = PAGES, .shares = 10};

	mm_test_start(FRAMES, SLOTS);
	prng_seed(&rnd, 11);
	zip_init(3, 10);
	reclaim_init(NULL);
	assert_int_equal(gspace_init(&gs, "vm", PAGES, &fake_format, &alloc), 0);
	reclaim_add(&gs);
	if (with_swap) {
		assert_int_equal(swap_on(&fake_blk_part), 0);
		assert_int_equal(swap_reserve(&gs, PAGES), 0);
	}
}

static int start(void **state)
{
	(void)state;
	begin(true);
	return 0;
}

static int start_without_swap(void **state)
{
	(void)state;
	begin(false);
	return 0;
}

static void end_space(void)
{
	assert_int_equal(gspace_verify_all(), 0);
	reclaim_remove(&gs);
	for (int i = 0; !gspace_destroy_some(&gs, 64); i++) {
		if (i > 3)
			fake_blk_drain();
		assert_true(i < 1000);
	}
	swap_unreserve(&gs);
	assert_int_equal(frame_state_count(FRAME_ZIP), 0);
}

static int finish(void **state)
{
	(void)state;
	end_space();
	mm_test_stop();
	return 0;
}

/* ---- contents ------------------------------------------------------------- */

enum content { SOFT, SAME, HARD };

/* Unlike any other page's: `version` makes another one. */
static void content(u8 *page, gfn_t gfn, u32 version, enum content kind)
{
	struct prng p;
	u64 *word = (u64 *)page, soft = 0;

	prng_seed(&p, (u64)version << 32 | gfn);
	for (u32 i = 0; i < PAGE_SIZE / 8; i++) {
		if (i % 8 == 0)
			soft = prng_next(&p);
		word[i] = kind == SAME ? 0x5151515151515151UL + gfn : kind == HARD ? prng_next(&p) : soft;
	}
}

static void write_page(gfn_t gfn, u32 version, enum content kind)
{
	u8 page[PAGE_SIZE];

	content(page, gfn, version, kind);
	gs.order_next = GFN_NONE; /* it is given this page alone */
	assert_int_equal(gspace_touch(&gs, gfn, GSPACE_WRITE), 0);
	assert_int_equal(gspace_write(&gs, gfn_to_gpa(gfn), page, PAGE_SIZE), 0);
}

static void check_page(gfn_t gfn, u32 version, enum content kind)
{
	u8 page[PAGE_SIZE], is[PAGE_SIZE];
	int err;

	content(page, gfn, version, kind);
	while ((err = gspace_read(&gs, gfn_to_gpa(gfn), is, PAGE_SIZE)) == E_AGAIN)
		fake_blk_drain();
	assert_int_equal(err, 0);
	assert_memory_equal(is, page, PAGE_SIZE);
}

static void out(u32 pages)
{
	for (u32 i = 0; i < 20 && pages; i++) {
		u32 n = swap_out(&gs, pages);

		pages -= MIN(pages, n);
	}
	fake_blk_drain();
	assert_int_equal(gspace_verify_all(), 0);
	zip_stats(&zip);
}

/* ---- tests ---------------------------------------------------------------- */

static void test_there_and_back(void **state)
{
	u32 held;

	(void)state;
	for (gfn_t gfn = 0; gfn < 60; gfn++)
		write_page(gfn, 0, gfn % 3 ? SOFT : SAME);
	held = gspace_consumed(&gs);
	out(60);
	assert_int_equal(gs.count[PAGE_COMPRESSED], 60);
	assert_int_equal(gs.count[PAGE_SWAPPED], 0);
	assert_int_equal(zip.pages, 60);
	assert_int_equal(zip.same, 20);
	assert_int_equal(zip.same_pages, 20);
	assert_int_equal(zip.frames, gs.zip.frames);
	assert_true(zip.frames && zip.frames <= 20 && zip.bytes && zip.bytes <= 40 * ZPOOL_BYTES_MAX);
	assert_int_equal(gspace_consumed(&gs), zip.frames);
	assert_true(held == 60 && fake_mm.vectors > 0);
	for (gfn_t gfn = 0; gfn < 60; gfn++)
		check_page(gfn, 0, gfn % 3 ? SOFT : SAME);
	zip_stats(&zip);
	assert_int_equal(zip.out, 60);
	assert_int_equal(zip.pages + zip.frames + zip.same_pages, 0);
	assert_int_equal(gs.stats.zip_in, 60);
	assert_int_equal(gs.stats.zip_out, 60);
	assert_int_equal(zip.errors, 0);
}

/* The vector registers are asked for once for a batch. */
static void test_once_a_batch(void **state)
{
	(void)state;
	for (gfn_t gfn = 0; gfn < 30; gfn++)
		write_page(gfn, 0, SOFT);
	assert_int_equal(swap_out(&gs, 30), 30);
	assert_int_equal(fake_mm.vectors, 1);
}

static void test_poor_pages_are_swapped(void **state)
{
	(void)state;
	for (gfn_t gfn = 0; gfn < 50; gfn++)
		write_page(gfn, 0, gfn % 2 ? HARD : SOFT);
	out(50);
	assert_int_equal(gs.count[PAGE_COMPRESSED], 25);
	assert_int_equal(gs.count[PAGE_SWAPPED], 25);
	assert_int_equal(zip.poor, 25);
	for (gfn_t gfn = 0; gfn < 50; gfn++)
		check_page(gfn, 0, gfn % 2 ? HARD : SOFT);
}

static void test_full_pool_sends_on(void **state)
{
	(void)state;
	gs.zip_percent = 1; /* four frames */
	fake_blk.hold = true;
	for (gfn_t gfn = 0; gfn < 100; gfn++)
		write_page(gfn, 0, SOFT);
	for (u32 i = 0; i < 10; i++)
		(void)swap_out(&gs, 100);
	zip_stats(&zip);
	assert_int_equal(zip_max_frames(&gs), 4);
	assert_int_equal(gs.zip.frames, 4);
	assert_true(zip.full > 0 && gs.count[PAGE_SWAPPING_OUT] > 30);
	fake_blk.hold = false;
	fake_blk_drain();
	for (gfn_t gfn = 0; gfn < 100; gfn++)
		check_page(gfn, 0, SOFT);
}

static u64 blocks_out(void)
{
	struct swap_stats s;

	swap_stats(&s);
	return s.packed_out;
}

/* More compressed pages than the pool takes: the oldest blocks are in swap, as they are, and come back as a whole. */
static void send_blocks(void)
{
	gs.zip_percent = 2; /* eight frames, seven of which may be kept */
	for (gfn_t gfn = 0; gfn < 200; gfn++)
		write_page(gfn, 0, SOFT);
	for (u32 i = 0; i < 50 && gs.count[PAGE_PRIVATE]; i++)
		out(16);
	out(8);
}

static void test_blocks_to_swap_and_back(void **state)
{
	struct swap_stats s;
	u32 private;
	u64 reads;

	(void)state;
	send_blocks();
	assert_int_equal(gs.count[PAGE_COMPRESSED] + gs.count[PAGE_SWAPPED], 200);
	assert_true(gs.zip.frames <= 8 && gs.zip.away >= 5 && gs.count[PAGE_SWAPPED] > 50);
	swap_stats(&s);
	assert_int_equal(s.packed_out, gs.zip.away);
	assert_true(s.used < gs.count[PAGE_SWAPPED]); /* several to a slot */
	for (gfn_t gfn = 0; gfn < 200; gfn++)
		check_page(gfn, 0, SOFT);
	swap_stats(&s);
	reads = s.packed_in;
	assert_int_equal(reads, s.packed_out); /* one for all pages of a block */
	private = gs.count[PAGE_PRIVATE];
	assert_int_equal(private, 200);
	assert_int_equal(gs.zip.entries + gs.zip.frames + gs.zip.away, 0);
	assert_int_equal(s.used, gs.swap_copies);
}

/* A page that a device is going to fill is not brought back, wherever it is, and nobody's data shows in it. */
static void test_overwritten_is_not_read(void **state)
{
	struct swap_stats before, s;
	u32 n[PAGE_STATES] = {0};
	hfn_t hfn;

	(void)state;
	for (gfn_t gfn = 300; gfn < 340; gfn++)
		write_page(gfn, 0, HARD);
	out(40);
	send_blocks();
	swap_stats(&before);
	for (gfn_t gfn = 0; gfn < 340; gfn++) {
		enum page_state was = gspace_state(&gs, gfn);

		if (was != PAGE_COMPRESSED && was != PAGE_SWAPPED)
			continue;
		n[was]++;
		assert_int_equal(gspace_pin_new(&gs, gfn, &hfn), 0);
		assert_true(page_is_zero(mm_hfn_to_va(hfn)));
		gspace_unpin(&gs, gfn);
	}
	assert_true(n[PAGE_COMPRESSED] > 10 && n[PAGE_SWAPPED] > 60);
	swap_stats(&s);
	assert_int_equal(s.in, before.in);
	assert_int_equal(s.used, 0);
	assert_int_equal(gs.stats.not_read, n[PAGE_COMPRESSED] + n[PAGE_SWAPPED]);
	assert_int_equal(gs.zip.entries, 0);
}

/* What is left of a block when its pages go, one by one, wherever it is. */
static void test_blocks_are_given_up(void **state)
{
	struct swap_stats s;

	(void)state;
	send_blocks();
	assert_true(gs.zip.away);
	for (gfn_t gfn = 0; gfn < 200; gfn++)
		assert_int_equal(gspace_balloon_take(&gs, gfn), 0);
	gspace_flush(&gs);
	swap_stats(&s);
	assert_int_equal(gs.zip.entries + gs.zip.frames + gs.zip.away + s.used, 0);
}

/* Pages of a block that is on its way are touched, dropped, and the disk refuses the block. */
static void test_block_on_the_way(void **state)
{
	bool fails = *state != NULL;
	u32 n = 0;

	send_blocks();
	fake_blk.hold = true;
	for (gfn_t gfn = 200; gfn < 300; gfn++)
		write_page(gfn, 0, SOFT);
	for (u32 i = 0; i < 6 && !gs.zip.writing; i++)
		assert_true(swap_out(&gs, 16) > 0);
	assert_true(gs.zip.writing);
	for (gfn_t gfn = 0; gfn < 200; gfn++) {
		if (gspace_state(&gs, gfn) != PAGE_COMPRESSED)
			continue;
		if (n++ % 3 == 0)
			assert_int_equal(gspace_balloon_take(&gs, gfn), 0);
		else if (n % 3 == 0)
			check_page(gfn, 0, SOFT);
	}
	gspace_flush(&gs);
	assert_int_equal(gspace_verify_all(), 0);
	if (fails)
		fake_blk.bad_write_to = SLOTS;
	fake_blk.hold = false;
	fake_blk_drain();
	fake_blk.bad_write_to = 0;
	assert_int_equal(gs.zip.writing, 0);
	assert_int_equal(gspace_verify_all(), 0);
	for (gfn_t gfn = 0; gfn < 300; gfn++)
		if (gspace_state(&gs, gfn) != PAGE_BALLOONED)
			check_page(gfn, 0, SOFT);
}

/* A VM that was promised little more than it has: blocks on their way count as what they have, a slot each. */
static void test_blocks_on_the_way_keep_the_promise(void **state)
{
	u32 promised = gs.swap_reserved, most;

	(void)state;
	send_blocks();
	fake_blk.hold = true;
	for (gfn_t gfn = 200; gfn < 300; gfn++)
		write_page(gfn, 0, SOFT);
	gs.swap_reserved = most = gs.count[PAGE_SWAPPED] + gs.swap_copies + 2;
	for (u32 i = 0; i < 6; i++)
		(void)swap_out(&gs, 16);
	assert_true(gs.zip.writing);
	assert_in_range(gs.count[PAGE_SWAPPED] + gs.count[PAGE_SWAPPING_OUT] + gs.swap_copies + gs.zip.writing,
			most - 1, most);
	fake_blk.hold = false;
	fake_blk_drain();
	gs.swap_reserved = promised;
	assert_int_equal(gspace_verify_all(), 0);
}

static int start_failing(void **state)
{
	begin(true);
	*state = &gs;
	return 0;
}

static gfn_t last_packed(void)
{
	gfn_t last = GFN_NONE;
	u32 level;

	for (gfn_t gfn = 0; gfn < 200; gfn++)
		if (gspace_state(&gs, gfn) == PAGE_SWAPPED &&
		    pt_token_payload(*pt_find(&gs.pt, gfn_to_gpa(gfn).v, &level)) & SWAP_PACKED)
			last = gfn;
	assert_int_not_equal(last, GFN_NONE);
	return last;
}

static void test_block_cannot_be_read(void **state)
{
	gfn_t lost;

	(void)state;
	send_blocks();
	lost = last_packed();
	fake_blk.bad_reads_once = 1; /* is read again */
	check_page(lost, 0, SOFT);
	assert_int_equal(fake_mm.poisoned, 0);
	lost = last_packed();
	fake_blk.flip_one_in = 1;
	assert_int_equal(gspace_touch(&gs, lost, GSPACE_READ), E_AGAIN);
	assert_int_equal(gspace_touch(&gs, lost, GSPACE_READ), E_AGAIN); /* on its way */
	fake_blk_drain();
	assert_int_equal(fake_mm.poisoned, 1);
	assert_int_equal(gspace_state(&gs, lost), PAGE_SWAPPED);
	/* The last page of a block goes while the block is read, in vain. */
	assert_int_equal(gspace_touch(&gs, lost, GSPACE_READ), E_AGAIN);
	for (gfn_t gfn = 0; gfn < 200; gfn++)
		assert_int_equal(gspace_balloon_take(&gs, gfn), 0);
	fake_blk_drain();
	gspace_flush(&gs);
	assert_int_equal(fake_mm.poisoned, 1);
	assert_int_equal(gs.zip.entries + gs.zip.frames + gs.zip.away, 0);
	assert_int_equal(blocks_out() > 0, 1);
}

/* The space ends while blocks are written and read. */
static void test_end_with_transfers(void **state)
{
	(void)state;
	send_blocks();
	fake_blk.latency_ns = 50 * NSEC_PER_MSEC;
	for (gfn_t gfn = 0; gfn < 200; gfn += 40)
		if (gspace_state(&gs, gfn) == PAGE_SWAPPED)
			assert_int_equal(gspace_touch(&gs, gfn, GSPACE_READ), E_AGAIN);
	for (gfn_t gfn = 200; gfn < 300; gfn++)
		write_page(gfn, 0, SOFT);
	for (u32 i = 0; i < 6 && !gs.zip.writing; i++)
		assert_true(swap_out(&gs, 16) > 0);
	assert_true(gs.zip.writing || gs.zip.reading);
}

/* All pages but one in RAM, and that one in a frame of its own: more than the VM's size, and still it gets the page. */
static void test_last_page_comes_back(void **state)
{
	(void)state;
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		write_page(gfn, 0, SOFT);
	out(1);
	assert_int_equal(gs.count[PAGE_COMPRESSED], 1);
	assert_int_equal(gspace_consumed(&gs), PAGES);
	for (gfn_t gfn = 0; gfn < PAGES; gfn++)
		check_page(gfn, 0, SOFT);
}

static void test_off(void **state)
{
	(void)state;
	write_page(0, 0, SOFT);
	write_page(1, 0, SAME);
	gs.zip_percent = ZIP_NONE;
	out(1);
	gs.zip_percent = 0;
	zip_set_percent(0);
	out(1);
	assert_int_equal(gs.count[PAGE_SWAPPED], 2);
	assert_int_equal(zip.in + zip.poor + zip.full, 0);
	gs.zip_percent = 30; /* the host's word counts more */
	assert_int_equal(zip_max_frames(&gs), 0);
	zip_set_percent(99);
	assert_int_equal(zip_max_frames(&gs), PAGES * 30 / 100);
	gs.zip_percent = 0;
	assert_int_equal(zip_max_frames(&gs), PAGES * ZIP_PERCENT_MAX / 100);
}

/* What did not compress is tried again when it has changed, and not before. */
static void test_poor_is_remembered(void **state)
{
	(void)state;
	for (gfn_t gfn = 0; gfn < 32; gfn++)
		write_page(gfn, 0, HARD);
	for (u32 i = 0; i < 5; i++)
		assert_int_equal(swap_out(&gs, 32), 0);
	zip_stats(&zip);
	assert_int_equal(zip.poor, 32);
	for (gfn_t gfn = 0; gfn < 8; gfn++) /* by us */
		write_page(gfn, 1, SOFT);
	for (gfn_t gfn = 8; gfn < 16; gfn++) { /* by the guest: its processor marks the entry */
		u32 level;
		u64 *e = pt_find(&gs.pt, gfn_to_gpa(gfn).v, &level);

		content(mm_hfn_to_va(hpa_to_hfn(pt_entry_hpa(gs.pt.fmt, *e, level))), gfn, 1, SOFT);
		*e |= gs.pt.fmt->dirty;
	}
	out(32);
	assert_int_equal(gs.count[PAGE_COMPRESSED], 16);
	assert_int_equal(gs.count[PAGE_PRIVATE], 16);
	assert_int_equal(zip.poor, 32);
	for (gfn_t gfn = 0; gfn < 32; gfn++)
		check_page(gfn, gfn < 16, gfn < 16 ? SOFT : HARD);
}

static void test_without_swap(void **state)
{
	(void)state;
	for (gfn_t gfn = 0; gfn < 40; gfn++)
		write_page(gfn, 0, gfn % 2 ? HARD : SOFT);
	out(40);
	assert_int_equal(gs.count[PAGE_COMPRESSED], 20);
	assert_int_equal(gs.count[PAGE_PRIVATE], 20);
	for (gfn_t gfn = 0; gfn < 40; gfn++)
		check_page(gfn, 0, gfn % 2 ? HARD : SOFT);
}

/* No frame for the pool, or none for the page that comes back: nothing is lost either way. */
static void test_no_memory(void **state)
{
	static hfn_t taken[FRAMES];
	u32 n = 0;

	(void)state;
	for (gfn_t gfn = 0; gfn < 40; gfn++)
		write_page(gfn, 0, SOFT);
	while ((taken[n] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false)) != HFN_NONE)
		n++;
	out(40);
	assert_true(zip.no_memory > 0 && gs.count[PAGE_SWAPPED] > 0);
	assert_int_equal(gs.count[PAGE_PRIVATE], 0);
	while (n > 20)
		frame_free(taken[--n], 0);
	for (gfn_t gfn = 0; gfn < 40; gfn++)
		check_page(gfn, 0, SOFT);
	for (gfn_t gfn = 0; gfn < 40; gfn++)
		write_page(gfn, 1, SOFT);
	out(20);
	assert_true(gs.count[PAGE_COMPRESSED] > 0);
	while (frame_free_count() && n < FRAMES)
		taken[n++] = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false);
	for (gfn_t gfn = 0; gfn < 40; gfn++)
		if (gspace_state(&gs, gfn) == PAGE_COMPRESSED)
			assert_int_equal(gspace_touch(&gs, gfn, GSPACE_READ), E_AGAIN);
	while (n)
		frame_free(taken[--n], 0);
	for (gfn_t gfn = 0; gfn < 40; gfn++)
		check_page(gfn, 1, SOFT);
}

/* The guest writes while its page is on the way: in the shootdown, before the page is compressed. */
static gfn_t rescued;

static void rescue(struct gspace *space)
{
	if (rescued != GFN_NONE && gspace_state(space, rescued) == PAGE_SWAPPING_OUT) {
		gfn_t gfn = rescued;

		rescued = GFN_NONE;
		write_page(gfn, 1, SOFT);
	}
}

static void test_rescued(void **state)
{
	(void)state;
	for (gfn_t gfn = 0; gfn < 20; gfn++)
		write_page(gfn, 0, SOFT);
	rescued = 7;
	fake_mm_on_shootdown = rescue;
	out(20);
	fake_mm_on_shootdown = NULL;
	assert_int_equal(rescued, GFN_NONE);
	assert_int_equal(gs.stats.swap_rescued, 1);
	for (gfn_t gfn = 0; gfn < 20; gfn++)
		check_page(gfn, gfn == 7, SOFT);
}

static void test_dropped(void **state)
{
	(void)state;
	for (gfn_t gfn = 0; gfn < 20; gfn++)
		write_page(gfn, 0, gfn % 2 ? SOFT : SAME);
	out(20);
	for (gfn_t gfn = 0; gfn < 20; gfn++)
		assert_int_equal(gspace_balloon_take(&gs, gfn), 0);
	assert_int_equal(gs.count[PAGE_BALLOONED], 20);
	assert_int_equal(gs.zip.entries + gs.zip.frames, 0);
	gspace_flush(&gs);
}

/* A bit of the pool turns: the guest that wants the page ends, and never sees it. */
static void test_damage_is_noticed(void **state)
{
	struct zpage page;
	u32 level, lost = 0;

	(void)state;
	for (gfn_t gfn = 0; gfn < 20; gfn++)
		write_page(gfn, 0, SOFT);
	out(20);
	for (gfn_t gfn = 0; gfn < 20; gfn++) {
		u64 e = *pt_find(&gs.pt, gfn_to_gpa(gfn).v, &level);

		zpool_look(&gs.zip, (u32)pt_token_payload(e), &page);
		((u8 *)page.data)[prng_below(&rnd, page.bytes)] ^= 1 << prng_below(&rnd, 8);
		assert_int_equal(gspace_touch(&gs, gfn, GSPACE_READ), E_IO);
		assert_int_equal(gspace_state(&gs, gfn), PAGE_COMPRESSED);
		assert_int_equal(fake_mm.poisoned, ++lost);
	}
	assert_non_null(strstr(fake_mm_poison_why, "compressed"));
	zip_stats(&zip);
	assert_int_equal(zip.errors, lost);
}

/* A page goes out n times, and is wanted again or given up. Returns how often it was compressed. */
static u64 rounds(u32 n, bool read)
{
	u64 before = gs.stats.zip_in;

	for (u32 i = 0; i < n; i++) {
		write_page(0, i, SOFT);
		out(1);
		if (read)
			check_page(0, i, SOFT);
		else
			assert_true(gspace_overwrite(&gs, 0));
	}
	return gs.stats.zip_in - before;
}

/* Whose pages are overwritten before anybody reads them: they go to swap, until they are read again. */
static void test_pages_given_up_are_not_worth_it(void **state)
{
	u64 some;

	(void)state;
	some = rounds(200, true);
	assert_int_equal(some, 200);
	rounds(300, false); /* as often as they were read, and some */
	assert_true(gs.stats.zip_unread > 200);
	some = rounds(320, false);
	assert_in_range(some, 1, 320 / 10);
	assert_true(gs.stats.swap_out > 200);
	rounds(16 * 300, true); /* those that are compressed all the same come back, and count */
	assert_int_equal(rounds(100, true), 100);
}

/* A disk read overwrites a compressed page: nobody has read that. */
static void test_filled_from_disk_is_unread(void **state)
{
	hfn_t hfn;

	(void)state;
	for (u32 i = 0; i < 10; i++) {
		write_page(0, i, SOFT);
		out(1);
		assert_int_equal(gspace_state(&gs, 0), PAGE_COMPRESSED);
		assert_int_equal(gspace_pin_new(&gs, 0, &hfn), 0);
		gspace_unpin(&gs, 0);
		assert_int_equal(gs.stats.zip_unread, i + 1);
		assert_int_equal(gs.stats.not_read, i + 1);
	}
}

/* Without swap there is only compression. */
static void test_given_up_or_not_without_swap(void **state)
{
	(void)state;
	assert_int_equal(rounds(500, false), 500);
	assert_int_equal(rounds(50, true), 50);
}

/* Each length that LZ4 can make of a page. */
static void test_all_lengths(void **state)
{
	u8 page[PAGE_SIZE], is[PAGE_SIZE];

	(void)state;
	for (u32 random = 0; random <= PAGE_SIZE; random += 16) {
		for (u32 i = 0; i < PAGE_SIZE; i++)
			page[i] = i < random ? (u8)prng_next(&rnd) : i >> 5;
		assert_int_equal(gspace_touch(&gs, 0, GSPACE_WRITE), 0);
		assert_int_equal(gspace_write(&gs, GPA(0), page, PAGE_SIZE), 0);
		assert_int_equal(swap_out(&gs, 1), 1);
		fake_blk_drain();
		while (gspace_read(&gs, GPA(0), is, PAGE_SIZE))
			fake_blk_drain();
		assert_memory_equal(is, page, PAGE_SIZE);
	}
	zip_stats(&zip);
	assert_true(zip.in > 100 && zip.poor > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_there_and_back, start, finish),
	    cmocka_unit_test_setup_teardown(test_once_a_batch, start, finish),
	    cmocka_unit_test_setup_teardown(test_poor_pages_are_swapped, start, finish),
	    cmocka_unit_test_setup_teardown(test_full_pool_sends_on, start, finish),
	    cmocka_unit_test_setup_teardown(test_blocks_to_swap_and_back, start, finish),
	    cmocka_unit_test_setup_teardown(test_blocks_are_given_up, start, finish),
	    cmocka_unit_test_setup_teardown(test_overwritten_is_not_read, start, finish),
	    cmocka_unit_test_setup_teardown(test_blocks_on_the_way_keep_the_promise, start, finish),
	    cmocka_unit_test_setup_teardown(test_block_on_the_way, start, finish),
	    cmocka_unit_test_setup_teardown(test_block_on_the_way, start_failing, finish),
	    cmocka_unit_test_setup_teardown(test_block_cannot_be_read, start, finish),
	    cmocka_unit_test_setup_teardown(test_end_with_transfers, start, finish),
	    cmocka_unit_test_setup_teardown(test_last_page_comes_back, start, finish),
	    cmocka_unit_test_setup_teardown(test_off, start, finish),
	    cmocka_unit_test_setup_teardown(test_poor_is_remembered, start_without_swap, finish),
	    cmocka_unit_test_setup_teardown(test_without_swap, start_without_swap, finish),
	    cmocka_unit_test_setup_teardown(test_no_memory, start, finish),
	    cmocka_unit_test_setup_teardown(test_rescued, start, finish),
	    cmocka_unit_test_setup_teardown(test_dropped, start, finish),
	    cmocka_unit_test_setup_teardown(test_damage_is_noticed, start, finish),
	    cmocka_unit_test_setup_teardown(test_pages_given_up_are_not_worth_it, start, finish),
	    cmocka_unit_test_setup_teardown(test_filled_from_disk_is_unread, start, finish),
	    cmocka_unit_test_setup_teardown(test_given_up_or_not_without_swap, start_without_swap, finish),
	    cmocka_unit_test_setup_teardown(test_all_lengths, start, finish),
	};

	return cmocka_run_group_tests_name("zip", tests, NULL, NULL);
}
