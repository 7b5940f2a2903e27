/* PCI configuration: see pci.h. */
#include "drivers/pci.h"

#include "arch/x86/asm.h"
#include "lib/err.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"

#define PCI_PORT_ADDRESS        0xcf8
#define PCI_PORT_DATA           0xcfc

#define PCI_VENDOR              0x00
#define PCI_COMMAND             0x04
#define PCI_STATUS              0x06
#define PCI_CLASS_REVISION      0x08
#define PCI_HEADER_TYPE         0x0e
#define PCI_BAR0                0x10
#define PCI_SECONDARY_BUS       0x19
#define PCI_CAPABILITIES        0x34

#define PCI_COMMAND_MEMORY      BIT(1)
#define PCI_COMMAND_MASTER      BIT(2)
#define PCI_COMMAND_INTX_OFF    BIT(10)
#define PCI_STATUS_CAPABILITIES BIT(4)
#define PCI_HEADER_MULTI        0x80
#define PCI_HEADER_BRIDGE       1
#define PCI_CLASS_BRIDGE_PCI    0x0604
#define PCI_BAR_IO              BIT(0)
#define PCI_BAR_TYPE            0x6
#define PCI_BAR_64              0x4
#define PCI_BARS                6U

#define PCI_CAP_MSI             0x05
#define PCI_CAP_MSIX            0x11
#define PCI_CAPS_MAX            48U /* what fits between 0x40 and 0xff */
#define PCI_MSI_BYTES           14U
#define PCI_MSIX_BYTES          12U
#define PCI_MSI_ENABLE          BIT(0)
#define PCI_MSI_COUNT           (7U << 4)
#define PCI_MSI_64              BIT(7)
#define PCI_MSIX_ENABLE         BIT(15)
#define PCI_MSIX_MASK_ALL       BIT(14)
#define PCI_MSIX_ENTRY_BYTES    16U

#define PCI_BUSES               256U

static struct lock pci_lock = LOCK_INIT("pci", LOCK_RANK_PCI);

static void select(const struct pci_dev *d, u8 reg)
{
	outl(PCI_PORT_ADDRESS, 0x80000000U | (u32)d->bus << 16 | (u32)d->dev << 11 | (u32)d->fn << 8 | (reg & 0xfc));
}

u32 pci_read(const struct pci_dev *d, u8 reg, u8 bytes)
{
	u32 v;

	DCHECK(reg % bytes == 0);
	lock_acquire(&pci_lock);
	select(d, reg);
	v = inl(PCI_PORT_DATA);
	lock_release(&pci_lock);
	v >>= 8 * (reg & 3);
	return bytes == 4 ? v : v & ((1U << 8 * bytes) - 1);
}

void pci_write(const struct pci_dev *d, u8 reg, u8 bytes, u32 v)
{
	u16 port = PCI_PORT_DATA + (reg & 3);

	DCHECK(reg % bytes == 0);
	lock_acquire(&pci_lock);
	select(d, reg);
	if (bytes == 4)
		outl(port, v);
	else if (bytes == 2)
		outw(port, (u16)v);
	else
		outb(port, (u8)v);
	lock_release(&pci_lock);
}

/* ---- enumeration --------------------------------------------------------- */

struct scan {
	void (*fn)(void *arg, const struct pci_dev *d);
	void *arg;
	u64 wanted[PCI_BUSES / 64]; /* buses found; each is scanned once, so loops of bridges end */
};

static void want_bus(struct scan *s, u32 bus)
{
	s->wanted[bus / 64] |= BIT(bus % 64);
}

static bool is_answer(u32 id)
{
	return (id & 0xffff) != 0xffff && (id & 0xffff) != 0;
}

bool pci_present(const struct pci_dev *d)
{
	return is_answer(pci_read(d, PCI_VENDOR, 4));
}

static bool probe(struct pci_dev *d)
{
	u32 id = pci_read(d, PCI_VENDOR, 4);

	if (!is_answer(id))
		return false;
	d->vendor = (u16)id;
	d->device = (u16)(id >> 16);
	d->class = pci_read(d, PCI_CLASS_REVISION, 4) >> 8;
	return true;
}

