/*
 * What tests of page sharing have in common: two spaces of one trust group, on a machine that is never so empty that
 * pages are large.
 */
#ifndef TESTS_SHARE_TEST_H
#define TESTS_SHARE_TEST_H

#include "mm/gspace.h"
#include "mm/share.h"

#define FRAMES 2500
#define PAGES  1000 /* of each */

extern struct gspace a, b;

int share_test_start(void **state);
int share_test_stop(void **state);

/* Scans until every page has been seen, in two passes: the first leaves hints. */
void scan_all(void);
struct share_stats stats(void);
/* Page 1 of a and page 2 of b share a frame. */
void share_two(u64 stamp);

#endif
