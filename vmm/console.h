/*
 * The operator's console on COM1: line editor, history, commands. Input bytes come from the UART
 * driver's ring; everything runs as deferred work, a bounded piece at a time.
 *
 * vmm/line.c (line editor), vmm/command.c (table, parsing) know no hardware and are built and fuzzed on the host: they
 * talk through struct console_out. Text uses "\n" alone; the glue (console.c) sends CR LF.
 */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H

#include "lib/types.h"

#define CONSOLE_LINE_MAX 256
#define CONSOLE_HISTORY  32
#define CONSOLE_ARGS_MAX 24
#define CONSOLE_PROMPT   "aerostat> "
#define CONSOLE_DETACH   0x1d /* Ctrl-] leaves `vm console` */

/* Output sink: the UART on the machine, a buffer in tests. */
struct console_out {
	void (*write)(struct console_out *o, const char *text, size_t len);
};
void console_printf(struct console_out *o, const char *fmt, ...) printf_like(2, 3);

/* Executes one line to its end; prints its result or exactly one line beginning "error: ". Returns 0 or the error. */
int console_execute(struct console_out *o, const char *line);

void console_init(void); /* after UART and VMs: prints the prompt */

/* Commands of the configuration file run from now on, each at its time, as if somebody typed them; the array stays. */
struct config_command;
void console_run_commands(const struct config_command *command, u32 count);

#endif
