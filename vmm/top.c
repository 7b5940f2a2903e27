/*
 * Screens of `top`. See top.h.
 *
 * Lines are at most columns - 1 wide, so that no terminal wraps, and a screen has at most `rows` of them. Columns that
 * find no room are left out, and reached by the arrow keys.
 */
#include "vmm/top.h"

#include "lib/format.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "vmm/monitor.h"

#define LINES_PER_PIECE 12U
#define HOST_LINES      7U /* above the table's header */
#define NAME_WIDTH      11U
#define COLUMN_WIDTH    7U
#define LINE_BYTES      (TOP_COLUMNS_MAX + 40)
#define SOON_SEC        3600U /* what is farther off is not told */
#define UNKNOWN         (~0UL)
#define INTERVAL_MAX    60U
#define KEY_ESC         27
#define KEY_CTRL_C      3

/* ---- columns ---- */

enum kind { PAGES, NUMBER, PERMILLE, YES_NO, STATE };

struct column {
	const char *title;
	enum kind kind;
	u64 (*value)(const struct monitor_vm *m);
};

#define COLUMN(name, expression)                          \
	static u64 get_##name(const struct monitor_vm *m) \
	{                                                 \
		const struct vm_figures *f = &m->now;     \
		const struct vm_rates *r = &m->rate;      \
                                                          \
		(void)f;                                  \
		(void)r;                                  \
		return (expression);                      \
	}

COLUMN(id, m->id)
COLUMN(memsz, f->pages)
COLUMN(granted, f->pages - f->count[PAGE_ABSENT] - f->count[PAGE_BALLOONED] - f->count[PAGE_SWAPPED] -
		    f->count[PAGE_COMPRESSED] - f->count[PAGE_CLEAN])
COLUMN(consumed, f->consumed)
COLUMN(target, f->target)
COLUMN(balloon, f->count[PAGE_BALLOONED])
COLUMN(balloon_target, f->balloon_target)
COLUMN(balloon_max, f->balloon_max)
COLUMN(balloon_driver, f->balloon_present && !f->balloon_stalled)
COLUMN(touched, f->active)
COLUMN(written, f->written_known ? f->written : UNKNOWN)
COLUMN(active, f->pages ? (u64)f->active * 1000 / f->pages : 0)
COLUMN(active_slow, f->active_slow)
COLUMN(active_fast, f->active_fast)
COLUMN(swapped, f->count[PAGE_SWAPPED] + f->count[PAGE_SWAPPING_IN] + f->count[PAGE_SWAPPING_OUT])
COLUMN(swap_in, r->swap_in)
COLUMN(swap_out, r->swap_out)
COLUMN(zero, f->count[PAGE_ZERO])
COLUMN(shared, f->count[PAGE_SHARED])
COLUMN(hinted, f->hinted)
COLUMN(cow, r->cow_breaks)
COLUMN(compressed, f->count[PAGE_COMPRESSED])
COLUMN(zip_size, f->zip_frames)
COLUMN(zip_used, DIV_ROUND_UP(f->zip_bytes, PAGE_SIZE))
COLUMN(zip_in, r->zip_in)
COLUMN(zip_out, r->zip_out)
COLUMN(reservation, f->reservation)
COLUMN(limit, f->limit)
COLUMN(shares, f->shares)
COLUMN(tables, f->tables)
COLUMN(saved, figures_vm_saved(f, &monitor_host()->now))
COLUMN(tables_max, f->tables_max)
COLUMN(waiting, r->wait_permille)
COLUMN(cpu, r->run_permille)
COLUMN(state, f->state)
COLUMN(exits, r->exits)
COLUMN(exits_npf, r->exits_of[HV_EXIT_NPF])
COLUMN(exits_hlt, r->exits_of[HV_EXIT_HLT])
COLUMN(exits_call, r->exits_of[HV_EXIT_HYPERCALL])
COLUMN(exits_irq, r->exits_of[HV_EXIT_HOST_IRQ])
COLUMN(exits_cpuid, r->exits_of[HV_EXIT_CPUID])
COLUMN(exits_msr, r->exits_of[HV_EXIT_MSR_READ] + r->exits_of[HV_EXIT_MSR_WRITE])
COLUMN(exits_io, r->exits_of[HV_EXIT_IO])
COLUMN(vcpus, f->vcpus)
COLUMN(disk_reads, f->has_disk ? r->disk_reads : UNKNOWN)
COLUMN(disk_writes, f->has_disk ? r->disk_writes : UNKNOWN)
COLUMN(disk_us, f->has_disk ? r->disk_us : UNKNOWN)
COLUMN(operations, f->speaks ? r->operations : UNKNOWN)
COLUMN(latency, f->speaks ? f->guest.latency_ns / NSEC_PER_USEC : UNKNOWN)
COLUMN(hit_rate, f->speaks ? f->guest.hit_permille : UNKNOWN)
COLUMN(refaults, r->refaults)
COLUMN(guest_free, f->speaks ? f->guest.free : UNKNOWN)

