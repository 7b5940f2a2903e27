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
	/*
	 * The object is none, a struct monitor_vm or a struct blk_dev; i tells apart values of one. NONE: there is no
	 * such.
	 */
	u64 (*value)(const void *object, u32 i);
	const char *label;          /* name of the label that tells values apart, or NULL */
	const char *(*part)(u32 i); /* its value; NULL past the last */
};

/* ---- parts --------------------------------------------------------------- */

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

/* ---- values -------------------------------------------------------------- */

/* Values that are there only in some VMs. */
#define TOLD(value)                              (f->speaks ? (value) : NONE)
#define DYNAMIC(value)                           (f->demand != DYNMEM_OFF ? (value) : NONE)
#define OF_DISK(value)                           (f->has_disk ? (value) : NONE)

#define HOST(type, name, unit, value, help)      HOST_BY(type, name, unit, value, NULL, NULL, help)
#define VM(type, name, unit, value, help)        VM_BY(type, name, unit, value, NULL, NULL, help)
#define VM_ALWAYS(type, name, unit, value, help) VM_ANY(type, name, unit, value, NULL, NULL, help)
#define VM_BY(type, name, unit, value, label, part, help) \
	VM_ANY(type, name, unit, f->live ? (value) : NONE, label, part, help)
#define HOST_BY(type, name, unit, value, label, part, help)    \
	static u64 host_##name(const void *object, u32 i)      \
	{                                                      \
		const struct monitor_host *m = monitor_host(); \
		const struct host_figures *f = &m->now;        \
                                                               \
		(void)object;                                  \
		(void)i;                                       \
		(void)f;                                       \
		return (value);                                \
	}
#define VM_ANY(type, name, unit, value, label, part, help) \
	static u64 vm_##name(const void *object, u32 i)    \
	{                                                  \
		const struct monitor_vm *m = object;       \
		const struct vm_figures *f = &m->now;      \
                                                           \
		(void)i;                                   \
		return (value);                            \
	}
#define DISK(type, name, unit, value, help)               \
	static u64 disk_##name(const void *object, u32 i) \
	{                                                 \
		const struct blk_dev *d = object;         \
                                                          \
		(void)i;                                  \
		return (value);                           \
	}
#include "vmm/metrics.inc"
#undef HOST_BY
#undef VM_ANY
#undef DISK

/* ---- families ------------------------------------------------------------ */

#define NAME_gauge(name)   "aerostat_" name
#define NAME_counter(name) "aerostat_" name "_total"
#define IS_COUNTER_gauge   false
#define IS_COUNTER_counter true
#define FAMILY(type, name, unit, of, function, label, part, help) \
	{NAME_##type(name), help, of, IS_COUNTER_##type, unit, function, label, part},

#define HOST_BY(type, name, unit, value, label, part, help) \
	FAMILY(type, #name, unit, OF_HOST, host_##name, label, part, help)
#define VM_ANY(type, name, unit, value, label, part, help) \
	FAMILY(type, "vm_" #name, unit, OF_VM, vm_##name, label, part, help)
#define DISK(type, name, unit, value, help) FAMILY(type, "disk_" #name, unit, OF_DEVICE, disk_##name, NULL, NULL, help)

static const struct family family[] = {
#include "vmm/metrics.inc"
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
