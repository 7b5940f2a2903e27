/*
 * The panic screen: what happened, registers, backtrace, and sections of the layers above, on the serial line,
 * written without any lock. Then halt, or reboot if the operator asked for it.
 *
 * The text is written for any state of the machine: a fault inside the panic ends it at once.
 */
#include <stdarg.h>

#include "arch/x86/asm.h"
#include "arch/x86/backtrace.h"
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"
#include "arch/x86/platform.h"
#include "arch/x86/smp.h"
#include "arch/x86/traps.h"
#include "lib/format.h"
#include "lib/string.h"

#define SECTIONS_MAX        8
#define BACKTRACE_MAX       32
#define REBOOT_SECONDS      5
#define STACK_WORDS         16
#define MSR_IA32_MCG_CAP    0x179U
#define MSR_IA32_MC0_STATUS 0x401U
#define MC_STATUS_VALID     BIT(63)
#define RULE                "==============================================================================\n"

static struct {
	const char *title;
	void (*fn)(void);
} sections[SECTIONS_MAX];
static u32 section_count;
static bool reboot_wanted;
static u32 depth;     /* atomic: panics begun */
static u32 panic_cpu; /* who began the first */

void panic_add_section(const char *title, void (*fn)(void))
{
	if (section_count < SECTIONS_MAX) {
		sections[section_count].title = title;
		sections[section_count++].fn = fn;
	}
}

void panic_set_reboot(bool reboot)
{
	reboot_wanted = reboot;
}

void panic_print(const char *fmt, ...)
{
	const struct platform_console *c = platform_get_console();
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	format_vbuf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c)
		c->write_sync(text, strlen(text));
}

static _Noreturn void stop(void)
{
	irq_disable();
	for (;;)
		__asm__ volatile("hlt");
}

/*
 * First call: stops the other CPUs and goes on. Later ones: another CPU was faster (it shows where this one is), or the
 * panic itself failed; one line and no more.
 */
static void enter(void)
{
	struct cpu *c = this_cpu();
	u32 before;

	irq_disable();
	before = __atomic_fetch_add(&depth, 1, __ATOMIC_SEQ_CST);
	if (before == 0) {
		WRITE_ONCE(panic_cpu, c->lib.id);
		smp_stop_others();
		return;
	}
	if (READ_ONCE(panic_cpu) != c->lib.id) {
		c->stop_rbp = (u64)__builtin_frame_address(0);
		c->stop_rip = (u64)enter;
		__atomic_store_n(&c->stopped, 1, __ATOMIC_RELEASE);
		stop();
	}
	panic_print("\nAEROSTAT PANIC: another fault on cpu%u during a panic\n", this_cpu()->lib.id);
	if (before == 1 && reboot_wanted)
		cpu_reboot();
	stop();
}

static void print_address(u64 addr, bool ret, u32 times)
{
	u64 offset;
	const char *name = ksym_find(addr - ret, &offset);

	panic_print("  %016lx ", addr);
	if (name)
		panic_print("%s+0x%lx", name, offset + ret);
	else
		panic_print("?");
	if (times > 1)
		panic_print(" (%u times)", times);
	panic_print("\n");
}

static void print_control(void)
{
	panic_print("cr0 %016lx cr2 %016lx cr3 %016lx cr4 %016lx\n", read_cr0(), read_cr2(), read_cr3(), read_cr4());
	panic_print("efer %016lx fs %016lx gs %016lx apic %u irqs %lu nmis %lu\n", rdmsr(MSR_EFER), rdmsr(MSR_FS_BASE),
		    rdmsr(MSR_GS_BASE), this_cpu()->apic_id, this_cpu()->irqs, this_cpu()->nmis);
}

