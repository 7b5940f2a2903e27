/*
 * Entering a guest: what has to be in the VMCB before VMRUN, and the loop that stays inside for exits nobody else
 * needs to see. Host interrupts: enter.asm runs the guest with host IF=1 and GIF=0, so that a pending one ends the
 * guest's turn and stays pending for the CPU loop; NMIs are taken at STGI.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/svm/svm.h"
#include "lib/panic.h"

bool svm_can_take_irq(const struct svm_vcpu *v)
{
	return v->vmcb->rflags & RFLAGS_IF && !(v->vmcb->interrupt_shadow & SVM_SHADOW_INTERRUPT);
}

/* A virtual interrupt that is intercepted the moment the guest could take it; its vector is never used. */
void svm_window(struct svm_vcpu *v, bool on)
{
	const u64 bits = SVM_VINTR_IRQ | SVM_VINTR_PRIORITY | SVM_VINTR_IGN_TPR;
	struct vmcb *c = v->vmcb;

	if (on) {
		c->vintr |= bits;
		c->intercept[SVM_INTERCEPT_MISC1] |= SVM_MISC1_VINTR;
	} else {
		c->vintr &= ~bits;
		c->intercept[SVM_INTERCEPT_MISC1] &= ~SVM_MISC1_VINTR;
	}
}

static u64 event(const struct hv_event *e, u64 type)
{
	return SVM_EVENT_VALID | type << 8 | e->vector |
	       (e->has_error ? SVM_EVENT_ERROR_VALID | (u64)e->error << 32 : 0);
}

/* At most one event enters with the guest: an exception first, an accepted interrupt as soon as the guest can take it.
 */
static void prepare_event(struct svm_vcpu *v)
{
	struct hv_vcpu *h = &v->common;

	if (h->exception.valid) {
		v->vmcb->event_inj = event(&h->exception, SVM_EVENT_EXCEPTION);
		h->exception.valid = false;
		if (h->irq.valid)
			svm_window(v, true);
	} else if (h->irq.valid && svm_can_take_irq(v)) {
		v->vmcb->event_inj = event(&h->irq, SVM_EVENT_INTR);
		h->irq.valid = false;
		svm_window(v, false);
	} else if (h->irq.valid) {
		svm_window(v, true);
	}
}

static void prepare_tlb(struct hv_cpu *c, struct svm_vcpu *v, u64 tlb_gen)
{
	u32 action = asid_enter(&c->asids, &v->common.asid, tlb_gen);

	v->vmcb->asid = v->common.asid.asid;
	if (action & ASID_NEW)
		c->tlb.assigned++;
	if (action & ASID_FLUSH_GUEST) {
		v->vmcb->tlb_control = SVM_TLB_FLUSH_ASID;
		c->tlb.flush_guest++;
	}
	if (action & ASID_FLUSH_ALL) {
		v->vmcb->tlb_control = SVM_TLB_FLUSH_ALL;
		c->tlb.flush_all++;
	}
}

static void make_live(struct hv_cpu *c, struct hv_vcpu *v)
{
	CHECK(!v->cpu || v->cpu == c);
	v->cpu = c;
	hv_fpu_load(c, v);
	if (c->live == v)
		return;
	if (c->live)
		hv_dr_save(c->live);
	hv_dr_load(v);
	hv_guest_switch(c, v);
	c->live = v;
}

/* An event whose delivery the exit cut short is delivered again; INTn, INT3 and INTO are simply executed again. */
static void requeue_event(struct svm_vcpu *v)
{
	u64 info = v->vmcb->exit_int_info;
	u8 vector = (u8)info;

	if (SVM_EVENT_TYPE(info) == SVM_EVENT_INTR)
		hv_queue_irq(&v->common, vector);
	else if (SVM_EVENT_TYPE(info) == SVM_EVENT_EXCEPTION && vector != 3 && vector != 4)
		hv_queue_exception(&v->common, vector, info & SVM_EVENT_ERROR_VALID, (u32)(info >> 32));
}

