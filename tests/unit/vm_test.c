/* See vm_test.h. */
/* cmocka.h wants these first, in this order */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_blk.h"
#include "tests/unit/vm_test.h"

const struct fake_machine vm_test_machine = {.frames = 3000, .swap_pages = 8192, .data_pages = 1000, .min_free = 400};

int vm_test_start(void **state)
{
	(void)state;
	fake_machine_start(&vm_test_machine);
	return 0;
}

struct vm *vm_test_run(const char *name, u32 disk_pages)
{
	struct vm_config c = fake_vm_config(name);

	c.disk_bytes = (u64)disk_pages << PAGE_SHIFT;
	return fake_vm_run(&c);
}

void vm_test_hello(struct vm *vm)
{
	assert_int_equal(fake_call(vm, AERO_CALL_HELLO, AERO_ABI_VERSION, ~0U, INFO), vm_features_offered(vm));
	assert_int_equal(fake_call(vm, AERO_CALL_UPCALL, VM_TEST_VECTOR, 0, 0), 0);
}

int vm_test_finish(void **state)
{
	struct vm *vm;

	(void)state;
	fake_guest = NULL;
	fake_blk.hold = false;
	fake_alloc_fail_at = 0;
	fake_vcpu_create_fails = false;
	fake_machine_verify();
	while ((vm = vm_next(NULL)))
		fake_vm_remove(vm);
	fake_machine_settle();
	assert_null(fake_machine_leak());
	fake_machine_stop();
	return 0;
}
