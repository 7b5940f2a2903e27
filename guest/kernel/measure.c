/*
 * Times one trip along a path that leaves the guest: the machine's half of workload bench. Nothing but the path itself
 * and the few instructions that set it up stands between the two readings of the TSC.
 */
#include "guest/kernel/arch.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/kernel.h"

#define PORT_CONSOLE  0xe9 /* the VM's emulated device: a byte to its console */
#define LINE_BYTES    64   /* after so many the byte is an end of line: the operator sees lines, not a flood */
#define CPUID_FEATURE 1

static u64 time_hypercall(void)
{
	u64 t0 = arch_tsc(), result = AERO_CALL_NOP;

	__asm__ volatile("call hypercall_page" : "+a"(result) : : "rdx", "memory");
	return arch_tsc() - t0;
}

static u64 time_cpuid(void)
{
	u32 eax = CPUID_FEATURE, ecx = 0;
	u64 t0 = arch_tsc();

	__asm__ volatile("cpuid" : "+a"(eax), "+c"(ecx) : : "rbx", "rdx");
	return arch_tsc() - t0;
}

static u64 time_msr_read(void)
{
	u64 t0 = arch_tsc();

	cpu_rdmsr(MSR_IA32_EFER);
	return arch_tsc() - t0;
}

static u64 time_msr_write(void)
{
	u64 efer = cpu_rdmsr(MSR_IA32_EFER), t0 = arch_tsc();

	cpu_wrmsr(MSR_IA32_EFER, efer);
	return arch_tsc() - t0;
}

static u64 time_pio_write(void)
{
	static u32 column;
	u8 byte = ++column % LINE_BYTES ? '.' : '\n';
	u64 t0 = arch_tsc();

	__asm__ volatile("outb %0, %1" : : "a"(byte), "Nd"((u16)PORT_CONSOLE));
	return arch_tsc() - t0;
}

static u64 time_trap(void)
{
	u64 t0 = arch_tsc();

	__asm__ volatile("int %0" : : "i"(KERNEL_UPCALL_VECTOR) : "memory");
	return arch_tsc() - t0;
}

u64 arch_measure(enum arch_path path, u64 va)
{
	volatile u64 *at = (volatile u64 *)va;
	u64 t0;

	switch (path) {
	case ARCH_PATH_NONE:
		t0 = arch_tsc();
		return arch_tsc() - t0;
	case ARCH_PATH_HYPERCALL:
		return time_hypercall();
	case ARCH_PATH_CPUID:
		return time_cpuid();
	case ARCH_PATH_MSR_READ:
		return time_msr_read();
	case ARCH_PATH_MSR_WRITE:
		return time_msr_write();
	case ARCH_PATH_PIO_WRITE:
		return time_pio_write();
	case ARCH_PATH_TRAP:
		return time_trap();
	case ARCH_PATH_READ:
		t0 = arch_tsc();
		(void)*at;
		return arch_tsc() - t0;
	case ARCH_PATH_WRITE:
		t0 = arch_tsc();
		*at = t0;
		return arch_tsc() - t0;
	}
	return 0;
}
