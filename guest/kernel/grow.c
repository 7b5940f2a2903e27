/* See grow.h. */
#include "guest/kernel/grow.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "guest/kernel/kernel.h"

#define META_PART 16 /* of the first memory */

u32 grow_max(u64 memory_bytes, u64 memory_max)
{
	u64 first = memory_bytes >> PAGE_SHIFT, most = MAX(memory_max, memory_bytes) >> PAGE_SHIFT;

	/* A byte a page, and a little a group. */
	while (most > first && ram_meta_bytes((u32)MIN(most, (u64)GFN_NONE - 1)) > memory_bytes / META_PART)
		most = MAX(first, most - most / 8);
	return (u32)MIN(most, (u64)GFN_NONE - 1);
}

/* 1:1, behind what is mapped already. Tables come from memory that is there. */
static bool map_to(struct kernel *k, u32 pages)
{
	u64 from = ALIGN_UP((u64)k->ram.pages << PAGE_SHIFT, LARGE_SIZE);
	u64 to = ALIGN_UP((u64)pages << PAGE_SHIFT, LARGE_SIZE);

	return from >= to || !ptab_map(&k->ptab, from, from, to - from, PTE_W | PTE_NX, true);
}

u32 grow_step(struct kernel *k)
{
	u32 pages = k->ram.pages, end;

	if (!(k->features & AERO_FEATURE_MEMORY))
		return 0;
	end = (u32)MIN(READ_ONCE(k->info->growth.offered) >> PAGE_SHIFT, (u64)k->ram.max);
	if (end <= pages || !map_to(k, end))
		return 0;
	if (arch_hypercall(AERO_CALL_MEMORY_ONLINE, (u64)pages << PAGE_SHIFT, (u64)(end - pages) << PAGE_SHIFT, 0,
			   NULL))
		return 0; /* no longer offered */
	ram_grow(&k->ram, end);
	k->grown += end - pages;
	return end - pages;
}
