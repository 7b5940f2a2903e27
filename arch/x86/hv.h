/*
 * The vendor boundary. vmx/ and svm/ each provide one `const struct hv_ops`;
 * hv_init() picks by CPUID. A back end enters the guest, handles by itself the exits that need
 * nobody else's knowledge, and decodes the others into a neutral struct hv_exit for
 * vmm/exit.c to decide. vmx/ and svm/ see neither each other nor vmm/.
 *
 * General registers of a guest live in struct hv_regs while the hypervisor runs (RAX and RSP and RIP included: the back
 * end synchronises them with VMCB/VMCS). RFLAGS, control and segment registers are reached by get/set_sys.
 */
#ifndef ARCH_X86_HV_H
#define ARCH_X86_HV_H

#include "lib/types.h"
#include "mm/pt.h"

struct hv_vcpu; /* the back end's own, opaque */

struct hv_regs {
	u64 rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
	u64 r8, r9, r10, r11, r12, r13, r14, r15;
	u64 rip;
};

/*
 * Where a vCPU starts: 64-bit mode, flat segments (CS 0x08, data 0x10, a busy TSS 0x18 at 0), paging on, interrupts
 * off; empty GDT and IDT, FPU and SYSCALL registers as after a processor reset.
 */
struct hv_start {
	u64 rip, rsp, cr3;
	u64 rdi, rsi; /* the guest's arguments */
};

enum hv_exit_kind {
	HV_EXIT_NONE,      /* handled inside, or a window opened: look for events and run again */
	HV_EXIT_HOST_IRQ,  /* interrupt, NMI or timer for the host: the CPU loop has to look */
	HV_EXIT_HYPERCALL, /* VMCALL / VMMCALL at CPL 0 or above (cpl given) */
	HV_EXIT_CPUID,
	HV_EXIT_MSR_READ,
	HV_EXIT_MSR_WRITE,
	HV_EXIT_IO,
	HV_EXIT_HLT,
	HV_EXIT_NPF, /* nested page fault: EPT violation / #NPF, or the hypervisor's own fetch of the instruction (see
			hv_set_phys_reader) */
	HV_EXIT_CR_WRITE,  /* a guest value for CR0/CR4 that the back end does not allow */
	HV_EXIT_UNDEFINED, /* an instruction this machine does not have for guests (VMX/SVM/MONITOR/XSETBV...): inject
			      #UD */
	HV_EXIT_TRIPLE_FAULT, /* shutdown */
	HV_EXIT_EXCEPTION,    /* an intercepted exception the back end does not know what to do with: vector */
	HV_EXIT_BAD_STATE,    /* entry refused because of guest state: the guest's fault; reason in text */
	HV_EXIT_UNKNOWN,      /* anything else: ends that guest */
	HV_EXIT_KINDS
};

struct hv_exit {
	enum hv_exit_kind kind;
	u8 len;     /* instruction length, 0 if unknown */
	u8 cpl;     /* HYPERCALL: the caller's privilege level */
	u64 reason; /* vendor's exit reason / code, for dumps and counters */
	union {
		struct {
			u32 index;
			u64 value;
		} msr; /* value: of a write */
		struct {
			u16 port;
			u8 bytes;
			bool in, string, rep;
			u32 value;
		} io;
		struct {
			gpa_t gpa;
			gva_t gva;
			bool read, write, exec, walk, gva_valid;
		} npf; /* walk: hit while walking guest tables */
		struct {
			u8 cr;
			u64 value;
		} cr;
		struct {
			u8 vector;
			u32 error;
			bool has_error;
		} exc;
	};
	const char *text; /* BAD_STATE, UNKNOWN: what, for the operator */
};

/* Segment attributes as in a VMCS: type, S, DPL, P in 7:0, then AVL, L, D/B, G; unusable in 16. */
#define HV_ATTR_L        BIT(13)
#define HV_ATTR_DB       BIT(14)
#define HV_ATTR_UNUSABLE BIT(16)

struct hv_sys { /* state for dumps, guest page walks and tests */
	u64 rflags, cr0, cr2, cr3, cr4, efer;
	struct {
		u16 sel;
		u32 attr, limit;
		u64 base;
	} es, cs, ss, ds, fs, gs, ldtr, tr, gdtr, idtr;
	u64 interruptibility, pending; /* vendor raw */
};

struct hv_caps {
	const char *vendor; /* "SVM" / "VMX" */
	u32 asids;          /* usable address-space identifiers per CPU */
	bool ad_bits, large_2m, large_1g, unrestricted, nrip;
	const struct pt_format *npt;
	u8 hypercall_insn[3];
};

/*
 * Answers that the back end gives without leaving its loop. The owner of the vCPU fills it in, at any time the vCPU is
 * not running; what is not found here exits as ever. count[]: exits answered so, by kind. A reset clears cpuid[].
 */
#define HV_FAST_CPUIDS 16U
struct hv_fast_cpuid {
	u64 key; /* leaf << 32 | subleaf as asked; HV_FAST_NO_KEY: empty */
	u32 eax, ebx, ecx, edx;
};
#define HV_FAST_NO_KEY (~0UL)
struct hv_fast {
	struct hv_fast_cpuid cpuid[HV_FAST_CPUIDS];
	bool nop; /* a hypercall from CPL 0 with RAX = 0 is answered with 0 */
	u64 count[HV_EXIT_KINDS];
};
static inline u32 hv_fast_slot(u32 leaf)
{
	return (leaf + (leaf >> 30) * 5) % HV_FAST_CPUIDS;
}

