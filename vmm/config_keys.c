/*
 * The keys of VMs and of the host: what their values may be, and what is said if they are not. For the file and for the
 * console.
 */
#include "lib/err.h"
#include "lib/format.h"
#include "lib/string.h"
#include "mm/zip.h"
#include "vmm/config.h"
#include "vmm/config_internal.h"
#include "vmm/pvdisk.h"

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

int config_parse_limit(const char *value, u64 memory, u64 *bytes)
{
	u64 is, none;
	int err = config_parse_portion(value, memory, VM_MEMORY_MAX, &is);

	/* What only comes to nothing in whole pages is not meant to be none. */
	if (!err && is < VM_MEMORY_MIN && parse_size(value, 0, &none))
		err = E_RANGE;
	if (!err)
		*bytes = is;
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
	return config_parse_limit(value, vm->memory_bytes, &vm->limit_bytes);
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
    {"limit", CONFIG_LIMIT_EXPECTED, set_limit},
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

const char *config_shown(char buf[CONFIG_SHOWN + 1], const char *value)
{
	str_copy(buf, value, CONFIG_SHOWN + 1);
	for (char *c = buf; *c; c++)
		if (*c < ' ' || (u8)*c > '~')
			*c = '?';
	return buf;
}

static int fail_value(char *why, size_t size, int err, const char *key, const char *expected, const char *value)
{
	char word[CONFIG_SHOWN + 1];

	if (err == E_EXIST)
		format_buf(why, size, "%s: expected once: memory and startup are the same, the first value stays", key);
	else if (err == E_AGAIN)
		format_buf(why, size, "%s: '%s' is a part of memory, which is expected before it", key,
			   config_shown(word, value));
	else
		format_buf(why, size, "%s: expected %s, got '%s'", key, expected, config_shown(word, value));
	return err == E_AGAIN ? E_INVAL : err;
}

static int fail_vm_key(char *why, size_t size, const char *key)
{
	char word[CONFIG_SHOWN + 1];
	size_t at = format_append(why, size, 0, "'%s': expected a key of a VM: ", config_shown(word, key));

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
	char word[CONFIG_SHOWN + 1];
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
	format_buf(
	    why, size,
	    "'%s': expected a key of the host: min-free, share-rate, balloon-rate, zip-max, log-level, idle-tax, "
	    "balloon-rate-down, metrics-interval or one of wss-..., alert-...",
	    config_shown(word, key));
	return E_NOENT;
}
