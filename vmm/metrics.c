/*
 * Families of metrics. See metrics.h.
 *
 * A family is one value of the host, of each VM or of each block device, or several told apart by a label. Values are
 * u64 in the monitor's units; what is printed follows from the unit.
 */
#include "vmm/metrics.h"

#include "lib/format.h"
#include "lib/string.h"
#include "mm/blk.h"
#include "vmm/events.h"
#include "vmm/monitor.h"
#include "vmm/vcpu.h"

#define LINES_PER_PIECE 16U /* and those of one object more, of about 100 bytes */
#define NONE            (~0UL)

enum unit { COUNT, PAGES, NS, PERMILLE, HUNDREDTHS };
enum of { OF_HOST, OF_VM, OF_DEVICE };

struct family {
	const char *name, *help;
	enum of of;
	bool counter;
	enum unit unit;
	/* The object is none, a struct monitor_vm or a struct blk_dev; i tells apart values of one. NONE: there is no such. */
	u64 (*value)(const void *object, u32 i);
	const char *label;         /* name of the label that tells values apart, or NULL */
	const char *(*part)(u32 i); /* its value; NULL past the last */
};

/* ---- values ---- */

#define HOST(name, expression)                                          \
	static u64 host_##name(const void *object, u32 i)               \
	{                                                               \
		const struct monitor_host *m = monitor_host();          \
		const struct host_figures *f = &m->now;                 \
                                                                        \
		(void)object;                                           \
		(void)i;                                                \
		(void)f;                                                \
		return (expression);                                    \
	}
#define VM(name, expression)                                            \
	static u64 vm_##name(const void *object, u32 i)                 \
	{                                                               \
		const struct monitor_vm *m = object;                    \
		const struct vm_figures *f = &m->now;                   \
                                                                        \
		(void)i;                                                \
		return f->live ? (expression) : NONE;                   \
	}
#define DISK(name, expression)                                          \
	static u64 disk_##name(const void *object, u32 i)               \
	{                                                               \
		const struct blk_dev *d = object;                       \
                                                                        \
		(void)i;                                                \
		return (expression);                                    \
	}

static const char *page_part(u32 i)
{
	return i < PAGE_STATES ? page_state_name(i) : NULL;
}

static const char *use_part(u32 i)
{
	static const char *const name[] = {"hypervisor", "guest", "free"};

	return i < ARRAY_SIZE(name) ? name[i] : NULL;
}

static const char *state_part(u32 i)
{
	return i < RECLAIM_STATES ? reclaim_state_name(i) : NULL;
}

static const char *error_part(u32 i)
{
	static const char *const name[] = {"write", "read", "checksum"};

	return i < ARRAY_SIZE(name) ? name[i] : NULL;
}

static const char *exit_part(u32 i)
{
	return i < HV_EXIT_KINDS ? exit_kind_name(i) : NULL;
}

static const char *vm_alert_part(u32 i)
{
	return i < ALERT_VM_RULES ? alert_rule[i].name : NULL;
}

static const char *host_alert_part(u32 i)
{
	return i + ALERT_VM_RULES < ALERT_RULES ? alert_rule[i + ALERT_VM_RULES].name : NULL;
}

HOST(uptime, f->ns)
HOST(memory_size, f->memory.total)
HOST(memory, i == 0 ? f->memory.hypervisor : i == 1 ? f->memory.guest : f->memory.free)
HOST(min_free, f->reclaim.min_free)
HOST(state, f->reclaim.state)
HOST(transitions, f->reclaim.transitions[i])
HOST(overcommit, figures_overcommit(f))
HOST(pages, f->page[i])
HOST(saved, figures_saved(f))
HOST(swap_size, f->swap.slots)
HOST(swap_used, f->swap.used)
HOST(swap_reserved, f->swap.reserved)
HOST(swap_out, f->swap.out)
HOST(swap_in, f->swap.in)
HOST(swap_errors, i == 0 ? f->swap.write_errors : i == 1 ? f->swap.read_errors : f->swap.checksum_errors)
HOST(zip_pool, f->zip.frames)
HOST(zip_in, f->zip.in)
HOST(zip_out, f->zip.out)
HOST(scanned, f->share.scanned)
HOST(vms, f->vms)
HOST(running, f->running)
HOST(alerts, alerts_host(i + ALERT_VM_RULES)->raised_ns != 0)
HOST(events, m->samples ? events_last() : 0)

