/* What tests of guest address spaces do with a page. Stamps fill whole pages; 0 is a page of zeroes. */
#ifndef TESTS_SPACE_TEST_H
#define TESTS_SPACE_TEST_H

#include "mm/gspace_internal.h"

/*
 * Set-up: a machine (mm_test.h) with swap on, no reserve, and `one` of so many pages, whose swap is reserved.
 * Tear-down: what is left of it is sound. `two` is for tests that want another, and end it.
 */
extern struct gspace one, two;
void space_test_start(u32 frames, u32 disk_pages, gfn_t pages);
int space_test_stop(void **state);

/* A space whose limit is its size. */
void space_create(struct gspace *gs, const char *name, gfn_t pages);

/* It succeeds at once. */
void touch(struct gspace *gs, gfn_t gfn, enum gspace_access access);
void fill(struct gspace *gs, gfn_t gfn, u64 stamp);
void expect_stamp(struct gspace *gs, gfn_t gfn, u64 stamp);
/* The page is in this state, and everything adds up. */
void expect_state(struct gspace *gs, gfn_t gfn, enum page_state s);
/* As its entry says. */
struct page look(struct gspace *gs, gfn_t gfn);
hfn_t hfn_of(struct gspace *gs, gfn_t gfn);
/* Ends the space, whose transfers end meanwhile; its own sums are right at every step. */
void destroy(struct gspace *gs);

#endif
