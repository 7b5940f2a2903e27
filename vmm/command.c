/*
 * Console commands: the table, splitting a line into words, look-up, help, completion. See command.h.
 *
 * Whatever is typed, the answer is the command's output or exactly one line that begins with "error: ".
 */
#include "vmm/command.h"

#include "lib/err.h"
#include "lib/format.h"
#include "lib/string.h"
#include "vmm/config.h"
#include "vmm/history.h"
#include "vmm/vm.h"

#define PRINT_BYTES    512U
#define HELP_PER_PIECE 10U
#define WORD_SHOWN     40 /* characters of a bad word that are repeated */

static int cmd_help(struct command_run *r);

/* Sorted as help shows them. Commands of one first word stand together. */
static const struct command table[] = {
    {"help", NULL, "[COMMAND]", "this list, or one command's lines", "help vm set", 0, 2, cmd_help},
    {"vm", "list", "", "all VMs, one line each", "vm list", 0, 0, cmd_vm_list},
    {"vm", "show", "NAME", "everything about one VM, key=value", "vm show db", 1, 1, cmd_vm_show},
    {"vm", "create", "NAME KEY=VALUE...", "a new VM; keys as in the configuration file",
     "vm create t memory=64M cmdline=\"app=idle mem=50%\"", 2, 20, cmd_vm_create},
    {"vm", "start", "NAME", "admits and starts a VM", "vm start t", 1, 1, cmd_vm_start},
    {"vm", "pause", "NAME", "stops its processor; memory stays reclaimable", "vm pause t", 1, 1, cmd_vm_pause},
    {"vm", "resume", "NAME", "lets a paused VM run", "vm resume t", 1, 1, cmd_vm_resume},
    {"vm", "stop", "NAME [force]", "asks the guest to end; at once with force", "vm stop t force", 1, 2, cmd_vm_stop},
    {"vm", "destroy", "NAME", "forgets a stopped VM", "vm destroy t", 1, 1, cmd_vm_destroy},
    {"vm", "console", "NAME", "the guest's console; Ctrl-] leaves it", "vm console db", 1, 1, cmd_vm_console},
    {"vm", "type", "NAME TEXT", "types a line at the guest's console", "vm type db stats", 2, 2, cmd_vm_type},
    {"vm", "set", "NAME SETTING VALUE", "any key of a VM; some for its next start only", "vm set db reservation 50%", 3,
     3, cmd_vm_set},
    {"balloon", NULL, "[NAME SIZE|auto]", "balloons of all VMs; fixes one, or frees it again", "balloon web 32M", 0, 2,
     cmd_balloon},
    {"mem", "demand", "", "Dynamic Memory: what VMs have and want", "mem demand", 0, 0, cmd_mem_demand},
    {"mem", "worst", "", "the worst case, and what backs it", "mem worst", 0, 0, cmd_mem_worst},
    {"mem", "check", "", "walks every page table and the frame table", "mem check", 0, 0, cmd_mem_check},
    {"mem", NULL, "[NAME]", "memory of host and VMs, or one VM in pages", "mem db", 0, 1, cmd_mem},
    {"share", NULL, "", "sharing: what it saves, of host and VMs", "share", 0, 0, cmd_share},
    {"swap", NULL, "", "swap: what is there and moves, of host and VMs", "swap", 0, 0, cmd_swap},
    {"zip", NULL, "", "compressed pages of host and VMs", "zip", 0, 0, cmd_zip},
    {"top", NULL, "[memory|effect] [COLUMNSxROWS]", "the live screen; q leaves it", "top --plain effect 132x43", 0, 2,
     cmd_top},
    {"alerts", NULL, "[all]", "what needs attention now; all: every rule", "alerts", 0, 1, cmd_alerts},
    {"why", NULL, "NAME", "why a VM holds what it holds, what it costs it", "why db", 1, 1, cmd_why},
    {"whatif", NULL, "start|balloon|reservation NAME [SIZE]", "what would happen, without doing it",
     "whatif reservation db 96M", 2, 3, cmd_whatif},
    {"forecast", NULL, "", "when memory and swap run short at this rate", "forecast", 0, 0, cmd_forecast},
    {"ledger", NULL, "[NAME]", "what was taken, from whom, why, and what came back", "ledger db", 0, 1, cmd_ledger},
    {"events", NULL, "[COUNT|since SEQ]", "what happened, the last 20", "events since 41", 0, 2, cmd_events},
    {"history", NULL, "NAME|host FIELD|csv|json [seconds|minutes|hours]", "a chart, or all fields",
     "history db balloon minutes", 2, 3, cmd_history},
    {"metrics", NULL, "", "all figures as Prometheus reads them", "metrics", 0, 0, cmd_metrics},
    {"get", NULL, "[KEY]", "settings of the host, or one", "get min-free", 0, 1, cmd_get},
    {"set", NULL, "[KEY VALUE]", "settings of the host, or changes one", "set share-rate 2000", 0, 2, cmd_set},
    {"log", NULL, "[LINES]", "the last lines of the log (20)", "log 100", 0, 1, cmd_log},
    {"host", "work", "[reset]", "deferred work: how often and how long", "host work", 0, 1, cmd_host_work},
    {"host", NULL, "", "processor, clock, back end, frames", "host", 0, 0, cmd_host},
    {"disk", NULL, "", "devices, partitions, latency, errors", "disk", 0, 0, cmd_disk},
    {"watch", NULL, "SECONDS COMMAND", "runs a command again and again until a key", "watch 2 balloon", 2, 21,
     cmd_watch},
    {"repeat", NULL, "COUNT COMMAND", "runs a command so often", "repeat 3 mem db", 2, 21, cmd_repeat},
    {"more", NULL, "COMMAND", "shows a command's output by pages", "more log 200", 1, 22, cmd_more},
    {"terminal", NULL, "plain|vt100", "plain: no echo and prompt, for scripts", "terminal plain", 1, 1, cmd_terminal},
    {"shutdown", NULL, "[force]", "stops all VMs and powers off", "shutdown", 0, 1, cmd_shutdown},
    {"reboot", NULL, "[force]", "stops all VMs and restarts the machine", "reboot", 0, 1, cmd_reboot},
};

