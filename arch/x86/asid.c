/* Address-space identifiers: see asid.h for the rules. One CPU's pool is used by that CPU only: no lock. */
#include "arch/x86/asid.h"

void asid_pool_init(struct asid_pool *pool, u32 last, bool flush_one)
{
	*pool = (struct asid_pool){.last = last, .next = last + 1, .flush_one = flush_one};
}

static u32 assign(struct asid_pool *pool, struct asid_slot *slot)
{
	u32 action = ASID_NEW;

	if (pool->next > pool->last) {
		pool->generation++;
		pool->next = 1;
		action |= ASID_FLUSH_ALL;
	}
	slot->pool = pool;
	slot->generation = pool->generation;
	slot->asid = pool->next++;
	return action;
}

u32 asid_enter(struct asid_pool *pool, struct asid_slot *slot, u64 tlb_gen)
{
	bool stale = slot->flush || slot->tlb_gen != tlb_gen;
	u32 action = ASID_KEEP;

	if (slot->pool != pool || slot->generation != pool->generation)
		action = assign(pool, slot);
	else if (stale && pool->flush_one)
		action = ASID_FLUSH_GUEST;
	else if (stale)
		action = assign(pool, slot);
	slot->tlb_gen = tlb_gen;
	slot->flush = false;
	return action;
}
