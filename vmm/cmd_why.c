/*
 * Console commands that explain: why, whatif, forecast, ledger.
 *
 * `why` and `forecast` speak of the monitor's last sample. `whatif` computes from it what reclaim would do, by the same
 * division (mm/policy.h) and the same admission as the real thing, and changes nothing.
 */
#include "lib/err.h"
#include "lib/format.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/policy.h"
#include "vmm/command.h"
#include "vmm/monitor.h"
#include "vmm/pairs.h"
#include "vmm/settings.h"

#define SAY_COLUMNS      79U
#define SAY_BYTES        400
#define ENTRIES_PER_PIECE 24U
#define GOAL_PERCENT     112U /* of minFree: what reclaim's targets leave free */

#define SIZE(pages) format_size((char[FORMAT_SIZE_BYTES]){0}, (u64)(pages) << PAGE_SHIFT)

/* ---- saying ---- */

/* A paragraph in lines of at most 79 characters, broken at blanks. */
static void say(struct console_out *o, const char *fmt, ...) printf_like(2, 3);
static void say(struct console_out *o, const char *fmt, ...)
{
	char text[SAY_BYTES], *line = text;
	u32 indent = 0;
	va_list ap;

	va_start(ap, fmt);
	format_vbuf(text, sizeof(text), fmt, ap);
	va_end(ap);
	while (strlen(line) + indent > SAY_COLUMNS) {
		char *cut = line + SAY_COLUMNS - indent;

		while (cut > line && *cut != ' ')
			cut--;
		if (cut == line)
			break;
		*cut = 0;
		console_printf(o, "%*s%s\n", (int)indent, "", line);
		line = cut + 1;
		indent = 2;
	}
	console_printf(o, "%*s%s\n", (int)indent, "", line);
}

static u64 percent(u64 part, u64 all)
{
	return all ? part * 100 / all : 0;
}

static const struct monitor_vm *live_vm(struct command_run *r, const char *name)
{
	const struct monitor_vm *m = monitor_find(name);

	if (!m && !command_vm(r, name))
		return NULL;
	if (!m || !m->now.live) {
		command_fail(r, E_BUSY, "'%s' has no memory: it does not run, or not long enough", name);
		return NULL;
	}
	return m;
}

/* The most that it could hold: its size, or of Dynamic Memory what it wants now. */
static u32 cap_of(const struct vm_figures *f)
{
	return MIN(f->limit, f->demand != DYNMEM_OFF ? f->wanted : f->pages);
}

/* ---- why ---- */

struct sums {
	u64 shares, consumed, capped; /* of live VMs; capped: what they could hold at most */
	u32 vms;
};

static void take_sums(struct sums *s)
{
	*s = (struct sums){0};
	for (u32 i = 0; i < VM_MAX; i++) {
		const struct monitor_vm *m = monitor_at(i);

		if (!m || !m->now.live)
			continue;
		s->vms++;
		s->shares += m->now.shares;
		s->consumed += m->now.consumed;
		s->capped += cap_of(&m->now);
	}
}

static void why_holds(struct console_out *o, const struct monitor_vm *m)
{
	const struct vm_figures *f = &m->now;
	u32 away = f->count[PAGE_SWAPPED] + f->count[PAGE_SWAPPING_IN];

	say(o, "%s has %s of memory and holds %s of RAM; it may hold %s.", m->name, SIZE(f->pages), SIZE(f->consumed),
	    SIZE(f->target));
	say(o, "Taken from it: %s by its balloon (target %s, at most %s), %s compressed, %s in swap. Sharing: %s are zero "
	       "pages and %s shared. Never touched: %s.",
	    SIZE(f->count[PAGE_BALLOONED]), SIZE(f->balloon_target), SIZE(f->balloon_max),
	    SIZE(f->count[PAGE_COMPRESSED]), SIZE(away), SIZE(f->count[PAGE_ZERO]), SIZE(f->count[PAGE_SHARED]),
	    SIZE(f->count[PAGE_ABSENT]));
}

static void why_host(struct console_out *o, const struct sums *s)
{
	const struct host_figures *h = &monitor_host()->now;
	u64 avail = s->consumed + h->memory.free, goal = h->reclaim.min_free * (u64)GOAL_PERCENT / 100;

	avail -= MIN(avail, goal);
	say(o, "Host: state %s for %lus, %s free; %s is to stay free. %u VMs hold %s and could hold %s, of %s there is for "
	       "them.",
	    reclaim_state_name(h->reclaim.state), (h->ns - MIN(h->reclaim.state_since_ns, h->ns)) / NSEC_PER_SEC,
	    SIZE(h->memory.free), SIZE(goal), s->vms, SIZE(s->consumed), SIZE(s->capped), SIZE(avail));
}

