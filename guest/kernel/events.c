/* See events.h. The upcall interrupt itself does nothing: it only ends the sleep. */
#include "guest/kernel/events.h"
#include "guest/kernel/arch.h"

void events_init(struct events *e, u64 *shared)
{
	*e = (struct events){.shared = shared};
}

void events_collect(struct events *e)
{
	if (READ_ONCE(*e->shared))
		e->collected |= __atomic_exchange_n(e->shared, 0, __ATOMIC_ACQ_REL);
}

u64 events_take(struct events *e, u64 mask)
{
	u64 taken;

	events_collect(e);
	taken = e->collected & mask;
	e->collected &= ~mask;
	return taken;
}

void events_wait(struct events *e)
{
	arch_wait(e->shared);
	events_collect(e);
}
