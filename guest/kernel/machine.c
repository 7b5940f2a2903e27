/*
 * From the hypervisor's entry to the kernel's loop: descriptor tables, hypercall page, own page tables
 * (nothing writable and executable, page 0 and the page under the stack absent), then the portable kernel. Also arch.h
 * for the machine, traps and panics.
 *
 * The one static `kernel` is what traps need to find; everything else gets pointers.
 */
#include "guest/abi/aerostat.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/kernel.h"
#include "lib/format.h"
#include "lib/panic.h"
#include "lib/string.h"

#define VECTOR_PF           14
#define PF_PRESENT          BIT(0)
#define PF_RESERVED         BIT(3)
#define PF_FETCH            BIT(4)
#define RFLAGS_IF           BIT(9)
#define FIRST_DEVICE_VECTOR 32
#define START_PAGES         16 /* [0x1000, 0x10000): start structure, first tables and stack */
#define LOW_END             (MIB >> PAGE_SHIFT)

void machine_start(const struct aero_start *start);
_Noreturn void machine_start_other(u64 index);
s64 hypercall_raw(u64 number, u64 a0, u64 a1, u64 a2, u64 *second);

/* guest.ld */
extern u8 image_start[], text_end[], rodata_end[], image_end[];

static struct kernel kernel;
static u8 console_page[PAGE_SIZE] aligned(PAGE_SIZE);

/* ---- arch.h ---- */

s64 arch_hypercall(u64 number, u64 a0, u64 a1, u64 a2, u64 *second)
{
	return hypercall_raw(number, a0, a1, a2, second);
}

void *arch_phys(u64 pa)
{
	return (void *)pa;
}

u64 arch_pa(const void *va)
{
	return (u64)va;
}

u32 arch_cpu(void)
{
	u32 index;

	__asm__ volatile("movl %%gs:0, %0" : "=r"(index));
	return index;
}

s64 arch_start_cpu(u32 index)
{
	static u8 *stack[SMP_CPUS_MAX];

	if (!stack[index])
		stack[index] = ram_array(&kernel.ram, STACK_BYTES);
	if (!stack[index])
		return AERO_E_NOMEM;
	return hypercall_vcpu_start(index, (u64)cpu_entry, (u64)stack[index] + STACK_BYTES, kernel.ptab.root, index);
}

void arch_relax(void)
{
	__asm__ volatile("pause");
}

u64 arch_tsc(void)
{
	return __builtin_ia32_rdtsc();
}

void arch_tlb_flush(void)
{
	cpu_set_cr3(cpu_cr3());
}

