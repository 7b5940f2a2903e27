/* A panic's text is made here; the machine's part (state dump, stop) is the platform's. */
#include "lib/panic.h"

#include "lib/format.h"
#include "lib/platform.h"

#define PANIC_TEXT_BYTES 256

_Noreturn void panic_at(const char *file, int line, const char *fmt, ...)
{
	char text[PANIC_TEXT_BYTES];
	va_list ap;

	va_start(ap, fmt);
	format_vbuf(text, sizeof(text), fmt, ap);
	va_end(ap);
	platform_panic(file, line, text);
}
