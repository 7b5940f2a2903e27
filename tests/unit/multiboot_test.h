/* What tests of both kinds of multiboot information have in common: where the result goes. */
#ifndef TESTS_MULTIBOOT_TEST_H
#define TESTS_MULTIBOOT_TEST_H

#include "boot/memmap.h"
#include "boot/multiboot2/tags.h"

#define ENTRIES 64 /* of the memory map */

extern struct boot_mem entries[ENTRIES];
extern struct memmap map;
extern struct mb2_info out;
extern const char *why;

/* Before each parse: an empty map, and nothing but rubbish in `out`. */
void forget_result(void);
/* The parse gave `err`: it was refused, and the reason has these words in it. */
void expect_refused(int err, const char *reason);

#endif
