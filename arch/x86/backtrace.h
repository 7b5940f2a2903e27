/* Names of the hypervisor's functions, from the table linked into the image (tools/ksyms.py). */
#ifndef ARCH_X86_BACKTRACE_H
#define ARCH_X86_BACKTRACE_H

#include "lib/types.h"

struct ksym {
	u32 offset; /* from IMAGE_BASE; ascending */
	u32 name;   /* offset into ksym_names */
};
extern const struct ksym ksyms[];
extern const u32 ksym_count;
extern const char ksym_names[];

/* Function that addr lies in, and the offset into it; NULL outside the image's text. */
const char *ksym_find(u64 addr, u64 *offset);

/*
 * Calls fn for rip and then for each return address up the frame pointers, at most `max` times, `times` counting
 * repetitions of one address (recursion). `ret`: addr lies behind a call, so the caller's name is that of addr - 1.
 * Reads only what is mapped.
 */
void backtrace(u64 rip, u64 rbp, u32 max, void (*fn)(u64 addr, bool ret, u32 times));

#endif
