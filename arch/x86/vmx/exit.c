/* VMX exits: handled here (false: enter again) or decoded into a neutral struct hv_exit (true). */
#include "arch/x86/vmx/vmx.h"

#define DB_QUAL_DR6         (BITS(3, 0) | BITS(14, 13)) /* the bits of a #DB qualification that go to DR6 */
#define DB_QUAL_BD          BIT(13)
#define VM_ERROR_CONTROLS   7 /* VM-instruction error numbers */
#define VM_ERROR_HOST_STATE 8

static u8 insn_length(void)
{
	return (u8)vmread(VMCS_EXIT_INSN_LENGTH);
}

static bool exit_kind(struct hv_exit *e, enum hv_exit_kind kind, const char *text)
{
	e->kind = kind;
	e->text = text;
	return true;
}

static bool exit_insn(struct hv_exit *e, enum hv_exit_kind kind)
{
	e->kind = kind;
	e->len = insn_length();
	e->cpl = vmread(VMCS_GUEST_SS_ATTR) >> 5 & 3;
	return true;
}

/* Caches are coherent and hold nothing a guest may drop: INVD and WBINVD do nothing. */
static bool exit_cache(struct vmx_vcpu *v)
{
	vmx_skip(&v->common, insn_length());
	return false;
}

static bool exit_window(struct vmx_vcpu *v, struct hv_exit *e)
{
	vmx_window(v, false);
	e->kind = HV_EXIT_NONE;
	return !v->common.irq.valid;
}

/*
 * #DB goes on to the guest. The exit has left DR6 and DR7.GD as they were (SDM "Architectural State before a VM
 * Exit"), and the entry checks want the single-step bit while STI or MOV SS block with TF set.
 */
static void reflect_debug(struct vmx_vcpu *v, u64 event)
{
	u64 qual = vmread(VMCS_EXIT_QUALIFICATION), dr6;

	if (VMX_EVENT_TYPE(event) == VMX_EVENT_PRIV_SOFTWARE) {
		v->common.regs.rip += insn_length();
	} else {
		__asm__ volatile("mov %%db6, %0" : "=r"(dr6));
		dr6 = (dr6 & ~BITS(3, 0)) | (qual & DB_QUAL_DR6);
		__asm__ volatile("mov %0, %%db6" : : "r"(dr6));
	}
	if (qual & DB_QUAL_BD)
		vmwrite(VMCS_GUEST_DR7, vmread(VMCS_GUEST_DR7) & ~DR7_GD);
	if (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF &&
	    vmread(VMCS_GUEST_INTERRUPTIBILITY) & (VMX_BLOCKED_STI | VMX_BLOCKED_MOV_SS))
		vmwrite(VMCS_GUEST_PENDING_DEBUG, vmread(VMCS_GUEST_PENDING_DEBUG) | VMX_PENDING_BS);
	hv_queue_exception(&v->common, VECTOR_DB, false, 0);
}

/* The CPU loop gets its turn before #DB and #AC go on to the guest, as their delivery may never end. */
static bool exit_exception(struct vmx_vcpu *v, struct hv_exit *e)
{
	u64 event = vmread(VMCS_EXIT_EVENT);

	e->kind = HV_EXIT_HOST_IRQ;
	if (VMX_EVENT_TYPE(event) == VMX_EVENT_NMI) {
		__asm__ volatile("int $2");
		return true;
	}
	switch ((u8)event) {
	case VECTOR_MC:
		__asm__ volatile("int $18");
		break;
	case VECTOR_DB:
		reflect_debug(v, event);
		break;
	case VECTOR_AC:
		hv_queue_exception(&v->common, VECTOR_AC, true, 0);
		break;
	default:
		e->kind = HV_EXIT_EXCEPTION;
		e->exc.vector = (u8)event;
		e->exc.has_error = event & VMX_EVENT_ERROR_VALID;
		e->exc.error = (u32)vmread(VMCS_EXIT_EVENT_ERROR);
	}
	return true;
}

/*
 * A write that changes bits we own. Where they may only look changed to the guest, the shadow takes its wish and the
 * instruction runs again: then it exits no more and the processor does the rest, with all its checks.
 */
static bool guest_write_cr0(struct hv_exit *e, u64 value)
{
	u64 owned = vmx_machine.cr0_owned;

	if (value >> 32 || (value & CR0_NW && !(value & CR0_CD)))
		return exit_kind(e, HV_EXIT_CR_WRITE, NULL);
	vmwrite(VMCS_CR0_SHADOW, (vmread(VMCS_CR0_SHADOW) & ~owned) | (value & owned));
	return false;
}

static bool guest_write_cr4(struct hv_exit *e, u64 value)
{
	if (value & vmx_machine.cr4_owned & ~CR4_MCE)
		return exit_kind(e, HV_EXIT_CR_WRITE, NULL);
	vmwrite(VMCS_CR4_SHADOW, (vmread(VMCS_CR4_SHADOW) & ~CR4_MCE) | (value & CR4_MCE));
	return false;
}

