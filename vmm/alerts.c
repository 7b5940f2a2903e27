/* The rules of alerts, and raising and clearing. See alerts.h. */
#include "vmm/alerts.h"

#include "lib/format.h"
#include "lib/log.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "vmm/monitor.h"
#include "vmm/settings.h"

#define REFAULT_HOLD_SEC  3U
#define PRESSURE_HOLD_SEC 5U
#define STARVED_NS        (5 * NSEC_PER_SEC)

const struct alert_rule_info alert_rule[ALERT_RULES] = {
    [ALERT_BALLOON] = {"balloon", "memory is short: its balloon stays inflated", EVENT_WARNING},
    [ALERT_STALLED] = {"balloon-stalled", "its balloon driver does not answer", EVENT_WARNING},
    [ALERT_REFAULT] = {"refault", "it needs again what was taken from it", EVENT_WARNING},
    [ALERT_PRESSURE] = {"pressure", "its guest has committed more memory than it has", EVENT_WARNING},
    [ALERT_ZIP_FULL] = {"zip-full", "no room for compressed pages: more goes to swap", EVENT_WARNING},
    [ALERT_STARVED] = {"starved", "it waits for a page and gets none", EVENT_CRITICAL},
    [ALERT_NO_MEMORY] = {"no-memory", "VMs stand still for want of memory", EVENT_CRITICAL},
    [ALERT_SWAPPING] = {"swapping", "guests wait for the swap disk", EVENT_CRITICAL},
    [ALERT_SWAP_FULL] = {"swap-full", "swap is nearly full", EVENT_CRITICAL},
    [ALERT_CASCADE] = {"disk-cascade", "guests page at once and make the disk slow", EVENT_CRITICAL},
    [ALERT_DEVICE] = {"device", "errors of disks or of swap", EVENT_CRITICAL},
};

static struct alert_state host_state[ALERT_RULES];
static u32 raised;
static struct log_limit limit;

static u64 to_bytes(u64 pages)
{
	return pages << PAGE_SHIFT;
}

/* ---- causes: true if it is one now, with the figures in text ---- */

/* A balloon that the operator has fixed says nothing about memory, nor does that of a VM that has what it wants. */
static bool balloon_cause(const struct monitor_vm *m, char *text, size_t size)
{
	const struct vm_figures *f = &m->now;
	char is[FORMAT_SIZE_BYTES], of[FORMAT_SIZE_BYTES];

	format_buf(text, size, "%s of %s", format_size(is, to_bytes(f->count[PAGE_BALLOONED])),
		   format_size(of, to_bytes(f->pages)));
	return f->live && !f->balloon_manual && f->demand != DYNMEM_OK &&
	       (u64)f->count[PAGE_BALLOONED] * 100 >= (u64)f->pages * settings_number(NUMBER_ALERT_BALLOON);
}

/* Of a VM that is ending nobody wants its balloon any more; it only goes with its other pages. */
static bool stalled_cause(const struct monitor_vm *m, char *text, size_t size)
{
	char is[FORMAT_SIZE_BYTES], of[FORMAT_SIZE_BYTES];

	format_buf(text, size, "%s of %s wanted", format_size(is, to_bytes(m->now.count[PAGE_BALLOONED])),
		   format_size(of, to_bytes(m->now.balloon_target)));
	return m->now.live && m->now.state != VM_STOPPING && m->now.balloon_stalled;
}

static bool refault_cause(const struct monitor_vm *m, char *text, size_t size)
{
	format_buf(text, size, "%u pages a second", m->rate.refaults);
	return m->now.live && m->rate.refaults >= settings_number(NUMBER_ALERT_REFAULT);
}

static bool pressure_cause(const struct monitor_vm *m, char *text, size_t size)
{
	char has[FORMAT_SIZE_BYTES];

	format_buf(text, size, "%u%% with %s", m->now.pressure, format_size(has, to_bytes(m->now.has)));
	return m->now.live && m->now.demand == DYNMEM_WARNING;
}