/*
 * What compression and swap still have to take: what it holds above its target, or above its limit while they take
 * nothing for the host (from *hard* on they do), and what its balloon is not about to take.
 */
static u64 swap_target(const struct vm_figures *f)
{
	u32 bound = monitor_host()->now.reclaim.state >= RECLAIM_HARD ? f->target : f->limit;
	u32 coming = f->balloon_target - MIN(f->count[PAGE_BALLOONED], f->balloon_target);
	u32 over = f->consumed - MIN(f->consumed, bound);

	return over - MIN(over, coming);
}

COLUMN(swap_target, swap_target(f))
COLUMN(pressure, f->demand == DYNMEM_OFF ? UNKNOWN : (u64)f->pressure * 10)

static const struct column memory_column[] = {
    {"MEMSZ", PAGES, get_memsz},
    {"CNSM", PAGES, get_consumed},
    {"SZTGT", PAGES, get_target},
    {"MCTLSZ", PAGES, get_balloon},
    {"MCTLTG", PAGES, get_balloon_target},
    {"SWCUR", PAGES, get_swapped},
    {"SWR/s", NUMBER, get_swap_in},
    {"SWW/s", NUMBER, get_swap_out},
    {"SHRD", PAGES, get_shared},
    {"%LAT_M", PERMILLE, get_waiting},
    {"%PRES", PERMILLE, get_pressure},
    {"TCHD", PAGES, get_touched},
    {"TCHD_W", PAGES, get_written},
    {"%ACTV", PERMILLE, get_active},
    {"%ACTVS", PERMILLE, get_active_slow},
    {"%ACTVF", PERMILLE, get_active_fast},
    {"ZERO", PAGES, get_zero},
    {"SHSAVD", PAGES, get_saved},
    {"COWH", PAGES, get_hinted},
    {"COW/s", NUMBER, get_cow},
    {"ZIP", PAGES, get_compressed},
    {"CACHSZ", PAGES, get_zip_size},
    {"CACHUS", PAGES, get_zip_used},
    {"ZIP/s", NUMBER, get_zip_in},
    {"UNZP/s", NUMBER, get_zip_out},
    {"GRANT", PAGES, get_granted},
    {"RESV", PAGES, get_reservation},
    {"LIMIT", PAGES, get_limit},
    {"SHARES", NUMBER, get_shares},
    {"MCTL?", YES_NO, get_balloon_driver},
    {"MCTLMX", PAGES, get_balloon_max},
    {"SWTGT", PAGES, get_swap_target},
    {"OVHD", PAGES, get_tables},
    {"OVHDMX", PAGES, get_tables_max},
};

static const struct column effect_column[] = {
    {"%CPU", PERMILLE, get_cpu},         {"EXIT/s", NUMBER, get_exits},    {"DSKR/s", NUMBER, get_disk_reads},
    {"DSKW/s", NUMBER, get_disk_writes}, {"DSK_us", NUMBER, get_disk_us},  {"OPS/s", NUMBER, get_operations},
    {"OP_us", NUMBER, get_latency},      {"%HIT", PERMILLE, get_hit_rate}, {"MCTLSZ", PAGES, get_balloon},
    {"SWR/s", NUMBER, get_swap_in},      {"RFLT/s", NUMBER, get_refaults}, {"SWCUR", PAGES, get_swapped},
    {"%LAT_M", PERMILLE, get_waiting},   {"NPF/s", NUMBER, get_exits_npf}, {"HLT/s", NUMBER, get_exits_hlt},
    {"CALL/s", NUMBER, get_exits_call},  {"IRQ/s", NUMBER, get_exits_irq}, {"CPUID", NUMBER, get_exits_cpuid},
    {"MSR/s", NUMBER, get_exits_msr},    {"IO/s", NUMBER, get_exits_io},   {"GFREE", PAGES, get_guest_free},
    {"VCPUS", NUMBER, get_vcpus},        {"STATE", STATE, get_state},
};

