/*
 * When memory is taken back, how much and from whom.
 *
 * Balance, each period: policy_divide() says what each VM should hold (gs->target) of what all hold now and what is
 * free above the goal. A VM's pages above its target are its overdraft. The balloon is asked first; what it does not
 * cover (missing, stalled, too slow, at its maximum, or no time in state low) is taken page by page (swap_out): shared
 * if that is possible, else compressed, else written to swap.
 *
 * Why balloon targets do not swing: memory a guest holds and memory that is free add up to the same whether it touches
 * its pages or not, so targets do not react to what they cause. With a balloon of size - target a guest cannot exceed
 * its target, so that is the most ever asked. Balloon targets rise only in soft and worse, and from there until high is
 * reached; they fall only in high, in steps, as far as free memory is above the goal, and small changes are left out.
 * Room that one VM was given and does not use stays its own until memory is short again.
 *
 * What sharing saves of a VM's pages is given back too, for it would be of use to nobody else: in high a balloon falls until
 * the guest, with as many of its pages shared as now, would come to its target. Pages that it gets and has not touched yet
 * are not among those, so the fall does not run ahead of what it does to free memory. If it writes to its shared pages it
 * holds more than its target; only if that makes memory short (soft) the balloon rises again, by just that.
 *
 * A VM with Dynamic Memory (dynmem.h) takes part as a VM of the size that it wants just now. Of that its target is what its
 * shares buy; its balloon and what it is offered follow the target, down in steps, up at once as far as free memory is above the goal.
 *
 * Why nobody waits for ever: while the targets do not exceed what there is, free memory below the goal means that
 * somebody is above its target; swap takes from it. VMs below their target get frames down to near the frame reserve;
 * what is left above it keeps reservations and lets guests run that are to inflate their balloon. Who was refused is
 * woken each period as long as that goes on, and when frames come free. Nothing is ever killed for memory; if nothing
 * can be taken (swap off or failed, balloons stalled) the operator is told.
 *
 * Locking: reclaim.lock (LOCK_RANK_RECLAIM) is held through a step, which is bounded, so a space cannot go away during
 * one. reclaim_may_alloc() and reclaim_pressure() take no lock.
 */
#include "mm/reclaim.h"

#include "lib/err.h"
#include "lib/format.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/balloon.h"
#include "mm/dynmem.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/platform.h"
#include "mm/policy.h"
#include "mm/reclaim_cause.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/wss.h"
#include "mm/zip.h"

#define SOFT_PCT         64U
#define HARD_PCT         32U
#define LOW_PCT          16U
#define HYSTERESIS_PCT   8U
#define PERIOD_MS        250U
#define GOAL_PCT         112U         /* of minFree: what targets leave free */
#define RESERVE_MIN      64U          /* frames */
#define THRESHOLD_GAP    64U          /* frames, on very small machines */
#define FLOOR_PAGES      128U         /* a VM's target is never less: it must be able to run at all */
#define DEADBAND_MIN     64U          /* pages; else 1/256 of the VM */
#define DEFLATE_STEP_MIN 256U         /* pages a period; else 1/32 of the VM */
#define PATIENCE_NS      NSEC_PER_SEC /* for a balloon that was just asked, and before desperate means */
#define WARN_AFTER_NS    (10 * NSEC_PER_SEC)
#define WARN_EVERY_NS    (30 * NSEC_PER_SEC)
#define DESPERATE_PAGES  32U
#define LIMIT_ROOM       64U /* pages */
#define RATION_FRAMES    8U  /* a VM a period */
#define FAIR_SLACK_PART  64U /* of a VM: what it may lack or hold beyond its fair part without anything being done */

/* Bounds of one step, in pages: at 50 us a page (an emulator) some milliseconds. In low, steps follow each other at
 * once. */
static const u32 swap_budget[RECLAIM_STATES] = {128, 128, 128, 256, 128};
/* What a guest gets beyond the time that its rate needs. */
static const u32 deadline_slack_ms[RECLAIM_STATES] = {10000, 5000, 5000, 1000, 250};
static const u32 share_budget[RECLAIM_STATES] = {32, 32, 32, 32, 8};
#define SHARE_BUDGET_PLENTY 4U /* more than 4 times minFree */
#define PLENTY              4U /* times minFree, above which large pages are given: below 400 % ESX breaks them */
#define SPARE		    2U /* times minFree, above which pages are given that nobody has asked for yet: targets leave free 1.12 times */
#define REBUILD_REGIONS     64U /* looked at in a period, all VMs */

