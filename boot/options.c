/* Loader options: see options.h. The rest of the file is the configuration parser's business. */
#include "boot/options.h"
#include "lib/err.h"
#include "lib/string.h"

#define PORT_MAX 0xfff8U /* eight registers from here on */
#define BAUD_MAX 115200U

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Narrows [*start, *end) to what is left without blanks at both ends. */
static void trim(const char **start, const char **end)
{
	while (*start < *end && is_blank(**start))
		(*start)++;
	while (*end > *start && is_blank((*end)[-1]))
		(*end)--;
}

static bool is_word(const char *start, const char *end, const char *word)
{
	return (size_t)(end - start) == strlen(word) && memcmp(start, word, end - start) == 0;
}

/* Where a comment begins, " ;", as in the rest of the file; end: there is none. */
static const char *comment(const char *start, const char *end)
{
	for (const char *c = start; end - c > 1; c++)
		if (is_blank(c[0]) && c[1] == ';')
			return c;
	return end;
}

bool options_from_ini(const char *text, size_t len, char *out, size_t size)
{
	const char *end = text + len, *line = text, *next;
	bool inside = false;

	out[0] = '\0';
	for (; line < end; line = next < end ? next + 1 : end) {
		const char *s = line, *e, *eq;

		next = memchr(line, '\n', end - line);
		if (!next)
			next = end;
		e = comment(s, next);
		trim(&s, &e);
		if (s < e && *s == '[') {
			inside = is_word(s, e, "[loader]");
			continue;
		}
		eq = s < e ? memchr(s, '=', e - s) : NULL;
		if (inside && eq) {
			const char *key_end = eq, *value = eq + 1;
			size_t n;

			trim(&s, &key_end);
			trim(&value, &e);
			if (!is_word(s, key_end, "options"))
				continue;
			n = MIN((size_t)(e - value), size - 1);
			memcpy(out, value, n);
			out[n] = '\0';
			return n == (size_t)(e - value);
		}
	}
	return true;
}

bool options_get(const char *cmdline, const char *key, char *value, size_t size)
{
	size_t key_len = strlen(key), n;

	for (const char *p = cmdline; *p;) {
		const char *word = p;

		while (*p && !is_blank(*p))
			p++;
		n = p - word;
		if (n >= key_len && memcmp(word, key, key_len) == 0 && (n == key_len || word[key_len] == '=')) {
			word += key_len + (n > key_len);
			n = MIN((size_t)(p - word), size - 1);
			memcpy(value, word, n);
			value[n] = '\0';
			return true;
		}
		while (is_blank(*p))
			p++;
	}
	return false;
}

bool options_next(const char **at, char *key, size_t size)
{
	const char *p = *at;
	size_t n = 0;
	bool is_key = true;

	while (is_blank(*p))
		p++;
	for (; *p && !is_blank(*p); p++) {
		is_key = is_key && *p != '=';
		if (is_key && n + 1 < size)
			key[n++] = *p;
	}
	key[n] = '\0';
	if (p == *at || is_blank(p[-1]))
		return false;
	*at = p;
	return true;
}

/*
 * A number in digits of `base` up to a comma or the end; returns what stands behind it, NULL: none, or more than max.
 */
static const char *number(const char *s, u32 base, u32 max, u32 *out)
{
	const char *first = s;
	u32 n = 0;

	for (; *s && *s != ','; s++) {
		u32 digit = *s >= '0' && *s <= '9' ? *s - '0' : (*s | 0x20) >= 'a' ? (*s | 0x20) - 'a' + 10 : base;

		if (digit >= base)
			return NULL;
		n = n * base + digit;
		if (n > max)
			return NULL;
	}
	*out = n;
	return s == first ? NULL : s;
}

int options_serial(const char *value, struct machine_serial *out)
{
	static const u16 port[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
	static const u8 line[] = {4, 3, 4, 3};
	struct machine_serial s = {.stride = 1, .line = MACHINE_LINE_NONE, .baud = BAUD_MAX};
	const char *rest = value + 2;
	u32 n = 0;

	if (str_starts(value, "com") && value[3] >= '1' && value[3] <= '4') {
		s.addr = port[value[3] - '1'];
		rest = value + 4;
	} else if (str_starts(value, "0x")) {
		rest = number(rest, 16, PORT_MAX, &n);
		s.addr = n;
	} else {
		return E_INVAL;
	}
	if (rest && *rest == ',')
		rest = number(rest + 1, 10, BAUD_MAX, &s.baud);
	if (!rest || *rest || !s.addr || !s.baud)
		return E_INVAL;
	for (u32 i = 0; i < ARRAY_SIZE(port); i++)
		if (s.addr == port[i])
			s.line = line[i];
	*out = s;
	return 0;
}
