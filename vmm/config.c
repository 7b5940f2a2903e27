/*
 * The configuration file. libinih splits lines into section, key and value; the reader in front of it counts
 * lines, limits them, and finds what the library would pass over in silence (a broken section header, a
 * line that is no key = value), so that every line is either in force or reported.
 *
 * Nothing in the file is trusted. Runs once at boot.
 */
#include "vmm/config.h"

#include <ini.h>

#include "lib/err.h"
#include "lib/format.h"
#include "lib/string.h"
#include "mm/zip.h"
#include "vmm/pvdisk.h"

#define REPORT_BYTES 360
#define VALUE_SHOWN  64 /* characters of a bad value that are repeated */
#define SHARES_MAX   1000000U
#define WATCHDOG_MAX 3600U

/* ---- values ---- */

bool config_name_ok(const char *name)
{
	size_t len = strnlen(name, VM_NAME_MAX + 1);

	if (len == 0 || len > VM_NAME_MAX)
		return false;
	for (; *name; name++)
		if (!((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
		      (*name >= '0' && *name <= '9') || *name == '_' || *name == '-'))
			return false;
	return true;
}

/* "30" or "30%"; E_INVAL, E_RANGE. */
static int parse_percent(const char *value, u64 max, u64 *out)
{
	char digits[8];
	size_t len = strlen(value);

	if (len && value[len - 1] == '%')
		len--;
	if (len == 0 || len >= sizeof(digits))
		return E_INVAL;
	memcpy(digits, value, len);
	digits[len] = 0;
	return parse_u64(digits, max, out);
}

int config_parse_portion(const char *value, u64 memory, u64 max, u64 *bytes)
{
	size_t len = strlen(value);
	u64 percent;
	int err;

	if (!len || value[len - 1] != '%') {
		err = parse_size(value, max, bytes);
	} else {
		err = parse_percent(value, 100, &percent);
		if (!err && !memory)
			return E_AGAIN;
		if (!err)
			*bytes = memory / 100 * percent + memory % 100 * percent / 100;
	}
	if (!err)
		*bytes = ALIGN_DOWN(*bytes, PAGE_SIZE);
	return err;
}

int config_parse_shares(const char *value, u64 memory, u32 *shares)
{
	static const struct {
		const char *word;
		u32 per_mib;
	} level[] = {{"low", 5}, {"normal", 10}, {"high", 20}};
	u64 n;
	int err;

	for (u32 i = 0; i < ARRAY_SIZE(level); i++) {
		if (!str_eq(value, level[i].word))
			continue;
		if (!memory)
			return E_AGAIN;
		*shares = (u32)MIN(memory / MIB * level[i].per_mib, (u64)SHARES_MAX);
		return 0;
	}
	err = parse_u64(value, SHARES_MAX, &n);
	if (err)
		return err;
	if (n == 0)
		return E_RANGE;
	*shares = (u32)n;
	return 0;
}

static const char *const level_name[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warning", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

const char *config_level_name(u32 level)
{
	return level < ARRAY_SIZE(level_name) ? level_name[level] : "?";
}

int config_parse_level(const char *value, u32 *level)
{
	for (u32 i = 0; i < ARRAY_SIZE(level_name); i++) {
		if (str_eq(value, level_name[i])) {
			*level = i;
			return 0;
		}
	}
	return E_INVAL;
}

/* A number of min..max. */
static int parse_number(const char *value, u64 min, u64 max, u32 *out)
{
	u64 n;
	int err = parse_u64(value, max, &n);

	if (err)
		return err;
	if (n < min)
		return E_RANGE;
	*out = (u32)n;
	return 0;
}

/* ---- keys of a VM ---- */

/* A size that a VM can have. */
static int parse_memory(const char *value, u64 *out)
{
	u64 bytes;
	int err = parse_size(value, VM_MEMORY_MAX, &bytes);

	if (!err && bytes < VM_MEMORY_MIN)
		err = E_RANGE;
	if (!err)
		*out = ALIGN_DOWN(bytes, PAGE_SIZE);
	return err;
}

/* Also as startup, its name in Dynamic Memory: one of the two. */
static int set_memory(struct vm_config *vm, const char *value)
{
	return vm->memory_bytes ? E_EXIST : parse_memory(value, &vm->memory_bytes);
}

static int set_minimum(struct vm_config *vm, const char *value)
{
	return parse_memory(value, &vm->minimum_bytes);
}

static int set_maximum(struct vm_config *vm, const char *value)
{
	return parse_memory(value, &vm->maximum_bytes);
}

static int set_buffer(struct vm_config *vm, const char *value)
{
	u64 percent;
	int err = parse_percent(value, DYNMEM_BUFFER_MAX, &percent);

	if (!err && percent < DYNMEM_BUFFER_MIN)
		err = E_RANGE;
	if (!err)
		vm->buffer_percent = (u32)percent;
	return err;
}

static int set_reservation(struct vm_config *vm, const char *value)
{
	return config_parse_portion(value, vm->memory_bytes, VM_MEMORY_MAX, &vm->reservation_bytes);
}

static int set_limit(struct vm_config *vm, const char *value)
{
	return config_parse_portion(value, vm->memory_bytes, VM_MEMORY_MAX, &vm->limit_bytes);
}

static int set_shares(struct vm_config *vm, const char *value)
{
	return config_parse_shares(value, vm->memory_bytes, &vm->shares);
}

static int set_vcpus(struct vm_config *vm, const char *value)
{
	return parse_number(value, 1, VM_VCPUS_MAX, &vm->vcpus);
}

static int set_disk(struct vm_config *vm, const char *value)
{
	u64 bytes;
	int err = parse_size(value, PVDISK_BYTES_MAX, &bytes);

	if (!err && bytes && bytes < MIB)
		err = E_RANGE;
	if (!err)
		vm->disk_bytes = ALIGN_DOWN(bytes, PAGE_SIZE);
	return err;
}

static int set_balloon_max(struct vm_config *vm, const char *value)
{
	u64 percent;
	int err = parse_percent(value, 95, &percent);

	if (!err && percent == 0)
		err = E_RANGE;
	if (!err)
		vm->balloon_max_percent = (u32)percent;
	return err;
}

static int set_cpu_weight(struct vm_config *vm, const char *value)
{
	return parse_number(value, 1, VM_CPU_WEIGHT_MAX, &vm->cpu_weight);
}

static int set_cpu_cap(struct vm_config *vm, const char *value)
{
	return parse_number(value, 0, VM_CPU_CAP_MAX, &vm->cpu_cap);
}

/* "0" is "nothing" in *out. */
static int parse_zip_max(const char *value, u32 *out)
{
	u64 percent;
	int err = parse_percent(value, ZIP_PERCENT_MAX, &percent);

	if (!err)
		*out = percent ? (u32)percent : ZIP_NONE;
	return err;
}

static int set_zip_max(struct vm_config *vm, const char *value)
{
	return parse_zip_max(value, &vm->zip_percent);
}

static int set_share_group(struct vm_config *vm, const char *value)
{
	if (!config_name_ok(value))
		return E_INVAL;
	str_copy(vm->share_group, value, sizeof(vm->share_group));
	return 0;
}

/* 0: as the host's. */
static int set_balloon_rate(struct vm_config *vm, const char *value)
{
	if (!str_eq(value, "0"))
		return parse_number(value, 64, 1000000, &vm->balloon_rate);
	vm->balloon_rate = 0;
	return 0;
}

static int set_watchdog(struct vm_config *vm, const char *value)
{
	return parse_number(value, 0, WATCHDOG_MAX, &vm->watchdog_sec);
}

static int set_text(char *dst, size_t size, const char *value)
{
	if (strlen(value) >= size)
		return E_RANGE;
	for (const char *c = value; *c; c++)
		if (*c < ' ' || (u8)*c > '~')
			return E_INVAL;
	str_copy(dst, value, size);
	return 0;
}

static int set_image(struct vm_config *vm, const char *value)
{
	return *value ? set_text(vm->image, sizeof(vm->image), value) : E_INVAL;
}

static int set_cmdline(struct vm_config *vm, const char *value)
{
	return set_text(vm->cmdline, sizeof(vm->cmdline), value);
}

static int set_autostart(struct vm_config *vm, const char *value)
{
	bool yes = str_eq(value, "yes");

	if (!yes && !str_eq(value, "no"))
		return E_INVAL;
	vm->autostart = yes;
	return 0;
}

struct vm_key {
	const char *name, *expected;
	int (*set)(struct vm_config *vm, const char *value);
};

static const struct vm_key vm_key[] = {
    {"memory", "a size of 8M to 64G", set_memory},
    {"startup", "a size of 8M to 64G", set_memory},
    {"minimum", "a size of 8M to 64G", set_minimum},
    {"maximum", "a size of 8M to 64G", set_maximum},
    {"buffer", "5 to 2000 percent", set_buffer},
    {"reservation", "a size of 0 to 64G or a percentage", set_reservation},
    {"limit", "a size of 0 (none) to 64G or a percentage", set_limit},
    {"shares", "1 to 1000000, low, normal or high", set_shares},
    {"vcpus", "1 to 8", set_vcpus},
    {"disk", "0 (none) or a size of 1M to 16G", set_disk},
    {"balloon-max", "1 to 95 percent", set_balloon_max},
    {"balloon-rate", "0 (the host's) or 64 to 1000000 pages a second", set_balloon_rate},
    {"cpu-weight", "1 to 100000", set_cpu_weight},
    {"cpu-cap", "0 (none) to 800 percent of one CPU", set_cpu_cap},
    {"zip-max", "0 (off) to 50 percent", set_zip_max},
    {"share-group", "a name of 1 to 15 characters A-Z a-z 0-9 _ -", set_share_group},
    {"watchdog", "0 (off) to 3600 seconds", set_watchdog},
    {"image", "a file name of at most 63 characters", set_image},
    {"cmdline", "text of at most 255 characters", set_cmdline},
    {"autostart", "yes or no", set_autostart},
};
_Static_assert(ARRAY_SIZE(vm_key) <= 32, "bits of seen");

const char *config_vm_key(u32 i)
{
	return i < ARRAY_SIZE(vm_key) ? vm_key[i].name : NULL;
}

/* The bad word as it is repeated to the operator: short and printable. */
static const char *shown(char buf[VALUE_SHOWN + 1], const char *value)
{
	str_copy(buf, value, VALUE_SHOWN + 1);
	for (char *c = buf; *c; c++)
		if (*c < ' ' || (u8)*c > '~')
			*c = '?';
	return buf;
}

static int fail_value(char *why, size_t size, int err, const char *key, const char *expected, const char *value)
{
	char word[VALUE_SHOWN + 1];

	if (err == E_EXIST)
		format_buf(why, size, "%s: expected once: memory and startup are the same, the first value stays", key);
	else if (err == E_AGAIN)
		format_buf(why, size, "%s: '%s' is a part of memory, which is expected before it", key, shown(word, value));
	else
		format_buf(why, size, "%s: expected %s, got '%s'", key, expected, shown(word, value));
	return err == E_AGAIN ? E_INVAL : err;
}

static int fail_vm_key(char *why, size_t size, const char *key)
{
	char word[VALUE_SHOWN + 1];
	size_t at = format_append(why, size, 0, "'%s': expected a key of a VM: ", shown(word, key));

	for (u32 i = 0; i < ARRAY_SIZE(vm_key); i++)
		at = format_append(why, size, at, "%s%s", i ? ", " : "", vm_key[i].name);
	return E_NOENT;
}

int config_set_vm(struct vm_config *vm, u32 *seen, const char *key, const char *value, char *why, size_t size)
{
	int err;

	for (u32 i = 0; i < ARRAY_SIZE(vm_key); i++) {
		if (!str_eq(key, vm_key[i].name))
			continue;
		if (seen && *seen & BIT(i)) {
			format_buf(why, size, "%s: expected once: given twice, the first value stays", key);
			return E_EXIST;
		}
		err = vm_key[i].set(vm, value);
		if (seen && !err)
			*seen |= (u32)BIT(i);
		return err ? fail_value(why, size, err, key, vm_key[i].expected, value) : 0;
	}
	return fail_vm_key(why, size, key);
}

void config_vm_defaults(struct vm_config *vm)
{
	*vm = (struct vm_config){.vcpus = 1, .image = "guest.elf", .autostart = true};
}

/* ---- keys of the host ---- */

enum host_key { HOST_MIN_FREE, HOST_SHARE_RATE, HOST_BALLOON_RATE, HOST_ZIP_MAX, HOST_LOG_LEVEL, HOST_KEYS };

static const struct {
	const char *name, *expected;
} host_key[HOST_KEYS] = {
    [HOST_MIN_FREE] = {"min-free", "a size of 1M to 64G, or auto"},
    [HOST_SHARE_RATE] = {"share-rate", "0 (off) to 1000000 pages a second"},
    [HOST_BALLOON_RATE] = {"balloon-rate", "64 to 1000000 pages a second"},
    [HOST_ZIP_MAX] = {"zip-max", "0 (off) to 50 percent"},
    [HOST_LOG_LEVEL] = {"log-level", "error, warning, info or debug"},
};

static int set_min_free(struct host_config *c, const char *value)
{
	u64 bytes;
	int err;

	if (str_eq(value, "auto")) {
		c->min_free_pages = CONFIG_MIN_FREE_AUTO;
		return 0;
	}
	err = parse_size(value, VM_MEMORY_MAX, &bytes);
	if (!err && bytes < MIB)
		err = E_RANGE;
	if (!err)
		c->min_free_pages = (u32)(bytes >> PAGE_SHIFT);
	return err;
}

static int set_host_value(struct host_config *c, enum host_key key, const char *value)
{
	u32 n = 0;
	int err;

	switch (key) {
	case HOST_MIN_FREE:
		return set_min_free(c, value);
	case HOST_SHARE_RATE:
		err = parse_number(value, 0, 1000000, &n);
		if (!err)
			c->share_rate = n ? n : CONFIG_RATE_OFF;
		return err;
	case HOST_BALLOON_RATE:
		return parse_number(value, 64, 1000000, &c->balloon_rate);
	case HOST_ZIP_MAX:
		return parse_zip_max(value, &c->zip_percent);
	default:
		err = config_parse_level(value, &n);
		if (!err)
			c->log_level = n + 1;
		return err;
	}
}

const char *config_host_key(u32 i)
{
	return i < HOST_KEYS ? host_key[i].name : i < HOST_KEYS + NUMBERS ? number_key[i - HOST_KEYS].name : NULL;
}

_Static_assert((u32)HOST_KEYS + (u32)NUMBERS <= 32, "bits of seen");

/* E_EXIST: given before. */
static int check_seen(u32 *seen, u32 bit, const char *key, char *why, size_t size)
{
	if (!seen || !(*seen & BIT(bit)))
		return 0;
	format_buf(why, size, "%s: expected once: given twice, the first value stays", key);
	return E_EXIST;
}

static int set_host_number(struct host_config *h, u32 *seen, enum number n, const char *value, char *why, size_t size)
{
	const struct number_key *k = &number_key[n];
	char expected[64];
	u32 number = 0;
	int err = check_seen(seen, HOST_KEYS + n, k->name, why, size);

	if (err)
		return err;
	err = parse_number(value, k->min, k->max, &number);
	format_buf(expected, sizeof(expected), "%u to %u %s", k->min, k->max, k->unit);
	if (err)
		return fail_value(why, size, err, k->name, expected, value);
	h->number[n] = number + 1;
	if (seen)
		*seen |= (u32)BIT(HOST_KEYS + n);
	return 0;
}

int config_set_host(struct host_config *h, u32 *seen, const char *key, const char *value, char *why, size_t size)
{
	char word[VALUE_SHOWN + 1];
	int err;

	if (number_find(key) < NUMBERS)
		return set_host_number(h, seen, number_find(key), value, why, size);

	for (u32 i = 0; i < HOST_KEYS; i++) {
		if (!str_eq(key, host_key[i].name))
			continue;
		err = check_seen(seen, i, key, why, size);
		if (err)
			return err;
		err = set_host_value(h, i, value);
		if (seen && !err)
			*seen |= (u32)BIT(i);
		return err ? fail_value(why, size, err, key, host_key[i].expected, value) : 0;
	}
	format_buf(why, size,
		   "'%s': expected a key of the host: min-free, share-rate, balloon-rate, zip-max, log-level, idle-tax, "
		   "balloon-rate-down, metrics-interval or one of wss-..., alert-...",
		   shown(word, key));
	return E_NOENT;
}

/* ---- the file ---- */

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
	char text[REPORT_BYTES], word[VALUE_SHOWN + 1];

	while (*name == ' ' || *name == '\t')
		name++;
	if (!config_name_ok(name))
		format_buf(text, sizeof(text), "[vm]: expected a name of 1 to 15 characters A-Z a-z 0-9 _ -, got '%s'",
			   shown(word, name));
	else if (vm_known(p->out, name))
		format_buf(text, sizeof(text), "[vm %s]: expected a name of its own: this second section is left out", name);
	else if (p->out->vm_count == CONFIG_VMS_MAX)
		format_buf(text, sizeof(text), "[vm %s]: expected at most %u VMs: this one is left out", name, CONFIG_VMS_MAX);
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
	char text[REPORT_BYTES], word[VALUE_SHOWN + 1];

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
		format_buf(text, sizeof(text), "expected a section [host], [loader], [commands] or [vm NAME], got '[%s]'",
			   shown(word, name));
		complain_at(p, p->header_line, text);
	}
}

/* [loader] is the boot loader's (boot/options.h), which has read it already. */
static int check_loader(const char *key, char *why, size_t size)
{
	char word[VALUE_SHOWN + 1];

	if (str_eq(key, "options"))
		return 0;
	format_buf(why, size, "'%s': expected the loader's key: options", shown(word, key));
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
	char word[VALUE_SHOWN + 1];
	u64 ms = 0, before = c->command_count ? c->command[c->command_count - 1].at_ms : 0;
	int err = E_INVAL;

	if (c->command_count == CONFIG_COMMANDS_MAX)
		format_buf(why, size, "expected at most %u commands: this one is left out", CONFIG_COMMANDS_MAX);
	else if (parse_ms(key, &ms))
		format_buf(why, size, "expected seconds of 0 to %u, such as 2.5, got '%s'", CONFIG_SECONDS_MAX, shown(word, key));
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
