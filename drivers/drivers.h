/*
 * What the hypervisor itself drives beyond console and ACPI: block devices and their partitions.
 */
#ifndef DRIVERS_DRIVERS_H
#define DRIVERS_DRIVERS_H

/*
 * At boot on the first CPU, with memory, interrupts and the clock working: finds disks, reads their partition tables,
 * registers Aerostat's partitions, says on the log what there is, and starts the timer that polls the devices.
 */
void drivers_init(void);

/*
 * Test of the block layer on the swap partition (its contents are lost): random clustered transfers, many in
 * flight, every page verified. Runs at boot, before swap is on. 0, or a negative code; the log has figures.
 */
int drivers_selftest(void);

#endif
