/* See lot.h. */
#include "mm/lot.h"

#include "lib/panic.h"
#include "lib/prng.h"
#include "mm/frame.h"

u32 lot_size(void)
{
	struct frame_stats f;

	frame_stats(&f);
	return (u32)CLAMP(f.total / LOT_RAM_PART, (u64)LOT_MIN, (u64)LOT_MAX);
}

void lot_fill(struct lot *l)
{
	if (!l->size)
		l->size = lot_size();
	while (l->count < l->size && frame_free_count() > frame_reserve()) { /* a failure would count as a guest's */
		hfn_t hfn = frame_alloc(0, FRAME_FOR_GUEST, FRAME_HV, false);

		if (hfn == HFN_NONE)
			return;
		l->frame[l->count++] = hfn;
	}
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
	CHECK(l->count < LOT_MAX && frame_get(hfn)->state == FRAME_HV);
	l->frame[l->count++] = hfn;
}

void lot_release(struct lot *l)
{
	while (l->count)
		frame_free(l->frame[--l->count], 0);
}