static struct {
	struct lock lock;
	struct reclaim_config cfg;
	enum reclaim_state state;
	u64 state_since_ns, next_period_ns;
	u32 min_free, goal, tax;
	u32 balanced_listed; /* frame_listed_count() when targets were last computed */
	bool unbalanced;   /* settings have changed since then */
	bool recovering;   /* soft or worse was reached, and high not yet again */
	char cause[CAUSE_BYTES];
	u32 threshold[RECLAIM_STATES];
	u64 transitions[RECLAIM_STATES];
	struct gspace *space[GSPACE_MAX];
	struct policy_vm vm[GSPACE_MAX];
	u32 fair[GSPACE_MAX]; /* what each would hold if all that have a balloon got what they are worth */
	bool hungry;	      /* one of those holds clearly less */
	u32 spaces;
	u32 turn;         /* whose turn it is to be swapped first */
	bool swap_wanted; /* overdrafts were left at the end of the last step */
	bool swap_took;   /* and it did take something */
	u32 waiting;      /* atomic: somebody was refused since it was last cleared */
	u64 failures;     /* frame allocator's count when last looked at */
	u64 progress_ns, warned_ns;
	u32 progress_free;
	u64 progress_balloon;
	u32 taken;    /* pages, since the last look */
	bool waited;  /* the same: somebody was refused and has been woken */
	bool starved; /* somebody waited since the last progress */
	struct log_limit log_limit;
} reclaim = {.lock = LOCK_INIT("reclaim", LOCK_RANK_RECLAIM), .tax = POLICY_TAX_DEFAULT};

const char *reclaim_state_name(enum reclaim_state s)
{
	static const char *const name[RECLAIM_STATES] = {"high", "clear", "soft", "hard", "low"};

	return s < RECLAIM_STATES ? name[s] : "?";
}

/* ---- thresholds and state ------------------------------------------------ */

u32 reclaim_sliding_min_free(u64 frames)
{
	static const struct {
		u64 upto_gib, percent;
	} slice[] = {{4, 6}, {12, 4}, {28, 2}, {~0UL >> 20, 1}};
	u64 from = 0, sum = 0;

	for (u32 i = 0; i < ARRAY_SIZE(slice) && from < frames; i++) {
		u64 to = MIN(frames, slice[i].upto_gib << (30 - PAGE_SHIFT));

		sum += (to - from) * slice[i].percent / 100;
		from = to;
	}
	return (u32)sum;
}

static u32 percent_of(u32 frames, u32 percent)
{
	return (u32)((u64)frames * percent / 100);
}

static void set_thresholds(u32 min_free)
{
	u32 *t = reclaim.threshold;
	const struct reclaim_config *c = &reclaim.cfg;

	t[RECLAIM_LOW] = MAX(percent_of(min_free, c->low_pct), 2 * RESERVE_MIN);
	t[RECLAIM_HARD] = MAX(percent_of(min_free, c->hard_pct), t[RECLAIM_LOW] + THRESHOLD_GAP);
	t[RECLAIM_SOFT] = MAX(percent_of(min_free, c->soft_pct), t[RECLAIM_HARD] + THRESHOLD_GAP);
	reclaim.min_free = MAX(min_free, t[RECLAIM_SOFT] + THRESHOLD_GAP);
	t[RECLAIM_HIGH] = t[RECLAIM_CLEAR] = reclaim.min_free;
	reclaim.goal = percent_of(reclaim.min_free, GOAL_PCT);
}

/* Thresholds from cfg.min_free, and the allocator's reserve. */
static void apply_min_free(u64 total)
{
	set_thresholds(reclaim.cfg.min_free ? reclaim.cfg.min_free : reclaim_sliding_min_free(total));
	frame_set_reserve(MAX(reclaim.threshold[RECLAIM_LOW] / 2, RESERVE_MIN));
}

static void set_config(const struct reclaim_config *cfg)
{
	struct reclaim_config *c = &reclaim.cfg;

	*c = cfg ? *cfg : (struct reclaim_config){0};
	c->soft_pct = c->soft_pct ? c->soft_pct : SOFT_PCT;
	c->hard_pct = c->hard_pct ? c->hard_pct : HARD_PCT;
	c->low_pct = c->low_pct ? c->low_pct : LOW_PCT;
	c->hysteresis_pct = c->hysteresis_pct ? c->hysteresis_pct : HYSTERESIS_PCT;
	c->period_ms = c->period_ms ? c->period_ms : PERIOD_MS;
}

void reclaim_init(const struct reclaim_config *cfg)
{
	struct frame_stats f;

	frame_stats(&f);
	lock_acquire(&reclaim.lock);
	set_config(cfg);
	apply_min_free(f.total);
	reclaim.state = RECLAIM_HIGH;
	reclaim.state_since_ns = reclaim.next_period_ns = reclaim.progress_ns = reclaim.warned_ns = 0;
	reclaim.spaces = reclaim.turn = 0;
	reclaim.waiting = 0;
	reclaim.swap_wanted = reclaim.starved = reclaim.waited = reclaim.recovering = false;
	reclaim.taken = 0;
	reclaim.tax = POLICY_TAX_DEFAULT;
	reclaim.cause[0] = 0;
	cause_mark(NULL, 0, 0);
	reclaim.failures = f.failures;
	reclaim.log_limit = (struct log_limit){0};
	for (u32 i = 0; i < RECLAIM_STATES; i++)
		reclaim.transitions[i] = 0;
	lock_release(&reclaim.lock);
}

