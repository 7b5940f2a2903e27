/*
 * A page-table format like no machine's: the present bit is bit 11, read-only instead of writable is marked, flags
 * are permuted, address bits are kept partly inverted, tags stand at the very top. Code that passes with it relies on
 * the masks alone.
 */
#ifndef TESTS_FAKE_FORMAT_H
#define TESTS_FAKE_FORMAT_H

#include "mm/pt.h"

#define FAKE_PRESENT   BIT(11)
#define FAKE_READ_ONLY BIT(2)
#define FAKE_NO_EXEC   BIT(0)
#define FAKE_USER      BIT(5)
#define FAKE_UNCACHED  BIT(1)
#define FAKE_GLOBAL    BIT(4)
#define FAKE_LARGE     BIT(6)
#define FAKE_TABLE     BIT(3)
#define FAKE_ACCESSED  BIT(10)
#define FAKE_DIRTY     BIT(8)

extern const struct pt_format fake_format;       /* with accessed and dirty bits, 2 MiB and 1 GiB leaves */
extern const struct pt_format fake_format_plain; /* without either */

#endif
