/*
 * The division of memory among VMs. Min-funding revocation taken to its end: memory goes from the VM with the lowest
 * shares-per-page to where it is wanted until all VMs that lie strictly between their bounds have the same
 * pages-per-share. So the division is found directly, as the one price (pages per share) that spends what there is:
 *
 * 	target(i) = clamp(bought(price * shares(i)), lower(i), upper(i)),  sum(target) <= avail, price as large as possible
 *
 * where bought(b) = b up to the active pages, and of what is left of b each page beyond costs 1 / (1 - tax).
 *
 * Three rounds. What VMs hold now comes first: nothing is taken from one VM to leave room for another that does not
 * ask for it. Then those grow that would use it at once. Only what is left after that is divided as room for all.
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

/* What v would use if it got it, at least what it holds. */
static u32 wants_of(const struct policy_vm *v)
{
	return CLAMP(v->wants, demand_of(v), cap_of(v));
}

enum round { ROUND_HOLD, ROUND_WANT, ROUND_ALL };

struct division {
	struct policy_vm *vm;
	u32 n, tax;
	enum round round;
};

static u32 bought_at(const struct policy_vm *v, u64 price, u32 tax, u32 lower, u32 upper)
{
	unsigned __int128 pages = ((unsigned __int128)price * MAX(v->shares, 1U)) >> PRICE_SHIFT;

	if (pages > v->active)
		pages = v->active + (pages - v->active) * (100 - tax) / 100;
	return pages >= upper ? upper : MAX((u32)pages, lower);
}

static u32 target_at(const struct division *d, const struct policy_vm *v, u64 price)
{
	switch (d->round) {
	case ROUND_HOLD:
		return bought_at(v, price, d->tax, reserved_of(v), demand_of(v));
	case ROUND_WANT:
		return bought_at(v, price, d->tax, demand_of(v), wants_of(v));
	default:
		return bought_at(v, price, d->tax, wants_of(v), cap_of(v));
	}
}

static u64 spent_at(const struct division *d, u64 price)
{
	u64 sum = 0;

	for (u32 i = 0; i < d->n; i++)
		sum += target_at(d, &d->vm[i], price);
	return sum;
}

/* Highest price whose targets fit into avail; 0 (everybody at the lower bound) if none does. */
static u64 find_price(const struct division *d, u64 avail)
{
	u64 price = 0;

	if (spent_at(d, ~0UL) <= avail)
		return ~0UL;
	for (int bit = 63; bit >= 0; bit--)
		if (spent_at(d, price | BIT(bit)) <= avail)
			price |= BIT(bit);
	return price;
}

void policy_divide(struct policy_vm *vm, u32 n, u64 avail, u32 tax_percent)
{
	struct division d = {vm, n, MIN(tax_percent, POLICY_TAX_MAX), ROUND_HOLD};
	u64 price;

	while (d.round < ROUND_ALL && spent_at(&d, ~0UL) <= avail)
		d.round++;
	price = find_price(&d, avail);
	for (u32 i = 0; i < n; i++)
		vm[i].target = target_at(&d, &vm[i], price);
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

u64 policy_worst_missing(const struct worst_case *w)
{
	u64 firm = w->reserved + w->headroom + w->overhead, slots = MIN(w->swap, w->promised);
	u64 ram = firm > w->ram ? firm - w->ram : 0, rest = w->pages - MIN(w->pages, w->reserved);

	return ram + (rest > slots ? rest - slots : 0);
}