static void why_rule(struct console_out *o, const struct monitor_vm *m, const struct sums *s)
{
	const struct vm_figures *f = &m->now;
	u32 cap = cap_of(f);

	if (f->demand != DYNMEM_OFF)
		say(o, "Dynamic Memory: its guest has committed %s and wants %s with its buffer; without its balloon it has %s: "
		       "pressure %u%%, %s.",
		    SIZE(f->committed), SIZE(f->wanted), SIZE(f->has), f->pressure, dynmem_status_name(f->demand));
	if (f->balloon_manual)
		say(o, "Rule: the operator has fixed its balloon; `balloon %s auto` leaves it to the host.", m->name);
	if (f->limit < f->pages)
		say(o, "Rule: its limit of %s keeps it from more, however much is free.", SIZE(f->limit));
	if (f->target >= cap)
		say(o, "Rule: there is enough for what it may hold; the host takes nothing for itself.");
	else if (f->target <= f->reservation)
		say(o, "Rule: there is less than all VMs could hold, and it is down to its reservation of %s.",
		    SIZE(f->reservation));
	else
		say(o, "Rule: there is less than all VMs could hold, so it is divided by shares: %u of %lu (%lu%%), with a "
		       "reservation of %s, come to %s.",
		    f->shares, s->shares, percent(f->shares, s->shares), SIZE(f->reservation), SIZE(f->target));
	if (f->balloon_stalled)
		say(o, "Its balloon driver does not answer, so swap takes what the balloon should.");
	else if (!f->balloon_present)
		say(o, "It has no balloon driver: what is taken from it goes to swap.");
}

static void why_cost(struct console_out *o, const struct monitor_vm *m)
{
	const struct vm_figures *f = &m->now;
	const struct swap_stats *s = &monitor_host()->now.swap;
	u64 all = f->run_ns + f->wait_ns;

	say(o, "Cost: %lu pages came back from swap (%u a second now, %lu us each); it waited for memory for %lu.%lu s, "
	       "%lu%% of its time, %u.%u%% now.",
	    f->stats.swap_in, m->rate.swap_in, s->in ? s->in_ns / s->in / NSEC_PER_USEC : 0, f->wait_ns / NSEC_PER_SEC,
	    f->wait_ns / (NSEC_PER_SEC / 10) % 10, percent(f->wait_ns / NSEC_PER_USEC, all / NSEC_PER_USEC),
	    m->rate.wait_permille / 10, m->rate.wait_permille % 10);
	if (f->stats.zip_in)
		say(o, "Compression: %lu pages were compressed (%u a second now), %lu expanded again (%u a second); %s are in %s of "
		       "RAM.",
		    f->stats.zip_in, m->rate.zip_in, f->stats.zip_out, m->rate.zip_out, SIZE(f->count[PAGE_COMPRESSED]),
		    SIZE(f->zip_frames));
	if (f->speaks && f->guest.refaults)
		say(o, "Its guest read back %lu pages that it had put away for the balloon, in %lu ms.",
		    f->guest.refaults, f->guest.refault_ns / NSEC_PER_MSEC);
	if (f->speaks && f->guest.operations)
		say(o, "Its workload %s does %u operations a second, %lu us each, hit rate %u.%u%%.", f->guest.app,
		    m->rate.operations, f->guest.latency_ns / NSEC_PER_USEC, f->guest.hit_permille / 10,
		    f->guest.hit_permille % 10);
}

static void why_remedy(struct console_out *o, const struct monitor_vm *m)
{
	const struct vm_figures *f = &m->now;

	if (f->target >= cap_of(f) || f->balloon_manual || !(m->rate.refaults || f->count[PAGE_BALLOONED]))
		return;
	say(o, "To give it more: `vm set %s reservation %s` guarantees, `vm set %s shares high` doubles its weight; or "
	       "stop another VM.",
	    m->name, f->reservation < f->pages / 2 ? "50%" : "100%", m->name);
}

