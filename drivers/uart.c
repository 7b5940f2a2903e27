/*
 * 16550 driver: see uart.h. Transmission is pushed by writers as far as the device takes it at once, then by the
 * THRE interrupt. A timer polls both directions: often until the first interrupt has been seen, rarely afterwards.
 *
 * Locking: uart_lock guards the rings. It is the innermost lock; the interrupt handler takes it too, which is safe
 * because interrupts are let in only where no lock is held.
 */
#include "drivers/uart.h"
#include "arch/x86/asm.h"
#include "arch/x86/cpu.h"
#include "lib/format.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/string.h"
#include "lib/timer.h"

#define COM1             0x3f8
#define COM1_IRQ         4
#define UART_IER         1
#define UART_IIR         2
#define UART_FCR         2
#define UART_LCR         3
#define UART_MCR         4
#define UART_LSR         5
#define UART_MSR         6
#define UART_SCRATCH     7
#define IER_RX           0x01
#define IER_THRE         0x02
#define FCR_ENABLE_CLEAR 0x07
#define LCR_8N1          0x03
#define LCR_DLAB         0x80
#define MCR_DTR_RTS      0x03
#define MCR_OUT2         0x08 /* gates the interrupt line */
#define LSR_DATA         0x01
#define LSR_THRE         0x20
#define FIFO_BYTES       16U
#define DIVISOR_115200   1

#define PUSH_MAX         1024U /* bytes moved to the device in one go: bounds the time with interrupts off */
#define WAIT_NS          (2 * NSEC_PER_MSEC)
#define SYNC_SPINS       200000U /* per byte; at 115200 a byte takes 87 us */
#define POLL_FAST_NS     (20 * NSEC_PER_MSEC)
#define POLL_SLOW_NS     (500 * NSEC_PER_MSEC)
#define POLLS_TO_WARN    50U

static struct lock uart_lock = LOCK_INIT("uart", LOCK_RANK_UART);
static char tx[UART_TX_BYTES];
static u8 rx[UART_RX_BYTES];
static u32 tx_head, tx_tail, rx_head, rx_tail; /* free-running: head next write, tail next read */
static u64 lost;                               /* bytes dropped since the last notice */
static u8 ier;
static bool irq_on;
static struct uart_stats stats;
static struct timer poll_timer;
static u32 fruitless_polls;
static void (*rx_notify)(void);
static void (*mirror)(const char *text, size_t len);
static void (*mirror_sync)(const char *text, size_t len);

static u32 tx_room(void)
{
	return UART_TX_BYTES - (tx_head - tx_tail);
}

static void set_ier(u8 v)
{
	if (v != ier)
		outb(COM1 + UART_IER, v);
	ier = v;
}

/* Moves queued bytes to the device while it has room; asks for an interrupt if some remain. */
static void push_tx(void)
{
	u32 budget = PUSH_MAX;

	while (tx_tail != tx_head && budget >= FIFO_BYTES && (inb(COM1 + UART_LSR) & LSR_THRE)) {
		for (u32 i = 0; i < FIFO_BYTES && tx_tail != tx_head; i++)
			outb(COM1, tx[tx_tail++ % UART_TX_BYTES]);
		budget -= FIFO_BYTES;
	}
	if (irq_on)
		set_ier(IER_RX | (tx_tail != tx_head ? IER_THRE : 0));
}

/* True if bytes arrived. */
static bool pull_rx(void)
{
	bool any = false;

	for (u32 i = 0; i < UART_RX_BYTES && (inb(COM1 + UART_LSR) & LSR_DATA); i++) {
		u8 c = inb(COM1);

		any = true;
		if (rx_head - rx_tail == UART_RX_BYTES) {
			stats.rx_dropped++;
			continue;
		}
		rx[rx_head++ % UART_RX_BYTES] = c;
		stats.rx_bytes++;
	}
	return any;
}

void uart_init(void)
{
	outb(COM1 + UART_SCRATCH, 0xa5);
	if (inb(COM1 + UART_SCRATCH) != 0xa5)
		return;
	outb(COM1 + UART_IER, 0);
	outb(COM1 + UART_LCR, LCR_DLAB);
	outb(COM1 + 0, DIVISOR_115200);
	outb(COM1 + 1, 0);
	outb(COM1 + UART_LCR, LCR_8N1);
	outb(COM1 + UART_FCR, FCR_ENABLE_CLEAR);
	outb(COM1 + UART_MCR, MCR_DTR_RTS);
	stats.present = true;
	stats.polled = true;
}

static void service(void)
{
	void (*notify)(void);
	bool arrived;

	lock_acquire(&uart_lock);
	arrived = pull_rx();
	push_tx();
	notify = rx_notify;
	lock_release(&uart_lock);
	if (arrived && notify)
		notify();
}

static void uart_irq(void *arg)
{
	(void)arg;
	stats.irqs++;
	stats.polled = false;
	inb(COM1 + UART_IIR); /* acknowledges THRE */
	service();
}

