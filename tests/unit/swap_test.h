/* What tests of swap have in common: one space on a machine with a swap partition, both made anew for each. */
#ifndef TESTS_SWAP_TEST_H
#define TESTS_SWAP_TEST_H

#include "mm/gspace.h"
#include "mm/swap.h"

#define FRAMES 4096U
#define SLOTS  4096U
#define PAGES  1024U /* of the space; as many slots are promised to it */

extern struct gspace gs;
extern struct swap_stats stats;          /* scratch */
extern const struct mem_alloc all_of_it; /* the settings of the space */

int start(void **state);
int finish(void **state);           /* nothing is left behind */
int finish_unchecked(void **state); /* for tests that leave tables behind on purpose */
/* Its transfers end meanwhile. */
void end_space(struct gspace *g);

/* Content of a page: never zero, no two alike. */
u64 stamp(gfn_t gfn, u32 version);
void write_page(gfn_t gfn, u32 version);
/* A touch, waiting as a guest would. E_IO: the page is lost. */
int touch_wait(gfn_t gfn, enum gspace_access access);
void check_page(gfn_t gfn, u32 version);
void fill(void);    /* all pages, version 0 */
void all_out(void); /* to swap, as far as possible */
void check_sum(void);

#endif
