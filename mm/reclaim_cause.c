/* Why the state of reclaim changed. See reclaim_cause.h. */
#include "mm/reclaim_cause.h"

#include "lib/format.h"
#include "lib/string.h"
#include "mm/gspace.h"

static struct {
	u64 count[PAGE_STATES]; /* of the host, at the mark */
	u64 ended;		/* pages that ended spaces held */
	char ended_name[16];	/* the largest of them */
	u32 ended_most;
	bool thresholds;
} mark;

void cause_note_end(const struct gspace *gs)
{
	u32 held = gspace_consumed(gs);

	mark.ended += held;
	if (held < mark.ended_most)
		return;
	mark.ended_most = held;
	str_copy(mark.ended_name, gs->name, sizeof(mark.ended_name));
}

void cause_note_thresholds(void)
{
	mark.thresholds = true;
}

static void find_grown(struct gspace *const *space, u32 n, char *buf)
{
	const struct gspace *most = NULL;
	char size[FORMAT_SIZE_BYTES];
	u32 by = 0;

	for (u32 i = 0; i < n; i++) {
		u32 held = gspace_consumed(space[i]);

		if (held > space[i]->held_mark && held - space[i]->held_mark > by) {
			most = space[i];
			by = held - most->held_mark;
		}
	}
	if (most)
		format_buf(buf, CAUSE_BYTES, "%s grew by %s", most->name, format_size(size, (u64)by << PAGE_SHIFT));
	else
		str_copy(buf, "the hypervisor's own use", CAUSE_BYTES);
}

static u64 since(const u64 *now, enum page_state s)
{
	return now[s] > mark.count[s] ? now[s] - mark.count[s] : 0;
}

/* Which tier took most since the mark. */
static void find_freed(char *buf)
{
	u64 now[PAGE_STATES];
	char size[FORMAT_SIZE_BYTES];
	const char *who[] = {"balloons took", "compression took", "swap took", "sharing saved", mark.ended_name};
	u64 by[ARRAY_SIZE(who)];
	u32 best = 0;

	gspace_host_counts(now);
	by[0] = since(now, PAGE_BALLOONED);
	by[1] = since(now, PAGE_COMPRESSED);
	by[2] = since(now, PAGE_SWAPPED);
	by[3] = since(now, PAGE_SHARED) + since(now, PAGE_ZERO);
	by[4] = mark.ended;
	for (u32 i = 1; i < ARRAY_SIZE(who); i++)
		if (by[i] > by[best])
			best = i;
	if (!by[best])
		str_copy(buf, "guests let go", CAUSE_BYTES);
	else
		format_buf(buf, CAUSE_BYTES, "%s%s %s", who[best], best == 4 ? " ended with" : "",
			   format_size(size, by[best] << PAGE_SHIFT));
}

void cause_find(struct gspace *const *space, u32 n, bool worse, char buf[CAUSE_BYTES])
{
	if (mark.thresholds)
		str_copy(buf, "min-free was set", CAUSE_BYTES);
	else if (worse)
		find_grown(space, n, buf);
	else
		find_freed(buf);
}

void cause_mark(struct gspace *const *space, u32 n)
{
	for (u32 i = 0; i < n; i++)
		space[i]->held_mark = gspace_consumed(space[i]);
	gspace_host_counts(mark.count);
	mark.ended = mark.ended_most = 0;
	mark.thresholds = false;
}
