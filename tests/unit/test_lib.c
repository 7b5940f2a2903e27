/* lib/: formatting, strings, numbers, log, locks, work, timers, lists, random numbers, hash, error names. */
/* cmocka.h wants these first, in this order */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/format.h"
#include "lib/hash.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "lib/timer.h"
#include "lib/work.h"
#include "tests/unit/fake_platform.h"

static int reset(void **state)
{
	(void)state;
	fake_platform_reset();
	log_set_level(LOG_INFO);
	return 0;
}

/* ---- format ---- */

#define same_as_libc(...)                                            \
	do {                                                         \
		char ours[128], libc[128];                           \
		int a = format_buf(ours, sizeof(ours), __VA_ARGS__); \
		int b = snprintf(libc, sizeof(libc), __VA_ARGS__);   \
		assert_string_equal(ours, libc);                     \
		assert_int_equal(a, b);                              \
	} while (0)

static void test_format_like_libc(void **state)
{
	(void)state;
	same_as_libc("plain %% text");
	same_as_libc("%d %i %u", -5, 7, 4000000000u);
	same_as_libc("[%5d] [%-5d] [%05d] [%+d] [% d]", 42, 42, -42, 42, 42);
	same_as_libc("[%.3d] [%8.3d] [%-8.3d|]", 7, -7, 7);
	same_as_libc("%x %X %#x %#X %08x %#010x", 0xbeef, 0xbeef, 0xbeef, 0xbeef, 0xbeef, 0xbeef);
	same_as_libc("%lx %lu %ld %llu %zu", ~0UL, ~0UL, INT64_MIN, ~0ULL, (size_t)12);
	same_as_libc("%hd %hhd %hu %hhu", (short)-3, (signed char)-3, (unsigned short)65535, (unsigned char)255);
	same_as_libc("[%s] [%10s] [%-10s] [%.2s] [%*s] [%-*s] [%.*s]", "abc", "abc", "abc", "abc", 6, "abc", 6, "abc",
		     1, "abc");
	same_as_libc("[%*d]", -6, 12);
	same_as_libc("%c%c [%3c]", 'a', 'b', 'c');
	same_as_libc("%p", (void *)0xffff800000001000);
	same_as_libc("%d %u %x", 0, 0, 0);
	same_as_libc("[%.0d]", 0);
	same_as_libc("%#x", 0);
}

static void test_format_bounds(void **state)
{
	char buf[8] = "zzzzzzz", size[FORMAT_SIZE_BYTES];
	const char *volatile none = NULL;
	size_t at;

	(void)state;
	assert_int_equal(format_buf(buf, 4, "%s", "abcdef"), 6);
	assert_string_equal(buf, "abc");
	assert_int_equal(buf[4], 'z');
	assert_int_equal(format_buf(NULL, 0, "%d", 1234), 4);
	format_buf(buf, sizeof(buf), "%s", none);
	assert_string_equal(buf, "(null)");

	at = format_append(buf, sizeof(buf), 0, "ab%d", 1);
	assert_int_equal(at, 3);
	at = format_append(buf, sizeof(buf), at, "%s", "longer than that");
	assert_int_equal(at, 7);
	assert_string_equal(buf, "ab1long");
	assert_int_equal(format_append(buf, sizeof(buf), at, "x"), 7);

	assert_string_equal(format_size(size, 17), "17");
	assert_string_equal(format_size(size, 12 * KIB), "12K");
	assert_string_equal(format_size(size, 192 * MIB), "192M");
	assert_string_equal(format_size(size, 3 * GIB / 2), "1.5G");
	assert_string_equal(format_size(size, 1024 * GIB - 1), "1023G");
	assert_string_equal(format_size(size, MIB - 1), "1023K");
	assert_true(strlen(format_size(size, ~0UL)) <= 6);
}

/* ---- strings and numbers ---- */

static void test_strings(void **state)
{
	static _Alignas(4096) u8 page[PAGE_SIZE], other[PAGE_SIZE];
	char buf[4];

	(void)state;
	assert_int_equal(str_copy(buf, "abcdef", sizeof(buf)), 6);
	assert_string_equal(buf, "abc");
	assert_int_equal(str_copy(buf, "", sizeof(buf)), 0);
	assert_string_equal(buf, "");
	assert_true(str_eq("a", "a") && !str_eq("a", "ab"));
	assert_true(str_starts("vm list", "vm ") && !str_starts("v", "vm "));

	page_clear(page);
	assert_true(page_is_zero(page));
	for (u32 i = 0; i < PAGE_SIZE; i++) {
		page[i] = 1;
		assert_false(page_is_zero(page));
		page[i] = 0;
	}
	page[77] = 3;
	page_copy(other, page);
	assert_memory_equal(page, other, PAGE_SIZE);
}

