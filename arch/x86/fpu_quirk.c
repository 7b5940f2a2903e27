/* See fpu_quirk.h. */
#include "arch/x86/fpu_quirk.h"

#include "arch/x86/asm.h"
#include "lib/string.h"

#define CPUID_1_ECX_HYPERVISOR BIT(31)
#define CPUID_HYPERVISOR       0x40000000U
#define TCG_SIGNATURE          "TCGTCGTCGTCG"
#define FXSAVE_BYTES           512
#define X87_CONTROL_BYTES      24 /* of the FXSAVE area: control, status and tag words, last instruction */
#define X87_REGISTERS          32 /* eight of 16 bytes */
#define X87_REGISTERS_BYTES    128

static bool needed; /* by all CPUs of the machine, or none */

void fpu_quirk_init(void)
{
	struct cpuid_result r;

	if (!(cpuid(1, 0).ecx & CPUID_1_ECX_HYPERVISOR))
		return;
	r = cpuid(CPUID_HYPERVISOR, 0);
	needed = !memcmp((u32[]){r.ebx, r.ecx, r.edx}, TCG_SIGNATURE, 12);
}

static bool x87_holds(const u8 *fxsave)
{
	u8 now[FXSAVE_BYTES] aligned(16) = {0}; /* FXSAVE leaves gaps */

	__asm__ volatile("fxsave64 %0" : "+m"(now));
	return !memcmp(now, fxsave, X87_CONTROL_BYTES) &&
	       !memcmp(now + X87_REGISTERS, fxsave + X87_REGISTERS, X87_REGISTERS_BYTES);
}

static void load_sse(const u8 *fxsave)
{
	__asm__ volatile("ldmxcsr 24(%0)\n\t"
			 "movaps 160(%0), %%xmm0\n\t"
			 "movaps 176(%0), %%xmm1\n\t"
			 "movaps 192(%0), %%xmm2\n\t"
			 "movaps 208(%0), %%xmm3\n\t"
			 "movaps 224(%0), %%xmm4\n\t"
			 "movaps 240(%0), %%xmm5\n\t"
			 "movaps 256(%0), %%xmm6\n\t"
			 "movaps 272(%0), %%xmm7\n\t"
			 "movaps 288(%0), %%xmm8\n\t"
			 "movaps 304(%0), %%xmm9\n\t"
			 "movaps 320(%0), %%xmm10\n\t"
			 "movaps 336(%0), %%xmm11\n\t"
			 "movaps 352(%0), %%xmm12\n\t"
			 "movaps 368(%0), %%xmm13\n\t"
			 "movaps 384(%0), %%xmm14\n\t"
			 "movaps 400(%0), %%xmm15"
			 :
			 : "r"(fxsave)
			 : "memory");
}

bool fpu_quirk_restore(const u8 *fxsave)
{
	if (!needed || !x87_holds(fxsave))
		return false;
	load_sse(fxsave);
	return true;
}
