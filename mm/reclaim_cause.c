/* Why the state of reclaim changed. See reclaim_cause.h. */
#include "mm/reclaim_cause.h"

#include "lib/format.h"
#include "lib/string.h"
#include "mm/gspace.h"

#define WINDOW_NS (20 * NSEC_PER_SEC)

/* Where everything stood at some time, and what has ended since. gs->held_mark, by the same index, is of that time. */
static struct mark {
	u64 ns;
	u64 count[PAGE_STATES]; /* of the host */
	u64 ended;              /* pages that ended spaces held */
	char ended_name[16];    /* the largest of them */
	u32 ended_most;
	bool thresholds; /* were set since */
} marks[CAUSE_MARKS];

static void set_mark(u32 i, struct gspace *const *space, u32 n, u64 now)
{
	struct mark *m = &marks[i];

	*m = (struct mark){.ns = now};
	gspace_host_counts(m->count);
	for (u32 k = 0; k < n; k++)
		space[k]->held_mark[i] = gspace_consumed(space[k]);
}

static void note_end(struct mark *m, const struct gspace *gs, u32 held)
{
	m->ended += held;
	if (held < m->ended_most)
		return;
	m->ended_most = held;
	str_copy(m->ended_name, gs->name, sizeof(m->ended_name));
}

void cause_note_end(const struct gspace *gs)
{
	for (u32 i = 0; i < CAUSE_MARKS; i++)
		note_end(&marks[i], gs, gspace_consumed(gs));
}

void cause_note_thresholds(void)
{
	for (u32 i = 0; i < CAUSE_MARKS; i++)
		marks[i].thresholds = true;
}

static void find_grown(struct gspace *const *space, u32 n, char *buf)
{
	const struct gspace *most = NULL;
	char size[FORMAT_SIZE_BYTES];
	u32 by = 0;

	for (u32 i = 0; i < n; i++) {
		u32 held = gspace_consumed(space[i]), then = space[i]->held_mark[0];

		if (held > then && held - then > by) {
			most = space[i];
			by = held - then;
		}
	}
	if (most)
		format_buf(buf, CAUSE_BYTES, "%s grew by %s", most->name, format_size(size, (u64)by << PAGE_SHIFT));
	else
		str_copy(buf, "the hypervisor's own use", CAUSE_BYTES);
}

static u64 since(const u64 *now, enum page_state s)
{
	return now[s] > marks[0].count[s] ? now[s] - marks[0].count[s] : 0;
}

/* Which tier took most since the mark. */
static void find_freed(char *buf)
{
	u64 now[PAGE_STATES];
	char size[FORMAT_SIZE_BYTES];
	const char *who[] = {"balloons took", "compression took", "swap took", "sharing saved", marks[0].ended_name};
	u64 by[ARRAY_SIZE(who)];
	u32 best = 0;

	gspace_host_counts(now);
	by[0] = since(now, PAGE_BALLOONED);
	by[1] = since(now, PAGE_COMPRESSED);
	by[2] = since(now, PAGE_SWAPPED);
	by[3] = since(now, PAGE_SHARED) + since(now, PAGE_ZERO);
	by[4] = marks[0].ended;
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
	if (marks[0].thresholds)
		str_copy(buf, "min-free was set", CAUSE_BYTES);
	else if (worse)
		find_grown(space, n, buf);
	else
		find_freed(buf);
}

void cause_mark(struct gspace *const *space, u32 n, u64 now)
{
	for (u32 i = 0; i < CAUSE_MARKS; i++)
		set_mark(i, space, n, now);
}

void cause_tick(struct gspace *const *space, u32 n, u64 now)
{
	if (now - marks[1].ns < WINDOW_NS)
		return;
	marks[0] = marks[1];
	for (u32 i = 0; i < n; i++)
		space[i]->held_mark[0] = space[i]->held_mark[1];
	set_mark(1, space, n, now);
}
