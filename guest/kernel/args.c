/* See args.h. */
#include "guest/kernel/args.h"
#include "lib/err.h"
#include "lib/string.h"

#define PERCENT_MAX    1000 /* an application may be larger than memory */
#define SIZE_BYTES_MAX (1024 * GIB)

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

int args_parse(struct args *a, const char *line)
{
	bool cut = str_copy(a->text, line, sizeof(a->text)) >= sizeof(a->text);
	char *at = a->text, *equals;

	for (a->count = 0;;) {
		while (blank(*at))
			*at++ = '\0';
		if (!*at)
			return cut ? E_2BIG : 0;
		if (a->count == ARGS_MAX)
			return E_2BIG;
		a->key[a->count] = at;
		while (*at && !blank(*at))
			at++;
		if (*at)
			*at++ = '\0';
		equals = strchr(a->key[a->count], '=');
		if (equals)
			*equals = '\0';
		a->value[a->count++] = equals ? equals + 1 : "1";
	}
}

const char *args_text(const struct args *a, const char *key, const char *otherwise)
{
	for (u32 i = a->count; i-- > 0;) {
		if (str_eq(a->key[i], key))
			return a->value[i];
	}
	return otherwise;
}

int args_number(const struct args *a, const char *key, u64 max, u64 otherwise, u64 *out)
{
	const char *text = args_text(a, key, NULL);

	*out = otherwise;
	return text ? parse_u64(text, max, out) : 0;
}

int args_seconds(const struct args *a, const char *key, u64 max, u64 otherwise, u64 *ns)
{
	u64 seconds;
	int err = args_number(a, key, max, otherwise, &seconds);

	*ns = seconds * NSEC_PER_SEC;
	return err;
}

/* "N%" into *out; E_NOENT if text does not end in a percent sign. */
static int parse_percent(const char *text, u64 max, u64 *out)
{
	char digits[8];
	size_t len = strlen(text);

	if (len == 0 || text[len - 1] != '%')
		return E_NOENT;
	if (len > sizeof(digits))
		return E_INVAL;
	memcpy(digits, text, len - 1);
	digits[len - 1] = '\0';
	return parse_u64(digits, max, out);
}

int args_percent(const struct args *a, const char *key, u32 otherwise, u32 *out)
{
	const char *text = args_text(a, key, NULL);
	u64 n;
	int err;

	*out = otherwise;
	if (!text)
		return 0;
	err = parse_percent(text, 100, &n);
	if (err == E_NOENT)
		err = parse_u64(text, 100, &n);
	if (!err)
		*out = (u32)n;
	return err;
}

int args_pages(const struct args *a, const char *key, u64 whole, u64 otherwise, u64 *out)
{
	const char *text = args_text(a, key, NULL);
	u64 n;
	int err;

	*out = otherwise;
	if (!text)
		return 0;
	err = parse_percent(text, PERCENT_MAX, &n);
	if (!err) {
		*out = whole * n / 100;
		return 0;
	}
	if (err == E_NOENT)
		err = parse_size(text, SIZE_BYTES_MAX, &n);
	if (!err)
		*out = DIV_ROUND_UP(n, PAGE_SIZE);
	return err;
}
