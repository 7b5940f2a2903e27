/*
 * The operator's console: glue between the UART, the line editor, the commands and the consoles of VMs.
 *
 * One work item does everything, a bounded piece at a time: it runs the next piece of a command, or moves text
 * between a VM and the UART while attached, or feeds typed bytes to the line editor. It is queued by arriving bytes, by
 * a VM's output, by log lines (which wipe the prompt, to be shown again) and by its timer. It goes on only when the
 * UART's ring has room for a whole piece, so nothing of it is dropped and the CPU never waits for the line.
 *
 * Output of a piece is collected and handed to the UART as one text: log lines of other CPUs fall between pieces.
 *
 * Locking: all state belongs to the CPU that runs the work item (the boot CPU), except `screen`, which log
 * lines change from anywhere: atomic, and wrong at worst for one redraw.
 */
#include "vmm/console.h"

#include "arch/x86/cpu.h"
#include "arch/x86/platform.h"
#include "drivers/uart.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "lib/timer.h"
#include "lib/work.h"
#include "mm/blk.h"
#include "vmm/command.h"
#include "vmm/config.h"
#include "vmm/line.h"
#include "vmm/metrics.h"
#include "vmm/monitor.h"
#include "vmm/pager.h"
#include "vmm/top.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define ROOM_WANTED        (2 * COMMAND_PIECE_BYTES) /* every byte may be a newline */
#define ROOM_RETRY_NS      (5 * NSEC_PER_MSEC)
#define VM_INPUT_RETRY_NS  (10 * NSEC_PER_MSEC)
#define VM_INPUT_WAIT_NS   NSEC_PER_SEC /* so long a guest may leave typed bytes in a full ring */
#define SAMPLE_NS          NSEC_PER_SEC
#define BYTES_PER_PIECE    64U
#define VM_BYTES_PER_PIECE 1024U
#define FLUSH_MS           1000U
#define LIST_BYTES         1024U

/* What the cursor's row holds: decides what a log line has to do first. */
enum screen { SCREEN_CLEAN, SCREEN_PROMPT, SCREEN_TEXT };

static struct {
	struct console_out out, nothing; /* nothing: the line editor's, without echo */
	char piece[COMMAND_PIECE_BYTES];
	size_t piece_len;
	u32 screen; /* enum screen */

	struct line line;
	bool listed; /* Tab has shown a list */
	struct command_run run;
	bool running, ended; /* ended: its last piece has run */

	bool attached;
	char vm_name[COMMAND_NAME_BYTES];
	int held;          /* typed byte that the VM's ring had no room for, -1: none */
	u64 full_since_ns; /* the ring has had no room since then; 0: it has */

	struct top top; /* while in_top: its screens, log lines stay in the log */
	bool in_top, drawing, anew;
	u32 kept_back; /* log lines meanwhile; atomic */
	u64 next_ns;   /* next screen, or next turn of a command that runs again */
	struct again {
		char line[CONSOLE_LINE_MAX];
		u32 left;    /* turns */
		u32 seconds; /* between two: `watch`; 0: `repeat` */
		bool on, plain;
	} again;
	struct pager pager;
	bool asked;    /* for a key, by the pager */
	struct timed { /* the configuration file's commands */
		const struct config_command *command;
		u32 count, next, pieces;
		u64 begin_ns;
		bool running; /* what runs, or the VM's console that is shown, comes from one of these */
		struct timer timer;
	} timed;
	bool plain; /* `terminal plain` */

	struct work work;
	struct timer retry, sample;
	const struct platform_console *below; /* the console that log lines went to before */
} con;

/* ---- output ---- */

static void flush(void)
{
	if (con.piece_len == 0)
		return;
	if (READ_ONCE(con.screen) != SCREEN_PROMPT)
		WRITE_ONCE(con.screen, con.piece[con.piece_len - 1] == '\n' ? SCREEN_CLEAN : SCREEN_TEXT);
	uart_write(con.piece, con.piece_len);
	con.piece_len = 0;
}

static void write_nothing(struct console_out *o, const char *text, size_t len)
{
	(void)o;
	(void)text;
	(void)len;
}

static void collect(const char *text, size_t len)
{
	while (len) {
		size_t n = MIN(len, sizeof(con.piece) - con.piece_len);

		memcpy(con.piece + con.piece_len, text, n);
		con.piece_len += n;
		text += n;
		len -= n;
		if (con.piece_len == sizeof(con.piece))
			flush();
	}
}

