/*
 * The cursor's row of an 80-column VT100 as the line editor takes it to be: what stands where, and where the cursor is.
 * Any sequence that it does not know is a fault.
 */
#ifndef TESTS_FAKE_TERM_H
#define TESTS_FAKE_TERM_H

#include <string.h>

#include "lib/panic.h"
#include "vmm/line.h"

struct fake_term {
	struct console_out out;
	char row[LINE_COLUMNS + 1];
	u32 col;
	u32 rows, bells;
};

static inline void fake_term_clear(struct fake_term *t, u32 from)
{
	memset(t->row + from, ' ', LINE_COLUMNS - from);
	t->row[LINE_COLUMNS] = 0;
}

/* The sequence behind ESC [; returns the bytes used. */
static inline size_t fake_term_csi(struct fake_term *t, const char *s, size_t len)
{
	u32 n = 0;
	size_t i = 0;

	for (; i < len && s[i] >= '0' && s[i] <= '9'; i++)
		n = n * 10 + (u32)(s[i] - '0');
	CHECK(i < len);
	switch (s[i]) {
	case 'K':
		fake_term_clear(t, t->col);
		break;
	case 'D':
		CHECK(n && n <= t->col);
		t->col -= n;
		break;
	case 'H':
		t->col = 0;
		break;
	case 'J':
		fake_term_clear(t, 0);
		break;
	default:
		CHECK(!"known sequence");
	}
	return i + 1;
}

static inline void fake_term_write(struct console_out *o, const char *s, size_t len)
{
	struct fake_term *t = container_of(o, struct fake_term, out);

	for (size_t i = 0; i < len; i++) {
		switch (s[i]) {
		case '\r':
			t->col = 0;
			break;
		case '\n':
			t->col = 0;
			t->rows++;
			fake_term_clear(t, 0);
			break;
		case '\b':
			CHECK(t->col);
			t->col--;
			break;
		case '\a':
			t->bells++;
			break;
		case 27:
			CHECK(i + 1 < len && s[i + 1] == '[');
			i += 1 + fake_term_csi(t, s + i + 2, len - i - 2);
			break;
		default:
			CHECK(s[i] >= ' ' && s[i] <= '~');
			if (t->col == LINE_COLUMNS) {
				t->col = 0;
				fake_term_clear(t, 0);
			}
			t->row[t->col++] = s[i];
		}
	}
}

static inline void fake_term_init(struct fake_term *t)
{
	memset(t, 0, sizeof(*t));
	t->out.write = fake_term_write;
	fake_term_clear(t, 0);
}

/* The screen shows prompt and line with the cursor in its place. */
static inline bool fake_term_shows(const struct fake_term *t, const struct line *l)
{
	const u32 start = sizeof(CONSOLE_PROMPT) - 1;
	char want[LINE_COLUMNS + 1];
	u32 n = MIN(l->len - l->first, LINE_COLUMNS - 1 - start);

	memset(want, ' ', LINE_COLUMNS);
	want[LINE_COLUMNS] = 0;
	memcpy(want, CONSOLE_PROMPT, start);
	memcpy(want + start, l->buf + l->first, n);
	return strcmp(want, t->row) == 0 && t->col == start + l->pos - l->first;
}

#endif
