/*
 * The log: a ring of lines kept in memory (console command `log`) and written
 * to the console. Format: "[seconds.millis] cpuN area: text"; the text of errors
 * and warnings starts with "error: " or "warning: ".
 *
 * LOG_ERROR is for our own or the hardware's faults: nothing a guest does can
 * print it. Lines a guest causes go through log_guest(), which is rate-limited
 * per VM (struct log_limit).
 */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include "lib/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

#define LOG_LINE_BYTES 256 /* longer lines are cut */
#define LOG_RING_BYTES (64 * KIB)

void log_line(enum log_level level, const char *area, const char *fmt, ...) printf_like(3, 4);
#define log_error(area, ...) log_line(LOG_ERROR, area, __VA_ARGS__)
#define log_warn(area, ...)  log_line(LOG_WARN, area, __VA_ARGS__)
#define log_info(area, ...)  log_line(LOG_INFO, area, __VA_ARGS__)
#define log_debug(area, ...) log_line(LOG_DEBUG, area, __VA_ARGS__)

/* Token bucket: 10 lines at once, then one a second; what was suppressed is counted and reported by the next line. */
struct log_limit {
	u64 last_ns;
	u32 tokens_used, suppressed;
};
void log_guest(struct log_limit *limit, const char *area, const char *fmt, ...) printf_like(3, 4);

/* Level from which lines are written to the console (all are kept in the ring). Default LOG_INFO. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/*
 * Reads the ring: copies the line that starts at or after *cursor (0 = oldest kept)
 * into buf, terminated, and advances *cursor. False at the end.
 */
bool log_read(u64 *cursor, char *buf, size_t size);

/* Logs an error code where it arises and returns it: return log_err("nvme", E_IO, "queue %u", q); */
int log_err_at(const char *file, int line, const char *area, int err, const char *fmt, ...) printf_like(5, 6);
#define log_err(area, err, ...) log_err_at(__FILE__, __LINE__, area, err, __VA_ARGS__)

#endif
