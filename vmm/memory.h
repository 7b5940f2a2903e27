/* Drives mm's reclaim on this machine: a step each balance period and whenever memory runs short. */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include "lib/types.h"

struct config;

/* Before any VM: seeds sharing and swap, turns swap on where there is a partition, applies [host]. */
void memory_start(const struct config *c);
/* After a guest got frames: asks for a step soon if a threshold was crossed. */
void memory_check_pressure(void);

#endif
