/*
 * COM2, for output only: 115200 8N1, polled, no interrupt. Who writes asks how much the device takes now and comes back
 * for the rest, so nobody waits.
 */
#ifndef DRIVERS_COM2_H
#define DRIVERS_COM2_H

#include "lib/types.h"

bool com2_init(void); /* false: there is none, or the console has it */
/* Hands over what the device takes without waiting; the bytes taken. */
size_t com2_write(const char *text, size_t len);

#endif
