/* The clock's inner side, private to arch/x86. */
#ifndef ARCH_X86_TIME_H
#define ARCH_X86_TIME_H

#include "lib/types.h"

/* TSC value at which cpu_now_ns() reaches ns, or a little earlier; never 0. */
u64 time_ns_to_tsc(u64 ns);

#endif
