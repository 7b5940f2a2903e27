/*
 * Pages that are copies of blocks of their VM's disk, and pages that are to be overwritten: out, back, and every way
 * that goes wrong.
 */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "mm/zip.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/mm_test.h"
#include "tests/unit/space_test.h"

#define FRAMES 4096U
#define SLOTS  2048U
#define BLOCKS 1024U
#define PAGES  (2 * LARGE_PAGES)
#define START  16U /* of the VM's slice of the partition */

static struct gspace gs;
static u8 written[BLOCKS / 8];
static struct blk_part data_part = {.kind = BLK_PART_GUEST_DATA, .pages = START + BLOCKS, .name = "data"};
static const struct mem_alloc settings = {.limit = PAGES, .shares = 10};

static u64 *block_at(u32 block)
{
	return fake_blk_page(SLOTS + START + block);
}

static void write_block(u32 block, u64 stamp)
{
	for (u32 i = 0; i < PAGE_SIZE / 8; i++)
		block_at(block)[i] = stamp * (i + 1);
	written[block / 8] |= 1 << block % 8;
}

static void start_with(const struct pt_format *format)
{
	mm_test_start(FRAMES, SLOTS + START + BLOCKS);
	fake_blk_part.pages = SLOTS;
	if (!data_part.dev) {
		data_part.dev = fake_blk_part.dev;
		data_part.start = fake_blk_part.start + SLOTS * PAGE_SIZE / BLK_SECTOR;
		blk_register_part(&data_part);
	}
	memset(written, 0, sizeof(written));
	clean_init();
	zip_init(3, 0);
	reclaim_init(&(struct reclaim_config){.min_free = 1});
	frame_set_reserve(0);
	assert_int_equal(gspace_init(&gs, "vm", PAGES, format, &settings), 0);
	gspace_set_disk(&gs, &(struct clean_disk){&data_part, START, BLOCKS, written});
	gs.target = 0; /* so that nothing is large, and nothing read ahead, unless a test wants it */
}

static int start(void **state)
{
	(void)state;
	start_with(&fake_format);
	return 0;
}

static int start_plain(void **state)
{
	(void)state;
	start_with(&fake_format_plain);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	gspace_flush(&gs);
	assert_int_equal(gspace_verify_all(), 0);
	destroy(&gs);
	mm_test_stop();
	return 0;
}

/* One hint; its status. */
static u32 tell(gfn_t gfn, enum hint_op op, u64 block)
{
	struct hint h = {(u64)gfn << PAGE_SHIFT | op, block};
	int n = clean_hints(&gs, &h, 1);

	assert_true(n >= 0 && n == !(h.page >> 4 & 0xff));
	return h.page >> 4 & 0xff;
}

/* Pages gfn and on, with stamps 1000 + page, are copies of blocks `block` and on. */
static void copies(gfn_t gfn, u32 block, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		fill(&gs, gfn + i, 1000 + gfn + i);
		write_block(block + i, 1000 + gfn + i);
		assert_int_equal(tell(gfn + i, HINT_CLEAN, block + i), HINT_OK);
	}
	gspace_flush(&gs);
	assert_int_equal(gspace_verify_all(), 0);
}

/* All marked pages are dropped. */
static void drop(u32 n)
{
	u32 done = 0;

	for (u32 i = 0; i < 20; i++)
		done += gspace_clean_drop(&gs, 64, 0);
	assert_int_equal(done, n);
	gspace_flush(&gs);
	assert_int_equal(gspace_verify_all(), 0);
}

