/*
 * Lines to JSON. See json.h.
 *
 * Words are cut out of the line in place. Whatever a line holds, what comes out is valid JSON: text is escaped.
 */
#include "vmm/json.h"

#include "lib/string.h"

#define DIGITS_MAX 15U /* a double holds them */

static void emit(struct json_out *j, const char *text)
{
	j->below->write(j->below, text, strlen(text));
}

static void emit_string(struct json_out *j, const char *s)
{
	emit(j, "\"");
	for (; *s; s++) {
		bool plain = *s >= ' ' && *s <= '~' && *s != '"' && *s != '\\';

		if (plain)
			j->below->write(j->below, s, 1);
		else
			console_printf(j->below, "\\u%04x", (u8)*s);
	}
	emit(j, "\"");
}

static bool is_number(const char *s)
{
	size_t n = 0;

	while (s[n] >= '0' && s[n] <= '9')
		n++;
	return n && n <= DIGITS_MAX && !s[n] && (n == 1 || *s != '0');
}

static void emit_value(struct json_out *j, const char *s)
{
	if (is_number(s))
		emit(j, s);
	else
		emit_string(j, s);
}

static void begin_record(struct json_out *j)
{
	emit(j, j->any ? ",\n" : "");
	j->any = true;
}

/* ---- words ---- */

/* Cuts the next word off *s; one that holds a quote goes to the quote's end. NULL: none left. */
static char *next_word(char **s)
{
	char *word, *c = *s;
	bool quoted = false;

	while (*c == ' ')
		c++;
	word = c;
	for (; *c && (quoted || *c != ' '); c++)
		if (*c == '"')
			quoted = !quoted;
	*s = *c ? c + 1 : c;
	*c = 0;
	return *word ? word : NULL;
}

static bool is_key(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '-'))
			return false;
	return len > 0;
}

static bool is_pair(const char *word)
{
	const char *eq = strchr(word, '=');

	return eq && is_key(word, (size_t)(eq - word));
}

static bool is_label(const char *word)
{
	size_t n = strlen(word);

	return n > 1 && word[n - 1] == ':' && is_key(word, n - 1);
}

/* ---- pairs ---- */

/* All words are pairs, behind a label or not. */
static bool line_is_pairs(const char *line)
{
	char copy[JSON_LINE_BYTES], *at = copy, *word;
	u32 pairs = 0, n = 0;

	str_copy(copy, line, sizeof(copy));
	for (; (word = next_word(&at)); n++) {
		if (is_pair(word))
			pairs++;
		else if (n || !is_label(word))
			return false;
	}
	return pairs > 0;
}

static void emit_pair(struct json_out *j, char *word, bool first)
{
	char *value = strchr(word, '=');
	size_t n;

	*value++ = 0;
	n = strlen(value);
	emit(j, first ? "" : ",");
	emit_string(j, word);
	emit(j, ":");
	if (n >= 2 && value[0] == '"' && value[n - 1] == '"') {
		value[n - 1] = 0;
		emit_string(j, value + 1);
	} else {
		emit_value(j, value);
	}
}

static void emit_pairs(struct json_out *j, char *line)
{
	bool first = true;
	char *word;

	begin_record(j);
	emit(j, "{");
	while ((word = next_word(&line))) {
		if (!is_pair(word))
			continue;
		emit_pair(j, word, first);
		first = false;
	}
	emit(j, "}");
}

/* ---- tables ---- */

/* A header is known by its first word, and has words only. */
static bool line_is_header(const char *line)
{
	static const char *const first[] = {"id", "name", "seq", "level"};
	char copy[JSON_LINE_BYTES], *at = copy, *word;
	bool known = false;
	u32 n = 0;

	str_copy(copy, line, sizeof(copy));
	for (; (word = next_word(&at)); n++) {
		if (*word < 'a' || *word > 'z' || !is_key(word, strlen(word)))
			return false;
		for (u32 i = 0; n == 0 && i < ARRAY_SIZE(first); i++)
			known |= str_eq(word, first[i]);
	}
	return known && n > 2 && n <= JSON_COLUMNS;
}

static void take_header(struct json_out *j)
{
	char *at = j->header, *word;

	str_copy(j->header, j->line, sizeof(j->header));
	j->columns = 0;
	while (j->columns < JSON_COLUMNS && (word = next_word(&at)))
		j->column[j->columns++] = word;
}

static bool line_is_row(const struct json_out *j)
{
	char copy[JSON_LINE_BYTES], *at = copy;
	u32 n = 0;

	str_copy(copy, j->line, sizeof(copy));
	while (next_word(&at))
		n++;
	return j->columns && n >= j->columns;
}

/* The last column takes the rest of the line. */
static void emit_row(struct json_out *j)
{
	char *at = j->line;

	begin_record(j);
	emit(j, "{");
	for (u32 i = 0; i < j->columns; i++) {
		char *value = at;

		if (i + 1 < j->columns)
			value = next_word(&at);
		else
			while (*value == ' ')
				value++;
		emit(j, i ? "," : "");
		emit_string(j, j->column[i]);
		emit(j, ":");
		emit_value(j, value);
	}
	emit(j, "}");
}

/* ---- lines ---- */

static void end_line(struct json_out *j)
{
	j->line[j->len] = 0;
	j->len = 0;
	if (!j->line[0]) {
		j->columns = 0;
	} else if (line_is_pairs(j->line)) {
		j->columns = 0;
		emit_pairs(j, j->line);
	} else if (line_is_header(j->line)) {
		take_header(j);
	} else if (line_is_row(j)) {
		emit_row(j);
	} else {
		begin_record(j);
		emit_string(j, j->line);
	}
}

static void take_text(struct console_out *o, const char *text, size_t len)
{
	struct json_out *j = container_of(o, struct json_out, out);

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n')
			end_line(j);
		else if (j->len < sizeof(j->line) - 1)
			j->line[j->len++] = text[i];
	}
}

void json_begin(struct json_out *j, struct console_out *below)
{
	*j = (struct json_out){.out = {.write = take_text}, .below = below};
	emit(j, "{\"output\":[");
}

void json_end(struct json_out *j, const char *error)
{
	if (j->len)
		end_line(j);
	emit(j, "],\"ok\":");
	emit(j, error ? "false,\"error\":" : "true");
	if (error)
		emit_string(j, error);
	emit(j, "}\n");
}
