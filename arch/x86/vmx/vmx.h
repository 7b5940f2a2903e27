/*
 * VMX: the processor's constants (Intel SDM volume 3: "Field Encoding in VMCS", "VMX Basic Exit Reasons",
 * "VMX Capability Reporting Facility") and the back end's own structures. Only vmx/ includes this.
 */
#ifndef ARCH_X86_VMX_VMX_H
#define ARCH_X86_VMX_VMX_H

#include "arch/x86/hv_vcpu.h"

#define MSR_IA32_FEATURE_CONTROL          0x3aU
#define FEATURE_CONTROL_LOCKED            BIT(0)
#define FEATURE_CONTROL_VMXON_OUTSIDE_SMX BIT(2)
#define MSR_IA32_VMX_BASIC                0x480U
#define VMX_BASIC_REVISION(b)             ((u32)((b)&BITS(30, 0)))
#define VMX_BASIC_TRUE_CONTROLS           BIT(55)
#define MSR_IA32_VMX_MISC                 0x485U
#define VMX_MISC_TIMER_SHIFT(m)           ((m)&31)
#define MSR_IA32_VMX_CR0_FIXED0           0x486U
#define MSR_IA32_VMX_CR0_FIXED1           0x487U
#define MSR_IA32_VMX_CR4_FIXED0           0x488U
#define MSR_IA32_VMX_CR4_FIXED1           0x489U
#define MSR_IA32_VMX_PROCBASED_CTLS2      0x48bU
#define MSR_IA32_VMX_EPT_VPID_CAP         0x48cU
#define EPT_CAP_WALK4                     BIT(6)
#define EPT_CAP_WB                        BIT(14)
#define EPT_CAP_2M                        BIT(16)
#define EPT_CAP_1G                        BIT(17)
#define EPT_CAP_INVEPT                    BIT(20)
#define EPT_CAP_AD                        BIT(21)
#define EPT_CAP_INVEPT_SINGLE             BIT(25)
#define EPT_CAP_INVEPT_ALL                BIT(26)
#define EPT_CAP_INVVPID                   BIT(32)
#define EPT_CAP_INVVPID_SINGLE            BIT(41)
#define EPT_CAP_INVVPID_ALL               BIT(42)
#define MSR_IA32_VMX_TRUE_PINBASED_CTLS   0x48dU
#define MSR_IA32_VMX_TRUE_PROCBASED_CTLS  0x48eU
#define MSR_IA32_VMX_TRUE_EXIT_CTLS       0x48fU
#define MSR_IA32_VMX_TRUE_ENTRY_CTLS      0x490U

/* Pin-based controls */
#define VMX_PIN_EXTINT BIT(0)
#define VMX_PIN_NMI    BIT(3)
#define VMX_PIN_TIMER  BIT(6)
/* Primary processor-based controls */
#define VMX_CPU_INTERRUPT_WINDOW BIT(2)
#define VMX_CPU_TSC_OFFSET       BIT(3)
#define VMX_CPU_HLT              BIT(7)
#define VMX_CPU_MWAIT            BIT(10)
#define VMX_CPU_RDPMC            BIT(11)
#define VMX_CPU_CR3_LOAD         BIT(15)
#define VMX_CPU_CR3_STORE        BIT(16)
#define VMX_CPU_CR8_LOAD         BIT(19)
#define VMX_CPU_CR8_STORE        BIT(20)
#define VMX_CPU_IO               BIT(24)
#define VMX_CPU_MSR_BITMAP       BIT(28)
#define VMX_CPU_MONITOR          BIT(29)
#define VMX_CPU_SECONDARY        BIT(31)
/* Secondary processor-based controls */
#define VMX_CPU2_EPT          BIT(1)
#define VMX_CPU2_VPID         BIT(5)
#define VMX_CPU2_WBINVD       BIT(6)
#define VMX_CPU2_UNRESTRICTED BIT(7)
/* VM-exit controls */
#define VMX_EXIT_SAVE_DEBUG BIT(2)
#define VMX_EXIT_HOST_64    BIT(9)
#define VMX_EXIT_SAVE_PAT   BIT(18)
#define VMX_EXIT_LOAD_PAT   BIT(19)
#define VMX_EXIT_SAVE_EFER  BIT(20)
#define VMX_EXIT_LOAD_EFER  BIT(21)
/* VM-entry controls */
#define VMX_ENTRY_LOAD_DEBUG BIT(2)
#define VMX_ENTRY_IA32E      BIT(9)
#define VMX_ENTRY_LOAD_PAT   BIT(14)
#define VMX_ENTRY_LOAD_EFER  BIT(15)