void reclaim_set_min_free(u32 frames)
{
	struct frame_stats f;

	frame_stats(&f);
	lock_acquire(&reclaim.lock);
	reclaim.cfg.min_free = frames;
	apply_min_free(f.total);
	reclaim.next_period_ns = 0;
	cause_note_thresholds();
	lock_release(&reclaim.lock);
}

void reclaim_set_tax(u32 percent)
{
	lock_acquire(&reclaim.lock);
	reclaim.tax = MIN(percent, POLICY_TAX_MAX);
	reclaim.unbalanced = true;
	lock_release(&reclaim.lock);
}

void reclaim_rebalance(void)
{
	WRITE_ONCE(reclaim.unbalanced, true);
}

/* Free frames that lead out of state s, upward: a little above where it began. */
static u32 leave_at(enum reclaim_state s)
{
	return reclaim.threshold[s] + percent_of(reclaim.min_free, reclaim.cfg.hysteresis_pct);
}

static enum reclaim_state state_for(u32 free)
{
	for (enum reclaim_state s = RECLAIM_LOW; s > RECLAIM_HIGH; s--)
		if (free < (reclaim.state >= s ? leave_at(s) : reclaim.threshold[s]))
			return s;
	return RECLAIM_HIGH;
}

static void update_state(u64 now)
{
	char free_text[FORMAT_SIZE_BYTES], min_text[FORMAT_SIZE_BYTES];
	u32 free = frame_free_count();
	enum reclaim_state s = state_for(free), old = reclaim.state;

	if (s == old)
		return;
	WRITE_ONCE(reclaim.state, s);
	reclaim.transitions[s]++;
	reclaim.state_since_ns = now;
	reclaim.recovering = s >= RECLAIM_SOFT || (s != RECLAIM_HIGH && reclaim.recovering);
	cause_find(reclaim.space, reclaim.spaces, s > old, reclaim.cause);
	cause_mark(reclaim.space, reclaim.spaces, now);
	/* Guests' doing, so limited as such lines are. */
	log_guest(&reclaim.log_limit, "reclaim", "state %s -> %s free=%s min=%s cause=\"%s\"", reclaim_state_name(old),
		  reclaim_state_name(s), format_size(free_text, (u64)free << PAGE_SHIFT),
		  format_size(min_text, (u64)reclaim.min_free << PAGE_SHIFT), reclaim.cause);
}

/* ---- registration -------------------------------------------------------- */

void reclaim_add(struct gspace *gs)
{
	lock_acquire(&reclaim.lock);
	CHECK(reclaim.spaces < GSPACE_MAX);
	if (!gs->balloon_max)
		gs->balloon_max = (u32)((u64)gs->pages * BALLOON_MAX_PERCENT / 100);
	if (!gs->balloon_rate)
		gs->balloon_rate = BALLOON_RATE_DEFAULT;
	gs->balloon_manual = GFN_NONE;
	gs->balloon_target = gs->balloon_last = gs->balloon_speed = 0;
	gs->balloon_trouble = BALLOON_FINE;
	gs->watch_ns = gs->distrust_ns = gs->relieved_ns = gs->balloon_deadline_ns = 0;
	gs->watch_out = gs->watch_broken = 0;
	gs->relief_pages = gs->balloon_deadline_ms = gs->held_mark[0] = gs->held_mark[1] = 0;
	gs->ration = 0;
	gs->target = MIN(gs->alloc.limit, gs->pages);
	reclaim.space[reclaim.spaces++] = gs;
	reclaim.unbalanced = true;
	lock_release(&reclaim.lock);
}

void reclaim_remove(struct gspace *gs)
{
	u32 kept = 0;

	lock_acquire(&reclaim.lock);
	cause_note_end(gs);
	reclaim.unbalanced = true;
	for (u32 i = 0; i < reclaim.spaces; i++)
		if (reclaim.space[i] != gs)
			reclaim.space[kept++] = reclaim.space[i];
	reclaim.spaces = kept;
	lock_release(&reclaim.lock);
}

/* ---- targets ------------------------------------------------------------- */

static u32 cap_of(const struct gspace *gs)
{
	return MIN(gs->alloc.limit, gs->pages);
}

static bool has_limit(const struct gspace *gs)
{
	return gs->alloc.limit < gs->pages;
}

/* Pages that a balloon falls in one period. */
static u32 fall_step(const struct gspace *gs)
{
	return MAX(gs->pages / 32, DEFLATE_STEP_MIN);
}

/*
 * Who says so would be larger, or who has a balloon and has touched what it was given of it, all but one step: so nobody gets
 * more than it uses while another could use it. Those without a balloon are as large as they please already.
 */
static bool wants_more(const struct gspace *gs)
{
	bool ballooned = balloon_size(gs) || gs->balloon_target;

	return dynmem_active(gs) || (ballooned && gs->count[PAGE_ABSENT] <= fall_step(gs));
}