VM(size, f->pages)
VM(pages, f->count[i])
VM(consumed, f->consumed)
VM(target, f->target)
VM(reservation, f->reservation)
VM(limit, f->limit)
VM(shares, f->shares)
VM(active, f->active)
VM(committed, f->demand != DYNMEM_OFF ? f->committed : NONE)
VM(wanted, f->demand != DYNMEM_OFF ? f->wanted : NONE)
VM(pressure, f->demand != DYNMEM_OFF ? f->pressure : NONE)
VM(balloon, f->count[PAGE_BALLOONED])
VM(balloon_target, f->balloon_target)
VM(balloon_max, f->balloon_max)
VM(stalled, f->balloon_stalled)
VM(zip_pool, f->zip_frames)
VM(zip_max, f->zip_max)
VM(zip_in, f->stats.zip_in)
VM(zip_out, f->stats.zip_out)
VM(faults, f->stats.faults)
VM(cow_breaks, f->stats.cow_breaks)
VM(swap_out, f->stats.swap_out)
VM(swap_in, f->stats.swap_in)
VM(clean_out, f->stats.clean_out)
VM(clean_in, f->stats.clean_in)
VM(not_read, f->stats.not_read)
VM(run, f->run_ns)
VM(wait, f->wait_ns)
VM(exits, f->exits[i])
VM(disk_reads, f->has_disk ? f->disk.reads : NONE)
VM(disk_writes, f->has_disk ? f->disk.writes : NONE)
VM(disk_read_pages, f->has_disk ? f->disk.read_pages : NONE)
VM(disk_write_pages, f->has_disk ? f->disk.write_pages : NONE)
VM(disk_time, f->has_disk ? f->disk.latency_ns : NONE)
VM(operations, f->speaks ? f->guest.operations : NONE)
VM(latency, f->speaks ? f->guest.latency_ns : NONE)
VM(hit_ratio, f->speaks ? f->guest.hit_permille : NONE)
VM(errors, f->speaks ? f->guest.errors : NONE)
VM(refaults, f->speaks ? f->guest.refaults : NONE)
VM(guest_free, f->speaks ? f->guest.free : NONE)
VM(guest_cached, f->speaks ? f->guest.cached : NONE)
VM(alerts, m->alert[i].raised_ns != 0)

static u64 vm_up(const void *object, u32 i)
{
	(void)i;
	return ((const struct monitor_vm *)object)->now.state == VM_RUNNING;
}

DISK(reads, d->stats.reads)
DISK(writes, d->stats.writes)
DISK(read_pages, d->stats.read_pages)
DISK(write_pages, d->stats.write_pages)
DISK(time, d->stats.read_ns + d->stats.write_ns)
DISK(errors, d->stats.errors + d->stats.timeouts)
DISK(gone, d->gone)

/* ---- families ---- */

#define GAUGE(name, unit, of, fn, help) {"aerostat_" name, help, of, false, unit, fn, NULL, NULL}
#define COUNTER(name, unit, of, fn, help) {"aerostat_" name "_total", help, of, true, unit, fn, NULL, NULL}
#define GAUGES(name, unit, of, fn, label, part, help) {"aerostat_" name, help, of, false, unit, fn, label, part}
#define COUNTERS(name, unit, of, fn, label, part, help) {"aerostat_" name "_total", help, of, true, unit, fn, label, part}

