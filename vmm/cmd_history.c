/*
 * Console commands history (fields of host or VM as a text chart, or everything as CSV or JSON) and metrics.
 */
#include "lib/err.h"
#include "lib/format.h"
#include "lib/string.h"
#include "vmm/command.h"
#include "vmm/history.h"
#include "vmm/metrics.h"
#include "vmm/monitor.h"

#define CHART_COLUMNS  64U
#define CHART_ROWS     10U
#define ROWS_PER_PIECE 12U
#define VALUE_BYTES    16

static const struct {
	const char *word, *letter;
	u32 seconds;
} span_info[HISTORY_SPANS] = {{"seconds", "s", 1}, {"minutes", "m", 60}, {"hours", "h", 3600}};

/* What the line asks for; found anew for each piece. */
struct request {
	const struct history *h;
	const struct history_field *field;
	const char *object;
	enum history_span span;
};

static const char *arg_or(const struct command_run *r, u32 i, const char *other)
{
	return r->argc > i + 1 ? command_arg(r, i) : other;
}

static int find_span(struct command_run *r, const char *word, enum history_span *span)
{
	char shown[40];

	for (u32 i = 0; i < HISTORY_SPANS; i++) {
		if (str_eq(word, span_info[i].word)) {
			*span = i;
			return 0;
		}
	}
	return command_fail(r, E_INVAL, "'%s': expected seconds, minutes or hours",
			    command_word(shown, sizeof(shown), word, sizeof(shown)));
}

static int find_request(struct command_run *r, struct request *q)
{
	const struct monitor_vm *m;
	int err = find_span(r, arg_or(r, 2, "seconds"), &q->span);

	if (err)
		return err;
	q->object = command_arg(r, 0);
	m = monitor_find(q->object);
	if (m) {
		q->h = m->history;
		q->field = history_vm_field;
		return 0;
	}
	if (!str_eq(q->object, "host"))
		return command_vm(r, q->object) ? command_fail(r, E_NOMEM, "'%s' has no history yet", q->object)
						: E_NOENT;
	q->h = &monitor_host()->history;
	q->field = history_host_field;
	return 0;
}

static int find_field(struct command_run *r, const struct request *q, const char *word, u32 *field)
{
	char list[240], shown[24];
	size_t at = 0;

	for (u32 i = 0; i < HISTORY_FIELDS; i++) {
		if (str_eq(word, q->field[i].name)) {
			*field = i;
			return 0;
		}
		at = format_append(list, sizeof(list), at, "%s%s", i ? " " : "", q->field[i].name);
	}
	return command_fail(r, E_NOENT, "'%s': expected csv, json or: %s",
			    command_word(shown, sizeof(shown), word, sizeof(shown)), list);
}

static const char *show_value(char buf[VALUE_BYTES], enum history_kind kind, u64 value)
{
	static const char *const unit[] = {
	    [HISTORY_RATE] = "/s", [HISTORY_US] = "us", [HISTORY_PERMILLE] = "", [HISTORY_NUMBER] = ""};
	char size[FORMAT_SIZE_BYTES];

	if (kind == HISTORY_PAGES)
		format_buf(buf, VALUE_BYTES, "%s", format_size(size, value << PAGE_SHIFT));
	else if (kind == HISTORY_PERMILLE)
		format_buf(buf, VALUE_BYTES, "%lu.%lu%%", value / 10, value % 10);
	else
		format_buf(buf, VALUE_BYTES, "%lu%s", value, unit[kind]);
	return buf;
}

/* ---- the chart ---- */

struct chart {
	u32 columns, per; /* per: samples a column, of which it shows the highest */
	u32 value[CHART_COLUMNS];
	u32 low, high, last;
};

static void fill_chart(const struct request *q, u32 field, struct chart *c)
{
	u32 first = history_first(q->h, q->span), count = q->h->count[q->span] - first;

	*c = (struct chart){.low = ~0u};
	c->per = MAX(DIV_ROUND_UP(count, CHART_COLUMNS), 1U);
	c->columns = DIV_ROUND_UP(count, c->per);
	for (u32 i = 0; i < count; i++) {
		u32 value = history_get(q->h, q->span, first + i)->value[field];

		c->value[i / c->per] = MAX(c->value[i / c->per], value);
		c->low = MIN(c->low, value);
		c->high = MAX(c->high, value);
		c->last = value;
	}
}