static void scan_function(struct scan *s, const struct pci_dev *d)
{
	u32 type = pci_read(d, PCI_HEADER_TYPE, 1) & ~PCI_HEADER_MULTI;

	if (type == PCI_HEADER_BRIDGE && d->class >> 8 == PCI_CLASS_BRIDGE_PCI) {
		u32 secondary = pci_read(d, PCI_SECONDARY_BUS, 1);

		/* Firmware numbers buses downwards: a smaller number is a bridge that is not set up. */
		if (secondary > d->bus)
			want_bus(s, secondary);
		return;
	}
	s->fn(s->arg, d);
}

static void scan_bus(struct scan *s, u32 bus)
{
	for (u32 slot = 0; slot < 32; slot++) {
		struct pci_dev d = {.bus = (u8)bus, .dev = (u8)slot};
		u32 functions;

		if (!probe(&d))
			continue;
		functions = pci_read(&d, PCI_HEADER_TYPE, 1) & PCI_HEADER_MULTI ? 8 : 1;
		for (u32 fn = 0; fn < functions; fn++) {
			d.fn = (u8)fn;
			if (probe(&d))
				scan_function(s, &d);
		}
	}
}

void pci_scan(void (*fn)(void *arg, const struct pci_dev *d), void *arg)
{
	struct scan s = {.fn = fn, .arg = arg};
	struct pci_dev root = {0};

	want_bus(&s, 0);
	/* A host bridge with several functions: function n is the root of bus n (PCI Local Bus Specification). */
	if (probe(&root) && pci_read(&root, PCI_HEADER_TYPE, 1) & PCI_HEADER_MULTI)
		for (root.fn = 1; root.fn < 8; root.fn++)
			if (probe(&root) && root.class >> 8 == 0x0600)
				want_bus(&s, root.fn);
	for (u32 bus = 0; bus < PCI_BUSES; bus++)
		if (s.wanted[bus / 64] & BIT(bus % 64))
			scan_bus(&s, bus);
}

/* ---- windows ------------------------------------------------------------- */

void pci_enable(const struct pci_dev *d, bool memory, bool master)
{
	u32 command = pci_read(d, PCI_COMMAND, 2) & ~(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);

	if (memory)
		command |= PCI_COMMAND_MEMORY;
	if (master)
		command |= PCI_COMMAND_MASTER;
	pci_write(d, PCI_COMMAND, 2, command);
}

static u32 bar_mask(const struct pci_dev *d, u8 reg)
{
	u32 old = pci_read(d, reg, 4), mask;

	pci_write(d, reg, 4, ~0U);
	mask = pci_read(d, reg, 4);
	pci_write(d, reg, 4, old);
	return mask;
}

int pci_bar(const struct pci_dev *d, u32 index, struct pci_bar *out)
{
	u8 reg = (u8)(PCI_BAR0 + 4 * index);
	u32 command = pci_read(d, PCI_COMMAND, 2), low;
	u64 addr, mask;

	if (index >= PCI_BARS)
		return E_NODEV;
	low = pci_read(d, reg, 4);
	if (low & PCI_BAR_IO)
		return E_NODEV;
	pci_write(d, PCI_COMMAND, 2, command & ~PCI_COMMAND_MEMORY);
	addr = low & ~0xfU;
	mask = (bar_mask(d, reg) & ~0xfU) | ~0UL << 32;
	if ((low & PCI_BAR_TYPE) == PCI_BAR_64 && index + 1 < PCI_BARS) {
		addr |= (u64)pci_read(d, (u8)(reg + 4), 4) << 32;
		mask = (mask & ~0U) | (u64)bar_mask(d, (u8)(reg + 4)) << 32;
	}
	pci_write(d, PCI_COMMAND, 2, command);
	if ((u32)mask == 0 && (mask >> 32 == 0 || mask >> 32 == ~0U))
		return E_NODEV;
	out->hpa = HPA(addr);
	out->bytes = ~mask + 1;
	/* A window that was never placed, or one that is no power of two, is not one to touch. */
	if (addr == 0 || (out->bytes & (out->bytes - 1)) || addr + out->bytes < addr)
		return E_INVAL;
	return 0;
}

/* ---- message interrupts -------------------------------------------------- */

