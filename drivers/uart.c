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
#include "lib/err.h"
#include "lib/format.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/string.h"
#include "lib/timer.h"

#define COM1             0x3f8
#define COM1_LINE        4
#define CLOCK_BAUD       115200U
#define UART_DATA        0
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
#define UART_REGS        8

#define PUSH_MAX         1024U /* bytes moved to the device in one go: bounds the time with interrupts off */
#define WAIT_NS          (2 * NSEC_PER_MSEC)
#define SYNC_SPINS       200000U /* per byte; at 115200 a byte takes 87 us */
#define POLL_FAST_NS     (20 * NSEC_PER_MSEC)
#define POLL_SLOW_NS     (500 * NSEC_PER_MSEC)
#define POLL_ALWAYS_NS   NSEC_PER_MSEC /* without an interrupt line */
#define POLLS_TO_WARN    50U

static struct machine_serial place = {.addr = COM1, .stride = 1, .line = COM1_LINE, .baud = CLOCK_BAUD};
static volatile u8 *window; /* of a UART in memory */
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

static u8 reg_in(u32 reg)
{
	if (!window)
		return inb((u16)(place.addr + reg));
	return place.stride == 4 ? (u8) * (volatile u32 *)(window + reg * 4) : window[reg];
}

static void reg_out(u32 reg, u8 v)
{
	if (!window)
		outb((u16)(place.addr + reg), v);
	else if (place.stride == 4)
		*(volatile u32 *)(window + reg * 4) = v;
	else
		window[reg] = v;
}

static u32 tx_room(void)
{
	return UART_TX_BYTES - (tx_head - tx_tail);
}

static void set_ier(u8 v)
{
	if (v != ier)
		reg_out(UART_IER, v);
	ier = v;
}

/* Moves queued bytes to the device while it has room; asks for an interrupt if some remain. */
static void push_tx(void)
{
	u32 budget = PUSH_MAX;

	while (tx_tail != tx_head && budget >= FIFO_BYTES && (reg_in(UART_LSR) & LSR_THRE)) {
		for (u32 i = 0; i < FIFO_BYTES && tx_tail != tx_head; i++)
			reg_out(UART_DATA, tx[tx_tail++ % UART_TX_BYTES]);
		budget -= FIFO_BYTES;
	}
	if (irq_on)
		set_ier(IER_RX | (tx_tail != tx_head ? IER_THRE : 0));
}

/* True if bytes arrived. */
static bool pull_rx(void)
{
	bool any = false;

	for (u32 i = 0; i < UART_RX_BYTES && (reg_in(UART_LSR) & LSR_DATA); i++) {
		u8 c = reg_in(UART_DATA);

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

static void set_baud(void)
{
	u32 divisor = CLOCK_BAUD / place.baud;

	reg_out(UART_LCR, LCR_DLAB);
	reg_out(UART_DATA, (u8)divisor);
	reg_out(UART_IER, (u8)(divisor >> 8));
}

/* False: nothing answers as a UART does. The clock of one in memory is unknown: its speed stays as it is. */
static bool begin(void)
{
	reg_out(UART_SCRATCH, 0xa5);
	if (reg_in(UART_SCRATCH) != 0xa5)
		return false;
	reg_out(UART_IER, 0);
	if (place.baud && !place.memory)
		set_baud();
	reg_out(UART_LCR, LCR_8N1);
	reg_out(UART_FCR, FCR_ENABLE_CLEAR);
	reg_out(UART_MCR, MCR_DTR_RTS);
	return true;
}

void uart_init(void)
{
	stats.present = begin();
	stats.polled = true;
}

static void put_sync(char c)
{
	for (u32 i = 0; i < SYNC_SPINS && !(reg_in(UART_LSR) & LSR_THRE); i++)
		;
	reg_out(UART_DATA, c);
}

static void put_text_sync(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n')
			put_sync('\r');
		put_sync(text[i]);
	}
}

static void drain(void)
{
	while (tx_tail != tx_head)
		put_sync(tx[tx_tail++ % UART_TX_BYTES]);
}

/* The log so far, for whoever listens at the new place. */
static void repeat_log(void)
{
	char line[LOG_LINE_BYTES];
	u64 cursor = 0;

	while (log_read(&cursor, line, sizeof(line))) {
		put_text_sync(line, strlen(line));
		put_text_sync("\n", 1);
	}
}

bool uart_is_at(u16 port)
{
	return stats.present && !place.memory && place.addr == port;
}

int uart_move(const struct machine_serial *to)
{
	struct machine_serial before = place;
	volatile void *va = NULL;

	if (to->addr == place.addr && to->memory == place.memory)
		return 0;
	if (to->memory && mmio_map(HPA(to->addr), UART_REGS * to->stride, &va))
		return E_NOMEM;
	drain();
	place = *to;
	window = va;
	if (!begin()) {
		place = before;
		window = NULL;
		return E_NODEV;
	}
	stats.present = true;
	repeat_log();
	return 0;
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
	reg_in(UART_IIR); /* acknowledges THRE */
	service();
}

static void uart_poll(struct timer *t)
{
	service();
	if (irq_on && stats.polled && ++fruitless_polls == POLLS_TO_WARN)
		log_warn("uart", "no interrupt has come: polling every %lu ms", POLL_FAST_NS / NSEC_PER_MSEC);
	timer_arm(t, cpu_now_ns() + (!irq_on ? POLL_ALWAYS_NS : stats.polled ? POLL_FAST_NS : POLL_SLOW_NS));
}

void uart_init_irq(void)
{
	int vector;

	if (!stats.present)
		return;
	timer_init(&poll_timer, uart_poll);
	timer_arm(&poll_timer, cpu_now_ns() + POLL_FAST_NS);
	if (place.line == MACHINE_LINE_NONE) {
		log_info("uart", "no interrupt line is known: polling");
		return;
	}
	vector = irq_alloc(uart_irq, NULL, "uart");
	if (vector < 0 || irq_route_isa(place.line, vector)) {
		log_warn("uart", "no interrupt from line %u: polling", place.line);
		return;
	}
	lock_acquire(&uart_lock);
	reg_out(UART_MCR, MCR_DTR_RTS | MCR_OUT2);
	reg_in(UART_LSR);
	reg_in(UART_MSR);
	reg_in(UART_IIR);
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

void uart_write_sync(const char *text, size_t len)
{
	if (mirror_sync)
		mirror_sync(text, len);
	if (!stats.present)
		return;
	drain();
	put_text_sync(text, len);
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
		empty = tx_tail == tx_head && (reg_in(UART_LSR) & LSR_THRE);
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
