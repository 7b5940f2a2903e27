/*
 * Console commands about the host: set, log, host, disk, shutdown, reboot.
 */
#include <cpuid.h>

#include "arch/x86/cpu.h"
#include "arch/x86/hv.h"
#include "arch/x86/mitigate.h"
#include "lib/err.h"
#include "lib/format.h"
#include "lib/log.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "lib/work.h"
#include "mm/blk.h"
#include "mm/frame.h"
#include "mm/reclaim.h"
#include "mm/zip.h"
#include "vmm/command.h"
#include "vmm/events.h"
#include "vmm/pairs.h"
#include "vmm/settings.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define LOG_LINES_DEFAULT   20U
#define LOG_LINES_MAX       2000U
#define LOG_LINES_PER_PIECE 8U
#define CPUS_PER_PIECE      8U
#define WORK_PER_PIECE      16U
/* Pieces of COMMAND_WAIT_NS: how long shutdown waits for guests before and after it forces them. */
#define STOP_ORDERLY_PIECES 120U
#define STOP_FORCED_PIECES  200U

static u64 to_bytes(u64 pages)
{
	return pages << PAGE_SHIFT;
}

/* ---- set ---- */

/* The line of key, or all. False: no such key. */
static bool print_settings(struct console_out *o, const char *key)
{
	const struct host_config *s = settings_get();
	u32 share = s->share_rate == CONFIG_RATE_OFF ? 0 : s->share_rate;
	char line[80], size[FORMAT_SIZE_BYTES];
	struct reclaim_stats r;
	bool any = false;

	reclaim_stats(&r);
	for (u32 i = 0; config_host_key(i); i++) {
		const char *name = config_host_key(i);
		enum number n = number_find(name);

		if (key && !str_eq(key, name))
			continue;
		any = true;
		if (n < NUMBERS)
			format_buf(line, sizeof(line), "%u %s", settings_number(n), number_key[n].unit);
		else if (str_eq(name, "log-level"))
			format_buf(line, sizeof(line), "%s", config_level_name(s->log_level - 1));
		else if (str_eq(name, "min-free"))
			format_buf(line, sizeof(line), "%s%s", format_size(size, to_bytes(r.min_free)),
				   s->min_free_pages ? "" : " (sliding scale)");
		else if (str_eq(name, "share-rate"))
			format_buf(line, sizeof(line), "%u pages a second", share);
		else if (str_eq(name, "zip-max"))
			format_buf(line, sizeof(line), "%u%% of a VM's memory",
				   s->zip_percent == ZIP_NONE ? 0 : s->zip_percent);
		else
			format_buf(line, sizeof(line), "%u pages a second and VM", s->balloon_rate);
		console_printf(o, "%s=%s\n", name, line);
	}
	return any;
}

int cmd_get(struct command_run *r)
{
	const char *key = r->argc > 1 ? command_arg(r, 0) : NULL;
	char word[40];

	if (print_settings(r->out, key))
		return 0;
	return command_fail(r, E_NOENT, "'%s': expected a key of the host; `get` lists them",
			    command_word(word, sizeof(word), key, sizeof(word)));
}

/* More than half of RAM kept free is a mistake: VMs that run would be swapped out for it. */
static int check_min_free(struct command_run *r, const struct host_config *h)
{
	char size[FORMAT_SIZE_BYTES];
	struct frame_stats f;

	frame_stats(&f);
	if (h->min_free_pages == CONFIG_MIN_FREE_AUTO || h->min_free_pages <= f.total / 2)
		return 0;
	return command_fail(r, E_RANGE, "min-free: expected at most half of the host's RAM, %s, got '%s'",
			    format_size(size, to_bytes(f.total / 2)), command_arg(r, 1));
}

