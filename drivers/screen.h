/*
 * The console on the firmware's frame buffer, beside the serial line: output only, for machines without a serial port.
 * Writing touches a text in memory; what changed is drawn later, some rows at a time, at most 10 pictures a second, so
 * that the console is not held up by the display. Before screen_start() and on the panic screen everything is drawn at
 * once.
 */
#ifndef DRIVERS_SCREEN_H
#define DRIVERS_SCREEN_H

#include "lib/types.h"

#define FONT_GLYPHS 128U
#define FONT_WIDTH  8U
#define FONT_HEIGHT 16U
/* Made by tools/mkfont.py; a byte is a line, its highest bit the leftmost point. */
extern const u8 font_8x16[FONT_GLYPHS][FONT_HEIGHT];

/*
 * 32 bits a pixel. Maps the buffer, clears it and shows what the log has so far. E_INVAL: the geometry makes no
 * sense or is too small; E_NOMEM.
 */
int screen_init(hpa_t base, u32 width, u32 height, u32 pitch_bytes) must_check;
void screen_start(void); /* timers work: draw later from now on */
void screen_write(const char *text, size_t len);
void screen_write_sync(const char *text, size_t len); /* panic: takes no lock */

#endif
