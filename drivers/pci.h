/*
 * PCI: finding devices, their windows and message interrupts. Configuration space is reached by ports 0xcf8/0xcfc,
 * which every machine has; nothing here needs the extended space. Buses, windows and bridges are as firmware left them.
 *
 * Everything read from configuration space is bounded: a device that answers nonsense cannot make us loop.
 * Locking: accesses are atomic by themselves (LOCK_RANK_PCI inside); set-up belongs to the driver at boot.
 */
#ifndef DRIVERS_PCI_H
#define DRIVERS_PCI_H

#include "arch/x86/cpu.h"
#include "lib/types.h"

#define PCI_CLASS_NVME 0x010802U /* class, subclass, programming interface */

struct pci_dev {
	u8 bus, dev, fn;
	u16 vendor, device;
	u32 class; /* class << 16 | subclass << 8 | interface */
};

struct pci_bar {
	hpa_t hpa;
	u64 bytes;
};

bool pci_present(const struct pci_dev *d);               /* something answers there */
u32 pci_read(const struct pci_dev *d, u8 reg, u8 bytes); /* 1, 2 or 4 bytes, naturally aligned */
void pci_write(const struct pci_dev *d, u8 reg, u8 bytes, u32 v);

/* Calls fn for every function of every bus that bridges lead to. */
void pci_scan(void (*fn)(void *arg, const struct pci_dev *d), void *arg);

/* Memory window `index` (0..5), sized with decoding off. E_NODEV: absent or I/O; E_INVAL: not set up by firmware. */
int pci_bar(const struct pci_dev *d, u32 index, struct pci_bar *out) must_check;
void pci_enable(const struct pci_dev *d, bool memory, bool master);

/*
 * Message interrupt for this CPU: MSI-X entry 0, else MSI. The legacy line is switched off in any case.
 * Returns the vector; E_NODEV if the device has neither, or an error of irq_alloc/mmio_map.
 */
int pci_irq_enable(const struct pci_dev *d, irq_handler_t fn, void *arg, const char *name) must_check;

#endif
