/*
 * Entering a guest: what has to be in the VMCS before entry, and the loop that stays inside for exits nobody else
 * needs to see. Host interrupts end the guest's turn and, not being acknowledged on exit, stay pending for the CPU
 * loop.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/mitigate.h"
#include "arch/x86/vmx/vmx.h"
#include "lib/panic.h"

#define MASKED_ENTRIES_MAX 256

void vmx_window(struct vmx_vcpu *v, bool on)
{
	u32 want =
	    on ? v->cpu_controls | (u32)VMX_CPU_INTERRUPT_WINDOW : v->cpu_controls & ~(u32)VMX_CPU_INTERRUPT_WINDOW;

	if (want != v->cpu_controls)
		vmwrite(VMCS_CPU_CONTROLS, want);
	v->cpu_controls = want;
}

static bool can_take_irq(void)
{
	return vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF &&
	       !(vmread(VMCS_GUEST_INTERRUPTIBILITY) & (VMX_BLOCKED_STI | VMX_BLOCKED_MOV_SS));
}

/*
 * A host interrupt ends the turn of a guest that has interrupts off, but Bochs 2.7 keeps it masked when the guest is
 * entered so: then the VMX-preemption timer bounds the turn.
 */
static void prepare_preemption(struct vmx_vcpu *v)
{
	u32 want = vmx_machine.pin;

	if (vmx_machine.timer_ticks && !(vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF))
		want |= (u32)VMX_PIN_TIMER;
	else
		v->masked = 0;
	if (want != v->pin_controls)
		vmwrite(VMCS_PIN_CONTROLS, want);
	v->pin_controls = want;
}

/* Each entry starts the timer anew: a guest that exits faster than it runs down is stopped by their number. */
static bool turn_is_over(struct vmx_vcpu *v, struct hv_exit *e)
{
	if (likely(!(v->pin_controls & VMX_PIN_TIMER)) || ++v->masked < MASKED_ENTRIES_MAX)
		return false;
	v->masked = 0;
	*e = (struct hv_exit){.kind = HV_EXIT_HOST_IRQ};
	return true;
}

static void write_event(struct hv_event *e, u64 type)
{
	if (e->has_error)
		vmwrite(VMCS_ENTRY_EVENT_ERROR, e->error);
	vmwrite(VMCS_ENTRY_EVENT, VMX_EVENT_VALID | type << 8 | e->vector | (e->has_error ? VMX_EVENT_ERROR_VALID : 0));
	e->valid = false;
}

/*
 * At most one event enters with the guest: an exception first, an accepted interrupt as soon as the guest can take it.
 * An exception has no error code in real mode (SDM "Checks on VMX Controls", VM-entry interruption information).
 */
static void prepare_event(struct vmx_vcpu *v)
{
	struct hv_vcpu *h = &v->common;

	if (h->exception.valid) {
		if (!(vmread(VMCS_GUEST_CR0) & CR0_PE))
			h->exception.has_error = false;
		write_event(&h->exception, VMX_EVENT_EXCEPTION);
		if (h->irq.valid)
			vmx_window(v, true);
	} else if (h->irq.valid && can_take_irq()) {
		write_event(&h->irq, VMX_EVENT_INTR);
		vmx_window(v, false);
	} else if (h->irq.valid) {
		vmx_window(v, true);
	}
}

/* The VPID counts for linear mappings, the EPT root for guest-physical and combined ones: asid.h. */
static void prepare_tlb(struct hv_cpu *c, struct vmx_vcpu *v, u64 tlb_gen)
{
	u32 action = asid_enter(&c->asids, &v->common.asid, tlb_gen);

	if (action & ASID_FLUSH_ALL) {
		vmx_invept(INVEPT_ALL, 0);
		if (vmx_machine.vpid)
			vmx_invvpid(INVVPID_ALL, 0);
		c->tlb.flush_all++;
	} else if (action) {
		vmx_invept(INVEPT_SINGLE, v->eptp);
		c->tlb.flush_guest++;
	}
	if (action & ASID_NEW) {
		if (vmx_machine.vpid) {
			vmwrite(VMCS_VPID, v->common.asid.asid);
			vmx_invvpid(INVVPID_SINGLE, (u16)v->common.asid.asid);
		}
		c->tlb.assigned++;
	}
}

/* An event whose delivery the exit cut short is delivered again; INTn, INT3, INTO and ICEBP are simply executed again.
 */
static void requeue_event(struct hv_vcpu *h)
{
	u64 info = vmread(VMCS_IDT_VECTORING);
	bool has_error = info & VMX_EVENT_ERROR_VALID;

	if (likely(!(info & VMX_EVENT_VALID)))
		return;
	if (VMX_EVENT_TYPE(info) == VMX_EVENT_INTR)
		hv_queue_irq(h, (u8)info);
	else if (VMX_EVENT_TYPE(info) == VMX_EVENT_EXCEPTION)
		hv_queue_exception(h, (u8)info, has_error, has_error ? (u32)vmread(VMCS_IDT_VECTORING_ERROR) : 0);
}

/* A guest that enters or leaves long mode by itself changes EFER.LMA; the entry control has to follow. */
static void follow_long_mode(struct vmx_vcpu *v)
{
	bool lma = vmread(VMCS_GUEST_IA32_EFER) & EFER_LMA;

	if (lma == !!(v->entry_controls & VMX_ENTRY_IA32E))
		return;
	v->entry_controls ^= (u32)VMX_ENTRY_IA32E;
	vmwrite(VMCS_ENTRY_CONTROLS, v->entry_controls);
}

