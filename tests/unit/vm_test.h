/* What tests of virtual machines begin and end with; on fake_hv.h's machine. */
#ifndef TESTS_VM_TEST_H
#define TESTS_VM_TEST_H

#include "tests/unit/fake_hv.h"

/* Where its guest has things. */
#define INFO           0x20000UL /* gpa of information pages */
#define RING           0x21000UL /* gpa of the disk's rings */
#define BUF            0x300U    /* first of the pages used as buffers */
#define VM_TEST_VECTOR 0x40U

/* Set-up: a machine of 3,000 frames with swap and a data partition, and no VM. */
extern const struct fake_machine vm_test_machine;
int vm_test_start(void **state);

/* A VM of 8 MiB with a disk of so many pages (0: none), RUNNING. NULL: fake_why says why not. */
struct vm *vm_test_run(const char *name, u32 disk_pages);
/* Its guest says HELLO, asking for everything, and UPCALL. */
void vm_test_hello(struct vm *vm);
/* Teardown: whatever the test left is sound and is removed, and everything has been given back. */
int vm_test_finish(void **state);

#endif
