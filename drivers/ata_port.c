/* The two legacy IDE channels: ports, interrupt lines, registration. See ata.h. */
#include "drivers/ata.h"

#include "arch/x86/asm.h"
#include "arch/x86/cpu.h"
#include "lib/err.h"
#include "lib/log.h"
#include "mm/frame.h"
#include "mm/platform.h"

static const struct {
	u16 ports, control;
	u8 line;
} legacy[] = {{0x1f0, 0x3f6, 14}, {0x170, 0x376, 15}};

static u8 port_in(struct ata_channel *c, enum ata_reg reg)
{
	return inb(reg == ATA_CONTROL ? c->control : (u16)(c->ports + reg));
}

static void port_out(struct ata_channel *c, enum ata_reg reg, u8 v)
{
	outb(reg == ATA_CONTROL ? c->control : (u16)(c->ports + reg), v);
}

static void port_read(struct ata_channel *c, void *to, u32 words)
{
	u64 count = words;

	__asm__ volatile("rep insw" : "+D"(to), "+c"(count) : "d"(c->ports) : "memory");
}

static void port_write(struct ata_channel *c, const void *from, u32 words)
{
	u64 count = words;

	__asm__ volatile("rep outsw" : "+S"(from), "+c"(count) : "d"(c->ports) : "memory");
}

static const struct ata_hw_ops port_ops = {.in = port_in, .out = port_out, .read = port_read, .write = port_write};

static void interrupt(void *arg)
{
	struct ata_channel *c = arg;

	work_queue(&c->work);
}

/* Without a vector the block layer's timer moves the channel. */
static void enable_interrupt(struct ata_channel *c, u8 line)
{
	int vector = irq_alloc(interrupt, c, "ata");
	int err = vector < 0 ? vector : irq_route_isa(line, vector);

	if (!err)
		return;
	log_warn("ata", "line %u cannot be routed (%s): polling", line, err_name(err));
	for (u32 i = 0; i < ATA_DRIVES; i++)
		c->drive[i].dev.polled = true;
	if (vector >= 0)
		irq_free(vector);
}

static u32 probe_channel(struct ata_channel *c, u32 which, u32 index)
{
	u32 found;

	c->ports = legacy[which].ports;
	c->control = legacy[which].control;
	found = ata_channel_probe(c, index);
	if (!found)
		return 0;
	enable_interrupt(c, legacy[which].line);
	for (u32 i = 0; i < ATA_DRIVES; i++)
		if (c->drive[i].present)
			blk_register(&c->drive[i].dev);
	return found;
}

u32 ata_probe_all(void)
{
	u32 found = 0;

	_Static_assert(sizeof(struct ata_channel) <= PAGE_SIZE, "one page a channel");
	for (u32 i = 0; i < ARRAY_SIZE(legacy); i++) {
		hfn_t hfn = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
		struct ata_channel *c;
		u32 here;

		if (hfn == HFN_NONE)
			return found;
		c = mm_hfn_to_va(hfn);
		ata_channel_init(c, &port_ops);
		here = probe_channel(c, i, found);
		found += here;
		if (!here)
			frame_free(hfn, 0);
	}
	return found;
}
