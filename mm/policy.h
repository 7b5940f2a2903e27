/*
 * Whose memory: targets by reservation, limit and shares. min-funding revocation (OSDI'02 section 5): memory
 * comes from the VM that pays least, shares-per-page lowest, never below its reservation. Idle memory is taxed (section
 * 5.2): rho = S / (P * (f + k * (1 - f))), k = 1 / (1 - tax). P * f are the active pages, so a VM pays for its P pages
 * the price of active + k * (P - active).
 */
#ifndef MM_POLICY_H
#define MM_POLICY_H

#include "lib/types.h"

/* One VM in, one target out: a pure function over an array, so that it is unit-tested alone. */
struct policy_vm {
	u32 size, reservation, limit, shares, consumed; /* pages */
	u32 target;                                     /* out */
	u32 active;                                     /* pages in use (wss.h): a page beyond them costs more */
	u32 wants; /* it could use so much at once: room to grow is for those first */
};

#define POLICY_TAX_DEFAULT 75U /* percent; ESX's Mem.IdleTax: an idle page costs 4 times an active one */
#define POLICY_TAX_MAX     99U

/*
 * Divides `avail` pages (what VMs may hold in all). Guarantees on return:
 * reservation <= target <= min(limit, size) where avail covers the reservations; sum(target) <= max(avail, sum of
 * reservations); where avail covers everybody's min(limit,size), target == that.
 */
void policy_divide(struct policy_vm *vm, u32 n, u64 avail, u32 tax_percent);

/* Admission (OSDI'02 section 5.1). Pages. Returns 0 or E_NOMEM / E_NOSPC with the shortfall in *missing. */
struct admission {
	u64 ram_unreserved, swap_unreserved; /* what is left */
	u64 reservation, overhead, size;     /* what is asked */
};
int policy_admit(const struct admission *a, u64 *missing) must_check;

/* All guests at their worst at once: every page in use, none like another. Frames, pages, slots. */
struct worst_case {
	u64 pages;                        /* of all VMs */
	u64 reserved, headroom, overhead; /* RAM that is promised: to stay, to be able to run at all, for tables */
	u64 ram;                          /* that is not the hypervisor's own nor minFree */
	u64 swap, promised;               /* good slots; promised to the VMs */
};
/* What the backing is short of; 0: nobody will ever have to end for want of memory. */
u64 policy_worst_missing(const struct worst_case *w);

#endif