static bool zip_full_cause(const struct monitor_vm *m, char *text, size_t size)
{
	char is[FORMAT_SIZE_BYTES], of[FORMAT_SIZE_BYTES];
	const struct vm_figures *f = &m->now;

	format_buf(text, size, "%s of %s", format_size(is, to_bytes(f->zip_frames)),
		   format_size(of, to_bytes(f->zip_max)));
	return f->live && f->zip_max &&
	       (u64)f->zip_frames * 100 >= (u64)f->zip_max * settings_number(NUMBER_ALERT_ZIP_FULL);
}

static bool is_starved(const struct monitor_vm *m)
{
	return m->now.live && m->now.state == VM_RUNNING && m->now.starved_ns >= STARVED_NS;
}

static bool starved_cause(const struct monitor_vm *m, char *text, size_t size)
{
	format_buf(text, size, "%s, %lus", figures_lack(&m->now, &monitor_host()->now),
		   m->now.starved_ns / NSEC_PER_SEC);
	return is_starved(m);
}

/*
 * Who is kept from more by its own limit does not count, nor who has not stood still for that long without it, nor who
 * has a frame and waits for the disk.
 */
static bool lacks_memory(const struct monitor_vm *m)
{
	return is_starved(m) && m->now.ns - m->limited_ns >= STARVED_NS && !m->now.count[PAGE_SWAPPING_IN];
}

static bool no_memory_cause(char *text, size_t size)
{
	const struct host_figures *h = &monitor_host()->now;
	const struct monitor_vm *longest = NULL;
	u32 vms = 0;

	for (u32 i = 0; i < VM_MAX; i++) {
		const struct monitor_vm *m = monitor_at(i);

		if (!m || !lacks_memory(m))
			continue;
		vms++;
		if (!longest || m->now.starved_ns > longest->now.starved_ns)
			longest = m;
	}
	if (!longest)
		return false;
	format_buf(text, size, "%s: %u VMs, %s %lus", figures_lack(&longest->now, h), vms, longest->name,
		   longest->now.starved_ns / NSEC_PER_SEC);
	return true;
}

/* Means: a page now and then is no swapping, and a burst is told as long as it hurts, not again and again. */
static bool swapping_cause(char *text, size_t size)
{
	const struct host_rates *r = &monitor_host()->rate;
	u64 both = (u64)r->swap_out_mean + r->swap_in_mean;

	format_buf(text, size, "out %u/s, in %u/s", DIV_ROUND_UP(r->swap_out_mean, 100),
		   DIV_ROUND_UP(r->swap_in_mean, 100));
	return both >= 100 && both > settings_number(NUMBER_ALERT_SWAP) * 100UL;
}

static bool swap_full_cause(char *text, size_t size)
{
	const struct swap_stats *s = &monitor_host()->now.swap;
	char is[FORMAT_SIZE_BYTES], of[FORMAT_SIZE_BYTES];

	format_buf(text, size, "%s of %s", format_size(is, to_bytes(s->used)), format_size(of, to_bytes(s->slots)));
	return s->slots && s->used * 100 >= s->slots * settings_number(NUMBER_ALERT_SWAP_FULL);
}

static bool cascade_cause(char *text, size_t size)
{
	const struct host_rates *r = &monitor_host()->rate;

	format_buf(text, size, "%u.%ums, %u VMs page", r->disk_us / 1000, r->disk_us / 100 % 10, r->paging_vms);
	return r->disk_us > settings_number(NUMBER_ALERT_DISK_LATENCY) * 1000U &&
	       r->paging_vms >= settings_number(NUMBER_ALERT_CASCADE_VMS);
}

static bool device_cause(char *text, size_t size)
{
	const struct monitor_host *h = monitor_host();
	const struct disk_figures *d = &h->now.disk;
	bool failed = h->now.swap.state == SWAP_FAILED;

	if (d->gone > 1)
		format_buf(text, size, "%u devices gone%s", d->gone, failed ? ", swap failed" : "");
	else if (d->gone)
		format_buf(text, size, "%s gone%s", d->gone_name, failed ? ", swap failed" : "");
	else
		format_buf(text, size, "%u errors, %u resets%s", h->rate.errors, h->rate.resets,
			   failed ? ", swap failed" : "");
	return h->rate.errors || h->rate.resets || d->gone || failed;
}

