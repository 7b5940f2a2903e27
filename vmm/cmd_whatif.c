/*
 * Console command whatif: from the monitor's last sample, what reclaim would do, by the same division (mm/policy.h) and
 * the same admission as the real thing. Changes nothing.
 */
#include "lib/err.h"
#include "lib/string.h"
#include "mm/policy.h"
#include "vmm/config.h"
#include "vmm/explain.h"
#include "vmm/settings.h"

#define LOSERS_TOLD 3U
#define EXPECTED    "start NAME, or balloon|reservation NAME SIZE"

static u64 percent(u64 part, u64 all)
{
	return all ? part * 100 / all : 0;
}

/* ---- the division ---- */

/* What each may hold; [count - 1] is the VM that would start, if there is one. */
static struct {
	struct policy_vm vm[VM_MAX + 1];
	const struct monitor_vm *of[VM_MAX + 1];
	u32 entitled[VM_MAX + 1]; /* if all wanted all and used it */
	u32 taxed[VM_MAX + 1];    /* if all wanted all, idle as they are */
	u32 count;
} division;

/* The same without the change. */
static struct {
	u32 target[VM_MAX + 1], entitled[VM_MAX + 1];
} before;

static u64 there_is(void)
{
	const struct host_figures *h = &monitor_host()->now;
	u64 avail = h->memory.free, goal = h->reclaim.min_free * (u64)GOAL_PERCENT / 100;

	for (u32 i = 0; i < VM_MAX; i++)
		if (monitor_at(i) && monitor_at(i)->now.live)
			avail += monitor_at(i)->now.consumed;
	return avail - MIN(avail, goal);
}

/* As reclaim's: the greater of a division by what all could want, idle as they are, and of one by what they hold. */
static void set_targets(void)
{
	u32 tax = settings_number(NUMBER_IDLE_TAX);

	for (u32 i = 0; i < division.count; i++)
		if (division.of[i])
			division.vm[i].active = division.of[i]->now.active;
	policy_divide(division.vm, division.count, there_is(), tax);
	for (u32 i = 0; i < division.count; i++) {
		division.taxed[i] = division.vm[i].target;
		if (division.of[i])
			division.vm[i].consumed = division.of[i]->now.consumed;
	}
	policy_divide(division.vm, division.count, there_is(), tax);
	for (u32 i = 0; i < division.count; i++)
		division.vm[i].target = MAX(division.vm[i].target, division.taxed[i]);
}

/* reserving: this VM has `reservation` pages instead of its own, or NULL. more: a VM that starts, or NULL. */
static void divide(const struct monitor_vm *reserving, u32 reservation, const struct policy_vm *more)
{
	u32 n = 0, tax = settings_number(NUMBER_IDLE_TAX);

	for (u32 i = 0; i < VM_MAX; i++) {
		const struct monitor_vm *m = monitor_at(i);
		u32 reserved = m && m == reserving ? reservation : m ? m->now.reservation : 0;
		u32 cap = m ? MAX(cap_of(&m->now), reserved) : 0;

		if (!m || !m->now.live)
			continue;
		division.of[n] = m;
		division.vm[n++] = (struct policy_vm){.size = cap,
						      .reservation = reserved,
						      .limit = cap,
						      .shares = m->now.shares,
						      .consumed = cap,
						      .active = cap};
	}
	division.of[n] = NULL;
	if (more)
		division.vm[n++] = *more;
	division.count = n;
	policy_divide(division.vm, n, there_is(), tax);
	for (u32 i = 0; i < n; i++)
		division.entitled[i] = division.vm[i].target;
	set_targets();
}

static void divide_before(void)
{
	divide(NULL, 0, NULL);
	for (u32 i = 0; i < division.count; i++) {
		before.target[i] = division.vm[i].target;
		before.entitled[i] = division.entitled[i];
	}
}

static u32 entitled_to(const struct monitor_vm *m)
{
	for (u32 i = 0; i < division.count; i++)
		if (division.of[i] == m)
			return division.entitled[i];
	return 0;
}

