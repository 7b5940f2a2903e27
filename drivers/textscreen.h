/*
 * A screen of characters, fed with what goes out on the serial line: a small VT100, so that a picture of the console
 * can be drawn. Knows CR, LF, BS, TAB and the sequences that the console uses (cursor, erase, inverse); swallows all
 * others. Pure: no drawing, no locking, bounded work for every byte.
 */
#ifndef DRIVERS_TEXTSCREEN_H
#define DRIVERS_TEXTSCREEN_H

#include "lib/types.h"

#define TEXTSCREEN_COLS_MAX 160U
#define TEXTSCREEN_ROWS_MAX 64U
#define TEXTSCREEN_PARAMS   4U

/* A cell: the character in the low byte, and these. */
#define TEXTSCREEN_INVERSE 0x100
#define TEXTSCREEN_BLANK   ' '

struct textscreen {
	u32 cols, rows;
	u32 x, y;  /* cursor; x == cols: the next character begins a new row */
	u32 first; /* cell[first] is the top row: scrolling moves no text */
	u16 attr;
	u8 state; /* inside an escape sequence */
	u32 params, param[TEXTSCREEN_PARAMS];
	u16 cell[TEXTSCREEN_ROWS_MAX][TEXTSCREEN_COLS_MAX];
};

void textscreen_init(struct textscreen *s, u32 cols, u32 rows); /* cut to the maximum, at least 1 */
void textscreen_write(struct textscreen *s, const char *text, size_t len);
const u16 *textscreen_row(const struct textscreen *s, u32 y); /* `cols` cells */

#endif
