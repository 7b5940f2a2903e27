/*
 * Console commands about virtual machines: vm list, show, create, start, pause, resume, stop, destroy,
 * console, set; balloon.
 *
 * What a guest says about itself (struct aero_info) is printed as figures or as a cleaned word, never believed.
 */
#include "lib/err.h"
#include "lib/format.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/balloon.h"
#include "mm/reclaim.h"
#include "vmm/command.h"
#include "vmm/config.h"
#include "vmm/events.h"
#include "vmm/monitor.h"
#include "vmm/pairs.h"
#include "vmm/pvdisk.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define ROWS_PER_PIECE 16U
#define KEY_BYTES      24
#define COUNT_BYTES    24

static u64 to_bytes(u64 pages)
{
	return pages << PAGE_SHIFT;
}

/* The VM named by the first argument. */
static struct vm *arg_vm(struct command_run *r)
{
	return command_vm(r, command_arg(r, 0));
}

/* ---- vm list ---- */

static void list_row(struct console_out *o, struct vm *vm)
{
	char memory[FORMAT_SIZE_BYTES], consumed[FORMAT_SIZE_BYTES] = "-", balloon[FORMAT_SIZE_BYTES] = "-";
	char swapped[FORMAT_SIZE_BYTES] = "-", app[16] = "-", checked[COUNT_BYTES] = "0", errors[COUNT_BYTES] = "0";
	char row[120];
	struct aero_info info;
	size_t n;

	if (vm->gs_valid) {
		format_size(consumed, to_bytes(gspace_consumed(&vm->gs)));
		format_size(balloon, to_bytes(vm->gs.count[PAGE_BALLOONED]));
		format_size(swapped, to_bytes(vm->gs.count[PAGE_SWAPPED]));
	}
	if (vm_read_info(vm, &info)) {
		command_word(app, sizeof(app), info.app.name, sizeof(info.app.name));
		format_buf(checked, sizeof(checked), "%lu", info.app.pages_checked);
		format_buf(errors, sizeof(errors), "%lu", info.app.errors);
	}
	format_size(memory, vm->gs_valid ? to_bytes(vm->gs.pages) : vm->config.memory_bytes);
	n = format_append(row, sizeof(row), 0, "%3u %s", vm->id, vm->config.name);
	n = format_left(row, sizeof(row), n, 15, vm_state_name(vm->state));
	n = format_right(row, sizeof(row), n, 30, memory);
	n = format_right(row, sizeof(row), n, 39, consumed);
	n = format_right(row, sizeof(row), n, 47, balloon);
	n = format_right(row, sizeof(row), n, 55, swapped);
	n = format_left(row, sizeof(row), n, 56, app);
	n = format_right(row, sizeof(row), n, 73, checked);
	format_right(row, sizeof(row), n, 80, errors);
	console_printf(o, "%s\n", row);
}

int cmd_vm_list(struct command_run *r)
{
	struct vm *vm = command_vm_at(r->at);

	if (r->at == 0)
		console_printf(r->out, "%3s %-10s %-8s %6s %8s %7s %7s %-7s %9s %6s\n", "id", "name", "state", "memory",
			       "consumed", "balloon", "swapped", "app", "checked", "errors");
	for (u32 i = 0; vm && i < ROWS_PER_PIECE; i++, vm = vm_next(vm)) {
		list_row(r->out, vm);
		r->at++;
	}
	if (vm)
		r->more = cmd_vm_list;
	return 0;
}

/* ---- vm show ---- */