static const char *state_at(u64 free)
{
	const struct reclaim_stats *s = &monitor_host()->now.reclaim;
	enum reclaim_state state = RECLAIM_HIGH;

	for (enum reclaim_state i = RECLAIM_CLEAR; i < RECLAIM_STATES; i++)
		if (free < s->threshold[i])
			state = i;
	return reclaim_state_name(state);
}

/* ---- how it would be taken ---- */

/* Pages that a VM's balloon can still take: none without a driver that answers, or where the operator has fixed it. */
static u32 balloon_can(const struct vm_figures *f)
{
	u32 room = MIN(f->balloon_max, f->pages - MIN(f->reservation, f->pages));

	if (!f->balloon_present || f->balloon_stalled || f->balloon_manual)
		return 0;
	return room - MIN(f->count[PAGE_BALLOONED], room);
}

/* Of `pages`, as pages have compressed so far. */
static void say_compression(struct console_out *o, u64 pages)
{
	const struct zip_stats *z = &monitor_host()->now.zip;
	u64 kept = z->in + z->poor ? pages * z->in / (z->in + z->poor) : 0;

	if (!z->percent)
		say(o, "Compression is off.");
	else if (!kept || !z->pages)
		say(o, "Nothing has been compressed so far: what compression would keep in RAM cannot be said.");
	else
		say(o,
		    "Of the pages tried so far %lu%% compressed, and take %lu%% of their size: about %s of these would "
		    "stay in RAM as %s, as far as `zip-max` lets them.",
		    percent(z->in, z->in + z->poor), percent(z->frames, z->pages), SIZE(kept),
		    SIZE(kept * z->frames / z->pages));
}

/* What the division takes from VMs that run that was not to be taken before, by which tiers. False: nothing. */
static bool say_taken(struct console_out *o, const char *when)
{
	u64 taken = 0, by_balloon = 0;

	for (u32 i = 0; i < division.count; i++) {
		const struct vm_figures *f = division.of[i] ? &division.of[i]->now : NULL;
		u32 over = f ? f->consumed - MIN(f->consumed, division.vm[i].target) : 0;
		u32 was = f ? f->consumed - MIN(f->consumed, before.target[i]) : 0;

		over -= MIN(over, was);
		taken += over;
		by_balloon += f ? MIN(over, balloon_can(f)) : 0;
	}
	if (!taken)
		return false;
	if (taken == by_balloon) {
		say(o, "%s %s would be taken from VMs that run, all of it by balloons.", when, SIZE(taken));
		return true;
	}
	say(o, "%s %s would be taken from VMs that run: %s by balloons, %s by compression and swap.", when, SIZE(taken),
	    SIZE(by_balloon), SIZE(taken - by_balloon));
	say_compression(o, taken - by_balloon);
	return true;
}

/* ---- start ---- */

/* It comes to hold all of `pages`. */
static void say_grown(struct console_out *o, const struct vm *vm, u32 pages)
{
	const struct host_figures *h = &monitor_host()->now;
	struct policy_vm more = {.size = pages,
				 .reservation = (u32)(vm->config.reservation_bytes >> PAGE_SHIFT),
				 .shares =
				     vm->config.shares ? vm->config.shares : (u32)(vm->config.memory_bytes / MIB * 10)};
	u64 left;

	more.limit = vm->config.limit_bytes ? MIN((u32)(vm->config.limit_bytes >> PAGE_SHIFT), more.size) : more.size;
	more.consumed = more.active = more.wants = more.limit;
	left = h->memory.free - MIN(h->memory.free, more.limit);
	if (left >= h->reclaim.threshold[RECLAIM_SOFT]) {
		say(o, "If it touches all of its %s, %s stay free: state %s, nothing is taken from anybody.",
		    SIZE(more.limit), SIZE(left), state_at(left));
		return;
	}
	divide_before();
	divide(NULL, 0, &more);
	say(o,
	    "It wants up to %s and %s are free, so memory becomes short: of %u VMs that all want all, it could hold "
	    "%s.",
	    SIZE(more.limit), SIZE(h->memory.free), division.count, SIZE(division.entitled[division.count - 1]));
	if (!say_taken(o, "When it uses that,"))
		say(o, "While the others hold no more than now, nothing is taken from them.");
}