int cmd_why(struct command_run *r)
{
	const struct monitor_vm *m = live_vm(r, command_arg(r, 0));
	struct sums s;

	if (!m)
		return E_BUSY;
	take_sums(&s);
	why_holds(r->out, m);
	why_host(r->out, &s);
	why_rule(r->out, m, &s);
	why_cost(r->out, m);
	why_remedy(r->out, m);
	return 0;
}

/* ---- whatif ---- */

static struct policy_vm division[VM_MAX + 1];

/* What each could hold if all wanted all, with one VM more or not. Returns its place in division[], of n. */
static u32 divide(const struct policy_vm *more, const char *name, u32 *n)
{
	const struct host_figures *h = &monitor_host()->now;
	u64 avail = h->memory.free, goal = h->reclaim.min_free * (u64)GOAL_PERCENT / 100;
	u32 place = ~0u;

	*n = 0;
	for (u32 i = 0; i < VM_MAX; i++) {
		const struct monitor_vm *m = monitor_at(i);
		u32 cap = m ? cap_of(&m->now) : 0;

		if (!m || !m->now.live)
			continue;
		if (str_eq(m->name, name))
			place = *n;
		avail += m->now.consumed;
		division[(*n)++] = (struct policy_vm){.size = cap,
						      .reservation = m->now.reservation,
						      .limit = cap,
						      .shares = m->now.shares,
						      .consumed = cap,
						      .active = cap,
						      .wants = cap};
	}
	if (more) {
		place = *n;
		division[(*n)++] = *more;
	}
	policy_divide(division, *n, avail - MIN(avail, goal), settings_number(NUMBER_IDLE_TAX));
	return place;
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

static int whatif_start(struct command_run *r)
{
	struct vm *vm = command_vm(r, command_arg(r, 1));
	const struct host_figures *h = &monitor_host()->now;
	struct policy_vm more;
	u32 n, place;
	u64 left;
	int err;

	if (!vm)
		return E_NOENT;
	if (vm->gs_valid)
		return command_fail(r, E_BUSY, "'%s' is %s", vm->config.name, vm_state_name(vm->state));
	err = vm_would_start(vm, r->why, sizeof(r->why));
	if (err) {
		say(r->out, "%s would not start: %s", vm->config.name, r->why);
		return 0;
	}
	more = (struct policy_vm){.size = (u32)(vm->config.memory_bytes >> PAGE_SHIFT),
				  .reservation = (u32)(vm->config.reservation_bytes >> PAGE_SHIFT),
				  .shares = vm->config.shares ? vm->config.shares
							      : (u32)(vm->config.memory_bytes / MIB * 10)};
	more.limit = vm->config.limit_bytes ? MIN((u32)(vm->config.limit_bytes >> PAGE_SHIFT), more.size) : more.size;
	more.consumed = more.active = more.wants = more.limit;
	place = divide(&more, "", &n);
	left = h->memory.free > more.limit ? h->memory.free - more.limit : 0;
	say(r->out, "%s would start: reservation and swap suffice.", vm->config.name);
	if (left >= h->reclaim.threshold[RECLAIM_SOFT])
		say(r->out, "If it touches all of its %s, %s stay free: state %s, nothing is taken from anybody.",
		    SIZE(more.limit), SIZE(left), state_at(left));
	else
		say(r->out, "It wants up to %s and %s are free, so memory becomes short: of %u VMs that all want all, it "
			    "could hold %s.",
		    SIZE(more.limit), SIZE(h->memory.free), n, SIZE(division[place].target));
	return 0;
}

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

static int whatif_balloon(struct command_run *r)
{
	const struct monitor_vm *m = live_vm(r, command_arg(r, 1));
	const struct host_figures *h = &monitor_host()->now;
	u64 bytes, pages, now, room;
	char word[40];

	if (!m)
		return E_BUSY;
	room = MIN(m->now.balloon_max, m->now.pages - MIN(m->now.reservation, m->now.pages));
	if (r->argc < 4 || parse_size(command_arg(r, 2), VM_MEMORY_MAX, &bytes))
		return command_fail(r, E_INVAL, "'%s': expected a size of 0 to 64G",
				    r->argc < 4 ? "" : command_word(word, sizeof(word), command_arg(r, 2), sizeof(word)));
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
		return 0;
	}
	say(r->out, "The balloon of %s would grow by %s, which leaves its guest %s.", m->name, SIZE(pages - now),
	    SIZE(m->now.pages - pages));
	whatif_guest(r->out, m, pages - now);
	say(r->out, "The host would have up to %s free instead of %s: state %s.", SIZE(h->memory.free + pages - now),
	    SIZE(h->memory.free), state_at(h->memory.free + pages - now));
	return 0;
}