static const struct {
	const struct column *column;
	u32 count;
	const char *name;
} page_info[TOP_PAGES] = {{memory_column, ARRAY_SIZE(memory_column), "memory"},
			  {effect_column, ARRAY_SIZE(effect_column), "effect"}};

/* Largest first, but for the order of creation. */
static const struct {
	u8 key;
	const char *name;
	u64 (*value)(const struct monitor_vm *m);
} sort_info[] = {{'i', "id", get_id},          {'m', "MEMSZ", get_memsz},   {'c', "CNSM", get_consumed},
		 {'b', "MCTLSZ", get_balloon}, {'s', "SWCUR", get_swapped}, {'r', "SWR/s", get_swap_in},
		 {'l', "%LAT_M", get_waiting}, {'u', "%CPU", get_cpu},      {'o', "OPS/s", get_operations}};

/* ---- the order of rows ---- */

static u64 sort_value(const struct top *t, u32 slot)
{
	const struct monitor_vm *m = monitor_at(slot);
	u64 value = sort_info[t->sort].value(m);

	if (value == UNKNOWN)
		value = 0;
	return (t->sort == 0) != t->reverse ? ~value : value;
}

/* Shell's sort: no room needed, and quick enough for all VMs there can be. */
static void sort_rows(struct top *t)
{
	static const u32 gaps[] = {109, 41, 19, 5, 1};
	static u64 value[VM_MAX];

	for (u32 i = 0; i < t->count; i++)
		value[i] = sort_value(t, t->order[i]);
	for (u32 g = 0; g < ARRAY_SIZE(gaps); g++) {
		for (u32 i = gaps[g]; i < t->count; i++) {
			u64 v = value[i];
			u16 slot = t->order[i];
			u32 j = i;

			for (; j >= gaps[g] && value[j - gaps[g]] < v; j -= gaps[g]) {
				value[j] = value[j - gaps[g]];
				t->order[j] = t->order[j - gaps[g]];
			}
			value[j] = v;
			t->order[j] = slot;
		}
	}
}

static u32 table_rows(const struct top *t)
{
	return t->rows - HOST_LINES - 3; /* an empty line, the header, the keys */
}

static u32 selected_row(const struct top *t)
{
	for (u32 i = 0; i < t->count; i++)
		if (monitor_at(t->order[i])->id == t->selected)
			return i;
	return 0;
}

void top_begin(struct top *t)
{
	u32 row;

	t->line = t->count = 0;
	for (u32 i = 0; i < VM_MAX; i++)
		if (monitor_at(i))
			t->order[t->count++] = (u16)i;
	sort_rows(t);
	row = selected_row(t);
	if (t->count)
		t->selected = monitor_at(t->order[row])->id;
	if (row < t->first_row)
		t->first_row = row;
	if (row >= t->first_row + table_rows(t))
		t->first_row = row - table_rows(t) + 1;
	if (t->count <= table_rows(t))
		t->first_row = 0;
}

/* ---- lines ---- */

static const char *size_of(char buf[FORMAT_SIZE_BYTES], u64 pages)
{
	return format_size(buf, pages << PAGE_SHIFT);
}

static void host_line(const struct top *t, char *b, size_t size)
{
	const struct host_figures *h = &monitor_host()->now;

	format_buf(b, size, "aerostat up %lus, %u VMs %u run, %s %lus, %u alerts, page %s, by %s", h->ns / NSEC_PER_SEC,
		   h->vms, h->running, reclaim_state_name(h->reclaim.state),
		   (h->ns - MIN(h->reclaim.state_since_ns, h->ns)) / NSEC_PER_SEC, alerts_raised(),
		   page_info[t->page].name, sort_info[t->sort].name);
}

