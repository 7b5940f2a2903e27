/*
 * What a guest can do to a processor: the machine's half of workload crash. The fatal ones end in this kernel's
 * exception report, in the hypervisor's dump, or never; the others try every refusal and return.
 */
#include "guest/abi/aerostat.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/ptab.h"
#include "lib/string.h"

#define PORTS      0x10000u
#define FAR_BEYOND (1ul << 38) /* more memory than any VM has */

/* ---- fatal ---- */

static void do_triple(void)
{
	struct packed {
		u16 limit;
		u64 base;
	} none = {0, 0};

	__asm__ volatile("lidt %0\n\tint3" : : "m"(none));
}

static void do_ud(void)
{
	__asm__ volatile("ud2");
}

static void do_gp(void)
{
	__asm__ volatile("movq (%0), %%rax" : : "r"(1ul << 63) : "rax");
}

static void do_de(void)
{
	__asm__ volatile("xorl %%ecx, %%ecx\n\tdivl %%ecx" : : : "rax", "rcx", "rdx");
}

static void do_pf(void)
{
	__asm__ volatile("movq $1, (%0)" : : "r"(0ul) : "memory");
}

/* The timer's upcall stays pending: that is what the watchdog measures. */
static void do_spin(void)
{
	__asm__ volatile("cli");
	arch_hypercall(AERO_CALL_TIMER, 1, 0, 0, NULL);
	__asm__ volatile("1: jmp 1b");
}

static void do_spinon(void)
{
	__asm__ volatile("sti\n1: jmp 1b");
}

static void do_spinexit(void)
{
	u32 eax = 1, ecx = 0;

	__asm__ volatile("cli\n1: movl $1, %%eax\n\tcpuid\n\tjmp 1b" : "+a"(eax), "+c"(ecx) : : "rbx", "rdx");
}

static void do_hlt(void)
{
	__asm__ volatile("cli\n\thlt");
}

static void do_stack(void)
{
	__asm__ volatile("1: pushq %rax\n\tjmp 1b");
}

/* Maps a large page of physical memory that nobody has, at 2 TiB, in the running tables. */
static u8 *map_beyond(u64 pa)
{
	static u64 table[2][512] aligned(PAGE_SIZE);
	u64 *root = arch_phys(cpu_cr3() & PTE_ADDR), va = 1ul << 41;

	table[1][0] = pa | PTE_PS | PTE_P | PTE_W;
	table[0][0] = arch_pa(table[1]) | PTE_P | PTE_W;
	root[va >> 39] = arch_pa(table[0]) | PTE_P | PTE_W;
	arch_tlb_flush();
	return (u8 *)va;
}

static void do_badmem(void)
{
	print("read %#x\n", *(volatile u8 *)map_beyond(FAR_BEYOND));
}

static void do_badwrite(void)
{
	*(volatile u8 *)map_beyond(FAR_BEYOND) = 1;
}

static void do_badexec(void)
{
	((void (*)(void))map_beyond(FAR_BEYOND))();
}

static void do_cr3(void)
{
	cpu_set_cr3(FAR_BEYOND);
}

/* The exception's handler lies beyond memory: every fault becomes the next. */
static void do_idt(void)
{
	struct packed {
		u16 limit;
		u64 base;
	} far = {4095, (u64)map_beyond(FAR_BEYOND)};

	__asm__ volatile("lidt %0\n\tint3" : : "m"(far));
}

/* The kernel's own code goes into the balloon: what runs next is zeroes. */
static void do_selfballoon(void)
{
	static u64 batch[AERO_BALLOON_BATCH_MAX] aligned(PAGE_SIZE);
	u64 code = ALIGN_DOWN((u64)do_selfballoon, PAGE_SIZE);

	for (u32 i = 0; i < 8; i++)
		batch[i] = code - 4 * PAGE_SIZE + i * PAGE_SIZE;
	arch_hypercall(AERO_CALL_BALLOON_INFLATE, arch_pa(batch), 8, 0, NULL);
}

/* ---- survived ---- */

static u32 raised; /* exceptions seen by the variant that runs */

static void attempt(void (*fn)(u64), u64 arg)
{
	raised += cpu_probe(fn, arg) >= 0;
}

static void port_in(u64 port)
{
	u32 v;

	__asm__ volatile("inb %w1, %b0\n\tinw %w1, %w0\n\tinl %w1, %0" : "=&a"(v) : "d"(port));
}