static void out_write(struct console_out *o, const char *text, size_t len)
{
	(void)o;
	if (con.pager.on)
		pager_put(&con.pager, text, len);
	else
		collect(text, len);
}

/* A log line, from any CPU, with the log's lock held. It takes the row of a prompt, or starts a new row. */
static void write_log(const char *text, size_t len)
{
	static const char *const before[] = {[SCREEN_CLEAN] = "", [SCREEN_PROMPT] = "\r\x1b[K", [SCREEN_TEXT] = "\n"};
	char buf[LOG_LINE_BYTES + 8];
	size_t n;
	u32 was;

	if (READ_ONCE(con.in_top)) {
		__atomic_add_fetch(&con.kept_back, 1, __ATOMIC_RELAXED);
		return;
	}
	was = __atomic_exchange_n(&con.screen, SCREEN_CLEAN, __ATOMIC_ACQ_REL);
	n = str_copy(buf, before[was], sizeof(buf));
	len = MIN(len, sizeof(buf) - n);
	memcpy(buf + n, text, len);
	uart_write(buf, n + len);
	if (was == SCREEN_PROMPT)
		work_queue(&con.work);
}

/* What a command said before it panicked belongs in front. */
static void write_panic(const char *text, size_t len)
{
	size_t before = MIN(con.piece_len, sizeof(con.piece));

	con.piece_len = 0;
	if (before)
		con.below->write_sync(con.piece, before);
	con.below->write_sync(text, len);
}

static void retry_later(u64 ns)
{
	timer_arm(&con.retry, platform_now_ns() + ns);
}

/* ---- attached to a VM ---- */

static void prompt(void)
{
	line_begin(&con.line);
	flush();
	WRITE_ONCE(con.screen, con.plain ? SCREEN_CLEAN : SCREEN_PROMPT);
}

static void attach(const char *name)
{
	struct vm *vm = vm_find(name);

	if (!vm)
		return;
	str_copy(con.vm_name, name, sizeof(con.vm_name));
	con.attached = true;
	con.held = -1;
	con.full_since_ns = 0;
	vm->con_attached = true;
	console_printf(&con.out, "[console of %s: Ctrl-] leaves]\n", name);
	flush();
}

static void detach(struct vm *vm)
{
	con.attached = false;
	if (vm)
		vm->con_attached = false;
	if (READ_ONCE(con.screen) == SCREEN_TEXT)
		console_printf(&con.out, "\n");
	console_printf(&con.out, "[left the console of %s]\n", con.vm_name);
	flush();
}

/*
 * The guest's text; its own line ends may be CR LF, and the UART makes those of a LF. A guest does not get at the
 * operator's terminal: escape sequences and other control characters show as dots. True if there may be more.
 */
static bool vm_output(struct vm *vm)
{
	char buf[VM_BYTES_PER_PIECE];
	size_t n = vm_console_read(vm, buf, sizeof(buf));

	for (size_t i = 0; i < n; i++) {
		bool plain = (buf[i] >= ' ' && buf[i] <= '~') || buf[i] == '\n' || buf[i] == '\t' || buf[i] == '\b';

		if (buf[i] != '\r')
			out_write(&con.out, plain ? &buf[i] : ".", 1);
	}
	flush();
	return n == sizeof(buf);
}

/* False: the ring is full, and may have room a little later. A guest that does not read loses what is typed: Ctrl-]
 * must get through. */
static bool give_to_vm(struct vm *vm, char byte)
{
	u64 now = platform_now_ns();

	if (vm_console_write(vm, &byte, 1)) {
		con.full_since_ns = 0;
		return true;
	}
	if (!con.full_since_ns)
		con.full_since_ns = now;
	return now - con.full_since_ns >= VM_INPUT_WAIT_NS;
}

/* True if there may be more. */
static bool vm_input(struct vm *vm)
{
	for (u32 i = 0; i < BYTES_PER_PIECE; i++) {
		int c = con.held >= 0 ? con.held : uart_read_byte();

		if (c < 0)
			return false;
		if (c == CONSOLE_DETACH) {
			detach(vm);
			return true;
		}
		con.held = -1;
		if (!give_to_vm(vm, (char)c)) {
			con.held = c;
			retry_later(VM_INPUT_RETRY_NS);
			return false;
		}
	}
	return true;
}

