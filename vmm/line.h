/*
 * Line editor of the operator's console: emacs keys, arrows, history, completion. It knows no
 * hardware: bytes go in by line_feed(), what the terminal has to show goes to a struct console_out.
 *
 * The terminal is taken for an 80-column VT100 that knows CR, BS, BEL, ESC [ K and ESC [ n D. A line longer
 * than the screen is wide scrolls sideways.
 */
#ifndef VMM_LINE_H
#define VMM_LINE_H

#include "lib/types.h"
#include "vmm/console.h"

#define LINE_COLUMNS 80U

enum line_event {
	LINE_EDITING,  /* go on */
	LINE_DONE,     /* Enter: buf holds the line, which is in the history now */
	LINE_CANCELED, /* Ctrl-C: buf is empty; prompt again */
	LINE_TOO_LONG, /* Enter on a line that lost characters: it must not be executed */
};

enum line_escape { LINE_ESC_NONE, LINE_ESC_START, LINE_ESC_CSI, LINE_ESC_SS3 };

struct line {
	struct console_out *out;
	char buf[CONSOLE_LINE_MAX]; /* terminated */
	u32 len, pos;               /* pos: of the cursor */
	u32 first;                  /* first character shown */
	bool lost;                  /* characters were refused for lack of room */
	bool last_cr;               /* an LF that follows a CR is not a second Enter */
	enum line_escape esc;
	u32 esc_number; /* first parameter of a CSI sequence */
	bool esc_more;  /* further parameters follow: the sequence is none of ours */

	char history[CONSOLE_HISTORY][CONSOLE_LINE_MAX];
	u32 history_count;            /* lines ever added; the ring keeps the last CONSOLE_HISTORY */
	u32 history_back;             /* 0: the line being typed, n: n lines back */
	char typed[CONSOLE_LINE_MAX]; /* the line being typed, while an older one is shown */

	/* Tab: may call line_insert(). NULL: no completion. */
	void (*complete)(struct line *l);
};

void line_init(struct line *l, struct console_out *out);
void line_begin(struct line *l); /* empties the line and prints the prompt */
void line_show(struct line *l);  /* prints prompt and line again, on a row that is free */
enum line_event line_feed(struct line *l, u8 c);
void line_insert(struct line *l, const char *text); /* at the cursor, printable text only */

#endif