int cmd_set(struct command_run *r)
{
	struct host_config h = {0};
	int err;

	if (r->argc == 1) {
		print_settings(r->out, NULL);
		return 0;
	}
	if (r->argc == 2)
		return command_fail(r, E_INVAL, "expected: set KEY VALUE");
	err = config_set_host(&h, NULL, command_arg(r, 0), command_arg(r, 1), r->why, sizeof(r->why));
	if (!err)
		err = check_min_free(r, &h);
	if (err)
		return err;
	settings_apply(&h);
	events_add(EVENT_INFO, "host", "set %s %s", command_arg(r, 0), command_arg(r, 1));
	if (h.min_free_pages) /* there is a least that works */
		print_settings(r->out, command_arg(r, 0));
	else
		console_printf(r->out, "%s=%s\n", command_arg(r, 0), command_arg(r, 1));
	return 0;
}

/* ---- log ---- */

static int log_some(struct command_run *r)
{
	char line[LOG_LINE_BYTES];

	for (u32 i = 0; i < LOG_LINES_PER_PIECE; i++) {
		if (r->left == 0 || !log_read(&r->cursor, line, sizeof(line)))
			return 0;
		console_printf(r->out, "%s\n", line);
		r->left--;
	}
	r->more = log_some;
	return 0;
}

int cmd_log(struct command_run *r)
{
	char line[LOG_LINE_BYTES], word[40];
	u64 wanted = LOG_LINES_DEFAULT, cursor = 0;
	u32 count = 0;

	if (r->argc > 1 && (parse_u64(command_arg(r, 0), LOG_LINES_MAX, &wanted) || wanted == 0))
		return command_fail(r, E_RANGE, "'%s': expected 1 to %u lines",
				    command_word(word, sizeof(word), command_arg(r, 0), sizeof(word)), LOG_LINES_MAX);
	while (log_read(&cursor, line, sizeof(line)))
		count++;
	for (r->cursor = 0; count > wanted; count--)
		if (!log_read(&r->cursor, line, sizeof(line)))
			break;
	r->left = (u32)wanted;
	return log_some(r);
}

/* ---- host ---- */

static void cpu_brand(char buf[52])
{
	u32 *w = (u32 *)buf, a, b, c, d;

	memset(buf, 0, 52);
	if (!__get_cpuid(0x80000000, &a, &b, &c, &d) || a < 0x80000004)
		return;
	for (u32 leaf = 0; leaf < 3; leaf++)
		__cpuid(0x80000002 + leaf, w[leaf * 4], w[leaf * 4 + 1], w[leaf * 4 + 2], w[leaf * 4 + 3]);
}

static void print_frames(struct console_out *o)
{
	struct frame_stats f;
	struct pairs p;

	frame_stats(&f);
	pairs_begin(&p, o);
	pairs_number(&p, "frames", f.total);
	pairs_number(&p, "frames-free", f.free);
	pairs_number(&p, "frames-hypervisor", f.by_state[FRAME_HV]);
	pairs_number(&p, "frames-table", f.by_state[FRAME_TABLE]);
	pairs_number(&p, "frames-guest", f.by_state[FRAME_GUEST]);
	pairs_number(&p, "frames-shared", f.by_state[FRAME_SHARED]);
	pairs_number(&p, "frames-zip", f.by_state[FRAME_ZIP]);
	pairs_number(&p, "frames-zero", f.by_state[FRAME_ZERO]);
	pairs_number(&p, "frame-allocs", f.allocs);
	pairs_number(&p, "frame-frees", f.frees);
	pairs_number(&p, "frame-failures", f.failures);
	pairs_end(&p);
}

static void cpu_number(struct pairs *p, u32 cpu, const char *what, u64 value)
{
	char key[32];

	format_buf(key, sizeof(key), "cpu%u-%s", cpu, what);
	pairs_number(p, key, value);
}