static void show_config(struct console_out *o, struct vm *vm)
{
	const struct vm_config *c = &vm->config;
	u64 now = platform_now_ns();
	bool up = vm->state == VM_RUNNING || vm->state == VM_PAUSED;
	struct pairs p;

	pairs_begin(&p, o);
	pairs_format(&p, "name", "%s", c->name);
	pairs_number(&p, "id", vm->id);
	pairs_format(&p, "state", "%s", vm_state_name(vm->state));
	pairs_format(&p, "uptime", "%lus", up && now > vm->started_ns ? (now - vm->started_ns) / NSEC_PER_SEC : 0);
	pairs_text(&p, "why", vm->why);
	pairs_size(&p, "memory", vm->gs_valid ? to_bytes(vm->gs.pages) : c->memory_bytes);
	if (c->maximum_bytes)
		pairs_size(&p, "startup", c->memory_bytes);
	pairs_size(&p, "reserved", c->reservation_bytes);
	pairs_size(&p, "limited", c->limit_bytes);
	pairs_number(&p, "vcpus", c->vcpus);
	pairs_size(&p, "disk", c->disk_bytes);
	pairs_number(&p, "balloon-percent", c->balloon_max_percent ? c->balloon_max_percent : BALLOON_MAX_PERCENT);
	pairs_number(&p, "cpu-weight", c->cpu_weight ? c->cpu_weight : 1000);
	pairs_number(&p, "cpu-cap", c->cpu_cap);
	pairs_format(&p, "share-group", "%s", c->share_group[0] ? c->share_group : "-");
	pairs_number(&p, "watchdog", c->watchdog_sec);
	pairs_number(&p, "balloon-rate", c->balloon_rate);
	pairs_format(&p, "autostart", "%s", c->autostart ? "yes" : "no");
	pairs_text(&p, "image", c->image);
	pairs_text(&p, "cmdline", c->cmdline);
}

static void show_app(struct pairs *p, const struct aero_info *i)
{
	static const char *const state[] = {"starting", "running", "done"};
	char app[16];

	pairs_format(p, "app", "%s", command_word(app, sizeof(app), i->app.name, sizeof(i->app.name)));
	pairs_format(p, "app-state", "%s", i->app.state < ARRAY_SIZE(state) ? state[i->app.state] : "?");
	pairs_number(p, "operations", i->app.operations);
	pairs_number(p, "checked", i->app.pages_checked);
	pairs_number(p, "errors", i->app.errors);
	pairs_format(p, "hit-rate", "%u.%u%%", i->app.hit_permille / 10, i->app.hit_permille % 10);
	pairs_number(p, "latency-us", i->app.latency_ns / NSEC_PER_USEC);
	pairs_end(p);
}

static void show_guest(struct console_out *o, struct vm *vm)
{
	struct aero_info i;
	struct pairs p;

	pairs_begin(&p, o);
	if (!vm_read_info(vm, &i)) {
		console_printf(o, "guest=silent\n");
		return;
	}
	show_app(&p, &i);
	pairs_number(&p, "balloon-achieved", i.balloon_report.achieved);
	pairs_number(&p, "refused-no-memory", i.balloon_report.refused_no_memory);
	pairs_number(&p, "refused-pinned", i.balloon_report.refused_pinned);
	pairs_number(&p, "refused-host", i.balloon_report.refused_host);
	pairs_number(&p, "refused-rate", i.balloon_report.refused_rate);
	pairs_number(&p, "refaults", i.balloon_report.refaults);
	pairs_number(&p, "refault-us", i.balloon_report.refault_ns / NSEC_PER_USEC);
	pairs_end(&p);
	pairs_number(&p, "guest-total", i.memory.total);
	pairs_number(&p, "guest-free", i.memory.free);
	pairs_number(&p, "guest-cached", i.memory.cached);
	pairs_number(&p, "guest-committed", i.memory.committed);
	pairs_number(&p, "guest-paged-in", i.memory.paged_in);
	pairs_number(&p, "guest-paged-out", i.memory.paged_out);
	pairs_number(&p, "guest-stalls", i.memory.allocation_stalls);
	pairs_number(&p, "guest-major-faults", i.memory.major_faults);
	pairs_number(&p, "guest-minor-faults", i.memory.minor_faults);
	pairs_end(&p);
}