static void port_out(u64 port)
{
	__asm__ volatile("outb %b0, %w1\n\toutw %w0, %w1\n\toutl %0, %w1" : : "a"(0x5a5a5a5a), "d"(port));
}

static void port_string(u64 port)
{
	static u8 buffer[64];
	void *at = buffer;
	u64 count = sizeof(buffer);

	__asm__ volatile("rep insb" : "+D"(at), "+c"(count) : "d"(port) : "memory");
	at = buffer;
	count = sizeof(buffer);
	__asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(port) : "memory");
}

/* Every 61st port, and those a PC has; the debug port 0xe9 is left out: it prints. */
static void do_io(void)
{
	static const u16 known[] = {0x20, 0x21, 0x40,  0x43,  0x60,  0x64,  0x70,  0x71,
				    0x80, 0x92, 0xcf8, 0xcfc, 0x3f8, 0x1f0, 0x604, 0xb004};

	for (u32 port = 0; port < PORTS; port += 61) {
		attempt(port_in, port);
		attempt(port_out, port);
	}
	for (u32 i = 0; i < ARRAY_SIZE(known); i++) {
		attempt(port_in, known[i]);
		attempt(port_out, known[i]);
		attempt(port_string, known[i]);
	}
}

static void msr_read(u64 msr)
{
	cpu_rdmsr((u32)msr);
}

static void msr_write(u64 msr)
{
	cpu_wrmsr((u32)msr, 0xdeadbeefcafef00dul);
}

/* Architectural ranges of both vendors and the hypercall MSR's neighbours. Base registers and SYSCALL's are ours to
 * ruin. */
static void do_msr(void)
{
	static const u32 first[] = {0,          0x10,       0x1b,       0x3a,       0x8b,       0x174,
				    0x1d9,      0x200,      0x277,      0x2ff,      0x400,      0x480,
				    0x600,      0x800,      0xd90,      0xda0,      0x40000000, 0x4ae1fff8,
				    0x4ae20001, 0xc0000081, 0xc0000102, 0xc0010010, 0xc0010110, 0xffffffe0};

	for (u32 i = 0; i < ARRAY_SIZE(first); i++) {
		for (u32 n = 0; n < 24; n++) {
			if (first[i] + n == AERO_MSR_HYPERCALL)
				continue;
			attempt(msr_read, first[i] + n);
			attempt(msr_write, first[i] + n);
		}
	}
	attempt(msr_write, MSR_IA32_EFER);
	attempt(msr_write, AERO_MSR_HYPERCALL);
}

static void try_cr0(u64 v)
{
	cpu_set_cr0(v);
}

static void try_cr4(u64 v)
{
	cpu_set_cr4(v);
}

/* Values that must be refused (paging off in 64-bit mode, NW without CD, upper halves), one bit at a time. */
static void do_cr0(void)
{
	u64 good = cpu_cr0();

	attempt(try_cr0, good & ~BIT(31));
	attempt(try_cr0, good & ~BIT(0));
	attempt(try_cr0, (good | BIT(29)) & ~BIT(30));
	for (u32 bit = 32; bit < 64; bit++)
		attempt(try_cr0, good | BIT(bit));
	attempt(try_cr0, good);
}

static void do_cr4(void)
{
	u64 good = cpu_cr4();

	for (u32 bit = 0; bit < 64; bit++) {
		/* LA57 cannot change in 64-bit mode; the rest is either refused or harmless for a moment. */
		attempt(try_cr4, good ^ BIT(bit));
		attempt(try_cr4, good);
	}
}

