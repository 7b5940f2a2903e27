/* Any bytes into the line editor: its own invariants hold and the screen shows the line after every one. */
#include "tests/unit/fake_term.h"
#include "vmm/line.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void complete(struct line *l)
{
	line_insert(l, l->pos % 2 ? "show " : "memory=");
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct fake_term term;
	static struct line line;

	fake_term_init(&term);
	line_init(&line, &term.out);
	line.complete = complete;
	line_begin(&line);
	for (size_t i = 0; i < size; i++) {
		enum line_event e = line_feed(&line, data[i]);

		CHECK(strlen(line.buf) == line.len && line.pos <= line.len && line.len < CONSOLE_LINE_MAX);
		if (e == LINE_EDITING)
			CHECK(fake_term_shows(&term, &line));
		else
			line_begin(&line);
	}
	return 0;
}