static void show_exits(struct console_out *o, struct vm *vm)
{
	char key[KEY_BYTES];
	struct vm_counts c;
	struct pairs p;

	vm_counts(vm, &c);
	pairs_begin(&p, o);
	for (u32 i = 0; i < MIN((u32)HV_EXIT_KINDS, (u32)ARRAY_SIZE(c.exits)); i++) {
		if (!c.exits[i])
			continue;
		format_buf(key, sizeof(key), "exit-%s", exit_kind_name(i));
		pairs_number(&p, key, c.exits[i]);
	}
	pairs_number(&p, "hypercalls", c.hypercalls);
	pairs_number(&p, "hypercall-errors", c.hypercall_errors);
	pairs_number(&p, "console-dropped", vm->con_dropped);
	pairs_end(&p);
}

static void show_vcpus(struct console_out *o, struct vm *vm)
{
	char key[KEY_BYTES];
	struct pairs p;

	pairs_begin(&p, o);
	for (u32 i = 0; i < VM_VCPUS_MAX && vm->vcpu[i]; i++) {
		const struct vcpu *v = vm->vcpu[i];

		format_buf(key, sizeof(key), "vcpu%u", i);
		pairs_format(&p, key, "%s", vcpu_state_name(v->state));
		format_buf(key, sizeof(key), "vcpu%u-slices", i);
		pairs_number(&p, key, v->slices);
		format_buf(key, sizeof(key), "vcpu%u-ran-ms", i);
		pairs_number(&p, key, v->ns_in[VCPU_RUNNING] / NSEC_PER_MSEC);
		format_buf(key, sizeof(key), "vcpu%u-cpu", i);
		pairs_number(&p, key, v->cpu);
		format_buf(key, sizeof(key), "vcpu%u-ready-ms", i);
		pairs_number(&p, key, v->ns_in[VCPU_READY] / NSEC_PER_MSEC);
		format_buf(key, sizeof(key), "vcpu%u-halted-ms", i);
		pairs_number(&p, key, v->ns_in[VCPU_HALTED] / NSEC_PER_MSEC);
		format_buf(key, sizeof(key), "vcpu%u-memory-wait-ms", i);
		pairs_number(&p, key, v->ns_in[VCPU_WAIT_MEMORY] / NSEC_PER_MSEC);
	}
	pairs_end(&p);
}

static void show_disk(struct console_out *o, struct vm *vm)
{
	struct pvdisk_stats s;
	struct pairs p;
	u64 transfers;

	if (!vm->disk)
		return;
	pvdisk_stats(vm->disk, &s);
	transfers = s.reads + s.writes;
	pairs_begin(&p, o);
	pairs_number(&p, "disk-reads", s.reads);
	pairs_number(&p, "disk-writes", s.writes);
	pairs_number(&p, "disk-read-pages", s.read_pages);
	pairs_number(&p, "disk-write-pages", s.write_pages);
	pairs_number(&p, "disk-zero-reads", s.zero_reads);
	pairs_number(&p, "disk-errors", s.errors);
	pairs_number(&p, "disk-waits", s.waits);
	pairs_number(&p, "disk-latency-us", transfers ? s.latency_ns / transfers / NSEC_PER_USEC : 0);
	pairs_end(&p);
}

/* Two pieces: what we know, and what the guest and its devices did. */
int cmd_vm_show(struct command_run *r)
{
	struct vm *vm = arg_vm(r);

	if (!vm)
		return E_NOENT;
	if (r->at++ == 0) {
		show_config(r->out, vm);
		cmd_mem_print_vm(r->out, vm);
		r->more = cmd_vm_show;
		return 0;
	}
	show_guest(r->out, vm);
	show_disk(r->out, vm);
	show_vcpus(r->out, vm);
	show_exits(r->out, vm);
	return 0;
}

/* ---- life cycle ---- */

/* "key=value" -> cfg. The word is cut in two. */
static int set_from_word(struct command_run *r, struct vm_config *cfg, u32 *seen, char *word)
{
	char shown[40], *eq = strchr(word, '=');

	if (!eq)
		return command_fail(r, E_INVAL, "'%s': expected KEY=VALUE",
				    command_word(shown, sizeof(shown), word, sizeof(shown)));
	*eq = 0;
	return config_set_vm(cfg, seen, word, eq + 1, r->why, sizeof(r->why));
}

