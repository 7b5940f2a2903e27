/* String helpers of our own, whole-page operations and number parsing; built for the machine and the host. */
#include "lib/string.h"

#include "lib/err.h"

size_t str_copy(char *dst, const char *src, size_t size)
{
	size_t len = strlen(src);
	size_t take = size ? MIN(len, size - 1) : 0;

	if (size) {
		memcpy(dst, src, take);
		dst[take] = '\0';
	}
	return len;
}

bool str_eq(const char *a, const char *b)
{
	return !strcmp(a, b);
}

bool str_starts(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

void page_clear(void *p)
{
	memset(p, 0, PAGE_SIZE);
}

void page_copy(void *dst, const void *src)
{
	memcpy(dst, src, PAGE_SIZE);
}

bool page_is_zero(const void *p)
{
	const u64 *w = p;

	for (size_t i = 0; i < PAGE_SIZE / sizeof(u64); i += 8)
		if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] | w[i + 7])
			return false;
	return true;
}

bool page_equal(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	for (size_t i = 0; i < PAGE_SIZE / sizeof(u64); i += 8)
		if ((x[i] ^ y[i]) | (x[i + 1] ^ y[i + 1]) | (x[i + 2] ^ y[i + 2]) | (x[i + 3] ^ y[i + 3]) |
		    (x[i + 4] ^ y[i + 4]) | (x[i + 5] ^ y[i + 5]) | (x[i + 6] ^ y[i + 6]) | (x[i + 7] ^ y[i + 7]))
			return false;
	return true;
}

static int digit_value(char c, u32 base)
{
	int v = -1;

	if (c >= '0' && c <= '9')
		v = c - '0';
	else if (c >= 'a' && c <= 'f')
		v = c - 'a' + 10;
	else if (c >= 'A' && c <= 'F')
		v = c - 'A' + 10;
	return v < (int)base ? v : -1;
}

/* Reads the digits at *s and leaves *s behind them. E_INVAL: no digit; E_RANGE: above 64 bits. */
static int parse_digits(const char **s, u64 *out)
{
	u32 base = 10;
	u64 value = 0;
	bool over = false;
	const char *p = *s;

	if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
		base = 16;
		p += 2;
	}
	if (digit_value(*p, base) < 0)
		return E_INVAL;
	for (; digit_value(*p, base) >= 0; p++)
		over |= __builtin_mul_overflow(value, base, &value) ||
			__builtin_add_overflow(value, (u64)digit_value(*p, base), &value);
	*s = p;
	*out = value;
	return over ? E_RANGE : 0;
}

int parse_u64(const char *s, u64 max, u64 *out)
{
	u64 value;
	int err = parse_digits(&s, &value);

	if (err == E_INVAL || *s)
		return E_INVAL;
	if (err || value > max)
		return E_RANGE;
	*out = value;
	return 0;
}

/* Shift of a size suffix that makes up the whole of s: "", "K", "KB", "KiB" and so on; -1 for anything else. */
static int suffix_shift(const char *s)
{
	static const char units[] = "KMGT";
	char unit = *s >= 'a' && *s <= 'z' ? (char)(*s - 'a' + 'A') : *s;
	const char *at;

	if (!*s)
		return 0;
	at = strchr(units, unit);
	if (!at)
		return -1;
	s++;
	if (*s && !str_eq(s, "B") && !str_eq(s, "iB"))
		return -1;
	return 10 * (int)(at - units + 1);
}

int parse_size(const char *s, u64 max, u64 *out)
{
	u64 value;
	int err = parse_digits(&s, &value), shift;

	if (err == E_INVAL)
		return E_INVAL;
	shift = suffix_shift(s);
	if (shift < 0)
		return E_INVAL;
	if (err || value > max >> shift)
		return E_RANGE;
	*out = value << shift;
	return 0;
}
