/*
 * Console commands about what happened and what needs attention: events, alerts.
 */
#include "lib/err.h"
#include "lib/format.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "vmm/command.h"
#include "vmm/monitor.h"

#define EVENTS_DEFAULT   20U
#define EVENTS_PER_PIECE 12U
#define VMS_PER_PIECE    2U /* `alerts all`: a row for each rule */

/* "12.5s" since boot. */
#define SECONDS_BYTES 16
static const char *seconds(char buf[SECONDS_BYTES], u64 ns)
{
	format_buf(buf, SECONDS_BYTES, "%lu.%lus", ns / NSEC_PER_SEC, ns / (NSEC_PER_SEC / 10) % 10);
	return buf;
}

/* ---- events ---- */

static int events_some(struct command_run *r)
{
	char time[SECONDS_BYTES];
	struct event e;

	for (u32 i = 0; i < EVENTS_PER_PIECE; i++) {
		if (!events_read(&r->cursor, &e))
			return 0;
		console_printf(r->out, "%6lu %8s %-8s %-9s %s\n", e.seq, seconds(time, e.ns), event_level_name(e.level),
			       e.object, e.text);
	}
	r->more = events_some;
	return 0;
}

static int fail_count(struct command_run *r, const char *got)
{
	char word[40];

	return command_fail(r, E_INVAL, "'%s': expected a count of 1 to %u, or since NUMBER",
			    command_word(word, sizeof(word), got, sizeof(word)), EVENTS_KEPT);
}

int cmd_events(struct command_run *r)
{
	const char *arg = r->argc > 1 ? command_arg(r, 0) : NULL;
	u64 last = events_last(), count = EVENTS_DEFAULT;

	if (r->argc == 3) {
		if (!str_eq(arg, "since") || parse_u64(command_arg(r, 1), ~0UL - 1, &r->cursor))
			return fail_count(r, command_arg(r, str_eq(arg, "since") ? 1 : 0));
		r->cursor++;
	} else {
		if (arg && (parse_u64(arg, EVENTS_KEPT, &count) || count == 0))
			return fail_count(r, arg);
		r->cursor = last > count ? last - count + 1 : 1;
	}
	console_printf(r->out, "%6s %8s %-8s %-9s %s\n", "seq", "time", "level", "object", "event");
	return events_some(r);
}

/* ---- alerts ---- */

static void raised_row(struct console_out *o, enum alert_rule rule, const char *object, const struct alert_state *a)
{
	char time[SECONDS_BYTES];

	console_printf(o, "%-8s %-15s %-15s %9s  %s\n", event_level_name(alert_rule[rule].level), alert_rule[rule].name,
		       object, seconds(time, a->raised_ns), a->text);
}

static void full_row(struct console_out *o, enum alert_rule rule, const char *object, const struct alert_state *a)
{
	char up[SECONDS_BYTES] = "-", down[SECONDS_BYTES] = "-";

	if (a->raised_ns)
		seconds(up, a->raised_ns);
	if (a->cleared_ns)
		seconds(down, a->cleared_ns);
	console_printf(o, "%-8s %-15s %-15s %-7s %9s %9s %6u\n", event_level_name(alert_rule[rule].level),
		       alert_rule[rule].name, object, a->raised_ns ? "raised" : "no", up, down, a->times);
}

static void row(struct command_run *r, enum alert_rule rule, const char *object, const struct alert_state *a)
{
	if (r->argc > 1)
		full_row(r->out, rule, object, a);
	else if (a->raised_ns)
		raised_row(r->out, rule, object, a);
}

/* Of the VMs from slot r->at on. */
static int alerts_of_vms(struct command_run *r)
{
	for (u32 n = 0; r->at < VM_MAX && n < VMS_PER_PIECE; r->at++) {
		const struct monitor_vm *m = monitor_at(r->at);

		if (!m)
			continue;
		for (u32 i = 0; i < ALERT_VM_RULES; i++)
			row(r, i, m->name, &m->alert[i]);
		n++;
	}
	if (r->at < VM_MAX)
		r->more = alerts_of_vms;
	return 0;
}

int cmd_alerts(struct command_run *r)
{
	bool all = r->argc > 1;
	char word[40];

	if (all && !str_eq(command_arg(r, 0), "all"))
		return command_fail(r, E_INVAL, "'%s': expected nothing or all",
				    command_word(word, sizeof(word), command_arg(r, 0), sizeof(word)));
	if (!all && !alerts_raised()) {
		console_printf(r->out, "no alerts\n");
		return 0;
	}
	if (all)
		console_printf(r->out, "%-8s %-15s %-15s %-7s %9s %9s %6s\n", "level", "alert", "object", "now",
			       "raised", "cleared", "times");
	else
		console_printf(r->out, "%-8s %-15s %-15s %9s  %s\n", "level", "alert", "object", "raised", "cause");
	for (u32 i = ALERT_VM_RULES; i < ALERT_RULES; i++)
		row(r, i, "host", alerts_host(i));
	return alerts_of_vms(r);
}
