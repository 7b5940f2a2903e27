/*
 * The log ring: lines of printable text, each ended by a newline, in a byte ring addressed by a running offset
 * (head, never wraps in practice). A reader whose cursor was overtaken is moved to the oldest whole line.
 *
 * Locking: log_lock (innermost rank) guards the ring and keeps console lines whole.
 */
#include "lib/log.h"

#include "lib/err.h"
#include "lib/format.h"
#include "lib/lock.h"
#include "lib/platform.h"
#include "lib/string.h"

#define GUEST_BURST 10U

static struct lock log_lock = LOCK_INIT("log", LOCK_RANK_LOG);
static char ring[LOG_RING_BYTES];
static u64 head;
static enum log_level console_level = LOG_INFO;

static void ring_put(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		ring[(head + i) % LOG_RING_BYTES] = text[i];
	head += len;
}

/* Text may hold what a guest or a disk says: control characters would play with the operator's terminal. */
static void make_printable(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((u8)text[i] < ' ' || (u8)text[i] >= 0x7f)
			text[i] = text[i] == '\t' ? ' ' : '?';
}

static void log_vline(enum log_level level, const char *area, const char *fmt, va_list ap)
{
	static const char *const mark[] = {
	    [LOG_ERROR] = "error: ", [LOG_WARN] = "warning: ", [LOG_INFO] = "", [LOG_DEBUG] = ""};
	char line[LOG_LINE_BYTES];
	u64 ms = platform_now_ns() / NSEC_PER_MSEC;
	const size_t room = sizeof(line) - 1; /* keeps a place for the newline */
	size_t len;

	len = format_append(line, room, 0, "[%lu.%03lu] cpu%u %s: %s", ms / 1000, ms % 1000, platform_this_cpu()->id,
			    area, mark[level]);
	len += (size_t)format_vbuf(line + len, room - len, fmt, ap);
	len = MIN(len, room - 1);
	make_printable(line, len);
	line[len++] = '\n';

	lock_acquire(&log_lock);
	ring_put(line, len);
	if (level <= console_level)
		platform_log_write(line, len);
	lock_release(&log_lock);
}

void log_line(enum log_level level, const char *area, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vline(level, area, fmt, ap);
	va_end(ap);
}

int log_err_at(const char *file, int line, const char *area, int err, const char *fmt, ...)
{
	char text[LOG_LINE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	format_vbuf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_line(LOG_ERROR, area, "%s (%s at %s:%d)", text, err_name(err), file, line);
	return err;
}

/* Gives back one token for each second gone; true if a line may be printed now. */
static bool limit_take(struct log_limit *limit, u64 now)
{
	u64 seconds = (now - limit->last_ns) / NSEC_PER_SEC;

	limit->last_ns += seconds * NSEC_PER_SEC;
	limit->tokens_used -= (u32)MIN(seconds, limit->tokens_used);
	if (limit->tokens_used >= GUEST_BURST) {
		limit->suppressed++;
		return false;
	}
	limit->tokens_used++;
	return true;
}

void log_guest(struct log_limit *limit, const char *area, const char *fmt, ...)
{
	u32 suppressed;
	va_list ap;
	bool allowed;

	lock_acquire(&log_lock);
	allowed = limit_take(limit, platform_now_ns());
	suppressed = allowed ? limit->suppressed : 0;
	limit->suppressed -= suppressed;
	lock_release(&log_lock);
	if (!allowed)
		return;
	if (suppressed)
		log_line(LOG_INFO, area, "%u lines suppressed", suppressed);
	va_start(ap, fmt);
	log_vline(LOG_INFO, area, fmt, ap);
	va_end(ap);
}

void log_set_level(enum log_level level)
{
	WRITE_ONCE(console_level, level);
}

enum log_level log_get_level(void)
{
	return READ_ONCE(console_level);
}

/* First line start at or after `at`, given that a line starts at 0 and after every newline. */
static u64 line_start(u64 at)
{
	while (at > 0 && at < head && ring[(at - 1) % LOG_RING_BYTES] != '\n')
		at++;
	return at;
}

bool log_read(u64 *cursor, char *buf, size_t size)
{
	size_t len = 0;
	u64 at;

	lock_acquire(&log_lock);
	/* One byte is given up so that the byte before the oldest line start is still there to look at. */
	at = head >= LOG_RING_BYTES ? MAX(*cursor, head - LOG_RING_BYTES + 1) : *cursor;
	at = line_start(at);
	if (at >= head) {
		*cursor = head;
		lock_release(&log_lock);
		return false;
	}
	for (; ring[at % LOG_RING_BYTES] != '\n'; at++)
		if (len + 1 < size)
			buf[len++] = ring[at % LOG_RING_BYTES];
	*cursor = at + 1;
	lock_release(&log_lock);
	if (size)
		buf[len] = '\0';
	return true;
}