static void check_size(const char *s, int err, u64 want)
{
	u64 v = 0;

	assert_int_equal(parse_size(s, 1UL << 50, &v), err);
	if (!err)
		assert_int_equal(v, want);
}

static void test_numbers(void **state)
{
	u64 v;

	(void)state;
	assert_int_equal(parse_u64("0", 10, &v), 0);
	assert_int_equal(parse_u64("18446744073709551615", ~0UL, &v), 0);
	assert_true(v == ~0UL);
	assert_int_equal(parse_u64("18446744073709551616", ~0UL, &v), E_RANGE);
	assert_int_equal(parse_u64("0x1F", 100, &v), 0);
	assert_int_equal(v, 31);
	assert_int_equal(parse_u64("11", 10, &v), E_RANGE);
	assert_int_equal(parse_u64("", 10, &v), E_INVAL);
	assert_int_equal(parse_u64("-1", 10, &v), E_INVAL);
	assert_int_equal(parse_u64("0x", 10, &v), E_INVAL);
	assert_int_equal(parse_u64("1 ", 10, &v), E_INVAL);
	assert_int_equal(parse_u64("99999999999999999999x", 10, &v), E_INVAL);
	check_size("4096", 0, 4096);
	check_size("64K", 0, 64 * KIB);
	check_size("64k", 0, 64 * KIB);
	check_size("192MiB", 0, 192 * MIB);
	check_size("2GB", 0, 2 * GIB);
	check_size("1T", 0, 1024 * GIB);
	check_size("0x10M", 0, 16 * MIB);
	check_size("1P", E_INVAL, 0);
	check_size("1KK", E_INVAL, 0);
	check_size("K", E_INVAL, 0);
	check_size("1.5G", E_INVAL, 0);
	check_size("2048T", E_RANGE, 0);
	check_size("18446744073709551615T", E_RANGE, 0);
}

static void test_err_names(void **state)
{
	(void)state;
	assert_string_equal(err_name(0), "EOK");
	assert_string_equal(err_name(E_NOMEM), "E_NOMEM");
	assert_string_equal(err_name(E_TIMEDOUT), "E_TIMEDOUT");
	assert_string_equal(err_name(-9999), "E_?");
	assert_string_equal(err_name(5), "E_?");
}

/* ---- list, prng, hash ---- */

static void test_list(void **state)
{
	struct list head = LIST_INIT(head), n[3];

	(void)state;
	assert_true(list_empty(&head));
	assert_null(list_pop(&head));
	list_add_tail(&head, &n[1]);
	list_add_tail(&head, &n[2]);
	list_add(&head, &n[0]);
	assert_ptr_equal(head.next, &n[0]);
	assert_ptr_equal(head.prev, &n[2]);
	list_del(&n[1]);
	list_del(&n[1]);
	assert_ptr_equal(list_pop(&head), &n[0]);
	assert_ptr_equal(list_pop(&head), &n[2]);
	assert_true(list_empty(&head));
}

static void test_prng(void **state)
{
	struct prng a, b;
	u32 seen[7] = {0};

	(void)state;
	prng_seed(&a, 0);
	prng_seed(&b, 0);
	for (int i = 0; i < 100; i++)
		assert_true(prng_next(&a) == prng_next(&b));
	for (int i = 0; i < 70000; i++)
		seen[prng_below(&a, 7)]++;
	for (int i = 0; i < 7; i++)
		assert_in_range(seen[i], 9500, 10500);
	assert_int_equal(prng_below(&a, 1), 0);
	prng_seed(&b, 1);
	assert_true(prng_next(&a) != prng_next(&b));
}

