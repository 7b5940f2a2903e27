/*
 * The clock: TSC, its rate measured against the ACPI power management timer (3.579545 MHz), or against PIT channel 2
 * where there is none. cpu_now_ns() is 0 at time_init(); before it, it stays 0. All written once at boot.
 */
#include "arch/x86/time.h"
#include "arch/x86/asm.h"
#include "arch/x86/cpu.h"
#include "arch/x86/machine.h"
#include "lib/log.h"
#include "lib/panic.h"

#define PM_TIMER_HZ    3579545UL
#define PIT_HZ         1193182UL
#define PIT_CHANNEL2   0x42
#define PIT_COMMAND    0x43
#define PIT_CH2_MODE0  0xb0 /* channel 2, low then high byte, interrupt on terminal count */
#define PORT_B         0x61
#define PORT_B_GATE2   0x01
#define PORT_B_SPEAKER 0x02
#define PORT_B_OUT2    0x20
#define MEASURE_MS     5UL /* 18,000 ticks of the PM timer: 0.01 % with its edges */
#define ROUNDS         3
#define SPINS_MAX      20000000UL /* a dead timer ends the wait */
#define TSC_KHZ_MIN    1000UL

static u64 tsc_base, tsc_khz, tsc_entry;
static u64 ns_mult;  /* nanoseconds a tick, 32.32 fixed point */
static u64 tsc_mult; /* ticks a nanosecond, 32.32 */

static u32 pm_mask(void)
{
	return machine.pm_timer_32 ? ~0U : 0xffffffU;
}

static u32 pm_read(void)
{
	return inl(machine.pm_timer_port) & pm_mask();
}

/* One measurement in kHz; 0 if the timer stands still. */
static u64 measure_pm(void)
{
	u64 want = PM_TIMER_HZ * MEASURE_MS / 1000, spins = 0, t0, t1;
	u32 start = pm_read(), ticks, first = start;

	while (start == first && ++spins < SPINS_MAX) /* begin at an edge */
		start = pm_read();
	t0 = rdtsc();
	do
		ticks = (pm_read() - start) & pm_mask();
	while (ticks < want && ++spins < SPINS_MAX);
	t1 = rdtsc();
	if (ticks < want)
		return 0;
	return (t1 - t0) * PM_TIMER_HZ / 1000 / ticks;
}

static u64 measure_pit(void)
{
	u16 count = PIT_HZ * MEASURE_MS / 1000;
	u64 spins = 0, t0, t1;
	u8 old = inb(PORT_B);

	outb(PORT_B, (old & ~PORT_B_SPEAKER) | PORT_B_GATE2);
	outb(PIT_COMMAND, PIT_CH2_MODE0);
	outb(PIT_CHANNEL2, count & 0xff);
	outb(PIT_CHANNEL2, count >> 8);
	t0 = rdtsc();
	while (!(inb(PORT_B) & PORT_B_OUT2) && ++spins < SPINS_MAX)
		;
	t1 = rdtsc();
	outb(PORT_B, old);
	return spins == SPINS_MAX ? 0 : (t1 - t0) / MEASURE_MS;
}

/* The median of three: one disturbance (an SMI, a preempted emulator) does no harm. */
static u64 median(u64 (*measure)(void))
{
	u64 v[ROUNDS];

	for (u32 i = 0; i < ROUNDS; i++)
		v[i] = measure();
	return MAX(MIN(v[0], v[1]), MIN(MAX(v[0], v[1]), v[2]));
}

void time_mark_entry(void)
{
	tsc_entry = rdtsc();
}

u64 cpu_ticks_since_entry(void)
{
	return rdtsc() - tsc_entry;
}

void time_init(void)
{
	const char *source = "ACPI PM timer";
	u64 khz = machine.pm_timer_port ? median(measure_pm) : 0;

	if (khz < TSC_KHZ_MIN) {
		source = "PIT";
		khz = median(measure_pit);
	}
	if (khz < TSC_KHZ_MIN)
		panic("no usable clock: neither the PM timer nor the PIT runs");
	tsc_base = rdtsc();
	ns_mult = (1000000UL << 32) / khz;
	tsc_mult = (khz << 32) / 1000000;
	tsc_khz = khz;
	log_info("time", "TSC %lu kHz, measured with the %s", khz, source);
}

u64 cpu_now_ns(void)
{
	return (u64)((unsigned __int128)(rdtsc() - tsc_base) * ns_mult >> 32); /* before time_init() ns_mult is 0 */
}

u64 cpu_tsc_khz(void)
{
	return tsc_khz;
}

u64 time_ns_to_tsc(u64 ns)
{
	return tsc_base + (u64)((unsigned __int128)ns * tsc_mult >> 32) + 1;
}

/* Before the clock runs an access to an unused port has to do: about a microsecond each. */
void cpu_delay_us(u64 us)
{
	u64 end = cpu_now_ns() + us * NSEC_PER_USEC;

	if (!tsc_khz) {
		for (; us; us--)
			outb(0x80, 0);
		return;
	}
	while (cpu_now_ns() < end)
		__asm__ volatile("pause");
}