struct hv_ops {
	const char *name;
	/* Can this machine run guests? E_NOSYS with the missing capability's manual name in why. Fills caps. */
	int (*probe)(struct hv_caps *caps, char *why, size_t size);
	/* Per CPU: VMXON / EFER.SVME and host save area. */
	int (*cpu_on)(char *why, size_t size);
	void (*cpu_off)(void);
	/* One vCPU over nested table root `root`. E_NOMEM. Uses frame_alloc(FRAME_FOR_HV) for its control blocks. */
	int (*vcpu_create)(struct hv_vcpu **out, hfn_t root);
	/* On the CPU that ran it last, or after release. */
	void (*vcpu_destroy)(struct hv_vcpu *v);
	/*
	 * Takes v's state out of this CPU's registers and control-block cache (FPU, debug and SYSCALL registers, VMCS),
	 * so that another CPU may run it. Must be called on the CPU that ran it last, before run() elsewhere; harmless
	 * otherwise.
	 */
	void (*release)(struct hv_vcpu *v);
	void (*vcpu_reset)(struct hv_vcpu *v, const struct hv_start *s);
	/*
	 * Enters the guest and returns at the first exit somebody else has to see. Called with interrupts off;
	 * host interrupts that arrive are left pending for the CPU loop (HV_EXIT_HOST_IRQ). tlb_gen: the address
	 * space's generation; the back end flushes the guest's translations when it differs from the one last entered
	 * with on this CPU.
	 */
	void (*run)(struct hv_vcpu *v, u64 tlb_gen, struct hv_exit *exit);
	void (*get_sys)(struct hv_vcpu *v, struct hv_sys *s);
	/* Skips the exiting instruction (clears interrupt shadow). */
	void (*skip)(struct hv_vcpu *v, u8 len);
	/* Queues an exception (has_error as the manual says) for the next entry; a queued interrupt comes after it. */
	void (*inject_exception)(struct hv_vcpu *v, u8 vector, bool has_error, u32 error);
	/*
	 * An external interrupt is wanted. True: it will be delivered at the next entry. False: the guest cannot take
	 * it now (IF=0, shadow, another event pending); the back end exits with HV_EXIT_NONE when the window opens,
	 * then call again.
	 */
	bool (*inject_irq)(struct hv_vcpu *v, u8 vector);
	bool (*irq_enabled)(struct hv_vcpu *v); /* RFLAGS.IF: HLT with 0 and nothing pending never wakes */
	/* TSC the guest reads = host TSC + offset. */
	void (*set_tsc_offset)(struct hv_vcpu *v, u64 offset);
	/* Prints every field worth having through log_line(LOG_WARN, ...). */
	void (*dump)(struct hv_vcpu *v, const char *who);
};

/* Address-space identifiers and translations, counted per CPU; the rules are in asid.h. */
struct hv_tlb_stats {
	u64 entries;     /* guest entries */
	u64 flush_guest; /* one guest's translations flushed */
	u64 flush_all;   /* every guest's: identifiers ran out */
	u64 assigned;    /* identifiers handed out */
};

/* The registers are the first that a vCPU has. */
static inline struct hv_regs *hv_regs(struct hv_vcpu *v)
{
	return (struct hv_regs *)v;
}

extern const struct hv_ops vmx_ops, svm_ops;
extern const struct hv_ops *hv; /* chosen by hv_init */
extern struct hv_caps hv_caps;

/* CPUID -> probe -> cpu_on on this CPU. On failure why names the missing capability. */
int hv_init(char *why, size_t size) must_check;

/*
 * Guest page walk for instruction fetch and dumps (arch/x86/guest_walk.c): reads guest memory through `read`
 * (gspace_read behind it). 4-level and legacy modes. E_FAULT: not mapped; E_AGAIN as the reader.
 */
typedef int (*hv_phys_read_fn)(void *arg, gpa_t gpa, void *dst, size_t len);
int hv_guest_translate(const struct hv_sys *s, gva_t gva, hv_phys_read_fn read, void *arg, gpa_t *out) must_check;

/*
 * How a back end reads guest-physical memory: processors that do not report instruction lengths make it fetch the
 * exiting instruction. fn gets the owner set for the vCPU. When fn returns E_AGAIN (the page is not in memory), run()
 * returns HV_EXIT_NPF (exec) for that page: the caller touches or waits for it as for any other and runs the
 * instruction again, which exits again. Any other error makes the guest repeat the instruction with its translations
 * flushed, so that the processor raises whatever fault is due.
 */
void hv_set_phys_reader(hv_phys_read_fn fn);
void hv_set_owner(struct hv_vcpu *v, void *owner);
struct hv_fast *hv_fast(struct hv_vcpu *v);

/* The guest's FPU and SSE registers may stay live in this CPU while the hypervisor runs: call this before using XMM. */
void hv_fpu_save_guest(void);

void hv_tlb_stats(struct hv_tlb_stats *out); /* of this CPU */

/* Enters small guests, one for each kind of exit; prints "hv selftest: N passed, M failed". Returns the number of
 * failures. */
int hv_selftest(void);

#endif