void svm_run(struct hv_vcpu *h, u64 tlb_gen, struct hv_exit *e)
{
	struct svm_cpu *c = this_cpu()->hv;
	struct svm_vcpu *v = svm_of(h);
	struct vmcb *m = v->vmcb;

	if (unlikely(c->common.live != h || c->common.fpu != h))
		make_live(&c->common, h);
	m->clean = 0;
	do {
		/*
		 * Decoding the last exit may have fetched from a page that had to be expanded, with vector registers.
		 */
		if (unlikely(c->common.fpu != h))
			hv_fpu_load(&c->common, h);
		m->event_inj = 0;
		if (unlikely(h->exception.valid || h->irq.valid))
			prepare_event(v);
		m->tlb_control = SVM_TLB_KEEP;
		if (unlikely(!asid_is_current(&c->common.asids, &h->asid, tlb_gen)))
			prepare_tlb(&c->common, v, tlb_gen);
		c->common.tlb.entries++;
		m->rax = h->regs.rax;
		m->rsp = h->regs.rsp;
		m->rip = h->regs.rip;
		svm_begin(v->vmcb_pa);
		do
			svm_enter(&h->regs, v->vmcb_pa);
		while (svm_is_fast(m->exit_code) && svm_fast_exit(v));
		svm_end(v->vmcb_pa, c->host_pa);
		h->regs.rax = m->rax;
		h->regs.rsp = m->rsp;
		h->regs.rip = m->rip;
		if (unlikely(m->exit_int_info & SVM_EVENT_VALID))
			requeue_event(v);
	} while (!svm_exit_decode(v, e));
}

void svm_release(struct hv_vcpu *v)
{
	struct svm_cpu *c = this_cpu()->hv;

	if (!v->cpu)
		return;
	CHECK(v->cpu == &c->common);
	hv_fpu_drop(&c->common, v, true);
	if (c->common.live == v) {
		hv_dr_save(v);
		c->common.live = NULL;
	}
	v->cpu = NULL;
}

void svm_skip(struct hv_vcpu *h, u8 len)
{
	struct vmcb *c = svm_of(h)->vmcb;

	CHECK(len && len <= INSN_BYTES_MAX);
	h->regs.rip += len;
	if (!(c->efer & EFER_LMA && c->cs.attr & SVM_ATTR_L))
		h->regs.rip = (u32)h->regs.rip;
	c->interrupt_shadow &= ~SVM_SHADOW_INTERRUPT;
	c->rflags &= ~RFLAGS_RF;
	if (c->rflags & RFLAGS_TF) {
		c->dr6 |= DR6_BS;
		hv_queue_exception(h, VECTOR_DB, false, 0);
	}
}

static void svm_inject_exception(struct hv_vcpu *v, u8 vector, bool has_error, u32 error)
{
	hv_queue_exception(v, vector, has_error, error);
}

static bool svm_inject_irq(struct hv_vcpu *h, u8 vector)
{
	struct svm_vcpu *v = svm_of(h);

	if (h->exception.valid || h->irq.valid || !svm_can_take_irq(v)) {
		svm_window(v, true);
		return false;
	}
	hv_queue_irq(h, vector);
	return true;
}

static bool svm_irq_enabled(struct hv_vcpu *v)
{
	return svm_of(v)->vmcb->rflags & RFLAGS_IF;
}
static void svm_set_tsc_offset(struct hv_vcpu *v, u64 offset)
{
	svm_of(v)->vmcb->tsc_offset = offset;
}

const struct hv_ops svm_ops = {
    .name = "SVM",
    .probe = svm_probe,
    .cpu_on = svm_cpu_on,
    .cpu_off = svm_cpu_off,
    .vcpu_create = svm_vcpu_create,
    .vcpu_destroy = svm_vcpu_destroy,
    .release = svm_release,
    .vcpu_reset = svm_vcpu_reset,
    .run = svm_run,
    .get_sys = svm_get_sys,
    .skip = svm_skip,
    .inject_exception = svm_inject_exception,
    .inject_irq = svm_inject_irq,
    .irq_enabled = svm_irq_enabled,
    .set_tsc_offset = svm_set_tsc_offset,
    .dump = svm_dump,
};