static void test_out_and_back(void **state)
{
	u32 free;

	(void)state;
	copies(10, 3, 1);
	assert_int_equal(gs.clean_marks, 1);
	free = frame_free_count();
	drop(1);
	expect_state(&gs, 10, PAGE_CLEAN);
	assert_int_equal(frame_free_count(), free + 1);
	assert_int_equal(fake_blk.written + fake_blk.read, 0);
	assert_int_equal(gspace_touch(&gs, 10, GSPACE_READ), E_AGAIN);
	expect_state(&gs, 10, PAGE_SWAPPING_IN);
	assert_int_equal(gspace_touch(&gs, 10, GSPACE_WRITE), E_AGAIN);
	assert_true(clean_busy(&gs));
	fake_blk_drain();
	expect_state(&gs, 10, PAGE_PRIVATE);
	expect_stamp(&gs, 10, 1010);
	assert_int_equal(fake_blk.read, 1);
	/* It is still a copy. */
	assert_int_equal(gs.clean_marks, 1);
	drop(1);
	expect_state(&gs, 10, PAGE_CLEAN);
	assert_int_equal(gs.stats.clean_out, 2);
	assert_int_equal(gs.stats.clean_in, 1);
	assert_int_equal(gs.count[PAGE_SWAPPED], 0);
}

/* With and without dirty bits: a page that was written is no copy. */
static void test_write_ends_mark(void **state)
{
	u64 word = 7;

	(void)state;
	copies(10, 3, 4);
	assert_false(gs.pt.fmt->leaf_prot(*look(&gs, 10).entry, 1) & PT_W);
	touch(&gs, 10, GSPACE_READ);
	assert_int_equal(gs.clean_marks, 4);
	touch(&gs, 10, GSPACE_WRITE); /* the guest's */
	assert_true(gs.pt.fmt->leaf_prot(*look(&gs, 10).entry, 1) & PT_W);
	assert_int_equal(gspace_write(&gs, GPA(11UL << PAGE_SHIFT), &word, 8), 0);
	assert_int_equal(gs.clean_marks, 2);
	assert_int_equal(tell(12, HINT_OVERWRITE, 0), HINT_OK);
	assert_int_equal(tell(13, HINT_CHANGED, 0), HINT_OK);
	assert_int_equal(gs.clean_marks, 0);
	drop(0);
	for (gfn_t gfn = 10; gfn < 14; gfn++)
		expect_state(&gs, gfn, PAGE_PRIVATE);
	/* A page that comes back is write-protected, too. */
	copies(20, 8, 1);
	drop(1);
	assert_int_equal(gspace_touch(&gs, 20, GSPACE_WRITE), E_AGAIN);
	fake_blk_drain();
	assert_false(gs.pt.fmt->leaf_prot(*look(&gs, 20).entry, 1) & PT_W);
	touch(&gs, 20, GSPACE_WRITE);
	assert_int_equal(gs.clean_marks, 0);
	expect_stamp(&gs, 20, 1020);
}

/* The mark holds once no processor has the page writable any more. */
static void test_flush(void **state)
{
	struct hint h = {10UL << PAGE_SHIFT | HINT_CLEAN, 1};
	u64 gen;

	(void)state;
	fill(&gs, 10, 5);
	gspace_flush(&gs);
	gen = gs.tlb_gen;
	assert_int_equal(clean_hints(&gs, &h, 1), 1);
	assert_int_equal(gs.tlb_gen, gen + 1);
	assert_false(gs.tlb_stale);
	touch(&gs, 10, GSPACE_WRITE); /* widens: needs none */
	assert_false(gs.tlb_stale);
}

/* Nothing of an earlier user of the disk is ever seen. */
static void test_unwritten_is_zero(void **state)
{
	(void)state;
	memset(block_at(5), 0x5e, 2 * PAGE_SIZE);
	fill(&gs, 10, 0);
	fill(&gs, 11, 0);
	assert_int_equal(tell(10, HINT_CLEAN, 5), HINT_OK);
	assert_int_equal(tell(11, HINT_CLEAN, 6), HINT_OK);
	drop(2);
	touch(&gs, 10, GSPACE_READ);
	expect_state(&gs, 10, PAGE_ZERO);
	touch(&gs, 11, GSPACE_WRITE);
	expect_state(&gs, 11, PAGE_PRIVATE);
	expect_stamp(&gs, 10, 0);
	expect_stamp(&gs, 11, 0);
	assert_int_equal(fake_blk.read, 0);
	/* Nor is it read along with a block that was written. */
	copies(20, 4, 1);
	fill(&gs, 21, 0);
	assert_int_equal(tell(21, HINT_CLEAN, 5), HINT_OK);
	drop(2);
	assert_int_equal(tell(21, HINT_CLEAN, 6), HINT_OK); /* or, while it is away, of another */
	assert_int_equal(tell(21, HINT_CLEAN, 5), HINT_OK);
	gs.target = PAGES;
	gs.clean_next = 20;
	gs.clean_window = 16;
	assert_int_equal(gspace_touch(&gs, 20, GSPACE_READ), E_AGAIN);
	fake_blk_drain();
	assert_int_equal(fake_blk.read, 1);
	touch(&gs, 21, GSPACE_READ);
	expect_stamp(&gs, 21, 0);
}