static bool step_attached(void)
{
	struct vm *vm = vm_find(con.vm_name);
	bool more;

	if (!vm) {
		detach(NULL);
		return true;
	}
	more = vm_output(vm);
	return vm_input(vm) || more;
}

/* A VM has printed: of interest if it is the one on the screen. */
static void on_vm_output(struct vm *vm)
{
	(void)vm;
	work_queue(&con.work);
}

/* ---- commands ---- */

static _Noreturn void end_machine(bool reboot)
{
	flush();
	log_info("console", "%s by the operator", reboot ? "restart" : "power-off");
	sched_freeze(); /* no guest runs on */
	blk_shutdown_all();
	uart_flush(FLUSH_MS);
	if (reboot)
		cpu_reboot();
	cpu_poweroff();
}

static void run_line(const char *line)
{
	command_begin(&con.run, &con.out, line);
	con.run.plain |= con.plain;
	con.running = true;
	con.ended = false;
}

/* ---- top ---- */

static void begin_top(const struct command_run *r)
{
	top_init(&con.top, r->at ? r->at : LINE_COLUMNS, r->left ? r->left : PAGER_ROWS + 1, false);
	con.top.page = (enum top_page)r->cursor;
	con.drawing = con.anew = false;
	con.next_ns = 0;
	con.kept_back = 0;
	top_ask_size(&con.out);
	flush();
	WRITE_ONCE(con.in_top, true);
}

static void end_top(void)
{
	top_leave(&con.out);
	flush();
	WRITE_ONCE(con.in_top, false);
	WRITE_ONCE(con.screen, SCREEN_CLEAN);
	if (con.kept_back)
		console_printf(&con.out, "[%u lines of the log meanwhile]\n", con.kept_back);
	flush();
}

/* Keys at once, screens when they are due, a piece at a time. */
static bool step_top(void)
{
	u64 now = platform_now_ns();
	int c;

	for (u32 i = 0; i < BYTES_PER_PIECE && (c = uart_read_byte()) >= 0; i++)
		con.anew |= top_key(&con.top, (u8)c);
	if (con.top.done) {
		end_top();
		return true;
	}
	if (!con.drawing) {
		if (!con.anew && now < con.next_ns) {
			timer_arm(&con.retry, con.next_ns);
			return false;
		}
		con.next_ns = now + con.top.interval * NSEC_PER_SEC;
		con.anew = false;
		top_begin(&con.top);
	}
	con.drawing = top_piece(&con.top, &con.out);
	flush();
	return true;
}

/* ---- commands that run again ---- */

static void begin_turn(void)
{
	if (con.again.seconds && !con.again.plain)
		console_printf(&con.out, "\x1b[H\x1b[Jevery %us: %s\n\n", con.again.seconds, con.again.line);
	run_line(con.again.line);
}

static void begin_again(const struct command_run *r)
{
	con.again = (struct again){.on = true, .plain = r->plain, .left = r->left};
	str_copy(con.again.line, r->rest, sizeof(con.again.line));
	if (r->request == COMMAND_WATCH) {
		con.again.seconds = r->left;
		con.again.left = ~0u;
	}
	begin_turn();
}

static void end_turn(void)
{
	if (con.running) /* it has only begun */
		return;
	if (con.run.err || con.attached || --con.again.left == 0) {
		con.again.on = false;
		return;
	}
	con.next_ns = platform_now_ns() + con.again.seconds * NSEC_PER_SEC;
}

/* Between two turns. Any key ends it. */
static bool step_again(void)
{
	if (uart_read_byte() >= 0) {
		con.again.on = false;
		return true;
	}
	if (platform_now_ns() < con.next_ns) {
		timer_arm(&con.retry, con.next_ns);
		return false;
	}
	begin_turn();
	flush();
	return true;
}

/* ---- output by pages ---- */

static void begin_more(const struct command_run *r)
{
	char line[CONSOLE_LINE_MAX];

	str_copy(line, r->rest, sizeof(line));
	pager_begin(&con.pager);
	run_line(line);
}

enum paging { PAGING_WAITS, PAGING_AGAIN, PAGING_GO };

