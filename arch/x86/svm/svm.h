/*
 * SVM: the processor's constants (AMD APM volume 2, "Layout of VMCB", "SVM Intercept Codes", "CPUID") and the
 * back end's own structures. Only svm/ includes this.
 */
#ifndef ARCH_X86_SVM_SVM_H
#define ARCH_X86_SVM_SVM_H

#include "arch/x86/hv_vcpu.h"

#define MSR_VM_CR       0xc0010114U
#define VM_CR_SVMDIS    BIT(4)
#define MSR_VM_HSAVE_PA 0xc0010117U

/* CPUID 8000000A EDX */
#define SVM_FEATURE_NP             BIT(0)
#define SVM_FEATURE_NRIPS          BIT(3)
#define SVM_FEATURE_FLUSH_BY_ASID  BIT(6)
#define SVM_FEATURE_DECODE_ASSISTS BIT(7)

/* VMCB intercepts, by word of vmcb.intercept[] */
#define SVM_INTERCEPT_CR        0 /* reads in 15:0, writes in 31:16 */
#define SVM_CR_WRITE(n)         BIT(16 + (n))
#define SVM_INTERCEPT_DR        1
#define SVM_INTERCEPT_EXCEPTION 2
#define SVM_INTERCEPT_MISC1     3
#define SVM_MISC1_INTR          BIT(0)
#define SVM_MISC1_NMI           BIT(1)
#define SVM_MISC1_INIT          BIT(3)
#define SVM_MISC1_VINTR         BIT(4)
#define SVM_MISC1_RDPMC         BIT(15)
#define SVM_MISC1_CPUID         BIT(18)
#define SVM_MISC1_RSM           BIT(19)
#define SVM_MISC1_INVD          BIT(22)
#define SVM_MISC1_HLT           BIT(24)
#define SVM_MISC1_INVLPGA       BIT(26)
#define SVM_MISC1_IOIO          BIT(27)
#define SVM_MISC1_MSR           BIT(28)
#define SVM_MISC1_TASK_SWITCH   BIT(29)
#define SVM_MISC1_SHUTDOWN      BIT(31)
#define SVM_INTERCEPT_MISC2     4
#define SVM_MISC2_VMRUN         BIT(0)
#define SVM_MISC2_VMMCALL       BIT(1)
#define SVM_MISC2_VMLOAD        BIT(2)
#define SVM_MISC2_VMSAVE        BIT(3)
#define SVM_MISC2_STGI          BIT(4)
#define SVM_MISC2_CLGI          BIT(5)
#define SVM_MISC2_SKINIT        BIT(6)
#define SVM_MISC2_RDTSCP        BIT(7)
#define SVM_MISC2_WBINVD        BIT(9)
#define SVM_MISC2_MONITOR       BIT(10)
#define SVM_MISC2_MWAIT         BIT(11)
#define SVM_MISC2_XSETBV        BIT(13)
#define SVM_MISC2_RDPRU         BIT(14)
#define SVM_INTERCEPT_MISC3     5
#define SVM_MISC3_INVPCID       BIT(2)

/* Exit codes */
#define SVM_EXIT_WRITE_CR4   0x14
#define SVM_EXIT_EXCP(n)     (0x40 + (n))
#define SVM_EXIT_INTR        0x60
#define SVM_EXIT_NMI         0x61
#define SVM_EXIT_INIT        0x63
#define SVM_EXIT_VINTR       0x64
#define SVM_EXIT_RDPMC       0x6f
#define SVM_EXIT_CPUID       0x72
#define SVM_EXIT_RSM         0x73
#define SVM_EXIT_INVD        0x76
#define SVM_EXIT_HLT         0x78
#define SVM_EXIT_INVLPGA     0x7a
#define SVM_EXIT_IOIO        0x7b
#define SVM_EXIT_MSR         0x7c
#define SVM_EXIT_TASK_SWITCH 0x7d
#define SVM_EXIT_SHUTDOWN    0x7f
#define SVM_EXIT_VMRUN       0x80
#define SVM_EXIT_VMMCALL     0x81
#define SVM_EXIT_VMLOAD      0x82
#define SVM_EXIT_VMSAVE      0x83
#define SVM_EXIT_STGI        0x84
#define SVM_EXIT_CLGI        0x85
#define SVM_EXIT_SKINIT      0x86
#define SVM_EXIT_RDTSCP      0x87
#define SVM_EXIT_WBINVD      0x89
#define SVM_EXIT_MONITOR     0x8a
#define SVM_EXIT_MWAIT       0x8b
#define SVM_EXIT_MWAIT_COND  0x8c
#define SVM_EXIT_XSETBV      0x8d
#define SVM_EXIT_RDPRU       0x8e
#define SVM_EXIT_INVPCID     0xa2
#define SVM_EXIT_NPF         0x400
#define SVM_EXIT_INVALID     ((s32)-1) /* in 32 bits on some processors, in 64 on others */

