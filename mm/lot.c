/* See lot.h. */
#include "mm/lot.h"

#include "lib/panic.h"
#include "lib/prng.h"
#include "mm/frame.h"

static u32 lot_order(void)
{
	struct frame_stats f;

	frame_stats(&f);
	return 31 - (u32)__builtin_clz((u32)CLAMP(f.total / LOT_RAM_PART, (u64)LOT_MIN, (u64)LOT_MAX));
}

u32 lot_size(void)
{
	return 1U << lot_order();
}

u32 lot_frames(void)
{
	return lot_size() + lot_size() / LOT_LEAST_PART;
}

/* Singly, up to what a draw needs. */
static void fill_least(struct lot *l)
{
	/* a failure would count as a guest's */
	while (l->count < l->size / LOT_LEAST_PART && frame_free_count() > frame_reserve()) {
		hfn_t hfn = frame_alloc(0, FRAME_FOR_GUEST, FRAME_HV, false);

		if (hfn == HFN_NONE)
			return;
		l->frame[l->count++] = hfn;
	}
}

void lot_fill(struct lot *l, struct prng *rnd)
{
	hfn_t hfn;

	if (!l->size)
		l->size = lot_size();
	if (l->count >= l->size / LOT_LEAST_PART)
		return;
	hfn = frame_alloc_random((u32)__builtin_ctz(l->size), FRAME_HV, rnd);
	if (hfn == HFN_NONE)
		fill_least(l);
	else
		for (u32 i = 0; i < l->size; i++)
			l->frame[l->count++] = hfn + i;
}

hfn_t lot_draw(struct lot *l, struct prng *rnd)
{
	hfn_t hfn;
	u32 i;

	if (!l->count || l->count < l->size / LOT_LEAST_PART)
		return HFN_NONE;
	i = (u32)prng_below(rnd, l->count);
	hfn = l->frame[i];
	l->frame[i] = l->frame[--l->count];
	return hfn;
}

void lot_return(struct lot *l, hfn_t hfn)
{
	CHECK(l->count < ARRAY_SIZE(l->frame) && frame_get(hfn)->state == FRAME_HV);
	l->frame[l->count++] = hfn;
}

void lot_release(struct lot *l)
{
	while (l->count)
		frame_free(l->frame[--l->count], 0);
}