int cmd_vm_create(struct command_run *r)
{
	const char *name = command_arg(r, 0);
	char shown[40];
	struct vm_config cfg;
	u32 seen = 0;
	struct vm *vm;
	int err = 0;

	config_vm_defaults(&cfg);
	cfg.autostart = false;
	if (!config_name_ok(name))
		return command_fail(r, E_INVAL, "'%s': expected a name of 1 to 15 characters A-Z a-z 0-9 _ -",
				    command_word(shown, sizeof(shown), name, sizeof(shown)));
	str_copy(cfg.name, name, sizeof(cfg.name));
	for (u32 i = 3; i < r->argc && !err; i++)
		err = set_from_word(r, &cfg, &seen, r->argv[i]);
	if (!err && !cfg.memory_bytes)
		err = command_fail(r, E_INVAL, "memory: expected memory=SIZE among the keys");
	if (!err)
		err = vm_create(&cfg, &vm, r->why, sizeof(r->why));
	if (err)
		return err;
	monitor_sync();
	console_printf(r->out, "%s: created\n", cfg.name);
	if (!cfg.autostart)
		return 0;
	err = vm_start(vm, r->why, sizeof(r->why));
	if (!err)
		console_printf(r->out, "%s: starting\n", cfg.name);
	return err;
}

/* The common part of start, pause, resume and destroy. */
static int act(struct command_run *r, int (*fn)(struct vm *vm, char *why, size_t size), const char *done)
{
	struct vm *vm = arg_vm(r);
	int err;

	if (!vm)
		return E_NOENT;
	err = fn(vm, r->why, sizeof(r->why));
	if (!err)
		console_printf(r->out, "%s: %s\n", command_arg(r, 0), done);
	return err;
}

int cmd_vm_start(struct command_run *r)
{
	return act(r, vm_start, "starting");
}

int cmd_vm_pause(struct command_run *r)
{
	return act(r, vm_pause, "paused");
}

int cmd_vm_resume(struct command_run *r)
{
	return act(r, vm_resume, "running");
}

int cmd_vm_destroy(struct command_run *r)
{
	int err = act(r, vm_destroy, "destroyed");

	monitor_sync();
	return err;
}

int cmd_vm_stop(struct command_run *r)
{
	bool force = r->argc > 3;
	char shown[40];
	struct vm *vm;
	int err;

	if (force && !str_eq(command_arg(r, 1), "force"))
		return command_fail(r, E_INVAL, "'%s': expected nothing or force",
				    command_word(shown, sizeof(shown), command_arg(r, 1), sizeof(shown)));
	vm = arg_vm(r);
	if (!vm)
		return E_NOENT;
	err = vm_stop(vm, force, r->why, sizeof(r->why));
	if (!err)
		console_printf(r->out, "%s: stopping\n", vm->config.name);
	return err;
}

int cmd_vm_console(struct command_run *r)
{
	struct vm *vm = arg_vm(r);

	if (!vm)
		return E_NOENT;
	str_copy(r->name, vm->config.name, sizeof(r->name));
	r->request = COMMAND_ATTACH;
	return 0;
}

int cmd_vm_type(struct command_run *r)
{
	const char *text = command_arg(r, 1);
	struct vm *vm = arg_vm(r);

	if (!vm)
		return E_NOENT;
	if (!vm->gs_valid)
		return command_fail(r, E_PERM, "'%s' is %s", vm->config.name, vm_state_name(vm->state));
	if (!vm_console_line(vm, text, strlen(text)))
		return command_fail(r, E_BUSY, "'%s' does not read what is typed", vm->config.name);
	return 0;
}

/* ---- vm set ---- */

static int fail_value(struct command_run *r, int err, const char *key, const char *expected, const char *value)
{
	char shown[40];

	return command_fail(r, err, "%s: expected %s, got '%s'", key, expected,
			    command_word(shown, sizeof(shown), value, sizeof(shown)));
}

