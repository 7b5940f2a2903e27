/*
 * Text formatting for logs, console and metrics. One pass over the format; each conversion puts characters
 * into a sink that counts all and stores those that fit.
 */
#include "lib/format.h"

#include "lib/string.h"

struct sink {
	char *buf;
	size_t size, len;
};

struct spec {
	bool minus, zero, alt, plus, space;
	int width, precision; /* precision -1: none given */
	u32 bytes;            /* size of an integer argument */
};

#define DIGITS_MAX 24

static void put(struct sink *s, char c)
{
	if (s->len + 1 < s->size)
		s->buf[s->len] = c;
	s->len++;
}

static void put_repeated(struct sink *s, char c, int n)
{
	for (; n > 0; n--)
		put(s, c);
}

static void put_text(struct sink *s, const struct spec *f, const char *text)
{
	int len;

	if (!text)
		text = "(null)";
	len = (int)(f->precision >= 0 ? strnlen(text, (size_t)f->precision) : strlen(text));
	if (!f->minus)
		put_repeated(s, ' ', f->width - len);
	for (int i = 0; i < len; i++)
		put(s, text[i]);
	if (f->minus)
		put_repeated(s, ' ', f->width - len);
}

/* prefix: sign or "0x"; precision is the least number of digits. */
static void put_number(struct sink *s, const struct spec *f, u64 value, u32 base, bool upper, const char *prefix)
{
	const char *set = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	char digits[DIGITS_MAX];
	int n = 0, plen = (int)strlen(prefix), zeros, pad;

	for (; value; value /= base)
		digits[n++] = set[value % base];
	zeros = MAX((f->precision < 0 ? 1 : f->precision) - n, 0);
	pad = f->width - plen - zeros - n;
	if (f->zero && !f->minus && f->precision < 0 && pad > 0) {
		zeros += pad;
		pad = 0;
	}
	if (!f->minus)
		put_repeated(s, ' ', pad);
	while (*prefix)
		put(s, *prefix++);
	put_repeated(s, '0', zeros);
	while (n > 0)
		put(s, digits[--n]);
	if (f->minus)
		put_repeated(s, ' ', pad);
}

static u64 take_unsigned(va_list *ap, u32 bytes)
{
	switch (bytes) {
	case 1:
		return (u8)va_arg(*ap, unsigned int);
	case 2:
		return (u16)va_arg(*ap, unsigned int);
	case 4:
		return va_arg(*ap, unsigned int);
	default:
		return va_arg(*ap, u64);
	}
}

static s64 take_signed(va_list *ap, u32 bytes)
{
	switch (bytes) {
	case 1:
		return (s8)va_arg(*ap, int);
	case 2:
		return (s16)va_arg(*ap, int);
	case 4:
		return va_arg(*ap, int);
	default:
		return va_arg(*ap, s64);
	}
}

static const char *parse_flags(const char *p, struct spec *f)
{
	for (;; p++) {
		switch (*p) {
		case '-':
			f->minus = true;
			break;
		case '0':
			f->zero = true;
			break;
		case '#':
			f->alt = true;
			break;
		case '+':
			f->plus = true;
			break;
		case ' ':
			f->space = true;
			break;
		default:
			return p;
		}
	}
}

static const char *parse_count(const char *p, va_list *ap, int *out)
{
	int n = 0;

	if (*p == '*') {
		*out = va_arg(*ap, int);
		return p + 1;
	}
	for (; *p >= '0' && *p <= '9'; p++)
		n = MIN(n * 10 + (*p - '0'), 10000);
	*out = n;
	return p;
}

static const char *parse_length(const char *p, struct spec *f)
{
	f->bytes = sizeof(int);
	for (;; p++) {
		if (*p == 'l' || *p == 'z' || *p == 'j' || *p == 't')
			f->bytes = 8;
		else if (*p == 'h')
			f->bytes /= 2;
		else
			return p;
	}
}

