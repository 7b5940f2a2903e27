/*
 * What the commands that explain have in common (cmd_why.c, cmd_whatif.c).
 */
#ifndef VMM_EXPLAIN_H
#define VMM_EXPLAIN_H

#include "lib/format.h"
#include "vmm/command.h"
#include "vmm/monitor.h"

#define GOAL_PERCENT 112U /* of minFree: what reclaim's targets leave free */

#define SIZE(pages)  format_size((char[FORMAT_SIZE_BYTES]){0}, (u64)(pages) << PAGE_SHIFT)

/* A paragraph in lines of at most 79 characters, broken at blanks. */
void say(struct console_out *o, const char *fmt, ...) printf_like(2, 3);
/* The figures of a VM that has memory; NULL with why set. */
const struct monitor_vm *live_vm(struct command_run *r, const char *name);
/* Pages: the most that it could hold: its size, or of Dynamic Memory what it wants now. */
u32 cap_of(const struct vm_figures *f);

#endif