/* VMCS fields. 16 bits */
#define VMCS_VPID         0x0000
#define VMCS_GUEST_ES_SEL 0x0800 /* ES CS SS DS FS GS LDTR TR: each 2 on */
#define VMCS_GUEST_CS_SEL 0x0802
#define VMCS_GUEST_TR_SEL 0x080e
#define VMCS_HOST_ES_SEL  0x0c00
#define VMCS_HOST_CS_SEL  0x0c02
#define VMCS_HOST_SS_SEL  0x0c04
#define VMCS_HOST_DS_SEL  0x0c06
#define VMCS_HOST_FS_SEL  0x0c08
#define VMCS_HOST_GS_SEL  0x0c0a
#define VMCS_HOST_TR_SEL  0x0c0c
/* 64 bits */
#define VMCS_MSR_BITMAP             0x2004
#define VMCS_TSC_OFFSET             0x2010
#define VMCS_EPT_POINTER            0x201a
#define VMCS_GUEST_PHYSICAL_ADDRESS 0x2400
#define VMCS_LINK_POINTER           0x2800
#define VMCS_GUEST_IA32_DEBUGCTL    0x2802
#define VMCS_GUEST_IA32_PAT         0x2804
#define VMCS_GUEST_IA32_EFER        0x2806
#define VMCS_HOST_IA32_PAT          0x2c00
#define VMCS_HOST_IA32_EFER         0x2c02
/* 32 bits */
#define VMCS_PIN_CONTROLS           0x4000
#define VMCS_CPU_CONTROLS           0x4002
#define VMCS_EXCEPTION_BITMAP       0x4004
#define VMCS_PF_ERROR_MASK          0x4006
#define VMCS_PF_ERROR_MATCH         0x4008
#define VMCS_CR3_TARGET_COUNT       0x400a
#define VMCS_EXIT_CONTROLS          0x400c
#define VMCS_EXIT_MSR_STORE_COUNT   0x400e
#define VMCS_EXIT_MSR_LOAD_COUNT    0x4010
#define VMCS_ENTRY_CONTROLS         0x4012
#define VMCS_ENTRY_MSR_LOAD_COUNT   0x4014
#define VMCS_ENTRY_EVENT            0x4016
#define VMCS_ENTRY_EVENT_ERROR      0x4018
#define VMCS_ENTRY_INSN_LENGTH      0x401a
#define VMCS_CPU2_CONTROLS          0x401e
#define VMCS_INSTRUCTION_ERROR      0x4400
#define VMCS_EXIT_REASON            0x4402
#define VMCS_EXIT_EVENT             0x4404
#define VMCS_EXIT_EVENT_ERROR       0x4406
#define VMCS_IDT_VECTORING          0x4408
#define VMCS_IDT_VECTORING_ERROR    0x440a
#define VMCS_EXIT_INSN_LENGTH       0x440c
#define VMCS_GUEST_ES_LIMIT         0x4800
#define VMCS_GUEST_GDTR_LIMIT       0x4810
#define VMCS_GUEST_IDTR_LIMIT       0x4812
#define VMCS_GUEST_ES_ATTR          0x4814
#define VMCS_GUEST_SS_ATTR          0x4818
#define VMCS_GUEST_CS_ATTR          0x4816
#define VMCS_GUEST_INTERRUPTIBILITY 0x4824
#define VMCS_GUEST_ACTIVITY         0x4826
#define VMCS_GUEST_SYSENTER_CS      0x482a
#define VMCS_GUEST_TIMER            0x482e
#define VMCS_HOST_SYSENTER_CS       0x4c00
/* natural width */
#define VMCS_CR0_MASK             0x6000
#define VMCS_CR4_MASK             0x6002
#define VMCS_CR0_SHADOW           0x6004
#define VMCS_CR4_SHADOW           0x6006
#define VMCS_EXIT_QUALIFICATION   0x6400
#define VMCS_GUEST_LINEAR_ADDRESS 0x640a
#define VMCS_GUEST_CR0            0x6800
#define VMCS_GUEST_CR3            0x6802
#define VMCS_GUEST_CR4            0x6804
#define VMCS_GUEST_ES_BASE        0x6806
#define VMCS_GUEST_GDTR_BASE      0x6816
#define VMCS_GUEST_IDTR_BASE      0x6818
#define VMCS_GUEST_DR7            0x681a
#define VMCS_GUEST_RSP            0x681c
#define VMCS_GUEST_RIP            0x681e
#define VMCS_GUEST_RFLAGS         0x6820
#define VMCS_GUEST_PENDING_DEBUG  0x6822
#define VMCS_GUEST_SYSENTER_ESP   0x6824
#define VMCS_GUEST_SYSENTER_EIP   0x6826
#define VMCS_HOST_CR0             0x6c00
#define VMCS_HOST_CR3             0x6c02
#define VMCS_HOST_CR4             0x6c04
#define VMCS_HOST_FS_BASE         0x6c06
#define VMCS_HOST_GS_BASE         0x6c08
#define VMCS_HOST_TR_BASE         0x6c0a
#define VMCS_HOST_GDTR_BASE       0x6c0c
#define VMCS_HOST_IDTR_BASE       0x6c0e
#define VMCS_HOST_SYSENTER_ESP    0x6c10
#define VMCS_HOST_SYSENTER_EIP    0x6c12
#define VMCS_HOST_RSP             0x6c14
#define VMCS_HOST_RIP             0x6c16

