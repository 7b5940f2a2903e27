/*
 * Serial console: a 16550, 8N1, at COM1 with 115200 baud unless it is moved. Writing queues into a ring and never waits
 * for long: what does not fit in 2 ms is dropped as a whole and counted. A '\n' goes out as "\r\n". Usable from
 * cpu_init_boot() on.
 */
#ifndef DRIVERS_UART_H
#define DRIVERS_UART_H

#include "arch/x86/machine.h"
#include "lib/types.h"

#define UART_TX_BYTES (32 * KIB)
#define UART_RX_BYTES 1024U

void uart_init(void); /* polled; without a UART everything is dropped */
/*
 * At boot, between uart_init() and uart_init_irq(), with page tables of our own: uses another UART, which gets the log
 * so far. E_NODEV: none answers there, all stays as it is. E_NOMEM.
 */
int uart_move(const struct machine_serial *to) must_check;
bool uart_is_at(u16 port); /* the console's UART is there: it is nobody else's */
/* After irq_init() and time_init(): interrupts in both directions, polling as the fallback. */
void uart_init_irq(void);

/* Whole texts: two writes never mix. */
void uart_write(const char *text, size_t len);
u32 uart_tx_room(void); /* bytes that uart_write() takes now without waiting; a '\n' counts twice */
/* For panics: takes no lock, sends what is queued and then the text, waits for the device (bounded). */
void uart_write_sync(const char *text, size_t len);
/* Waits until everything queued is sent, at most `ms` milliseconds. */
void uart_flush(u32 ms);

/* Where everything that is written goes as well, with or without a UART: boot, once. */
void uart_set_mirror(void (*write)(const char *text, size_t len), void (*write_sync)(const char *text, size_t len));

int uart_read_byte(void); /* -1: none */
/* fn is called, possibly from an interrupt, when bytes have arrived: it queues work. */
void uart_set_rx_notify(void (*fn)(void));

struct uart_stats {
	u64 tx_bytes, tx_dropped, rx_bytes, rx_dropped, irqs;
	bool present, polled; /* polled: no interrupt has ever come */
};
void uart_stats(struct uart_stats *out);

#endif
