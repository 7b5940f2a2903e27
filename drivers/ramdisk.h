/*
 * Disks in memory: a swap and a guest-data partition for a machine whose disks are to be left alone, and for
 * measurements. Their service time is fixed, so where time counts instructions a run repeats exactly.
 *
 * Boot option ramdisk=SWAP,DATA[,LATENCY[,PAGE]]: sizes in MiB (0: none), then microseconds: of a request alone (100),
 * and of each page in turn (4: about 1 GB/s). Requests overlap but for their pages, as on an NVMe disk.
 */
#ifndef DRIVERS_RAMDISK_H
#define DRIVERS_RAMDISK_H

#include "lib/types.h"

#define RAMDISK_MIB_MAX    2048U
#define RAMDISK_LATENCY_US 100U
#define RAMDISK_PAGE_US    4U
#define RAMDISK_US_MAX     10000000U

struct ramdisk_config {
	u32 swap_mib, data_mib, latency_us, page_us;
};

/* The option's value. E_INVAL: *out stays as it is. */
int ramdisk_parse(const char *value, struct ramdisk_config *out) must_check;
/* At boot, before drivers_init(): what it is to make. */
void ramdisk_configure(const struct ramdisk_config *c);
/* Makes the disks and registers their partitions, as far as memory suffices. */
void ramdisk_init(void);

#endif
