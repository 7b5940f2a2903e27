/*
 * Shoot-down of guest translations: the rules of arch/x86/tlb.h, first step by step, then with simulated CPUs as
 * threads whose caches really keep what nobody takes away.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <time.h>

#include "arch/x86/tlb.h"
#include "tests/unit/fake_platform.h"

#define CPUS 4

static struct tlb_cpu cpus[CPUS];
static u32 kicks[CPUS];
static u64 gen_a, gen_b, clock_ns;
static void (*on_relax)(void);

static u32 count(void)
{
	return CPUS;
}

static struct tlb_cpu *cpu_of(u32 id)
{
	return &cpus[id];
}

static void kick(u32 id)
{
	__atomic_store_n(&kicks[id], kicks[id] + 1, __ATOMIC_SEQ_CST);
}

static void relax(void)
{
	on_relax();
}

static u64 now_ns(void)
{
	return __atomic_load_n(&clock_ns, __ATOMIC_RELAXED);
}

static const struct tlb_machine machine = {count, cpu_of, kick, relax, now_ns};

static int reset(void **state)
{
	(void)state;
	memset(cpus, 0, sizeof(cpus));
	memset(kicks, 0, sizeof(kicks));
	gen_a = gen_b = 1;
	clock_ns = 0;
	on_relax = NULL;
	return 0;
}

static void never(void)
{
	fail_msg("waited for a CPU that need not be waited for");
}

/* Nobody is in this space's guest: no interrupt, no wait. Who enters later reads the new generation. */
static void test_nobody_there(void **state)
{
	(void)state;
	on_relax = never;
	tlb_guest_begin(&cpus[2], &gen_b);
	assert_int_equal(tlb_guest_begin(&cpus[1], &gen_a), 1);
	tlb_guest_end(&cpus[1]);
	gen_a++;
	tlb_shootdown(&machine, 0, &gen_a);
	for (u32 i = 0; i < CPUS; i++)
		assert_int_equal(kicks[i], 0);
	assert_int_equal(tlb_guest_begin(&cpus[1], &gen_a), 2);
}

static u32 relaxed;

static void leave_third_time(void)
{
	if (++relaxed == 3)
		tlb_guest_end(&cpus[1]);
}

static void reenter(void)
{
	tlb_guest_end(&cpus[3]);
	assert_int_equal(tlb_guest_begin(&cpus[3], &gen_a), 2);
}

/* A CPU in the guest is kicked and waited for; in again with the new generation it counts as done. */
static void test_in_the_guest(void **state)
{
	(void)state;
	relaxed = 0;
	on_relax = leave_third_time;
	tlb_guest_begin(&cpus[1], &gen_a);
	gen_a++;
	tlb_shootdown(&machine, 0, &gen_a);
	assert_int_equal(kicks[1], 1);
	assert_int_equal(relaxed, 3);

	gen_a = 1;
	on_relax = reenter;
	tlb_guest_begin(&cpus[3], &gen_a);
	gen_a++;
	tlb_shootdown(&machine, 0, &gen_a);
	assert_int_equal(kicks[3], 1);
	assert_ptr_equal(cpus[3].space, &gen_a);
}

/* What the hypervisor does within a turn: not in the guest meanwhile, and the flush is asked for if it was missed. */
static void test_pause(void **state)
{
	const u64 *space;

	(void)state;
	on_relax = never;
	tlb_guest_begin(&cpus[1], &gen_a);
	space = tlb_guest_pause(&cpus[1]);
	assert_ptr_equal(space, &gen_a);
	assert_false(tlb_guest_resume(&cpus[1], space));
	space = tlb_guest_pause(&cpus[1]);
	gen_a++;
	tlb_shootdown(&machine, 0, &gen_a);
	assert_true(tlb_guest_resume(&cpus[1], space));
	tlb_guest_end(&cpus[1]);
	assert_null(tlb_guest_pause(&cpus[1]));
	assert_false(tlb_guest_resume(&cpus[1], NULL));
	assert_null(cpus[1].space);
}

static void pass_time(void)
{
	clock_ns += NSEC_PER_SEC;
}

