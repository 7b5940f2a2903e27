/* The 8259 pair: moved out of the exceptions' way, masked; used only where there is no IOAPIC. Boot CPU only. */
#include "arch/x86/apic.h"
#include "arch/x86/asm.h"
#include "arch/x86/traps.h"

#define PIC1          0x20
#define PIC2          0xa0
#define ICW1_INIT     0x11 /* edge, cascade, ICW4 follows */
#define ICW4_8086     0x01
#define OCW2_EOI      0x20
#define OCW3_READ_ISR 0x0b
#define CASCADE       2

static u16 mask = 0xffff;

static void write_mask(void)
{
	outb(PIC1 + 1, (u8)mask);
	outb(PIC2 + 1, (u8)(mask >> 8));
}

static void init_one(u16 port, u8 vector, u8 cascade)
{
	outb(port, ICW1_INIT);
	outb(port + 1, vector);
	outb(port + 1, cascade);
	outb(port + 1, ICW4_8086);
}

void pic_init(void)
{
	init_one(PIC1, VECTOR_PIC, 1 << CASCADE);
	init_one(PIC2, VECTOR_PIC + 8, CASCADE);
	write_mask();
}

void pic_unmask(u8 line)
{
	mask &= ~(1U << line);
	if (line >= 8)
		mask &= ~(1U << CASCADE);
	write_mask();
}

/* Lines 7 and 15 are also raised for requests that went away: then the in-service bit is clear. */
bool pic_begin(u8 line)
{
	u16 port = line < 8 ? PIC1 : PIC2;

	if (line != 7 && line != 15)
		return true;
	outb(port, OCW3_READ_ISR);
	if (inb(port) & 0x80)
		return true;
	if (line == 15)
		outb(PIC1, OCW2_EOI); /* the cascade itself was real */
	return false;
}

void pic_end(u8 line)
{
	if (line >= 8)
		outb(PIC2, OCW2_EOI);
	outb(PIC1, OCW2_EOI);
}