void arch_tlb_flush_page(u64 va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

void *arch_app_page(struct pager *p, u32 vpn, bool write)
{
	(void)p, (void)write;
	return (void *)pager_va(vpn);
}

/* ---- the end ---- */

_Noreturn void panic_at(const char *file, int line, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	format_vbuf(text, sizeof(text), fmt, ap);
	va_end(ap);
	smp.dying = true;
	print("\nGUEST PANIC %s:%d: %s\n", file, line, text);
	kernel_shutdown(AERO_SHUTDOWN_CRASH);
}

static const char *const exception_name[FIRST_DEVICE_VECTOR] = {
    "divide error",
    "debug",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range",
    "invalid opcode",
    "no FPU",
    "double fault",
    "9",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection",
    "page fault",
    "15",
    "FPU error",
    "alignment check",
    "machine check",
    "SIMD error",
    "virtualization",
    "control protection",
};

static _Noreturn void die(const struct trap_frame *f)
{
	const char *name = exception_name[f->vector];

	smp.dying = true;
	print("\nGUEST EXCEPTION %lu (%s) error=%#lx at %#lx on vCPU %u\n", f->vector, name ? name : "reserved",
	      f->error, f->rip, arch_cpu());
	print("rax=%016lx rbx=%016lx rcx=%016lx rdx=%016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
	print("rsi=%016lx rdi=%016lx rbp=%016lx rsp=%016lx\n", f->rsi, f->rdi, f->rbp, f->rsp);
	print("r8 =%016lx r9 =%016lx r10=%016lx r11=%016lx\n", f->r8, f->r9, f->r10, f->r11);
	print("r12=%016lx r13=%016lx r14=%016lx r15=%016lx\n", f->r12, f->r13, f->r14, f->r15);
	print("rflags=%#lx cs=%#lx ss=%#lx cr0=%#lx cr2=%#lx cr3=%#lx cr4=%#lx\n", f->rflags, f->cs, f->ss, cpu_cr0(),
	      cpu_cr2(), cpu_cr3(), cpu_cr4());
	kernel_shutdown(AERO_SHUTDOWN_CRASH);
}

/* ---- traps ---- */

/* A touch of the application region that the pager has to satisfy. It sleeps with interrupts on, as its caller ran. */
static bool app_fault(const struct trap_frame *f)
{
	u64 va = cpu_cr2();

	if (f->error & (PF_PRESENT | PF_RESERVED | PF_FETCH) || va < APP_BASE)
		return false;
	if ((va - APP_BASE) >> PAGE_SHIFT >= kernel.pager.pages)
		return false;
	__asm__ volatile("sti");
	kernel_lock();
	pager_fault(&kernel.pager, (u32)((va - APP_BASE) >> PAGE_SHIFT));
	kernel_unlock();
	__asm__ volatile("cli");
	return true;
}

/*
 * Bochs with several processors takes an exception back when an interrupt ends the VM's turn right behind it (its loop
 * for them does not commit the handler's RIP): the instruction faults again, but the first frame is still on the stack
 * and IF cleared, with which the region is never touched. Both as they were before.
 */
static void forget_taken_back(struct trap_frame *f)
{
	enum { ERROR, RIP, CS, RFLAGS, RSP, SS };

	while (!(f->rflags & RFLAGS_IF)) {
		const u64 *first = (const u64 *)f->rsp;

		if (first[RIP] != f->rip || first[CS] != f->cs || first[SS] != f->ss || first[RSP] - f->rsp > 64)
			break;
		f->rflags = first[RFLAGS];
		f->rsp = first[RSP];
	}
	f->rflags |= RFLAGS_IF;
}

void trap_handle(struct trap_frame *f)
{
	if (f->vector >= FIRST_DEVICE_VECTOR) {
		smp_upcall(); /* and it has ended a HLT */
		return;
	}
	if (f->vector == VECTOR_PF && app_fault(f)) {
		forget_taken_back(f);
		return;
	}
	if (cpu_probe_rsp && arch_cpu() == 0)
		cpu_probe_abort(f->vector);
	die(f);
}

/* ---- start ---- */

static void set_nxe(u64 arg)
{
	(void)arg;
	cpu_wrmsr(MSR_IA32_EFER, cpu_rdmsr(MSR_IA32_EFER) | EFER_NXE);
}

static void set_wp(u64 arg)
{
	(void)arg;
	cpu_set_cr0(cpu_cr0() | CR0_WP);
}

static bool enable_nx(void)
{
	return cpu_cpuid(0x80000000).eax >= 0x80000001 && cpu_cpuid(0x80000001).edx & BIT(20) &&
	       cpu_probe(set_nxe, 0) < 0;
}

/* CPUID names the hypervisor; its MSR fills our page with the right instruction. False: nobody to talk to. */
static bool find_hypervisor(void)
{
	struct cpuid c = cpu_cpuid(AERO_CPUID_BASE), features;
	u32 name[3] = {c.ebx, c.ecx, c.edx};

	if (c.eax < AERO_CPUID_FEATURES || memcmp(name, AERO_SIGNATURE, sizeof(name)))
		return false;
	features = cpu_cpuid(AERO_CPUID_FEATURES);
	cpu_wrmsr(features.ecx, (u64)hypercall_page | 1);
	return true;
}

static void must_map(int err)
{
	if (err)
		panic("no memory for page tables");
}

/* Everything 1:1: the image's parts with their rights, the rest writable data. */
static void make_tables(struct kernel *k)
{
	struct ptab *t = &k->ptab;
	u64 start = (u64)image_start, text = (u64)text_end, ro = (u64)rodata_end, stack = (u64)boot_stack;
	u64 end = ALIGN_UP(k->start.memory_bytes, LARGE_SIZE), split = ALIGN_UP((u64)image_end, LARGE_SIZE);

	must_map(ptab_init(t, &k->ram, enable_nx()));
	must_map(ptab_map(t, PAGE_SIZE, PAGE_SIZE, start - PAGE_SIZE, PTE_W | PTE_NX, false));
	must_map(ptab_map(t, start, start, text - start, 0, false));
	must_map(ptab_map(t, text, text, ro - text, PTE_NX, false));
	must_map(ptab_map(t, ro, ro, split - ro, PTE_W | PTE_NX, false));
	*ptab_entry(t, stack - PAGE_SIZE, false) = 0;
	if (end > split)
		must_map(ptab_map(t, split, split, end - split, PTE_W | PTE_NX, true));
	cpu_set_cr3(t->root);
	cpu_probe(set_wp, 0);
}

void machine_start(const struct aero_start *start)
{
	struct kernel *k = &kernel;
	u64 meta = ALIGN_UP((u64)image_end, PAGE_SIZE), after;

	smp_init(&k->events);
	cpu_tables_load(0);
	if (!find_hypervisor())
		__asm__ volatile("ud2");
	console_init(console_page, (u64)console_page);
	if (start->magic != AERO_START_MAGIC || start->abi_version != AERO_ABI_VERSION)
		panic("start structure of another kind: magic %#lx version %u", start->magic, start->abi_version);
	k->start = *start;
	k->start.name[sizeof(k->start.name) - 1] = '\0';
	k->start.cmdline[sizeof(k->start.cmdline) - 1] = '\0';
	after = ALIGN_UP(meta + ram_meta_bytes(grow_max(start->memory_bytes, start->memory_max)), PAGE_SIZE);
	if (after + MIB > start->memory_bytes)
		panic("%lu KiB of memory are too little", start->memory_bytes / KIB);
	kernel_init(k, (void *)meta, (u32)(after >> PAGE_SHIFT), START_PAGES, LOW_END);
	make_tables(k);
	ram_release(&k->ram, 1, START_PAGES);
	kernel_contract(k);
	kernel_start_app(k);
	__asm__ volatile("sti");
	kernel_start_others();
	kernel_run(k);
}

/* The tables are the kernel's, and NXE and WP are set: the hypervisor starts every vCPU so. */
void machine_start_other(u64 index)
{
	cpu_tables_load((u32)index);
	__asm__ volatile("sti");
	kernel_run_other(&kernel);
}
