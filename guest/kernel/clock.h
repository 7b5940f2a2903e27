/*
 * The VM's clock from the shared page: nanoseconds since the VM started, derived from the TSC. Before the contract
 * exists the TSC rate of struct aero_start is used.
 */
#ifndef GUEST_CLOCK_H
#define GUEST_CLOCK_H

#include "guest/abi/aerostat.h"
#include "lib/types.h"

struct clock {
	const struct aero_info *info; /* NULL before HELLO */
	u64 start_tsc, tsc_khz;
	u64 last_ns; /* for one vCPU the clock never steps back */
};

void clock_init(struct clock *c, u64 tsc_khz);                    /* before the contract */
void clock_attach(struct clock *c, const struct aero_info *info); /* from here on by the shared page */
u64 clock_ns(struct clock *c);                                    /* since the VM started */

/* a * b / c without overflow on the way; the quotient must fit. */
static inline u64 mul_div(u64 a, u64 b, u64 c)
{
	u64 high, low;

	__asm__("mulq %3\n\tdivq %4" : "=&d"(high), "=&a"(low) : "1"(a), "r"(b), "r"(c) : "cc");
	return low;
}

#endif