/* Basic exit reasons */
#define VMX_EXIT_ENTRY_FAILED     BIT(31) /* of the whole field */
#define VMX_EXIT_EXCEPTION        0
#define VMX_EXIT_EXTINT           1
#define VMX_EXIT_TRIPLE_FAULT     2
#define VMX_EXIT_INIT             3
#define VMX_EXIT_SIPI             4
#define VMX_EXIT_INTERRUPT_WINDOW 7
#define VMX_EXIT_TASK_SWITCH      9
#define VMX_EXIT_CPUID            10
#define VMX_EXIT_GETSEC           11
#define VMX_EXIT_HLT              12
#define VMX_EXIT_INVD             13
#define VMX_EXIT_RDPMC            15
#define VMX_EXIT_RSM              17
#define VMX_EXIT_VMCALL           18
#define VMX_EXIT_VMCLEAR          19
#define VMX_EXIT_VMXON            27
#define VMX_EXIT_CR               28
#define VMX_EXIT_IO               30
#define VMX_EXIT_RDMSR            31
#define VMX_EXIT_WRMSR            32
#define VMX_EXIT_BAD_STATE        33
#define VMX_EXIT_MWAIT            36
#define VMX_EXIT_MONITOR          39
#define VMX_EXIT_MCE_DURING_ENTRY 41
#define VMX_EXIT_EPT_VIOLATION    48
#define VMX_EXIT_EPT_MISCONFIG    49
#define VMX_EXIT_INVEPT           50
#define VMX_EXIT_RDTSCP           51
#define VMX_EXIT_TIMER            52
#define VMX_EXIT_INVVPID          53
#define VMX_EXIT_WBINVD           54
#define VMX_EXIT_XSETBV           55
#define VMX_EXIT_INVPCID          58
#define VMX_EXIT_ENCLS            60

/* Interruption information (entry, exit, IDT vectoring) */
#define VMX_EVENT_VALID         BIT(31)
#define VMX_EVENT_ERROR_VALID   BIT(11)
#define VMX_EVENT_TYPE(e)       ((e) >> 8 & 7)
#define VMX_EVENT_INTR          0UL
#define VMX_EVENT_NMI           2UL
#define VMX_EVENT_EXCEPTION     3UL
#define VMX_EVENT_PRIV_SOFTWARE 5UL /* ICEBP */

/* Guest interruptibility */
#define VMX_BLOCKED_STI    BIT(0)
#define VMX_BLOCKED_MOV_SS BIT(1)
#define VMX_PENDING_BS     BIT(14)

/* Exit qualifications. Bits 11:9 of an EPT violation are reserved here: some processors set them. */
#define EPT_QUAL_READ         BIT(0)
#define EPT_QUAL_WRITE        BIT(1)
#define EPT_QUAL_FETCH        BIT(2)
#define EPT_QUAL_READABLE     BIT(3)
#define EPT_QUAL_LINEAR_VALID BIT(7)
#define EPT_QUAL_FINAL        BIT(8) /* with LINEAR_VALID: clear on a walk of the guest's tables */
#define IO_QUAL_BYTES(q)      (((q)&7) + 1)
#define IO_QUAL_IN            BIT(3)
#define IO_QUAL_STRING        BIT(4)
#define IO_QUAL_REP           BIT(5)
#define IO_QUAL_PORT(q)       ((u16)((q) >> 16))
#define CR_QUAL_NUMBER(q)     ((q)&15)
#define CR_QUAL_TYPE(q)       ((q) >> 4 & 3)
#define CR_QUAL_GPR(q)        ((q) >> 8 & 15)
#define CR_MOV_TO             0
#define CR_MOV_FROM           1

