/* See smp.h. */
#include "guest/kernel/smp.h"
#include "guest/kernel/arch.h"
#include "lib/panic.h"

#define SPINS 2000

struct smp smp;

struct smp_cpu *smp_this(void)
{
	return &smp.cpu[arch_cpu()];
}

static u32 bit(const struct smp_cpu *c)
{
	return (u32)BIT(c->index);
}

static u32 look(const u32 *mask)
{
	return __atomic_load_n(mask, __ATOMIC_SEQ_CST);
}

static void join(u32 *mask, u32 bits)
{
	__atomic_or_fetch(mask, bits, __ATOMIC_SEQ_CST);
}

static void part(u32 *mask, u32 bits)
{
	__atomic_and_fetch(mask, ~bits, __ATOMIC_SEQ_CST);
}

void smp_init(struct events *events)
{
	smp = (struct smp){.count = 1, .online = 1};
	for (u32 i = 0; i < SMP_CPUS_MAX; i++)
		smp.cpu[i] = (struct smp_cpu){.index = i, .events = &smp.cpu[i].own};
	smp.cpu[0].events = events;
}

void smp_prepare(u32 count, struct aero_info *info)
{
	smp.count = MIN(count, (u32)SMP_CPUS_MAX);
	for (u32 i = 1; i < smp.count; i++)
		events_init(&smp.cpu[i].own, aero_events(info, i));
}

void smp_send(u32 mask)
{
	mask &= ~bit(smp_this());
	if (mask)
		arch_hypercall(AERO_CALL_VCPU_SEND, mask, SMP_EVENT, 0, NULL);
}

static void sleep(struct smp_cpu *c)
{
	c->sleeps++;
	events_wait(c->events);
}

/* ---- translations -------------------------------------------------------- */

/* An interrupt may do the same in between: who stored last has seen the newest. */
static void catch_up(struct smp_cpu *c)
{
	u64 generation;

	do {
		generation = __atomic_load_n(&smp.generation, __ATOMIC_SEQ_CST);
		arch_tlb_flush();
		c->flushes++;
		__atomic_store_n(&c->seen, generation, __ATOMIC_SEQ_CST);
	} while (__atomic_load_n(&smp.generation, __ATOMIC_SEQ_CST) != generation);
	smp_send(look(&smp.flush_waiter));
}

static bool is_behind(const struct smp_cpu *c)
{
	return __atomic_load_n(&c->seen, __ATOMIC_SEQ_CST) != __atomic_load_n(&smp.generation, __ATOMIC_SEQ_CST);
}

static void enter_app(struct smp_cpu *c)
{
	__atomic_store_n(&c->app, 1, __ATOMIC_SEQ_CST);
	if (is_behind(c))
		catch_up(c);
}

static void leave_app(struct smp_cpu *c)
{
	__atomic_store_n(&c->app, 0, __ATOMIC_SEQ_CST);
	smp_send(look(&smp.flush_waiter));
}

/* Those of the mask that may still use what was there before the generation. */
static u32 laggards(u32 mask)
{
	u32 left = 0;

	for (u32 i = 0; i < smp.count; i++) {
		const struct smp_cpu *c = &smp.cpu[i];

		if (mask & bit(c) && look(&c->app) && is_behind(c))
			left |= bit(c);
	}
	return left;
}

static void wait_for(struct smp_cpu *c, u32 mask)
{
	for (u32 i = 0; laggards(mask); i++) {
		if (i < SPINS) {
			arch_relax();
			continue;
		}
		join(&smp.flush_waiter, bit(c));
		if (laggards(mask))
			sleep(c);
	}
	part(&smp.flush_waiter, bit(c));
}

void smp_flush_later(void)
{
	struct smp_cpu *c = smp_this();
	u64 generation = __atomic_add_fetch(&smp.generation, 1, __ATOMIC_SEQ_CST);

	arch_tlb_flush();
	__atomic_store_n(&c->seen, generation, __ATOMIC_SEQ_CST);
}

/* The lock is kept while it waits: those waited for are in the application and flush in the interrupt, without it. */
void smp_flush(void)
{
	u32 mask;

	smp_flush_later();
	if (smp.count == 1)
		return;
	CHECK(smp_this()->depth);
	mask = laggards(smp_others());
	smp.shootdowns++;
	if (!mask)
		return;
	smp.interrupts++;
	smp_send(mask);
	wait_for(smp_this(), mask);
}

/* ---- the kernel lock ----------------------------------------------------- */

static bool try_lock(void)
{
	u32 is_free = 0;

	return __atomic_compare_exchange_n(&smp.locked, &is_free, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static void lock(struct smp_cpu *c)
{
	for (;;) {
		for (u32 i = 0; i < SPINS; i++) {
			if (try_lock())
				return;
			arch_relax();
		}
		join(&smp.lock_waiters, bit(c));
		if (try_lock()) {
			part(&smp.lock_waiters, bit(c));
			return;
		}
		sleep(c);
	}
}

static void unlock(void)
{
	u32 waiters;

	__atomic_store_n(&smp.locked, 0, __ATOMIC_SEQ_CST);
	waiters = look(&smp.lock_waiters);
	if (waiters) {
		part(&smp.lock_waiters, waiters);
		smp_send(waiters);
	}
}

void kernel_lock(void)
{
	struct smp_cpu *c = smp_this();

	if (smp.dying)
		return;
	if (c->depth++ == 0 && smp.count > 1) {
		leave_app(c);
		lock(c);
	}
}

void kernel_unlock(void)
{
	struct smp_cpu *c = smp_this();

	if (smp.dying)
		return;
	CHECK(c->depth);
	if (--c->depth == 0 && smp.count > 1) {
		unlock();
		enter_app(c);
	}
}

/* Afterwards it may be that a workload which keeps the lock goes on with its pages. */
static void sleep_locked(struct smp_cpu *c)
{
	u32 depth = c->depth;

	c->depth = 0;
	unlock();
	sleep(c);
	lock(c);
	c->depth = depth;
	if (is_behind(c))
		catch_up(c);
}

void smp_sleep(void)
{
	struct smp_cpu *c = smp_this();

	if (smp.count == 1) {
		sleep(c);
	} else if (c->depth) {
		sleep_locked(c);
	} else {
		leave_app(c);
		sleep(c);
		enter_app(c);
	}
}

/* ---- waiting for others -------------------------------------------------- */

void smp_disk_wait_begin(void)
{
	join(&smp.disk_waiters, bit(smp_this()));
}

void smp_disk_wait_end(void)
{
	part(&smp.disk_waiters, bit(smp_this()));
}

void smp_sleep_page(void)
{
	join(&smp.page_waiters, bit(smp_this()));
	smp_sleep();
}

void smp_wake_pages(void)
{
	u32 waiters = look(&smp.page_waiters);

	if (waiters) {
		part(&smp.page_waiters, waiters);
		smp_send(waiters);
	}
}

void smp_upcall(void)
{
	struct smp_cpu *c = smp_this();

	if (smp.count == 1)
		return;
	if (look(&c->app) && is_behind(c))
		catch_up(c);
	/* The host tells vCPU 0 of transfers. Which event it was, that one may have taken already. */
	if (c->index == 0)
		smp_send(look(&smp.disk_waiters));
}