static void out_to_swap(gfn_t gfn)
{
	hfn_t hfn;

	assert_int_equal(gspace_swap_out_begin(&gs, gfn, &hfn), 0);
	gspace_flush(&gs);
}

static void all_out(void)
{
	for (u32 i = 0; i < 50; i++) {
		swap_out(&gs, 64);
		fake_blk_drain();
	}
}

static void test_overwrite(void **state)
{
	struct swap_stats s;
	hfn_t hfn;

	(void)state;
	assert_int_equal(swap_on(&fake_blk_part), 0);
	assert_int_equal(swap_reserve(&gs, PAGES), 0);
	for (gfn_t gfn = 0; gfn < 8; gfn++)
		fill(&gs, gfn, 50 + gfn * gfn);
	all_out();
	assert_int_equal(gs.count[PAGE_SWAPPED], 8);
	for (gfn_t gfn = 0; gfn < 8; gfn++) {
		assert_int_equal(tell(gfn, HINT_OVERWRITE, 0), HINT_OK);
		expect_state(&gs, gfn, PAGE_ABSENT);
	}
	swap_stats(&s);
	assert_int_equal(s.used, 0);
	assert_int_equal(gs.stats.not_read, 8);
	fake_blk.read = 0;
	touch(&gs, 3, GSPACE_WRITE);
	expect_stamp(&gs, 3, 0);
	assert_int_equal(fake_blk.read, 0);
	/* On its way out: its frame goes with the transfer. */
	fill(&gs, 4, 9);
	assert_int_equal(gspace_swap_out_begin(&gs, 4, &hfn), 0);
	gspace_flush(&gs);
	assert_int_equal(tell(4, HINT_OVERWRITE, 0), HINT_OK);
	expect_state(&gs, 4, PAGE_ABSENT);
	fill(&gs, 4, 10);
	gspace_swap_out_failed(&gs, 4, hfn);
	expect_stamp(&gs, 4, 10);
	/* On its way in, here, given up, or never there: it is as it was. */
	copies(20, 3, 1);
	drop(1);
	assert_int_equal(gspace_touch(&gs, 20, GSPACE_READ), E_AGAIN);
	assert_int_equal(tell(20, HINT_OVERWRITE, 0), HINT_OK);
	expect_state(&gs, 20, PAGE_SWAPPING_IN);
	fake_blk_drain();
	expect_stamp(&gs, 20, 1020);
	assert_int_equal(gspace_balloon_take(&gs, 21), 0);
	assert_int_equal(tell(21, HINT_OVERWRITE, 0), HINT_OK);
	expect_state(&gs, 21, PAGE_BALLOONED);
	assert_int_equal(tell(900, HINT_OVERWRITE, 0), HINT_OK);
	drop(1);
	assert_int_equal(tell(20, HINT_OVERWRITE, 0), HINT_OK);
	expect_state(&gs, 20, PAGE_ABSENT);
}

