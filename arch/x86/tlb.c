/* Shoot-down of guest translations: see tlb.h for the rules. */
#include "arch/x86/tlb.h"

#include "lib/panic.h"

#define STUCK_NS (20 * NSEC_PER_SEC) /* a CPU that does not leave its guest on an interrupt is broken */

u64 tlb_guest_begin(struct tlb_cpu *c, const u64 *space)
{
	DCHECK(!c->space && space);
	__atomic_store_n(&c->stays, c->stays + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&c->space, space, __ATOMIC_SEQ_CST);
	c->entered_gen = __atomic_load_n(space, __ATOMIC_SEQ_CST);
	return c->entered_gen;
}

void tlb_guest_end(struct tlb_cpu *c)
{
	__atomic_store_n(&c->space, NULL, __ATOMIC_RELEASE);
}

const u64 *tlb_guest_pause(struct tlb_cpu *c)
{
	const u64 *space = c->space;

	if (space)
		tlb_guest_end(c);
	return space;
}

bool tlb_guest_resume(struct tlb_cpu *c, const u64 *space)
{
	u64 before = c->entered_gen;

	return space && tlb_guest_begin(c, space) != before;
}

/* Is CPU c in a stay in the space that began before our look? stay: the one seen first. */
static bool stays(const struct tlb_cpu *c, const u64 *space, u64 stay)
{
	return __atomic_load_n(&c->space, __ATOMIC_SEQ_CST) == space &&
	       __atomic_load_n(&c->stays, __ATOMIC_ACQUIRE) == stay;
}

static void wait_leave(const struct tlb_machine *m, u32 id, const u64 *space)
{
	const struct tlb_cpu *c = m->cpu(id);
	u64 stay = __atomic_load_n(&c->stays, __ATOMIC_SEQ_CST), since;

	if (!stays(c, space, stay))
		return; /* left, or began again after the generation was advanced */
	m->kick(id);
	since = m->now_ns();
	while (stays(c, space, stay)) {
		m->relax();
		if (m->now_ns() - since > STUCK_NS)
			panic("cpu%u does not leave its guest", id);
	}
}

void tlb_shootdown(const struct tlb_machine *m, u32 self, const u64 *space)
{
	u32 count = m->count();

	DCHECK(!m->cpu(self)->space);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (u32 id = 0; id < count; id++)
		if (id != self)
			wait_leave(m, id, space);
}