static void uart_poll(struct timer *t)
{
	service();
	if (stats.polled && ++fruitless_polls == POLLS_TO_WARN)
		log_warn("uart", "no interrupt has come: polling every %lu ms", POLL_FAST_NS / NSEC_PER_MSEC);
	timer_arm(t, cpu_now_ns() + (stats.polled ? POLL_FAST_NS : POLL_SLOW_NS));
}

void uart_init_irq(void)
{
	int vector;

	if (!stats.present)
		return;
	timer_init(&poll_timer, uart_poll);
	timer_arm(&poll_timer, cpu_now_ns() + POLL_FAST_NS);
	vector = irq_alloc(uart_irq, NULL, "uart");
	if (vector < 0 || irq_route_isa(COM1_IRQ, vector)) {
		log_warn("uart", "no interrupt for COM1: polling");
		return;
	}
	lock_acquire(&uart_lock);
	outb(COM1 + UART_MCR, MCR_DTR_RTS | MCR_OUT2);
	inb(COM1 + UART_LSR);
	inb(COM1 + UART_MSR);
	inb(COM1 + UART_IIR);
	irq_on = true;
	set_ier(IER_RX | IER_THRE); /* the first THRE interrupt shows whether the line works */
	lock_release(&uart_lock);
}

static u32 wire_bytes(const char *text, size_t len)
{
	u32 n = (u32)len;

	for (size_t i = 0; i < len; i++)
		n += text[i] == '\n';
	return n;
}

static void queue(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n')
			tx[tx_head++ % UART_TX_BYTES] = '\r';
		tx[tx_head++ % UART_TX_BYTES] = text[i];
	}
	stats.tx_bytes += len;
}

/* Before the clock runs (it stands at 0) the wait is bounded by the number of looks instead. */
static bool wait_room(u32 need)
{
	u64 start = cpu_now_ns();

	for (u32 spins = 0; tx_room() < need; spins++) {
		push_tx();
		if (cpu_now_ns() - start > WAIT_NS || spins > SYNC_SPINS)
			return false;
	}
	return true;
}

static void queue_lost_notice(void)
{
	char note[64];
	size_t n = format_append(note, sizeof(note), 0, "[console: %lu bytes lost]\n", lost);

	if (tx_room() >= wire_bytes(note, n)) {
		queue(note, n);
		lost = 0;
	}
}

void uart_write(const char *text, size_t len)
{
	u32 need = wire_bytes(text, len);

	if (mirror)
		mirror(text, len);
	if (!stats.present)
		return;
	lock_acquire(&uart_lock);
	if (need > UART_TX_BYTES / 2 || !wait_room(need + FIFO_BYTES)) {
		lost += len;
		stats.tx_dropped += len;
	} else {
		if (lost)
			queue_lost_notice();
		if (tx_room() >= need)
			queue(text, len);
	}
	push_tx();
	lock_release(&uart_lock);
}

u32 uart_tx_room(void)
{
	u32 room;

	lock_acquire(&uart_lock);
	room = stats.present ? tx_room() : UART_TX_BYTES;
	lock_release(&uart_lock);
	return room;
}

static void put_sync(char c)
{
	for (u32 i = 0; i < SYNC_SPINS && !(inb(COM1 + UART_LSR) & LSR_THRE); i++)
		;
	outb(COM1, c);
}

void uart_write_sync(const char *text, size_t len)
{
	if (mirror_sync)
		mirror_sync(text, len);
	if (!stats.present)
		return;
	while (tx_tail != tx_head)
		put_sync(tx[tx_tail++ % UART_TX_BYTES]);
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n')
			put_sync('\r');
		put_sync(text[i]);
	}
}

void uart_flush(u32 ms)
{
	u64 end = cpu_now_ns() + ms * NSEC_PER_MSEC;
	bool empty;

	if (!stats.present)
		return;
	do {
		lock_acquire(&uart_lock);
		push_tx();
		empty = tx_tail == tx_head && (inb(COM1 + UART_LSR) & LSR_THRE);
		lock_release(&uart_lock);
	} while (!empty && cpu_now_ns() < end);
}

int uart_read_byte(void)
{
	int c = -1;

	lock_acquire(&uart_lock);
	if (rx_tail != rx_head)
		c = rx[rx_tail++ % UART_RX_BYTES];
	lock_release(&uart_lock);
	return c;
}

void uart_set_mirror(void (*write)(const char *text, size_t len), void (*write_sync)(const char *text, size_t len))
{
	mirror = write;
	mirror_sync = write_sync;
}

void uart_set_rx_notify(void (*fn)(void))
{
	lock_acquire(&uart_lock);
	rx_notify = fn;
	lock_release(&uart_lock);
}

void uart_stats(struct uart_stats *out)
{
	lock_acquire(&uart_lock);
	*out = stats;
	lock_release(&uart_lock);
}
