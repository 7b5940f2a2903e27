/* See call_test.h. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/call_test.h"
#include "tests/unit/fake_blk.h"

struct vm *a;

int call_test_start(void **state)
{
	(void)state;
	fake_machine_start(&vm_test_machine);
	a = vm_test_run("a", 100);
	assert_non_null(a);
	return 0;
}

s64 call(u64 nr, u64 rdi, u64 rsi, u64 rdx)
{
	return fake_call(a, nr, rdi, rsi, rdx);
}

void hello(void)
{
	assert_int_equal(call(AERO_CALL_HELLO, AERO_ABI_VERSION, ~0UL, INFO), vm_features_offered(a));
}

u32 pinned(void)
{
	return a->gs.count[PAGE_PINNED];
}

void put_out(gfn_t gfn, u64 word)
{
	fake_page_write(a, gfn, word);
	fake_swap_out(a, gfn);
	fake_blk.hold = true;
}

s64 let_in(void)
{
	fake_blk.hold = false;
	return fake_call_again(a);
}

struct aero_info *info(void)
{
	return fake_page(a, INFO >> PAGE_SHIFT);
}