#define INVEPT_SINGLE         1UL
#define INVEPT_ALL            2UL
#define INVVPID_SINGLE        1UL
#define INVVPID_ALL           2UL

#define EPTP_WB               6UL
#define EPTP_WALK4            (3UL << 3)
#define EPTP_AD               BIT(6)

/* Registers that the VMCS does not switch and guests may use freely: exchanged when another vCPU enters. */
#define VMX_LAZY_MSRS 5

struct vmx_vcpu {
	struct hv_vcpu common;
	hfn_t vmcs;
	bool launched;
	u32 pin_controls, cpu_controls, entry_controls; /* as in the VMCS */
	u32 masked; /* entries in a row with the guest's interrupts off and no look at the host's */
	u64 eptp;
	u64 cr2, cr8, dr6;
	u64 tsc_offset;
	u64 msr[VMX_LAZY_MSRS];
};

struct vmx_cpu {
	struct hv_cpu common;
	struct vmx_vcpu *current; /* whose VMCS is current */
	hfn_t vmxon;
};

/* Fixed once probed. */
struct vmx_machine {
	u32 revision;
	u32 pin, cpu, cpu2, exit, entry; /* controls: what we want with what is forced */
	bool vpid, ad_bits;
	u32 timer_ticks;          /* VMX-preemption timer: one millisecond; 0: not there */
	u64 cr0_owned, cr4_owned; /* guest/host masks */
	u64 msr_bitmap_pa;        /* one for all guests; 0 until the first cpu_on */
};
extern struct vmx_machine vmx_machine;
extern const struct pt_format vmx_ept_format, vmx_ept_format_no_ad;

static inline struct vmx_vcpu *vmx_of(struct hv_vcpu *v)
{
	return container_of(v, struct vmx_vcpu, common);
}

static inline u64 vmread(u32 field)
{
	u64 v;

	__asm__ volatile("vmread %1, %0" : "=rm"(v) : "r"((u64)field) : "cc");
	return v;
}

_Noreturn void vmwrite_failed(u32 field); /* vmcs.c */

/* Panics if the field does not exist: our fault. */
static inline void vmwrite(u32 field, u64 value)
{
	__asm__ goto("vmwrite %1, %0; jna %l[failed]" : : "r"((u64)field), "rm"(value) : "cc" : failed);
	return;
failed:
	vmwrite_failed(field);
}

/* caps.c */
int vmx_probe(struct hv_caps *caps, char *why, size_t size);
int vmx_cpu_on(char *why, size_t size);
void vmx_cpu_off(void);
/* vmcs.c */
int vmx_vcpu_create(struct hv_vcpu **out, hfn_t root);
void vmx_vcpu_destroy(struct hv_vcpu *v);
void vmx_vcpu_reset(struct hv_vcpu *v, const struct hv_start *s);
void vmx_make_current(struct vmx_vcpu *v);
void vmx_make_live(struct vmx_vcpu *v);
void vmx_release(struct hv_vcpu *v);
void vmx_get_sys(struct hv_vcpu *v, struct hv_sys *s);
void vmx_dump(struct hv_vcpu *v, const char *who);
/* exit.c: e->reason is known. True: the exit goes to the caller of run(); false: enter again */
bool vmx_exit_decode(struct vmx_vcpu *v, struct hv_exit *e);
void vmx_entry_failed(struct vmx_vcpu *v, int code, struct hv_exit *e);
/* fast.c: of these reasons only. True: the exit is answered, VMCS and registers are those to go on with */
static inline bool vmx_is_fast(u64 reason)
{
	return reason < 64 &&
	       BIT(reason) & (BIT(VMX_EXIT_VMCALL) | BIT(VMX_EXIT_CPUID) | BIT(VMX_EXIT_RDMSR) | BIT(VMX_EXIT_WRMSR));
}
bool vmx_fast_exit(struct vmx_vcpu *v, u64 reason);
/* run.c */
void vmx_run(struct hv_vcpu *v, u64 tlb_gen, struct hv_exit *e);
void vmx_skip(struct hv_vcpu *v, u8 len);
void vmx_window(struct vmx_vcpu *v, bool on);
/* ept.c */
void vmx_invept(u64 type, u64 eptp);
void vmx_invvpid(u64 type, u16 vpid);
/* enter.asm: 0, or which way VMLAUNCH/VMRESUME failed: 1 VMfailInvalid, 2 VMfailValid */
int vmx_enter(struct hv_regs *regs, bool launched);
void vmx_exit_entry(void);

#endif
