/* IOAPICs from the MADT. Locking: the caller's (irq_lock); registers are reached by an index and a data window. */
#include "arch/x86/apic.h"
#include "arch/x86/cpu.h"
#include "arch/x86/machine.h"
#include "lib/err.h"
#include "lib/log.h"

#define IOAPIC_INDEX       0x00
#define IOAPIC_DATA        0x10
#define IOAPIC_VERSION     1
#define IOAPIC_REDIRECTION 0x10
#define REDIR_ACTIVE_LOW   BIT(13)
#define REDIR_LEVEL        BIT(15)
#define REDIR_MASKED       BIT(16)
#define REDIR_DEST_SHIFT   56

static struct {
	volatile u8 *window;
	u32 gsi_base, lines;
} ioapics[MACHINE_IOAPICS_MAX];
static u32 count;

static u32 io_read(u32 i, u32 reg)
{
	*(volatile u32 *)(ioapics[i].window + IOAPIC_INDEX) = reg;
	return *(volatile u32 *)(ioapics[i].window + IOAPIC_DATA);
}

static void io_write(u32 i, u32 reg, u32 v)
{
	*(volatile u32 *)(ioapics[i].window + IOAPIC_INDEX) = reg;
	*(volatile u32 *)(ioapics[i].window + IOAPIC_DATA) = v;
}

/* High half first when unmasking, so that a live entry never has half a destination. */
static void write_entry(u32 i, u32 line, u64 v)
{
	io_write(i, IOAPIC_REDIRECTION + line * 2, REDIR_MASKED);
	io_write(i, IOAPIC_REDIRECTION + line * 2 + 1, (u32)(v >> 32));
	io_write(i, IOAPIC_REDIRECTION + line * 2, (u32)v);
}

int ioapic_init(void)
{
	for (u32 n = 0; n < machine.ioapic_count; n++) {
		volatile void *va;

		if (mmio_map(HPA(machine.ioapic[n].addr), 0x20, &va))
			continue;
		ioapics[count].window = va;
		ioapics[count].gsi_base = machine.ioapic[n].gsi_base;
		ioapics[count].lines = (io_read(count, IOAPIC_VERSION) >> 16 & 0xff) + 1;
		for (u32 line = 0; line < ioapics[count].lines; line++)
			write_entry(count, line, REDIR_MASKED);
		count++;
	}
	return count ? 0 : E_NODEV;
}

int ioapic_route(u32 gsi, int vector, bool active_low, bool level)
{
	for (u32 i = 0; i < count; i++) {
		u32 line = gsi - ioapics[i].gsi_base;

		if (gsi < ioapics[i].gsi_base || line >= ioapics[i].lines)
			continue;
		write_entry(i, line,
			    (u64)(u32)vector | (active_low ? REDIR_ACTIVE_LOW : 0) | (level ? REDIR_LEVEL : 0) |
				(u64)this_cpu()->apic_id << REDIR_DEST_SHIFT);
		return 0;
	}
	return E_NODEV;
}
