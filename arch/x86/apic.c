/*
 * Local APIC: xAPIC through its window, x2APIC by MSR where the processor has it; its timer,
 * in TSC-deadline mode where there is one, else one-shot with a measured rate. Each CPU touches its own.
 */
#include "arch/x86/apic.h"
#include "arch/x86/asm.h"
#include "arch/x86/cpu.h"
#include "arch/x86/time.h"
#include "arch/x86/traps.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/timer.h"

#define LAPIC_ID                 0x20
#define LAPIC_TPR                0x80
#define LAPIC_EOI                0xb0
#define LAPIC_SVR                0xf0
#define LAPIC_IRR                0x200 /* eight of 32 vectors */
#define LAPIC_ESR                0x280
#define LAPIC_ICR                0x300
#define LAPIC_ICR_HIGH           0x310
#define LAPIC_LVT_TIMER          0x320
#define LAPIC_LVT_THERMAL        0x330
#define LAPIC_LVT_PMC            0x340
#define LAPIC_LVT_LINT0          0x350
#define LAPIC_LVT_LINT1          0x360
#define LAPIC_LVT_ERROR          0x370
#define LAPIC_TIMER_INITIAL      0x380
#define LAPIC_TIMER_CURRENT      0x390
#define LAPIC_TIMER_DIVIDE       0x3e0

#define SVR_ENABLE               BIT(8)
#define LVT_MASKED               BIT(16)
#define LVT_NMI                  0x400U
#define LVT_EXTINT               0x700U
#define LVT_TSC_DEADLINE         (2U << 17)
#define TIMER_DIVIDE_1           0xbU
#define PROBE_DEADLINE_NS        (10 * NSEC_PER_MSEC)
#define PROBE_WAIT_US            100
#define ICR_PENDING              BIT(12)
#define ICR_SPINS                1000000U

#define CPUID_1_EDX_APIC         BIT(9)
#define CPUID_1_ECX_X2APIC       BIT(21)
#define CPUID_1_ECX_TSC_DEADLINE BIT(24)

volatile u8 *lapic_window; /* NULL: x2APIC */
static bool x2apic, tsc_deadline;
static u64 timer_mult; /* timer ticks a nanosecond, 32.32 fixed point; one-shot mode */

static u32 lapic_read(u32 reg)
{
	return x2apic ? (u32)rdmsr(MSR_X2APIC + reg / 16) : *(volatile u32 *)(lapic_window + reg);
}

static void lapic_write(u32 reg, u32 v)
{
	if (x2apic)
		wrmsr(MSR_X2APIC + reg / 16, v);
	else
		*(volatile u32 *)(lapic_window + reg) = v;
}

void lapic_eoi(void)
{
	lapic_write(LAPIC_EOI, 0);
}

u32 lapic_id(void)
{
	return x2apic ? lapic_read(LAPIC_ID) : lapic_read(LAPIC_ID) >> 24;
}

bool lapic_is_x2apic(void)
{
	return x2apic;
}

void lapic_set_extint(bool on)
{
	lapic_write(LAPIC_LVT_LINT0, on ? LVT_EXTINT : LVT_MASKED);
}

/*
 * x2APIC register writes are not ordered after stores (SDM "x2APIC Register Access"): what the other CPU is to see
 * comes first.
 */
void lapic_send(u32 apic_id, u32 command)
{
	if (x2apic) {
		__asm__ volatile("mfence; lfence" : : : "memory");
		wrmsr(MSR_X2APIC + LAPIC_ICR / 16, (u64)apic_id << 32 | command);
		return;
	}
	for (u32 i = 0; i < ICR_SPINS && (lapic_read(LAPIC_ICR) & ICR_PENDING); i++)
		__asm__ volatile("pause");
	lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
	lapic_write(LAPIC_ICR, command);
}

static int enable(void)
{
	struct cpuid_result r = cpuid(1, 0);
	u64 base = rdmsr(MSR_IA32_APIC_BASE);

	if (!(r.edx & CPUID_1_EDX_APIC))
		return E_NODEV;
	x2apic = (r.ecx & CPUID_1_ECX_X2APIC) != 0;
	tsc_deadline = (r.ecx & CPUID_1_ECX_TSC_DEADLINE) != 0;
	/* x2APIC may only be entered from the enabled xAPIC. */
	wrmsr(MSR_IA32_APIC_BASE, base | APIC_BASE_ENABLE);
	if (x2apic)
		wrmsr(MSR_IA32_APIC_BASE, base | APIC_BASE_ENABLE | APIC_BASE_X2APIC);
	else if (!lapic_window)
		return mmio_map(HPA(base & BITS(51, 12)), PAGE_SIZE, (volatile void **)&lapic_window);
	return 0;
}