/* clang-format off */
static void insn_of_host(u64 which)
{
	switch (which) {
	case 0:	 __asm__ volatile(".byte 0x0f, 0x01, 0xd8" : : "a"(0) : "memory"); break; /* VMRUN */
	case 1:	 __asm__ volatile(".byte 0x0f, 0x01, 0xda" : : "a"(0) : "memory"); break; /* VMLOAD */
	case 2:	 __asm__ volatile(".byte 0x0f, 0x01, 0xdb" : : "a"(0) : "memory"); break; /* VMSAVE */
	case 3:	 __asm__ volatile(".byte 0x0f, 0x01, 0xdc"); break;			  /* STGI */
	case 4:	 __asm__ volatile(".byte 0x0f, 0x01, 0xdd"); break;			  /* CLGI */
	case 5:	 __asm__ volatile(".byte 0x0f, 0x01, 0xde" : : "a"(0)); break;		  /* SKINIT */
	case 6:	 __asm__ volatile(".byte 0x0f, 0x01, 0xdf" : : "a"(0), "c"(0)); break;	  /* INVLPGA */
	case 7:	 __asm__ volatile(".byte 0x0f, 0x01, 0xc2"); break;			  /* VMLAUNCH */
	case 8:	 __asm__ volatile(".byte 0x0f, 0x01, 0xc3"); break;			  /* VMRESUME */
	case 9:	 __asm__ volatile(".byte 0x0f, 0x01, 0xc4"); break;			  /* VMXOFF */
	case 10: __asm__ volatile(".byte 0xf3, 0x0f, 0xc7, 0x33" : : "b"(0) : "memory"); break; /* VMXON (RBX) */
	case 11: __asm__ volatile(".byte 0x0f, 0x01, 0xc8" : : "a"(0), "c"(0), "d"(0)); break;	/* MONITOR */
	case 12: __asm__ volatile(".byte 0x0f, 0x01, 0xc9" : : "a"(0), "c"(0)); break;		/* MWAIT */
	case 13: __asm__ volatile(".byte 0x0f, 0x01, 0xd1" : : "a"(1), "c"(0), "d"(0)); break;	/* XSETBV */
	case 14: __asm__ volatile(".byte 0x0f, 0x33" : : "c"(0) : "rax", "rdx"); break;		/* RDPMC */
	case 15: __asm__ volatile(".byte 0x0f, 0xaa"); break;					/* RSM */
	case 16: __asm__ volatile(".byte 0x0f, 0x37" : : "a"(0), "b"(0)); break;		/* GETSEC */
	case 17: __asm__ volatile("wbinvd"); break;
	case 18: __asm__ volatile("invd"); break;
	default: break;
	}
}

/* clang-format on */

/* Instructions that belong to the host. */
static void do_insn(void)
{
	for (u32 i = 0; i <= 18; i++)
		attempt(insn_of_host, i);
}

static void debug_registers(u64 v)
{
	__asm__ volatile("mov %0, %%dr0\n\tmov %0, %%dr6\n\tmov %1, %%dr7" : : "r"(v), "r"(v & 0xfffffffful));
	__asm__ volatile("mov %0, %%dr7" : : "r"(0x400ul));
}

static void single_step(u64 arg)
{
	(void)arg;
	__asm__ volatile("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\tnop\n\tnop" : : : "memory", "cc");
}

static void software_interrupt(u64 arg)
{
	if (arg)
		__asm__ volatile("int $0x80");
	else
		__asm__ volatile("int3");
}

static void do_debug(void)
{
	attempt(debug_registers, 0x1000);
	attempt(debug_registers, ~0ul);
	for (u32 i = 0; i < 1000; i++)
		attempt(single_step, 0);
	attempt(software_interrupt, 0);
	attempt(software_interrupt, 1);
}

static const struct {
	const char *name;
	void (*run)(void);
} misdeeds[] = {
    {"triple", do_triple},   {"ud", do_ud},       {"gp", do_gp},         {"de", do_de},
    {"pf", do_pf},           {"spin", do_spin},   {"spinon", do_spinon}, {"spinexit", do_spinexit},
    {"hlt", do_hlt},         {"stack", do_stack}, {"badmem", do_badmem}, {"badwrite", do_badwrite},
    {"badexec", do_badexec}, {"cr3", do_cr3},     {"idt", do_idt},       {"selfballoon", do_selfballoon},
    {"io", do_io},           {"msr", do_msr},     {"cr0", do_cr0},       {"cr4", do_cr4},
    {"insn", do_insn},       {"debug", do_debug},
};

bool arch_misbehave(const char *how)
{
	for (u32 i = 0; i < ARRAY_SIZE(misdeeds); i++) {
		if (!str_eq(misdeeds[i].name, how))
			continue;
		raised = 0;
		console_flush();
		misdeeds[i].run();
		print("crash: %s raised %u exceptions\n", how, raised);
		return true;
	}
	return false;
}

const char *arch_misbehaviours(void)
{
	return "triple ud gp de pf spin spinon spinexit hlt stack badmem badwrite badexec cr3 idt selfballoon io msr cr0 cr4 "
	       "insn debug";
}
