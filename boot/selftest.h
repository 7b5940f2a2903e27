/*
 * Loader option selftest=NAME: an intentional fault, to see that each ends in a readable panic screen; or `hv`, the
 * test of the virtualisation back end.
 */
#ifndef BOOT_SELFTEST_H
#define BOOT_SELFTEST_H

void selftest_run(const char *cmdline); /* returns if the option is absent or names none */

#endif
