/*
 * The line editor: see line.h.
 *
 * Invariants: pos <= len < CONSOLE_LINE_MAX; buf[len] == 0; buf holds printable ASCII only;
 * first <= pos <= first + text columns. Used by one CPU at a time (the console's work item).
 */
#include "vmm/line.h"

#include "lib/format.h"
#include "lib/string.h"

enum key {
	KEY_CTRL_A = 1,
	KEY_CTRL_B = 2,
	KEY_CTRL_C = 3,
	KEY_CTRL_D = 4,
	KEY_CTRL_E = 5,
	KEY_CTRL_F = 6,
	KEY_BACKSPACE = 8,
	KEY_TAB = 9,
	KEY_LF = 10,
	KEY_CTRL_K = 11,
	KEY_CTRL_L = 12,
	KEY_CR = 13,
	KEY_CTRL_N = 14,
	KEY_CTRL_P = 16,
	KEY_CTRL_U = 21,
	KEY_CTRL_W = 23,
	KEY_ESC = 27,
	KEY_DELETE = 127,
};

#define TEXT_MAX (CONSOLE_LINE_MAX - 1U)
/* One column stays free, so that the terminal never wraps. */
#define TEXT_COLUMNS   (LINE_COLUMNS - 1U - (u32)(sizeof(CONSOLE_PROMPT) - 1))
#define ESC_NUMBER_MAX 999U

static void emit(struct line *l, const char *text, size_t len)
{
	l->out->write(l->out, text, len);
}

static void emit_text(struct line *l, const char *text)
{
	emit(l, text, strlen(text));
}

void line_show(struct line *l)
{
	char row[sizeof(CONSOLE_PROMPT) + LINE_COLUMNS + 24];
	u32 shown;
	size_t n;

	if (l->pos < l->first)
		l->first = l->pos;
	if (l->pos > l->first + TEXT_COLUMNS)
		l->first = l->pos - TEXT_COLUMNS;
	shown = MIN(l->len - l->first, TEXT_COLUMNS);
	n = format_append(row, sizeof(row), 0, "\r\x1b[K" CONSOLE_PROMPT "%.*s", (int)shown, l->buf + l->first);
	if (l->pos < l->first + shown)
		n = format_append(row, sizeof(row), n, "\x1b[%uD", l->first + shown - l->pos);
	emit(l, row, n);
}

static void clear(struct line *l)
{
	l->len = l->pos = l->first = 0;
	l->buf[0] = 0;
	l->lost = false;
}

void line_init(struct line *l, struct console_out *out)
{
	memset(l, 0, sizeof(*l));
	l->out = out;
}

void line_begin(struct line *l)
{
	clear(l);
	l->history_back = 0;
	emit_text(l, CONSOLE_PROMPT);
}

/* ---- editing ---- */

static void insert(struct line *l, char c)
{
	if (l->len == TEXT_MAX) {
		l->lost = true;
		emit_text(l, "\a");
		return;
	}
	memmove(l->buf + l->pos + 1, l->buf + l->pos, l->len - l->pos + 1);
	l->buf[l->pos++] = c;
	l->len++;
	if (l->pos == l->len && l->len - l->first <= TEXT_COLUMNS)
		emit(l, &c, 1);
	else
		line_show(l);
}

void line_insert(struct line *l, const char *text)
{
	for (; *text; text++)
		if (*text >= ' ' && (u8)*text < KEY_DELETE)
			insert(l, *text);
}

/* Removes buf[from, to) and leaves the cursor at from. */
static void cut(struct line *l, u32 from, u32 to)
{
	if (from == to)
		return;
	memmove(l->buf + from, l->buf + to, l->len - to + 1);
	l->len -= to - from;
	l->pos = from;
	l->lost = false;
	line_show(l);
}

static void backspace(struct line *l)
{
	if (l->pos == l->len && l->pos > l->first) {
		l->buf[--l->len] = 0;
		l->pos--;
		l->lost = false;
		emit_text(l, "\b \b");
	} else if (l->pos) {
		cut(l, l->pos - 1, l->pos);
	}
}

static u32 word_start(const struct line *l)
{
	u32 at = l->pos;

	while (at && l->buf[at - 1] == ' ')
		at--;
	while (at && l->buf[at - 1] != ' ')
		at--;
	return at;
}

static void move_to(struct line *l, u32 pos)
{
	if (pos == l->pos)
		return;
	l->pos = pos;
	line_show(l);
}

static void move_left(struct line *l)
{
	move_to(l, l->pos ? l->pos - 1 : 0);
}

static void move_right(struct line *l)
{
	move_to(l, MIN(l->pos + 1, l->len));
}

static void delete_here(struct line *l)
{
	if (l->pos < l->len)
		cut(l, l->pos, l->pos + 1);
}

/* ---- history ---- */

static char *history_line(struct line *l, u32 back)
{
	return l->history[(l->history_count - back) % CONSOLE_HISTORY];
}

static void history_add(struct line *l)
{
	if (!l->len || (l->history_count && str_eq(history_line(l, 1), l->buf)))
		return;
	str_copy(l->history[l->history_count % CONSOLE_HISTORY], l->buf, CONSOLE_LINE_MAX);
	l->history_count++;
}

