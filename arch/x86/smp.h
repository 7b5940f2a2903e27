/*
 * The other processors: starting them, and reaching them by interrupt. CPUs have dense numbers in the order in which
 * they came up; 0 is the boot CPU. cpu_count() and cpu_at() are in cpu.h.
 */
#ifndef ARCH_X86_SMP_H
#define ARCH_X86_SMP_H

#include "arch/x86/cpu.h"
#include "lib/types.h"

/*
 * Starts the processors of `machine`, one after the other, up to `limit` CPUs in all. low_page: RAM below 1 MiB for
 * their first instructions. Each calls prepare() with everything of arch/x86 in place (an error, with why, leaves it
 * out), and once all are there run(), on its own stack. A processor that does not answer in time is reported and put
 * back to sleep. Boot CPU, once, after irq_init() and hv_init().
 */
struct smp_start {
	u32 limit;
	hpa_t low_page;
	int (*prepare)(char *why, size_t size);
	void (*run)(void);
};
void smp_start(const struct smp_start *s);

/* Panic: every other CPU stops where it is (NMI), with its state in struct cpu. Waits for them, but not for long. */
void smp_stop_others(void);
/* In the NMI handler: stops if a panic asked for it. */
struct trap_frame;
void smp_stop_if_asked(const struct trap_frame *f);

#endif
