/* The command line: words `key=value` separated by blanks; a word without '=' is a key with the value "1". The last of
 * equal keys counts. */
#ifndef GUEST_ARGS_H
#define GUEST_ARGS_H

#include "lib/types.h"

#define ARGS_MAX   24
#define ARGS_BYTES 256

struct args {
	u32 count;
	const char *key[ARGS_MAX], *value[ARGS_MAX];
	char text[ARGS_BYTES]; /* cut up by args_parse */
};

/* E_2BIG: more than ARGS_MAX words, or too long; what fits is kept. */
int args_parse(struct args *a, const char *line) must_check;
const char *args_text(const struct args *a, const char *key, const char *otherwise);
/*
 * Numbers; 0 or E_INVAL / E_RANGE (then *out is `otherwise`). args_pages: "50%" of `whole` pages, or a size in bytes
 * with suffix, rounded up to pages.
 */
int args_number(const struct args *a, const char *key, u64 max, u64 otherwise, u64 *out) must_check;
/* In ns; on the line it is in seconds, as max and otherwise are. */
int args_seconds(const struct args *a, const char *key, u64 max, u64 otherwise, u64 *ns) must_check;
int args_percent(const struct args *a, const char *key, u32 otherwise,
		 u32 *out) must_check; /* "20" or "20%", at most 100 */
int args_pages(const struct args *a, const char *key, u64 whole, u64 otherwise, u64 *out) must_check;

#endif