static u64 collect(void)
{
	u64 sum = 0;

	for (u32 i = 0; i < reclaim.spaces; i++) {
		const struct gspace *gs = reclaim.space[i];
		u32 size = dynmem_wanted(gs), cap = MIN(gs->alloc.limit, size);

		reclaim.vm[i] = (struct policy_vm){.size = size,
						   .limit = cap,
						   .reservation = MIN(MAX(gs->alloc.reservation, FLOOR_PAGES), cap),
						   .shares = gs->alloc.shares,
						   .active = wss_active(gs),
						   .consumed = gspace_consumed(gs)};
		reclaim.vm[i].wants = wants_more(gs) ? cap : 0;
		sum += reclaim.vm[i].consumed;
	}
	return sum;
}

/*
 * Two divisions. By what VMs hold: it says from whom to take; and if nothing has to be taken, what is free above the
 * goal is room for those with a balloon, all of it: their balloons fall until free memory is the goal. By what all could
 * want: a VM that holds less than that is entitled to grow to it, whatever the others hold now. The greater is the
 * target. An idle VM's entitlement costs the others nothing before it is used; then the first division takes from
 * those above theirs.
 */
static void set_targets(void)
{
	u64 held = collect() + frame_free_count(), avail = held > reclaim.goal ? held - reclaim.goal : 0;

	reclaim.balanced_listed = frame_listed_count();
	reclaim.unbalanced = false;
	policy_divide(reclaim.vm, reclaim.spaces, avail, reclaim.tax);
	for (u32 i = 0; i < reclaim.spaces; i++) {
		WRITE_ONCE(reclaim.space[i]->target, reclaim.vm[i].target);
		reclaim.vm[i].consumed = reclaim.vm[i].limit;
	}
	policy_divide(reclaim.vm, reclaim.spaces, avail, reclaim.tax);
	for (u32 i = 0; i < reclaim.spaces; i++)
		if (reclaim.vm[i].target > reclaim.space[i]->target)
			WRITE_ONCE(reclaim.space[i]->target, reclaim.vm[i].target);
}

static u32 square_root(u64 n)
{
	u64 root = 0;

	for (int bit = 31; bit >= 0; bit--)
		if ((root | BIT(bit)) * (root | BIT(bit)) <= n)
			root |= BIT(bit);
	return (u32)root;
}

/*
 * Samples of the working set are few: differences smaller than two standard errors of their mean say nothing. So one that
 * is idle or all in use is known well, one that is half in use to a tenth.
 */
static u32 fair_slack(const struct gspace *gs)
{
	u64 active = wss_active(gs), samples = MAX(gs->wss.samples, 1U);

	return MAX(2 * square_root(active * (gs->pages - active) / samples), gs->pages / FAIR_SLACK_PART);
}

/* What it could have touched, and did not need, is not what it lacks. */
static u32 has(const struct gspace *gs)
{
	return dynmem_active(gs) ? MAX(dynmem_have(gs), gspace_consumed(gs)) : gspace_consumed(gs);
}

/*
 * A VM with a balloon cannot show that it could use more, since it gets no page to touch; so memory would stay with an idle
 * neighbour as long as none is short. The third division takes those at their word, by shares and idle tax.
 */
static void set_fair(void)
{
	u64 held = collect() + frame_free_count(), avail = held > reclaim.goal ? held - reclaim.goal : 0;

	for (u32 i = 0; i < reclaim.spaces; i++)
		reclaim.vm[i].consumed = MAX(reclaim.vm[i].consumed, reclaim.vm[i].wants);
	policy_divide(reclaim.vm, reclaim.spaces, avail, reclaim.tax);
	reclaim.hungry = false;
	for (u32 i = 0; i < reclaim.spaces; i++) {
		const struct gspace *gs = reclaim.space[i];

		reclaim.fair[i] = reclaim.vm[i].target;
		if (reclaim.vm[i].wants && has(gs) + gs->pages / FAIR_SLACK_PART < reclaim.fair[i])
			reclaim.hungry = true;
	}
}

static u32 excess(u32 held, u32 target)
{
	return held > target ? held - target : 0;
}

/*
 * A VM at its limit gets no frames, so swap keeps a little room below it, or the VM would stand still. With a full
 * balloon the guest cannot come to its limit, and needs none; unless frames of compressed pages count as well.
 */
static u32 limit_room(const struct gspace *gs)
{
	u32 limit = cap_of(gs);

	return (u64)limit + balloon_size(gs) >= gs->pages + gs->zip.frames ? 0 : MIN(limit / 8, LIMIT_ROOM);
}

/* ---- balloon ------------------------------------------------------------- */

static u32 deadband(const struct gspace *gs)
{
	return MAX(gs->pages / 256, DEADBAND_MIN);
}

/* Balloon with which the guest cannot hold more than `target` pages. */
static u32 full_balloon(const struct gspace *gs, u32 target)
{
	return MIN(gs->pages > target ? gs->pages - target : 0, gs->balloon_max);
}

static u32 wanted(const struct gspace *gs, u32 held, u32 target)
{
	return MIN(balloon_size(gs) + excess(held, target), full_balloon(gs, target));
}

/* What it gives for those, once its idleness has been measured and not guessed; not to the last page. */
static u32 fair_part(const struct gspace *gs, u32 held, u32 fair)
{
	if (!reclaim.hungry || !gs->wss.periods || held <= fair + fair_slack(gs))
		return 0;
	return wanted(gs, held, fair + fair_slack(gs) / 2);
}

