/* Division of memory and admission: examples worked by hand, and the guarantees on random inputs. */
/* cmocka.h wants these first, in this order */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "lib/err.h"
#include "lib/prng.h"
#include "mm/policy.h"

#define VMS 12U

static struct policy_vm make(u32 size, u32 reservation, u32 limit, u32 shares, u32 consumed)
{
	return (struct policy_vm){size, reservation, limit, shares, consumed, 0, size, 0};
}

static void test_plenty(void **state)
{
	struct policy_vm vm[2] = {make(1000, 0, 1000, 10, 900), make(500, 100, 300, 10, 20)};

	(void)state;
	policy_divide(vm, 2, 1300, 0);
	assert_int_equal(vm[0].target, 1000);
	assert_int_equal(vm[1].target, 300);
	policy_divide(vm, 0, 1300, 0);
}

static void test_by_shares(void **state)
{
	struct policy_vm vm[2] = {make(1000, 0, 1000, 20, 1000), make(1000, 0, 1000, 10, 1000)};

	(void)state;
	policy_divide(vm, 2, 900, 0);
	assert_in_range(vm[0].target, 599, 600);
	assert_in_range(vm[1].target, 299, 300);
}

/* Memory comes from the one that pays least for a page; who holds little keeps it. */
static void test_revocation_order(void **state)
{
	struct policy_vm vm[3] = {make(1000, 0, 1000, 10, 900), make(1000, 0, 1000, 10, 300),
				  make(1000, 0, 1000, 10, 50)};

	(void)state;
	policy_divide(vm, 3, 1150, 0);
	assert_in_range(vm[0].target, 799, 800);
	assert_int_equal(vm[1].target, 300);
	assert_int_equal(vm[2].target, 50);
	policy_divide(vm, 3, 450, 0);
	assert_in_range(vm[0].target, 199, 200);
	assert_in_range(vm[1].target, 199, 200);
	assert_int_equal(vm[2].target, 50);
}

/* An idle page costs 1 / (1 - tax) times an active one (OSDI'02, figure 8: two VMs, one idle). */
static void test_idle_tax(void **state)
{
	struct policy_vm vm[2] = {make(256, 0, 256, 10, 256), make(256, 0, 256, 10, 256)};

	(void)state;
	vm[1].active = 0;
	policy_divide(vm, 2, 360, 0);
	assert_in_range(vm[0].target, 179, 180);
	assert_in_range(vm[1].target, 179, 180);
	policy_divide(vm, 2, 320, 75);
	assert_int_equal(vm[0].target, 256);
	assert_int_equal(vm[1].target, 64);
	policy_divide(vm, 2, 200, 75);
	assert_in_range(vm[0].target, 159, 160);
	assert_in_range(vm[1].target, 39, 40);
	policy_divide(vm, 2, 256, 99);
	assert_in_range(vm[1].target, 2, 3);
	/* Only what is idle is taxed. */
	vm[1].active = 100;
	policy_divide(vm, 2, 300, 75);
	assert_in_range(vm[0].target, 179, 180);
	assert_in_range(vm[1].target, 119, 120);
	policy_divide(vm, 2, 150, 75);
	assert_in_range(vm[0].target, 74, 75);
	assert_in_range(vm[1].target, 74, 75);
	policy_divide(vm, 2, 512, 99);
	assert_int_equal(vm[1].target, 256);
}

/* What is left over is for those that want it first; then for all. */
static void test_room_for_who_wants(void **state)
{
	struct policy_vm vm[3] = {make(1000, 0, 1000, 10, 600), make(1000, 0, 1000, 10, 100),
				  make(1000, 0, 1000, 10, 700)};

	(void)state;
	vm[0].wants = vm[2].wants = 1000;
	policy_divide(vm, 3, 1700, 75);
	assert_in_range(vm[0].target, 799, 800);
	assert_int_equal(vm[1].target, 100);
	assert_in_range(vm[2].target, 799, 800);
	policy_divide(vm, 3, 2300, 75);
	assert_int_equal(vm[0].target, 1000);
	assert_in_range(vm[1].target, 299, 300);
	assert_int_equal(vm[2].target, 1000);
}

static void test_reservation(void **state)
{
	struct policy_vm vm[2] = {make(1000, 1000, 1000, 1, 1000), make(1000, 0, 1000, 1000, 1000)};

	(void)state;
	policy_divide(vm, 2, 1200, 0);
	assert_int_equal(vm[0].target, 1000);
	assert_in_range(vm[1].target, 199, 200);
	policy_divide(vm, 2, 600, 0);
	assert_int_equal(vm[0].target, 1000);
	assert_int_equal(vm[1].target, 0);
}

static void test_limit(void **state)
{
	struct policy_vm vm[2] = {make(1000, 100, 400, 1000, 1000), make(1000, 0, 1000, 1, 1000)};

	(void)state;
	policy_divide(vm, 2, 5000, 0);
	assert_int_equal(vm[0].target, 400);
	assert_int_equal(vm[1].target, 1000);
	policy_divide(vm, 2, 900, 0);
	assert_int_equal(vm[0].target, 400);
	assert_int_equal(vm[1].target, 500);
}

