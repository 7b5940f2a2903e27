/*
 * The guest's own page tables: four levels, x86-64 format. Table pages come from ram and are never freed.
 * Entries of absent pages hold what their owner wants (bit 0 clear).
 */
#ifndef GUEST_PTAB_H
#define GUEST_PTAB_H

#include "guest/kernel/ram.h"
#include "lib/types.h"

#define PTE_P    BIT(0)
#define PTE_W    BIT(1)
#define PTE_U    BIT(2)
#define PTE_A    BIT(5)
#define PTE_D    BIT(6)
#define PTE_PS   BIT(7)
#define PTE_NX   BIT(63)
#define PTE_ADDR BITS(51, 12)

struct ptab {
	struct ram *ram;
	u64 root; /* physical, for CR3 */
	u64 nx;   /* PTE_NX where the processor has it, else 0 */
	u32 tables;
};

int ptab_init(struct ptab *t, struct ram *ram, bool nx) must_check; /* an empty root. E_NOMEM */
/* The 4 KiB entry of va; tables on the way are made if `make`. NULL: no memory, no table, or a large page is there. */
u64 *ptab_entry(struct ptab *t, u64 va, bool make);
/* Maps [pa, pa + bytes) at va: large pages where both are aligned and `large`. flags: PTE_W, PTE_NX. E_NOMEM. */
int ptab_map(struct ptab *t, u64 va, u64 pa, u64 bytes, u64 flags, bool large) must_check;

#endif