/* ---- printing ---- */

static void print_va(struct console_out *o, const char *fmt, va_list ap)
{
	char text[PRINT_BYTES];
	int len = format_vbuf(text, sizeof(text), fmt, ap);

	o->write(o, text, MIN((size_t)len, sizeof(text) - 1));
}

void console_printf(struct console_out *o, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_va(o, fmt, ap);
	va_end(ap);
}

int command_fail(struct command_run *r, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	format_vbuf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
	return err;
}

const char *command_word(char *buf, size_t size, const char *text, size_t text_size)
{
	size_t n = 0;

	for (; n + 1 < size && n < text_size && text[n]; n++)
		buf[n] = text[n] > ' ' && (u8)text[n] <= '~' ? text[n] : '?';
	buf[n] = 0;
	if (n == 0)
		str_copy(buf, "-", size);
	return buf;
}

/* ---- words ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/*
 * Takes one word off *in, moving it to *out (which is never ahead); quotes, single or double, keep blanks in a word.
 * False: a quote is open at the end.
 */
static bool take_word(const char **in, char **out)
{
	char c, quote = 0;

	for (; (c = **in) && (quote || !is_blank(c)); (*in)++) {
		if (quote ? c == quote : c == '"' || c == '\'')
			quote = quote ? 0 : c;
		else
			*(*out)++ = c;
	}
	if (c)
		(*in)++;
	*(*out)++ = 0;
	return !quote;
}

static int split(struct command_run *r)
{
	const char *in = r->line;
	char *out = r->line;

	for (;;) {
		while (is_blank(*in))
			in++;
		if (!*in)
			return 0;
		if (r->argc == CONSOLE_ARGS_MAX)
			return command_fail(r, E_2BIG, "expected at most %u words", CONSOLE_ARGS_MAX);
		r->argv[r->argc++] = out;
		if (!take_word(&in, &out))
			return command_fail(r, E_INVAL, "expected a closing quote at the end of the line");
	}
}

/* ---- look-up ---- */

/* "list, show, create": the second words of a first one. */
static void sub_words(char *buf, size_t size, const char *word)
{
	size_t at = 0;

	buf[0] = 0;
	for (u32 i = 0; i < ARRAY_SIZE(table); i++)
		if (str_eq(table[i].word, word) && table[i].sub)
			at = format_append(buf, size, at, "%s%s", at ? ", " : "", table[i].sub);
}

/* The command of the words a (and b, or NULL): one with the second word goes before one without. */
static const struct command *find(const char *a, const char *b)
{
	const struct command *found = NULL;

	for (u32 i = 0; i < ARRAY_SIZE(table); i++) {
		if (!str_eq(table[i].word, a))
			continue;
		if (table[i].sub && b && str_eq(table[i].sub, b))
			return &table[i];
		if (!table[i].sub)
			found = &table[i];
	}
	return found;
}

