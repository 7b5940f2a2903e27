/* What a guest sees of the processor. */
#ifndef VMM_CPUID_H
#define VMM_CPUID_H

#include "lib/types.h"

struct vcpu;
struct cpuid_regs {
	u32 eax, ebx, ecx, edx;
};

void cpuid_guest(const struct vcpu *v, u32 leaf, u32 subleaf, struct cpuid_regs *out);

#endif
