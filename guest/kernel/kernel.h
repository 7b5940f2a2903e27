/*
 * The guest kernel: what it is made of and its loop.
 *
 * Execution model: one stack a vCPU, no preemption. The loop of vCPU 0 handles events, lets the balloon driver work,
 * runs a slice of the application and sleeps when there is nothing to do. The application may fault on its pages and
 * then sleeps inside the pager until the disk has answered. The upcall interrupt ends a HLT and flushes translations
 * (smp.h).
 *
 * The other vCPUs run slices of an application that has work for them, and sleep otherwise. This structure is one per
 * VM, under the kernel lock; so is what it points to. An application without `work` is called with the lock held, one
 * with it without: that takes the lock around what it wants of the kernel, as print() and faults do by themselves.
 */
#ifndef GUEST_KERNEL_H
#define GUEST_KERNEL_H

#include "guest/abi/aerostat.h"
#include "guest/kernel/args.h"
#include "guest/kernel/balloon.h"
#include "guest/kernel/cache.h"
#include "guest/kernel/clock.h"
#include "guest/kernel/disk.h"
#include "guest/kernel/events.h"
#include "guest/kernel/grow.h"
#include "guest/kernel/hint.h"
#include "guest/kernel/pager.h"
#include "guest/kernel/ptab.h"
#include "guest/kernel/ram.h"
#include "guest/kernel/smp.h"
#include "lib/types.h"

#define KERNEL_FEATURES                                                                            \
	(AERO_FEATURE_BALLOON | AERO_FEATURE_BALLOON_2M | AERO_FEATURE_DISK | AERO_FEATURE_TIMER | \
	 AERO_FEATURE_CONSOLE | AERO_FEATURE_SMP | AERO_FEATURE_MEMORY | AERO_FEATURE_HINT)
#define KERNEL_UPCALL_VECTOR 0x40
#define KERNEL_SLICE_NS      (5 * NSEC_PER_MSEC)
#define KERNEL_NEVER         (~0UL)

struct app;

struct kernel {
	struct aero_start start; /* a copy */
	struct aero_info *info;
	u32 features; /* granted */
	bool hello;   /* the contract exists */
	struct ram ram;
	struct ptab ptab;
	struct clock clock;
	struct events events;
	struct disk disk;
	struct hints hints;
	struct pager pager;
	struct cache cache;
	struct balloon balloon;
	struct args args;
	const struct app *app;
	void *app_state;
	u64 seed;     /* of this VM's unique content */
	u64 timer_ns; /* what the host was asked for; 0: nothing */
	u64 stats_ns; /* next publication */
	u64 loops, sleeps;
	u64 grown; /* pages taken on line */
	bool ending;
};

/*
 * Everything after the machine itself is set up: memory from image_end up is given to the allocator, the contract is
 * made, the application is chosen and started. meta: where page states go (ram_meta_bytes of grow_max pages). k->start,
 * k->ptab.nx are filled.
 */
void kernel_init(struct kernel *k, void *meta, u32 first_free, u32 low_first, u32 low_end);
void kernel_contract(struct kernel *k);
void kernel_start_app(struct kernel *k);
/* One turn of the loop; may sleep. False: the VM is ending. */
bool kernel_turn(struct kernel *k);
_Noreturn void kernel_run(struct kernel *k);
/* The loop of the other vCPUs; kernel_start_others() starts them. */
_Noreturn void kernel_run_other(struct kernel *k);
void kernel_start_others(void);
_Noreturn void kernel_shutdown(enum aero_shutdown how);

/* Sleep until an event or `until` (KERNEL_NEVER: an event only). */
void kernel_sleep(struct kernel *k, u64 until_ns);
void kernel_publish(struct kernel *k);
/* Pages an application region may have: memory that is free plus the swap area, less tables and reserve. */
u32 kernel_region_max(const struct kernel *k, u64 slots);
void kernel_command(struct kernel *k, char *line);

#endif
