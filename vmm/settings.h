/*
 * The host's settings: from [host] of the configuration at boot, from the console's `set` later. What is
 * in force is kept here. Changed by the boot CPU and the console only; read by anybody.
 */
#ifndef VMM_SETTINGS_H
#define VMM_SETTINGS_H

#include "vmm/config.h"

#define SETTINGS_SHARE_RATE    8192U /* pages a second, host: a pass over 1 GiB takes half a minute */
#define SETTINGS_SHARE_VM_PART 4U    /* one VM gets at most this part of it */

/* Puts what is given (not 0) in h into force. After reclaim_init(), which min-free may be handed to as well. */
void settings_apply(const struct host_config *h);
/* In force; a field nobody set holds its default, min_free_pages 0 for the sliding scale. */
const struct host_config *settings_get(void);
u32 settings_number(enum number n);
u32 settings_balloon_rate(const struct vm_config *c); /* its own, or the host's */

#endif