static void test_hash(void **state)
{
	static _Alignas(4096) u8 page[PAGE_SIZE];
	u64 h = hash_page(page, 1);

	(void)state;
	assert_true(h == hash_page(page, 1));
	assert_true(h != hash_page(page, 2));
	page[4095] ^= 0x80;
	assert_true(h != hash_page(page, 1));
	/* Every bit counts, and where it stands. */
	memset(page, 0, sizeof(page));
	h = hash_page(page, 1);
	for (u32 i = 0; i < PAGE_SIZE * 8; i += 7) {
		page[i / 8] ^= (u8)(1 << i % 8);
		assert_true(h != hash_page(page, 1));
		page[i / 8] ^= (u8)(1 << i % 8);
	}
	page[0] = page[4088] = 1;
	h = hash_page(page, 1);
	page[4088] = 0;
	page[8] = 1;
	assert_true(h != hash_page(page, 1));
	h = hash_page(page, 1);
	hash_set_secret(99);
	assert_true(h != hash_page(page, 1));
	hash_set_secret(0);
	assert_true(h == hash_page(page, 1));
}

static u64 hash_first(const u8 *data, size_t len)
{
	struct digest d = digest_bytes(data, len);

	return digest_hash(&d, 1);
}

/* At every length, from an odd address: each bit counts, the length too, and nothing that is behind. */
static void test_digest_of_bytes(void **state)
{
	static u8 data[PAGE_SIZE + 2];
	u64 before = hash_first(data + 1, 0);
	u32 at, bit;

	(void)state;
	for (u32 len = 1; len <= PAGE_SIZE; len++) {
		u64 h = hash_first(data + 1, len);

		assert_true(h != before);
		before = h;
		data[len + 1] ^= 0xff;
		assert_true(h == hash_first(data + 1, len));
		data[len + 1] = 0;
		for (u32 i = 0; i < 3; i++) {
			at = i ? len * 7 / (i * 8) : len - 1; /* the last byte, and two more */
			bit = (len + i) % 8;
			data[1 + at] ^= (u8)(1 << bit);
			assert_true(h != hash_first(data + 1, len));
			data[1 + at] ^= (u8)(1 << bit);
		}
	}
}

static void test_page_equal(void **state)
{
	static _Alignas(4096) u8 a[PAGE_SIZE], b[PAGE_SIZE];

	(void)state;
	for (u32 i = 0; i < PAGE_SIZE; i++)
		a[i] = b[i] = (u8)(i * 7);
	assert_true(page_equal(a, b));
	for (u32 i = 0; i < PAGE_SIZE; i++) {
		b[i] ^= 0x10;
		assert_false(page_equal(a, b));
		b[i] ^= 0x10;
	}
	assert_true(page_equal(b, a));
}

/* ---- log ---- */

static void test_log_line(void **state)
{
	char line[LOG_LINE_BYTES];
	u64 cursor = 0, last;

	(void)state;
	while (log_read(&cursor, line, sizeof(line)))
		;
	last = cursor;
	fake_now_ns = 12 * NSEC_PER_SEC + 34 * NSEC_PER_MSEC;
	fake_cpu_index = 2;
	log_info("swap", "on, %d slots", 7);
	assert_true(fake_log_has("[12.034] cpu2 swap: on, 7 slots\n"));
	log_debug("swap", "kept only");
	assert_false(fake_log_has("kept only"));
	log_warn("swap", "bad\x1b[31m\nline");
	assert_true(fake_log_has("swap: warning: bad?[31m?line\n"));
	assert_int_equal(log_err("nvme", E_IO, "queue %u", 3), E_IO);
	assert_true(fake_log_has("nvme: error: queue 3 (E_IO at tests/unit/test_lib.c:"));

	assert_true(log_read(&cursor, line, sizeof(line)));
	assert_string_equal(line, "[12.034] cpu2 swap: on, 7 slots");
	assert_true(log_read(&cursor, line, sizeof(line)));
	assert_string_equal(line, "[12.034] cpu2 swap: kept only");
	assert_true(log_read(&cursor, line, 5));
	assert_string_equal(line, "[12.");
	assert_true(log_read(&cursor, line, sizeof(line)));
	assert_false(log_read(&cursor, line, sizeof(line)));
	assert_true(log_read(&last, line, sizeof(line)));
	assert_string_equal(line, "[12.034] cpu2 swap: on, 7 slots");
}

