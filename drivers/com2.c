/* The second serial port. See com2.h. On the boot CPU only. */
#include "drivers/com2.h"

#include "arch/x86/asm.h"
#include "drivers/uart.h"

#define COM2             0x2f8
#define UART_IER         1
#define UART_FCR         2
#define UART_LCR         3
#define UART_MCR         4
#define UART_LSR         5
#define UART_SCRATCH     7
#define FCR_ENABLE_CLEAR 0x07
#define LCR_8N1          0x03
#define LCR_DLAB         0x80
#define MCR_DTR_RTS      0x03
#define LSR_THRE         0x20
#define FIFO_BYTES       16U
#define DIVISOR_115200   1
#define CALL_BYTES       256U /* most that one call hands over: bounds its time */

bool com2_init(void)
{
	if (uart_is_at(COM2))
		return false;
	outb(COM2 + UART_SCRATCH, 0x5a);
	if (inb(COM2 + UART_SCRATCH) != 0x5a)
		return false;
	outb(COM2 + UART_IER, 0);
	outb(COM2 + UART_LCR, LCR_DLAB);
	outb(COM2 + 0, DIVISOR_115200);
	outb(COM2 + 1, 0);
	outb(COM2 + UART_LCR, LCR_8N1);
	outb(COM2 + UART_FCR, FCR_ENABLE_CLEAR);
	outb(COM2 + UART_MCR, MCR_DTR_RTS);
	return true;
}

size_t com2_write(const char *text, size_t len)
{
	size_t at = 0;

	len = MIN(len, CALL_BYTES);
	while (at < len && (inb(COM2 + UART_LSR) & LSR_THRE))
		for (u32 i = 0; i < FIFO_BYTES && at < len; i++)
			outb(COM2, (u8)text[at++]);
	return at;
}