static bool word_known(const char *word)
{
	for (u32 i = 0; i < ARRAY_SIZE(table); i++)
		if (str_eq(table[i].word, word))
			return true;
	return false;
}

static int fail_unknown(struct command_run *r, const char *a, const char *b)
{
	char subs[120], word[WORD_SHOWN];

	if (!word_known(a))
		return command_fail(r, E_NOENT, "'%s': unknown command; `help` lists them",
				    command_word(word, sizeof(word), a, WORD_SHOWN));
	sub_words(subs, sizeof(subs), a);
	if (!b)
		return command_fail(r, E_NOENT, "%s: expected one of %s", a, subs);
	return command_fail(r, E_NOENT, "%s '%s': expected one of %s", a,
			    command_word(word, sizeof(word), b, WORD_SHOWN), subs);
}

static int usage(struct command_run *r, const struct command *c)
{
	return command_fail(r, E_INVAL, "expected: %s%s%s%s%s", c->word, c->sub ? " " : "", c->sub ? c->sub : "",
			    *c->args ? " " : "", c->args);
}

/* Takes the words --plain and --json out. */
static void take_flags(struct command_run *r)
{
	u32 kept = 0;

	for (u32 i = 0; i < r->argc; i++) {
		bool plain = str_eq(r->argv[i], "--plain"), json = str_eq(r->argv[i], "--json");

		r->plain |= plain;
		r->json |= json;
		if (!plain && !json)
			r->argv[kept++] = r->argv[i];
	}
	r->argc = kept;
}

void command_rest(struct command_run *r, u32 words)
{
	char word[CONSOLE_LINE_MAX], *out;
	const char *in = r->rest;

	for (;; words--) {
		while (is_blank(*in))
			in++;
		if (!words || !*in)
			break;
		out = word;
		take_word(&in, &out);
		words += str_eq(word, "--plain") || str_eq(word, "--json");
	}
	memmove(r->rest, in, strlen(in) + 1);
}

/*
 * "?" alone, or behind a command that is being typed, asks for help. What is for a guest is the guest's: `vm type db
 * ?`.
 */
static void take_question(struct command_run *r)
{
	const struct command *c = r->argc > 3 ? find(r->argv[0], r->argv[1]) : NULL;

	if (!str_eq(r->argv[r->argc - 1], "?") || (c && c->run == cmd_vm_type))
		return;
	r->argc = MIN(r->argc, 3U);
	for (u32 i = r->argc - 1; i; i--)
		r->argv[i] = r->argv[i - 1];
	r->argv[0] = "help";
}

static int look_up(struct command_run *r)
{
	const char *second = r->argc > 1 ? r->argv[1] : NULL;
	u32 args;

	r->cmd = find(r->argv[0], second);
	if (!r->cmd)
		return fail_unknown(r, r->argv[0], second);
	args = r->argc - (r->cmd->sub ? 2 : 1);
	if (args < r->cmd->args_min || args > r->cmd->args_max)
		return usage(r, r->cmd);
	return 0;
}

void command_begin(struct command_run *r, struct console_out *out, const char *line)
{
	memset(r, 0, sizeof(*r));
	r->out = out;
	if (str_copy(r->line, line, sizeof(r->line)) >= sizeof(r->line))
		r->err = command_fail(r, E_2BIG, "expected a line of at most %u characters", CONSOLE_LINE_MAX - 1);
	else
		r->err = split(r);
	str_copy(r->rest, line, sizeof(r->rest));
	take_flags(r);
	if (r->json) {
		json_begin(&r->json_out, out);
		r->out = &r->json_out.out;
	}
	if (r->err || r->argc == 0)
		return;
	take_question(r);
	r->err = look_up(r);
	if (!r->err)
		r->more = r->cmd->run;
}

/* The last line of the answer. What runs other commands, or takes the screen, has none of its own. */
static void finish(struct command_run *r)
{
	if (r->json)
		json_end(&r->json_out, r->err ? r->why : NULL);
	else if (r->err)
		console_printf(r->out, "error: %s\n", r->why);
	else if (r->plain && r->request < COMMAND_TOP)
		console_printf(r->out, "ok\n");
}

bool command_step(struct command_run *r)
{
	int (*piece)(struct command_run * r) = r->more;

	r->more = NULL;
	r->wait = false;
	if (piece)
		r->err = piece(r);
	if (r->err)
		r->more = NULL;
	if (!r->more)
		finish(r);
	return r->more != NULL;
}