/* One trip into the guest and back; e->reason is why. False: the entry was refused and *e says why. */
static bool enter(struct vmx_vcpu *v, struct hv_exit *e)
{
	struct hv_regs *r = &v->common.regs;
	u64 reason;
	int failed;

	vmwrite(VMCS_GUEST_RIP, r->rip);
	vmwrite(VMCS_GUEST_RSP, r->rsp);
	if (read_cr2() != v->cr2)
		write_cr2(v->cr2);
	mitigate_flush_l1d();
	do {
		failed = vmx_enter(r, v->launched);
		if (unlikely(failed)) {
			vmx_entry_failed(v, failed, e);
			return false;
		}
		v->launched = true;
		reason = vmread(VMCS_EXIT_REASON);
	} while (vmx_is_fast(reason) && vmx_fast_exit(v, reason));
	e->reason = reason;
	v->cr2 = read_cr2();
	r->rip = vmread(VMCS_GUEST_RIP);
	r->rsp = vmread(VMCS_GUEST_RSP);
	follow_long_mode(v);
	requeue_event(&v->common);
	return true;
}

void vmx_run(struct hv_vcpu *h, u64 tlb_gen, struct hv_exit *e)
{
	struct vmx_cpu *c = this_cpu()->hv;
	struct vmx_vcpu *v = vmx_of(h);

	if (unlikely(c->current != v || c->common.live != h || c->common.fpu != h))
		vmx_make_live(v);
	do {
		prepare_preemption(v);
		if (unlikely(turn_is_over(v, e)))
			return;
		if (unlikely(h->exception.valid || h->irq.valid))
			prepare_event(v);
		if (unlikely(!asid_is_current(&c->common.asids, &h->asid, tlb_gen)))
			prepare_tlb(&c->common, v, tlb_gen);
		c->common.tlb.entries++;
		if (!enter(v, e))
			return;
	} while (!vmx_exit_decode(v, e));
}

/* It most often is. */
static inline void make_current(struct vmx_vcpu *v)
{
	const struct vmx_cpu *c = this_cpu()->hv;

	if (unlikely(c->current != v))
		vmx_make_current(v);
}

void vmx_skip(struct hv_vcpu *h, u8 len)
{
	struct vmx_vcpu *v = vmx_of(h);
	u64 rflags, blocked;

	CHECK(len && len <= INSN_BYTES_MAX);
	make_current(v);
	h->regs.rip += len;
	if (h->regs.rip >> 32 && !(v->entry_controls & VMX_ENTRY_IA32E && vmread(VMCS_GUEST_CS_ATTR) & HV_ATTR_L))
		h->regs.rip = (u32)h->regs.rip;
	blocked = vmread(VMCS_GUEST_INTERRUPTIBILITY);
	if (blocked & (VMX_BLOCKED_STI | VMX_BLOCKED_MOV_SS))
		vmwrite(VMCS_GUEST_INTERRUPTIBILITY, blocked & ~(VMX_BLOCKED_STI | VMX_BLOCKED_MOV_SS));
	rflags = vmread(VMCS_GUEST_RFLAGS);
	if (rflags & RFLAGS_RF)
		vmwrite(VMCS_GUEST_RFLAGS, rflags & ~RFLAGS_RF);
	if (rflags & RFLAGS_TF)
		vmwrite(VMCS_GUEST_PENDING_DEBUG, vmread(VMCS_GUEST_PENDING_DEBUG) | VMX_PENDING_BS);
}

static void vmx_inject_exception(struct hv_vcpu *v, u8 vector, bool has_error, u32 error)
{
	hv_queue_exception(v, vector, has_error, error);
}

static bool vmx_inject_irq(struct hv_vcpu *h, u8 vector)
{
	struct vmx_vcpu *v = vmx_of(h);

	make_current(v);
	if (h->exception.valid || h->irq.valid || !can_take_irq()) {
		vmx_window(v, true);
		return false;
	}
	hv_queue_irq(h, vector);
	return true;
}

static bool vmx_irq_enabled(struct hv_vcpu *h)
{
	make_current(vmx_of(h));
	return vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF;
}

static void vmx_set_tsc_offset(struct hv_vcpu *h, u64 offset)
{
	struct vmx_vcpu *v = vmx_of(h);

	vmx_make_current(v);
	v->tsc_offset = offset;
	vmwrite(VMCS_TSC_OFFSET, offset);
}

const struct hv_ops vmx_ops = {
    .name = "VMX",
    .probe = vmx_probe,
    .cpu_on = vmx_cpu_on,
    .cpu_off = vmx_cpu_off,
    .vcpu_create = vmx_vcpu_create,
    .vcpu_destroy = vmx_vcpu_destroy,
    .release = vmx_release,
    .vcpu_reset = vmx_vcpu_reset,
    .run = vmx_run,
    .get_sys = vmx_get_sys,
    .skip = vmx_skip,
    .inject_exception = vmx_inject_exception,
    .inject_irq = vmx_inject_irq,
    .irq_enabled = vmx_irq_enabled,
    .set_tsc_offset = vmx_set_tsc_offset,
    .dump = vmx_dump,
};
