/*
 * `more`: holds a command's output back a screenful at a time. Text goes in a piece at a time and comes out up to the
 * end of the page, where a key is waited for. Knows no terminal.
 */
#ifndef VMM_PAGER_H
#define VMM_PAGER_H

#include "lib/types.h"
#include "vmm/command.h"

#define PAGER_ROWS   23U /* of a terminal of 24; the last one shows PAGER_PROMPT */
#define PAGER_PROMPT "--more-- (blank: page, Enter: line, q: ends)"

struct pager {
	bool on, quit;
	u32 left; /* lines of this page */
	size_t at, len;
	char text[COMMAND_PIECE_BYTES + PAGE_SIZE];
};

void pager_begin(struct pager *p);
void pager_put(struct pager *p, const char *text, size_t len);
/* Moves on to what may be shown now; its length, 0: nothing. */
size_t pager_take(struct pager *p, const char **text);
/* The page is full and there is more: a key is wanted. */
bool pager_waits(const struct pager *p);
void pager_key(struct pager *p, u8 c);

#endif
