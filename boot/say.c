/* See say.h. */
#include "boot/say.h"

#include "arch/x86/asm.h"
#include "lib/format.h"

#define COM1       0x3f8
#define UART_IER   1
#define UART_FCR   2
#define UART_LCR   3
#define UART_MCR   4
#define UART_LSR   5
#define LSR_THRE   0x20
#define LCR_8N1    0x03
#define LCR_DLAB   0x80
#define WAIT_SPINS 100000U

void com1_init(void)
{
	outb(COM1 + UART_LCR, LCR_DLAB);
	outb(COM1 + 0, 1); /* 115200 */
	outb(COM1 + 1, 0);
	outb(COM1 + UART_LCR, LCR_8N1);
	outb(COM1 + UART_IER, 0);
	outb(COM1 + UART_FCR, 0x07);
	outb(COM1 + UART_MCR, 0x03);
}

void com1_put(char c)
{
	for (u32 i = 0; i < WAIT_SPINS && !(inb(COM1 + UART_LSR) & LSR_THRE); i++)
		;
	outb(COM1, c);
}

void say_text(const char *text)
{
	for (; *text; text++) {
		if (*text == '\n')
			say_char('\r');
		say_char(*text);
	}
}

static void say_va(const char *fmt, va_list ap)
{
	char text[512];

	format_vbuf(text, sizeof(text), fmt, ap);
	say_text(text);
}

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_va(fmt, ap);
	va_end(ap);
}

void say_problem(const char *fmt, va_list ap, const char *next)
{
	say_text("Aerostat: error: ");
	say_va(fmt, ap);
	say("\nAerostat: not started; %s\n", next);
}
