/*
 * Any lines as commands, over VMs with real address spaces: every line is answered by plain text, with exactly one
 * "error: " line at its end if and only if it failed; completion never breaks a line.
 */
#include <string.h>

#include "lib/panic.h"
#include "lib/string.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/fake_vm.h"
#include "vmm/command.h"
#include "vmm/monitor.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define LINES_MAX 24

static struct fake_out out;

static u32 count_errors(const char *text)
{
	u32 errors = 0;

	for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		errors += str_starts(line, "error: ");
	return errors;
}

static void check_answer(int err)
{
	const char *last = out.text;

	for (const char *c = out.text; *c; c++) {
		CHECK(*c == '\n' || (*c >= ' ' && *c <= '~'));
		if (*c == '\n' && c[1])
			last = c + 1;
	}
	CHECK(out.len == 0 || out.text[out.len - 1] == '\n');
	CHECK(count_errors(out.text) == (err ? 1 : 0));
	CHECK(!err || str_starts(last, "error: "));
}

/* One document, of text that needs no look at what it says: no bare quote or backslash was let through. */
static void check_json(int err)
{
	bool text = false;
	s32 depth = 0;

	for (const char *c = out.text; *c; c++) {
		CHECK(*c == '\n' || (*c >= ' ' && *c <= '~'));
		if (*c == '"')
			text = !text;
		CHECK(*c != '\\' || (text && c[1] == 'u'));
		if (!text)
			depth += (*c == '{' || *c == '[') - (*c == '}' || *c == ']');
		CHECK(depth > 0 || c[1] == '\n' || c[1] == 0);
	}
	CHECK(!text && depth == 0 && out.len > 0);
	CHECK(!!strstr(out.text, err ? "],\"ok\":false,\"error\":\"" : "],\"ok\":true}\n"));
}

static void one_line(const char *line)
{
	char add[CONSOLE_LINE_MAX], list[80];
	int err;

	command_complete(line, add, sizeof(add));
	command_candidates(line, list, sizeof(list));
	fake_out_init(&out);
	err = console_execute(&out.out, line);
	if (str_starts(out.text, "{\"output\":["))
		check_json(err);
	else
		check_answer(err);
}

static void tick(void)
{
	fake_now_ns += NSEC_PER_SEC;
	monitor_sample_begin();
	while (monitor_sample_piece())
		;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	char line[CONSOLE_LINE_MAX + 20];
	size_t n = 0;
	u32 lines = 0;

	fake_vm_reset();
	one_line("vm create a memory=8M autostart=yes");
	one_line("vm create b memory=16M reservation=25% cmdline=\"app=idle\"");
	fake_vm_touch(vm_find("a"), 8);
	memcpy(&fake_vm_info, data, MIN(size, sizeof(fake_vm_info)));
	fake_vm_info.app.name[15] = 0;
	tick();
	fake_vm_info.app.operations += size;
	tick();
	for (size_t i = 0; i <= size && lines < LINES_MAX; i++) {
		if (i < size && data[i] != '\n' && data[i] && n + 1 < sizeof(line)) {
			line[n++] = (char)data[i];
			continue;
		}
		line[n] = 0;
		n = 0;
		lines++;
		/* The log holds what earlier inputs did: its lines may say "error: " themselves. */
		if (!str_starts(line, "log"))
			one_line(line);
	}
	fake_vm_end();
	return 0;
}
