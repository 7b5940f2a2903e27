/* Where the layers above plug themselves into lib's platform: the console device and the panic screen's sections. */
#ifndef ARCH_X86_PLATFORM_H
#define ARCH_X86_PLATFORM_H

#include "lib/types.h"

struct platform_console {
	void (*write)(const char *text, size_t len);      /* never blocks for long; may drop */
	void (*write_sync)(const char *text, size_t len); /* panic: takes no lock, loses nothing */
};
void platform_set_console(const struct platform_console *c);
const struct platform_console *platform_get_console(void); /* NULL before it is set */

/* Text on the panic screen, whatever state the machine is in. */
void panic_print(const char *fmt, ...) printf_like(1, 2);
/* Adds a section to the panic screen; fn prints with panic_print and must not rely on anything being consistent. */
void panic_add_section(const char *title, void (*fn)(void));
/* What to do after a panic: reboot after some seconds, or halt (default). */
void panic_set_reboot(bool reboot);

#endif
