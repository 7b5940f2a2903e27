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
 * What sharing saves of a VM's pages is given back too, for it would be of use to nobody else: in high a balloon falls
 * until the guest, with as many of its pages shared as now, would come to its target. Pages that it gets and has not
 * touched yet are not among those, so the fall does not run ahead of what it does to free memory. If it writes to its
 * shared pages it holds more than its target; only if that makes memory short (soft) the balloon rises again, by just
 * that.
 *
 * A VM with Dynamic Memory (dynmem.h) takes part as a VM of the size that it wants just now. Of that its target is what
 * its shares buy; its balloon and what it is offered follow the target, down in steps, up at once as far as free memory
 * is above the goal.
 *
 * A limit that is set below what a VM holds comes into force in steps. Until then its guest goes on, so that its
 * balloon driver can run; the balloon is asked for all of it at once, and swap takes only what it leaves of a step.
 * Where neither keeps up with the steps the guest has rations, fewer than are taken meanwhile.
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
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim_internal.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/wss.h"

#define SOFT_PCT       64U
#define HARD_PCT       32U
#define LOW_PCT        16U
#define HYSTERESIS_PCT 8U
#define PERIOD_MS      250U
#define GOAL_PCT       112U /* of minFree: what targets leave free */
#define RESERVE_MIN    64U  /* frames */
#define THRESHOLD_GAP  64U  /* frames, on very small machines */

static const u32 share_budget[RECLAIM_STATES] = {32, 32, 32, 32, 8};
#define SHARE_BUDGET_PLENTY 4U /* more than 4 times minFree */
#define PLENTY              4U /* times minFree, above which large pages are given: below 400 % ESX breaks them */
/* times minFree, above which pages are given that nobody has asked for yet: targets leave free 1.12 times */
#define SPARE           2U
#define REBUILD_REGIONS 64U /* looked at in a period, all VMs */

struct reclaim reclaim = {.lock = LOCK_INIT("reclaim", LOCK_RANK_RECLAIM), .tax = POLICY_TAX_DEFAULT};

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
	reclaim.waiting = reclaim.at_limit = 0;
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
	gs->limit_now = gs->alloc.limit;
	gs->limit_ration = 0;
	gs->limit_least = ~0U;
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
	return READ_ONCE(reclaim.state) == RECLAIM_HIGH &&
	       frame_listed_count() >= (u64)SPARE * reclaim.min_free + pages &&
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
		reclaim_balance(now_ns);
	free = frame_free_count();
	/* Who is at its limit waits for nobody else, so not for the period either. */
	if (__atomic_exchange_n(&reclaim.at_limit, 0, __ATOMIC_ACQ_REL) || period || reclaim.state == RECLAIM_LOW)
		reclaim.taken += reclaim_take(now_ns, !period && reclaim.state != RECLAIM_LOW);
	if (period) {
		reclaim_lower_limits();
		watch_working_sets();
		rebuild_large();
	}
	/*
	 * What was compressed or shared is free at once; what is written to swap comes free later
	 * (reclaim_memory_returned).
	 */
	if (period || frame_free_count() > MAX(free, frame_reserve()))
		waited = reclaim_somebody_waited();
	if (period)
		reclaim_watch(now_ns);
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
		return !frame_free_at_least(reclaim.threshold[s + 1]) || READ_ONCE(reclaim.at_limit) ||
		       (reclaim.spaces && large_change());
	return frame_free_at_least(leave_at(s)) ||
	       (READ_ONCE(reclaim.swap_wanted) && (READ_ONCE(reclaim.swap_took) || swap_can_out()));
}

bool reclaim_at_limit(void)
{
	return READ_ONCE(reclaim.at_limit);
}

bool reclaim_pressure(void)
{
	enum reclaim_state s = READ_ONCE(reclaim.state);

	if (likely(s != RECLAIM_LOW && frame_listed_count() >= reclaim.threshold[s + 1] &&
		   !READ_ONCE(reclaim.at_limit) && !large_change()))
		return false;
	return pressure(s);
}