int lapic_init(void)
{
	int err = enable();

	if (err)
		return err;
	lapic_write(LAPIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
	lapic_write(LAPIC_TPR, 0);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	lapic_write(LAPIC_LVT_THERMAL, LVT_MASKED);
	lapic_write(LAPIC_LVT_PMC, LVT_MASKED);
	lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
	lapic_write(LAPIC_LVT_LINT1, LVT_NMI);
	lapic_write(LAPIC_LVT_ERROR, VECTOR_ERROR);
	lapic_write(LAPIC_ESR, 0);
	lapic_eoi(); /* whatever the firmware left in service */
	this_cpu()->apic_id = lapic_id();
	return 0;
}

/* Counts the timer against the clock for 20 ms. */
static u64 measure_khz(void)
{
	u64 start = cpu_now_ns(), end, ticks;

	lapic_write(LAPIC_TIMER_DIVIDE, TIMER_DIVIDE_1);
	lapic_write(LAPIC_TIMER_INITIAL, ~0U);
	do
		end = cpu_now_ns();
	while (end - start < 5 * NSEC_PER_MSEC);
	ticks = ~0U - lapic_read(LAPIC_TIMER_CURRENT);
	lapic_write(LAPIC_TIMER_INITIAL, 0);
	return ticks * 1000000UL / (end - start);
}

static bool timer_is_pending(void)
{
	return lapic_read(LAPIC_IRR + VECTOR_TIMER / 32 * 0x10) & BIT(VECTOR_TIMER % 32);
}

/*
 * Does a deadline wait? Bochs compares it with the time since its start instead of the TSC, which a restart of the
 * machine sets to 0: every deadline is past then, and no guest would get to its first instruction.
 */
static bool deadline_works(void)
{
	bool early;

	lapic_write(LAPIC_LVT_TIMER, LVT_TSC_DEADLINE | VECTOR_TIMER);
	/* The deadline MSR is not ordered after the window's write (SDM, "TSC-Deadline Mode"). */
	__asm__ volatile("mfence" : : : "memory");
	wrmsr(MSR_IA32_TSC_DEADLINE, time_ns_to_tsc(cpu_now_ns() + PROBE_DEADLINE_NS));
	cpu_delay_us(PROBE_WAIT_US);
	early = timer_is_pending();
	wrmsr(MSR_IA32_TSC_DEADLINE, 0);
	if (early)
		lapic_write(LAPIC_LVT_TIMER, LVT_MASKED); /* back in one-shot mode, so that it can be measured */
	return !early;
}

void timer_hw_init(void)
{
	tsc_deadline = tsc_deadline && deadline_works();
	if (tsc_deadline) {
		log_info("timer", "local APIC, TSC deadline%s", x2apic ? ", x2APIC" : "");
	} else {
		u64 khz = measure_khz();

		timer_mult = (khz << 32) / 1000000;
		lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
		log_info("timer", "local APIC, one-shot at %lu kHz%s", khz, x2apic ? ", x2APIC" : "");
	}
}

void timer_hw_init_other(void)
{
	lapic_write(LAPIC_TIMER_DIVIDE, TIMER_DIVIDE_1);
	lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER | (tsc_deadline ? LVT_TSC_DEADLINE : 0));
	__asm__ volatile("mfence" : : : "memory");
}

/* 1 at least. Rounded up: an interrupt that comes early has to be armed once more. */
static u32 oneshot_ticks(u64 deadline_ns)
{
	u64 now = cpu_now_ns(), ticks = 1;

	if (deadline_ns > now)
		ticks += (u64)((unsigned __int128)(deadline_ns - now) * timer_mult >> 32);
	return (u32)MIN(ticks, 0xffffffffUL);
}

void cpu_timer_arm(u64 deadline_ns)
{
	bool never = deadline_ns == TIMER_NEVER;

	if (tsc_deadline)
		wrmsr(MSR_IA32_TSC_DEADLINE, never ? 0 : time_ns_to_tsc(deadline_ns));
	else
		lapic_write(LAPIC_TIMER_INITIAL, never ? 0 : oneshot_ticks(deadline_ns));
}
