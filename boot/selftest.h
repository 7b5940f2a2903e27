/* Intentional faults, to see that each ends in a readable panic screen: loader option selftest=NAME. */
#ifndef BOOT_SELFTEST_H
#define BOOT_SELFTEST_H

void selftest_run(const char *cmdline); /* returns if the option is absent or names none */

#endif
