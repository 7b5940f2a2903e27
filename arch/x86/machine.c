/* The machine description and what can be probed without tables. */
#include "arch/x86/machine.h"
#include "arch/x86/asm.h"
#include "lib/string.h"

#define PCI_CONFIG_ADDR 0xcf8
#define PCI_CONFIG_DATA 0xcfc
#define PIIX4_PM_DEVFN  (1 << 3 | 3) /* 0:1.3 */
#define PIIX4_PM_ID     0x71138086U
#define PIIX4_PMBA      0x40 /* power management base, bits 15:6 */
#define PIIX4_PMREGMISC 0x80 /* bit 0: decode enabled */

struct machine machine;

void machine_init(struct machine *m)
{
	memset(m, 0, sizeof(*m));
	for (u32 i = 0; i < ISA_LINES; i++)
		m->isa[i].gsi = i;
}

static u32 pci_read(u32 devfn, u32 reg)
{
	outl(PCI_CONFIG_ADDR, 0x80000000U | devfn << 8 | reg);
	return inl(PCI_CONFIG_DATA);
}

void machine_probe_piix4(struct machine *m)
{
	u16 base;

	if (pci_read(PIIX4_PM_DEVFN, 0) != PIIX4_PM_ID || !(pci_read(PIIX4_PM_DEVFN, PIIX4_PMREGMISC) & 1))
		return;
	base = pci_read(PIIX4_PM_DEVFN, PIIX4_PMBA) & 0xffc0;
	if (!base)
		return;
	m->pm_timer_port = base + 8;
	m->pm1a_cnt = base + 4;
	m->s5_type_a = 0; /* PIIX4: suspend type 0 is soft off */
	m->s5_valid = true;
	m->piix4 = true;
}

/*
 * Bochs keeps the PIIX4's enable bit but not its base address through a reset; OVMF takes the bit for "set up
 * already" and waits for ever for a timer at port 8.
 */
void machine_before_reset(const struct machine *m)
{
	if (!m->piix4)
		return;
	outl(PCI_CONFIG_ADDR, 0x80000000U | PIIX4_PM_DEVFN << 8 | PIIX4_PMREGMISC);
	outb(PCI_CONFIG_DATA, 0);
}
