/*
 * Spin locks with a rank. A CPU takes locks in ascending rank only and never
 * two of one rank; the order is written here once and, in debug builds, checked on
 * every acquisition. The hypervisor runs with interrupts off except
 * in the CPU loop's windows, so locks need not disable them; interrupt handlers
 * take LOCK_RANK_IRQ and above only.
 */
#ifndef LIB_LOCK_H
#define LIB_LOCK_H

#include "lib/types.h"

enum lock_rank {
	LOCK_RANK_VM_LIST = 10,  /* the table of VMs */
	LOCK_RANK_VM = 20,       /* one VM's life cycle, devices, contract page */
	LOCK_RANK_RECLAIM = 30,  /* reclaim state and targets */
	LOCK_RANK_SPACES = 35,   /* the table of guest address spaces */
	LOCK_RANK_ZIP = 38,      /* compression in progress */
	LOCK_RANK_GSPACE = 40,   /* one guest address space: its tables and page states */
	LOCK_RANK_SHARE = 50,    /* share table */
	LOCK_RANK_RMAP = 60,     /* reverse-map nodes */
	LOCK_RANK_SWAP = 70,     /* slots and in-flight records */
	LOCK_RANK_BLK = 80,      /* one block device's queues */
	LOCK_RANK_PCI = 85,      /* PCI configuration space */
	LOCK_RANK_HOST_PT = 86,  /* the hypervisor's own page tables */
	LOCK_RANK_FRAME = 90,    /* frame allocator */
	LOCK_RANK_SCHED = 100,   /* run queue */
	LOCK_RANK_WORK = 110,    /* work and timer lists */
	LOCK_RANK_CONSOLE = 120, /* console input and VM console rings */
	LOCK_RANK_IRQ = 200,     /* interrupt vectors */
	LOCK_RANK_LOG = 250,     /* log ring: inside nearly all others, so everything may log */
	LOCK_RANK_UART = 251,    /* UART rings: lines go there with the log lock held */
	LOCK_RANK_SCREEN = 252,  /* text of the frame buffer, the same */
};

struct lock {
	u32 next, owner_ticket; /* ticket lock: fair, bounded wait */
	u32 owner_cpu;          /* valid while held */
	u32 rank;
	const char *name;
};

#define LOCK_INIT(n, r)                  \
	{                                \
		.name = (n), .rank = (r) \
	}
void lock_init(struct lock *l, const char *name, enum lock_rank rank);
void lock_acquire(struct lock *l);     /* spins; its rank must be above those of all locks held here */
bool lock_try_acquire(struct lock *l); /* false: another CPU has it */
void lock_release(struct lock *l);     /* by the CPU that has it */
bool lock_held(const struct lock *l);  /* by this CPU; debug builds only */
#define lock_assert_held(l) DCHECK(lock_held(l))
/* No lock may be held across a guest entry or in the CPU loop. */
void lock_assert_none(void);

#endif