/*
 * The last frames above the allocator's reserve, in state low: what a reservation promises, and rations. A guest that
 * is asked for its balloon has to run to give it, and its vCPU may wait for a frame: a few each period let it go on.
 */
static bool take_ration(u32 *ration)
{
	u32 left = __atomic_load_n(ration, __ATOMIC_RELAXED);

	while (left)
		if (__atomic_compare_exchange_n(ration, &left, left - 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
	return false;
}

/*
 * A VM without a limit may hold more than its size: all of its pages but one, and a frame with the one compressed. Far
 * above a limit that came down faster than its pages went, it has rations, but not for more than a little beyond the
 * least it held.
 */
static bool within_limit(struct gspace *gs, u32 held)
{
	u32 least = READ_ONCE(gs->limit_least);

	if (held < limit_of(gs) || !has_limit(gs))
		return true;
	return least != ~0U && held < least + RECLAIM_LIMIT_ROOM &&
	       excess(held, gs->alloc.limit) > RECLAIM_LIMIT_ROOM && take_ration(&gs->limit_ration);
}

static bool may_alloc_low(struct gspace *gs, u32 held)
{
	u32 low = reclaim.threshold[RECLAIM_LOW], reserve = frame_reserve();

	if (held < gs->alloc.reservation)
		return true;
	if (held < READ_ONCE(gs->target) && frame_free_at_least((u64)reserve + (low - reserve) / 2 + 1))
		return true;
	return take_ration(&gs->ration);
}

static bool is_low(void)
{
	return READ_ONCE(reclaim.state) == RECLAIM_LOW || !frame_free_at_least(reclaim.threshold[RECLAIM_LOW]);
}

static __attribute__((noinline)) bool may_alloc(struct gspace *gs, u32 held)
{
	/* Asked for in time, the room is there when it is needed. */
	if (has_limit(gs) && held + reclaim_limit_room(gs) / 2 >= limit_of(gs))
		__atomic_store_n(&reclaim.at_limit, 1, __ATOMIC_RELEASE);
	if (within_limit(gs, held) && (!is_low() || may_alloc_low(gs, held)))
		return true;
	__atomic_store_n(&reclaim.waiting, 1, __ATOMIC_RELEASE);
	return false;
}

/* Each fault asks: what is plainly well does not look closer. */
bool reclaim_may_alloc(struct gspace *gs)
{
	u32 held = gspace_consumed(gs);

	if (likely(held + RECLAIM_LIMIT_ROOM / 2 < limit_of(gs) && READ_ONCE(reclaim.state) != RECLAIM_LOW &&
		   frame_listed_count() >= reclaim.threshold[RECLAIM_LOW]))
		return true;
	return may_alloc(gs, held);
}

bool reclaim_may_keep(struct gspace *gs)
{
	u32 held = gspace_consumed(gs); /* with the page in question */

	if ((held == limit_of(gs) || within_limit(gs, held)) &&
	    (!is_low() || held <= MAX(gs->alloc.reservation, READ_ONCE(gs->target)) || take_ration(&gs->ration)))
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
	waited = reclaim_somebody_waited();
	lock_release(&reclaim.lock);
	if (!waited)
		return;
	/* Those above their target in state low will be refused again; the flag they set then keeps the periodic wake
	 * going. */
	mm_wake(NULL);
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
				      .ballooned = reclaim_ballooned()};
	str_copy(out->cause, reclaim.cause, sizeof(out->cause));
	for (u32 i = 0; i < RECLAIM_STATES; i++) {
		out->threshold[i] = reclaim.threshold[i];
		out->transitions[i] = reclaim.transitions[i];
	}
	for (u32 i = 0; i < reclaim.spaces; i++)
		out->ballooned_target += reclaim.space[i]->balloon_target;
	lock_release(&reclaim.lock);
}
