/* The table of the host's plain numbers. See numbers.h; docs/OPERATING.md says what each is for. */
#include "vmm/numbers.h"

#include "lib/string.h"
#include "mm/policy.h"
#include "mm/wss.h"

const struct number_key number_key[NUMBERS] = {
    [NUMBER_ALERT_BALLOON] = {"alert-balloon", 1, 95, 10, "percent of a VM's memory"},
    [NUMBER_ALERT_BALLOON_TIME] = {"alert-balloon-time", 1, 3600, 30, "seconds"},
    [NUMBER_ALERT_SWAP] = {"alert-swap", 0, 1000000, 0, "pages a second"},
    [NUMBER_ALERT_SWAP_FULL] = {"alert-swap-full", 1, 100, 80, "percent"},
    [NUMBER_ALERT_ZIP_FULL] = {"alert-zip-full", 1, 100, 95, "percent"},
    [NUMBER_ALERT_REFAULT] = {"alert-refault", 1, 1000000, 200, "pages a second"},
    [NUMBER_ALERT_DISK_LATENCY] = {"alert-disk-latency", 0, 60000, 50, "ms"},
    [NUMBER_ALERT_CASCADE_VMS] = {"alert-cascade-vms", 1, 256, 2, "VMs that page at once"},
    [NUMBER_IDLE_TAX] = {"idle-tax", 0, POLICY_TAX_MAX, POLICY_TAX_DEFAULT, "percent"},
    [NUMBER_BALLOON_RATE_DOWN] = {"balloon-rate-down", 0, 1000000, 0, "pages a second and VM, 0: as balloon-rate"},
    [NUMBER_WSS_SAMPLES] = {"wss-samples", 0, WSS_SAMPLES_MAX, WSS_SAMPLES_DEFAULT, "pages of each VM, 0: off"},
    [NUMBER_WSS_PERIOD] = {"wss-period", 1, WSS_PERIOD_MAX, WSS_PERIOD_DEFAULT, "seconds of the VM's time"},
    [NUMBER_WSS_UNMAP] = {"wss-unmap", 0, 1, 0, "(1: without accessed bits)"},
    [NUMBER_ALERT_CLEAR] = {"alert-clear", 1, 3600, 10, "seconds without cause"},
    [NUMBER_METRICS_INTERVAL] = {"metrics-interval", 0, 3600, 0, "seconds between two streams on COM2, 0: none"},
};

enum number number_find(const char *name)
{
	u32 i = 0;

	while (i < NUMBERS && !str_eq(name, number_key[i].name))
		i++;
	return i;
}
