/* See clock.h. */
#include "guest/kernel/clock.h"
#include "guest/kernel/arch.h"

void clock_init(struct clock *c, u64 tsc_khz)
{
	*c = (struct clock){.start_tsc = arch_tsc(), .tsc_khz = tsc_khz ? tsc_khz : 1000000};
}

void clock_attach(struct clock *c, const struct aero_info *info)
{
	c->info = info;
}

/* The host makes version odd while it changes the parameters: a torn set is read again. */
static u64 paravirtual_ns(const struct aero_info *info)
{
	u64 base_tsc, base_ns, mult, tsc;
	u32 version, shift;

	do {
		version = __atomic_load_n(&info->clock.version, __ATOMIC_ACQUIRE) & ~1u;
		base_tsc = READ_ONCE(info->clock.base_tsc);
		base_ns = READ_ONCE(info->clock.base_ns);
		mult = READ_ONCE(info->clock.mult);
		shift = READ_ONCE(info->clock.shift);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (version != READ_ONCE(info->clock.version));
	tsc = arch_tsc();
	if (tsc < base_tsc)
		return base_ns;
	return base_ns + (u64)(((unsigned __int128)(tsc - base_tsc) * mult) >> (shift & 127));
}

u64 clock_ns(struct clock *c)
{
	u64 ns, last;

	if (c->info)
		ns = paravirtual_ns(c->info);
	else
		ns = mul_div(arch_tsc() - c->start_tsc, 1000000, c->tsc_khz);
	/* Two vCPUs may write it at once: either is a time that has been. */
	last = READ_ONCE(c->last_ns);
	if (ns <= last)
		return last;
	WRITE_ONCE(c->last_ns, ns);
	return ns;
}