/* The page stays what it was although its block changes. */
static void test_changed(void **state)
{
	struct hint h[3] = {{10UL << PAGE_SHIFT | HINT_CHANGED, 0},
			    {11UL << PAGE_SHIFT | HINT_CHANGED, 0},
			    {12UL << PAGE_SHIFT | HINT_CLEAN, 7}};

	(void)state;
	fill(&gs, 12, 70);
	copies(10, 3, 2);
	drop(2);
	assert_int_equal(clean_hints(&gs, h, 3), E_AGAIN);
	assert_int_equal(gs.count[PAGE_SWAPPING_IN], 2); /* both reads have begun */
	assert_int_equal(gs.clean_marks, 0);             /* and nothing else */
	assert_int_equal(clean_hints(&gs, h, 3), E_AGAIN);
	fake_blk_drain();
	assert_int_equal(clean_hints(&gs, h, 3), 3);
	write_block(3, 1);
	write_block(4, 2);
	drop(1); /* page 12 */
	expect_stamp(&gs, 10, 1010);
	expect_stamp(&gs, 11, 1011);
	/* Of a block that was never written. */
	fill(&gs, 13, 0);
	assert_int_equal(tell(13, HINT_CLEAN, 9), HINT_OK);
	drop(1);
	assert_int_equal(tell(13, HINT_CHANGED, 0), HINT_OK);
	write_block(9, 3);
	expect_stamp(&gs, 13, 0);
}

static void test_read_errors(void **state)
{
	struct clean_stats s;

	(void)state;
	copies(10, 3, 3);
	drop(3);
	fake_blk.bad_reads_once = 1;
	assert_int_equal(gspace_touch(&gs, 10, GSPACE_READ), E_AGAIN);
	fake_blk_drain();
	expect_stamp(&gs, 10, 1010);
	assert_int_equal(fake_mm.poisoned, 0);
	fake_blk.bad_reads_once = 2;
	assert_int_equal(gspace_touch(&gs, 11, GSPACE_READ), E_AGAIN);
	fake_blk_drain();
	assert_int_equal(fake_mm.poisoned, 1);
	assert_string_equal(fake_mm_poison_why, "it cannot be read from the VM's disk");
	expect_state(&gs, 11, PAGE_CLEAN);
	clean_stats(&s);
	assert_int_equal(s.errors, 3);
	assert_int_equal(s.pages, 1);
	/* The disk goes: no read begins any more, and one under way ends without a word. */
	fake_blk.bad_reads_once = 1;
	assert_int_equal(gspace_touch(&gs, 12, GSPACE_READ), E_AGAIN);
	gspace_set_disk(&gs, NULL);
	fake_blk_drain();
	assert_int_equal(fake_mm.poisoned, 1);
	assert_int_equal(gspace_touch(&gs, 12, GSPACE_READ), E_FAULT);
	assert_int_equal(tell(10, HINT_CLEAN, 3), HINT_NOT_NOW);
	assert_false(clean_busy(&gs));
}

/* A guest that reads on gets what follows with it; an error costs only who was asked for. */
static void test_ahead(void **state)
{
	(void)state;
	copies(100, 200, 64);
	drop(64);
	gs.target = PAGES;
	for (gfn_t gfn = 100; gfn < 164; gfn++) {
		int err = gspace_touch(&gs, gfn, GSPACE_READ);

		fake_blk_drain();
		assert_true(err == 0 || err == E_AGAIN);
		expect_stamp(&gs, gfn, 1000 + gfn);
	}
	assert_int_equal(gs.stats.clean_in, 64);
	assert_in_range(gs.stats.clean_ahead, 57, 63);
	drop(64);
	gs.clean_next = 100;
	gs.clean_window = 8;
	fake_blk.bad_reads_once = 1;
	assert_int_equal(gspace_touch(&gs, 100, GSPACE_READ), E_AGAIN);
	assert_int_equal(gs.count[PAGE_SWAPPING_IN], 16);
	fake_blk_drain();
	assert_int_equal(gs.count[PAGE_PRIVATE], 1);
	assert_int_equal(gs.count[PAGE_CLEAN], 63);
	assert_int_equal(fake_mm.poisoned, 0);
	/* Not beyond what it may hold. */
	gs.target = gspace_consumed(&gs) + 3;
	gs.clean_next = 110;
	gs.clean_window = 8;
	assert_int_equal(gspace_touch(&gs, 110, GSPACE_READ), E_AGAIN);
	assert_int_equal(gs.count[PAGE_SWAPPING_IN], 3);
	fake_blk_drain();
}

