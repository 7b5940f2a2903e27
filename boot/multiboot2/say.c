/*
 * Messages of the multiboot2 loader: to the 16550 at COM1, polled, and once its place is known to the frame buffer, top
 * left and in grey, which is the same in every order of colours.
 */
#include <stdarg.h>

#include "boot/multiboot2/loader.h"
#include "drivers/screen.h"

#define INK   0x00d0d0d0U
#define REACH (4 * GIB) /* mapped 1:1 */

static struct boot_framebuffer fb;
static u32 column, row;

void say_init(void)
{
	com1_init();
}

void say_on_screen(const struct boot_framebuffer *to)
{
	if (to->base && to->base + (u64)to->pitch_bytes * to->height <= REACH)
		fb = *to;
}

/* A cell is drawn with its paper, so that what stood there cannot be mistaken for text. Below the last row nothing is
 * drawn. */
static void draw_char(char c)
{
	const u8 *glyph = font_8x16[(u8)c % FONT_GLYPHS];

	if (c == '\n' || (column + 1) * FONT_WIDTH > fb.width) {
		column = 0;
		row++;
	}
	if (c == '\n' || !fb.base || (row + 1) * FONT_HEIGHT > fb.height)
		return;
	for (u32 y = 0; y < FONT_HEIGHT; y++) {
		volatile u32 *to = (volatile u32 *)(fb.base + (u64)(row * FONT_HEIGHT + y) * fb.pitch_bytes);

		for (u32 x = 0; x < FONT_WIDTH; x++)
			to[column * FONT_WIDTH + x] = glyph[y] << x & 0x80 ? INK : 0;
	}
	column++;
}

void say_char(char c)
{
	com1_put(c);
	if (fb.base && c != '\r')
		draw_char(c);
}

_Noreturn void say_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_problem(fmt, ap, "switch the machine off or press its reset button");
	va_end(ap);
	for (;;)
		__asm__ volatile("cli\n\thlt");
}