static int host_cpus(struct command_run *r)
{
	struct sched_cpu_stats s;
	struct pairs p;

	pairs_begin(&p, r->out);
	for (u32 i = 0; i < CPUS_PER_PIECE && sched_cpu_stats(r->at, &s); i++, r->at++) {
		cpu_number(&p, r->at, "idle-ms", s.idle_ns / NSEC_PER_MSEC);
		cpu_number(&p, r->at, "host-ms", s.host_ns / NSEC_PER_MSEC);
		cpu_number(&p, r->at, "ready", s.ready);
		cpu_number(&p, r->at, "taken", s.steals);
	}
	pairs_end(&p);
	if (sched_cpu_stats(r->at, &s))
		r->more = host_cpus;
	return 0;
}

int cmd_host(struct command_run *r)
{
	char brand[52], in_force[MITIGATE_TEXT], exposed[MITIGATE_TEXT];
	struct pairs p;

	cpu_brand(brand);
	mitigate_describe(&mitigations, in_force, sizeof(in_force));
	mitigate_describe_exposed(&mitigations, exposed, sizeof(exposed));
	pairs_begin(&p, r->out);
	pairs_text(&p, "cpu", brand);
	pairs_number(&p, "cpus", cpu_count());
	pairs_number(&p, "uptime-ms", platform_now_ns() / NSEC_PER_MSEC);
	pairs_number(&p, "tsc-khz", cpu_tsc_khz());
	pairs_format(&p, "uptime", "%lus", platform_now_ns() / NSEC_PER_SEC);
	pairs_format(&p, "backend", "%s", hv ? hv->name : "none");
	pairs_number(&p, "asids", hv_caps.asids);
	pairs_format(&p, "accessed-bits", "%s", hv_caps.ad_bits ? "yes" : "no");
	pairs_format(&p, "large-pages", "%s", hv_caps.large_1g ? "1G" : hv_caps.large_2m ? "2M" : "no");
	pairs_format(&p, "mitigations", "%s", mitigate_mode_name(mitigations.mode));
	pairs_text(&p, "in-force", in_force);
	pairs_text(&p, "exposed", exposed);
	pairs_end(&p);
	print_frames(r->out);
	r->more = host_cpus;
	return 0;
}

/* ---- host work ---- */

static int work_rows(struct command_run *r)
{
	const struct work_kind *k;

	for (u32 i = 0; i < WORK_PER_PIECE && (k = work_kind(r->at)); i++, r->at++)
		console_printf(r->out, "%-15s %9lu %9lu %7lu %10lu\n", k->name, READ_ONCE(k->runs),
			       READ_ONCE(k->ns) / NSEC_PER_MSEC,
			       READ_ONCE(k->ns) / MAX(READ_ONCE(k->runs), 1UL) / NSEC_PER_USEC,
			       READ_ONCE(k->longest_ns) / NSEC_PER_USEC);
	if (work_kind(r->at))
		r->more = work_rows;
	return 0;
}

int cmd_host_work(struct command_run *r)
{
	char word[40];

	if (r->argc > 2 && !str_eq(command_arg(r, 0), "reset"))
		return command_fail(r, E_INVAL, "'%s': expected nothing or reset",
				    command_word(word, sizeof(word), command_arg(r, 0), sizeof(word)));
	if (r->argc > 2) {
		work_kinds_reset();
		console_printf(r->out, "work: counts from now on\n");
		return 0;
	}
	console_printf(r->out, "%-15s %9s %9s %7s %10s\n", "name", "runs", "total-ms", "mean-us", "longest-us");
	return work_rows(r);
}

/* ---- disk ---- */

static void print_parts(struct console_out *o, const struct blk_dev *d, enum blk_part_kind kind, const char *what)
{
	char size[FORMAT_SIZE_BYTES];
	struct pairs p;

	for (struct blk_part *part = blk_part_next(NULL, kind); part; part = blk_part_next(part, kind)) {
		if (part->dev != d)
			continue;
		console_printf(o, "  partition=%s start=%lu size=%s\n", what, part->start,
			       format_size(size, to_bytes(part->pages)));
		pairs_begin(&p, o);
		pairs_text(&p, "  name", part->name);
	}
}