static const char *parse_spec(const char *p, va_list *ap, struct spec *f)
{
	*f = (struct spec){.precision = -1};
	p = parse_flags(p, f);
	p = parse_count(p, ap, &f->width);
	if (f->width < 0) {
		f->minus = true;
		f->width = -f->width;
	}
	if (*p == '.')
		p = parse_count(p + 1, ap, &f->precision);
	return parse_length(p, f);
}

static void put_signed(struct sink *s, const struct spec *f, s64 v)
{
	const char *sign = v < 0 ? "-" : f->plus ? "+" : f->space ? " " : "";

	put_number(s, f, v < 0 ? 0 - (u64)v : (u64)v, 10, false, sign);
}

static void put_conversion(struct sink *s, struct spec *f, char c, va_list *ap)
{
	char one[2] = {0};
	u64 v;

	switch (c) {
	case 'd':
	case 'i':
		put_signed(s, f, take_signed(ap, f->bytes));
		break;
	case 'u':
		put_number(s, f, take_unsigned(ap, f->bytes), 10, false, "");
		break;
	case 'x':
	case 'X':
		v = take_unsigned(ap, f->bytes);
		put_number(s, f, v, 16, c == 'X', f->alt && v ? (c == 'X' ? "0X" : "0x") : "");
		break;
	case 'p':
		put_number(s, f, (u64)va_arg(*ap, void *), 16, false, "0x");
		break;
	case 's':
		put_text(s, f, va_arg(*ap, const char *));
		break;
	case 'c':
		one[0] = (char)va_arg(*ap, int);
		put_text(s, f, one);
		break;
	case '%':
		put(s, '%');
		break;
	default:
		put(s, '%');
		put(s, c);
	}
}

int format_vbuf(char *buf, size_t size, const char *fmt, va_list ap_in)
{
	struct sink s = {.buf = buf, .size = size};
	struct spec f;
	va_list ap;

	va_copy(ap, ap_in);
	for (const char *p = fmt; *p; p++) {
		if (*p != '%') {
			put(&s, *p);
			continue;
		}
		p = parse_spec(p + 1, &ap, &f);
		if (!*p)
			break;
		put_conversion(&s, &f, *p, &ap);
	}
	va_end(ap);
	if (size)
		buf[MIN(s.len, size - 1)] = '\0';
	return (int)s.len;
}

int format_buf(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = format_vbuf(buf, size, fmt, ap);
	va_end(ap);
	return len;
}

size_t format_append(char *buf, size_t size, size_t at, const char *fmt, ...)
{
	va_list ap;
	int len;

	if (!size)
		return 0;
	at = MIN(at, size - 1);
	va_start(ap, fmt);
	len = format_vbuf(buf + at, size - at, fmt, ap);
	va_end(ap);
	return MIN(at + (size_t)len, size - 1);
}

size_t format_left(char *buf, size_t size, size_t at, size_t begin, const char *text)
{
	return format_append(buf, size, at, "%*s%s", (int)(at < begin ? begin - at : at > 0), "", text);
}

size_t format_right(char *buf, size_t size, size_t at, size_t end, const char *text)
{
	size_t n = strlen(text);

	return format_left(buf, size, at, end > n ? end - n : 0, text);
}

char *format_size(char buf[FORMAT_SIZE_BYTES], u64 bytes)
{
	static const char units[] = "KMGTPE";
	u32 unit = 0;
	u64 tenths;

	if (bytes < KIB) {
		format_buf(buf, FORMAT_SIZE_BYTES, "%lu", bytes);
		return buf;
	}
	while (unit + 1 < sizeof(units) - 1 && bytes >> (10 * (unit + 2)))
		unit++;
	tenths = (bytes >> (10 * unit)) * 10 / KIB;
	if (tenths % 10 && tenths < 1000)
		format_buf(buf, FORMAT_SIZE_BYTES, "%lu.%lu%c", tenths / 10, tenths % 10, units[unit]);
	else
		format_buf(buf, FORMAT_SIZE_BYTES, "%lu%c", tenths / 10, units[unit]);
	return buf;
}
