/* See entropy.h. */
#include "boot/entropy.h"
#include "arch/x86/asm.h"

#define CPUID_1_ECX_RDRAND BIT(30)

/* SplitMix64's finaliser: spreads the few good bits of the time stamps. */
static u64 mix(u64 x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9UL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebUL;
	return x ^ x >> 31;
}

static u64 cpu_random(void)
{
	u64 v = 0;

	if (cpuid(1, 0).ecx & CPUID_1_ECX_RDRAND)
		__asm__ volatile("rdrand %0" : "+r"(v) : : "cc"); /* a failure leaves 0: one source of several */
	return v;
}

u64 entropy_word(u64 seed)
{
	return mix(seed ^ mix(cpu_random() + mix(rdtsc())));
}
