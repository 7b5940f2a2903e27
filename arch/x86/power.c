/* Restart and power-off: every way this machine may know, best first. */
#include "arch/x86/asm.h"
#include "arch/x86/cpu.h"
#include "arch/x86/machine.h"
#include "arch/x86/paging.h"
#include "lib/string.h"

#define SLP_TYPE_SHIFT      10
#define SLP_ENABLE          BIT(13)
#define SLP_MASK            (BITS(12, 10) | SLP_ENABLE)
#define RESET_CONTROL       0xcf9
#define RESET_FULL          0x0e
#define KBC_STATUS          0x64
#define KBC_INPUT_FULL      0x02
#define KBC_PULSE_RESET     0xfe
#define BOCHS_SHUTDOWN_PORT 0x8900
#define PATIENCE_US         100000

static void reset_acpi(void)
{
	const struct machine_reg *r = &machine.reset;
	volatile void *va;

	if (r->bits == 0)
		return;
	if (!r->memory)
		outb((u16)r->addr, machine.reset_value);
	else if (!mmio_map(HPA(r->addr), 1, &va))
		*(volatile u8 *)va = machine.reset_value;
	cpu_delay_us(PATIENCE_US);
}

static void reset_keyboard(void)
{
	for (u32 i = 0; i < 10000 && (inb(KBC_STATUS) & KBC_INPUT_FULL); i++)
		;
	outb(KBC_STATUS, KBC_PULSE_RESET);
	cpu_delay_us(PATIENCE_US);
}

/* No IDT, then an exception: the processor shuts down, and the chip set resets it. */
static void reset_triple_fault(void)
{
	struct desc_ptr none = {0, 0};

	__asm__ volatile("lidt %0\n\tud2" : : "m"(none));
}

_Noreturn void cpu_reboot(void)
{
	irq_disable();
	machine_before_reset(&machine);
	reset_acpi();
	outb(RESET_CONTROL, 0x02);
	cpu_delay_us(50);
	outb(RESET_CONTROL, RESET_FULL);
	cpu_delay_us(PATIENCE_US);
	reset_keyboard();
	reset_triple_fault();
	for (;;)
		__asm__ volatile("hlt");
}

static void sleep_s5(u16 port, u8 type)
{
	if (port)
		outw(port, (inw(port) & ~SLP_MASK) | (u16)type << SLP_TYPE_SHIFT | SLP_ENABLE);
}

_Noreturn void cpu_poweroff(void)
{
	irq_disable();
	if (machine.s5_valid) {
		sleep_s5(machine.pm1a_cnt, machine.s5_type_a);
		sleep_s5(machine.pm1b_cnt, machine.s5_type_b);
		cpu_delay_us(PATIENCE_US);
	}
	for (const char *s = "Shutdown"; *s; s++)
		outb(BOCHS_SHUTDOWN_PORT, *s);
	for (;;)
		__asm__ volatile("hlt");
}