/* More reads than there are records. */
static void test_many_reads(void **state)
{
	u32 begun = 0;

	(void)state;
	copies(100, 200, 64);
	drop(64);
	for (gfn_t gfn = 100; gfn < 164; gfn += 1) {
		assert_int_equal(gspace_touch(&gs, gfn, GSPACE_READ), E_AGAIN);
		begun += gspace_state(&gs, gfn) == PAGE_SWAPPING_IN;
	}
	assert_int_equal(begun, 32);
	fake_blk_drain();
	assert_true(fake_mm.wakes > 0);
	for (gfn_t gfn = 100; gfn < 164; gfn++) {
		(void)!gspace_touch(&gs, gfn, GSPACE_READ);
		fake_blk_drain();
		expect_stamp(&gs, gfn, 1000 + gfn);
	}
}

static void test_bad_entries(void **state)
{
	struct hint h[] = {
	    {10UL << PAGE_SHIFT, 0},
	    {10UL << PAGE_SHIFT | 4, 0},
	    {10UL << PAGE_SHIFT | HINT_CLEAN | BIT(52), 0},
	    {10UL << PAGE_SHIFT | HINT_OVERWRITE | BIT(63), 0},
	    {(u64)PAGES << PAGE_SHIFT | HINT_OVERWRITE, 0},
	    {BITS(51, 12) | HINT_CHANGED, 0},
	    {BIT(32 + PAGE_SHIFT) | 10UL << PAGE_SHIFT | HINT_CLEAN, 3},
	    {10UL << PAGE_SHIFT | HINT_CLEAN, BLOCKS},
	    {10UL << PAGE_SHIFT | HINT_CLEAN, ~0UL},
	    {10UL << PAGE_SHIFT | HINT_CLEAN, BIT(32)},
	    {10UL << PAGE_SHIFT | HINT_CHANGED, 1},
	    {10UL << PAGE_SHIFT | HINT_OVERWRITE, 1},
	    {11UL << PAGE_SHIFT | HINT_CLEAN | 0xff << 4, 3}, /* an old status is no mistake */
	    {500UL << PAGE_SHIFT | HINT_CLEAN, 3},
	};

	(void)state;
	fill(&gs, 10, 1);
	fill(&gs, 11, 1);
	assert_int_equal(clean_hints(&gs, h, ARRAY_SIZE(h)), 1);
	for (u32 i = 0; i < ARRAY_SIZE(h); i++)
		assert_int_equal(h[i].page >> 4 & 0xff, i < 12 ? HINT_INVALID : i == 12 ? HINT_OK : HINT_NOT_NOW);
	assert_int_equal(gs.clean_marks, 1);
	assert_int_equal(clean_hints(&gs, h, 0), 0);
}

/* What else happens to a page that is marked, or away. */
static void test_other_ways(void **state)
{
	hfn_t hfn;

	(void)state;
	copies(10, 3, 10);
	assert_int_equal(gspace_pin(&gs, 10, false, &hfn), 0);
	assert_int_equal(tell(10, HINT_CLEAN, 3), HINT_NOT_NOW);
	expect_state(&gs, 10, PAGE_PINNED);
	gspace_unpin(&gs, 10);
	assert_int_equal(gspace_balloon_take(&gs, 11), 0);
	assert_int_equal(gs.clean_marks, 8);
	fill(&gs, 12, 0);
	assert_int_equal(tell(12, HINT_CLEAN, 900), HINT_OK); /* of another block than before, and once more */
	assert_int_equal(tell(12, HINT_CLEAN, 901), HINT_OK);
	assert_int_equal(gspace_share_zero(&gs, 12), 0);
	expect_state(&gs, 12, PAGE_ZERO);
	assert_int_equal(tell(12, HINT_CLEAN, 901), HINT_NOT_NOW);
	assert_int_equal(gs.clean_marks, 7);
	assert_int_equal(gspace_swap_out_begin(&gs, 13, &hfn), E_EXIST);
	expect_state(&gs, 13, PAGE_CLEAN);
	assert_true(gspace_watch(&gs, 14, true)); /* it is out of the tables, and marked */
	drop(6);
	expect_state(&gs, 14, PAGE_CLEAN);
	assert_int_equal(gspace_pin_new(&gs, 14, &hfn), 0);
	assert_int_equal(fake_blk.read, 0);
	gspace_unpin(&gs, 14);
	assert_int_equal(gspace_pin(&gs, 15, true, &hfn), E_AGAIN);
	assert_int_equal(gspace_balloon_take(&gs, 15), E_BUSY);
	fake_blk_drain();
	assert_int_equal(gspace_pin(&gs, 15, true, &hfn), 0);
	assert_int_equal(((u64 *)mm_hfn_to_va(hfn))[0], 1015);
	gspace_unpin(&gs, 15);
	assert_int_equal(gs.clean_marks, 0);
	assert_int_equal(gspace_balloon_take(&gs, 16), 0);
	expect_state(&gs, 16, PAGE_BALLOONED);
	assert_int_equal(gspace_touch(&gs, 17, GSPACE_READ), E_AGAIN); /* the space ends with this read under way */
}

