/* xoshiro256** (Blackman, Vigna): random victims and scan order. Not for secrets beyond hash keys. */
#ifndef LIB_PRNG_H
#define LIB_PRNG_H

#include "lib/types.h"

struct prng {
	u64 s[4];
};

void prng_seed(struct prng *p, u64 seed); /* any seed, 0 too */
u64 prng_next(struct prng *p);
u64 prng_below(struct prng *p, u64 bound); /* uniform in [0, bound), bound > 0 */

#endif
