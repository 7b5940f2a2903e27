/* Aerostat's version. */
#ifndef BOOT_VERSION_H
#define BOOT_VERSION_H

#define AEROSTAT_VERSION "0.1.0"

#endif
