/* Reclaim: whose memory, and what balloons are asked for. See reclaim.c. */
#include "lib/string.h"
#include "mm/dynmem.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim_internal.h"
#include "mm/swap.h"
#include "mm/wss.h"

#define DEFLATE_STEP_MIN 256U /* pages a period; else 1/32 of the VM */
#define RATION_FRAMES    8U   /* a VM a period */
#define FAIR_SLACK_PART  64U  /* of a VM: what it may lack or hold beyond its fair part without anything being done */

/* What a guest gets beyond the time that its rate needs. */
static const u32 deadline_slack_ms[RECLAIM_STATES] = {10000, 5000, 5000, 1000, 250};

/* ---- targets ------------------------------------------------------------- */

/* Pages that a balloon falls in one period. */
static u32 fall_step(const struct gspace *gs)
{
	return MAX(gs->pages / 32, DEFLATE_STEP_MIN);
}

/*
 * Who says so would be larger, or who has a balloon and has touched what it was given of it, all but one step: so
 * nobody gets more than it uses while another could use it. Those without a balloon are as large as they please
 * already.
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

		reclaim.vm[i] =
		    (struct policy_vm){.size = size,
				       .limit = cap,
				       .reservation = MIN(MAX(gs->alloc.reservation, RECLAIM_FLOOR_PAGES), cap),
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
 * goal is room for those with a balloon, all of it: their balloons fall until free memory is the goal. By what all
 * could want: a VM that holds less than that is entitled to grow to it, whatever the others hold now. The greater is
 * the target. An idle VM's entitlement costs the others nothing before it is used; then the first division takes from
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
 * Samples of the working set are few: differences smaller than two standard errors of their mean say nothing. So one
 * that is idle or all in use is known well, one that is half in use to a tenth.
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
 * A VM with a balloon cannot show that it could use more, since it gets no page to touch; so memory would stay with an
 * idle neighbour as long as none is short. The third division takes those at their word, by shares and idle tax.
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

/* ---- balloon ------------------------------------------------------------- */

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
	want = gs->count[PAGE_SWAPPED] + gs->count[PAGE_CLEAN] + excess(gs->count[PAGE_COMPRESSED], gs->zip.frames);
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

/*
 * What it may have in high: its target, and what sharing saves of its pages; never more than its limit and what it
 * wants.
 */
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
 * The guest took back what it was asked to give: it is short of memory. Nothing more is asked of it for a while, and
 * what it took counts as in use, so that the next division asks others.
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

/*
 * Memory to be added: of what is free above the goal, or what a reservation promises. The first of the round changes.
 */
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

void reclaim_balance(u64 now)
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

void reclaim_set_manual(struct gspace *gs, u32 pages)
{
	lock_acquire(&reclaim.lock);
	gs->balloon_manual = pages;
	if (pages != GFN_NONE && READ_ONCE(gs->balloon_present))
		balloon_set_target(gs, manual_target(gs));
	lock_release(&reclaim.lock);
}
