/*
 * The configuration file; config_keys.c has the keys. libinih splits lines into section, key and value; the reader in
 * front of it counts lines, limits them, and finds what the library would pass over in silence (a broken section
 * header, a line that is no key = value), so that every line is either in force or reported.
 *
 * Nothing in the file is trusted. Runs once at boot.
 */
#include "vmm/config.h"

#include <ini.h>

#include "lib/err.h"
#include "lib/format.h"
#include "lib/string.h"
#include "vmm/config_internal.h"

#define REPORT_BYTES 360

enum section { SECTION_NONE, SECTION_BAD, SECTION_HOST, SECTION_VM, SECTION_LOADER, SECTION_COMMANDS };

struct parser {
	const char *text;
	size_t len, at;
	u32 line;
	struct config *out;
	void (*report)(void *arg, const char *line);
	void *arg;

	bool wants_key;      /* the present line has to be key = value: the handler has not come yet */
	bool header_pending; /* a section header was read: its first key opens the section */
	u32 header_line;
	enum section section;
	u32 host_seen, vm_seen;
	struct vm_config vm; /* of the open section */
};

static void complain_at(struct parser *p, u32 line, const char *text)
{
	char buf[REPORT_BYTES + 32];

	p->out->errors++;
	if (p->out->errors > CONFIG_REPORTS_MAX)
		return;
	format_buf(buf, sizeof(buf), CONFIG_NAME ":%u: %s", line, text);
	p->report(p->arg, buf);
	if (p->out->errors == CONFIG_REPORTS_MAX)
		p->report(p->arg, CONFIG_NAME ": further errors are not shown");
}

static void complain(struct parser *p, const char *text)
{
	complain_at(p, p->line, text);
}

static void close_section(struct parser *p)
{
	if (p->header_pending)
		complain_at(p, p->header_line, "expected a key in this section");
	if (p->section == SECTION_VM) {
		if (p->vm.memory_bytes)
			p->out->vm[p->out->vm_count++] = p->vm;
		else
			complain_at(p, p->header_line, "memory: expected in every VM: this one is left out");
	}
	p->section = SECTION_NONE;
	p->header_pending = false;
}

static bool vm_known(const struct config *c, const char *name)
{
	for (u32 i = 0; i < c->vm_count; i++)
		if (str_eq(c->vm[i].name, name))
			return true;
	return false;
}

/* name: what stands behind "vm". */
static enum section open_vm(struct parser *p, const char *name)
{
	char text[REPORT_BYTES], word[CONFIG_SHOWN + 1];

	while (*name == ' ' || *name == '\t')
		name++;
	if (!config_name_ok(name))
		format_buf(text, sizeof(text), "[vm]: expected a name of 1 to 15 characters A-Z a-z 0-9 _ -, got '%s'",
			   config_shown(word, name));
	else if (vm_known(p->out, name))
		format_buf(text, sizeof(text), "[vm %s]: expected a name of its own: this second section is left out",
			   name);
	else if (p->out->vm_count == CONFIG_VMS_MAX)
		format_buf(text, sizeof(text), "[vm %s]: expected at most %u VMs: this one is left out", name,
			   CONFIG_VMS_MAX);
	else {
		config_vm_defaults(&p->vm);
		str_copy(p->vm.name, name, sizeof(p->vm.name));
		p->vm_seen = 0;
		return SECTION_VM;
	}
	complain_at(p, p->header_line, text);
	return SECTION_BAD;
}

static void open_section(struct parser *p, const char *name)
{
	char text[REPORT_BYTES], word[CONFIG_SHOWN + 1];

	p->header_pending = false;
	if (str_eq(name, "host")) {
		p->section = SECTION_HOST;
	} else if (str_eq(name, "loader")) {
		p->section = SECTION_LOADER;
	} else if (str_eq(name, "commands")) {
		p->section = SECTION_COMMANDS;
	} else if (str_starts(name, "vm ") || str_starts(name, "vm\t") || str_eq(name, "vm")) {
		p->section = open_vm(p, name + 2);
	} else {
		p->section = SECTION_BAD;
		format_buf(text, sizeof(text),
			   "expected a section [host], [loader], [commands] or [vm NAME], got '[%s]'",
			   config_shown(word, name));
		complain_at(p, p->header_line, text);
	}
}

/* [loader] is the boot loader's (boot/options.h), which has read it already. */
static int check_loader(const char *key, char *why, size_t size)
{
	char word[CONFIG_SHOWN + 1];

	if (str_eq(key, "options"))
		return 0;
	format_buf(why, size, "'%s': expected the loader's key: options", config_shown(word, key));
	return E_NOENT;
}

/* "2" or "2.5" or "0.125": seconds. */
static int parse_ms(const char *text, u64 *ms)
{
	static const u64 scale[] = {1000, 100, 10, 1};
	char digits[8];
	const char *point = strchr(text, '.');
	size_t whole = point ? (size_t)(point - text) : strlen(text), part = point ? strlen(point + 1) : 0;
	u64 seconds, fraction = 0;

	if (whole == 0 || whole >= sizeof(digits) || part >= ARRAY_SIZE(scale) || (point && !part))
		return E_INVAL;
	memcpy(digits, text, whole);
	digits[whole] = 0;
	if (parse_u64(digits, CONFIG_SECONDS_MAX, &seconds) || (part && parse_u64(point + 1, 999, &fraction)))
		return E_INVAL;
	*ms = seconds * 1000 + fraction * scale[part];
	return 0;
}

