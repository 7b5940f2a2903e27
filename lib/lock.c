/*
 * Ticket locks. In debug builds every CPU keeps the locks it holds in ascending order of rank (lib_cpu.held), and that
 * order is checked; without, a lock that nobody else wants costs a handful of instructions.
 */
#include "lib/lock.h"

#include "lib/panic.h"
#include "lib/platform.h"

#ifdef DEBUG
#define TRACKED true
#else
#define TRACKED false
#endif

#define STUCK_NS       (60 * NSEC_PER_SEC) /* nobody holds a lock so long: a deadlock is reported, not waited for */
#define SPINS_PER_LOOK 0x10000U

void lock_init(struct lock *l, const char *name, enum lock_rank rank)
{
	*l = (struct lock)LOCK_INIT(name, rank);
}

static void check_rank(const struct lib_cpu *cpu, const struct lock *l)
{
	const struct lock *top = cpu->locks_held ? cpu->held[cpu->locks_held - 1] : NULL;

	if (TRACKED && unlikely(top && top->rank >= l->rank))
		panic("lock order: %s (rank %u) wanted while %s (rank %u) is held", l->name, l->rank, top->name,
		      top->rank);
}

static void note_acquired(struct lib_cpu *cpu, struct lock *l)
{
	WRITE_ONCE(l->owner_cpu, cpu->id);
	if (!TRACKED)
		return;
	CHECK(cpu->locks_held < LOCKS_HELD_MAX);
	cpu->held[cpu->locks_held++] = l;
}

static void note_released(struct lib_cpu *cpu, const struct lock *l)
{
	u32 i = cpu->locks_held;

	while (i > 0 && cpu->held[i - 1] != l)
		i--;
	CHECK(i > 0); /* released by a CPU that does not hold it */
	for (; unlikely(i < cpu->locks_held); i++)
		cpu->held[i - 1] = cpu->held[i];
	cpu->locks_held--;
}

/* The ticket is taken; waits for its turn. */
static void wait_turn(struct lock *l, u32 ticket)
{
	u64 since = 0, now;

	for (u32 spins = 1; __atomic_load_n(&l->owner_ticket, __ATOMIC_ACQUIRE) != ticket; spins++) {
		platform_relax();
		if (spins % SPINS_PER_LOOK)
			continue;
		now = platform_now_ns();
		since = since ? since : now;
		if (now - since > STUCK_NS)
			panic("lock %s is stuck, held by cpu%u", l->name, READ_ONCE(l->owner_cpu));
	}
}

void lock_acquire(struct lock *l)
{
	struct lib_cpu *cpu = platform_this_cpu();
	u32 ticket;

	check_rank(cpu, l);
	ticket = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);
	if (__atomic_load_n(&l->owner_ticket, __ATOMIC_ACQUIRE) != ticket)
		wait_turn(l, ticket);
	note_acquired(cpu, l);
}

bool lock_try_acquire(struct lock *l)
{
	struct lib_cpu *cpu = platform_this_cpu();
	u32 ticket = __atomic_load_n(&l->owner_ticket, __ATOMIC_RELAXED);

	check_rank(cpu, l);
	if (!__atomic_compare_exchange_n(&l->next, &ticket, ticket + 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return false;
	note_acquired(cpu, l);
	return true;
}

void lock_release(struct lock *l)
{
	if (TRACKED)
		note_released(platform_this_cpu(), l);
	__atomic_store_n(&l->owner_ticket, l->owner_ticket + 1, __ATOMIC_RELEASE);
}

bool lock_held(const struct lock *l)
{
	const struct lib_cpu *cpu = platform_this_cpu();

	for (u32 i = 0; i < cpu->locks_held; i++)
		if (cpu->held[i] == l)
			return true;
	return false;
}

void lock_assert_none(void)
{
	const struct lib_cpu *cpu = platform_this_cpu();

	if (TRACKED && unlikely(cpu->locks_held))
		panic("lock %s is held where none may be", cpu->held[0]->name);
}
