/* Messages of the multiboot2 loader: to the 16550 at COM1, polled. */
#include <stdarg.h>

#include "arch/x86/asm.h"
#include "boot/multiboot2/loader.h"
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