int cmd_whatif(struct command_run *r)
{
	char word[40];

	if (str_eq(command_arg(r, 0), "start") && r->argc == 3)
		return whatif_start(r);
	if (str_eq(command_arg(r, 0), "balloon") && r->argc == 4)
		return whatif_balloon(r);
	return command_fail(r, E_INVAL, "'%s': expected start NAME, or balloon NAME SIZE",
			    command_word(word, sizeof(word), command_arg(r, 0), sizeof(word)));
}

/* ---- forecast ---- */

int cmd_forecast(struct command_run *r)
{
	const struct monitor_host *h = monitor_host();
	const struct swap_stats *s = &h->now.swap;
	s64 change = h->rate.free_change, growth = (s64)h->rate.swap_out - h->rate.swap_in;

	console_printf(r->out, "free memory %s, %s%s a second\n", SIZE(h->now.memory.free), change < 0 ? "-" : "+",
		       SIZE(change < 0 ? -change : change));
	for (enum reclaim_state i = RECLAIM_SOFT; i < RECLAIM_STATES; i++) {
		u64 at = h->now.reclaim.threshold[i];

		if (h->now.memory.free < at)
			console_printf(r->out, "%s (below %s): now\n", reclaim_state_name(i), SIZE(at));
		else if (change < 0)
			console_printf(r->out, "%s (below %s): in %lus at this rate\n", reclaim_state_name(i), SIZE(at),
				       monitor_seconds_to(i));
		else
			console_printf(r->out, "%s (below %s): not at this rate\n", reclaim_state_name(i), SIZE(at));
	}
	if (s->slots && growth > 0)
		console_printf(r->out, "swap full: in %lus at this rate\n", (s->slots - s->used) / (u64)growth);
	else
		console_printf(r->out, "swap full: not at this rate\n");
	return 0;
}

/* ---- ledger ---- */

static void entry_row(struct console_out *o, const struct ledger_entry *e)
{
	u64 away_ms = e->back ? e->away_us / e->back / 1000 : 0;

	console_printf(o, "%4lu %5lu %3lu %-8s %-7s %-7s %-10s %-8s %5lu %5lu", e->seq, e->begin_ns / NSEC_PER_SEC,
		       (e->end_ns - e->begin_ns) / NSEC_PER_SEC, e->vm, ledger_tier_name(e->tier),
		       page_state_name(ledger_from(e->tier)), page_state_name(ledger_to(e->tier)),
		       ledger_cause_name(e->cause), e->out, e->back);
	if (e->back)
		console_printf(o, " %lu.%lus\n", away_ms / 1000, away_ms / 100 % 10);
	else
		console_printf(o, " -\n");
}

static int ledger_some(struct command_run *r)
{
	struct ledger_entry e;

	for (u32 i = 0; i < ENTRIES_PER_PIECE; i++) {
		if (!ledger_read(&r->cursor, &e))
			return 0;
		if (r->argc == 1 || str_eq(e.vm, command_arg(r, 0)))
			entry_row(r->out, &e);
	}
	r->more = ledger_some;
	return 0;
}

/* Since the start of each VM that runs. */
static void print_totals(struct console_out *o, const struct monitor_vm *m)
{
	struct pairs p;
	char key[24];

	pairs_begin(&p, o);
	for (u32 t = 0; t < LEDGER_TIERS; t++) {
		format_buf(key, sizeof(key), "%s-out", ledger_tier_name(t));
		pairs_number(&p, key, m->ledger[t].out);
		format_buf(key, sizeof(key), "%s-back", ledger_tier_name(t));
		pairs_number(&p, key, m->ledger[t].back);
	}
	pairs_end(&p);
}

int cmd_ledger(struct command_run *r)
{
	if (r->argc > 1) {
		const struct monitor_vm *m = monitor_find(command_arg(r, 0));

		if (!m)
			return command_vm(r, command_arg(r, 0)) ? 0 : E_NOENT;
		print_totals(r->out, m);
	}
	console_printf(r->out, "%4s %5s %3s %-8s %-7s %-7s %-10s %-8s %5s %5s %s\n", "seq", "at", "for", "vm", "tier",
		       "from", "to", "cause", "out", "back", "away");
	return ledger_some(r);
}
