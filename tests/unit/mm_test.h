/* The machine that tests of mm run on, made anew for each test. */
#ifndef TESTS_MM_TEST_H
#define TESTS_MM_TEST_H

#include "lib/types.h"

/* So many frames, and a disk of so many pages, all of it a swap partition that is not on yet. 0: none. */
void mm_test_start(u32 frames, u32 disk_pages);
/*
 * No slot and no transfer is left, all frames are free again (but for the tables of retired slots), and their lists are
 * sound.
 */
void mm_test_stop(void);

#endif