static void memory_line(char *b, size_t size)
{
	char total[FORMAT_SIZE_BYTES], own[FORMAT_SIZE_BYTES], guests[FORMAT_SIZE_BYTES], free[FORMAT_SIZE_BYTES];
	const struct host_figures *h = &monitor_host()->now;
	char min[FORMAT_SIZE_BYTES];

	format_buf(b, size, "memory  total=%s hypervisor=%s guests=%s free=%s min-free=%s",
		   size_of(total, h->memory.total), size_of(own, h->memory.hypervisor),
		   size_of(guests, h->memory.guest), size_of(free, h->memory.free), size_of(min, h->reclaim.min_free));
}

/* '#' the hypervisor, '=' guests, '.' free; '|' where minFree would be reached. */
static void bar_line(const struct top *t, char *b, size_t size)
{
	const struct host_figures *h = &monitor_host()->now;
	u32 width = MIN(t->columns, TOP_COLUMNS_MAX) - 12;
	u64 total = MAX(h->memory.total, 1UL);
	u32 own = (u32)(h->memory.hypervisor * width / total), used = width - (u32)(h->memory.free * width / total);
	u32 mark = width - (u32)MIN(h->reclaim.min_free * (u64)width / total, width - 1) - 1;
	size_t at = format_append(b, size, 0, "        [");

	for (u32 i = 0; i < width && at + 2 < size; i++)
		b[at++] = i == mark ? '|' : i < own ? '#' : i < used ? '=' : '.';
	b[at++] = ']';
	b[at] = 0;
}

static void commit_line(char *b, size_t size)
{
	s64 change = monitor_host()->rate.free_change;
	char speed[FORMAT_SIZE_BYTES];
	u64 c[MONITOR_LOADS], seconds = monitor_seconds_to(RECLAIM_HARD);
	size_t at;

	for (u32 i = 0; i < MONITOR_LOADS; i++)
		c[i] = monitor_overcommit(i);
	at = format_append(b, size, 0, "commit  1/5/15 min %lu.%02lu %lu.%02lu %lu.%02lu  free %s%s/s", c[0] / 100,
			   c[0] % 100, c[1] / 100, c[1] % 100, c[2] / 100, c[2] % 100, change < 0 ? "-" : "+",
			   size_of(speed, (u64)(change < 0 ? -change : change)));
	if (seconds && seconds < SOON_SEC)
		format_append(b, size, at, ", at this rate hard in %lus", seconds);
}

static void sharing_line(char *b, size_t size)
{
	char shared[FORMAT_SIZE_BYTES], zero[FORMAT_SIZE_BYTES], common[FORMAT_SIZE_BYTES], saved[FORMAT_SIZE_BYTES];
	char zip[FORMAT_SIZE_BYTES], pool[FORMAT_SIZE_BYTES];
	const struct host_figures *h = &monitor_host()->now;

	format_buf(b, size, "sharing zero=%s shared=%s common=%s saved=%s  zip=%s in %s",
		   size_of(zero, h->page[PAGE_ZERO]), size_of(shared, h->page[PAGE_SHARED]),
		   size_of(common, h->share.shared_frames), size_of(saved, figures_saved(h)),
		   size_of(zip, h->page[PAGE_COMPRESSED]), size_of(pool, h->zip.frames));
}

static void balloon_line(const struct top *t, char *b, size_t size)
{
	char is[FORMAT_SIZE_BYTES], target[FORMAT_SIZE_BYTES], most[FORMAT_SIZE_BYTES];
	const struct host_figures *h = &monitor_host()->now;
	char swap[FORMAT_SIZE_BYTES];
	u64 max = 0, to_swap = 0;

	for (u32 i = 0; i < t->count; i++) {
		const struct monitor_vm *m = monitor_at(t->order[i]);

		max += m ? m->now.balloon_max : 0;
		to_swap += m ? get_swap_target(m) : 0;
	}
	format_buf(b, size, "balloon balloon=%s target=%s max=%s  swap-target=%s", size_of(is, h->reclaim.ballooned),
		   size_of(target, h->reclaim.ballooned_target), size_of(most, max), size_of(swap, to_swap));
}