/* There is no interrupt controller behind the task priority: it is a register that remembers. */
static bool access_cr8(struct vmx_vcpu *v, u64 qual, u64 *gpr)
{
	if (CR_QUAL_TYPE(qual) == CR_MOV_FROM) {
		*gpr = v->cr8;
	} else if (*gpr & ~BITS(3, 0)) {
		hv_queue_exception(&v->common, VECTOR_GP, true, 0);
		return false;
	} else {
		v->cr8 = *gpr;
	}
	vmx_skip(&v->common, insn_length());
	return false;
}

static bool exit_cr(struct vmx_vcpu *v, struct hv_exit *e)
{
	u64 qual = vmread(VMCS_EXIT_QUALIFICATION);
	u64 *gpr = hv_gpr(&v->common.regs, CR_QUAL_GPR(qual));
	u64 value = *gpr;

	if (CR_QUAL_NUMBER(qual) == 8)
		return access_cr8(v, qual, gpr);
	if (CR_QUAL_TYPE(qual) != CR_MOV_TO)
		return exit_kind(e, HV_EXIT_UNKNOWN, "control register access of an unexpected kind");
	if (!(v->entry_controls & VMX_ENTRY_IA32E && vmread(VMCS_GUEST_CS_ATTR) & HV_ATTR_L))
		value = (u32)value;
	e->len = insn_length();
	e->cr.cr = CR_QUAL_NUMBER(qual);
	e->cr.value = value;
	switch (CR_QUAL_NUMBER(qual)) {
	case 0:
		return guest_write_cr0(e, value);
	case 4:
		return guest_write_cr4(e, value);
	}
	return exit_kind(e, HV_EXIT_UNKNOWN, "write to an unexpected control register");
}

static bool exit_io(struct vmx_vcpu *v, struct hv_exit *e)
{
	u64 qual = vmread(VMCS_EXIT_QUALIFICATION);

	e->kind = HV_EXIT_IO;
	e->len = insn_length();
	e->io.port = IO_QUAL_PORT(qual);
	e->io.bytes = IO_QUAL_BYTES(qual);
	e->io.in = qual & IO_QUAL_IN;
	e->io.string = qual & IO_QUAL_STRING;
	e->io.rep = qual & IO_QUAL_REP;
	if (!e->io.in && !e->io.string)
		e->io.value = (u32)v->common.regs.rax & (u32)BITS(e->io.bytes * 8 - 1, 0);
	return true;
}

static bool write_efer(struct vmx_vcpu *v, u64 value)
{
	u64 old = vmread(VMCS_GUEST_IA32_EFER), efer;

	if (!hv_efer_write(vmread(VMCS_GUEST_CR0), old, value, &efer))
		return false;
	if ((old ^ efer) & EFER_NXE)
		v->common.asid.flush = true;
	vmwrite(VMCS_GUEST_IA32_EFER, efer);
	return true;
}

static bool exit_msr(struct vmx_vcpu *v, struct hv_exit *e, bool write)
{
	struct hv_regs *r = &v->common.regs;
	u64 value = r->rdx << 32 | (u32)r->rax;

	e->len = insn_length();
	if ((u32)r->rcx != MSR_EFER) {
		e->kind = write ? HV_EXIT_MSR_WRITE : HV_EXIT_MSR_READ;
		e->msr.index = (u32)r->rcx;
		e->msr.value = write ? value : 0;
		return true;
	}
	if (write && !write_efer(v, value)) {
		hv_queue_exception(&v->common, VECTOR_GP, true, 0);
		return false;
	}
	if (!write) {
		r->rax = (u32)vmread(VMCS_GUEST_IA32_EFER);
		r->rdx = 0;
	}
	vmx_skip(&v->common, e->len);
	return false;
}

static bool exit_ept_violation(struct hv_exit *e)
{
	u64 qual = vmread(VMCS_EXIT_QUALIFICATION);

	e->kind = HV_EXIT_NPF;
	e->npf.gpa = GPA(vmread(VMCS_GUEST_PHYSICAL_ADDRESS));
	e->npf.gva_valid = qual & EPT_QUAL_LINEAR_VALID;
	e->npf.gva = GVA(e->npf.gva_valid ? vmread(VMCS_GUEST_LINEAR_ADDRESS) : 0);
	e->npf.walk = e->npf.gva_valid && !(qual & EPT_QUAL_FINAL);
	e->npf.exec = qual & EPT_QUAL_FETCH;
	/* A walk sets accessed and dirty bits in the guest's tables: where it may read it wants to write. */
	e->npf.write = qual & EPT_QUAL_WRITE || (e->npf.walk && qual & EPT_QUAL_READABLE);
	e->npf.read = !e->npf.write && !e->npf.exec;
	return true;
}

