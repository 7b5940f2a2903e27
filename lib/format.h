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

/* "1.5G", "192M", "12K", "17": binary units, at most 6 characters. Returns buf. */
#define FORMAT_SIZE_BYTES 12
char *format_size(char buf[FORMAT_SIZE_BYTES], u64 bytes);

#endif