static void test_log_wraps(void **state)
{
	char line[LOG_LINE_BYTES], want[LOG_LINE_BYTES];
	u64 cursor = 0;
	u32 n = 0, first = 0, v;

	(void)state;
	log_set_level(LOG_ERROR);
	for (u32 i = 0; i < 5000; i++)
		log_info("t", "line %u %s", i, i % 3 ? "short" : "a rather longer line than the others are");
	while (log_read(&cursor, line, sizeof(line))) {
		assert_int_equal(sscanf(line, "[1.000] cpu0 t: line %u", &v), 1);
		if (!n++)
			first = v;
		assert_int_equal(v, first + n - 1);
	}
	assert_int_equal(first + n, 5000);
	assert_true(n > 1000);

	memset(want, 'x', sizeof(want));
	want[LOG_LINE_BYTES - 1] = '\0';
	log_info("t", "%s%s", want, want);
	assert_true(log_read(&cursor, line, sizeof(line)));
	assert_in_range(strlen(line), 200, LOG_LINE_BYTES - 1);
}

static u32 lines_of(const char *text)
{
	u32 n = 0;

	for (const char *p = fake_log; (p = strstr(p, text)); p++)
		n++;
	return n;
}

static void test_log_guest_limit(void **state)
{
	struct log_limit limit = {0};

	(void)state;
	for (int i = 0; i < 25; i++)
		log_guest(&limit, "vm", "bad call %d", i);
	assert_int_equal(lines_of("bad call"), 10);
	fake_now_ns += 2 * NSEC_PER_SEC;
	for (int i = 0; i < 25; i++)
		log_guest(&limit, "vm", "bad call %d", i);
	assert_int_equal(lines_of("bad call"), 12);
	assert_true(fake_log_has("vm: 15 lines suppressed"));
	fake_now_ns += 60 * NSEC_PER_SEC;
	for (int i = 0; i < 25; i++)
		log_guest(&limit, "vm", "bad call %d", i);
	assert_int_equal(lines_of("bad call"), 22);
}

/* ---- locks ---- */

static void test_locks(void **state)
{
	struct lock a = LOCK_INIT("a", LOCK_RANK_VM), b, c = LOCK_INIT("c", LOCK_RANK_GSPACE);

	(void)state;
	lock_init(&b, "b", LOCK_RANK_FRAME);
	lock_acquire(&a);
	lock_acquire(&b);
	assert_true(lock_held(&a) && lock_held(&b) && !lock_held(&c));
	lock_release(&a); /* any order of release */
	assert_true(!lock_held(&a) && lock_held(&b));
	assert_true(fake_panics(lock_acquire(&c)));
	assert_string_equal(fake_panic_text, "lock order: c (rank 40) wanted while b (rank 90) is held");
}

static void test_lock_try(void **state)
{
	struct lock a = LOCK_INIT("a", LOCK_RANK_VM);

	(void)state;
	assert_true(lock_try_acquire(&a));
	fake_cpu_index = 1;
	assert_false(lock_try_acquire(&a));
	assert_false(lock_held(&a));
	assert_true(fake_panics(lock_release(&a)));
	fake_cpu_index = 0;
	assert_true(fake_panics(lock_assert_none()));
	assert_string_equal(fake_panic_text, "lock a is held where none may be");
	fake_platform_reset();
	lock_assert_none();
}

static void test_lock_same_rank(void **state)
{
	struct lock a = LOCK_INIT("a", LOCK_RANK_GSPACE), b = LOCK_INIT("b", LOCK_RANK_GSPACE);

	(void)state;
	lock_acquire(&a);
	assert_true(fake_panics(lock_acquire(&b)));
	fake_platform_reset();
	lock_init(&a, "a", LOCK_RANK_GSPACE);
	lock_acquire(&a);
	assert_true(fake_panics(lock_acquire(&a)));
}

static void test_panic(void **state)
{
	(void)state;
	assert_true(fake_panics(CHECK(1 > 2)));
	assert_string_equal(fake_panic_text, "check failed: 1 > 2");
	assert_true(fake_panics(panic("frame %x", 0x12)));
	assert_string_equal(fake_panic_text, "frame 12");
}

/* ---- work and timers ---- */

static char order[64];

static void note_work(struct work *w)
{
	strncat(order, w->name, 1);
}

static void again(struct work *w)
{
	note_work(w);
	work_queue(w);
}

