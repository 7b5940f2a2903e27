/*
 * The full-screen page in the manner of esxtop: host lines, a row a VM. Pure text from what the monitor has taken last,
 * so everything on one screen is of one moment; a few lines a piece. Two pages: memory, and what it does to the guests.
 *
 * Keys and the answer to a question for the terminal's size go in by top_key(). Belongs to the boot CPU.
 */
#ifndef VMM_TOP_H
#define VMM_TOP_H

#include "lib/types.h"
#include "vmm/console.h"
#include "vmm/vm.h"

#define TOP_COLUMNS_MIN 60U
#define TOP_COLUMNS_MAX 260U
#define TOP_ROWS_MIN    16U
#define TOP_ROWS_MAX    100U

enum top_page { TOP_MEMORY, TOP_EFFECT, TOP_PAGES };

struct top {
	u32 columns, rows;
	bool plain; /* no escape sequences */
	bool done;  /* the operator has left */
	enum top_page page;
	u32 sort; /* of the table of keys */
	bool reverse;
	u32 first_column; /* of the table's, behind the name */
	u32 interval;     /* seconds between two screens */
	u16 selected;     /* id of a VM */
	bool keys_shown;

	/* the screen under way */
	u32 line, count;
	u16 order[VM_MAX]; /* slots of the monitor */
	u32 first_row;

	u32 esc, number, other; /* of an escape sequence that comes in */
};

void top_init(struct top *t, u32 columns, u32 rows, bool plain);
/* Begins a screen, then pieces of it until false. */
void top_begin(struct top *t);
bool top_piece(struct top *t, struct console_out *o);
/* True: the screen has to be drawn anew. */
bool top_key(struct top *t, u8 c);

/* Asks the terminal how large it is, the answer comes as keys; leaves the screen clean. */
void top_ask_size(struct console_out *o);
void top_leave(struct console_out *o);

#endif
