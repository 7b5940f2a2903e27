/*
 * Text formatting: %d %i %u %x %X %c %s %p %% with l, ll, z, h, hh, width, precision, '0', '-', '*', '#'.
 */
#ifndef LIB_FORMAT_H
#define LIB_FORMAT_H

#include <stdarg.h>
#include "lib/types.h"

/* Like snprintf: always terminates if size > 0, returns the length the whole text would have. */
int format_buf(char *buf, size_t size, const char *fmt, ...) printf_like(3, 4);
int format_vbuf(char *buf, size_t size, const char *fmt, va_list ap);

/* Appends at offset `at`; returns the new length, at most size - 1 (for building a line in steps). */
size_t format_append(char *buf, size_t size, size_t at, const char *fmt, ...) printf_like(4, 5);

/*
 * Cells of a row of a table: text that begins at column `begin`, or ends before column `end`, at least one blank behind
 * what stands there. A word too long for its cell takes the blanks of the next ones, so that the row comes back into
 * its columns.
 */
size_t format_left(char *buf, size_t size, size_t at, size_t begin, const char *text);
size_t format_right(char *buf, size_t size, size_t at, size_t end, const char *text);

/* "1.5G", "192M", "12K", "17": binary units, at most 6 characters. Returns buf. */
#define FORMAT_SIZE_BYTES 12
char *format_size(char buf[FORMAT_SIZE_BYTES], u64 bytes);

#endif