/* What was set, on the console and as an event. was: the old value, or NULL. */
static void tell_set(struct command_run *r, const struct vm *vm, const char *key, const char *was, const char *value)
{
	console_printf(r->out, "%s: %s=%s\n", vm->config.name, key, value);
	if (was)
		events_add(EVENT_INFO, vm->config.name, "set %s %s (was %s)", key, value, was);
	else
		events_add(EVENT_INFO, vm->config.name, "set %s %s", key, value);
}

static int set_portion(struct command_run *r, struct vm *vm, bool limit, const char *value)
{
	const char *key = limit ? "limit" : "reservation";
	char size[FORMAT_SIZE_BYTES], was[FORMAT_SIZE_BYTES];
	u64 bytes;
	u64 memory = vm->config.memory_bytes;
	int err = limit ? config_parse_limit(value, memory, &bytes)
			: config_parse_portion(value, memory, VM_MEMORY_MAX, &bytes);

	if (err)
		return fail_value(r, err, key, limit ? CONFIG_LIMIT_EXPECTED : "a size or a percentage", value);
	format_size(was, limit ? vm->config.limit_bytes : vm->config.reservation_bytes);
	err = limit ? vm_set_limit(vm, bytes, r->why, sizeof(r->why))
		    : vm_set_reservation(vm, bytes, r->why, sizeof(r->why));
	if (!err)
		tell_set(r, vm, key, was, format_size(size, bytes));
	return err;
}

/* memory SIZE|auto, minimum SIZE, buffer PERCENT. */
static int set_demand(struct command_run *r, struct vm *vm, const char *key, const char *value)
{
	struct vm_config cfg = {.vcpus = 1};
	bool automatic = str_eq(key, "memory") && str_eq(value, "auto");
	int err = automatic ? 0 : config_set_vm(&cfg, NULL, key, value, r->why, sizeof(r->why));

	if (err)
		return err;
	if (str_eq(key, "memory"))
		err = vm_set_memory(vm, cfg.memory_bytes, r->why, sizeof(r->why));
	else if (str_eq(key, "minimum"))
		err = vm_set_minimum(vm, cfg.minimum_bytes, r->why, sizeof(r->why));
	else
		err = vm_set_buffer(vm, cfg.buffer_percent, r->why, sizeof(r->why));
	if (!err)
		tell_set(r, vm, key, NULL, value);
	return err;
}

/* What a VM that has memory can change; the rest belongs to its next start. */
static bool is_live_key(const char *key)
{
	static const char *const live[] = {"cpu-weight", "cpu-cap", "watchdog", "autostart", "balloon-rate"};

	for (u32 i = 0; i < ARRAY_SIZE(live); i++)
		if (str_eq(key, live[i]))
			return true;
	return false;
}

/* Any other key of the configuration. */
static int set_key(struct command_run *r, struct vm *vm, const char *key, const char *value)
{
	struct vm_config cfg = vm->config;
	int err;

	if (str_eq(key, "startup"))
		cfg.memory_bytes = 0; /* given anew */
	err = config_set_vm(&cfg, NULL, key, value, r->why, sizeof(r->why));
	if (!err && vm->gs_valid && !is_live_key(key))
		err = command_fail(r, E_BUSY, "'%s' is %s: %s can be set when it is stopped, for its next start",
				   vm->config.name, vm_state_name(vm->state), key);
	if (!err)
		err = vm_configure(vm, &cfg, r->why, sizeof(r->why));
	if (!err)
		tell_set(r, vm, key, NULL, value);
	return err;
}

int cmd_vm_set(struct command_run *r)
{
	const char *key = command_arg(r, 1), *value = command_arg(r, 2);
	struct vm *vm = arg_vm(r);
	char is[12];
	u32 shares;
	int err;

	if (!vm)
		return E_NOENT;
	if (str_eq(key, "reservation") || str_eq(key, "limit"))
		return set_portion(r, vm, str_eq(key, "limit"), value);
	if (str_eq(key, "memory") || str_eq(key, "minimum") || str_eq(key, "buffer"))
		return set_demand(r, vm, key, value);
	if (!str_eq(key, "shares"))
		return set_key(r, vm, key, value);
	err = config_parse_shares(value, vm->config.memory_bytes, &shares);
	if (err)
		return fail_value(r, err, key, "1 to 1000000, low, normal or high", value);
	format_buf(is, sizeof(is), "%u", shares);
	err = vm_set_shares(vm, shares, r->why, sizeof(r->why));
	if (!err)
		tell_set(r, vm, key, NULL, is);
	return err;
}

