/* The pool of compressed pages: against a simple model, full, without memory, and how compact it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/zpool.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"

#define FRAMES  512U
#define ENTRIES 600U
#define STEPS   60000

static struct zpool pool;
static struct prng rnd;
static u32 free_before;

static int start(void **state)
{
	(void)state;
	fake_platform_reset();
	fake_mm_start(FRAMES);
	prng_seed(&rnd, 5);
	free_before = frame_free_count();
	zpool_init(&pool);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	assert_int_equal(pool.entries + pool.same + pool.frames + pool.away + pool.writing + pool.reading, 0);
	assert_int_equal(pool.bytes, 0);
	zpool_release(&pool);
	assert_int_equal(frame_free_count(), free_before);
	frame_verify();
	fake_mm_stop();
	return 0;
}

struct model {
	u32 handle; /* 0: not stored */
	u8 fill;
	struct zpage page;
};

static void fill_data(u8 *data, u32 bytes, u8 fill)
{
	for (u32 i = 0; i < bytes; i++)
		data[i] = fill + i;
}

/* A new entry with content of its own. */
static int put(struct model *m, u32 bytes, u32 max_frames)
{
	static u8 data[ZPOOL_BYTES_MAX + 1];

	m->fill = prng_next(&rnd);
	m->page = (struct zpage){.gfn = prng_next(&rnd), .bytes = bytes, .sum = prng_next(&rnd), .data = data};
	if (!bytes)
		m->page.word = prng_next(&rnd);
	fill_data(data, bytes, m->fill);
	return zpool_put(&pool, &m->page, max_frames, &m->handle);
}

static void check(const struct model *m)
{
	u8 data[ZPOOL_BYTES_MAX];
	struct zpage is;

	zpool_look(&pool, m->handle, &is);
	assert_int_equal(is.gfn, m->page.gfn);
	assert_int_equal(is.bytes, m->page.bytes);
	assert_true(is.sum == m->page.sum && is.word == m->page.word);
	fill_data(data, is.bytes, m->fill);
	assert_true(!is.data == (!is.bytes || !zpool_here(&pool, m->handle)));
	if (is.data)
		assert_memory_equal(is.data, data, is.bytes);
}

/* Blocks that are away or on the way, by slot. */
#define SLOTS 200U
static struct {
	enum { NOT_USED, WRITING, AWAY, READING } is;
	u32 block;
	hfn_t hfn;
	u8 data[PAGE_SIZE];
} disk[SLOTS];
static u32 writes, reads;

static void drop(struct model *m)
{
	u32 slot;

	check(m);
	slot = zpool_drop(&pool, m->handle);
	m->handle = 0;
	if (slot == ZPOOL_NO_SLOT)
		return;
	assert_int_equal(disk[slot].is, AWAY);
	disk[slot].is = NOT_USED;
}

static void begin_transfer(u32 slot, const struct model *m)
{
	u32 at, block;

	if (disk[slot].is == NOT_USED) {
		disk[slot].block = zpool_write_begin(&pool, &disk[slot].hfn);
		disk[slot].is = disk[slot].block ? WRITING : NOT_USED;
		return;
	}
	if (!m->handle || zpool_here(&pool, m->handle) || !zpool_away(&pool, m->handle, &block, &at))
		return;
	disk[at].hfn = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false);
	memcpy(mm_hfn_to_va(disk[at].hfn), disk[at].data, PAGE_SIZE);
	assert_int_equal(disk[at].block, block);
	disk[at].is = READING;
	zpool_read_begin(&pool, disk[at].block, disk[at].hfn);
}

static void end_transfer(u32 slot, bool good)
{
	if (disk[slot].is == WRITING && good) {
		memcpy(disk[slot].data, mm_hfn_to_va(disk[slot].hfn), PAGE_SIZE);
		disk[slot].is = zpool_write_done(&pool, disk[slot].block, slot) ? AWAY : NOT_USED;
		writes++;
	} else if (disk[slot].is == WRITING) {
		zpool_write_failed(&pool, disk[slot].block);
		disk[slot].is = NOT_USED;
	} else if (disk[slot].is == READING && good) {
		(void)zpool_read_done(&pool, disk[slot].block);
		disk[slot].is = NOT_USED;
		reads++;
	} else if (disk[slot].is == READING) {
		disk[slot].is = zpool_read_failed(&pool, disk[slot].block) ? AWAY : NOT_USED;
		frame_free(disk[slot].hfn, 0);
	}
}