static u32 raised_target(struct gspace *gs, u32 fair, bool trouble, u64 now)
{
	u32 held = gspace_consumed(gs), old = gs->balloon_target, surplus = dynmem_surplus(gs, now), want;

	/* The limit is for good, so what was taken for it counts, too; for the rest it is better left where it is. */
	want = gs->count[PAGE_SWAPPED] + excess(gs->count[PAGE_COMPRESSED], gs->zip.frames);
	want = wanted(gs, held + want, cap_of(gs));
	want = MAX(want, fair_part(gs, held, fair));
	want = MAX(want, surplus);
	if (reclaim.recovering)
		want = MAX(want, wanted(gs, held, gs->target));
	if (trouble || want <= old)
		return old;
	if (reclaim.state == RECLAIM_SOFT && want - old < deadband(gs) && want < full_balloon(gs, gs->target))
		return old;
	return want;
}

/* What it may have in high: its target, and what sharing saves of its pages; never more than its limit and what it wants. */
static u32 target_and_saved(const struct gspace *gs)
{
	u32 most = MIN(cap_of(gs), dynmem_wanted(gs));

	return (u32)MAX((u64)gs->target, MIN((u64)gs->target + gspace_saved(gs), (u64)most));
}

/* Down toward what the target still asks for: what was not yet given at once, what was given when memory is back. */
static u32 lowered_target(const struct gspace *gs)
{
	bool back = reclaim.state == RECLAIM_HIGH && frame_free_count() >= reclaim.min_free;
	u32 old = gs->balloon_target, full = full_balloon(gs, back ? target_and_saved(gs) : gs->target);
	u32 step = fall_step(gs);

	if (full >= old)
		return old;
	if (!back)
		return MAX(full, MIN(old, balloon_size(gs)));
	if (dynmem_active(gs)) /* it does not hope for more, it needs it */
		step = MAX(step, excess(frame_free_count(), reclaim.goal));
	/* Small changes are left out, but not what keeps it from its reservation. */
	if (old - full < deadband(gs) && full && old <= full_balloon(gs, gs->alloc.reservation))
		return old;
	return old - full > step ? old - step : full;
}

static u32 manual_target(const struct gspace *gs)
{
	return MIN(gs->balloon_manual, full_balloon(gs, gs->alloc.reservation));
}

/*
 * The guest took back what it was asked to give: it is short of memory. Nothing more is asked of it for a while, and what it
 * took counts as in use, so that the next division asks others.
 */
static bool relieved(struct gspace *gs, u64 now)
{
	u32 pages = __atomic_exchange_n(&gs->relief_pages, 0, __ATOMIC_RELAXED);

	if (pages) {
		/* One rest at a time, and as long a time in between. */
		if (!gs->relieved_ns || now - gs->relieved_ns >= 2 * BALLOON_RELIEF_NS)
			gs->relieved_ns = now;
		wss_raise(gs, gspace_consumed(gs) + pages);
	}
	return gs->relieved_ns && now - gs->relieved_ns < BALLOON_RELIEF_NS;
}

static void balance_balloon(struct gspace *gs, u32 fair, u64 now)
{
	bool rests = relieved(gs, now), trouble = balloon_judge(gs, now) != BALLOON_FINE;
	u32 size = balloon_size(gs), target;

	gs->balloon_speed = (gs->balloon_speed * 3 + excess(size, gs->balloon_last)) / 4;
	gs->balloon_last = size;
	if (!READ_ONCE(gs->balloon_present))
		target = 0;
	else if (gs->balloon_manual != GFN_NONE)
		target = manual_target(gs);
	else if (rests)
		target = MIN(gs->balloon_target, size);
	else if ((target = raised_target(gs, fair, trouble, now)) == gs->balloon_target)
		target = lowered_target(gs);
	gs->balloon_deadline_ms = balloon_deadline_ms(gs, target, deadline_slack_ms[reclaim.state]);
	balloon_set_target(gs, target);
	__atomic_store_n(&gs->ration, trouble || size >= gs->balloon_target ? 0 : RATION_FRAMES, __ATOMIC_RELAXED);
}

/* What VMs with Dynamic Memory want now. */
static void sample_demand(void)
{
	for (u32 i = 0; i < reclaim.spaces; i++) {
		struct gspace *gs = reclaim.space[i];

		dynmem_sample(gs);
		if (dynmem_active(gs))
			gs->balloon_max = dynmem_balloon_max(gs);
	}
}

/* Memory to be added: of what is free above the goal, or what a reservation promises. The first of the round changes. */
static void offer_memory(void)
{
	u64 room = reclaim.state == RECLAIM_HIGH ? excess(frame_free_count(), reclaim.goal) : 0;

	for (u32 i = 0; i < reclaim.spaces; i++) {
		struct gspace *gs = reclaim.space[(reclaim.turn + i) % reclaim.spaces];
		u32 promised = excess(gs->alloc.reservation, gspace_consumed(gs));

		u32 offered = dynmem_offer(gs, MAX(room, (u64)promised));

		room -= MIN(room, (u64)offered);
	}
}