/* key: when, value: what. */
static int add_command(struct config *c, const char *key, const char *value, char *why, size_t size)
{
	char word[CONFIG_SHOWN + 1];
	u64 ms = 0, before = c->command_count ? c->command[c->command_count - 1].at_ms : 0;
	int err = E_INVAL;

	if (c->command_count == CONFIG_COMMANDS_MAX)
		format_buf(why, size, "expected at most %u commands: this one is left out", CONFIG_COMMANDS_MAX);
	else if (parse_ms(key, &ms))
		format_buf(why, size, "expected seconds of 0 to %u, such as 2.5, got '%s'", CONFIG_SECONDS_MAX,
			   config_shown(word, key));
	else if (ms < before)
		format_buf(why, size, "%s: expected a time that is not before the last command's", key);
	else if (!*value || strlen(value) > CONFIG_COMMAND_MAX)
		format_buf(why, size, "%s: expected a command of at most %u characters", key, CONFIG_COMMAND_MAX);
	else
		err = 0;
	if (err)
		return err;
	c->command[c->command_count].at_ms = ms;
	str_copy(c->command[c->command_count++].line, value, CONFIG_COMMAND_MAX + 1);
	return 0;
}

/* From libinih, once for a line with key and value. */
static int on_value(void *user, const char *section, const char *key, const char *value)
{
	struct parser *p = user;
	char why[REPORT_BYTES];
	int err = 0;

	p->wants_key = false;
	if (p->header_pending)
		open_section(p, section);
	if (p->section == SECTION_HOST)
		err = config_set_host(&p->out->host, &p->host_seen, key, value, why, sizeof(why));
	else if (p->section == SECTION_VM)
		err = config_set_vm(&p->vm, &p->vm_seen, key, value, why, sizeof(why));
	else if (p->section == SECTION_LOADER)
		err = check_loader(key, why, sizeof(why));
	else if (p->section == SECTION_COMMANDS)
		err = add_command(p->out, key, value, why, sizeof(why));
	else if (p->section == SECTION_NONE)
		complain(p, "expected a section [host], [loader], [commands] or [vm NAME] before the first key");
	if (err)
		complain(p, why);
	return 1;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool line_printable(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((s[i] < ' ' && !is_space(s[i])) || (u8)s[i] > '~')
			return false;
	return true;
}

/* "[...]" and then nothing but space or a comment. libinih ends the name at " ;" as well. */
static bool header_ok(const char *s)
{
	const char *c = s + 1;

	while (*c && *c != ']' && !(is_space(c[-1]) && *c == ';'))
		c++;
	if (*c++ != ']')
		return false;
	while (is_space(*c))
		c++;
	return *c == 0 || (*c == ';' && is_space(c[-1]));
}

/* Looks at a line before the library does. False: it is reported (or a comment) and the library is not to see it. */
static bool examine(struct parser *p, char *buf)
{
	const char *s = buf;

	while (is_space(*s))
		s++;
	if (*s == '[') {
		close_section(p);
		p->header_line = p->line;
		p->header_pending = header_ok(s);
		if (!p->header_pending) {
			p->section = SECTION_BAD;
			complain(p, "expected a section [host], [loader], [commands] or [vm NAME]");
		}
		return p->header_pending;
	}
	p->wants_key = *s && *s != ';' && *s != '#';
	return p->wants_key;
}

/* What stands below a header that cannot be read belongs to nobody, least of all to the section before. */
static void refuse_line(struct parser *p, const char *s, size_t n, const char *text)
{
	for (; n && is_space(*s); n--)
		s++;
	if (n && *s == '[') {
		close_section(p);
		p->section = SECTION_BAD;
	}
	complain(p, text);
}

/* Copies the next line into buf, without its end. False: too long or not text, reported. */
static bool take_line(struct parser *p, char *buf, size_t size)
{
	const char *s = p->text + p->at, *end = memchr(s, '\n', p->len - p->at);
	size_t n = end ? (size_t)(end - s) : p->len - p->at;

	p->at += n + (end ? 1 : 0);
	p->line++;
	if (p->line == 1 && n >= 3 && !memcmp(s, "\xef\xbb\xbf", 3)) {
		s += 3;
		n -= 3;
	}
	buf[0] = 0;
	if (n && s[n - 1] == '\r')
		n--;
	if (n && (*s == ';' || *s == '#'))
		return true; /* comments may hold anything */
	if (n > CONFIG_LINE_MAX || n + 1 > size) {
		refuse_line(p, s, n, "expected a line of at most 400 characters");
		return false;
	}
	if (!line_printable(s, n)) {
		refuse_line(p, s, n, "expected printable ASCII text");
		return false;
	}
	memcpy(buf, s, n);
	buf[n] = 0;
	return true;
}

/* libinih's way of reading: like fgets. */
static char *next_line(char *buf, int size, void *stream)
{
	struct parser *p = stream;

	if (p->wants_key)
		complain(p, "expected key = value");
	p->wants_key = false;
	if (p->at == p->len) {
		close_section(p);
		return NULL;
	}
	if (!take_line(p, buf, (size_t)size) || !examine(p, buf))
		buf[0] = 0;
	return buf;
}

void config_parse(const char *text, size_t len, struct config *out, void (*report)(void *arg, const char *line),
		  void *arg)
{
	struct parser p = {.text = text, .len = MIN(len, CONFIG_BYTES_MAX), .out = out, .report = report, .arg = arg};

	memset(out, 0, sizeof(*out));
	ini_allow_multiline = false;
	ini_allow_inline_comments = true;
	ini_use_stack = true;
	ini_max_line = CONFIG_LINE_MAX + 3;
	/* Its own verdict is not needed: every line it refuses has been reported by next_line(). */
	(void)ini_parse_stream(next_line, &p, on_value, &p);
	if (len > CONFIG_BYTES_MAX)
		complain(&p, "expected at most 256 KiB: the rest of the file is not read");
}
