/* See textscreen.h. */
#include "drivers/textscreen.h"

#define ESC       0x1b
#define TAB_COLS  8U
#define PARAM_MAX 9999U

enum state { PLAIN, ESCAPE, SEQUENCE };

static void clear_cells(struct textscreen *s, u32 y, u32 from, u32 to)
{
	u16 *row = s->cell[(s->first + y) % s->rows];

	for (u32 x = from; x < to; x++)
		row[x] = TEXTSCREEN_BLANK;
}

void textscreen_init(struct textscreen *s, u32 cols, u32 rows)
{
	s->cols = CLAMP(cols, 1U, TEXTSCREEN_COLS_MAX);
	s->rows = CLAMP(rows, 1U, TEXTSCREEN_ROWS_MAX);
	s->x = s->y = s->first = 0;
	s->attr = 0;
	s->state = PLAIN;
	for (u32 y = 0; y < s->rows; y++)
		clear_cells(s, y, 0, s->cols);
}

const u16 *textscreen_row(const struct textscreen *s, u32 y)
{
	return s->cell[(s->first + y) % s->rows];
}

static void line_feed(struct textscreen *s)
{
	if (s->y + 1 < s->rows) {
		s->y++;
		return;
	}
	s->first = (s->first + 1) % s->rows;
	clear_cells(s, s->rows - 1, 0, s->cols);
}

static void put(struct textscreen *s, u8 c)
{
	if (s->x == s->cols) {
		s->x = 0;
		line_feed(s);
	}
	s->cell[(s->first + s->y) % s->rows][s->x++] = c | s->attr;
}

/* A '\n' is a whole new line: the serial line gets CR LF for it. */
static void control(struct textscreen *s, u8 c)
{
	switch (c) {
	case '\r':
		s->x = 0;
		break;
	case '\n':
		s->x = 0;
		line_feed(s);
		break;
	case '\b':
		s->x -= s->x > 0;
		break;
	case '\t':
		s->x = MIN(ALIGN_DOWN(s->x, TAB_COLS) + TAB_COLS, s->cols - 1);
		break;
	case ESC:
		s->state = ESCAPE;
		break;
	default:
		break;
	}
}

static void erase_line(struct textscreen *s, u32 what)
{
	u32 x = MIN(s->x, s->cols - 1);

	clear_cells(s, s->y, what == 0 ? x : 0, what == 1 ? x + 1 : s->cols);
}

static void erase_screen(struct textscreen *s, u32 what)
{
	erase_line(s, what);
	for (u32 y = what == 0 ? s->y + 1 : 0; y < (what == 1 ? s->y : s->rows); y++)
		clear_cells(s, y, 0, s->cols);
}

static void set_attributes(struct textscreen *s)
{
	for (u32 i = 0; i < s->params; i++) {
		if (s->param[i] == 7)
			s->attr = TEXTSCREEN_INVERSE;
		else if (s->param[i] == 0 || s->param[i] == 27)
			s->attr = 0;
	}
}

static void move_to(struct textscreen *s, u32 x, u32 y)
{
	s->x = MIN(x, s->cols - 1);
	s->y = MIN(y, s->rows - 1);
}

static void end_sequence(struct textscreen *s, u8 c)
{
	u32 n = s->param[0], count = MAX(n, 1U), x = MIN(s->x, s->cols - 1);

	switch (c) {
	case 'A':
		move_to(s, x, s->y - MIN(count, s->y));
		break;
	case 'B':
		move_to(s, x, s->y + count);
		break;
	case 'C':
		move_to(s, x + count, s->y);
		break;
	case 'D':
		move_to(s, x - MIN(count, x), s->y);
		break;
	case 'G':
		move_to(s, count - 1, s->y);
		break;
	case 'H':
	case 'f':
		move_to(s, MAX(s->params > 1 ? s->param[1] : 1, 1U) - 1, count - 1);
		break;
	case 'J':
		erase_screen(s, MIN(n, 2U));
		break;
	case 'K':
		erase_line(s, MIN(n, 2U));
		break;
	case 'm':
		set_attributes(s);
		break;
	default:
		break;
	}
}

static void begin_sequence(struct textscreen *s)
{
	s->state = SEQUENCE;
	s->params = 1;
	for (u32 i = 0; i < TEXTSCREEN_PARAMS; i++)
		s->param[i] = 0;
}

static void sequence(struct textscreen *s, u8 c)
{
	u32 *last = &s->param[s->params - 1];

	if (c >= '0' && c <= '9') {
		*last = MIN(*last * 10 + (c - '0'), PARAM_MAX);
	} else if (c == ';') {
		s->params = MIN(s->params + 1, TEXTSCREEN_PARAMS);
	} else if (c >= 0x40 && c <= 0x7e) {
		end_sequence(s, c);
		s->state = PLAIN;
	} else if (c == ESC) {
		s->state = ESCAPE;
	}
}

static void feed(struct textscreen *s, u8 c)
{
	if (s->state == SEQUENCE) {
		sequence(s, c);
	} else if (s->state == ESCAPE) {
		s->state = PLAIN;
		if (c == '[')
			begin_sequence(s);
	} else if (c < ' ') {
		control(s, c);
	} else {
		put(s, c);
	}
}

void textscreen_write(struct textscreen *s, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		feed(s, (u8)text[i]);
}