static void balance(u64 now)
{
	sample_demand();
	set_targets();
	set_fair();
	for (u32 i = 0; i < reclaim.spaces; i++) {
		balance_balloon(reclaim.space[i], reclaim.fair[i], now);
		swap_shed(reclaim.space[i]);
	}
	offer_memory();
}

/* ---- swap ---------------------------------------------------------------- */

/* Pages the balloon can be trusted to give within a second. */
static u32 balloon_pending(const struct gspace *gs, u64 now)
{
	u32 size = balloon_size(gs), left = gs->balloon_target > size ? gs->balloon_target - size : 0;
	u32 periods = MAX(1000 / reclaim.cfg.period_ms, 1U), speed = gs->balloon_speed * periods;

	if (!READ_ONCE(gs->balloon_present) || gs->balloon_trouble != BALLOON_FINE || balloon_stalled(gs, now))
		return 0;
	if (now - gs->balloon_raised_ns < PATIENCE_NS)
		speed = MAX(speed, gs->balloon_rate);
	return MIN(left, speed);
}

/* What swap has to take for the limit, in any state. A balloon that is on its way gets its chance first. */
static u32 limit_need(const struct gspace *gs, u32 held, u32 pending)
{
	u32 over = excess(held, cap_of(gs)), room = limit_room(gs);

	if (!has_limit(gs))
		return 0;
	return excess(over, pending) + (over ? room : excess(held, cap_of(gs) - room));
}

/* What it has to take for the host. */
static u32 state_need(const struct gspace *gs, u32 held, u32 pending, u64 now)
{
	u32 over = excess(held, gs->target);

	switch (reclaim.state) {
	case RECLAIM_LOW:
		return over;
	case RECLAIM_HARD:
		return excess(over, pending);
	case RECLAIM_CLEAR:
		if (!reclaim.recovering)
			return 0;
		/* fall through */
	case RECLAIM_SOFT: /* only what the balloon will never give, and no trifles */
		if (gs->relieved_ns && now - gs->relieved_ns < BALLOON_RELIEF_NS)
			return 0;
		return pending || over < deadband(gs) ? 0 : over;
	default:
		return 0;
	}
}

/* Pages of gs that swap has to take now. */
static u32 swap_need(const struct gspace *gs, u64 now)
{
	u32 held = excess(gspace_consumed(gs), gs->count[PAGE_SWAPPING_OUT]), pending = balloon_pending(gs, now);

	if (gs->dying)
		return 0;
	return MAX(limit_need(gs, held, pending), state_need(gs, held, pending, now));
}

/* Takes up to the state's budget, from each VM in proportion to its need. Returns pages taken. */
static u32 swap_step(u64 now)
{
	u64 total = 0;
	u32 budget = swap_budget[reclaim.state], done = 0;

	for (u32 i = 0; i < reclaim.spaces; i++)
		total += swap_need(reclaim.space[i], now);
	WRITE_ONCE(reclaim.swap_wanted, total != 0);
	for (u32 i = 0; i < reclaim.spaces && total && done < budget; i++) {
		struct gspace *gs = reclaim.space[(reclaim.turn + i) % reclaim.spaces];
		u32 need = swap_need(gs, now), part = (u32)((u64)budget * need / total);

		if (need && (swap_can_out() || zip_ready(gs)))
			done += swap_out(gs, MIN(MIN(MAX(part, 8U), need), budget - done));
	}
	reclaim.turn++;
	WRITE_ONCE(reclaim.swap_took, done != 0);
	return done;
}

/*
 * Low, and nothing moves: those above their target have nothing that can be taken (all shared, pinned or in flight).
 * Take a little from whoever is furthest above its reservation.
 */
static u32 swap_desperately(void)
{
	struct gspace *most = NULL;
	u32 most_over = 0;

	for (u32 i = 0; i < reclaim.spaces; i++) {
		struct gspace *gs = reclaim.space[i];
		u32 least = MAX(gs->alloc.reservation, FLOOR_PAGES), held = gspace_consumed(gs);
		u32 over = held > least ? held - least : 0;

		if (over > most_over && gs->count[PAGE_PRIVATE] + gs->count[PAGE_SHARED]) {
			most = gs;
			most_over = over;
		}
	}
	return most ? swap_out(most, MIN(most_over, DESPERATE_PAGES)) : 0;
}

/* ---- waiting and progress ------------------------------------------------ */

/* Whoever is told that somebody waited wakes the waiters. watch() hears of it, too. */
static bool somebody_waited(void)
{
	bool waited = __atomic_exchange_n(&reclaim.waiting, 0, __ATOMIC_ACQ_REL);
	u64 failures = frame_failures();

	waited |= failures != reclaim.failures;
	reclaim.failures = failures;
	reclaim.waited |= waited;
	return waited;
}

static u64 ballooned_pages(void)
{
	u64 sum = 0;

	for (u32 i = 0; i < reclaim.spaces; i++)
		sum += balloon_size(reclaim.space[i]);
	return sum;
}

