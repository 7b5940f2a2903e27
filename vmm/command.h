/*
 * Console commands: one table, looked up by one or two words. A command runs in pieces: what has more to
 * print than fits one piece (a table of VMs, the log) sets run->more and is called again when the sink
 * has room, so that no command holds the CPU or needs an unbounded buffer.
 *
 * A piece prints at most COMMAND_PIECE_BYTES. Between two pieces VMs may come, go and change: a command keeps
 * positions, never pointers, from one piece to the next.
 */
#ifndef VMM_COMMAND_H
#define VMM_COMMAND_H

#include "lib/types.h"
#include "vmm/console.h"
#include "vmm/json.h"

struct vm;
struct command;

#define COMMAND_PIECE_BYTES 4096U
#define COMMAND_WHY         360U
#define COMMAND_NAME_BYTES  16U

/* What only the glue can do, once the command has ended. */
enum command_request {
	COMMAND_NOTHING,
	COMMAND_ATTACH,
	COMMAND_POWEROFF,
	COMMAND_REBOOT,
	COMMAND_TOP,      /* at, left: columns and rows, 0: ask the terminal; cursor: page */
	COMMAND_WATCH,    /* rest, every `left` seconds */
	COMMAND_REPEAT,   /* rest, `left` times */
	COMMAND_MORE,     /* rest, by pages */
	COMMAND_TERMINAL, /* left: plain */
};

struct command_run {
	struct console_out *out;
	const struct command *cmd;
	u32 argc;
	char *argv[CONSOLE_ARGS_MAX];
	char line[CONSOLE_LINE_MAX]; /* argv points into it */
	int err;
	char why[COMMAND_WHY]; /* the error's line, without "error: " */

	int (*more)(struct command_run *r); /* next piece; it clears the field when it is the last */
	bool wait;                          /* the next piece is of use only after COMMAND_WAIT_NS */
	u32 at, left;                       /* the command's own: position and rest */
	u64 cursor;

	bool plain; /* --plain: no escape sequences, and a last line "ok" or "error: ..." */
	bool json;  /* --json: all of the output is one JSON document */
	struct json_out json_out;

	enum command_request request;
	char rest[CONSOLE_LINE_MAX];   /* WATCH, REPEAT, MORE: another line */
	char name[COMMAND_NAME_BYTES]; /* ATTACH: the VM */
};
#define COMMAND_WAIT_NS (50 * NSEC_PER_MSEC)

struct command {
	const char *word, *sub; /* sub: second word, or NULL */
	const char *args;       /* as shown by help */
	const char *help;       /* one line */
	const char *example;
	u8 args_min, args_max;             /* behind the words */
	int (*run)(struct command_run *r); /* 0, or an error with r->why set */
};

/* Parses a line and finds its command. Errors are printed by the first command_step(). */
void command_begin(struct command_run *r, struct console_out *out, const char *line);
/* Runs the next piece. True while there is more. */
bool command_step(struct command_run *r);

/* Completion of the word before the cursor: what can be added without doubt, "" if nothing. */
void command_complete(const char *line, char *add, size_t size);
/*
 * All words that may stand there, if there are several, in rows of 79 columns; " ..." at the end: size did not suffice.
 */
void command_candidates(const char *line, char *list, size_t size);

/* Sets r->rest to the line behind its first `words` words. */
void command_rest(struct command_run *r, u32 words);
/* Sets why and returns err. */
int command_fail(struct command_run *r, int err, const char *fmt, ...) printf_like(3, 4);
struct vm *command_vm(struct command_run *r, const char *name); /* NULL with why set */
struct vm *command_vm_at(u32 index); /* the index-th VM in creation order, NULL past the last */
/* A word from a guest or a disk, made printable, without spaces; "-" if empty. */
const char *command_word(char *buf, size_t size, const char *text, size_t text_size);

/* The argument behind the command's words. */
static inline const char *command_arg(const struct command_run *r, u32 i)
{
	return r->argv[(r->cmd->sub ? 2 : 1) + i];
}

/* cmd_vm.c, cmd_mem.c, cmd_zip.c, cmd_host.c */
int cmd_vm_list(struct command_run *r);
int cmd_vm_show(struct command_run *r);
int cmd_vm_create(struct command_run *r);
int cmd_vm_start(struct command_run *r);
int cmd_vm_pause(struct command_run *r);
int cmd_vm_resume(struct command_run *r);
int cmd_vm_stop(struct command_run *r);
int cmd_vm_destroy(struct command_run *r);
int cmd_vm_console(struct command_run *r);
int cmd_vm_type(struct command_run *r);
int cmd_vm_set(struct command_run *r);
int cmd_balloon(struct command_run *r);
int cmd_mem(struct command_run *r);
int cmd_mem_check(struct command_run *r);
int cmd_mem_worst(struct command_run *r);
int cmd_mem_demand(struct command_run *r);
int cmd_zip(struct command_run *r);
int cmd_set(struct command_run *r);
int cmd_get(struct command_run *r);
int cmd_log(struct command_run *r);
int cmd_host(struct command_run *r);
int cmd_host_work(struct command_run *r);
int cmd_disk(struct command_run *r);
int cmd_shutdown(struct command_run *r);
int cmd_reboot(struct command_run *r);

/* cmd_events.c */
int cmd_events(struct command_run *r);
int cmd_alerts(struct command_run *r);
/* cmd_history.c */
int cmd_history(struct command_run *r);
int cmd_metrics(struct command_run *r);

/* cmd_whatif.c */
int cmd_whatif(struct command_run *r);
/* cmd_why.c */
int cmd_why(struct command_run *r);
int cmd_forecast(struct command_run *r);
int cmd_ledger(struct command_run *r);
/* cmd_tiers.c */
int cmd_share(struct command_run *r);
int cmd_swap(struct command_run *r);

/* cmd_screen.c */
int cmd_top(struct command_run *r);
int cmd_watch(struct command_run *r);
int cmd_repeat(struct command_run *r);
int cmd_more(struct command_run *r);
int cmd_terminal(struct command_run *r);

/* Called once a second: swap rates of the last second for `mem`. */
void cmd_mem_sample(u64 now_ns);
/* `mem NAME` and the memory part of `vm show NAME`: key=value lines. */
void cmd_mem_print_vm(struct console_out *o, struct vm *vm);
/* Of a VM with Dynamic Memory, its part of that. */
struct pairs;
struct gspace;
void cmd_demand_print_vm(struct pairs *p, const struct gspace *gs);
/* Their lines of `mem`. */
void cmd_mem_print_share(struct console_out *o);
void cmd_mem_print_swap(struct console_out *o);

#endif
