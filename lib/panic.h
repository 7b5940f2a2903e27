/*
 * CHECK stays in every build, DCHECK in debug builds (DEBUG defined by the Makefile) only.
 * Both are for our own faults; nothing a guest does may trip them.
 */
#ifndef LIB_PANIC_H
#define LIB_PANIC_H

#include "lib/types.h"

_Noreturn void panic_at(const char *file, int line, const char *fmt, ...) printf_like(3, 4);

#define panic(...) panic_at(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(c)                                          \
	do {                                              \
		if (unlikely(!(c)))                       \
			panic("%s", "check failed: " #c); \
	} while (0)
#ifdef DEBUG
#define DCHECK(c) CHECK(c)
#else
#define DCHECK(c) ((void)sizeof(!!(c)))
#endif

#endif
