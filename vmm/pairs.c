/* Lines of key=value pairs. See pairs.h. */
#include "vmm/pairs.h"

#include "lib/format.h"
#include "lib/string.h"

#define PAIRS_COLUMNS 79U
#define PAIR_BYTES    96
#define TEXT_BYTES    320

void pairs_begin(struct pairs *p, struct console_out *out)
{
	*p = (struct pairs){.out = out};
}

void pairs_label(struct pairs *p, const char *label)
{
	pairs_end(p);
	p->label = label;
	p->labelled = true;
}

void pairs_end(struct pairs *p)
{
	if (p->column)
		console_printf(p->out, "\n");
	p->column = 0;
}

static u32 indent(const struct pairs *p)
{
	return p->labelled ? PAIRS_LABEL_WIDTH : 0;
}

static void start_line(struct pairs *p)
{
	if (p->column || !p->labelled)
		return;
	console_printf(p->out, "%-*s", PAIRS_LABEL_WIDTH, p->label ? p->label : "");
	p->label = NULL;
	p->column = PAIRS_LABEL_WIDTH;
}

static void put(struct pairs *p, const char *pair)
{
	u32 len = (u32)strlen(pair);

	if (p->column && p->column + 1 + len > PAIRS_COLUMNS)
		pairs_end(p);
	start_line(p);
	console_printf(p->out, "%s%s", p->column > indent(p) ? " " : "", pair);
	p->column += len + (p->column > indent(p) ? 1 : 0);
}

void pairs_format(struct pairs *p, const char *key, const char *fmt, ...)
{
	char pair[PAIR_BYTES];
	size_t n = format_append(pair, sizeof(pair), 0, "%s=", key);
	va_list ap;

	va_start(ap, fmt);
	format_vbuf(pair + n, sizeof(pair) - n, fmt, ap);
	va_end(ap);
	put(p, pair);
}

void pairs_number(struct pairs *p, const char *key, u64 value)
{
	pairs_format(p, key, "%lu", value);
}

void pairs_size(struct pairs *p, const char *key, u64 bytes)
{
	char size[FORMAT_SIZE_BYTES];

	pairs_format(p, key, "%s", format_size(size, bytes));
}

void pairs_text(struct pairs *p, const char *key, const char *text)
{
	char buf[TEXT_BYTES];

	str_copy(buf, text, sizeof(buf));
	for (char *c = buf; *c; c++)
		if (*c < ' ' || (u8)*c > '~' || *c == '"')
			*c = '?';
	pairs_end(p);
	start_line(p);
	console_printf(p->out, "%s=\"%s\"\n", key, buf);
	p->column = 0;
}