static void test_stuck_cpu_is_told(void **state)
{
	(void)state;
	on_relax = pass_time;
	tlb_guest_begin(&cpus[1], &gen_a);
	gen_a++;
	assert_true(fake_panics(tlb_shootdown(&machine, 0, &gen_a)));
	assert_string_equal(fake_panic_text, "cpu1 does not leave its guest");
}

#ifdef DEBUG
static void test_wrong_use(void **state)
{
	(void)state;
	tlb_guest_begin(&cpus[0], &gen_a);
	assert_true(fake_panics(tlb_guest_begin(&cpus[0], &gen_b)));
	assert_true(fake_panics(tlb_shootdown(&machine, 0, &gen_b)));
}
#endif

/* ---- simulated CPUs ------------------------------------------------------ */

#define FRAMES      8
#define MOVES       20000
#define STAYS       50 /* at least, however late the threads start */
#define SECONDS     2  /* enough, where the threads share one processor */
#define SECONDS_MAX 60

enum { FRAME_IS_FREE, FRAME_IS_MAPPED };

static u32 frame_state[FRAMES]; /* atomic */
static u32 mapped;              /* atomic: what the page table says */
static u32 finished, wrong, stays_made;

/* One turn in the guest: uses what its cache has; only an empty cache looks at the page table. */
static void guest_turn(u32 id, u64 *cached_gen, s32 *cached)
{
	u64 gen = tlb_guest_begin(&cpus[id], &gen_a);
	u32 kicked = __atomic_load_n(&kicks[id], __ATOMIC_SEQ_CST);

	if (gen != *cached_gen)
		*cached = -1;
	*cached_gen = gen;
	for (u32 i = 0; i < 200 && __atomic_load_n(&kicks[id], __ATOMIC_SEQ_CST) == kicked; i++) {
		if (*cached < 0)
			*cached = (s32)__atomic_load_n(&mapped, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&frame_state[*cached], __ATOMIC_SEQ_CST) != FRAME_IS_MAPPED)
			__atomic_fetch_add(&wrong, 1, __ATOMIC_SEQ_CST);
	}
	tlb_guest_end(&cpus[id]);
}

static void *run_cpu(void *arg)
{
	u32 id = (u32)(size_t)arg;
	u64 cached_gen = 0;
	s32 cached = -1;

	while (!__atomic_load_n(&finished, __ATOMIC_SEQ_CST)) {
		guest_turn(id, &cached_gen, &cached);
		__atomic_fetch_add(&stays_made, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void yield(void)
{
	sched_yield();
}

/* CPU 0 moves the page from frame to frame, shoots down, and frees the old frame. */
static void test_moving_page(void **state)
{
	pthread_t thread[CPUS];
	time_t begin = time(NULL);

	(void)state;
	finished = wrong = stays_made = 0;
	on_relax = yield;
	memset(frame_state, 0, sizeof(frame_state));
	mapped = 0;
	frame_state[0] = FRAME_IS_MAPPED;
	for (u32 i = 1; i < CPUS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, run_cpu, (void *)(size_t)i), 0);
	for (u32 move = 1; time(NULL) - begin <= (READ_ONCE(stays_made) < STAYS ? SECONDS_MAX
						  : move <= MOVES               ? SECONDS
										: -1);
	     move++) {
		u32 old = mapped, next = move % FRAMES;

		__atomic_store_n(&frame_state[next], FRAME_IS_MAPPED, __ATOMIC_SEQ_CST);
		__atomic_store_n(&mapped, next, __ATOMIC_SEQ_CST);
		__atomic_store_n(&gen_a, gen_a + 1, __ATOMIC_RELEASE);
		tlb_shootdown(&machine, 0, &gen_a);
		__atomic_store_n(&frame_state[old], FRAME_IS_FREE, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&finished, 1, __ATOMIC_SEQ_CST);
	for (u32 i = 1; i < CPUS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(wrong, 0);
	assert_true(stays_made >= STAYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_nobody_there, reset), cmocka_unit_test_setup(test_in_the_guest, reset),
	    cmocka_unit_test_setup(test_pause, reset),        cmocka_unit_test_setup(test_stuck_cpu_is_told, reset),
#ifdef DEBUG
	    cmocka_unit_test_setup(test_wrong_use, reset),
#endif
	    cmocka_unit_test_setup(test_moving_page, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