static int whatif_start(struct command_run *r)
{
	struct vm *vm = command_vm(r, command_arg(r, 1));
	u32 startup, maximum;

	if (!vm)
		return E_NOENT;
	if (vm->gs_valid)
		return command_fail(r, E_BUSY, "'%s' is %s", vm->config.name, vm_state_name(vm->state));
	if (vm_would_start(vm, r->why, sizeof(r->why))) {
		say(r->out, "%s would not start: %s", vm->config.name, r->why);
		return 0;
	}
	say(r->out, "%s would start: reservation and swap suffice.", vm->config.name);
	startup = (u32)(vm->config.memory_bytes >> PAGE_SHIFT);
	maximum = (u32)(vm_memory_max(&vm->config) >> PAGE_SHIFT);
	if (maximum > startup)
		say(r->out, "With Dynamic Memory it has %s at first; its maximum of %s is promised RAM or swap.",
		    SIZE(startup), SIZE(maximum));
	say_grown(r->out, vm, startup);
	if (maximum > startup) {
		say(r->out, "If its guest comes to want the maximum:");
		say_grown(r->out, vm, maximum);
	}
	return 0;
}

/* ---- balloon ---- */

static void whatif_guest(struct console_out *o, const struct monitor_vm *m, u64 grow)
{
	const struct guest_figures *g = &m->now.guest;

	if (!m->now.speaks)
		say(o, "Its guest has told nothing of its memory: what it would cost cannot be said.");
	else if (grow <= g->free)
		say(o, "Its guest has %s free: it gives %s and notices nothing.", SIZE(g->free), SIZE(grow));
	else if (grow <= g->free + g->cached)
		say(o, "Its guest has %s free and %s of cache, of which %s would go.", SIZE(g->free), SIZE(g->cached),
		    SIZE(grow - g->free));
	else
		say(o, "Its guest has %s free and %s of cache: it would page %s to its own disk, or refuse.",
		    SIZE(g->free), SIZE(g->cached), SIZE(grow - g->free - g->cached));
}

/* As Hyper-V counts it: what the guest has committed against what it would have. */
static void say_pressure(struct console_out *o, const struct vm_figures *f, u64 balloon)
{
	u64 has = f->pages - balloon;

	if (f->demand != DYNMEM_OFF && has)
		say(o, "Dynamic Memory: its guest has committed %s, so its pressure would be %lu%% instead of %u%%.",
		    SIZE(f->committed), (u64)f->committed * 100 / has, f->pressure);
}

static int whatif_balloon(struct command_run *r)
{
	const struct monitor_vm *m = live_vm(r, command_arg(r, 1));
	const struct host_figures *h = &monitor_host()->now;
	u64 bytes, pages, now, room;
	char word[40];

	if (!m)
		return E_BUSY;
	room = MIN(m->now.balloon_max, m->now.pages - MIN(m->now.reservation, m->now.pages));
	if (parse_size(command_arg(r, 2), VM_MEMORY_MAX, &bytes))
		return command_fail(r, E_INVAL, "'%s': expected a size of 0 to 64G",
				    command_word(word, sizeof(word), command_arg(r, 2), sizeof(word)));
	pages = bytes >> PAGE_SHIFT;
	now = m->now.count[PAGE_BALLOONED];
	if (pages > room) {
		say(r->out, "Not possible: the balloon of %s holds at most %s, and nothing of its reservation of %s.",
		    m->name, SIZE(room), SIZE(m->now.reservation));
		return 0;
	}
	if (pages <= now) {
		say(r->out, "The balloon of %s would give back %s as its guest wants it; %s are free now.", m->name,
		    SIZE(now - pages), SIZE(h->memory.free));
		say_pressure(r->out, &m->now, pages);
		return 0;
	}
	say(r->out, "The balloon of %s would grow by %s, which leaves its guest %s.", m->name, SIZE(pages - now),
	    SIZE(m->now.pages - pages));
	whatif_guest(r->out, m, pages - now);
	say_pressure(r->out, &m->now, pages);
	say(r->out, "The host would have up to %s free instead of %s: state %s.", SIZE(h->memory.free + pages - now),
	    SIZE(h->memory.free), state_at(h->memory.free + pages - now));
	return 0;
}

