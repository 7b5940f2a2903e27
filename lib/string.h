/*
 * Freestanding memory and string functions. Those with C names (lib/cstring.c) are built for the machine only;
 * on the host the C library supplies them. Ours are in lib/string.c.
 */
#ifndef LIB_STRING_H
#define LIB_STRING_H

#include "lib/types.h"

void *memcpy(void *restrict dst, const void *restrict src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *s, int c, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);

/* Copies at most size-1 characters and always terminates. Returns strlen(src); >= size means cut. */
size_t str_copy(char *dst, const char *src, size_t size);
bool str_eq(const char *a, const char *b);
bool str_starts(const char *s, const char *prefix);

/* Clears / copies one 4 KiB page. p is page-aligned. */
void page_clear(void *p);
void page_copy(void *dst, const void *src);
bool page_equal(const void *a, const void *b);
/* True if every byte of the page is zero. */
bool page_is_zero(const void *p);

/*
 * Number parsing: the whole string must be a number (decimal, or 0x hex).
 * parse_size accepts one suffix K, M, G, T (binary; "KiB"/"MB" spellings too), result in bytes.
 * E_INVAL: not a number. E_RANGE: above max.
 */
int parse_u64(const char *s, u64 max, u64 *out) __attribute__((warn_unused_result));
int parse_size(const char *s, u64 max, u64 *out) __attribute__((warn_unused_result));

#endif