static u64 mean_us(u64 ns, u64 count)
{
	return count ? ns / count / NSEC_PER_USEC : 0;
}

static void print_disk(struct console_out *o, const struct blk_dev *d)
{
	const struct blk_stats *s = &d->stats;
	struct pairs p;

	pairs_begin(&p, o);
	pairs_format(&p, "device", "%s", d->name);
	pairs_size(&p, "size", d->sectors * BLK_SECTOR);
	pairs_format(&p, "state", "%s", d->gone ? "gone" : "ok");
	pairs_number(&p, "sector", d->sector_bytes);
	pairs_format(&p, "queue", "%u/%u", d->in_flight, d->queue_depth);
	pairs_text(&p, "model", d->model);
	pairs_number(&p, "reads", s->reads);
	pairs_number(&p, "writes", s->writes);
	pairs_number(&p, "read-pages", s->read_pages);
	pairs_number(&p, "write-pages", s->write_pages);
	pairs_number(&p, "read-us", mean_us(s->read_ns, s->reads));
	pairs_number(&p, "read-us-max", s->read_ns_max / NSEC_PER_USEC);
	pairs_number(&p, "write-us", mean_us(s->write_ns, s->writes));
	pairs_number(&p, "write-us-max", s->write_ns_max / NSEC_PER_USEC);
	pairs_number(&p, "errors", s->errors);
	pairs_number(&p, "timeouts", s->timeouts);
	pairs_number(&p, "resets", s->resets);
	pairs_end(&p);
	print_parts(o, d, BLK_PART_SWAP, "swap");
	print_parts(o, d, BLK_PART_GUEST_DATA, "guest-data");
}

/* One device a piece; devices never go away. */
int cmd_disk(struct command_run *r)
{
	struct blk_dev *d = blk_next(NULL);

	for (u32 i = 0; d && i < r->at; i++)
		d = blk_next(d);
	if (!d) {
		if (r->at == 0)
			console_printf(r->out, "no disks\n");
		return 0;
	}
	print_disk(r->out, d);
	r->at++;
	r->more = cmd_disk;
	return 0;
}

/* ---- shutdown, reboot ---- */

/* VMs that still run or end. stop: asks those that run. */
static u32 live_vms(bool stop, bool force)
{
	char why[COMMAND_WHY];
	u32 live = 0;

	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm)) {
		if (vm->state == VM_CREATED || vm->state == VM_CRASHED)
			continue;
		live++;
		if (stop && vm->state != VM_STOPPING && vm_stop(vm, force, why, sizeof(why)))
			log_warn("console", "%s: %s", vm->config.name, why);
	}
	return live;
}

static int end_machine(struct command_run *r)
{
	bool force = r->at == (r->left ? 0 : STOP_ORDERLY_PIECES);
	u32 live = live_vms(r->at == 0 || force, force);

	if (r->at == 0 && live)
		console_printf(r->out, "stopping %u VMs\n", live);
	if (live && r->at++ < STOP_FORCED_PIECES) {
		r->more = end_machine;
		r->wait = true;
		return 0;
	}
	if (live)
		console_printf(r->out, "%u VMs did not end\n", live);
	r->request = str_eq(r->cmd->word, "reboot") ? COMMAND_REBOOT : COMMAND_POWEROFF;
	console_printf(r->out, "%s\n", r->request == COMMAND_REBOOT ? "restarting" : "powering off");
	return 0;
}

int cmd_shutdown(struct command_run *r)
{
	char word[40];

	if (r->argc > 1 && !str_eq(command_arg(r, 0), "force"))
		return command_fail(r, E_INVAL, "'%s': expected nothing or force",
				    command_word(word, sizeof(word), command_arg(r, 0), sizeof(word)));
	r->left = r->argc > 1; /* force */
	return end_machine(r);
}

int cmd_reboot(struct command_run *r)
{
	return cmd_shutdown(r);
}
