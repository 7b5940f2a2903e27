/*
 * The multiboot2 loader's own interfaces. It runs once, on the boot CPU, with the first 4 GiB mapped 1:1: a pointer
 * to anything but itself is a physical address. What it allocates lies below 4 GiB.
 */
#ifndef BOOT_MULTIBOOT2_LOADER_H
#define BOOT_MULTIBOOT2_LOADER_H

#include "boot/memmap.h"
#include "boot/say.h"
#include "lib/types.h"

/* say.c: to COM1, polled, and to the screen. */
void say_init(void);
void say_on_screen(const struct boot_framebuffer *to);
/* Prints "Aerostat: error: ..." and stops for good. */
_Noreturn void say_error(const char *fmt, ...) printf_like(1, 2);

/* entry.asm */
_Noreturn void mb2_enter(u64 top_table, u64 entry, u64 info, u64 base);
/* From entry.asm: physical addresses of the information and of this program; what EAX was. */
#define MB1_LOADER_MAGIC 0x2badb002U
_Noreturn void mb2_main(u64 info, u64 base, u32 magic);

#endif