static void warn_stuck(u64 now)
{
	struct swap_stats s;

	if (reclaim.warned_ns && now - reclaim.warned_ns < WARN_EVERY_NS)
		return;
	reclaim.warned_ns = now;
	swap_stats(&s);
	log_warn(
	    "reclaim",
	    "VMs wait and no memory could be taken back for %lu s: free=%u low=%u frames, swap %s%s%s used=%lu of %lu",
	    (now - reclaim.progress_ns) / NSEC_PER_SEC, frame_free_count(), reclaim.threshold[RECLAIM_LOW],
	    s.state == SWAP_ON    ? "on"
	    : s.state == SWAP_OFF ? "off"
				  : "failed",
	    s.why ? ": " : "", s.why ? s.why : "", s.used, s.slots);
}

/* Once a period: notices when nothing moves in state low; tries harder, then tells. */
static void watch(u64 now)
{
	u32 free = frame_free_count();
	u64 ballooned = ballooned_pages();
	struct swap_stats s;

	swap_stats(&s);
	if (reclaim.state != RECLAIM_LOW || reclaim.taken || s.in_flight_out || free > reclaim.progress_free ||
	    ballooned > reclaim.progress_balloon) {
		reclaim.progress_ns = now;
		reclaim.starved = false; /* who waits all the same has been woken, is refused again, and seen the next time */
	} else {
		reclaim.starved |= reclaim.waited;
	}
	reclaim.progress_free = free;
	reclaim.progress_balloon = ballooned;
	reclaim.waited = false;
	reclaim.taken = 0;
	if (!reclaim.starved || now - reclaim.progress_ns < PATIENCE_NS)
		return;
	swap_desperately();
	if (now - reclaim.progress_ns >= WARN_AFTER_NS)
		warn_stuck(now);
}

/* ---- plenty -------------------------------------------------------------- */

bool reclaim_plenty(void)
{
	return READ_ONCE(reclaim.state) == RECLAIM_HIGH &&
	       frame_free_at_least((u64)PLENTY * reclaim.min_free + LARGE_PAGES);
}

bool reclaim_plentiful(const struct gspace *gs)
{
	return reclaim_plenty() && (u64)gspace_consumed(gs) + LARGE_PAGES <= MIN(cap_of(gs), READ_ONCE(gs->target));
}

bool reclaim_has_spare(const struct gspace *gs, u32 pages)
{
	return READ_ONCE(reclaim.state) == RECLAIM_HIGH && frame_listed_count() >= (u64)SPARE * reclaim.min_free + pages &&
	       (u64)gspace_consumed(gs) + pages <= MIN(cap_of(gs), READ_ONCE(gs->target));
}

/* Large pages put together again: a bounded look, and one copy at most. */
static void rebuild_large(void)
{
	u32 each = DIV_ROUND_UP(REBUILD_REGIONS, MAX(reclaim.spaces, 1U)), done = 0;

	for (u32 i = 0; i < reclaim.spaces && !done && reclaim_plenty(); i++)
		done = gspace_rebuild(reclaim.space[(reclaim.turn + i) % reclaim.spaces], each);
}

static void watch_working_sets(void)
{
	for (u32 i = 0; i < reclaim.spaces; i++)
		if (!reclaim.space[i]->dying)
			wss_step(reclaim.space[i]);
}

/* ---- the step ------------------------------------------------------------ */

static u32 scan_budget(void)
{
	if (frame_free_count() / 4 > reclaim.min_free)
		return SHARE_BUDGET_PLENTY;
	return share_budget[reclaim.state];
}

void reclaim_scan(void)
{
	u32 free = frame_free_count();

	share_scan(scan_budget());
	if (frame_free_count() > free)
		reclaim_memory_returned();
}

/* Since targets were computed: a quarter of minFree, or settings. Each fault asks: stocks do not matter. */
static bool large_change(void)
{
	u32 free = frame_listed_count(), then = READ_ONCE(reclaim.balanced_listed);

	return READ_ONCE(reclaim.unbalanced) || (free > then ? free - then : then - free) > reclaim.min_free / 4;
}

void reclaim_step(u64 now_ns)
{
	bool period, waited = false, wake;
	enum reclaim_state before;
	u32 free;

	lock_acquire(&reclaim.lock);
	before = reclaim.state;
	period = now_ns >= reclaim.next_period_ns;
	if (period) /* a little early: the caller's timer must not find it just not due */
		reclaim.next_period_ns = now_ns + reclaim.cfg.period_ms * NSEC_PER_MSEC * 7 / 8;
	update_state(now_ns);
	cause_tick(reclaim.space, reclaim.spaces, now_ns);
	if (period || reclaim.state > before || large_change())
		balance(now_ns);
	free = frame_free_count();
	if (period || reclaim.state == RECLAIM_LOW)
		reclaim.taken += swap_step(now_ns);
	if (period) {
		watch_working_sets();
		rebuild_large();
	}
	/* What was compressed or shared is free at once; what is written to swap comes free later (reclaim_memory_returned). */
	if (period || frame_free_count() > MAX(free, frame_reserve()))
		waited = somebody_waited();
	if (period)
		watch(now_ns);
	wake = waited || reclaim.state < before;
	lock_release(&reclaim.lock);
	if (period)
		swap_trim();
	if (wake)
		mm_wake(NULL);
}

