/*
 * Console commands that explain: why, forecast, ledger. They speak of the monitor's last sample.
 */
#include "lib/err.h"
#include "lib/format.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "vmm/command.h"
#include "vmm/explain.h"
#include "vmm/monitor.h"
#include "vmm/pairs.h"

#define SAY_COLUMNS       79U
#define SAY_BYTES         400
#define ENTRIES_PER_PIECE 24U

/* ---- saying ---- */

void say(struct console_out *o, const char *fmt, ...)
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
	return all ? (part * 100 + all / 2) / all : 0;
}

const struct monitor_vm *live_vm(struct command_run *r, const char *name)
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

u32 cap_of(const struct vm_figures *f)
{
	return MIN(f->limit, f->demand != DYNMEM_OFF ? f->wanted : f->pages);
}

/* ---- why ---- */

struct sums {
	u64 shares, consumed, capped; /* of live VMs; capped: what they could hold at most */
	u64 goal, avail;              /* what is to stay free; what there is for VMs besides */
	u32 vms;
};

static void take_sums(struct sums *s)
{
	const struct host_figures *h = &monitor_host()->now;

	*s = (struct sums){.goal = h->reclaim.min_free * (u64)GOAL_PERCENT / 100};
	for (u32 i = 0; i < VM_MAX; i++) {
		const struct monitor_vm *m = monitor_at(i);

		if (!m || !m->now.live)
			continue;
		s->vms++;
		s->shares += m->now.shares;
		s->consumed += m->now.consumed;
		s->capped += cap_of(&m->now);
	}
	s->avail = s->consumed + h->memory.free;
	s->avail -= MIN(s->avail, s->goal);
}

static void why_holds(struct console_out *o, const struct monitor_vm *m)
{
	const struct vm_figures *f = &m->now;
	u32 away = f->count[PAGE_SWAPPED] + f->count[PAGE_SWAPPING_IN];

	say(o, "%s has %s of memory and holds %s of RAM; it may hold %s.", m->name, SIZE(f->pages), SIZE(f->consumed),
	    SIZE(f->target));
	say(o,
	    "Taken from it: %s by its balloon (target %s, at most %s), %s compressed, %s in swap, %s left to its own disk. Sharing: %s are zero "
	    "pages and %s shared. Never touched: %s.",
	    SIZE(f->count[PAGE_BALLOONED]), SIZE(f->balloon_target), SIZE(f->balloon_max),
	    SIZE(f->count[PAGE_COMPRESSED]), SIZE(away), SIZE(f->count[PAGE_CLEAN]), SIZE(f->count[PAGE_ZERO]),
	    SIZE(f->count[PAGE_SHARED]), SIZE(f->count[PAGE_ABSENT]));
}

static void why_host(struct console_out *o, const struct sums *s)
{
	const struct host_figures *h = &monitor_host()->now;

	say(o,
	    "Host: state %s for %lus, %s free; %s is to stay free. %u VMs hold %s and could hold %s, of %s there is for "
	    "them.",
	    reclaim_state_name(h->reclaim.state), (h->ns - MIN(h->reclaim.state_since_ns, h->ns)) / NSEC_PER_SEC,
	    SIZE(h->memory.free), SIZE(s->goal), s->vms, SIZE(s->consumed), SIZE(s->capped), SIZE(s->avail));
}

static void why_limit(struct console_out *o, const struct vm_figures *f)
{
	if (f->consumed > f->limit)
		say(o, "Rule: its limit is %s, and it holds %s more: its balloon gives that, or swap takes it.",
		    SIZE(f->limit), SIZE(f->consumed - f->limit));
	else if (f->target >= f->limit)
		say(o, "Rule: its limit of %s keeps it from more, however much is free; up to that there is enough.",
		    SIZE(f->limit));
	else
		say(o, "It never gets more than its limit of %s.", SIZE(f->limit));
}

static void why_shares(struct console_out *o, const struct vm_figures *f, const struct sums *s)
{
	u64 part = s->shares ? s->avail * f->shares / s->shares : 0;

	say(o,
	    "Rule: there is less than all VMs could hold, so it is divided by shares: %u of %lu (%lu%%) of %s are %s. "
	    "With its reservation of %s, the idle tax and what others cannot use, that comes to %s.",
	    f->shares, s->shares, percent(f->shares, s->shares), SIZE(s->avail), SIZE(part), SIZE(f->reservation),
	    SIZE(f->target));
}