/* Offset of a capability that fits with its `bytes` bytes, or 0. */
static u8 cap_find(const struct pci_dev *d, u8 id, u32 bytes)
{
	u8 at;

	if (!(pci_read(d, PCI_STATUS, 2) & PCI_STATUS_CAPABILITIES))
		return 0;
	at = pci_read(d, PCI_CAPABILITIES, 1) & 0xfc;
	for (u32 i = 0; i < PCI_CAPS_MAX && at >= 0x40; i++) {
		if (pci_read(d, at, 1) == id)
			return at + bytes <= 256 ? at : 0;
		at = pci_read(d, (u8)(at + 1), 1) & 0xfc;
	}
	return 0;
}

/* Maps entry 0 of the MSI-X table. */
static int msix_table(const struct pci_dev *d, u8 cap, volatile u32 **entry)
{
	u32 where = pci_read(d, (u8)(cap + 4), 4);
	u32 offset = where & ~7U;
	struct pci_bar bar;
	volatile void *va;
	int err = pci_bar(d, where & 7, &bar);

	if (err)
		return err;
	if (bar.bytes < PCI_MSIX_ENTRY_BYTES || offset > bar.bytes - PCI_MSIX_ENTRY_BYTES)
		return E_INVAL;
	err = mmio_map(HPA(ALIGN_DOWN(bar.hpa.v + offset, PAGE_SIZE)), PAGE_SIZE, &va);
	if (err)
		return err;
	*entry = (volatile u32 *)((volatile u8 *)va + ((bar.hpa.v + offset) & (PAGE_SIZE - 1)));
	return 0;
}

static int msix_enable(const struct pci_dev *d, u8 cap, int vector)
{
	u32 control = pci_read(d, (u8)(cap + 2), 2) & ~PCI_MSIX_MASK_ALL;
	volatile u32 *entry;
	u64 addr;
	u32 data;
	int err = msix_table(d, cap, &entry);

	if (err)
		return err;
	irq_msi(vector, &addr, &data);
	/* Enabled but masked while the entry is written; the other entries stay masked as reset left them. */
	pci_write(d, (u8)(cap + 2), 2, control | PCI_MSIX_ENABLE | PCI_MSIX_MASK_ALL);
	entry[0] = (u32)addr;
	entry[1] = (u32)(addr >> 32);
	entry[2] = data;
	entry[3] = 0;
	pci_write(d, (u8)(cap + 2), 2, control | PCI_MSIX_ENABLE);
	return 0;
}

static int msi_enable(const struct pci_dev *d, u8 cap, int vector)
{
	u32 control = pci_read(d, (u8)(cap + 2), 2);
	u8 data_reg = (u8)(cap + (control & PCI_MSI_64 ? 12 : 8));
	u64 addr;
	u32 data;

	irq_msi(vector, &addr, &data);
	pci_write(d, (u8)(cap + 4), 4, (u32)addr);
	if (control & PCI_MSI_64)
		pci_write(d, (u8)(cap + 8), 4, (u32)(addr >> 32));
	else if (addr >> 32)
		return E_NODEV;
	pci_write(d, data_reg, 2, data);
	pci_write(d, (u8)(cap + 2), 2, (control & ~PCI_MSI_COUNT) | PCI_MSI_ENABLE);
	return 0;
}

int pci_irq_enable(const struct pci_dev *d, irq_handler_t fn, void *arg, const char *name)
{
	u8 msix = cap_find(d, PCI_CAP_MSIX, PCI_MSIX_BYTES), msi = cap_find(d, PCI_CAP_MSI, PCI_MSI_BYTES);
	int vector, err;

	pci_write(d, PCI_COMMAND, 2, pci_read(d, PCI_COMMAND, 2) | PCI_COMMAND_INTX_OFF);
	if (!msix && !msi)
		return E_NODEV;
	vector = irq_alloc(fn, arg, name);
	if (vector < 0)
		return vector;
	err = msix ? msix_enable(d, msix, vector) : E_NODEV;
	if (err && msi)
		err = msi_enable(d, msi, vector);
	if (err) {
		irq_free(vector);
		return log_err("pci", err, "%s: message interrupts cannot be set up", name);
	}
	return vector;
}
