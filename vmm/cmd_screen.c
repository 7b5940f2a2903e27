/*
 * Console commands that run others or take the screen: top, watch, repeat, more, terminal. What they need of the
 * terminal is done by the glue (console.c); here are their words, and `top` as plain text.
 */
#include "lib/err.h"
#include "lib/string.h"
#include "vmm/command.h"
#include "vmm/top.h"

#define SCREEN_COLUMNS 80U
#define SCREEN_ROWS    24U
#define WATCH_MAX_SEC  3600U
#define REPEAT_MAX     1000000U

static int fail_word(struct command_run *r, u32 arg, const char *expected)
{
	char word[40];

	return command_fail(r, E_INVAL, "'%s': expected %s",
			    command_word(word, sizeof(word), command_arg(r, arg), sizeof(word)), expected);
}

/* ---- top ---- */

/* "132x43" */
static int parse_screen(const char *text, u32 *columns, u32 *rows)
{
	const char *x = strchr(text, 'x');
	char number[8];
	u64 c, r;

	if (!x || (size_t)(x - text) >= sizeof(number))
		return E_INVAL;
	str_copy(number, text, (size_t)(x - text) + 1);
	if (parse_u64(number, TOP_COLUMNS_MAX, &c) || parse_u64(x + 1, TOP_ROWS_MAX, &r) || c < TOP_COLUMNS_MIN ||
	    r < TOP_ROWS_MIN)
		return E_RANGE;
	*columns = (u32)c;
	*rows = (u32)r;
	return 0;
}

/* One console, so one plain screen at a time; drawn from the first line when a command begins. */
static struct top plain_top;

static int plain_some(struct command_run *r)
{
	if (top_piece(&plain_top, r->out))
		r->more = plain_some;
	return 0;
}

int cmd_top(struct command_run *r)
{
	u32 columns = 0, rows = 0, page = 0;

	for (u32 i = 0; i + 1 < r->argc; i++) {
		if (str_eq(command_arg(r, i), "effect"))
			page = TOP_EFFECT;
		else if (!str_eq(command_arg(r, i), "memory") && parse_screen(command_arg(r, i), &columns, &rows))
			return fail_word(r, i, "memory, effect or COLUMNSxROWS of 60x16 to 260x100");
	}
	if (!r->plain && !r->json) {
		r->request = COMMAND_TOP;
		r->at = columns;
		r->left = rows;
		r->cursor = page;
		return 0;
	}
	top_init(&plain_top, columns ? columns : SCREEN_COLUMNS, rows ? rows : SCREEN_ROWS, true);
	plain_top.page = page;
	top_begin(&plain_top);
	return plain_some(r);
}

/* ---- watch, repeat, more ---- */

/* The command behind `words` words of the line goes to r->rest. It must not be one that runs others. */
static int take_rest(struct command_run *r, u32 words)
{
	static const char *const not [] = {"watch", "repeat", "more", "top", "terminal"};
	const char *word = r->argv[words];

	for (u32 i = 0; i < ARRAY_SIZE(not ); i++)
		if (str_eq(word, not [i]))
			return command_fail(r, E_INVAL, "'%s': expected a command that prints and ends", word);
	command_rest(r, words);
	return 0;
}

int cmd_watch(struct command_run *r)
{
	u64 seconds;

	if (parse_u64(command_arg(r, 0), WATCH_MAX_SEC, &seconds) || !seconds)
		return fail_word(r, 0, "1 to 3600 seconds");
	r->request = COMMAND_WATCH;
	r->left = (u32)seconds;
	return take_rest(r, 2);
}

int cmd_repeat(struct command_run *r)
{
	u64 count;

	if (parse_u64(command_arg(r, 0), REPEAT_MAX, &count) || !count)
		return fail_word(r, 0, "1 to 1000000 times");
	r->request = COMMAND_REPEAT;
	r->left = (u32)count;
	return take_rest(r, 2);
}

int cmd_more(struct command_run *r)
{
	r->request = COMMAND_MORE;
	return take_rest(r, 1);
}

/* ---- terminal ---- */

int cmd_terminal(struct command_run *r)
{
	bool plain = str_eq(command_arg(r, 0), "plain");

	if (!plain && !str_eq(command_arg(r, 0), "vt100"))
		return fail_word(r, 0, "plain or vt100");
	r->request = COMMAND_TERMINAL;
	r->left = plain;
	return 0;
}
