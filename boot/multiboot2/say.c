/*
 * Messages of the multiboot2 loader: to the 16550 at COM1, polled, and once its place is known to the frame buffer, top
 * left and in grey, which is the same in every order of colours.
 */
#include <stdarg.h>

#include "arch/x86/asm.h"
#include "boot/multiboot2/loader.h"
#include "drivers/screen.h"
#include "lib/format.h"
#include "lib/string.h"

#define COM1       0x3f8
#define UART_IER   1
#define UART_FCR   2
#define UART_LCR   3
#define UART_MCR   4
#define UART_LSR   5
#define LSR_THRE   0x20
#define LCR_8N1    0x03
#define LCR_DLAB   0x80
#define WAIT_SPINS 100000
#define INK        0x00d0d0d0U
#define REACH      (4 * GIB) /* mapped 1:1 */

static struct boot_framebuffer fb;
static u32 column, row;

void say_init(void)
{
	outb(COM1 + UART_LCR, LCR_DLAB);
	outb(COM1 + 0, 1); /* 115200 */
	outb(COM1 + 1, 0);
	outb(COM1 + UART_LCR, LCR_8N1);
	outb(COM1 + UART_IER, 0);
	outb(COM1 + UART_FCR, 0x07);
	outb(COM1 + UART_MCR, 0x03);
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

static void put_char(char c)
{
	for (u32 i = 0; i < WAIT_SPINS && !(inb(COM1 + UART_LSR) & LSR_THRE); i++)
		;
	outb(COM1, c);
}

static void put_text(const char *s)
{
	for (; *s; s++) {
		if (*s == '\n')
			put_char('\r');
		put_char(*s);
		if (fb.base)
			draw_char(*s);
	}
}

static void say_va(const char *fmt, va_list ap)
{
	char text[512];

	format_vbuf(text, sizeof(text), fmt, ap);
	put_text(text);
}

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_va(fmt, ap);
	va_end(ap);
}

_Noreturn void say_error(const char *fmt, ...)
{
	va_list ap;

	put_text("Aerostat: error: ");
	va_start(ap, fmt);
	say_va(fmt, ap);
	va_end(ap);
	put_text("\nAerostat: not started; switch the machine off or press its reset button\n");
	for (;;)
		__asm__ volatile("cli\n\thlt");
}
