/* Random bits at boot, from whatever there is: time stamps, RDRAND, and what a loader adds. */
#ifndef BOOT_ENTROPY_H
#define BOOT_ENTROPY_H

#include "lib/types.h"

/* A word that mixes `seed` (any value, 0 too) with the processor's time stamp and its random numbers, if it has them.
 */
u64 entropy_word(u64 seed);

#endif
