/*
 * Memory that the host adds while the guest runs: it offers more in the shared page (growth.offered), the kernel maps
 * it, takes it on line by MEMORY_ONLINE and gives it to the page allocator. It never goes back as a range; page by page
 * it is the balloon's.
 *
 * The page states of all memory there may ever be are at their place from the start, so what the kernel can take is
 * bounded by what its first memory can hold of them (grow_max).
 *
 * Locking: the kernel lock.
 */
#ifndef GUEST_GROW_H
#define GUEST_GROW_H

#include "lib/types.h"

struct kernel;

/*
 * Pages of RAM to keep states for: what the VM may have, as far as a sixteenth of its first memory holds their states.
 */
u32 grow_max(u64 memory_bytes, u64 memory_max);
/* Takes on line what is offered. Returns pages taken. */
u32 grow_step(struct kernel *k);

#endif