static void test_work(void **state)
{
	struct work a, b, c;

	(void)state;
	order[0] = '\0';
	work_init(&a, "a", note_work);
	work_init(&b, "b", again);
	work_init(&c, "c", note_work);
	assert_false(work_pending());
	work_queue(&a);
	work_queue(&b);
	work_queue(&a);
	work_queue(&c);
	assert_true(work_pending());
	assert_int_equal(work_run(2), 2);
	assert_string_equal(order, "ab");
	assert_int_equal(work_run(3), 3);
	assert_string_equal(order, "abcbb");
	assert_int_equal(a.runs, 1);
	fake_platform_reset();
}

/* Work runs on its home only, whoever queues it; one kick for however many items. */
static void test_work_elsewhere(void **state)
{
	struct work a, b, c;

	(void)state;
	order[0] = '\0';
	work_init(&a, "a", note_work);
	work_init(&b, "b", note_work);
	work_init_on(&c, 1, "c", note_work);
	fake_cpu_index = 1;
	work_queue(&a);
	work_queue(&b);
	work_queue(&a);
	work_queue(&c);
	assert_int_equal(fake_kicks[0], 1);
	assert_int_equal(fake_kicks[1], 0);
	assert_int_equal(work_run(10), 1);
	assert_false(work_pending());
	fake_cpu_index = 0;
	assert_true(work_pending());
	assert_true(work_is_queued(&a));
	assert_int_equal(work_run(10), 2);
	assert_string_equal(order, "cab");
	work_queue(&c);
	assert_int_equal(fake_kicks[1], 1);
	assert_false(work_pending());
	fake_platform_reset();
}

static struct timer ta, tb, tc;
static u32 fired[3];

static void fire(struct timer *t)
{
	assert_false(t->armed);
	fired[t == &ta ? 0 : t == &tb ? 1 : 2]++;
	if (t == &ta) {
		timer_arm(t, fake_now_ns); /* due again at once: must not run in the same call */
		timer_cancel(&tb);
	}
}

static void test_timers(void **state)
{
	(void)state;
	timer_init(&ta, fire);
	timer_init(&tb, fire);
	timer_init(&tc, fire);
	assert_true(timer_next_ns() == TIMER_NEVER);
	timer_arm(&tc, 300);
	timer_arm(&ta, 100);
	timer_arm(&tb, 200);
	assert_int_equal(timer_next_ns(), 100);
	timer_arm(&tb, 50);
	assert_int_equal(timer_next_ns(), 50);
	timer_arm(&tb, 200);
	timer_run_expired(99);
	assert_int_equal(fired[0], 0);
	timer_run_expired(fake_now_ns);
	assert_int_equal(fired[0], 1);
	assert_int_equal(fired[1], 0);
	assert_int_equal(fired[2], 1);
	timer_cancel(&ta);
	timer_cancel(&ta);
	assert_true(timer_next_ns() == TIMER_NEVER);
}

/* A timer that is alone takes its CPU's lock once; what comes due while a function runs waits for the next call. */
static void test_timer_lock(void **state)
{
	struct lib_cpu *cpu = platform_this_cpu();
	u32 tickets;

	(void)state;
	memset(fired, 0, sizeof(fired));
	timer_init(&tb, fire);
	timer_init(&ta, fire);
	timer_init(&tc, fire);
	timer_arm(&tb, 100);
	timer_arm(&tc, 1000);
	tickets = cpu->timer_lock.next;
	timer_run_expired(99);
	assert_int_equal(cpu->timer_lock.next, tickets);
	timer_run_expired(100);
	assert_int_equal(cpu->timer_lock.next, tickets + 1);
	assert_int_equal(cpu->timer_lock.owner_ticket, tickets + 1);
	assert_int_equal(fired[1], 1);
	assert_int_equal(timer_next_ns(), 1000);
	fake_now_ns = 200;
	timer_arm(&ta, 150); /* arms itself again at 200 */
	timer_run_expired(200);
	assert_int_equal(fired[0], 1);
	assert_int_equal(timer_next_ns(), 200);
	assert_int_equal(cpu->timer_lock.owner_ticket, cpu->timer_lock.next);
	timer_cancel(&ta);
	timer_cancel(&tc);
	assert_true(timer_next_ns() == TIMER_NEVER);
	fake_platform_reset();
}

/* Many timers, armed, armed again, cancelled and fired in all orders, against a table of deadlines. */
#define MANY 200

static struct timer many[MANY];
static u64 many_due[MANY], many_last;
static u32 many_fired;

