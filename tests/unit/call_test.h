/* What tests of hypercalls have in common: one VM that makes them. */
#ifndef TESTS_CALL_TEST_H
#define TESTS_CALL_TEST_H

#include "tests/unit/vm_test.h"

#define BUF_GPA ((u64)BUF << PAGE_SHIFT)

extern struct vm *a;

/* Set-up: a runs, with a disk of 100 pages. Its tear-down is vm_test_finish. */
int call_test_start(void **state);
/* By a's vCPU fake_caller. */
s64 call(u64 nr, u64 rdi, u64 rsi, u64 rdx);
void hello(void);             /* asks for everything */
struct aero_info *info(void); /* its information page */
u32 pinned(void);             /* pages */
/*
 * The page, whose first word is set, is in swap and stays there until let_in(), which makes the call that waits for it
 * anew.
 */
void put_out(gfn_t gfn, u64 word);
s64 let_in(void);

#endif
