/*
 * Exits answered between two entries, with the guest's FS, GS and TR still in the processor and GIF clear: a greeting
 * that does nothing, CPUID leaves the owner has answered before, EFER as it is. The guest's RAX and RIP are worked on
 * in the VMCB. Whatever is not plainly one of these (an unknown length, a trap flag, an event cut short) is left for
 * svm_exit_decode() as it came.
 */
#include "arch/x86/svm/svm.h"

u64 svm_known_length(const struct svm_vcpu *v)
{
	const struct vmcb *c = v->vmcb;
	const struct svm_length *l;
	u64 tag;

	if (svm_machine.nrip)
		return c->nrip - c->rip;
	if (!(c->cs.attr & SVM_ATTR_L) || !(c->efer & EFER_LMA))
		return 0;
	tag = svm_length_tag(c->rip, c->exit_code);
	l = &v->length[svm_length_slot(tag)];
	return l->tag == tag && l->cr3 == c->cr3 ? l->len : 0;
}

static bool fast_hypercall(struct svm_vcpu *v)
{
	if (v->vmcb->cpl || !v->common.fast.nop)
		return false;
	v->common.fast.count[HV_EXIT_HYPERCALL]++;
	return true;
}

static bool fast_cpuid(struct svm_vcpu *v)
{
	u64 rax;

	if (!hv_fast_cpuid(&v->common, v->vmcb->rax, &rax))
		return false;
	v->vmcb->rax = rax;
	return true;
}

/* EFER is read, or written as it is: nothing changes. */
static bool fast_efer(struct svm_vcpu *v)
{
	struct hv_regs *r = &v->common.regs;
	struct vmcb *c = v->vmcb;
	u64 efer = c->efer & ~EFER_SVME;

	if ((u32)r->rcx != MSR_EFER)
		return false;
	if (c->exit_info1 & 1)
		return (r->rdx << 32 | (u32)c->rax) == efer;
	c->rax = efer;
	r->rdx = 0;
	return true;
}

bool svm_fast_exit(struct svm_vcpu *v)
{
	struct vmcb *c = v->vmcb;
	u64 len;

	if (c->exit_code == SVM_EXIT_VMMCALL && c->rax) /* any other call than the greeting */
		return false;
	if (c->rflags & (RFLAGS_TF | RFLAGS_RF) || c->exit_int_info & SVM_EVENT_VALID)
		return false;
	if (!(c->cs.attr & SVM_ATTR_L) || !(c->efer & EFER_LMA))
		return false;
	len = svm_known_length(v);
	if (!len)
		return false;
	if (c->exit_code == SVM_EXIT_VMMCALL ? !fast_hypercall(v)
	    : c->exit_code == SVM_EXIT_CPUID ? !fast_cpuid(v)
					     : !fast_efer(v))
		return false;
	c->rip += len;
	c->interrupt_shadow &= ~SVM_SHADOW_INTERRUPT;
	c->event_inj = 0;
	c->tlb_control = SVM_TLB_KEEP;
	return true;
}