static const struct family family[] = {
    GAUGE("uptime_seconds", NS, OF_HOST, host_uptime, "Time since the hypervisor started."),
    GAUGE("memory_size_bytes", PAGES, OF_HOST, host_memory_size, "RAM of the machine."),
    GAUGES("memory_bytes", PAGES, OF_HOST, host_memory, "use", use_part, "RAM by what it is used for."),
    GAUGE("memory_min_free_bytes", PAGES, OF_HOST, host_min_free, "Free memory that reclaim aims to keep."),
    GAUGE("memory_state", COUNT, OF_HOST, host_state, "Memory state: 0 high, 1 clear, 2 soft, 3 hard, 4 low."),
    COUNTERS("memory_state_entries", COUNT, OF_HOST, host_transitions, "state", state_part,
	     "How often a memory state was entered."),
    GAUGE("overcommit_ratio", HUNDREDTHS, OF_HOST, host_overcommit, "Memory of all VMs against what there is for them."),
    GAUGES("pages_bytes", PAGES, OF_HOST, host_pages, "state", page_part, "Memory of all VMs by the state of its pages."),
    GAUGE("sharing_saved_bytes", PAGES, OF_HOST, host_saved, "Memory saved by sharing equal pages."),
    COUNTER("sharing_scanned_pages", COUNT, OF_HOST, host_scanned, "Pages the scan for equal pages has looked at."),
    GAUGE("zip_pool_bytes", PAGES, OF_HOST, host_zip_pool, "RAM that compressed pages take."),
    COUNTER("zip_stored_pages", COUNT, OF_HOST, host_zip_in, "Pages compressed."),
    COUNTER("zip_expanded_pages", COUNT, OF_HOST, host_zip_out, "Pages expanded again."),
    GAUGE("swap_size_bytes", PAGES, OF_HOST, host_swap_size, "Swap space."),
    GAUGE("swap_used_bytes", PAGES, OF_HOST, host_swap_used, "Swap space in use."),
    GAUGE("swap_reserved_bytes", PAGES, OF_HOST, host_swap_reserved, "Swap space promised at admission."),
    COUNTER("swap_out_pages", COUNT, OF_HOST, host_swap_out, "Pages written to swap."),
    COUNTER("swap_in_pages", COUNT, OF_HOST, host_swap_in, "Pages read from swap."),
    COUNTERS("swap_errors", COUNT, OF_HOST, host_swap_errors, "kind", error_part, "Errors of swap."),
    GAUGE("vms", COUNT, OF_HOST, host_vms, "Virtual machines that are configured."),
    GAUGE("vms_running", COUNT, OF_HOST, host_running, "Virtual machines that run."),
    GAUGES("alert_raised", COUNT, OF_HOST, host_alerts, "alert", host_alert_part, "1 while an alert of the host is raised."),
    COUNTER("events", COUNT, OF_HOST, host_events, "Events since the start."),

    COUNTER("disk_reads", COUNT, OF_DEVICE, disk_reads, "Reads a block device has completed."),
    COUNTER("disk_writes", COUNT, OF_DEVICE, disk_writes, "Writes a block device has completed."),
    COUNTER("disk_read_bytes", PAGES, OF_DEVICE, disk_read_pages, "Bytes read from a block device."),
    COUNTER("disk_written_bytes", PAGES, OF_DEVICE, disk_write_pages, "Bytes written to a block device."),
    COUNTER("disk_time_seconds", NS, OF_DEVICE, disk_time, "Summed latency of a block device's transfers."),
    COUNTER("disk_errors", COUNT, OF_DEVICE, disk_errors, "Errors and time-outs of a block device."),
    GAUGE("disk_gone", COUNT, OF_DEVICE, disk_gone, "1 if a block device is unusable for good."),

    GAUGE("vm_up", COUNT, OF_VM, vm_up, "1 while a VM runs."),
    GAUGE("vm_memory_size_bytes", PAGES, OF_VM, vm_size, "Memory that a VM sees."),
    GAUGES("vm_pages_bytes", PAGES, OF_VM, vm_pages, "state", page_part, "Memory of a VM by the state of its pages."),
    GAUGE("vm_memory_consumed_bytes", PAGES, OF_VM, vm_consumed, "RAM that a VM is charged for."),
    GAUGE("vm_memory_target_bytes", PAGES, OF_VM, vm_target, "RAM that policy lets a VM hold."),
    GAUGE("vm_memory_reservation_bytes", PAGES, OF_VM, vm_reservation, "RAM that is never taken from a VM."),
    GAUGE("vm_memory_limit_bytes", PAGES, OF_VM, vm_limit, "RAM that a VM never gets more of."),
    GAUGE("vm_memory_shares", COUNT, OF_VM, vm_shares, "Weight of a VM when memory is short."),
    GAUGE("vm_memory_active_bytes", PAGES, OF_VM, vm_active, "Memory of a VM in use, by the samples of its working set."),
    GAUGE("vm_memory_committed_bytes", PAGES, OF_VM, vm_committed, "Dynamic Memory: what the guest has committed, as it tells."),
    GAUGE("vm_memory_wanted_bytes", PAGES, OF_VM, vm_wanted, "Dynamic Memory: what a VM wants, with its buffer and between its bounds."),
    GAUGE("vm_memory_pressure_ratio", HUNDREDTHS, OF_VM, vm_pressure, "Dynamic Memory: committed memory against what a VM has."),
    GAUGE("vm_balloon_bytes", PAGES, OF_VM, vm_balloon, "Memory held by a VM's balloon."),
    GAUGE("vm_balloon_target_bytes", PAGES, OF_VM, vm_balloon_target, "Memory a VM's balloon should hold."),
    GAUGE("vm_balloon_max_bytes", PAGES, OF_VM, vm_balloon_max, "Most that a VM's balloon may hold."),
    GAUGE("vm_balloon_stalled", COUNT, OF_VM, vm_stalled, "1 while a balloon driver does not answer."),
    GAUGE("vm_zip_pool_bytes", PAGES, OF_VM, vm_zip_pool, "RAM that a VM's compressed pages take."),
    GAUGE("vm_zip_pool_max_bytes", PAGES, OF_VM, vm_zip_max, "Most that a VM's compressed pages may take."),
    COUNTER("vm_zip_stored_pages", COUNT, OF_VM, vm_zip_in, "Pages of a VM compressed."),
    COUNTER("vm_zip_expanded_pages", COUNT, OF_VM, vm_zip_out, "Pages of a VM expanded again."),
    COUNTER("vm_faults", COUNT, OF_VM, vm_faults, "Touches of pages that were not mapped."),
    COUNTER("vm_cow_breaks", COUNT, OF_VM, vm_cow_breaks, "Writes to shared pages."),
    COUNTER("vm_swap_out_pages", COUNT, OF_VM, vm_swap_out, "Pages of a VM written to swap."),
    COUNTER("vm_swap_in_pages", COUNT, OF_VM, vm_swap_in, "Pages of a VM read from swap."),
    COUNTER("vm_clean_dropped_pages", COUNT, OF_VM, vm_clean_out, "Pages of a VM dropped because its disk has them."),
    COUNTER("vm_clean_read_pages", COUNT, OF_VM, vm_clean_in, "Pages of a VM that came back from its disk."),
    COUNTER("vm_not_read_pages", COUNT, OF_VM, vm_not_read, "Pages of a VM not brought back, as all of them was to be written."),
    COUNTER("vm_cpu_seconds", NS, OF_VM, vm_run, "Time a VM's processors ran."),
    COUNTER("vm_memory_wait_seconds", NS, OF_VM, vm_wait, "Time a VM's processors waited for memory."),
    COUNTERS("vm_exits", COUNT, OF_VM, vm_exits, "reason", exit_part, "Exits to the hypervisor."),
    COUNTER("vm_disk_reads", COUNT, OF_VM, vm_disk_reads, "Reads that a VM's disk has answered."),
    COUNTER("vm_disk_writes", COUNT, OF_VM, vm_disk_writes, "Writes that a VM's disk has answered."),
    COUNTER("vm_disk_read_bytes", PAGES, OF_VM, vm_disk_read_pages, "Bytes read from a VM's disk."),
    COUNTER("vm_disk_written_bytes", PAGES, OF_VM, vm_disk_write_pages, "Bytes written to a VM's disk."),
    COUNTER("vm_disk_time_seconds", NS, OF_VM, vm_disk_time, "Summed latency of a VM's disk."),
    COUNTER("vm_guest_operations", COUNT, OF_VM, vm_operations, "Operations of the workload, as it tells."),
    GAUGE("vm_guest_latency_seconds", NS, OF_VM, vm_latency, "Mean latency of the workload's operations, as it tells."),
    GAUGE("vm_guest_hit_ratio", PERMILLE, OF_VM, vm_hit_ratio, "Hit rate of the workload's cache, as it tells."),
    COUNTER("vm_guest_errors", COUNT, OF_VM, vm_errors, "Wrong bytes the workload has seen, as it tells."),
    COUNTER("vm_guest_refaults", COUNT, OF_VM, vm_refaults, "Pages the guest read back that it would hold if its balloon were empty."),
    GAUGE("vm_guest_free_bytes", PAGES, OF_VM, vm_guest_free, "Free memory of the guest, as it tells."),
    GAUGE("vm_guest_cached_bytes", PAGES, OF_VM, vm_guest_cached, "Cache of the guest, as it tells."),
    GAUGES("vm_alert_raised", COUNT, OF_VM, vm_alerts, "alert", vm_alert_part, "1 while an alert of a VM is raised."),
};