/* ---- reservation ---- */

/* Those of the others that could hold less, largest first. */
static void say_losers(struct console_out *o, const struct monitor_vm *but)
{
	for (u32 told = 0; told < LOSERS_TOLD; told++) {
		u32 most = 0, at = 0;

		for (u32 i = 0; i < division.count; i++) {
			u32 less = before.entitled[i] - MIN(before.entitled[i], division.entitled[i]);

			if (division.of[i] == but || less <= most)
				continue;
			most = less;
			at = i;
		}
		if (!most)
			return;
		say(o, "%s could hold %s instead of %s.", division.of[at]->name, SIZE(division.entitled[at]),
		    SIZE(before.entitled[at]));
		before.entitled[at] = 0; /* told */
	}
}

/* The others keep what they hold as long as what is free fills the reservation. */
static void say_reserved(struct console_out *o, const struct monitor_vm *m, u32 reservation)
{
	const struct host_figures *h = &monitor_host()->now;
	u64 goal = h->reclaim.min_free * (u64)GOAL_PERCENT / 100;
	bool more = reservation > m->now.reservation;

	if (say_taken(o, more ? "When it uses its reservation," : "As memory is short now,"))
		return;
	if (h->memory.free >= goal)
		say(o, "Nothing would be taken for that: %s are free, of which %s are to stay free.",
		    SIZE(h->memory.free), SIZE(goal));
	else
		say(o, "Nothing would be taken for that, beyond what is to be taken now.");
}

static int whatif_reservation(struct command_run *r)
{
	const struct monitor_vm *m = live_vm(r, command_arg(r, 1));
	struct vm *vm = m ? command_vm(r, m->name) : NULL;
	char word[40];
	u32 was, will, pages;
	u64 bytes;

	if (!vm)
		return E_BUSY;
	if (config_parse_portion(command_arg(r, 2), vm->config.memory_bytes, VM_MEMORY_MAX, &bytes))
		return command_fail(r, E_INVAL, "'%s': expected a size or a percentage",
				    command_word(word, sizeof(word), command_arg(r, 2), sizeof(word)));
	if (vm_would_reserve(vm, bytes, r->why, sizeof(r->why))) {
		say(r->out, "%s could not have a reservation of %s: %s", m->name, SIZE(bytes >> PAGE_SHIFT), r->why);
		return 0;
	}
	pages = (u32)(bytes >> PAGE_SHIFT);
	if (pages == m->now.reservation) {
		say(r->out, "%s has a reservation of %s now: nothing would change.", m->name, SIZE(pages));
		return 0;
	}
	divide_before();
	was = entitled_to(m);
	divide(m, pages, NULL);
	will = entitled_to(m);
	say(r->out, "%s could have a reservation of %s instead of %s.", m->name, SIZE(pages), SIZE(m->now.reservation));
	if (will == was)
		say(r->out, "If all VMs wanted all, it could hold %s, as it is now.", SIZE(will));
	else
		say(r->out, "If all VMs wanted all, it could hold %s instead of %s.", SIZE(will), SIZE(was));
	say_losers(r->out, m);
	say_reserved(r->out, m, pages);
	return 0;
}

int cmd_whatif(struct command_run *r)
{
	const char *what = command_arg(r, 0);
	char word[40];

	if (str_eq(what, "start") && r->argc == 3)
		return whatif_start(r);
	if (str_eq(what, "balloon") && r->argc == 4)
		return whatif_balloon(r);
	if (str_eq(what, "reservation") && r->argc == 4)
		return whatif_reservation(r);
	return command_fail(r, E_INVAL, "'%s': expected " EXPECTED,
			    command_word(word, sizeof(word), what, sizeof(word)));
}