static void swap_line(char *b, size_t size)
{
	const struct monitor_host *m = monitor_host();
	char used[FORMAT_SIZE_BYTES], total[FORMAT_SIZE_BYTES];

	format_buf(b, size, "swap    used=%s of %s, in %u/s out %u/s  disk r/w %u/%u/s, %u us",
		   size_of(used, m->now.swap.used), size_of(total, m->now.swap.slots), m->rate.swap_in,
		   m->rate.swap_out, m->rate.disk_reads, m->rate.disk_writes, m->rate.disk_us);
}

static u32 columns_shown(const struct top *t)
{
	u32 room = (t->columns - 1 - NAME_WIDTH) / COLUMN_WIDTH, all = page_info[t->page].count;

	return MIN(room, all - t->first_column);
}

static void header_line(const struct top *t, char *b, size_t size)
{
	const struct column *c = page_info[t->page].column + t->first_column;
	size_t at = format_append(b, size, 0, " %-*s", (int)NAME_WIDTH - 1, "NAME");

	for (u32 i = 0; i < columns_shown(t); i++)
		at = format_append(b, size, at, " %6s", c[i].title);
}

/* At most 6 characters. */
static const char *short_number(char buf[FORMAT_SIZE_BYTES], u64 n)
{
	if (n < 1000000)
		format_buf(buf, FORMAT_SIZE_BYTES, "%lu", n);
	else if (n < 100000000)
		format_buf(buf, FORMAT_SIZE_BYTES, "%luk", n / 1000);
	else
		format_buf(buf, FORMAT_SIZE_BYTES, "%luM", MIN(n / 1000000, 99999UL));
	return buf;
}

static const char *cell(char buf[FORMAT_SIZE_BYTES], const struct column *c, const struct monitor_vm *m)
{
	u64 v = c->kind == STATE || m->now.live ? c->value(m) : UNKNOWN;

	if (v == UNKNOWN)
		return "-";
	switch (c->kind) {
	case PAGES:
		return size_of(buf, v);
	case PERMILLE:
		format_buf(buf, FORMAT_SIZE_BYTES, "%lu.%lu", MIN(v / 10, 9999UL), v % 10);
		return buf;
	case YES_NO:
		return v ? "yes" : "no";
	case STATE:
		format_buf(buf, FORMAT_SIZE_BYTES, "%.6s", vm_state_name(m->now.state));
		return buf;
	default:
		return short_number(buf, v);
	}
}

static void vm_line(const struct top *t, u32 row, char *b, size_t size)
{
	const struct column *c = page_info[t->page].column + t->first_column;
	const struct monitor_vm *m = row < t->count ? monitor_at(t->order[row]) : NULL;
	char text[FORMAT_SIZE_BYTES];
	size_t at;

	b[0] = 0;
	if (!m)
		return;
	at = format_append(b, size, 0, "%c%s", m->id == t->selected && !t->plain ? '>' : ' ', m->name);
	for (u32 i = 0; i < columns_shown(t); i++)
		at = format_right(b, size, at, NAME_WIDTH + (i + 1) * COLUMN_WIDTH, cell(text, &c[i], m));
}

static void keys_line(const struct top *t, char *b, size_t size)
{
	if (t->keys_shown)
		format_buf(b, size, "sort: i m c b s r l u o, R reverse; arrows: select, columns; + - seconds (%u)",
			   t->interval);
	else
		format_buf(b, size, "1 memory  2 effect  arrows select, columns  ? more keys  q leaves");
}

/* Line n of the screen. False: there is none. */
static bool make_line(const struct top *t, u32 n, char *b, size_t size)
{
	u32 last = t->plain ? HOST_LINES + 1 + t->count - t->first_row : t->rows - 1;

	if (n > MIN(last, t->rows - 1))
		return false;
	b[0] = 0;
	if (n == 0)
		host_line(t, b, size);
	else if (n == 1)
		memory_line(b, size);
	else if (n == 2)
		bar_line(t, b, size);
	else if (n == 3)
		commit_line(b, size);
	else if (n == 4)
		sharing_line(b, size);
	else if (n == 5)
		balloon_line(t, b, size);
	else if (n == 6)
		swap_line(b, size);
	else if (n == HOST_LINES + 1)
		header_line(t, b, size);
	else if (n == t->rows - 1)
		keys_line(t, b, size);
	else if (n > HOST_LINES + 1)
		vm_line(t, t->first_row + n - HOST_LINES - 2, b, size);
	return true;
}

