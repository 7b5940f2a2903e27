/* What tests of virtual machines begin and end with; on fake_hv.h's machine. */
#ifndef TESTS_VM_TEST_H
#define TESTS_VM_TEST_H

#include "tests/unit/fake_hv.h"

#define VM_TEST_INFO   0x20000UL /* gpa of information pages */
#define VM_TEST_VECTOR 0x40U

/* A VM of 8 MiB with a disk of so many pages (0: none), RUNNING. NULL: fake_why says why not. */
struct vm *vm_test_run(const char *name, u32 disk_pages);
/* Its guest says HELLO, asking for everything, and UPCALL. */
void vm_test_hello(struct vm *vm);
/* Teardown: whatever the test left is sound and is removed, and everything has been given back. */
int vm_test_finish(void **state);

#endif
