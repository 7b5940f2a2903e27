/*
 * Frames that are drawn by lot: who is given one cannot have chosen it. A page that comes to be shared moves to such a
 * frame, or a guest that knows a bit of a certain frame to flip easily (Rowhammer) could offer that frame for sharing,
 * and with it a page of another guest (Razavi et al.: "Flip Feng Shui", USENIX Security '16; Oliverio et al.: "VUsion",
 * SOSP '17).
 *
 * They come as a block from a random place among those that are free, and the next block not before most of them are
 * gone: what a VM gives back is nearer to the next allocation than anything else, and who gives back enough would have
 * all of the lot to itself. Only where memory is so short that there is no such block, a quarter of the lot is filled
 * with what there is.
 *
 * Frames wait here in state HV, and are given out so; what they hold is undefined. Locking: the owner's.
 */
#ifndef MM_LOT_H
#define MM_LOT_H

#include "lib/types.h"

struct prng;

#define LOT_MAX        256U
#define LOT_MIN        16U
#define LOT_RAM_PART   512U /* one frame for so many of the machine's */
#define LOT_LEAST_PART 4U   /* of a full one: with fewer to choose from there is no draw */

struct lot {
	u32 size; /* of a full one; 0: not worked out yet */
	u32 count;
	hfn_t frame[LOT_MAX + LOT_MAX / LOT_LEAST_PART];
};

u32 lot_size(void);   /* frames of a full one, on this machine: a power of two */
u32 lot_frames(void); /* that it has at most */
/* As far as there are frames for guests. */
void lot_fill(struct lot *l, struct prng *rnd);
hfn_t lot_draw(struct lot *l, struct prng *rnd) must_check; /* HFN_NONE: too few */
void lot_return(struct lot *l, hfn_t hfn);                  /* drawn, and not used */
void lot_release(struct lot *l);

#endif