/* A watched page that is marked comes back into the tables read-only. */
static void test_watched(void **state)
{
	(void)state;
	copies(10, 3, 2);
	assert_true(gspace_watch(&gs, 10, true));
	touch(&gs, 10, GSPACE_READ);
	assert_false(gs.pt.fmt->leaf_prot(*look(&gs, 10).entry, 1) & PT_W);
	assert_true(gspace_watch(&gs, 10, true));
	touch(&gs, 10, GSPACE_WRITE);
	assert_true(gs.pt.fmt->leaf_prot(*look(&gs, 10).entry, 1) & PT_W);
	assert_true(gspace_watch(&gs, 11, true));
	assert_int_equal(tell(11, HINT_CHANGED, 0), HINT_OK);
	assert_int_equal(tell(11, HINT_CLEAN, 4), HINT_OK);
	touch(&gs, 11, GSPACE_READ);
	assert_false(gs.pt.fmt->leaf_prot(*look(&gs, 11).entry, 1) & PT_W);
}

/* A page that is away already needs its other copy no more. */
static void test_clean_of_swapped(void **state)
{
	struct swap_stats s;

	(void)state;
	assert_int_equal(swap_on(&fake_blk_part), 0);
	assert_int_equal(swap_reserve(&gs, PAGES), 0);
	for (gfn_t gfn = 0; gfn < 4; gfn++)
		fill(&gs, gfn, 1000 + gfn);
	all_out();
	write_block(0, 1000);
	assert_int_equal(tell(0, HINT_CLEAN, 0), HINT_OK);
	expect_state(&gs, 0, PAGE_CLEAN);
	swap_stats(&s);
	assert_int_equal(s.used, 3);
	assert_int_equal(gspace_touch(&gs, 1, GSPACE_READ), E_AGAIN);
	fake_blk_drain();
	assert_int_equal(gs.swap_copies, 1);
	write_block(1, 1001);
	assert_int_equal(tell(1, HINT_CLEAN, 1), HINT_OK); /* nor the slot that it came from */
	assert_int_equal(gs.swap_copies, 0);
	write_block(2, 1002);
	(void)!gspace_touch(&gs, 2, GSPACE_WRITE);
	fake_blk_drain();
	touch(&gs, 2, GSPACE_WRITE);
	out_to_swap(2);
	assert_int_equal(tell(2, HINT_CLEAN, 2), HINT_OK);
	expect_state(&gs, 2, PAGE_CLEAN);
	for (hfn_t h = 0; h < frame_span(); h++)
		if (frame_get(h)->flags & FRAME_F_IO)
			gspace_swap_out_failed(&gs, 2, h);
	for (gfn_t gfn = 0; gfn < 3; gfn++) {
		(void)!gspace_touch(&gs, gfn, GSPACE_READ);
		fake_blk_drain();
		expect_stamp(&gs, gfn, 1000 + gfn);
	}
}

