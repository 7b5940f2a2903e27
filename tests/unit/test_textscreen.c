/* drivers/textscreen.c: what a sequence of bytes looks like. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/textscreen.h"

#define COLS 10U
#define ROWS 4U

static struct textscreen s;

static int fresh(void **state)
{
	(void)state;
	memset(&s, 0x5a, sizeof(s));
	textscreen_init(&s, COLS, ROWS);
	return 0;
}

static void put(const char *text)
{
	textscreen_write(&s, text, strlen(text));
}

/* Rows without the blanks at their ends, each ended by '|'. */
static void looks(const char *want)
{
	char got[ROWS * (COLS + 1) + 1], *at = got;

	for (u32 y = 0; y < ROWS; y++) {
		const u16 *row = textscreen_row(&s, y);
		u32 n = COLS;

		while (n && row[n - 1] == TEXTSCREEN_BLANK)
			n--;
		for (u32 x = 0; x < n; x++)
			*at++ = row[x] & TEXTSCREEN_INVERSE ? '#' : (char)row[x];
		*at++ = '|';
	}
	*at = 0;
	assert_string_equal(got, want);
}

static void test_text(void **state)
{
	(void)state;
	looks("||||");
	put("one\ntwo\r\nthree\rTH\bh\tx\ty\tz");
	looks("one|two|Three   xz||"); /* the last column stops a tab */
	fresh(state);
	put("a\x01\x07"
	    "b");
	looks("ab||||");
}

static void test_wrap_and_scroll(void **state)
{
	(void)state;
	put("0123456789");
	assert_int_equal(s.y, 0); /* a full row does not begin the next by itself */
	put("\nx");
	looks("0123456789|x|||");
	put("\n0123456789ab\n5\n6");
	looks("0123456789|ab|5|6|");
	for (u32 i = 0; i < 50; i++)
		put("\n");
	looks("||||");
	put("end");
	looks("|||end|");
}

static void test_cursor(void **state)
{
	(void)state;
	put("abc\x1b[2Dx\x1b[3;5Hy\x1b[Hz\x1b[99;99Hq\x1b[A\x1b[2DP\x1b[99A\x1b[99D\x1b[BR\x1b[CS\x1b[9GT");
	looks("zxc|R S     T|    y  P|         q|");
	put("\x1b[;3HU");
	looks("zxU|R S     T|    y  P|         q|");
}

static void test_erase(void **state)
{
	(void)state;
	put("aaaaa\nbbbbb\nccccc\nddddd\x1b[2;3H\x1b[K");
	looks("aaaaa|bb|ccccc|ddddd|");
	put("\x1b[3;3H\x1b[1K");
	looks("aaaaa|bb|   cc|ddddd|");
	put("\x1b[2K\x1b[2;2H\x1b[J");
	looks("aaaaa|b|||");
	put("\n\nxyz\x1b[2D\x1b[1J");
	looks("|||  z|");
	put("q\x1b[2J");
	looks("||||");
}

static void test_attributes(void **state)
{
	(void)state;
	put("a\x1b[7mb\x1b[0mc\x1b[1;7md\x1b[27me\x1b[7mf\x1b[mg\x1b[31mh");
	looks("a#c#e#gh||||");
}

/* Sequences that are not known, too long, broken off or inside each other leave no trace. */
static void test_strange(void **state)
{
	(void)state;
	put("a\x1b[?1049hb\x1b[1;2;3;4;5;6;7;8Hc\x1b(d\x1b\x1b[De\x1b[12\x1b[Cf\x1b[99999999999999999999Dg");
	fresh(state);
	put("a\x1b[?25hb\x1b[>0qc\x1b[4hd");
	looks("abcd||||");
	fresh(state);
	textscreen_write(&s, "x\x1b", 2);
	textscreen_write(&s, "[", 1);
	textscreen_write(&s, "1", 1);
	textscreen_write(&s, "0", 1);
	textscreen_write(&s, "GY", 2);
	looks("x        Y||||");
}

static void test_sizes(void **state)
{
	(void)state;
	textscreen_init(&s, 0, 0);
	assert_true(s.cols == 1 && s.rows == 1);
	put("abc\n\x1b[9;9Hd\x1b[J\x1b[K\t\b");
	textscreen_init(&s, ~0U, ~0U);
	assert_true(s.cols == TEXTSCREEN_COLS_MAX && s.rows == TEXTSCREEN_ROWS_MAX);
	for (u32 i = 0; i < 3 * TEXTSCREEN_COLS_MAX * TEXTSCREEN_ROWS_MAX; i++)
		put("x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_text, fresh),       cmocka_unit_test_setup(test_wrap_and_scroll, fresh),
	    cmocka_unit_test_setup(test_cursor, fresh),     cmocka_unit_test_setup(test_erase, fresh),
	    cmocka_unit_test_setup(test_attributes, fresh), cmocka_unit_test_setup(test_strange, fresh),
	    cmocka_unit_test_setup(test_sizes, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