/* ---- text ---- */

static void print_value(struct console_out *o, enum unit unit, u64 v)
{
	switch (unit) {
	case PAGES:
		console_printf(o, " %lu\n", v << PAGE_SHIFT);
		break;
	case NS:
		console_printf(o, " %lu.%09lu\n", v / NSEC_PER_SEC, v % NSEC_PER_SEC);
		break;
	case PERMILLE:
		console_printf(o, " %lu.%03lu\n", v / 1000, v % 1000);
		break;
	case HUNDREDTHS:
		console_printf(o, " %lu.%02lu\n", v / 100, v % 100);
		break;
	default:
		console_printf(o, " %lu\n", v);
	}
}

/* The labels {vm="a",state="zero"}: names are of our own making, or those of VMs, which need no escapes. */
static void print_sample(struct console_out *o, const struct family *f, const char *object, const char *part, u64 v)
{
	console_printf(o, "%s%s", f->name, f->of != OF_HOST || part ? "{" : "");
	if (f->of != OF_HOST)
		console_printf(o, "%s=\"%s\"%s", f->of == OF_VM ? "vm" : "device", object, part ? "," : "");
	if (part)
		console_printf(o, "%s=\"%s\"", f->label, part);
	console_printf(o, "%s", f->of != OF_HOST || part ? "}" : "");
	print_value(o, f->unit, v);
}

