/*
 * Starting the other processors, and stopping them for a panic.
 *
 * One processor is started at a time, with parameters in the trampoline's page; the words of `start` say how far it
 * has come. One that misses its time gets another INIT, which makes it wait for a start-up IPI that never comes, so it
 * cannot turn up later on a stack that is another's by then.
 *
 * Locking: everything is the boot CPU's but the words of `start`, which are atomic.
 */
#include "arch/x86/smp.h"

#include "arch/x86/apic.h"
#include "arch/x86/asm.h"
#include "arch/x86/desc.h"
#include "arch/x86/machine.h"
#include "arch/x86/paging.h"
#include "arch/x86/time.h"
#include "arch/x86/traps.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define TABLE_WORDS     512
#define AP_PARAMS       0xf00 /* ap_start.asm */
#define EFER_KEPT       (EFER_LME | EFER_NXE)
#define PTE_P_W         3UL
#define PTE_LARGE       BIT(7)
#define INIT_US         10000U
#define SIPI_US         200U
#define AP_TIMEOUT_NS   (2 * NSEC_PER_SEC) /* an emulator's processors share one of the host's */
#define STOP_TIMEOUT_US 200000U
#define TSC_ROUNDS      64U
#define TSC_ROUND_NS    (50 * NSEC_PER_MSEC)
#define MSR_IA32_TSC    0x10U

struct ap_params {
	u32 cr3, efer;
	u64 stack, entry, arg;
};

enum ap_stage { AP_NONE, AP_ALIVE, AP_READY, AP_FAILED };

/* What one processor needs of its own: a frame. */
struct ap_memory {
	struct cpu cpu;
	struct cpu_tables tables;
};
_Static_assert(sizeof(struct ap_memory) <= PAGE_SIZE, "one frame");

extern const u8 ap_trampoline[], ap_trampoline_end[];

static u64 low_pml4[TABLE_WORDS] aligned(PAGE_SIZE), low_pdpt[TABLE_WORDS] aligned(PAGE_SIZE),
    low_pd[TABLE_WORDS] aligned(PAGE_SIZE);

static struct {
	const struct smp_start *ask;
	u32 stage; /* atomic: enum ap_stage of the one being started */
	u32 go;    /* atomic: all are there */
	char why[128];
	u32 tsc_ask, tsc_answer; /* atomic: rounds of the comparison; the last ends it */
	u64 tsc_stamp, tsc_add;
} start;
static u32 stop_asked; /* atomic: a panic stops everybody */

/* ---- on the new processor ------------------------------------------------ */

static void set_stage(enum ap_stage s)
{
	__atomic_store_n(&start.stage, s, __ATOMIC_RELEASE);
}

/* Answers each round with its own TSC; between two comparisons it may be told to add something. */
static void answer_tsc(void)
{
	u32 seen = 0, ask;

	do {
		while ((ask = __atomic_load_n(&start.tsc_ask, __ATOMIC_ACQUIRE)) == seen)
			__asm__ volatile("pause");
		if (start.tsc_add) {
			wrmsr(MSR_IA32_TSC, rdtsc() + start.tsc_add);
			start.tsc_add = 0;
		}
		start.tsc_stamp = rdtsc();
		seen = ask;
		__atomic_store_n(&start.tsc_answer, ask, __ATOMIC_RELEASE);
	} while (ask != ~0U);
}