static void many_fire(struct timer *t)
{
	u32 i = (u32)(t - many);

	assert_true(many_due[i] && many_due[i] <= fake_now_ns && t->deadline_ns >= many_last);
	many_last = t->deadline_ns;
	many_due[i] = 0;
	many_fired++;
}

static void test_many_timers(void **state)
{
	struct prng rnd;

	(void)state;
	prng_seed(&rnd, 7);
	fake_now_ns = 1000;
	for (u32 i = 0; i < MANY; i++)
		timer_init(&many[i], many_fire);
	for (u32 step = 0; step < 20000; step++) {
		u32 i = prng_below(&rnd, MANY);
		u64 first = TIMER_NEVER;

		if (prng_below(&rnd, 4)) {
			many_due[i] = fake_now_ns + 1 + prng_below(&rnd, 500);
			timer_arm(&many[i], many_due[i]);
		} else {
			many_due[i] = 0;
			timer_cancel(&many[i]);
		}
		if (!prng_below(&rnd, 10)) {
			fake_now_ns += prng_below(&rnd, 100);
			many_last = 0;
			timer_run_expired(fake_now_ns);
		}
		for (u32 k = 0; k < MANY; k++)
			if (many_due[k])
				first = MIN(first, many_due[k]);
		assert_true(timer_next_ns() == first);
		assert_true(first > fake_now_ns); /* all that were due have fired */
	}
	assert_true(many_fired > 1000);
	for (u32 i = 0; i < MANY; i++)
		timer_cancel(&many[i]);
	assert_true(timer_next_ns() == TIMER_NEVER);
}

/* A timer of a fixed home fires there; a local one where it was armed last. Both can be cancelled from anywhere. */
static void test_timers_elsewhere(void **state)
{
	(void)state;
	memset(fired, 0, sizeof(fired));
	timer_init(&tb, fire);
	timer_init_local(&tc, fire);
	fake_cpu_index = 1;
	timer_arm(&tb, 200);
	assert_int_equal(fake_kicks[0], 1);
	timer_arm(&tb, 300);
	timer_arm(&tc, 250);
	assert_int_equal(timer_next_ns(), 250);
	fake_cpu_index = 2;
	timer_arm(&tc, 260);
	assert_int_equal(timer_next_ns(), 260);
	assert_int_equal(fake_kicks[1] + fake_kicks[2], 0);
	fake_cpu_index = 1;
	assert_true(timer_next_ns() == TIMER_NEVER);
	timer_run_expired(1000);
	timer_cancel_sync(&tc);
	fake_cpu_index = 2;
	assert_true(timer_next_ns() == TIMER_NEVER);
	timer_run_expired(1000);
	assert_int_equal(fired[1] + fired[2], 0);
	fake_cpu_index = 0;
	assert_int_equal(timer_next_ns(), 300);
	timer_run_expired(1000);
	assert_int_equal(fired[1], 1);
	fake_platform_reset();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_format_like_libc, reset),
	    cmocka_unit_test_setup(test_format_bounds, reset),
	    cmocka_unit_test_setup(test_strings, reset),
	    cmocka_unit_test_setup(test_numbers, reset),
	    cmocka_unit_test_setup(test_err_names, reset),
	    cmocka_unit_test_setup(test_list, reset),
	    cmocka_unit_test_setup(test_prng, reset),
	    cmocka_unit_test_setup(test_hash, reset),
	    cmocka_unit_test_setup(test_digest_of_bytes, reset),
	    cmocka_unit_test_setup(test_page_equal, reset),
	    cmocka_unit_test_setup(test_log_line, reset),
	    cmocka_unit_test_setup(test_log_wraps, reset),
	    cmocka_unit_test_setup(test_log_guest_limit, reset),
	    cmocka_unit_test_setup(test_locks, reset),
	    cmocka_unit_test_setup(test_lock_try, reset),
	    cmocka_unit_test_setup(test_lock_same_rank, reset),
	    cmocka_unit_test_setup(test_panic, reset),
	    cmocka_unit_test_setup(test_work, reset),
	    cmocka_unit_test_setup(test_work_elsewhere, reset),
	    cmocka_unit_test_setup(test_timers, reset),
	    cmocka_unit_test_setup(test_timer_lock, reset),
	    cmocka_unit_test_setup(test_timers_elsewhere, reset),
	    cmocka_unit_test_setup(test_many_timers, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
