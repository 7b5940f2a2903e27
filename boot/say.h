/* What both loaders say, and the serial line that they say it on. */
#ifndef BOOT_SAY_H
#define BOOT_SAY_H

#include <stdarg.h>

#include "lib/types.h"

/* To the loader's screen and to COM1. */
void say(const char *fmt, ...) printf_like(1, 2);
void say_text(const char *text);
/* That it ends here, by what, and what happens next. */
void say_problem(const char *fmt, va_list ap, const char *next);
/* The loader's own: one character; an end of line comes as '\r' and '\n'. */
void say_char(char c);

/* The 16550 at COM1, 115200 8N1, polled for a bounded time: there may be none. */
void com1_init(void);
void com1_put(char c);

#endif
