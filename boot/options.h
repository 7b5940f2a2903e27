/*
 * Loader options: one line of words `key=value` or `key`, from the [loader] section of aerostat.ini:
 *   [loader]
 *   options = panic=reboot
 * Pure; the file is untrusted.
 */
#ifndef BOOT_OPTIONS_H
#define BOOT_OPTIONS_H

#include "arch/x86/machine.h"
#include "lib/types.h"

/* Copies the value of [loader] options into out, terminated; "" if there is none. False if it had to be cut. */
bool options_from_ini(const char *text, size_t len, char *out, size_t size);
/* Value of a word; "" for a word without one. False if the word is absent. Cut to size. */
bool options_get(const char *cmdline, const char *key, char *value, size_t size);
/* The key of the next word of *at, which moves on; cut to size. False: there is none. */
bool options_next(const char **at, char *key, size_t size);
/*
 * Value of `serial`: com1..com4 or a port (0x2f8), then perhaps a baud rate (com2,9600). E_INVAL: *out stays as it is.
 */
int options_serial(const char *value, struct machine_serial *out) must_check;

#endif