static void print_registers(const struct trap_frame *f)
{
	panic_print("rip %016lx rsp %016lx rflags %016lx cs %lx ss %lx\n", f->rip, f->rsp, f->rflags, f->cs, f->ss);
	panic_print("rax %016lx rbx %016lx rcx %016lx rdx %016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
	panic_print("rsi %016lx rdi %016lx rbp %016lx r8  %016lx\n", f->rsi, f->rdi, f->rbp, f->r8);
	panic_print("r9  %016lx r10 %016lx r11 %016lx r12 %016lx\n", f->r9, f->r10, f->r11, f->r12);
	panic_print("r13 %016lx r14 %016lx r15 %016lx\n", f->r13, f->r14, f->r15);
}

static void print_stack(u64 rsp)
{
	rsp = ALIGN_DOWN(rsp, 8);
	panic_print("stack at %016lx:\n", rsp);
	for (u32 i = 0; i < STACK_WORDS && paging_readable(rsp); i++, rsp += 8)
		panic_print("%s %016lx%s", i % 4 == 0 ? " " : "", *(u64 *)rsp, i % 4 == 3 ? "\n" : "");
}

static void print_other_cpus(void)
{
	for (u32 id = 0; id < cpu_count(); id++) {
		const struct cpu *c = cpu_at(id);

		if (c == this_cpu())
			continue;
		panic_print("cpu%u%s: rsp %016lx guest %s locks held %u\n", id, c->stopped ? "" : " (did not stop)",
			    c->stop_rsp, c->tlb.space ? "yes" : "no", c->lib.locks_held);
		if (c->stopped)
			backtrace(c->stop_rip, c->stop_rbp, BACKTRACE_MAX, print_address);
	}
}

static _Noreturn void finish(u64 rip, u64 rbp)
{
	panic_print("backtrace:\n");
	backtrace(rip, rbp, BACKTRACE_MAX, print_address);
	print_other_cpus();
	panic_print("interrupts:\n");
	irq_print(panic_print);
	for (u32 i = 0; i < section_count; i++) {
		panic_print("%s:\n", sections[i].title);
		sections[i].fn();
	}
	panic_print(RULE);
	if (!reboot_wanted) {
		panic_print("halted (boot option panic=reboot restarts instead)\n");
		stop();
	}
	panic_print("rebooting in %u s (boot option panic=halt stops instead)\n", REBOOT_SECONDS);
	cpu_delay_us(REBOOT_SECONDS * 1000000UL);
	cpu_reboot();
}

static const char *exception_name(u64 vector)
{
	static const char *const names[] = {
	    "divide error (#DE)",
	    "debug (#DB)",
	    "NMI",
	    "breakpoint (#BP)",
	    "overflow (#OF)",
	    "bound range (#BR)",
	    "invalid opcode (#UD)",
	    "no FPU (#NM)",
	    "double fault (#DF)",
	    "coprocessor overrun",
	    "invalid TSS (#TS)",
	    "segment not present (#NP)",
	    "stack fault (#SS)",
	    "general protection (#GP)",
	    "page fault (#PF)",
	    "reserved 15",
	    "x87 error (#MF)",
	    "alignment check (#AC)",
	    "machine check (#MC)",
	    "SIMD error (#XM)",
	    "virtualisation (#VE)",
	    "control protection (#CP)",
	};

	return vector < ARRAY_SIZE(names) ? names[vector] : "reserved exception";
}

static void print_page_fault(u64 error)
{
	panic_print("%s of %s page at %016lx%s\n",
		    error & BIT(4)   ? "execution"
		    : error & BIT(1) ? "write"
				     : "read",
		    error & BIT(0) ? "a protected" : "an unmapped", read_cr2(),
		    error & BIT(3) ? ", reserved bit set in a page table" : "");
}

/* A stack that ran into its guard page shows as a double fault: the processor could not push the page fault's frame. */
static void print_overflow(const struct trap_frame *f)
{
	static const char *const stacks[] = {"main", "double fault", "NMI", "machine check"};
	enum cpu_stack which;
	u32 cpu;

	if (paging_guard_page(read_cr2(), &cpu, &which) || paging_guard_page(f->rsp - 1, &cpu, &which))
		panic_print("STACK OVERFLOW: the %s stack of cpu%u ran into its guard page\n", stacks[which], cpu);
}

static void print_machine_check(void)
{
	u32 banks = rdmsr(MSR_IA32_MCG_CAP) & 0xff;

	for (u32 i = 0; i < banks; i++) {
		u64 status = rdmsr(MSR_IA32_MC0_STATUS + i * 4);

		if (status & MC_STATUS_VALID)
			panic_print("bank %u status %016lx\n", i, status);
	}
}

static void print_title(const char *what)
{
	u64 ms = cpu_now_ns() / NSEC_PER_MSEC;

	panic_print("\n" RULE "AEROSTAT PANIC on cpu%u at %lu.%03lu s: %s\n", this_cpu()->lib.id, ms / 1000, ms % 1000,
		    what);
}

_Noreturn void panic_trap(const struct trap_frame *f)
{
	enter();
	print_title(exception_name(f->vector));
	panic_print("vector %lu error 0x%lx\n", f->vector, f->error);
	if (f->vector == TRAP_PAGE_FAULT)
		print_page_fault(f->error);
	if (f->vector == TRAP_MACHINE_CHECK)
		print_machine_check();
	if (f->vector == TRAP_PAGE_FAULT || f->vector == TRAP_DOUBLE_FAULT)
		print_overflow(f);
	print_registers(f);
	print_control();
	print_stack(f->rsp);
	finish(f->rip, f->rbp);
}

_Noreturn void platform_panic(const char *file, int line, const char *msg)
{
	u64 *frame = __builtin_frame_address(0);

	enter();
	print_title(msg);
	panic_print("at %s:%d\n", file, line);
	panic_print("rsp %016lx rbp %016lx rflags %016lx\n", (u64)frame, frame[0], read_rflags());
	print_control();
	finish((u64)__builtin_return_address(0), frame[0]);
}