static u32 some_bytes(void)
{
	return prng_below(&rnd, 10) ? 1 + (u32)prng_below(&rnd, ZPOOL_BYTES_MAX) : 0;
}

static void run_model(bool with_disk)
{
	static struct model model[ENTRIES];
	u32 stored = 0, refused = 0, proofs = 0;

	zpool_verify_begin(&pool);
	for (u32 i = 0; i < STEPS; i++) {
		struct model *m = &model[prng_below(&rnd, ENTRIES)];
		int err;

		if (m->handle) {
			drop(m);
			stored--;
		} else if (!(err = put(m, some_bytes(), 60))) {
			stored++;
		} else {
			assert_int_equal(err, E_NOSPC);
			m->handle = 0;
			refused++;
		}
		assert_int_equal(pool.entries, stored);
		if (with_disk && !prng_below(&rnd, 20))
			begin_transfer(prng_below(&rnd, SLOTS), &model[prng_below(&rnd, ENTRIES)]);
		if (with_disk)
			end_transfer(prng_below(&rnd, SLOTS), prng_below(&rnd, 4));
		assert_true(with_disk || pool.frames <= 60);
		/* One proof after the other, in pieces, while everything changes. */
		if (prng_below(&rnd, 10) || zpool_verify_some(&pool, 1 + (u32)prng_below(&rnd, 40)))
			continue;
		assert_int_equal(zpool_verify_end(&pool), 0);
		zpool_verify_begin(&pool);
		proofs++;
	}
	assert_true(stored > 100 && refused > 100 && proofs > 50);
	for (u32 i = 0; i < ENTRIES; i++)
		if (model[i].handle)
			drop(&model[i]);
	for (u32 i = 0; i < SLOTS; i++) {
		end_transfer(i, true);
		assert_int_equal(disk[i].is, NOT_USED);
	}
	assert_int_equal(zpool_verify(&pool), 0);
}

static void test_model(void **state)
{
	(void)state;
	run_model(false);
}

/* With blocks that leave and come back, or fail to, while entries come and go. */
static void test_model_away(void **state)
{
	(void)state;
	run_model(true);
	assert_true(writes > 100 && reads > 20);
}

/* A piece of a proof takes what it is told to, and no piece hides what is wrong. */
static void test_pieces(void **state)
{
	static struct model m[2000];
	u32 pieces = 0, size = 100;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(m); i++)
		assert_int_equal(put(&m[i], i % 3 ? 64 : 0, 100), 0);
	zpool_verify_begin(&pool);
	while (zpool_verify_some(&pool, size)) {
		assert_true(pool.proof.at <= ++pieces * size + 1);
		drop(&m[pieces]);
		assert_int_equal(put(&m[pieces], 2048, 100), 0);
	}
	assert_true(pieces >= ARRAY_SIZE(m) / size);
	assert_int_equal(zpool_verify_end(&pool), 0);
	pool.bytes++;
	assert_int_not_equal(zpool_verify(&pool), 0);
	pool.bytes--;
	pool.same++;
	assert_int_not_equal(zpool_verify(&pool), 0);
	pool.same--;
	for (u32 i = 0; i < ARRAY_SIZE(m); i++)
		drop(&m[i]);
}

/* Two halves and four quarters fill a frame; what comes first decides nothing. */
static void test_compact(void **state)
{
	static struct model half[40], quarter[80];

	(void)state;
	for (u32 i = 0; i < 40; i++) {
		assert_int_equal(put(&half[i], 2048, 100), 0);
		assert_int_equal(put(&quarter[2 * i], 1024, 100), 0);
		assert_int_equal(put(&quarter[2 * i + 1], 1000, 100), 0);
	}
	assert_int_equal(pool.frames, 40);
	/* Holes are used again. */
	for (u32 i = 0; i < 10; i++)
		drop(&half[i]);
	for (u32 i = 0; i < 10; i++)
		assert_int_equal(put(&half[i], 1990, 100), 0);
	assert_int_equal(pool.frames, 40);
	assert_int_equal(zpool_verify(&pool), 0);
	for (u32 i = 0; i < 40; i++)
		drop(&half[i]);
	for (u32 i = 0; i < 80; i++)
		drop(&quarter[i]);
}