/* Shows what the page has room for, and asks when it is full. GO: all is shown. */
static enum paging step_pager(void)
{
	const char *text;
	size_t n;
	int c;

	if (con.asked) {
		while (pager_waits(&con.pager) && !con.pager.quit && (c = uart_read_byte()) >= 0)
			pager_key(&con.pager, (u8)c);
		if (pager_waits(&con.pager) && !con.pager.quit)
			return PAGING_WAITS;
		collect("\r\x1b[K", 4);
		con.asked = false;
	}
	if (con.pager.quit) {
		con.ended = true;
		con.pager.len = con.pager.at = 0;
	}
	n = pager_take(&con.pager, &text);
	collect(text, n);
	con.asked = pager_waits(&con.pager);
	if (con.asked)
		collect(PAGER_PROMPT, sizeof(PAGER_PROMPT) - 1);
	flush();
	return con.asked ? PAGING_AGAIN : PAGING_GO;
}

/* What waits for keys has no place in a file: nobody may be there. */
static bool wants_keys(enum command_request request)
{
	return request == COMMAND_TOP || request == COMMAND_WATCH || request == COMMAND_MORE;
}

static void begin_special(const struct command_run *r)
{
	if (con.timed.running && !r->err && wants_keys(r->request)) {
		console_printf(&con.out, "error: expected a command that wants no keys\n");
		flush();
		return;
	}
	switch (r->err ? COMMAND_NOTHING : r->request) {
	case COMMAND_TOP:
		begin_top(r);
		break;
	case COMMAND_WATCH:
	case COMMAND_REPEAT:
		begin_again(r);
		break;
	case COMMAND_MORE:
		begin_more(r);
		break;
	case COMMAND_TERMINAL:
		con.plain = r->left;
		con.line.out = con.plain ? &con.nothing : &con.out;
		break;
	default:
		break;
	}
}

/* The next piece. True while there is more of it. */
static bool run_piece(void)
{
	con.ended = !command_step(&con.run);
	flush();
	return !con.ended || con.pager.on;
}

static bool step_command(void)
{
	enum paging paging = con.pager.on ? step_pager() : PAGING_GO;

	if (paging != PAGING_GO)
		return paging == PAGING_AGAIN;
	if (!con.ended && run_piece()) {
		if (con.ended || !con.run.wait)
			return true;
		retry_later(COMMAND_WAIT_NS);
		return false;
	}
	con.running = false;
	con.pager.on = false;
	if (con.run.request == COMMAND_POWEROFF || con.run.request == COMMAND_REBOOT)
		end_machine(con.run.request == COMMAND_REBOOT);
	if (con.run.request == COMMAND_ATTACH)
		attach(con.run.name);
	begin_special(&con.run);
	if (con.again.on)
		end_turn();
	return true;
}

/* ---- typing ---- */

static void on_event(enum line_event e)
{
	if (e == LINE_DONE) {
		run_line(con.line.buf);
	} else if (e == LINE_TOO_LONG) {
		console_printf(&con.out, "error: expected a line of at most %u characters\n", CONSOLE_LINE_MAX - 1);
	}
	flush();
}

/* Feeds typed bytes up to the end of a line. True if there may be more. */
static bool step_typing(void)
{
	if (!con.plain && READ_ONCE(con.screen) != SCREEN_PROMPT) {
		line_show(&con.line);
		flush();
		WRITE_ONCE(con.screen, SCREEN_PROMPT);
	}
	for (u32 i = 0; i < BYTES_PER_PIECE; i++) {
		int c = uart_read_byte();
		enum line_event e;

		if (c < 0) {
			flush();
			return false;
		}
		e = line_feed(&con.line, (u8)c);
		if (e == LINE_EDITING && !con.listed)
			continue;
		if (con.listed) { /* a piece has room for one list */
			con.listed = false;
			break;
		}
		flush(); /* the end of the line, before other CPUs' log lines take the row for empty */
		WRITE_ONCE(con.screen, SCREEN_CLEAN);
		on_event(e);
		if (!con.running)
			prompt();
		return true;
	}
	flush();
	return true;
}