/* ---- raising and clearing ---- */

static void tell(const struct alert_rule_info *i, const char *object, const char *what, const char *text)
{
	events_add(i->level, object, "%s %s: %s", i->name, what, text);
	log_guest(&limit, "alert", "%s: %s: %s %s: %s", event_level_name(i->level), object, i->name, what, text);
}

static void raise_alert(struct alert_state *a, const struct alert_rule_info *i, const char *object, const char *text)
{
	a->raised_ns = platform_now_ns();
	a->times++;
	raised++;
	str_copy(a->text, text, sizeof(a->text));
	tell(i, object, "raised", text);
}

static void clear_alert(struct alert_state *a, const struct alert_rule_info *i, const char *object)
{
	char text[EVENT_TEXT];

	a->cleared_ns = platform_now_ns();
	format_buf(text, sizeof(text), "after %lus", (a->cleared_ns - a->raised_ns) / NSEC_PER_SEC);
	a->raised_ns = 0;
	raised--;
	tell(i, object, "cleared", text);
}

static void look(struct alert_state *a, enum alert_rule rule, const char *object, bool cause, u32 hold_sec,
		 const char *text)
{
	const struct alert_rule_info *i = &alert_rule[rule];
	u64 now = platform_now_ns();

	if (!cause) {
		a->since_ns = 0;
		if (a->raised_ns && now - a->last_ns >= settings_number(NUMBER_ALERT_CLEAR) * NSEC_PER_SEC)
			clear_alert(a, i, object);
		return;
	}
	a->last_ns = now;
	if (a->raised_ns)
		str_copy(a->text, text, sizeof(a->text));
	if (!a->since_ns)
		a->since_ns = now;
	if (!a->raised_ns && now - a->since_ns >= hold_sec * NSEC_PER_SEC)
		raise_alert(a, i, object, text);
}

void alerts_look_vm(struct monitor_vm *m)
{
	static bool (*const cause[ALERT_VM_RULES])(const struct monitor_vm *m, char *text, size_t size) = {
	    [ALERT_BALLOON] = balloon_cause,   [ALERT_STALLED] = stalled_cause,   [ALERT_REFAULT] = refault_cause,
	    [ALERT_PRESSURE] = pressure_cause, [ALERT_ZIP_FULL] = zip_full_cause, [ALERT_STARVED] = starved_cause};
	const u32 hold[ALERT_VM_RULES] = {[ALERT_BALLOON] = settings_number(NUMBER_ALERT_BALLOON_TIME),
					  [ALERT_REFAULT] = REFAULT_HOLD_SEC,
					  [ALERT_PRESSURE] = PRESSURE_HOLD_SEC};
	char text[EVENT_TEXT];

	for (u32 i = 0; i < ALERT_VM_RULES; i++) {
		bool is = cause[i](m, text, sizeof(text));

		look(&m->alert[i], i, m->name, is, hold[i], text);
	}
}

void alerts_forget_vm(struct monitor_vm *m)
{
	for (u32 i = 0; i < ALERT_VM_RULES; i++)
		if (m->alert[i].raised_ns)
			clear_alert(&m->alert[i], &alert_rule[i], m->name);
}

void alerts_look_host(void)
{
	static bool (*const cause[ALERT_RULES])(char *text, size_t size) = {[ALERT_NO_MEMORY] = no_memory_cause,
									    [ALERT_SWAPPING] = swapping_cause,
									    [ALERT_SWAP_FULL] = swap_full_cause,
									    [ALERT_CASCADE] = cascade_cause,
									    [ALERT_DEVICE] = device_cause};
	char text[EVENT_TEXT];

	for (u32 i = ALERT_VM_RULES; i < ALERT_RULES; i++) {
		bool is = cause[i](text, sizeof(text));

		look(&host_state[i], i, "host", is, 0, text);
	}
}

const struct alert_state *alerts_host(enum alert_rule rule)
{
	return &host_state[rule];
}

u32 alerts_raised(void)
{
	return raised;
}
