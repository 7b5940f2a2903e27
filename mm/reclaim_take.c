/* Reclaim: what balloons do not give is taken page by page; and who waits meanwhile. See reclaim.c. */
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim_internal.h"
#include "mm/swap.h"
#include "mm/zip.h"

#define WARN_AFTER_NS   (10 * NSEC_PER_SEC)
#define WARN_EVERY_NS   (30 * NSEC_PER_SEC)
#define DESPERATE_PAGES 32U
#define LIMIT_STEPS     64U /* periods in which a lowered limit comes down from all of a VM to nothing: 16 s */
#define LIMIT_STEP_MIN  64U /* pages */
#define LIMIT_RATION    (RECLAIM_LIMIT_ROOM / 2) /* frames a period: less than is taken for the room */

/* Bounds of one step, in pages: at 50 us a page (an emulator) some milliseconds. In low, steps follow each other at
 * once. */
static const u32 swap_budget[RECLAIM_STATES] = {128, 128, 128, 256, 128};

/* ---- swap ---------------------------------------------------------------- */

/* Pages the balloon can be trusted to give within a second. */
static u32 balloon_pending(const struct gspace *gs, u64 now)
{
	u32 size = balloon_size(gs), left = gs->balloon_target > size ? gs->balloon_target - size : 0;
	u32 periods = MAX(1000 / reclaim.cfg.period_ms, 1U), speed = gs->balloon_speed * periods;

	if (!READ_ONCE(gs->balloon_present) || gs->balloon_trouble != BALLOON_FINE || balloon_stalled(gs, now))
		return 0;
	if (now - gs->balloon_raised_ns < RECLAIM_PATIENCE_NS)
		speed = MAX(speed, gs->balloon_rate);
	return MIN(left, speed);
}

/*
 * A VM at its limit gets no frames, so swap keeps a little room below it, or the VM would stand still. With a full
 * balloon the guest cannot come to its limit, and needs none; unless frames of compressed pages count as well.
 */
u32 reclaim_limit_room(const struct gspace *gs)
{
	u32 limit = limit_of(gs);

	return (u64)limit + balloon_size(gs) >= gs->pages + gs->zip.frames ? 0 : MIN(limit / 8, RECLAIM_LIMIT_ROOM);
}

/* What swap has to take for the limit, in any state. A balloon that is on its way gets its chance first. */
static u32 limit_need(const struct gspace *gs, u32 held, u32 pending)
{
	u32 over = excess(held, limit_of(gs)), room = reclaim_limit_room(gs);

	if (!has_limit(gs))
		return 0;
	return excess(over, pending) + (over ? room : excess(held, limit_of(gs) - room));
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

/* Pages of gs that swap has to take now; only_limit: between two periods, for its limit alone. */
static u32 swap_need(const struct gspace *gs, u64 now, bool only_limit)
{
	u32 leaving = gs->count[PAGE_SWAPPING_OUT] + READ_ONCE(gs->zip.writing);
	u32 held = excess(gspace_consumed(gs), leaving), pending = balloon_pending(gs, now);

	if (gs->dying)
		return 0;
	return MAX(limit_need(gs, held, pending), only_limit ? 0 : state_need(gs, held, pending, now));
}

u32 reclaim_take(u64 now, bool only_limit)
{
	u64 total = 0;
	u32 budget = swap_budget[reclaim.state], done = 0;

	for (u32 i = 0; i < reclaim.spaces; i++)
		total += swap_need(reclaim.space[i], now, only_limit);
	WRITE_ONCE(reclaim.swap_wanted, total != 0);
	for (u32 i = 0; i < reclaim.spaces && total && done < budget; i++) {
		struct gspace *gs = reclaim.space[(reclaim.turn + i) % reclaim.spaces];
		u32 need = swap_need(gs, now, only_limit), part = (u32)((u64)budget * need / total), taken;

		if (!need || (!swap_can_out() && !zip_ready(gs) && !READ_ONCE(gs->clean_marks)))
			continue;
		taken = swap_out(gs, MIN(MIN(MAX(part, 8U), need), budget - done));
		if (only_limit && taken) /* nobody else has anything of it */
			mm_wake(gs);
		done += taken;
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
		u32 least = MAX(gs->alloc.reservation, RECLAIM_FLOOR_PAGES), held = gspace_consumed(gs);
		u32 over = held > least ? held - least : 0;

		if (over > most_over && gs->count[PAGE_PRIVATE] + gs->count[PAGE_SHARED] + zip_surplus(gs)) {
			most = gs;
			most_over = over;
		}
	}
	return most ? swap_out(most, MIN(most_over, DESPERATE_PAGES)) : 0;
}

/* ---- limits -------------------------------------------------------------- */

/*
 * However its guest behaves, after LIMIT_STEPS periods nothing but what was set is in force. If swap does not keep up,
 * the VM holds more for longer; its room comes down all the same.
 */
void reclaim_lower_limits(void)
{
	for (u32 i = 0; i < reclaim.spaces; i++) {
		struct gspace *gs = reclaim.space[i];
		u32 step = MAX(gs->pages / LIMIT_STEPS, LIMIT_STEP_MIN), held = gspace_consumed(gs);
		bool far = excess(held, gs->alloc.limit) > RECLAIM_LIMIT_ROOM;

		WRITE_ONCE(gs->limit_now, MAX(MIN(excess(limit_of(gs), step), held + step), gs->alloc.limit));
		WRITE_ONCE(gs->limit_least, far ? MIN(gs->limit_least, held) : ~0U);
		__atomic_store_n(&gs->limit_ration, far ? LIMIT_RATION : 0, __ATOMIC_RELAXED);
	}
}

/* ---- waiting and progress ------------------------------------------------ */

u64 reclaim_ballooned(void)
{
	u64 sum = 0;

	for (u32 i = 0; i < reclaim.spaces; i++)
		sum += balloon_size(reclaim.space[i]);
	return sum;
}

bool reclaim_somebody_waited(void)
{
	bool waited = __atomic_exchange_n(&reclaim.waiting, 0, __ATOMIC_ACQ_REL);
	u64 failures = frame_failures();

	waited |= failures != reclaim.failures;
	reclaim.failures = failures;
	reclaim.waited |= waited;
	return waited;
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

void reclaim_watch(u64 now)
{
	u32 free = frame_free_count();
	u64 ballooned = reclaim_ballooned();
	struct swap_stats s;

	swap_stats(&s);
	if (reclaim.state != RECLAIM_LOW || reclaim.taken || s.in_flight_out || free > reclaim.progress_free ||
	    ballooned > reclaim.progress_balloon) {
		reclaim.progress_ns = now;
		/* who waits all the same has been woken, is refused again, and seen the next time */
		reclaim.starved = false;
	} else {
		reclaim.starved |= reclaim.waited;
	}
	reclaim.progress_free = free;
	reclaim.progress_balloon = ballooned;
	reclaim.waited = false;
	reclaim.taken = 0;
	if (!reclaim.starved || now - reclaim.progress_ns < RECLAIM_PATIENCE_NS)
		return;
	swap_desperately();
	if (now - reclaim.progress_ns >= WARN_AFTER_NS)
		warn_stuck(now);
}
