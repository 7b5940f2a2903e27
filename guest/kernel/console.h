/*
 * The VM's console: output buffered by line, one hypercall a line; input gathered into lines. One for the whole kernel,
 * usable from the first instruction on (panics, exceptions): it has no state but its buffers.
 */
#ifndef GUEST_CONSOLE_H
#define GUEST_CONSOLE_H

#include "lib/types.h"

#define CONSOLE_LINE_BYTES 128

/* buf: one page of ours at gpa, for output and input. */
void console_init(void *buf, u64 gpa);
void print(const char *fmt, ...) printf_like(1, 2);
void console_flush(void);
/* Reads what the operator typed, echoing it; a complete line (without its end) is given once, NULL otherwise. */
char *console_poll(void);

#endif