/* What goes to the disk is the entries' data and zeroes, whoever had the frame before. */
static void test_nothing_between(void **state)
{
	static const u32 bytes[] = {700, 64, 1, 2048, 63, 300, 129};
	static u8 ours[PAGE_SIZE];
	struct model m[ARRAY_SIZE(bytes)];
	const u8 *data;
	struct zpage is;
	hfn_t hfn;
	u32 block;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bytes); i++)
		assert_int_equal(put(&m[i], bytes[i], 1), 0);
	drop(&m[3]);
	drop(&m[5]);
	assert_int_equal(put(&m[5], 5, 1), 0);
	block = zpool_write_begin(&pool, &hfn);
	assert_int_not_equal(block, 0);
	data = mm_hfn_to_va(hfn);
	for (u32 i = 0; i < ARRAY_SIZE(bytes); i++) {
		if (i == 3)
			continue;
		check(&m[i]);
		zpool_look(&pool, m[i].handle, &is);
		memset(ours + ((const u8 *)is.data - data), 1, is.bytes);
	}
	for (u32 i = 0; i < PAGE_SIZE; i++)
		assert_true(ours[i] || !data[i]);
	zpool_write_failed(&pool, block);
	for (u32 i = 0; i < ARRAY_SIZE(bytes); i++)
		if (i != 3)
			drop(&m[i]);
}

static void test_full(void **state)
{
	struct model a, b, c, same, big;

	(void)state;
	assert_int_equal(put(&a, 2048, 0), E_NOSPC);
	assert_int_equal(put(&a, 2048, 1), 0);
	assert_int_equal(put(&b, 2048, 1), 0);
	assert_int_equal(put(&c, 1, 1), E_NOSPC);
	assert_int_equal(put(&same, 0, 1), 0); /* takes no block */
	assert_int_equal(put(&big, ZPOOL_BYTES_MAX + 1, 10), E_2BIG);
	assert_int_equal(pool.frames, 1);
	drop(&a);
	assert_int_equal(put(&c, 1, 1), 0);
	drop(&b);
	drop(&c);
	drop(&same);
}

/* Whatever frame it does not get, nothing is left behind. */
static void test_no_memory(void **state)
{
	static hfn_t taken[FRAMES];
	u32 n = 0;
	struct model a;

	(void)state;
	while ((taken[n] = frame_alloc(0, FRAME_FOR_TABLE, FRAME_HV, false)) != HFN_NONE)
		n++;
	for (u32 freed = 0;; freed++) {
		int err = put(&a, 100, 10);

		if (!err)
			break;
		assert_int_equal(err, E_NOMEM);
		assert_int_equal(pool.entries + pool.frames + pool.records.reserved, 0);
		assert_true(freed < 8);
		frame_free(taken[--n], 0);
	}
	drop(&a);
	while (n)
		frame_free(taken[--n], 0);
}

static void test_stale_handle(void **state)
{
	struct model a, b;
	struct zpage page;
	u32 old;

	(void)state;
	assert_int_equal(put(&a, 500, 10), 0);
	assert_int_equal(put(&b, 500, 10), 0);
	old = a.handle;
	drop(&a);
	assert_true(fake_panics(zpool_look(&pool, old, &page)));
	drop(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_model, start, finish),
	    cmocka_unit_test_setup_teardown(test_model_away, start, finish),
	    cmocka_unit_test_setup_teardown(test_pieces, start, finish),
	    cmocka_unit_test_setup_teardown(test_compact, start, finish),
	    cmocka_unit_test_setup_teardown(test_nothing_between, start, finish),
	    cmocka_unit_test_setup_teardown(test_full, start, finish),
	    cmocka_unit_test_setup_teardown(test_no_memory, start, finish),
	    cmocka_unit_test_setup_teardown(test_stale_handle, start, finish),
	};

	return cmocka_run_group_tests_name("zpool", tests, NULL, NULL);
}