int console_execute(struct console_out *o, const char *line)
{
	struct command_run r;

	command_begin(&r, o, line);
	while (command_step(&r))
		;
	return r.err;
}

/* ---- VMs ---- */

struct vm *command_vm(struct command_run *r, const char *name)
{
	struct vm *vm = vm_find(name);
	char word[WORD_SHOWN];

	if (!vm)
		command_fail(r, E_NOENT, "'%s': expected the name of a VM; `vm list` shows them",
			     command_word(word, sizeof(word), name, WORD_SHOWN));
	return vm;
}

struct vm *command_vm_at(u32 index)
{
	struct vm *vm = vm_next(NULL);

	while (vm && index--)
		vm = vm_next(vm);
	return vm;
}

/* ---- help ---- */

static void help_line(struct console_out *o, const struct command *c, bool example)
{
	char words[64];

	format_buf(words, sizeof(words), "%s%s%s %s", c->word, c->sub ? " " : "", c->sub ? c->sub : "", c->args);
	if (strlen(words) > 26)
		console_printf(o, "  %s\n  %-26s %s\n", words, "", c->help);
	else
		console_printf(o, "  %-26s %s\n", words, c->help);
	if (example)
		console_printf(o, "    for example: %s\n", c->example);
}

static int help_some(struct command_run *r)
{
	const char *a = r->argc > 1 ? r->argv[1] : NULL, *b = r->argc > 2 ? r->argv[2] : NULL;

	for (u32 n = 0; r->at < ARRAY_SIZE(table) && n < HELP_PER_PIECE; r->at++) {
		const struct command *c = &table[r->at];

		if (a && (!str_eq(c->word, a) || (b && find(a, b) != c)))
			continue;
		help_line(r->out, c, a != NULL);
		n++;
	}
	if (r->at < ARRAY_SIZE(table))
		r->more = help_some;
	return 0;
}

static int cmd_help(struct command_run *r)
{
	const char *a = r->argc > 1 ? r->argv[1] : NULL, *b = r->argc > 2 ? r->argv[2] : NULL;

	if (a && !(b ? find(a, b) != NULL : word_known(a)))
		return fail_unknown(r, a, b);
	if (!a)
		console_printf(r->out, "Commands (sizes: 4096, 64K, 192M, 2G; Tab completes, Ctrl-C clears the line;\n"
				       "any with --json, or with --plain for a last line that says ok or error;\n"
				       "`more help`: by pages; `help COMMAND` or `COMMAND ?`: with an example):\n");
	return help_some(r);
}

/* ---- completion ---- */

#define LIST_COLUMNS 79U
#define LIST_MORE    " ..."

struct candidates {
	const char *prefix;
	char common[CONSOLE_LINE_MAX]; /* what all of them begin with */
	u32 count;
	char *list; /* all of them in rows, if somebody wants to see them, and LIST_MORE if they do not fit */
	size_t size, at, row, last; /* bytes of list: there are, used, before the present row and the last word */
	bool cut;
};

/* Words that are the same come one after the other. */
static void list_word(struct candidates *c, const char *word)
{
	size_t n = strlen(word);

	if (!c->size || c->cut || (c->at && str_eq(c->list + c->last, word)))
		return;
	if (c->at + n + sizeof("  " LIST_MORE) > c->size) {
		c->cut = true;
		str_copy(c->list + c->at, LIST_MORE, c->size - c->at);
		return;
	}
	if (c->at && c->at - c->row + 2 + n > LIST_COLUMNS) {
		c->list[c->at++] = '\n';
		c->row = c->at;
	} else if (c->at) {
		c->at = format_append(c->list, c->size, c->at, "  ");
	}
	c->last = c->at;
	c->at = format_append(c->list, c->size, c->at, "%s", word);
}

static void consider(struct candidates *c, const char *word)
{
	size_t n = 0;

	if (!str_starts(word, c->prefix))
		return;
	list_word(c, word);
	if (c->count && str_eq(c->common, word))
		return;
	if (c->count++ == 0) {
		str_copy(c->common, word, sizeof(c->common));
		return;
	}
	while (word[n] && word[n] == c->common[n])
		n++;
	c->common[n] = 0;
}

static void consider_vms(struct candidates *c)
{
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm))
		consider(c, vm->config.name);
}

#define COMPLETE_WORDS 6U

