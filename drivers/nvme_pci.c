/* NVMe controllers on PCI: windows, message interrupts, registration. See nvme.h. */
#include "drivers/nvme.h"

#include "drivers/pci.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define CONTROLLERS_MAX 8U
#define CTRL_ORDER      2
#define WINDOW_BYTES    0x2000U /* registers and the doorbells of two queue pairs */

struct nvme_pci {
	struct nvme_ctrl ctrl;
	struct pci_dev pci;
	volatile u8 *window;
};
_Static_assert(sizeof(struct nvme_pci) <= PAGE_SIZE << CTRL_ORDER, "controller");

struct probe {
	u32 controllers, devices;
};

static u32 hw_read(struct nvme_ctrl *c, u32 reg)
{
	struct nvme_pci *p = c->hw_priv;

	return *(volatile u32 *)(p->window + reg);
}

static void hw_write(struct nvme_ctrl *c, u32 reg, u32 v)
{
	struct nvme_pci *p = c->hw_priv;

	*(volatile u32 *)(p->window + reg) = v;
}

static void hw_quiesce(struct nvme_ctrl *c)
{
	struct nvme_pci *p = c->hw_priv;

	pci_enable(&p->pci, true, false);
}

static bool hw_present(struct nvme_ctrl *c)
{
	struct nvme_pci *p = c->hw_priv;

	return pci_present(&p->pci);
}

static const struct nvme_hw_ops hw_ops = {
    .read = hw_read, .write = hw_write, .quiesce = hw_quiesce, .present = hw_present};

static void interrupt(void *arg)
{
	struct nvme_ctrl *c = arg;

	work_queue(&c->work);
}

static int map_window(struct nvme_pci *p)
{
	struct pci_bar bar;
	volatile void *va;
	int err = pci_bar(&p->pci, 0, &bar);

	if (!err && bar.bytes < WINDOW_BYTES)
		err = E_INVAL;
	if (!err)
		err = mmio_map(bar.hpa, WINDOW_BYTES, &va);
	if (err)
		return log_err("nvme", err, "%02x:%02x.%x: register window", p->pci.bus, p->pci.dev, p->pci.fn);
	p->window = va;
	return 0;
}

static int start(struct nvme_pci *p, u32 index)
{
	int vector, err = map_window(p);

	if (err)
		return err;
	pci_enable(&p->pci, true, true);
	err = nvme_ctrl_init(&p->ctrl, &hw_ops, p, index);
	if (err)
		return err;
	/* Doorbells of queue 1 must lie inside the window. */
	if ((4U << NVME_CAP_DSTRD(p->ctrl.cap)) * 4 > WINDOW_BYTES - NVME_REG_DOORBELLS)
		return log_err("nvme", E_NOSYS, "%s: doorbell stride too wide", p->ctrl.name);
	vector = pci_irq_enable(&p->pci, interrupt, &p->ctrl, "nvme");
	p->ctrl.interrupts = vector >= 0;
	if (vector < 0)
		log_warn("nvme", "%s: no message interrupt (%s): polling", p->ctrl.name, err_name(vector));
	return nvme_ctrl_start(&p->ctrl);
}

static void found(void *arg, const struct pci_dev *d)
{
	struct probe *probe = arg;
	struct nvme_pci *p;
	hfn_t hfn;

	if (d->class != PCI_CLASS_NVME)
		return;
	hfn = probe->controllers < CONTROLLERS_MAX ? frame_alloc(CTRL_ORDER, FRAME_FOR_HV, FRAME_HV, true) : HFN_NONE;
	if (hfn == HFN_NONE) {
		log_error("nvme", "%02x:%02x.%x: no room for another controller", d->bus, d->dev, d->fn);
		return;
	}
	p = mm_hfn_to_va(hfn);
	p->pci = *d;
	/* What a controller that failed holds stays with it: its interrupt may still be on its way. */
	if (start(p, probe->controllers++))
		return;
	for (u32 i = 0; i < p->ctrl.ns_count; i++)
		blk_register(&p->ctrl.ns[i].dev);
	probe->devices += p->ctrl.ns_count;
}

u32 nvme_probe_all(void)
{
	struct probe probe = {0};

	pci_scan(found, &probe);
	return probe.devices;
}
