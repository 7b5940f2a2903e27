/* What boot/main.c needs of the VMM. */
#ifndef VMM_VMM_H
#define VMM_VMM_H

#include "lib/types.h"

struct boot_info;

/*
 * On the boot CPU, with memory, clock, interrupts and disks working: takes the modules over, finds the
 * virtualisation hardware (halts with the name of what is missing), starts reclaim, console and
 * the other CPUs (up to `cpus` in all) and the configured VMs, and becomes the CPU loop.
 */
_Noreturn void vmm_start(const struct boot_info *bi, u32 cpus);

#endif