static void consider_keys(struct candidates *c, const char *(*key)(u32 i), const char *behind)
{
	char word[40];

	for (u32 i = 0; key(i); i++) {
		format_buf(word, sizeof(word), "%s%s", key(i), behind);
		consider(c, word);
	}
}

static void consider_fields(struct candidates *c, bool host)
{
	for (u32 i = 0; i < HISTORY_FIELDS; i++)
		consider(c, host ? history_host_field[i].name : history_vm_field[i].name);
}

/* What one alternative of a help line's argument stands for: capitals for a kind of names, else itself. */
static void consider_argument(struct candidates *c, const char *arg, bool host)
{
	if (str_eq(arg, "NAME"))
		consider_vms(c);
	else if (str_eq(arg, "KEY"))
		consider_keys(c, config_host_key, "");
	else if (str_starts(arg, "KEY="))
		consider_keys(c, config_vm_key, "=");
	else if (str_eq(arg, "SETTING"))
		consider_keys(c, config_vm_key, "");
	else if (str_eq(arg, "FIELD"))
		consider_fields(c, host);
	else if (str_eq(arg, "COMMAND"))
		for (u32 i = 0; i < ARRAY_SIZE(table); i++)
			consider(c, table[i].word);
	else if (*arg >= 'a' && *arg <= 'z')
		consider(c, arg);
}

/*
 * The alternatives of argument `index` in a help line such as "[NAME SIZE|auto]"; the last may be given more than once.
 */
static void consider_arguments(struct candidates *c, const struct command *cmd, u32 index, bool host)
{
	const char *s = cmd->args;
	char word[40];
	size_t n = 0;

	for (; index && *s; s++)
		if (*s == ' ' && s[1] && !str_starts(s + 1, "..."))
			index--;
	if (index && !strchr(cmd->args, '='))
		return;
	if (index)
		s = strrchr(cmd->args, ' ') + 1;
	for (; n || *s; s++) {
		if (*s == '[' || *s == ']')
			continue;
		if (*s && *s != ' ' && *s != '|' && n + 1 < sizeof(word)) {
			word[n++] = *s;
			continue;
		}
		word[n] = 0;
		n = 0;
		consider_argument(c, word, host);
		if (*s != '|')
			return;
	}
}

/* Candidates for the word that follows `count` complete ones. */
static void collect(struct candidates *c, u32 count, char (*word)[COMMAND_NAME_BYTES])
{
	bool help = count && str_eq(word[0], "help"), host = count && str_eq(word[count - 1], "host");

	for (u32 i = 0; i < ARRAY_SIZE(table); i++) {
		const struct command *cmd = &table[i];
		u32 words = cmd->sub ? 2 : 1;

		if (count == 0)
			consider(c, cmd->word);
		else if (help && count == 2 && cmd->sub && str_eq(cmd->word, word[1]))
			consider(c, cmd->sub);
		else if (count == 1 && str_eq(cmd->word, word[0]) && cmd->sub)
			consider(c, cmd->sub);
		if (count >= words && str_eq(cmd->word, word[0]) && (!cmd->sub || str_eq(cmd->sub, word[1])) &&
		    count - words < cmd->args_max)
			consider_arguments(c, cmd, count - words, host);
	}
}

/* What the word at the end of the line may become. */
static void gather(const char *line, struct candidates *c)
{
	char word[COMPLETE_WORDS][COMMAND_NAME_BYTES];
	u32 count = 0;
	size_t n;

	for (;;) {
		while (is_blank(*line))
			line++;
		for (n = 0; line[n] && !is_blank(line[n]);)
			n++;
		if (!line[n])
			break;
		if (count == ARRAY_SIZE(word) || (count < 2 && n >= COMMAND_NAME_BYTES))
			return;
		n = MIN(n, COMMAND_NAME_BYTES - 1);
		memcpy(word[count], line, n);
		word[count++][n] = 0;
		while (*line && !is_blank(*line))
			line++;
	}
	c->prefix = line;
	collect(c, count, word);
}

void command_complete(const char *line, char *add, size_t size)
{
	struct candidates c = {.count = 0};

	add[0] = 0;
	gather(line, &c);
	if (c.count)
		format_buf(add, size, "%s%s", c.common + strlen(c.prefix),
			   c.count == 1 && !strchr(c.common, '=') ? " " : "");
}

void command_candidates(const char *line, char *list, size_t size)
{
	struct candidates c = {.list = list, .size = size};

	list[0] = 0;
	gather(line, &c);
	if (c.count < 2)
		list[0] = 0;
}
