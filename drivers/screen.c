/*
 * See screen.h. Text is grey, and grey is the same in every order of colours.
 *
 * The buffer is only written, never read: reading it back would take longer than drawing. `shown` remembers
 * what stands there. A pass over all rows draws the text as it was when the pass began, `wanted`: a text that scrolls
 * meanwhile would leave rows out. Locking: screen_lock guards the text; `wanted`, `shown` and the buffer belong to
 * whoever draws: the boot CPU.
 */
#include "drivers/screen.h"
#include "arch/x86/cpu.h"
#include "drivers/textscreen.h"
#include "lib/err.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/string.h"
#include "lib/timer.h"
#include "lib/work.h"

#define INK         0x00d0d0d0U
#define PAPER       0x00000000U
#define CURSOR      0x200 /* in `shown` and `wanted` only */
#define DRAW_NS     (100 * NSEC_PER_MSEC)
#define BIG_WIDTH   2560U /* from here on every point is drawn as four */
#define SIDE_MAX    16384U
#define CELLS_A_RUN 256U /* bounds one piece of drawing */

static struct lock screen_lock = LOCK_INIT("screen", LOCK_RANK_SCREEN);
static struct textscreen text;
static u16 shown[TEXTSCREEN_ROWS_MAX][TEXTSCREEN_COLS_MAX], wanted[TEXTSCREEN_ROWS_MAX][TEXTSCREEN_COLS_MAX];
static volatile u8 *buffer;
static u32 pitch, scale;
static bool present, later, changed;
static u32 next_row; /* of the pass that is under way */
static struct timer timer;
static struct work work;

/* One line of a glyph, every point `scale` times as wide. */
static void draw_line(volatile u32 *to, u8 bits)
{
	for (u32 mask = 0x80; mask; mask >>= 1) {
		u32 colour = bits & mask ? INK : PAPER;

		for (u32 i = 0; i < scale; i++)
			*to++ = colour;
	}
}

static void draw_cell(u32 x, u32 y, u16 cell)
{
	const u8 *glyph = font_8x16[MIN((u32)(cell & 0xff), FONT_GLYPHS - 1)];
	bool inverse = !(cell & TEXTSCREEN_INVERSE) != !(cell & CURSOR);
	volatile u8 *to = buffer + (u64)(y * FONT_HEIGHT * scale) * pitch + x * FONT_WIDTH * scale * 4;

	for (u32 line = 0; line < FONT_HEIGHT; line++) {
		for (u32 i = 0; i < scale; i++, to += pitch)
			draw_line((volatile u32 *)to, inverse ? ~glyph[line] : glyph[line]);
	}
}

/* Returns how many cells had to be drawn. */
static u32 draw_row(u32 y)
{
	u32 drawn = 0;

	for (u32 x = 0; x < text.cols; x++) {
		if (wanted[y][x] == shown[y][x])
			continue;
		draw_cell(x, y, wanted[y][x]);
		shown[y][x] = wanted[y][x];
		drawn++;
	}
	return drawn;
}

/* screen_lock held, or nobody else writes. */
static void take_picture(void)
{
	for (u32 y = 0; y < text.rows; y++)
		memcpy(wanted[y], textscreen_row(&text, y), text.cols * sizeof(wanted[y][0]));
	wanted[text.y][MIN(text.x, text.cols - 1)] |= CURSOR;
}

static void draw_all(void)
{
	take_picture();
	for (u32 y = 0; y < text.rows; y++)
		draw_row(y);
}

/* A piece of a pass over all rows. */
static void draw_some(struct work *w)
{
	if (next_row == 0) {
		lock_acquire(&screen_lock);
		take_picture();
		lock_release(&screen_lock);
	}
	for (u32 drawn = 0; next_row < text.rows && drawn < CELLS_A_RUN; next_row++)
		drawn += draw_row(next_row);
	if (next_row < text.rows)
		work_queue(w);
}

static void tick(struct timer *t)
{
	if (READ_ONCE(changed) && !work_is_queued(&work)) {
		WRITE_ONCE(changed, false);
		next_row = 0;
		work_queue(&work);
	}
	timer_arm(t, cpu_now_ns() + DRAW_NS);
}

void screen_write(const char *s, size_t len)
{
	if (!present)
		return;
	lock_acquire(&screen_lock);
	textscreen_write(&text, s, len);
	if (!later)
		draw_all();
	lock_release(&screen_lock);
	WRITE_ONCE(changed, true);
}

void screen_write_sync(const char *s, size_t len)
{
	if (!present)
		return;
	textscreen_write(&text, s, len);
	draw_all();
}

static void show_log(void)
{
	char line[LOG_LINE_BYTES];
	u64 cursor = 0;

	while (log_read(&cursor, line, sizeof(line))) {
		size_t n = 0;

		while (line[n])
			n++;
		textscreen_write(&text, line, n);
		textscreen_write(&text, "\n", 1);
	}
	draw_all();
}

int screen_init(hpa_t base, u32 width, u32 height, u32 pitch_bytes)
{
	volatile void *va;
	int err;

	if (width < FONT_WIDTH || height < FONT_HEIGHT || width > SIDE_MAX || height > SIDE_MAX ||
	    pitch_bytes < width * 4 || pitch_bytes > SIDE_MAX * 4 || pitch_bytes % 4 || base.v % 4)
		return E_INVAL;
	err = mmio_map_combining(base, (u64)pitch_bytes * height, &va);
	if (err)
		return err;
	buffer = va;
	pitch = pitch_bytes;
	scale = width >= BIG_WIDTH ? 2 : 1;
	for (u64 i = 0; i < (u64)pitch * height; i += 4)
		*(volatile u32 *)(buffer + i) = PAPER;
	textscreen_init(&text, width / (FONT_WIDTH * scale), height / (FONT_HEIGHT * scale));
	for (u32 y = 0; y < text.rows; y++)
		for (u32 x = 0; x < text.cols; x++)
			shown[y][x] = TEXTSCREEN_BLANK;
	log_info("screen", "%ux%u: %ux%u characters", width, height, text.cols, text.rows);
	present = true;
	show_log();
	return 0;
}

void screen_start(void)
{
	if (!present)
		return;
	work_init(&work, "screen", draw_some);
	timer_init(&timer, tick);
	later = true;
	tick(&timer);
}