/* The processor does not say what it disliked: name the likely rule (SDM "Checking and Loading Guest State"). */
static const char *bad_state_text(void)
{
	u32 width = cpuid(0x80000008, 0).eax & 0xff;
	u64 rip = vmread(VMCS_GUEST_RIP), rflags = vmread(VMCS_GUEST_RFLAGS);

	if (vmread(VMCS_GUEST_CR3) >> width)
		return "CR3 beyond the physical address width";
	if (vmread(VMCS_GUEST_CS_ATTR) & HV_ATTR_L ? (u64)((s64)(rip << 16) >> 16) != rip : rip >> 32)
		return "RIP not canonical";
	if (!(rflags & RFLAGS_FIXED))
		return "RFLAGS bit 1 clear";
	return "VM entry refused the guest state";
}

static bool exit_entry_failed(struct hv_exit *e)
{
	if ((u16)e->reason == VMX_EXIT_BAD_STATE)
		return exit_kind(e, HV_EXIT_BAD_STATE, bad_state_text());
	if ((u16)e->reason == VMX_EXIT_MCE_DURING_ENTRY)
		return exit_kind(e, HV_EXIT_UNKNOWN, "machine check during VM entry");
	return exit_kind(e, HV_EXIT_UNKNOWN, "VM entry failed");
}

/* VMLAUNCH or VMRESUME did not even start: a control or host field is wrong, our own fault; only this guest ends. */
void vmx_entry_failed(struct vmx_vcpu *v, int code, struct hv_exit *e)
{
	u64 error = code == 2 ? vmread(VMCS_INSTRUCTION_ERROR) : 0;

	(void)v;
	*e = (struct hv_exit){.reason = error};
	exit_kind(e, HV_EXIT_UNKNOWN,
		  error == VM_ERROR_CONTROLS     ? "VM entry with invalid control fields"
		  : error == VM_ERROR_HOST_STATE ? "VM entry with invalid host-state fields"
						 : "VMLAUNCH/VMRESUME failed, reason is the VM-instruction error");
}

static __attribute__((noinline)) bool decode_other(struct vmx_vcpu *v, struct hv_exit *e)
{
	u64 reason = e->reason;

	if (reason & VMX_EXIT_ENTRY_FAILED)
		return exit_entry_failed(e);
	switch ((u16)reason) {
	case VMX_EXIT_TIMER:
	case VMX_EXIT_INIT:
	case VMX_EXIT_SIPI:
		return exit_kind(e, HV_EXIT_HOST_IRQ, NULL);
	case VMX_EXIT_EXCEPTION:
		return exit_exception(v, e);
	case VMX_EXIT_INTERRUPT_WINDOW:
		return exit_window(v, e);
	case VMX_EXIT_CPUID:
		return exit_insn(e, HV_EXIT_CPUID);
	case VMX_EXIT_HLT:
		return exit_insn(e, HV_EXIT_HLT);
	case VMX_EXIT_RDMSR:
		return exit_msr(v, e, false);
	case VMX_EXIT_WRMSR:
		return exit_msr(v, e, true);
	case VMX_EXIT_CR:
		return exit_cr(v, e);
	case VMX_EXIT_INVD:
	case VMX_EXIT_WBINVD:
		return exit_cache(v);
	case VMX_EXIT_TRIPLE_FAULT:
		return exit_kind(e, HV_EXIT_TRIPLE_FAULT, NULL);
	case VMX_EXIT_TASK_SWITCH:
		return exit_kind(e, HV_EXIT_UNKNOWN, "hardware task switch");
	case VMX_EXIT_EPT_MISCONFIG:
		return exit_kind(e, HV_EXIT_UNKNOWN, "EPT misconfiguration");
	case VMX_EXIT_VMCLEAR ... VMX_EXIT_VMXON:
	case VMX_EXIT_GETSEC:
	case VMX_EXIT_RDPMC:
	case VMX_EXIT_RSM:
	case VMX_EXIT_MWAIT:
	case VMX_EXIT_MONITOR:
	case VMX_EXIT_INVEPT:
	case VMX_EXIT_RDTSCP:
	case VMX_EXIT_INVVPID:
	case VMX_EXIT_XSETBV:
	case VMX_EXIT_INVPCID:
	case VMX_EXIT_ENCLS:
		return exit_insn(e, HV_EXIT_UNDEFINED);
	}
	return exit_kind(e, HV_EXIT_UNKNOWN, "exit reason unknown to this version");
}

/* The commonest by themselves: a long switch is a search, and needs more registers. */
bool vmx_exit_decode(struct vmx_vcpu *v, struct hv_exit *e)
{
	u64 reason = e->reason;

	e->len = e->cpl = 0;
	e->text = NULL;
	if (likely(reason == VMX_EXIT_EPT_VIOLATION))
		return exit_ept_violation(e);
	if (reason == VMX_EXIT_EXTINT)
		return exit_kind(e, HV_EXIT_HOST_IRQ, NULL);
	if (reason == VMX_EXIT_VMCALL)
		return exit_insn(e, HV_EXIT_HYPERCALL);
	if (reason == VMX_EXIT_IO)
		return exit_io(v, e);
	return decode_other(v, e);
}
