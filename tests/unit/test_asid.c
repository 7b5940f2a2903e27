/*
 * Address-space identifiers: when they are new and when translations go. The last test plays random schedules of vCPUs
 * over CPUs against a model TLB that keeps everything it is not told to drop, and looks for a stale translation.
 */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/x86/asid.h"
#include "lib/prng.h"

#define CPUS  3U
#define VCPUS 9U
#define ASIDS 5U

static void test_first_entry_flushes_all(void **state)
{
	struct asid_slot a = {0}, b = {0};
	struct asid_pool pool;

	(void)state;
	asid_pool_init(&pool, ASIDS, true);
	assert_int_equal(asid_enter(&pool, &a, 7), ASID_NEW | ASID_FLUSH_ALL);
	assert_int_equal(a.asid, 1);
	assert_int_equal(asid_enter(&pool, &b, 7), ASID_NEW);
	assert_int_equal(b.asid, 2);
	assert_int_equal(asid_enter(&pool, &a, 7), ASID_KEEP);
}

static void test_generation_of_tables(void **state)
{
	struct asid_slot a = {0};
	struct asid_pool pool;

	(void)state;
	asid_pool_init(&pool, ASIDS, true);
	asid_enter(&pool, &a, 1);
	assert_int_equal(asid_enter(&pool, &a, 2), ASID_FLUSH_GUEST);
	assert_int_equal(asid_enter(&pool, &a, 2), ASID_KEEP);
	a.flush = true;
	assert_int_equal(asid_enter(&pool, &a, 2), ASID_FLUSH_GUEST);
	assert_int_equal(asid_enter(&pool, &a, 2), ASID_KEEP);
	assert_int_equal(a.asid, 1);
}

static void test_without_single_flush(void **state)
{
	struct asid_slot a = {0};
	struct asid_pool pool;

	(void)state;
	asid_pool_init(&pool, 2, false);
	asid_enter(&pool, &a, 1);
	assert_int_equal(asid_enter(&pool, &a, 2), ASID_NEW);
	assert_int_equal(a.asid, 2);
	assert_int_equal(asid_enter(&pool, &a, 3), ASID_NEW | ASID_FLUSH_ALL);
	assert_int_equal(a.asid, 1);
}

static void test_running_out(void **state)
{
	struct asid_slot slot[4] = {{0}};
	struct asid_pool pool;

	(void)state;
	asid_pool_init(&pool, 3, true);
	for (u32 i = 0; i < 3; i++)
		asid_enter(&pool, &slot[i], 1);
	assert_int_equal(asid_enter(&pool, &slot[3], 1), ASID_NEW | ASID_FLUSH_ALL);
	/* Everybody else's is of the past generation now. */
	assert_int_equal(asid_enter(&pool, &slot[0], 1), ASID_NEW);
	assert_int_equal(asid_enter(&pool, &slot[3], 1), ASID_KEEP);
	assert_int_not_equal(slot[0].asid, slot[3].asid);
}

static void test_only_one(void **state)
{
	struct asid_slot a = {0}, b = {0};
	struct asid_pool pool;

	(void)state;
	asid_pool_init(&pool, 1, false);
	for (u32 i = 0; i < 4; i++) {
		assert_int_equal(asid_enter(&pool, &a, 1), ASID_NEW | ASID_FLUSH_ALL);
		assert_int_equal(asid_enter(&pool, &b, 1), ASID_NEW | ASID_FLUSH_ALL);
		assert_int_equal(asid_enter(&pool, &b, 1), ASID_KEEP);
	}
}

static void test_moving(void **state)
{
	struct asid_slot a = {0}, b = {0};
	struct asid_pool pool[2];

	(void)state;
	asid_pool_init(&pool[0], ASIDS, true);
	asid_pool_init(&pool[1], ASIDS, true);
	asid_enter(&pool[0], &a, 1);
	asid_enter(&pool[1], &b, 1);
	assert_int_equal(asid_enter(&pool[1], &a, 1), ASID_NEW);
	/* Back again: the first CPU may hold what is older under the former identifier. */
	assert_int_equal(asid_enter(&pool[0], &a, 1), ASID_NEW);
	assert_int_equal(a.asid, 2);
}

/* Per CPU and identifier: whose translations of which generation may be cached. Nothing goes by itself. */
struct model {
	struct asid_pool pool[CPUS];
	struct asid_slot slot[VCPUS];
	u64 gen[VCPUS];
	bool cached[CPUS][ASIDS + 1];
	u32 owner[CPUS][ASIDS + 1];
	u64 oldest[CPUS][ASIDS + 1]; /* generation of the oldest translation */
};

static void model_enter(struct model *m, u32 cpu, u32 vcpu)
{
	u32 action = asid_enter(&m->pool[cpu], &m->slot[vcpu], m->gen[vcpu]), asid = m->slot[vcpu].asid;

	assert_in_range(asid, 1, ASIDS);
	if (action & ASID_FLUSH_ALL)
		for (u32 i = 0; i <= ASIDS; i++)
			m->cached[cpu][i] = false;
	if (action & ASID_FLUSH_GUEST)
		m->cached[cpu][asid] = false;
	if (m->cached[cpu][asid]) {
		assert_int_equal(m->owner[cpu][asid], vcpu);
		assert_int_equal(m->oldest[cpu][asid], m->gen[vcpu]);
	}
	m->cached[cpu][asid] = true;
	m->owner[cpu][asid] = vcpu;
	m->oldest[cpu][asid] = m->gen[vcpu];
}

static void test_never_stale(void **state)
{
	struct prng rnd;

	(void)state;
	prng_seed(&rnd, 1);
	for (u32 round = 0; round < 50; round++) {
		struct model m = {0};

		for (u32 c = 0; c < CPUS; c++)
			asid_pool_init(&m.pool[c], ASIDS, round & 1);
		for (u32 i = 0; i < 5000; i++) {
			u32 vcpu = (u32)prng_below(&rnd, VCPUS);

			if (prng_below(&rnd, 4) == 0)
				m.gen[vcpu]++;
			if (prng_below(&rnd, 40) == 0)
				m.slot[vcpu] = (struct asid_slot){0}; /* destroyed, another in its place */
			model_enter(&m, prng_below(&rnd, 8) ? vcpu % CPUS : (u32)prng_below(&rnd, CPUS), vcpu);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_first_entry_flushes_all),
	    cmocka_unit_test(test_generation_of_tables),
	    cmocka_unit_test(test_without_single_flush),
	    cmocka_unit_test(test_running_out),
	    cmocka_unit_test(test_only_one),
	    cmocka_unit_test(test_moving),
	    cmocka_unit_test(test_never_stale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
