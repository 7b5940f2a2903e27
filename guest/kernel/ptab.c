/* See ptab.h. */
#include "guest/kernel/ptab.h"
#include "guest/kernel/arch.h"
#include "lib/err.h"
#include "lib/string.h"

static u64 new_table(struct ptab *t)
{
	u32 pfn = ram_alloc(t->ram, RAM_KERNEL);

	if (pfn == RAM_NONE)
		return 0;
	t->tables++;
	memset(arch_phys((u64)pfn << PAGE_SHIFT), 0, PAGE_SIZE);
	return (u64)pfn << PAGE_SHIFT;
}

int ptab_init(struct ptab *t, struct ram *ram, bool nx)
{
	*t = (struct ptab){.ram = ram, .nx = nx ? PTE_NX : 0};
	t->root = new_table(t);
	return t->root ? 0 : E_NOMEM;
}

/* The entry of va in the table of `level` (0: 4 KiB entries). */
static u64 *entry_at(struct ptab *t, u64 va, u32 level, bool make)
{
	u64 *table = arch_phys(t->root);

	for (u32 l = 3;; l--) {
		u64 *e = &table[va >> (PAGE_SHIFT + 9 * l) & 511];

		if (l == level)
			return e;
		if (!(*e & PTE_P)) {
			u64 pa = make ? new_table(t) : 0;

			if (!pa)
				return NULL;
			*e = pa | PTE_P | PTE_W;
		} else if (*e & PTE_PS) {
			return NULL;
		}
		table = arch_phys(*e & PTE_ADDR);
	}
}

u64 *ptab_entry(struct ptab *t, u64 va, bool make)
{
	return entry_at(t, va, 0, make);
}

int ptab_map(struct ptab *t, u64 va, u64 pa, u64 bytes, u64 flags, bool large)
{
	u64 end = va + bytes;

	if (!t->nx)
		flags &= ~PTE_NX;
	while (va < end) {
		bool big = large && !((va | pa) & (LARGE_SIZE - 1)) && end - va >= LARGE_SIZE;
		u64 *e = entry_at(t, va, big ? 1 : 0, true);
		u64 step = big ? LARGE_SIZE : PAGE_SIZE;

		if (!e)
			return E_NOMEM;
		*e = pa | flags | PTE_P | (big ? PTE_PS : 0);
		va += step;
		pa += step;
	}
	return 0;
}
