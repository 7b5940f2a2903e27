/*
 * "key=value key=value" lines for people and scripts: pairs fill lines of 80 columns and are broken between pairs only.
 * Keys are unique within a command's output. Text with blanks stands in double quotes.
 */
#ifndef VMM_PAIRS_H
#define VMM_PAIRS_H

#include "lib/types.h"
#include "vmm/console.h"

struct pairs {
	struct console_out *out;
	u32 column;
	const char *label; /* of the next line; NULL: none */
	bool labelled;     /* lines are indented behind labels */
};
#define PAIRS_LABEL_WIDTH 10

void pairs_begin(struct pairs *p, struct console_out *out);
void pairs_label(struct pairs *p, const char *label); /* begins a line with it; following lines are indented */
void pairs_number(struct pairs *p, const char *key, u64 value);
void pairs_size(struct pairs *p, const char *key, u64 bytes);                                /* "1.5G" */
void pairs_format(struct pairs *p, const char *key, const char *fmt, ...) printf_like(3, 4); /* no blanks, no quotes */
void pairs_text(struct pairs *p, const char *key, const char *text); /* quoted, made printable, a line of its own */
void pairs_end(struct pairs *p);                                     /* ends the line */

#endif