/* EVENTINJ and EXITINTINFO */
#define SVM_EVENT_VALID       BIT(31)
#define SVM_EVENT_ERROR_VALID BIT(11)
#define SVM_EVENT_TYPE(e)     ((e) >> 8 & 7)
#define SVM_EVENT_INTR        0UL
#define SVM_EVENT_NMI         2UL
#define SVM_EVENT_EXCEPTION   3UL
#define SVM_EVENT_SOFTWARE    4UL

/* vmcb.vintr */
#define SVM_VINTR_IRQ        BIT(8)
#define SVM_VINTR_PRIORITY   (15UL << 16)
#define SVM_VINTR_IGN_TPR    BIT(20)
#define SVM_VINTR_MASKING    BIT(24)

#define SVM_TLB_KEEP         0
#define SVM_TLB_FLUSH_ALL    1
#define SVM_TLB_FLUSH_ASID   3

#define SVM_NP_ENABLE        BIT(0)
#define SVM_SHADOW_INTERRUPT BIT(0)

/* EXITINFO1 of IOIO */
#define SVM_IOIO_IN       BIT(0)
#define SVM_IOIO_STRING   BIT(2)
#define SVM_IOIO_REP      BIT(3)
#define SVM_IOIO_BYTES(i) ((i) >> 4 & 7)
#define SVM_IOIO_PORT(i)  ((u16)((i) >> 16))
/* EXITINFO1 of NPF */
#define SVM_NPF_PRESENT  BIT(0)
#define SVM_NPF_WRITE    BIT(1)
#define SVM_NPF_RESERVED BIT(3)
#define SVM_NPF_FETCH    BIT(4)
#define SVM_NPF_WALK     BIT(33)
/* EXITINFO1 of a CR write with decode assists */
#define SVM_CR_IS_MOV BIT(63)

#define SVM_ATTR_L    BIT(9)
struct packed svm_segment {
	u16 selector, attr; /* attr: type, S, DPL, P, AVL, L, D/B, G packed into 12 bits */
	u32 limit;
	u64 base;
};

struct packed vmcb {
	/* control area */
	u32 intercept[6];
	u8 reserved0[0x40 - 0x18];
	u64 iopm_pa, msrpm_pa, tsc_offset;
	u32 asid;
	u8 tlb_control, reserved1[3];
	u64 vintr, interrupt_shadow;
	u64 exit_code, exit_info1, exit_info2, exit_int_info;
	u64 np_control;
	u8 reserved2[0xa8 - 0x98];
	u64 event_inj, n_cr3, lbr_control, clean, nrip;
	u8 reserved3[0x400 - 0xd0];
	/* save area */
	struct svm_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	u8 reserved4[0x4cb - 0x4a0];
	u8 cpl;
	u8 reserved5[4];
	u64 efer;
	u8 reserved6[0x548 - 0x4d8];
	u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
	u8 reserved7[0x5d8 - 0x580];
	u64 rsp;
	u8 reserved8[0x5f8 - 0x5e0];
	u64 rax, star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, cr2;
	u8 reserved9[0x668 - 0x648];
	u64 g_pat;
	u8 reserved10[0x1000 - 0x670];
};
static_assert_size(struct vmcb, PAGE_SIZE);
_Static_assert(offsetof(struct vmcb, iopm_pa) == 0x40 && offsetof(struct vmcb, exit_code) == 0x70, "control area");
_Static_assert(offsetof(struct vmcb, event_inj) == 0xa8 && offsetof(struct vmcb, nrip) == 0xc8, "control area");
_Static_assert(offsetof(struct vmcb, efer) == 0x4d0 && offsetof(struct vmcb, rax) == 0x5f8, "save area");
_Static_assert(offsetof(struct vmcb, cr2) == 0x640 && offsetof(struct vmcb, g_pat) == 0x668, "save area");