static __attribute__((noinline)) bool pressure(enum reclaim_state s)
{
	if (s != RECLAIM_LOW)
		return !frame_free_at_least(reclaim.threshold[s + 1]) || (reclaim.spaces && large_change());
	return frame_free_at_least(leave_at(s)) ||
	       (READ_ONCE(reclaim.swap_wanted) && (READ_ONCE(reclaim.swap_took) || swap_can_out()));
}

bool reclaim_pressure(void)
{
	enum reclaim_state s = READ_ONCE(reclaim.state);

	if (likely(s != RECLAIM_LOW && frame_listed_count() >= reclaim.threshold[s + 1] && !large_change()))
		return false;
	return pressure(s);
}

/*
 * The last frames above the allocator's reserve, in state low: what a reservation promises, and rations. A guest that
 * is asked for its balloon has to run to give it, and its vCPU may wait for a frame: a few each period let it go on.
 */
static bool take_ration(struct gspace *gs)
{
	u32 left = __atomic_load_n(&gs->ration, __ATOMIC_RELAXED);

	while (left)
		if (__atomic_compare_exchange_n(&gs->ration, &left, left - 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
	return false;
}

static bool may_alloc_low(struct gspace *gs, u32 held)
{
	u32 low = reclaim.threshold[RECLAIM_LOW], reserve = frame_reserve();

	if (held < gs->alloc.reservation)
		return true;
	if (held < READ_ONCE(gs->target) && frame_free_at_least((u64)reserve + (low - reserve) / 2 + 1))
		return true;
	return take_ration(gs);
}

static bool is_low(void)
{
	return READ_ONCE(reclaim.state) == RECLAIM_LOW || !frame_free_at_least(reclaim.threshold[RECLAIM_LOW]);
}

static __attribute__((noinline)) bool may_alloc(struct gspace *gs, u32 held)
{
	/* A VM without a limit may hold more than its size: all of its pages but one, and a frame with the one compressed. */
	if ((held < cap_of(gs) || !has_limit(gs)) && (!is_low() || may_alloc_low(gs, held)))
		return true;
	__atomic_store_n(&reclaim.waiting, 1, __ATOMIC_RELEASE);
	return false;
}

/* Each fault asks: what is plainly well does not look closer. */
bool reclaim_may_alloc(struct gspace *gs)
{
	u32 held = gspace_consumed(gs);

	if (likely(held < cap_of(gs) && READ_ONCE(reclaim.state) != RECLAIM_LOW &&
		   frame_listed_count() >= reclaim.threshold[RECLAIM_LOW]))
		return true;
	return may_alloc(gs, held);
}

bool reclaim_may_keep(struct gspace *gs)
{
	u32 held = gspace_consumed(gs); /* with the page in question */

	if ((held <= cap_of(gs) || !has_limit(gs)) &&
	    (!is_low() || held <= MAX(gs->alloc.reservation, READ_ONCE(gs->target)) || take_ration(gs)))
		return true;
	__atomic_store_n(&reclaim.waiting, 1, __ATOMIC_RELEASE);
	return false;
}

void reclaim_memory_returned(void)
{
	bool waited;

	if (!frame_free_at_least((u64)frame_reserve() + 1))
		return;
	lock_acquire(&reclaim.lock);
	waited = somebody_waited();
	lock_release(&reclaim.lock);
	if (!waited)
		return;
	/* Those above their target in state low will be refused again; the flag they set then keeps the periodic wake
	 * going. */
	mm_wake(NULL);
}

void reclaim_set_manual(struct gspace *gs, u32 pages)
{
	lock_acquire(&reclaim.lock);
	gs->balloon_manual = pages;
	if (pages != GFN_NONE && READ_ONCE(gs->balloon_present))
		balloon_set_target(gs, manual_target(gs));
	lock_release(&reclaim.lock);
}

enum reclaim_state reclaim_state_now(void)
{
	return READ_ONCE(reclaim.state);
}

void reclaim_stats(struct reclaim_stats *out)
{
	lock_acquire(&reclaim.lock);
	*out = (struct reclaim_stats){.state = reclaim.state,
				      .free = frame_free_count(),
				      .min_free = reclaim.min_free,
				      .state_since_ns = reclaim.state_since_ns,
				      .tax = reclaim.tax,
				      .ballooned = ballooned_pages()};
	str_copy(out->cause, reclaim.cause, sizeof(out->cause));
	for (u32 i = 0; i < RECLAIM_STATES; i++) {
		out->threshold[i] = reclaim.threshold[i];
		out->transitions[i] = reclaim.transitions[i];
	}
	for (u32 i = 0; i < reclaim.spaces; i++)
		out->ballooned_target += reclaim.space[i]->balloon_target;
	lock_release(&reclaim.lock);
}
