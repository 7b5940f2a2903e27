/* What tests of guest address spaces do with a page. Stamps fill whole pages; 0 is a page of zeroes. */
#ifndef TESTS_SPACE_TEST_H
#define TESTS_SPACE_TEST_H

#include "mm/gspace_internal.h"

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
