/* The table of the host's plain numbers. See numbers.h; docs/OPERATING.md says what each is for. */
#include "vmm/numbers.h"

#include "lib/string.h"

const struct number_key number_key[NUMBERS] = {
    [NUMBER_ALERT_BALLOON] = {"alert-balloon", 1, 95, 10, "percent of a VM's memory"},
    [NUMBER_ALERT_BALLOON_TIME] = {"alert-balloon-time", 1, 3600, 30, "seconds"},
    [NUMBER_ALERT_SWAP] = {"alert-swap", 0, 1000000, 0, "pages a second"},
    [NUMBER_ALERT_SWAP_FULL] = {"alert-swap-full", 1, 100, 80, "percent"},
    [NUMBER_ALERT_REFAULT] = {"alert-refault", 1, 1000000, 200, "pages a second"},
    [NUMBER_ALERT_DISK_LATENCY] = {"alert-disk-latency", 0, 60000, 50, "ms"},
    [NUMBER_ALERT_CASCADE_VMS] = {"alert-cascade-vms", 1, 256, 2, "VMs that page at once"},
    [NUMBER_ALERT_CLEAR] = {"alert-clear", 1, 3600, 10, "seconds without cause"},
};

enum number number_find(const char *name)
{
	u32 i = 0;

	while (i < NUMBERS && !str_eq(name, number_key[i].name))
		i++;
	return i;
}