/* Adds what is without doubt; if nothing is, shows what there is to choose from. */
static void complete(struct line *l)
{
	char left[CONSOLE_LINE_MAX], add[CONSOLE_LINE_MAX], list[LIST_BYTES];

	str_copy(left, l->buf, l->pos + 1);
	command_complete(left, add, sizeof(add));
	line_insert(l, add);
	if (*add || con.plain)
		return;
	command_candidates(left, list, sizeof(list));
	if (!*list)
		return;
	collect("\n", 1);
	collect(list, strlen(list));
	collect("\n", 1);
	line_show(l);
	con.listed = true;
}

static bool is_busy(void)
{
	return con.running || con.attached || con.in_top || con.again.on;
}

/* ---- commands of the configuration file ---- */

static bool timed_due(void)
{
	struct timed *t = &con.timed;

	return t->next < t->count && platform_now_ns() >= t->begin_ns + t->command[t->next].at_ms * NSEC_PER_MSEC;
}

/*
 * What the VM has printed is shown before its console is left, but for no longer than a full ring takes. True: goes on.
 */
static bool show_rest(struct timed *t)
{
	struct vm *vm = vm_find(con.vm_name);

	if (vm && t->pieces && t->pieces-- && vm_output(vm))
		return true;
	detach(vm);
	return false;
}

/* The next one that is due. What an operator is in the middle of goes on first; a line that is being typed is shown
 * again afterwards. */
static bool step_timed(void)
{
	struct timed *t = &con.timed;

	if (!timed_due() || (is_busy() && !(con.attached && t->running)))
		return false;
	if (con.attached && show_rest(t))
		return true;
	if (READ_ONCE(con.screen) == SCREEN_PROMPT)
		console_printf(&con.out, "\r\x1b[K");
	console_printf(&con.out, CONSOLE_PROMPT "%s\n", t->command[t->next].line);
	WRITE_ONCE(con.screen, SCREEN_CLEAN);
	flush();
	t->running = true;
	t->pieces = VM_CONSOLE_BYTES / VM_BYTES_PER_PIECE + 1;
	run_line(t->command[t->next++].line);
	if (t->next < t->count)
		timer_arm(&t->timer, t->begin_ns + t->command[t->next].at_ms * NSEC_PER_MSEC);
	return true;
}

static void on_timed(struct timer *t)
{
	(void)t;
	work_queue(&con.work);
}

void console_run_commands(const struct config_command *command, u32 count)
{
	struct timed *t = &con.timed;

	t->command = command;
	t->count = count;
	t->begin_ns = platform_now_ns();
	timer_init(&t->timer, on_timed);
	if (count)
		timer_arm(&t->timer, t->begin_ns + command[0].at_ms * NSEC_PER_MSEC);
}

/* ---- the work item ---- */

static void console_work(struct work *w)
{
	bool was_busy = is_busy(), more;

	if (uart_tx_room() < ROOM_WANTED) {
		retry_later(ROOM_RETRY_NS);
		return;
	}
	if (step_timed()) {
		more = true;
	} else if (con.running) {
		if (con.run.wait && con.retry.armed)
			return;
		more = step_command();
	} else if (con.attached) {
		more = step_attached();
	} else if (con.in_top) {
		more = step_top();
	} else if (con.again.on) {
		more = step_again();
	} else {
		more = step_typing();
	}
	if (was_busy && !is_busy()) {
		if (!con.timed.running)
			prompt();
		con.timed.running = false;
	}
	if (more)
		work_queue(w);
}

static void on_retry(struct timer *t)
{
	(void)t;
	work_queue(&con.work);
}

static void on_sample(struct timer *t)
{
	u64 now = platform_now_ns();

	cmd_mem_sample(now);
	timer_arm(t, now + SAMPLE_NS);
}

static void on_input(void)
{
	work_queue(&con.work);
}

void console_init(void)
{
	static struct platform_console above = {write_log, write_panic};

	con.out.write = out_write;
	con.nothing.write = write_nothing;
	con.held = -1;
	line_init(&con.line, &con.out);
	con.line.complete = complete;
	work_init(&con.work, "console", console_work);
	timer_init(&con.retry, on_retry);
	timer_init(&con.sample, on_sample);
	con.below = platform_get_console();
	CHECK(con.below);
	platform_set_console(&above);
	vm_console_notify = on_vm_output;
	console_printf(&con.out, "Aerostat console. `help` lists the commands.\n");
	prompt();
	on_sample(&con.sample);
	monitor_init();
	stream_init();
	uart_set_rx_notify(on_input);
	work_queue(&con.work);
}
