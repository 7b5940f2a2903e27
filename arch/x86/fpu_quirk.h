/*
 * FXRSTOR in QEMU's own emulation (TCG) with several processors.
 *
 * Every FXRSTOR, FLDENV, FRSTOR or XRSTOR of x87 state there ends the IGNNE# signal of the FIRST processor: whichever
 * processor executes it reads, changes and writes back a word of the first one's state (cpu_clear_ignne()), without a
 * lock while the other goes on. The same word says whether that one is in a guest with nested paging, and holds its
 * GIF. Where the two meet, the first processor runs a guest without nested paging, which ends in a triple fault of the
 * guest, or the hypervisor with it or with GIF set where it should be clear, which ends the machine. In QEMU 7.2 and
 * still in 9.
 *
 * So under that emulation FXRSTOR is left out wherever the x87 registers hold already what they are to hold, which is
 * always with guests that use SSE only, or neither: the XMM registers are loaded one by one. A guest that itself
 * executes one of these instructions on a second processor of such a QEMU still endangers the machine.
 */
#ifndef ARCH_X86_FPU_QUIRK_H
#define ARCH_X86_FPU_QUIRK_H

#include "lib/types.h"

/* On each CPU, before the first fpu_quirk_restore(). */
void fpu_quirk_init(void);
/* True: the registers are as in this FXSAVE area (16-byte aligned). False: FXRSTOR is wanted. */
bool fpu_quirk_restore(const u8 *fxsave);

#endif
