/*
 * The division of memory among VMs. Min-funding revocation taken to its end: memory goes from the VM with the lowest
 * shares-per-page to where it is wanted until all VMs that lie strictly between their bounds have the same
 * pages-per-share. So the division is found directly, as the one price (pages per share) that spends what there is:
 *
 *	target(i) = clamp(price * shares(i), lower(i), upper(i)),  sum(target) <= avail, price as large as possible
 *
 * Two rounds. What VMs hold now comes first: nothing is taken from one VM to leave room for another that does not
 * ask for it. Only what is left after that is divided as room to grow.
 */
#include "mm/policy.h"

#include "lib/err.h"

/* Prices are fixed point with this many fraction bits: a step of one moves no target by more than a page. */
#define PRICE_SHIFT 32

static u32 cap_of(const struct policy_vm *v)
{
	return MIN(v->limit, v->size);
}

static u32 reserved_of(const struct policy_vm *v)
{
	return MIN(v->reservation, cap_of(v));
}

/* What v holds, as far as its bounds allow. */
static u32 demand_of(const struct policy_vm *v)
{
	return CLAMP(v->consumed, reserved_of(v), cap_of(v));
}

static u32 bought_at(const struct policy_vm *v, u64 price, u32 lower, u32 upper)
{
	unsigned __int128 pages = ((unsigned __int128)price * MAX(v->shares, 1U)) >> PRICE_SHIFT;

	return pages >= upper ? upper : MAX((u32)pages, lower);
}

/* bounds(v) of a round: [reservation, demand] or [demand, cap]. */
static u32 target_at(const struct policy_vm *v, u64 price, bool growing)
{
	return growing ? bought_at(v, price, demand_of(v), cap_of(v))
		       : bought_at(v, price, reserved_of(v), demand_of(v));
}

static u64 spent_at(const struct policy_vm *vm, u32 n, u64 price, bool growing)
{
	u64 sum = 0;

	for (u32 i = 0; i < n; i++)
		sum += target_at(&vm[i], price, growing);
	return sum;
}

/* Highest price whose targets fit into avail; 0 (everybody at the lower bound) if none does. */
static u64 find_price(const struct policy_vm *vm, u32 n, u64 avail, bool growing)
{
	u64 price = 0;

	if (spent_at(vm, n, ~0UL, growing) <= avail)
		return ~0UL;
	for (int bit = 63; bit >= 0; bit--)
		if (spent_at(vm, n, price | BIT(bit), growing) <= avail)
			price |= BIT(bit);
	return price;
}

void policy_divide(struct policy_vm *vm, u32 n, u64 avail)
{
	bool growing = spent_at(vm, n, ~0UL, false) <= avail;
	u64 price = find_price(vm, n, avail, growing);

	for (u32 i = 0; i < n; i++)
		vm[i].target = target_at(&vm[i], price, growing);
}

int policy_admit(const struct admission *a, u64 *missing)
{
	u64 ram = a->reservation + a->overhead;
	u64 swap = a->size > a->reservation ? a->size - a->reservation : 0;

	*missing = 0;
	if (ram < a->overhead || ram > a->ram_unreserved) {
		*missing = ram < a->overhead ? ~0UL : ram - a->ram_unreserved;
		return E_NOMEM;
	}
	if (swap > a->swap_unreserved) {
		*missing = swap - a->swap_unreserved;
		return E_NOSPC;
	}
	return 0;
}
