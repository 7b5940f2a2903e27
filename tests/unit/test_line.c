/* vmm/line.c: every key, long lines, history, escape sequences; the screen is checked against the line after every
 * byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/fake_term.h"
#include "vmm/line.h"

#define LEFT  "\x1b[D"
#define RIGHT "\x1b[C"
#define UP    "\x1b[A"
#define DOWN  "\x1b[B"
#define HOME  "\x1b[H"
#define END   "\x1b[F"
#define DEL   "\x1b[3~"

static struct fake_term term;
static struct line line;

static int fresh(void **state)
{
	(void)state;
	fake_term_init(&term);
	line_init(&line, &term.out);
	line_begin(&line);
	return 0;
}

/* Feeds bytes; the last event. */
static enum line_event type(const char *keys)
{
	enum line_event e = LINE_EDITING;

	for (; *keys; keys++) {
		e = line_feed(&line, (u8)*keys);
		if (e == LINE_EDITING)
			assert_true(fake_term_shows(&term, &line));
		assert_int_equal(strlen(line.buf), line.len);
		assert_true(line.pos <= line.len);
	}
	return e;
}

static void expect(const char *keys, const char *text, u32 pos)
{
	type(keys);
	assert_string_equal(line.buf, text);
	assert_int_equal(line.pos, pos);
}

static void enter(const char *text)
{
	assert_int_equal(type(text), LINE_EDITING);
	assert_int_equal(type("\r"), LINE_DONE);
	line_begin(&line);
}

static void test_insert_and_delete(void **state)
{
	(void)state;
	expect("mem", "mem", 3);
	expect(LEFT LEFT "X", "mXem", 2);
	expect("\b", "mem", 1);
	expect(DEL, "mm", 1);
	expect("\x7f", "m", 0);
	expect("\x7f\b", "m", 0);
	expect("\x04", "", 0);
	expect("\x04" DEL, "", 0);
}

static void test_moves(void **state)
{
	(void)state;
	expect("abc" HOME "1", "1abc", 1);
	expect(END "2", "1abc2", 5);
	expect("\x01", "1abc2", 0);
	expect(LEFT LEFT, "1abc2", 0);
	expect("\x06\x06", "1abc2", 2);
	expect("\x02", "1abc2", 1);
	expect("\x05" RIGHT RIGHT, "1abc2", 5);
	expect("\x1b[1~", "1abc2", 0);
	expect("\x1b[4~", "1abc2", 5);
	expect("\x1bOH", "1abc2", 0);
	expect("\x1bOF", "1abc2", 5);
}

static void test_kill(void **state)
{
	(void)state;
	expect("vm show  db1  ", "vm show  db1  ", 14);
	expect("\x17", "vm show  ", 9);
	expect("\x17", "vm ", 3);
	expect("list" LEFT LEFT "\x0b", "vm li", 5);
	expect(LEFT LEFT "\x15", "li", 0);
	expect("\x15\x17\x0b\x0b", "", 0);
	expect("\x17", "", 0);
}

static void test_enter(void **state)
{
	(void)state;
	assert_int_equal(type("help\r"), LINE_DONE);
	assert_string_equal(line.buf, "help");
	line_begin(&line);
	/* The LF of a CR LF is not another Enter; a lone LF is. */
	assert_int_equal(line_feed(&line, '\n'), LINE_EDITING);
	assert_int_equal(line_feed(&line, '\n'), LINE_DONE);
	line_begin(&line);
	assert_int_equal(type("a\x03"), LINE_CANCELED);
	assert_int_equal(line.len, 0);
}

static char *kept;

static void keep_text(struct console_out *o, const char *text, size_t len)
{
	(void)o;
	memcpy(kept, text, len);
	kept += len;
	*kept = 0;
}

static void test_long_line(void **state)
{
	char text[CONSOLE_LINE_MAX];

	(void)state;
	for (u32 i = 0; i < sizeof(text) - 1; i++)
		text[i] = (char)('a' + i % 26);
	text[sizeof(text) - 1] = 0;
	expect(text, text, 255);
	expect(HOME, text, 0);
	expect(END, text, 255);
	for (u32 i = 0; i < 255; i++)
		type(LEFT);
	for (u32 i = 0; i < 255; i++)
		type(RIGHT);
	/* Full: refused with a bell, and not executed unless the operator made room again. */
	type("x");
	assert_int_equal(term.bells, 1);
	assert_int_equal(type("\r"), LINE_TOO_LONG);
	line_begin(&line);
	type(text);
	type("x\b");
	assert_int_equal(type("\r"), LINE_DONE);
	assert_int_equal(line.len, 254);
}