static _Noreturn void sleep_for_good(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void ap_main(void *arg)
{
	struct ap_memory *m = arg;
	int err;

	paging_activate();
	cpu_init_tables(&m->cpu, &m->tables);
	cpu_init_features();
	err = lapic_init();
	if (err)
		sleep_for_good(); /* reported as not answering */
	timer_hw_init_other();
	set_stage(AP_ALIVE);
	answer_tsc();
	err = start.ask->prepare(start.why, sizeof(start.why));
	set_stage(err ? AP_FAILED : AP_READY);
	if (err)
		sleep_for_good();
	while (!__atomic_load_n(&start.go, __ATOMIC_ACQUIRE))
		__asm__ volatile("pause");
	start.ask->run();
}

/* ---- on the boot CPU ----------------------------------------------------- */

static bool wait_stage(enum ap_stage s)
{
	u64 limit = cpu_now_ns() + AP_TIMEOUT_NS;

	while (__atomic_load_n(&start.stage, __ATOMIC_ACQUIRE) < s)
		if (cpu_now_ns() > limit)
			return false;
		else
			__asm__ volatile("pause");
	return true;
}

/* One round: how far the other's TSC is ahead, and how long asking took. False: no answer. */
static bool tsc_round(u32 n, s64 *ahead, u64 *trip)
{
	u64 limit = cpu_now_ns() + TSC_ROUND_NS, t0 = rdtsc(), t1;

	__atomic_store_n(&start.tsc_ask, n, __ATOMIC_RELEASE);
	while (__atomic_load_n(&start.tsc_answer, __ATOMIC_ACQUIRE) != n)
		if (cpu_now_ns() > limit)
			return false;
	t1 = rdtsc();
	*trip = t1 - t0;
	*ahead = (s64)(start.tsc_stamp - t0 - *trip / 2);
	return true;
}

/* The round with the shortest trip knows best. Returns its error bound, ~0 if there was none. */
static u64 tsc_compare(u32 first, s64 *best)
{
	u64 shortest = ~0UL, trip;
	s64 ahead;

	*best = 0;
	for (u32 n = first; n < first + TSC_ROUNDS; n++)
		if (tsc_round(n, &ahead, &trip) && trip < shortest) {
			shortest = trip;
			*best = ahead;
		}
	return shortest == ~0UL ? shortest : shortest / 2;
}

static u64 magnitude(s64 n)
{
	return (u64)(n < 0 ? -n : n);
}

/* Guests and the clock take it that all CPUs have one TSC: measured, put right once, and said. */
static void check_tsc(u32 id)
{
	s64 ahead, left = 0;
	u64 error = tsc_compare(1, &ahead), limit = cpu_now_ns() + TSC_ROUND_NS;

	if (error != ~0UL && magnitude(ahead) > error) {
		start.tsc_add = (u64)-ahead;
		error = tsc_compare(1 + TSC_ROUNDS, &left);
		log_warn("smp", "cpu%u: TSC %ld cycles off, set; now %ld (+-%lu)", id, ahead, left, error);
	} else {
		log_info("smp", "cpu%u: TSC in step (%ld cycles, +-%lu)", id, ahead, error);
	}
	__atomic_store_n(&start.tsc_ask, ~0U, __ATOMIC_RELEASE);
	while (__atomic_load_n(&start.tsc_answer, __ATOMIC_ACQUIRE) != ~0U && cpu_now_ns() < limit)
		__asm__ volatile("pause");
}

static struct ap_memory *make_memory(u32 id)
{
	hfn_t hfn = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	struct ap_memory *m;

	if (hfn == HFN_NONE)
		return NULL;
	m = mm_hfn_to_va(hfn);
	lib_cpu_init(&m->cpu.lib, id);
	m->cpu.tss = &m->tables.tss;
	if (cpu_map_stacks(&m->cpu)) {
		frame_free(hfn, 0);
		return NULL;
	}
	return m;
}

/* Physical address of something in the image; the trampoline loads CR3 with 32 bits. */
static u64 image_pa(const void *va)
{
	return paging_image_base().v + ((u64)va - IMAGE_BASE);
}

static int make_low_tables(hpa_t low_page)
{
	if (image_pa(low_pml4) + PAGE_SIZE > 4 * GIB)
		return E_RANGE;
	memcpy(low_pml4, hpa_to_va(HPA(read_cr3() & BITS(51, 12))), PAGE_SIZE);
	low_pml4[0] = image_pa(low_pdpt) | PTE_P_W;
	low_pdpt[0] = image_pa(low_pd) | PTE_P_W;
	low_pd[0] = PTE_LARGE | PTE_P_W;
	memcpy(hpa_to_va(low_page), ap_trampoline, ap_trampoline_end - ap_trampoline);
	return 0;
}

static void send_start(u32 apic_id, hpa_t low_page)
{
	lapic_send(apic_id, LAPIC_IPI_INIT);
	cpu_delay_us(INIT_US);
	for (u32 i = 0; i < 2 && READ_ONCE(start.stage) == AP_NONE; i++) {
		lapic_send(apic_id, LAPIC_IPI_STARTUP | (u32)(low_page.v >> PAGE_SHIFT));
		cpu_delay_us(SIPI_US);
	}
}

/* True if it is there. The number and memory of one that is not go to the next. */
static bool start_one(struct ap_memory *m, u32 apic_id)
{
	struct ap_params *p = (struct ap_params *)((u8 *)hpa_to_va(start.ask->low_page) + AP_PARAMS);
	u32 id = m->cpu.lib.id;

	*p = (struct ap_params){.cr3 = (u32)image_pa(low_pml4),
				.efer = (u32)(rdmsr(MSR_EFER) & EFER_KEPT),
				.stack = m->cpu.stack_top,
				.entry = (u64)ap_main,
				.arg = (u64)m};
	start.stage = AP_NONE;
	start.tsc_ask = start.tsc_answer = 0;
	start.why[0] = 0;
	cpu_register(id, &m->cpu);
	send_start(apic_id, start.ask->low_page);
	if (!wait_stage(AP_ALIVE)) {
		log_warn("smp", "the processor with APIC id %u does not start: left out", apic_id);
	} else {
		check_tsc(id);
		if (wait_stage(AP_READY) && READ_ONCE(start.stage) == AP_READY)
			return true;
		log_warn("smp", "the processor with APIC id %u is left out: %s", apic_id,
			 start.why[0] ? start.why : "it does not answer any more");
	}
	lapic_send(apic_id, LAPIC_IPI_INIT);
	return false;
}

static void start_all(const struct smp_start *s)
{
	u32 limit = MIN(s->limit, CPUS_MAX);
	struct ap_memory *m = NULL;

	for (u32 i = 0; i < machine.cpu_count; i++) {
		u32 apic_id = machine.cpu_apic_id[i];

		if (apic_id == this_cpu()->apic_id || cpu_count() >= limit || (apic_id > 0xfe && !lapic_is_x2apic()))
			continue;
		if (!m)
			m = make_memory(cpu_count());
		if (!m) {
			log_warn("smp", "no memory for another CPU");
			return;
		}
		if (!start_one(m, apic_id))
			continue;
		cpu_add();
		m = NULL;
	}
}

void smp_start(const struct smp_start *s)
{
	start.ask = s;
	if (machine.cpu_count > 1 && s->limit > 1) {
		if (!s->low_page.v || make_low_tables(s->low_page))
			log_warn("smp", "no memory low enough to start other processors from: one CPU");
		else
			start_all(s);
	}
	log_info("smp", "%u of %u CPUs", cpu_count(), MAX(machine.cpu_count, 1U));
	__atomic_store_n(&start.go, 1, __ATOMIC_RELEASE);
}

/* ---- panic --------------------------------------------------------------- */

void smp_stop_others(void)
{
	u32 self = this_cpu()->lib.id, stopped;

	__atomic_store_n(&stop_asked, 1, __ATOMIC_SEQ_CST);
	for (u32 id = 0; id < cpu_count(); id++)
		if (id != self)
			lapic_send(cpu_at(id)->apic_id, LAPIC_IPI_NMI);
	for (u32 us = 0; us < STOP_TIMEOUT_US; us += 10) {
		stopped = 1;
		for (u32 id = 0; id < cpu_count(); id++)
			stopped += id != self && __atomic_load_n(&cpu_at(id)->stopped, __ATOMIC_ACQUIRE);
		if (stopped == cpu_count())
			return;
		cpu_delay_us(10);
	}
}

void smp_stop_if_asked(const struct trap_frame *f)
{
	struct cpu *c = this_cpu();

	if (!__atomic_load_n(&stop_asked, __ATOMIC_ACQUIRE))
		return;
	c->stop_rip = f->rip;
	c->stop_rbp = f->rbp;
	c->stop_rsp = f->rsp;
	__atomic_store_n(&c->stopped, 1, __ATOMIC_RELEASE);
	sleep_for_good();
}
