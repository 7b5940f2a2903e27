/*
 * The guest's processors: which one this is, the kernel lock, sleeping, and the shoot-down of translations.
 *
 * One lock for the kernel: allocator, pager, cache, disk, balloon and console belong to who holds it. It may be taken
 * again by its holder. Workloads that know several vCPUs touch their pages without it and take it when they fault. Who
 * waits for the lock spins a little and then sleeps, as does who waits for anything else: the host may have taken the
 * CPU away from whom it waits for.
 *
 * Translations of the application region. A vCPU says `app` while it may use any; in the kernel it uses none, so it
 * only has to look at the generation before it goes back. The protocol:
 *   - who took translations away advances the generation, then looks at `app` and `seen` of each vCPU; those in the
 *     application get an interrupt, flush, and say which generation they have seen;
 *   - a vCPU sets `app`, then reads the generation, and flushes if it has not seen it.
 * Both are a store and then a load of the other's word, sequentially consistent: one sees the other.
 *
 * No wake-up is lost: a sleeper says so before it looks a last time, who wakes looks afterwards; and the event that
 * ends the sleep stays in the vCPU's event word until it is taken.
 */
#ifndef GUEST_SMP_H
#define GUEST_SMP_H

#include "guest/abi/aerostat.h"
#include "guest/kernel/events.h"
#include "lib/types.h"

#define SMP_CPUS_MAX 8
#define SMP_EVENT    AERO_EVENT_GUEST(0) /* look up, whatever you wait for */

struct smp_cpu {
	u32 index; /* first: found through GS */
	u32 depth; /* how often this CPU holds the kernel lock */
	struct events own, *events;
	u64 timer_ns; /* what the host was asked for; 0: nothing. Not vCPU 0's */
	u32 app;      /* atomic */
	u64 seen;     /* atomic: generation it has flushed for */
	u64 loops, sleeps, flushes;
};

struct smp {
	u32 count; /* of vCPUs in use */
	struct smp_cpu cpu[SMP_CPUS_MAX];
	u32 online; /* atomic, as all masks: a bit a vCPU */
	u32 locked; /* atomic */
	u32 lock_waiters, flush_waiter, disk_waiters;
	u32 page_waiters; /* kernel lock */
	u64 generation;   /* atomic */
	bool dying;       /* a panic: locks are no longer for this CPU */
	u64 shootdowns, interrupts;
};

extern struct smp smp;

/* vCPU 0 alone; events: its. */
void smp_init(struct events *events);
/* The others have event words of their own; count as many as the kernel can use. */
void smp_prepare(u32 count, struct aero_info *info);
struct smp_cpu *smp_this(void);
/* Interrupts the others of these vCPUs. */
void smp_send(u32 mask);
static inline u32 smp_others(void)
{
	return __atomic_load_n(&smp.online, __ATOMIC_ACQUIRE) & ~BIT(smp_this()->index);
}

void kernel_lock(void);
void kernel_unlock(void);
/*
 * Sleeps until an event comes to this vCPU (or for no reason); meanwhile the kernel lock is free, however often held.
 */
void smp_sleep(void);

/*
 * For a transfer: begin, look, then sleep, and look again; end. What ends a transfer wakes all who have begun and not
 * ended.
 */
void smp_disk_wait_begin(void);
void smp_disk_wait_end(void);
/* For a page that another vCPU reads; kernel lock held. smp_wake_pages() ends it. */
void smp_sleep_page(void);
void smp_wake_pages(void);

/* Kernel lock held. On return no vCPU can use a translation of the application that was changed before. */
void smp_flush(void);
/* The same without haste: the others flush when they are next in the kernel. */
void smp_flush_later(void);

/* The upcall interrupt, on any vCPU, interrupts off; it may have come in the middle of anything above. */
void smp_upcall(void);

#endif