/*
 * Lengths of instructions that exited before, for processors that do not save the next RIP: an instruction is known by
 * where it is (RIP, CR3, 64-bit code only) and by what it does (the exit code). A guest that puts the same instruction
 * with other prefixes in the place of one that has exited from there gets its own RIP wrong, and nobody else's.
 */
#define SVM_LENGTHS 64U
struct svm_length {
	u64 tag, cr3;
	u8 len; /* 0: empty */
};
static inline u64 svm_length_tag(u64 rip, u64 code)
{
	return rip ^ code << 48;
}
static inline u32 svm_length_slot(u64 tag)
{
	return (tag ^ tag >> 6 ^ tag >> 48) % SVM_LENGTHS;
}

struct svm_vcpu {
	struct hv_vcpu common;
	struct vmcb *vmcb;
	u64 vmcb_pa;
	struct svm_length length[SVM_LENGTHS];
};

struct svm_cpu {
	struct hv_cpu common;
	u64 host_pa; /* VMSAVE area of the host's FS, GS, TR, LDTR and SYSCALL registers */
	hfn_t host_hfn, hsave_hfn;
};

/* Fixed once probed. */
struct svm_machine {
	u32 asids; /* ASIDs including the host's 0 */
	bool nrip, decode_assists, flush_by_asid, invpcid;
	u64 cr4_allowed;
	u64 iopm_pa, msrpm_pa; /* one pair for all guests; 0 until the first cpu_on */
};
extern struct svm_machine svm_machine;
extern const struct pt_format svm_npt_format;

static inline struct svm_vcpu *svm_of(struct hv_vcpu *v)
{
	return container_of(v, struct svm_vcpu, common);
}

/* caps.c */
int svm_probe(struct hv_caps *caps, char *why, size_t size);
int svm_cpu_on(char *why, size_t size);
void svm_cpu_off(void);
/* vmcb.c */
int svm_vcpu_create(struct hv_vcpu **out, hfn_t root);
void svm_vcpu_destroy(struct hv_vcpu *v);
void svm_vcpu_reset(struct hv_vcpu *v, const struct hv_start *s);
void svm_get_sys(struct hv_vcpu *v, struct hv_sys *s);
void svm_dump(struct hv_vcpu *v, const char *who);
/* exit.c: true: the exit goes to the caller of run(); false: enter again */
bool svm_exit_decode(struct svm_vcpu *v, struct hv_exit *e);
void svm_remember_length(struct svm_vcpu *v, u8 len);
/* fast.c: length of the exiting instruction, 0: not known without a look at it */
u64 svm_known_length(const struct svm_vcpu *v);
/* Exits that svm_fast_exit() may know. */
static inline bool svm_is_fast(u64 code)
{
	const u64 codes = BIT(SVM_EXIT_VMMCALL - SVM_EXIT_CPUID) | BIT(SVM_EXIT_CPUID - SVM_EXIT_CPUID) |
			  BIT(SVM_EXIT_MSR - SVM_EXIT_CPUID);

	return code - SVM_EXIT_CPUID < 64 && codes >> (code - SVM_EXIT_CPUID) & 1;
}
/* fast.c: true: the exit is answered, RIP, RSP and RAX in the VMCB are those to go on with */
bool svm_fast_exit(struct svm_vcpu *v);
/* run.c */
void svm_run(struct hv_vcpu *v, u64 tlb_gen, struct hv_exit *e);
void svm_release(struct hv_vcpu *v);
void svm_skip(struct hv_vcpu *v, u8 len);
bool svm_can_take_irq(const struct svm_vcpu *v);
void svm_window(struct svm_vcpu *v, bool on);
/* enter.asm */
void svm_begin(u64 vmcb_pa);
void svm_enter(struct hv_regs *regs, u64 vmcb_pa);
void svm_end(u64 vmcb_pa, u64 host_pa);

#endif