static void chart_row(struct console_out *o, const struct chart *c, enum history_kind kind, u32 row)
{
	char line[CHART_COLUMNS + 1], label[VALUE_BYTES] = "";

	for (u32 i = 0; i < c->columns; i++) {
		u64 filled = c->high ? ((u64)c->value[i] * CHART_ROWS + c->high - 1) / c->high : 0;

		line[i] = filled >= row ? '#' : ' ';
	}
	line[c->columns] = 0;
	if (row == CHART_ROWS || row == CHART_ROWS / 2)
		show_value(label, kind, (u64)c->high * row / CHART_ROWS);
	console_printf(o, "%9s |%s\n", label, line);
}

static void print_chart(struct console_out *o, const struct request *q, u32 field)
{
	char low[VALUE_BYTES], high[VALUE_BYTES], last[VALUE_BYTES], axis[CHART_COLUMNS + 1];
	enum history_kind kind = q->field[field].kind;
	struct chart c;

	fill_chart(q, field, &c);
	if (!c.columns) {
		console_printf(o, "%s of %s: no %s yet\n", q->field[field].name, q->object, span_info[q->span].word);
		return;
	}
	console_printf(o, "%s of %s: now %s, lowest %s, highest %s; %u%s a column\n", q->field[field].name, q->object,
		       show_value(last, kind, c.last), show_value(low, kind, c.low), show_value(high, kind, c.high),
		       c.per, span_info[q->span].letter);
	for (u32 row = CHART_ROWS; row > 0; row--)
		chart_row(o, &c, kind, row);
	memset(axis, '-', c.columns);
	axis[c.columns] = 0;
	console_printf(o, "%9s +%s\n", "0", axis);
	console_printf(o, "%9s -%u%s%*s\n", "", c.columns * c.per, span_info[q->span].letter,
		       (int)(c.columns > 8 ? c.columns - 5 : 4), "now");
}

/* ---- export ---- */

/* True if the samples from r->cursor on were the last. */
static bool some_rows(struct command_run *r, const struct request *q, bool json)
{
	u32 first = history_first(q->h, q->span);

	r->cursor = MAX(r->cursor, first);
	for (u32 n = 0; n < ROWS_PER_PIECE && r->cursor < r->left; n++) {
		const struct history_sample *s = history_get(q->h, q->span, (u32)r->cursor);
		char row[HISTORY_FIELDS * 12 + 16];
		size_t at = format_append(row, sizeof(row), 0, "%s%u", json ? "[" : "", s->second);

		for (u32 i = 0; i < HISTORY_FIELDS; i++)
			at = format_append(row, sizeof(row), at, ",%u", s->value[i]);
		r->cursor++;
		console_printf(r->out, "%s%s\n", row, !json ? "" : r->cursor < r->left ? "]," : "]");
	}
	return r->cursor >= r->left;
}

static void export_begin(struct command_run *r, const struct request *q, bool json)
{
	r->cursor = history_first(q->h, q->span);
	r->left = q->h->count[q->span]; /* what comes meanwhile is for the next time */
	if (json)
		console_printf(r->out, "{\"object\":\"%s\",\"seconds\":%u,\"fields\":[\n\"second\"", q->object,
			       span_info[q->span].seconds);
	else
		console_printf(r->out, "second");
	for (u32 i = 0; i < HISTORY_FIELDS; i++)
		console_printf(r->out, json ? ",\"%s\"" : ",%s", q->field[i].name);
	console_printf(r->out, json ? "],\n\"rows\":[\n" : "\n");
}

static int export_some(struct command_run *r)
{
	bool json = str_eq(command_arg(r, 1), "json");
	struct request q;
	int err = find_request(r, &q);

	if (err)
		return err;
	if (!some_rows(r, &q, json))
		r->more = export_some;
	else if (json)
		console_printf(r->out, "]}\n");
	return 0;
}

/* ---- metrics ---- */

int cmd_metrics(struct command_run *r)
{
	struct metrics m = {.family = r->at, .object = r->left, .headed = r->cursor};

	if (metrics_piece(&m, r->out))
		r->more = cmd_metrics;
	r->at = m.family;
	r->left = m.object;
	r->cursor = m.headed;
	return 0;
}

/* ---- history ---- */

int cmd_history(struct command_run *r)
{
	const char *what = arg_or(r, 1, "");
	struct request q;
	u32 field = 0;
	int err = find_request(r, &q);

	if (!err && (str_eq(what, "csv") || str_eq(what, "json"))) {
		export_begin(r, &q, str_eq(what, "json"));
		return export_some(r);
	}
	if (!err)
		err = find_field(r, &q, what, &field);
	if (!err)
		print_chart(r->out, &q, field);
	return err;
}