/* Of a line that scrolled, all is shown once it is entered. */
static void test_long_line_is_shown_in_full(void **state)
{
	static char shown[4096];
	struct console_out keep = {keep_text};
	const char *text = "vm create bad memory=32M watchdog=5 cmdline='app=crash how=spin after=1'";

	(void)state;
	type(text);
	assert_true(line.first > 0);
	kept = shown;
	line.out = &keep;
	assert_int_equal(line_feed(&line, '\r'), LINE_DONE);
	assert_non_null(strstr(shown, "how=spin after=1'\n"));
	assert_non_null(strstr(shown, text));
}

static void test_history(void **state)
{
	(void)state;
	enter("one");
	enter("two");
	enter("two");
	enter("");
	type("new");
	expect(UP, "two", 3);
	expect(UP, "one", 3);
	expect(UP, "one", 3);
	expect(DOWN, "two", 3);
	expect("X" DOWN, "new", 3);
	expect(DOWN, "new", 3);
	expect("\x10\x10", "one", 3);
	expect("\x0e\x0e", "new", 3);
	/* Editing an old line does not change the history. */
	expect(UP "!", "two!", 4);
	assert_int_equal(type("\r"), LINE_DONE);
	line_begin(&line);
	expect(UP UP, "two", 3);
}

static void test_history_is_bounded(void **state)
{
	char text[16];

	(void)state;
	for (u32 i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "line%u", i);
		enter(text);
	}
	for (u32 i = 0; i < 40; i++)
		type(UP);
	assert_string_equal(line.buf, "line68");
	for (u32 i = 0; i < 40; i++)
		type(DOWN);
	assert_string_equal(line.buf, "");
}

static void test_escapes(void **state)
{
	(void)state;
	expect("ab", "ab", 2);
	expect("\x1b[200~", "ab", 2); /* bracketed paste marks */
	expect("\x1b[1;5D", "ab", 2); /* Ctrl-Left: not ours */
	expect("\x1b[99999999999999999~", "ab", 2);
	expect("\x1b[?25h\x1b[>0c", "ab", 2);
	expect("\x1bx", "ab", 2);      /* Alt-x */
	expect("\x1b\x1b[D", "ab", 1); /* an ESC begins anew */
	expect("\x1b[\x05", "ab", 2);  /* control characters break off and count */
	expect("\x1b[12", "ab", 2);
	assert_int_equal(type("\r"), LINE_DONE);
	line_begin(&line);
	expect("\x1bO", "", 0);
	expect("Pq", "q", 1);
}

static void test_foreign_bytes(void **state)
{
	(void)state;
	expect("a\xc3\xa4z\xff\x80", "az", 2);
	assert_int_equal(line_feed(&line, 0), LINE_EDITING);
	expect("\x11\x13\x1d\x1f", "az", 2);
}

static void test_redraw(void **state)
{
	(void)state;
	type("mem" LEFT);
	fake_term_clear(&term, 0);
	term.col = 0;
	line_show(&line);
	assert_true(fake_term_shows(&term, &line));
	type("\x0c");
	assert_true(fake_term_shows(&term, &line));
}

static void complete_show(struct line *l)
{
	line_insert(l, "show\x1b ");
}

static void test_tab(void **state)
{
	(void)state;
	expect("vm \t", "vm ", 3);
	line.complete = complete_show;
	expect("\t", "vm show ", 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_insert_and_delete, fresh),
	    cmocka_unit_test_setup(test_moves, fresh),
	    cmocka_unit_test_setup(test_kill, fresh),
	    cmocka_unit_test_setup(test_enter, fresh),
	    cmocka_unit_test_setup(test_long_line, fresh),
	    cmocka_unit_test_setup(test_long_line_is_shown_in_full, fresh),
	    cmocka_unit_test_setup(test_history, fresh),
	    cmocka_unit_test_setup(test_history_is_bounded, fresh),
	    cmocka_unit_test_setup(test_escapes, fresh),
	    cmocka_unit_test_setup(test_foreign_bytes, fresh),
	    cmocka_unit_test_setup(test_redraw, fresh),
	    cmocka_unit_test_setup(test_tab, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