/* ---- balloon ---- */

static void balloon_row(struct console_out *o, struct vm *vm)
{
	char target[FORMAT_SIZE_BYTES], size[FORMAT_SIZE_BYTES], max[FORMAT_SIZE_BYTES], rate[FORMAT_SIZE_BYTES];
	struct gspace *gs = &vm->gs;
	const char *driver;

	if (!vm->gs_valid) {
		console_printf(o, "%-15s %8s %8s %8s %10s %-7s %s\n", vm->config.name, "-", "-", "-", "-", "-", "off");
		return;
	}
	driver = !gs->balloon_present                     ? "none"
		 : gs->balloon_trouble == BALLOON_LYING   ? "lying"
		 : balloon_stalled(gs, platform_now_ns()) ? "stalled"
							  : "ok";
	console_printf(o, "%-15s %8s %8s %8s %8s/s %-7s %s\n", vm->config.name,
		       format_size(target, to_bytes(gs->balloon_target)), format_size(size, to_bytes(balloon_size(gs))),
		       format_size(max, to_bytes(gs->balloon_max)),
		       format_size(rate, to_bytes(gs->balloon_rate ? gs->balloon_rate : BALLOON_RATE_DEFAULT)),
		       gs->balloon_manual == GFN_NONE ? "auto" : "manual", driver);
}

static int balloon_table(struct command_run *r)
{
	struct vm *vm = command_vm_at(r->at);

	if (r->at == 0)
		console_printf(r->out, "%-15s %8s %8s %8s %10s %-7s %s\n", "name", "target", "size", "max", "rate",
			       "mode", "driver");
	for (u32 i = 0; vm && i < ROWS_PER_PIECE; i++, vm = vm_next(vm)) {
		balloon_row(r->out, vm);
		r->at++;
	}
	if (vm)
		r->more = balloon_table;
	return 0;
}

/* Pages that a balloon may hold: its maximum, and nothing of the reservation. */
static u32 balloon_room(const struct gspace *gs)
{
	return MIN(gs->balloon_max, gs->pages - MIN(gs->alloc.reservation, gs->pages));
}

static int balloon_fix(struct command_run *r, struct vm *vm, const char *value)
{
	char max[FORMAT_SIZE_BYTES], expected[64];
	u64 bytes;
	int err;

	if (str_eq(value, "auto")) {
		reclaim_set_manual(&vm->gs, GFN_NONE);
		console_printf(r->out, "%s: balloon=auto\n", vm->config.name);
		return 0;
	}
	err = parse_size(value, to_bytes(balloon_room(&vm->gs)), &bytes);
	if (err) {
		format_buf(expected, sizeof(expected), "auto or a size of 0 to %s",
			   format_size(max, to_bytes(balloon_room(&vm->gs))));
		return fail_value(r, err, "balloon", expected, value);
	}
	reclaim_set_manual(&vm->gs, (u32)(bytes >> PAGE_SHIFT));
	console_printf(r->out, "%s: balloon=%s\n", vm->config.name, format_size(max, ALIGN_DOWN(bytes, PAGE_SIZE)));
	return 0;
}

int cmd_balloon(struct command_run *r)
{
	struct vm *vm;

	if (r->argc == 1)
		return balloon_table(r);
	if (r->argc == 2)
		return command_fail(r, E_INVAL, "expected: balloon NAME SIZE|auto");
	vm = arg_vm(r);
	if (!vm)
		return E_NOENT;
	if (!vm->gs_valid)
		return command_fail(r, E_BUSY, "'%s' is %s: it has no balloon", vm->config.name,
				    vm_state_name(vm->state));
	return balloon_fix(r, vm, command_arg(r, 1));
}
