/* The reclaim ledger. See ledger.h. */
#include "vmm/ledger.h"

#include "lib/platform.h"
#include "lib/string.h"
#include "vmm/monitor.h"

#define PAUSE_NS (3 * NSEC_PER_SEC) /* ends an entry */

static struct ledger_entry ring[LEDGER_KEPT];
static u64 last;

const char *ledger_tier_name(enum ledger_tier t)
{
	static const char *const name[LEDGER_TIERS] = {"share", "balloon", "zip", "swap", "clean"};

	return t < LEDGER_TIERS ? name[t] : "?";
}

enum page_state ledger_from(enum ledger_tier t)
{
	(void)t; /* shared pages on their way to swap are private first */
	return PAGE_PRIVATE;
}

enum page_state ledger_to(enum ledger_tier t)
{
	static const u8 to[LEDGER_TIERS] = {PAGE_SHARED, PAGE_BALLOONED, PAGE_COMPRESSED, PAGE_SWAPPED, PAGE_CLEAN};

	return t < LEDGER_TIERS ? to[t] : PAGE_ABSENT;
}

const char *ledger_cause_name(enum ledger_cause c)
{
	static const char *const name[LEDGER_CAUSES] = {"equal", "operator", "limit", "soft", "hard", "low"};

	return c < LEDGER_CAUSES ? name[c] : "?";
}

u64 ledger_last(void)
{
	return last;
}

bool ledger_read(u64 *seq, struct ledger_entry *out)
{
	u64 oldest = last > LEDGER_KEPT ? last - LEDGER_KEPT + 1 : 1, at = MAX(*seq, oldest);

	if (at > last)
		return false;
	*out = ring[at % LEDGER_KEPT];
	*seq = at + 1;
	return true;
}

static void count(const struct vm_figures *f, enum ledger_tier t, struct ledger_total *now)
{
	const struct gspace_stats *s = &f->stats;

	*now = (struct ledger_total){0};
	if (!f->live)
		return;
	if (t == LEDGER_SHARE)
		*now = (struct ledger_total){s->shared_in + s->zero_in, s->cow_breaks};
	else if (t == LEDGER_BALLOON)
		*now = (struct ledger_total){s->balloon_out, s->balloon_back + s->balloon_broken};
	else if (t == LEDGER_ZIP)
		*now = (struct ledger_total){s->zip_in, s->zip_out};
	else if (t == LEDGER_SWAP)
		*now = (struct ledger_total){s->swap_out, s->swap_in};
	else
		*now = (struct ledger_total){s->clean_out, s->clean_in};
}

static enum ledger_cause cause_of(const struct vm_figures *f, enum ledger_tier t)
{
	static const u8 by_state[RECLAIM_STATES] = {CAUSE_LIMIT, CAUSE_LIMIT, CAUSE_SOFT, CAUSE_HARD, CAUSE_LOW};

	if (t == LEDGER_SHARE)
		return CAUSE_EQUAL;
	if (t == LEDGER_BALLOON && f->balloon_manual)
		return CAUSE_OPERATOR;
	/* What a pressure that has just ended had asked for still comes in. */
	if (monitor_host()->now.reclaim.state < RECLAIM_SOFT && f->limit >= f->pages)
		return CAUSE_SOFT;
	return by_state[monitor_host()->now.reclaim.state];
}

static bool same(const struct ledger_entry *e, const struct monitor_vm *m, enum ledger_tier t)
{
	return e->seq && e->tier == t && str_eq(e->vm, m->name);
}

static void take_out(struct monitor_vm *m, enum ledger_tier t, u64 pages)
{
	enum ledger_cause cause = cause_of(&m->now, t);
	struct ledger_entry *e = &ring[m->entry[t] % LEDGER_KEPT];

	if (m->entry[t] == 0 || e->seq != m->entry[t] || e->cause != cause || m->now.ns - e->end_ns > PAUSE_NS) {
		e = &ring[++last % LEDGER_KEPT];
		*e = (struct ledger_entry){.seq = last, .tier = t, .cause = cause, .begin_ns = m->before.ns};
		str_copy(e->vm, m->name, sizeof(e->vm));
		m->entry[t] = last;
	}
	e->out += pages;
	e->end_ns = m->now.ns;
}

/* The oldest first; what is older than the ring counts in the totals only. */
static void take_back(struct monitor_vm *m, enum ledger_tier t, u64 pages)
{
	u64 oldest = last > LEDGER_KEPT ? last - LEDGER_KEPT + 1 : 1;

	for (u64 seq = oldest; seq <= last && pages; seq++) {
		struct ledger_entry *e = &ring[seq % LEDGER_KEPT];
		u64 n;

		if (!same(e, m, t) || e->closed)
			continue;
		n = MIN(pages, e->out - e->back);
		e->back += n;
		e->away_us += n * ((m->now.ns - (e->begin_ns + e->end_ns) / 2) / NSEC_PER_USEC);
		pages -= n;
	}
}

/* Its memory is another now: what was away is gone with the old one, and nothing of it comes back. */
static void close_entries(const struct monitor_vm *m, enum ledger_tier t)
{
	for (u32 i = 0; i < LEDGER_KEPT; i++)
		if (same(&ring[i], m, t))
			ring[i].closed = true;
}

void ledger_look(struct monitor_vm *m)
{
	for (u32 t = 0; t < LEDGER_TIERS; t++) {
		struct ledger_total now, was;

		count(&m->now, t, &now);
		count(&m->before, t, &was);
		if (now.out < was.out || now.back < was.back) { /* started anew */
			was = (struct ledger_total){0};
			m->ledger[t] = (struct ledger_total){0};
			m->entry[t] = 0;
			close_entries(m, t);
		}
		if (now.out > was.out)
			take_out(m, t, now.out - was.out);
		if (now.back > was.back)
			take_back(m, t, now.back - was.back);
		m->ledger[t].out += now.out - was.out;
		m->ledger[t].back += now.back - was.back;
	}
}