static void why_rule(struct console_out *o, const struct monitor_vm *m, const struct sums *s)
{
	const struct vm_figures *f = &m->now;
	u32 cap = cap_of(f);
	bool limited = f->limit < f->pages && f->limit <= cap;

	if (f->demand != DYNMEM_OFF)
		say(o,
		    "Dynamic Memory: its guest has committed %s and wants %s with its buffer; without its balloon it has %s: "
		    "pressure %u%%, %s.",
		    SIZE(f->committed), SIZE(f->wanted), SIZE(f->has), f->pressure, dynmem_status_name(f->demand));
	if (f->balloon_manual)
		say(o, "Rule: the operator has fixed its balloon; `balloon %s auto` leaves it to the host.", m->name);
	if (limited)
		why_limit(o, f);
	if (f->target >= cap) {
		if (!limited)
			say(o, "Rule: there is enough for what it may hold; the host takes nothing for itself.");
	} else if (f->target <= f->reservation) {
		say(o, "Rule: there is less than all VMs could hold, and it is down to its reservation of %s.",
		    SIZE(f->reservation));
	} else {
		why_shares(o, f, s);
	}
	if (f->balloon_stalled)
		say(o, "Its balloon driver does not answer, so swap takes what the balloon should.");
	else if (!f->balloon_present)
		say(o, "It has no balloon driver: what is taken from it goes to swap.");
}

/* Only a workload with a cache has a hit rate. */
static void why_work(struct console_out *o, const struct monitor_vm *m)
{
	const struct guest_figures *g = &m->now.guest;
	char hits[32] = "";

	if (g->hit_permille)
		format_buf(hits, sizeof(hits), ", hit rate %u.%u%%", g->hit_permille / 10, g->hit_permille % 10);
	say(o, "Its workload %s does %u operations a second, %lu us each%s.", g->app, m->rate.operations,
	    g->latency_ns / NSEC_PER_USEC, hits);
}

static void why_starved(struct console_out *o, const struct vm_figures *f)
{
	const struct host_figures *h = &monitor_host()->now;

	if (f->starved_ns < NSEC_PER_SEC)
		return;
	say(o, "It stands still: for %lus it has waited for a page and got none: %s.%s%s%s",
	    f->starved_ns / NSEC_PER_SEC, figures_lack(f, h), h->swap.why ? " Swap: " : "",
	    h->swap.why ? h->swap.why : "", h->swap.why ? "." : "");
}

static void why_cost(struct console_out *o, const struct monitor_vm *m)
{
	const struct vm_figures *f = &m->now;
	const struct swap_stats *s = &monitor_host()->now.swap;
	u64 all = f->run_ns + f->wait_ns;

	say(o,
	    "Cost: %lu pages came back from swap (%u a second now, %lu us each); it waited for memory for %lu.%lu s, "
	    "%lu%% of its time, %u.%u%% now.",
	    f->stats.swap_in, m->rate.swap_in, s->in ? s->in_ns / s->in / NSEC_PER_USEC : 0, f->wait_ns / NSEC_PER_SEC,
	    f->wait_ns / (NSEC_PER_SEC / 10) % 10, percent(f->wait_ns / NSEC_PER_USEC, all / NSEC_PER_USEC),
	    m->rate.wait_permille / 10, m->rate.wait_permille % 10);
	if (f->stats.zip_in)
		say(o,
		    "Compression: %lu pages were compressed (%u a second now), %lu expanded again (%u a second); %s are in %s of "
		    "RAM.",
		    f->stats.zip_in, m->rate.zip_in, f->stats.zip_out, m->rate.zip_out, SIZE(f->count[PAGE_COMPRESSED]),
		    SIZE(f->zip_frames));
	if (f->speaks && f->guest.refaults)
		say(o, "Its guest read back %lu pages that it would hold if its balloon were empty, in %lu ms.",
		    f->guest.refaults, f->guest.refault_ns / NSEC_PER_MSEC);
	if (f->speaks && f->guest.operations)
		why_work(o, m);
}

static void why_remedy(struct console_out *o, const struct monitor_vm *m)
{
	const struct vm_figures *f = &m->now;

	if (f->target >= cap_of(f) || f->balloon_manual || !(m->rate.refaults || f->count[PAGE_BALLOONED]))
		return;
	say(o,
	    "To give it more: `vm set %s reservation %s` guarantees, `vm set %s shares high` doubles its weight; or "
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
	why_starved(r->out, &m->now);
	why_cost(r->out, m);
	why_remedy(r->out, m);
	return 0;
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
	char row[160], out[24], back[24], away[24] = "-";
	size_t n = format_append(row, sizeof(row), 0, "%4lu %5lu %3lu %s", e->seq, e->begin_ns / NSEC_PER_SEC,
				 (e->end_ns - e->begin_ns) / NSEC_PER_SEC, e->vm);

	format_buf(out, sizeof(out), "%lu", e->out);
	format_buf(back, sizeof(back), "%lu", e->back);
	if (e->back)
		format_buf(away, sizeof(away), "%lu.%lus", away_ms / 1000, away_ms / 100 % 10);
	n = format_left(row, sizeof(row), n, 24, ledger_tier_name(e->tier));
	n = format_left(row, sizeof(row), n, 32, page_state_name(ledger_from(e->tier)));
	n = format_left(row, sizeof(row), n, 40, page_state_name(ledger_to(e->tier)));
	n = format_left(row, sizeof(row), n, 51, ledger_cause_name(e->cause));
	n = format_right(row, sizeof(row), n, 65, out);
	n = format_right(row, sizeof(row), n, 71, back);
	format_left(row, sizeof(row), n, 72, away);
	console_printf(o, "%s\n", row);
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
