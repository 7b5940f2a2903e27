/*
 * Interrupt vectors: who handles which, and the way from an ISA line or a message to a vector.
 *
 * Locking: irq_lock guards allocation. Dispatch reads a slot without it: a slot's function is stored
 * last when it is set and cleared first when it is freed.
 */
#include "arch/x86/apic.h"
#include "arch/x86/asm.h"
#include "arch/x86/cpu.h"
#include "arch/x86/machine.h"
#include "arch/x86/traps.h"
#include "lib/err.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"

#define MSI_ADDRESS    0xfee00000UL
#define MSI_DEST_SHIFT 12

struct irq_slot {
	irq_handler_t fn;
	void *arg;
	const char *name;
	u64 count;
};

static struct irq_slot slots[VECTORS];
static u8 pic_vector[ISA_LINES]; /* 8259 line -> vector; 0: none */
static struct lock irq_lock = LOCK_INIT("irq", LOCK_RANK_IRQ);
static bool use_ioapic;
static u64 unexpected; /* interrupts nobody had asked for */

void irq_init(void)
{
	int err;

	/* First, while the local APIC still passes it on: a BIOS leaves a request of its timer pending, which has to go
	 * away where it came from. */
	pic_init();
	err = lapic_init();
	if (err)
		panic("no local APIC on this machine");
	use_ioapic = ioapic_init() == 0;
	lapic_set_extint(!use_ioapic);
	log_info("irq", "%s, ISA lines through the %s", lapic_is_x2apic() ? "x2APIC" : "xAPIC",
		 use_ioapic ? "IOAPIC" : "8259 (no IOAPIC is described)");
}

int irq_alloc(irq_handler_t fn, void *arg, const char *name)
{
	int vector = E_NOSPC;

	lock_acquire(&irq_lock);
	for (int v = VECTOR_ALLOC_FIRST; v <= VECTOR_ALLOC_LAST; v++) {
		if (slots[v].fn)
			continue;
		slots[v].arg = arg;
		slots[v].name = name;
		slots[v].count = 0;
		__atomic_store_n(&slots[v].fn, fn, __ATOMIC_RELEASE);
		vector = v;
		break;
	}
	lock_release(&irq_lock);
	return vector;
}

void irq_free(int vector)
{
	CHECK(vector >= VECTOR_ALLOC_FIRST && vector <= VECTOR_ALLOC_LAST);
	lock_acquire(&irq_lock);
	__atomic_store_n(&slots[vector].fn, NULL, __ATOMIC_RELEASE);
	lock_release(&irq_lock);
}

void irq_msi(int vector, u64 *addr, u32 *data)
{
	*addr = MSI_ADDRESS | (u64)(this_cpu()->apic_id & 0xff) << MSI_DEST_SHIFT;
	*data = (u32)vector;
}

int irq_route_isa(u8 line, int vector)
{
	int err = 0;

	if (line >= ISA_LINES)
		return E_NODEV;
	lock_acquire(&irq_lock);
	if (use_ioapic) {
		err =
		    ioapic_route(machine.isa[line].gsi, vector, machine.isa[line].active_low, machine.isa[line].level);
	} else {
		pic_vector[line] = (u8)vector;
		pic_unmask(line);
	}
	lock_release(&irq_lock);
	return err;
}

static void call_slot(u32 vector)
{
	irq_handler_t fn = __atomic_load_n(&slots[vector].fn, __ATOMIC_ACQUIRE);

	if (fn) {
		slots[vector].count++;
		fn(slots[vector].arg);
	} else {
		unexpected++;
	}
}

static void dispatch_pic(u8 line)
{
	if (!pic_begin(line))
		return;
	if (pic_vector[line])
		call_slot(pic_vector[line]);
	pic_end(line);
}

void irq_dispatch(u32 vector)
{
	if (vector == VECTOR_SPURIOUS)
		return;
	if (vector >= VECTOR_PIC && vector < VECTOR_PIC + ISA_LINES) {
		dispatch_pic((u8)(vector - VECTOR_PIC));
		return;
	}
	if (vector != VECTOR_ERROR)
		call_slot(vector);
	lapic_eoi();
}

void irq_print(void (*print)(const char *fmt, ...))
{
	for (u32 v = VECTOR_ALLOC_FIRST; v <= VECTOR_ALLOC_LAST; v++)
		if (slots[v].fn)
			print("  vector 0x%x %s: %lu\n", v, slots[v].name, slots[v].count);
	if (unexpected)
		print("  unexpected: %lu\n", unexpected);
}