static u32 print_object(struct console_out *o, const struct family *f, const void *object, const char *name)
{
	u32 lines = 0;

	for (u32 i = 0; i == 0 || f->part; i++) {
		const char *part = f->part ? f->part(i) : NULL;
		u64 v;

		if (f->part && !part)
			break;
		v = f->value(object, i);
		if (v == NONE)
			continue;
		print_sample(o, f, name, part, v);
		lines++;
	}
	return lines;
}

static const struct blk_dev *device_at(u32 i)
{
	struct blk_dev *d = blk_next(NULL);

	while (d && i--)
		d = blk_next(d);
	return d;
}

/* Prints object number `object` of the family; false past the last. */
static bool print_one(struct console_out *o, const struct family *f, u32 object, u32 *lines)
{
	if (f->of == OF_VM) {
		const struct monitor_vm *m = object < VM_MAX ? monitor_at(object) : NULL;

		*lines += m ? print_object(o, f, m, m->name) : 0;
		return object < VM_MAX;
	}
	if (f->of == OF_DEVICE) {
		const struct blk_dev *d = device_at(object);

		*lines += d ? print_object(o, f, d, d->name) : 0;
		return d != NULL;
	}
	*lines += object ? 0 : print_object(o, f, NULL, NULL);
	return object == 0;
}

bool metrics_piece(struct metrics *m, struct console_out *o)
{
	u32 lines = 0;

	while (lines < LINES_PER_PIECE) {
		const struct family *f = &family[m->family];

		if (m->family == ARRAY_SIZE(family)) {
			console_printf(o, "# EOF\n");
			return false;
		}
		if (!m->headed) {
			console_printf(o, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name,
				       f->counter ? "counter" : "gauge");
			m->headed = true;
			lines += 2;
		}
		if (print_one(o, f, m->object, &lines)) {
			m->object++;
			continue;
		}
		m->family++;
		m->object = 0;
		m->headed = false;
	}
	return true;
}
