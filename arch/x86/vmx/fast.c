/*
 * Exits answered between two entries: a greeting that does nothing, CPUID leaves the owner has answered before, EFER as
 * it is. RSP and RIP stay in the VMCS. Whatever is not plainly one of these (a trap flag, an event cut short) is left
 * for vmx_exit_decode() as it came.
 */
#include "arch/x86/vmx/vmx.h"

static bool fast_hypercall(struct vmx_vcpu *v)
{
	if (v->common.regs.rax || !v->common.fast.nop || vmread(VMCS_GUEST_SS_ATTR) >> 5 & 3)
		return false;
	v->common.fast.count[HV_EXIT_HYPERCALL]++;
	return true;
}

static bool fast_efer(struct vmx_vcpu *v, bool write)
{
	struct hv_regs *r = &v->common.regs;
	u64 efer;

	if ((u32)r->rcx != MSR_EFER)
		return false;
	efer = vmread(VMCS_GUEST_IA32_EFER);
	if (write)
		return (r->rdx << 32 | (u32)r->rax) == efer;
	r->rax = efer;
	r->rdx = 0;
	return true;
}

static bool answer(struct vmx_vcpu *v, u64 reason)
{
	switch (reason) {
	case VMX_EXIT_VMCALL:
		return fast_hypercall(v);
	case VMX_EXIT_CPUID:
		return hv_fast_cpuid(&v->common, v->common.regs.rax, &v->common.regs.rax);
	case VMX_EXIT_RDMSR:
		return fast_efer(v, false);
	case VMX_EXIT_WRMSR:
		return fast_efer(v, true);
	default:
		return false;
	}
}

/*
 * 64-bit code, and the entry control agrees: RIP needs no wrapping and nothing has to follow a change of mode.
 * Interrupts are on, so that pending ones of the host end the next turn (see prepare_preemption()).
 */
static bool is_plain(const struct vmx_vcpu *v)
{
	return (vmread(VMCS_GUEST_RFLAGS) & (RFLAGS_TF | RFLAGS_RF | RFLAGS_IF)) == RFLAGS_IF &&
	       !(vmread(VMCS_IDT_VECTORING) & VMX_EVENT_VALID) && vmread(VMCS_GUEST_CS_ATTR) & HV_ATTR_L &&
	       v->entry_controls & VMX_ENTRY_IA32E && vmread(VMCS_GUEST_IA32_EFER) & EFER_LMA;
}

bool vmx_fast_exit(struct vmx_vcpu *v, u64 reason)
{
	u64 blocked;

	if (!is_plain(v) || !answer(v, reason))
		return false;
	vmwrite(VMCS_GUEST_RIP, vmread(VMCS_GUEST_RIP) + vmread(VMCS_EXIT_INSN_LENGTH));
	blocked = vmread(VMCS_GUEST_INTERRUPTIBILITY);
	if (blocked & (VMX_BLOCKED_STI | VMX_BLOCKED_MOV_SS))
		vmwrite(VMCS_GUEST_INTERRUPTIBILITY, blocked & ~(VMX_BLOCKED_STI | VMX_BLOCKED_MOV_SS));
	return true;
}