static void test_extremes(void **state)
{
	struct policy_vm vm[3] = {make(~0U, 0, ~0U, ~0U, ~0U), make(~0U, 0, ~0U, 0, ~0U), make(0, 0, 0, 5, 0)};

	(void)state;
	policy_divide(vm, 3, 1UL << 32, 0);
	assert_true((u64)vm[0].target + vm[1].target <= 1UL << 32);
	assert_true(vm[0].target > 0xfffffff0U);
	policy_divide(vm, 3, 0, 0);
	assert_int_equal(vm[0].target | vm[1].target | vm[2].target, 0);
}

static u32 random_vms(struct prng *p, struct policy_vm *vm)
{
	u32 n = 1 + (u32)prng_below(p, VMS);
	u64 top = prng_below(p, 3) ? 5000 : 1UL << 24;

	for (u32 i = 0; i < n; i++) {
		u32 size = 1 + (u32)prng_below(p, top), limit = (u32)prng_below(p, size + 1);

		vm[i] = make(size, (u32)prng_below(p, limit + 1), prng_below(p, 2) ? size : limit,
			     (u32)prng_below(p, prng_below(p, 2) ? 100 : 1UL << 32), (u32)prng_below(p, size + 1));
		if (!prng_below(p, 2))
			vm[i].reservation = 0;
	}
	return n;
}

/* Among VMs strictly above their reservation, nobody from whom memory was taken holds less per share than another. */
static void check_min_funding(const struct policy_vm *vm, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		const struct policy_vm *poor = &vm[i];

		if (poor->target >= MIN(poor->consumed, poor->limit))
			continue; /* nothing was taken */
		for (u32 j = 0; j < n; j++) {
			const struct policy_vm *rich = &vm[j];
			u64 s_poor = MAX(poor->shares, 1U), s_rich = MAX(rich->shares, 1U);

			if (rich->target <= rich->reservation)
				continue;
			/* one page of rounding on each side */
			assert_true((unsigned __int128)(rich->target - 1) * s_poor <=
				    (unsigned __int128)(poor->target + 1) * s_rich);
		}
	}
}

static void test_guarantees(void **state)
{
	struct policy_vm vm[VMS];
	struct prng p;

	(void)state;
	prng_seed(&p, 42);
	for (int round = 0; round < 4000; round++) {
		u32 n = random_vms(&p, vm);
		u64 reserved = 0, caps = 0, sum = 0, avail;
		bool taxed;

		for (u32 i = 0; i < n; i++) {
			reserved += vm[i].reservation;
			caps += MIN(vm[i].limit, vm[i].size);
		}
		avail = prng_below(&p, caps + caps / 4 + 1);
		taxed = prng_below(&p, 2);
		for (u32 i = 0; i < n && taxed; i++) {
			vm[i].active = (u32)prng_below(&p, vm[i].size + 1);
			vm[i].wants = (u32)prng_below(&p, vm[i].size + 1);
		}
		policy_divide(vm, n, avail, taxed ? (u32)prng_below(&p, 100) : 0);
		for (u32 i = 0; i < n; i++) {
			sum += vm[i].target;
			assert_true(vm[i].target >= vm[i].reservation);
			assert_true(vm[i].target <= MIN(vm[i].limit, vm[i].size));
			if (avail >= caps)
				assert_int_equal(vm[i].target, MIN(vm[i].limit, vm[i].size));
		}
		assert_true(sum <= MAX(avail, reserved));
		assert_true(sum + n >= MIN(MAX(avail, reserved), caps)); /* nothing is left lying about */
		if (!taxed)
			check_min_funding(vm, n);
	}
}

static void test_admission(void **state)
{
	struct admission a = {
	    .ram_unreserved = 100, .swap_unreserved = 50, .reservation = 90, .overhead = 10, .size = 140};
	u64 missing;

	(void)state;
	assert_int_equal(policy_admit(&a, &missing), 0);
	assert_int_equal(missing, 0);
	a.overhead = 13;
	assert_int_equal(policy_admit(&a, &missing), E_NOMEM);
	assert_int_equal(missing, 3);
	a.overhead = 0;
	a.size = 145;
	assert_int_equal(policy_admit(&a, &missing), E_NOSPC);
	assert_int_equal(missing, 5);
	a.size = 80;
	assert_int_equal(policy_admit(&a, &missing), 0);
	a.reservation = ~0UL;
	a.overhead = 2;
	assert_int_equal(policy_admit(&a, &missing), E_NOMEM);
}

static void test_worst(void **state)
{
	struct worst_case w = {
	    .pages = 1000, .reserved = 300, .headroom = 50, .overhead = 20, .ram = 400, .swap = 900, .promised = 700};

	(void)state;
	assert_int_equal(policy_worst_missing(&w), 0);
	w.ram = 360;
	assert_int_equal(policy_worst_missing(&w), 10);
	w.swap = 600; /* slots went bad after they were promised */
	assert_int_equal(policy_worst_missing(&w), 110);
	w = (struct worst_case){.pages = 100, .reserved = 100, .ram = 100};
	assert_int_equal(policy_worst_missing(&w), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_plenty),
	    cmocka_unit_test(test_by_shares),
	    cmocka_unit_test(test_revocation_order),
	    cmocka_unit_test(test_idle_tax),
	    cmocka_unit_test(test_room_for_who_wants),
	    cmocka_unit_test(test_reservation),
	    cmocka_unit_test(test_limit),
	    cmocka_unit_test(test_extremes),
	    cmocka_unit_test(test_guarantees),
	    cmocka_unit_test(test_admission),
	    cmocka_unit_test(test_worst),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