/* Without swap and compression clean pages are all that can go; one that was used lately stays at first. */
static void test_nothing_else(void **state)
{
	(void)state;
	copies(10, 3, 6);
	fill(&gs, 30, 1);
	*look(&gs, 12).entry |= FAKE_ACCESSED;
	assert_int_equal(gspace_clean_drop(&gs, 64, 11), 5);
	gspace_flush(&gs);
	expect_state(&gs, 12, PAGE_PRIVATE);
	for (u32 i = 0; i < 20; i++)
		swap_out(&gs, 8);
	expect_state(&gs, 12, PAGE_CLEAN);
	expect_state(&gs, 30, PAGE_PRIVATE);
	assert_int_equal(swap_out(&gs, 8), 0);
}

/* What goes first is what was looked at longest ago: each search goes on where the last one ended, round and round. */
static void test_hand(void **state)
{
	(void)state;
	copies(10, 3, 6);
	fill(&gs, 30, 1);
	assert_int_equal(swap_out(&gs, 2), 2);
	expect_state(&gs, 11, PAGE_CLEAN);
	expect_state(&gs, 12, PAGE_PRIVATE);
	for (gfn_t gfn = 10; gfn < 12; gfn++) { /* they come back, and are copies again */
		(void)!gspace_touch(&gs, gfn, GSPACE_READ);
		fake_blk_drain();
	}
	assert_int_equal(swap_out(&gs, 4), 4);
	for (gfn_t gfn = 10; gfn < 16; gfn++)
		expect_state(&gs, gfn, gfn < 12 ? PAGE_PRIVATE : PAGE_CLEAN);
	*look(&gs, 10).entry &= ~FAKE_ACCESSED;
	for (u32 i = 0; i < PAGES / 64 && !swap_out(&gs, 1); i++) /* a bounded look each time */
		;
	expect_state(&gs, 10, PAGE_CLEAN);
}

/* Nothing is marked while memory is plentiful; later large pages are split for it, a bounded number at a time. */
static void test_large(void **state)
{
	struct hint h[2 * 16];

	(void)state;
	gs.target = PAGES;
	fake_now_ns += NSEC_PER_SEC;
	reclaim_step(fake_now_ns);
	touch(&gs, 0, GSPACE_WRITE);
	assert_int_equal(gs.large, 1);
	assert_int_equal(tell(5, HINT_CLEAN, 5), HINT_NOT_NOW);
	assert_int_equal(gs.large, 1);
	gs.target = 0;
	for (u32 i = 0; i < ARRAY_SIZE(h); i++)
		h[i] = (struct hint){(u64)i << PAGE_SHIFT | HINT_CLEAN, i};
	assert_int_equal(clean_hints(&gs, h, ARRAY_SIZE(h)), ARRAY_SIZE(h));
	assert_int_equal(gs.large, 0);
	assert_int_equal(gs.clean_marks, ARRAY_SIZE(h));
	/* Put together again it is writable, and nothing of it is a copy. */
	for (u32 i = 0; i < 20 && !gs.large; i++)
		gspace_rebuild(&gs, 1);
	assert_int_equal(gs.large, 1);
	assert_int_equal(gs.clean_marks, 0);
	assert_true(gs.pt.fmt->leaf_prot(*look(&gs, 5).entry, 2) & PT_W);
	drop(0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_out_and_back),
	    T(test_write_ends_mark),
	    cmocka_unit_test_setup_teardown(test_write_ends_mark, start_plain, stop),
	    cmocka_unit_test_setup_teardown(test_out_and_back, start_plain, stop),
	    T(test_flush),
	    T(test_unwritten_is_zero),
	    T(test_overwrite),
	    T(test_changed),
	    T(test_read_errors),
	    T(test_ahead),
	    T(test_many_reads),
	    T(test_bad_entries),
	    T(test_other_ways),
	    T(test_watched),
	    T(test_clean_of_swapped),
	    T(test_nothing_else),
	    T(test_hand),
	    T(test_large),
	};

	return cmocka_run_group_tests_name("clean", tests, NULL, NULL);
}