static void history_go(struct line *l, u32 back)
{
	if (back > MIN(l->history_count, (u32)CONSOLE_HISTORY) || back == l->history_back)
		return;
	if (l->history_back == 0)
		str_copy(l->typed, l->buf, sizeof(l->typed));
	l->history_back = back;
	clear(l);
	str_copy(l->buf, back ? history_line(l, back) : l->typed, sizeof(l->buf));
	l->len = l->pos = (u32)strlen(l->buf);
	line_show(l);
}

static void history_older(struct line *l)
{
	history_go(l, l->history_back + 1);
}

static void history_newer(struct line *l)
{
	if (l->history_back)
		history_go(l, l->history_back - 1);
}

/* ---- escape sequences ---- */

static void csi_tilde(struct line *l)
{
	switch (l->esc_number) {
	case 1:
	case 7:
		move_to(l, 0);
		break;
	case 3:
		delete_here(l);
		break;
	case 4:
	case 8:
		move_to(l, l->len);
		break;
	}
}

/* The last byte of ESC [ ... or ESC O ... */
static void escape_final(struct line *l, u8 c)
{
	switch (c) {
	case 'A':
		history_older(l);
		break;
	case 'B':
		history_newer(l);
		break;
	case 'C':
		move_right(l);
		break;
	case 'D':
		move_left(l);
		break;
	case 'H':
		move_to(l, 0);
		break;
	case 'F':
		move_to(l, l->len);
		break;
	case '~':
		csi_tilde(l);
		break;
	}
}

static void csi_byte(struct line *l, u8 c)
{
	if (c >= 0x40 && c < KEY_DELETE) {
		l->esc = LINE_ESC_NONE;
		if (!l->esc_more)
			escape_final(l, c);
	} else if (c >= '0' && c <= '9') {
		l->esc_number = MIN(l->esc_number * 10 + (c - '0'), ESC_NUMBER_MAX);
	} else {
		l->esc_more = true;
	}
}

static void escape_byte(struct line *l, u8 c)
{
	switch (l->esc) {
	case LINE_ESC_START:
		l->esc = c == '[' ? LINE_ESC_CSI : c == 'O' ? LINE_ESC_SS3 : LINE_ESC_NONE;
		l->esc_number = 0;
		l->esc_more = false;
		break;
	case LINE_ESC_CSI:
		csi_byte(l, c);
		break;
	default:
		l->esc = LINE_ESC_NONE;
		escape_final(l, c);
	}
}

/* ---- keys ---- */

/* A line of which only a part was shown stands on the screen (and in a transcript) in full at last. */
static void show_all(struct line *l)
{
	emit_text(l, "\r\x1b[K" CONSOLE_PROMPT);
	emit(l, l->buf, l->len);
}

static enum line_event enter(struct line *l)
{
	if (l->len > TEXT_COLUMNS)
		show_all(l);
	emit_text(l, "\n");
	if (l->lost)
		return LINE_TOO_LONG;
	history_add(l);
	return LINE_DONE;
}

static void control(struct line *l, u8 c)
{
	switch (c) {
	case KEY_CTRL_A:
		move_to(l, 0);
		break;
	case KEY_CTRL_B:
		move_left(l);
		break;
	case KEY_CTRL_D:
		delete_here(l);
		break;
	case KEY_CTRL_E:
		move_to(l, l->len);
		break;
	case KEY_CTRL_F:
		move_right(l);
		break;
	case KEY_BACKSPACE:
	case KEY_DELETE:
		backspace(l);
		break;
	case KEY_TAB:
		if (l->complete)
			l->complete(l);
		break;
	case KEY_CTRL_K:
		cut(l, l->pos, l->len);
		break;
	case KEY_CTRL_L:
		emit_text(l, "\x1b[H\x1b[2J");
		line_show(l);
		break;
	case KEY_CTRL_N:
		history_newer(l);
		break;
	case KEY_CTRL_P:
		history_older(l);
		break;
	case KEY_CTRL_U:
		cut(l, 0, l->pos);
		break;
	case KEY_CTRL_W:
		cut(l, word_start(l), l->pos);
		break;
	}
}

enum line_event line_feed(struct line *l, u8 c)
{
	bool after_cr = l->last_cr;

	l->last_cr = c == KEY_CR;
	if (c == KEY_LF && after_cr)
		return LINE_EDITING;
	/* A control character ends an unfinished sequence and keeps its own meaning, as on a VT100. */
	if (c < ' ')
		l->esc = LINE_ESC_NONE;
	if (c == KEY_CR || c == KEY_LF)
		return enter(l);
	if (c == KEY_CTRL_C) {
		clear(l);
		emit_text(l, "^C\n");
		return LINE_CANCELED;
	}
	if (c == KEY_ESC)
		l->esc = LINE_ESC_START;
	else if (l->esc != LINE_ESC_NONE)
		escape_byte(l, c);
	else if (c < ' ' || c == KEY_DELETE)
		control(l, c);
	else if (c < KEY_DELETE)
		insert(l, (char)c);
	return LINE_EDITING;
}
