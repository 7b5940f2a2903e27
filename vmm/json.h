/*
 * `--json`: a sink that makes a command's text a JSON document, a line at a time:
 *
 * 	{"output":[record,
 * 	...],"ok":true}
 *
 * A line of key=value pairs is a record {"key":value,...}; below a table's header each row is one of the header's
 * words; other lines are strings. Numbers without a unit are numbers, all else is text.
 */
#ifndef VMM_JSON_H
#define VMM_JSON_H

#include "lib/types.h"
#include "vmm/console.h"

#define JSON_LINE_BYTES 512U
#define JSON_COLUMNS    16U

struct json_out {
	struct console_out out; /* the command writes here */
	struct console_out *below;
	char line[JSON_LINE_BYTES];
	size_t len;
	char header[128];
	char *column[JSON_COLUMNS]; /* in header */
	u32 columns;                /* 0: no table */
	bool any;                   /* a record has been written */
};

void json_begin(struct json_out *j, struct console_out *below);
/* error: NULL if the command did well. */
void json_end(struct json_out *j, const char *error);

#endif