bool top_piece(struct top *t, struct console_out *o)
{
	char b[LINE_BYTES];

	for (u32 i = 0; i < LINES_PER_PIECE; i++, t->line++) {
		if (!make_line(t, t->line, b, sizeof(b)))
			return false;
		b[t->columns - 1] = 0;
		if (t->plain)
			console_printf(o, "%s\n", b);
		else
			console_printf(o, "%s%s\x1b[K%s", t->line ? "" : "\x1b[H", b,
				       t->line + 1 < t->rows ? "\n" : "\x1b[J");
	}
	return true;
}

/* ---- keys ---- */

void top_init(struct top *t, u32 columns, u32 rows, bool plain)
{
	memset(t, 0, sizeof(*t));
	t->columns = CLAMP(columns, TOP_COLUMNS_MIN, TOP_COLUMNS_MAX);
	t->rows = CLAMP(rows, TOP_ROWS_MIN, TOP_ROWS_MAX);
	t->plain = plain;
	t->interval = 1;
}

void top_ask_size(struct console_out *o)
{
	console_printf(o, "\x1b[H\x1b[J\x1b[?25l\x1b[999;999H\x1b[6n\x1b[H");
}

void top_leave(struct console_out *o)
{
	console_printf(o, "\x1b[?25h\x1b[H\x1b[J");
}

static void select_row(struct top *t, bool down)
{
	u32 row;

	top_begin(t); /* VMs may have gone */
	row = selected_row(t);
	if (down && row + 1 < t->count)
		row++;
	else if (!down && row)
		row--;
	if (t->count)
		t->selected = monitor_at(t->order[row])->id;
}

static void set_size(struct top *t)
{
	t->rows = CLAMP(t->other, TOP_ROWS_MIN, TOP_ROWS_MAX);
	t->columns = CLAMP(t->number, TOP_COLUMNS_MIN, TOP_COLUMNS_MAX);
}

/* The last byte of ESC [ number ; number X. */
static bool final_byte(struct top *t, u8 c)
{
	switch (c) {
	case 'A':
	case 'B':
		select_row(t, c == 'B');
		return true;
	case 'C':
		t->first_column = MIN(t->first_column + 1, page_info[t->page].count - 1);
		return true;
	case 'D':
		t->first_column -= t->first_column > 0;
		return true;
	case 'R':
		set_size(t);
		return true;
	}
	return false;
}

static bool escape_key(struct top *t, u8 c)
{
	if (t->esc == 1) {
		t->esc = c == '[' || c == 'O' ? 2 : 0;
		t->number = t->other = 0;
		return false;
	}
	if (c >= '0' && c <= '9') {
		t->number = MIN(t->number * 10 + (c - '0'), 9999U);
		return false;
	}
	if (c == ';') {
		t->other = t->number;
		t->number = 0;
		return false;
	}
	t->esc = 0;
	return final_byte(t, c);
}

static bool plain_key(struct top *t, u8 c)
{
	for (u32 i = 0; i < ARRAY_SIZE(sort_info); i++) {
		if (c == sort_info[i].key) {
			t->sort = i;
			t->reverse = false;
			return true;
		}
	}
	if (c == 'R')
		t->reverse = !t->reverse;
	else if (c == '?' || c == 'h')
		t->keys_shown = !t->keys_shown;
	else if (c == '+')
		t->interval = MIN(t->interval + 1, INTERVAL_MAX);
	else if (c == '-')
		t->interval = MAX(t->interval - 1, 1U);
	else if (c == '1' || c == '2') {
		t->page = c - '1';
		t->first_column = 0;
	} else
		return c == ' ';
	return true;
}

bool top_key(struct top *t, u8 c)
{
	if (c == 'q' || c == KEY_CTRL_C)
		t->done = true;
	if (t->done)
		return false;
	if (c == KEY_ESC) {
		t->esc = 1;
		return false;
	}
	return t->esc ? escape_key(t, c) : plain_key(t, c);
}
