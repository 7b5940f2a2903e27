/*
 * SVM exits: handled here (false: enter again) or decoded into a neutral struct hv_exit (true).
 * Where the processor does not save the next RIP the instruction is fetched and recognised; see hv_fetch().
 */
#include "arch/x86/svm/svm.h"
#include "lib/err.h"

/*
 * Fetches the exiting instruction. False: *e is what the caller of run() has to see instead, a page to wait for or,
 * when the bytes are not those that exited, nothing: the guest repeats what it does with its translations flushed.
 */
static bool fetch(struct svm_vcpu *v, enum insn_id id, struct insn *insn, struct hv_exit *e)
{
	struct hv_sys s;
	int err;

	svm_get_sys(&v->common, &s);
	err = hv_fetch(&v->common, &s, id, insn, e);
	if (!err)
		return true;
	if (err != E_AGAIN) {
		v->common.asid.flush = true;
		e->kind = HV_EXIT_NONE;
	}
	return false;
}

void svm_remember_length(struct svm_vcpu *v, u8 len)
{
	const struct vmcb *c = v->vmcb;
	u64 tag;

	if (!(c->efer & EFER_LMA && c->cs.attr & SVM_ATTR_L))
		return;
	tag = svm_length_tag(v->common.regs.rip, c->exit_code);
	v->length[svm_length_slot(tag)] = (struct svm_length){.tag = tag, .cr3 = c->cr3, .len = len};
}

static __attribute__((noinline)) bool fetch_length(struct svm_vcpu *v, enum insn_id id, struct hv_exit *e)
{
	struct insn insn;

	if (!fetch(v, id, &insn, e))
		return false;
	e->len = insn.len;
	svm_remember_length(v, insn.len);
	return true;
}

/* Instruction length into e->len; false as fetch(). */
static bool exit_length(struct svm_vcpu *v, enum insn_id id, struct hv_exit *e)
{
	e->len = (u8)svm_known_length(v);
	return e->len || fetch_length(v, id, e);
}

static bool exit_insn(struct svm_vcpu *v, struct hv_exit *e, enum insn_id id, enum hv_exit_kind kind)
{
	if (!exit_length(v, id, e))
		return true;
	e->kind = kind;
	e->cpl = v->vmcb->cpl;
	return true;
}

/* Caches are coherent and hold nothing a guest may drop: INVD and WBINVD do nothing. */
static bool exit_cache(struct svm_vcpu *v, struct hv_exit *e)
{
	if (!exit_length(v, INSN_CACHE, e))
		return true;
	svm_skip(&v->common, e->len);
	return false;
}

static bool exit_undefined(struct hv_exit *e)
{
	e->kind = HV_EXIT_UNDEFINED;
	return true;
}

static bool exit_kind(struct hv_exit *e, enum hv_exit_kind kind, const char *text)
{
	e->kind = kind;
	e->text = text;
	return true;
}

/* #DB and #AC go on to the guest; the CPU loop gets its turn first, as their delivery may never end. */
static bool exit_reflect(struct svm_vcpu *v, struct hv_exit *e, u8 vector)
{
	hv_queue_exception(&v->common, vector, vector == VECTOR_AC, 0);
	e->kind = HV_EXIT_HOST_IRQ;
	return true;
}

static bool exit_machine_check(struct hv_exit *e)
{
	__asm__ volatile("int $18");
	e->kind = HV_EXIT_HOST_IRQ;
	return true;
}

static bool exit_window(struct svm_vcpu *v, struct hv_exit *e)
{
	svm_window(v, false);
	e->kind = HV_EXIT_NONE;
	return !v->common.irq.valid;
}

static bool exit_efer(struct svm_vcpu *v, bool write)
{
	struct hv_regs *r = &v->common.regs;
	struct vmcb *c = v->vmcb;
	u64 efer;

	if (!write) {
		r->rax = (u32)(c->efer & ~EFER_SVME);
		r->rdx = 0;
		return true;
	}
	if (!hv_efer_write(c->cr0, c->efer & ~EFER_SVME, r->rdx << 32 | (u32)r->rax, &efer))
		return false;
	if ((c->efer ^ efer) & EFER_NXE)
		v->common.asid.flush = true;
	c->efer = efer | EFER_SVME;
	return true;
}

static bool exit_msr(struct svm_vcpu *v, struct hv_exit *e)
{
	const struct hv_regs *r = &v->common.regs;
	bool write = v->vmcb->exit_info1 & 1;

	if (!exit_length(v, write ? INSN_WRMSR : INSN_RDMSR, e))
		return true;
	if ((u32)r->rcx == MSR_EFER) {
		if (exit_efer(v, write))
			svm_skip(&v->common, e->len);
		else
			hv_queue_exception(&v->common, VECTOR_GP, true, 0);
		return false;
	}
	e->kind = write ? HV_EXIT_MSR_WRITE : HV_EXIT_MSR_READ;
	e->msr.index = (u32)r->rcx;
	e->msr.value = write ? r->rdx << 32 | (u32)r->rax : 0;
	return true;
}

static bool exit_io(struct svm_vcpu *v, struct hv_exit *e)
{
	static const u32 mask[8] = {[1] = 0xff, [2] = 0xffff, [4] = 0xffffffff};
	u32 info = (u32)v->vmcb->exit_info1, bytes = SVM_IOIO_BYTES(info);

	e->kind = HV_EXIT_IO;
	e->len = (u8)(v->vmcb->exit_info2 - v->common.regs.rip);
	e->io.port = SVM_IOIO_PORT(info);
	e->io.bytes = (u8)bytes;
	e->io.in = info & SVM_IOIO_IN;
	e->io.string = info & SVM_IOIO_STRING;
	e->io.rep = info & SVM_IOIO_REP;
	e->io.value = (u32)v->common.regs.rax & mask[bytes]; /* means nothing unless it is an OUT */
	return true;
}

static bool exit_npf(struct svm_vcpu *v, struct hv_exit *e)
{
	u64 info = v->vmcb->exit_info1;

	if (info & SVM_NPF_RESERVED)
		return exit_kind(e, HV_EXIT_UNKNOWN, "reserved bit set in a nested page table");
	e->kind = HV_EXIT_NPF;
	e->npf.gpa = GPA(v->vmcb->exit_info2);
	e->npf.gva_valid = false;
	e->npf.walk = info & SVM_NPF_WALK;
	e->npf.exec = info & SVM_NPF_FETCH;
	/* A walk sets accessed and dirty bits in the guest's tables: where it may read it wants to write. */
	e->npf.write = info & SVM_NPF_WRITE || (e->npf.walk && info & SVM_NPF_PRESENT);
	e->npf.read = !e->npf.write && !e->npf.exec;
	return true;
}

/* The write of value to CR4 that the guest has asked for; false: not with these bits. */
static bool guest_write_cr4(struct svm_vcpu *v, u64 value)
{
	struct vmcb *c = v->vmcb;

	if (value & ~svm_machine.cr4_allowed)
		return false;
	if (c->efer & EFER_LMA && !(value & CR4_PAE))
		return false;
	if (value & ~c->cr4 & CR4_PCIDE && (!(c->efer & EFER_LMA) || c->cr3 & ~PAGE_MASK))
		return false;
	/* A machine check must reach the host, never be a shutdown because the guest left MCE clear. */
	c->cr4 = value | CR4_MCE;
	v->common.asid.flush = true;
	return true;
}

static bool exit_cr4(struct svm_vcpu *v, struct hv_exit *e)
{
	struct insn insn;
	u64 value;

	if (svm_machine.decode_assists && svm_machine.nrip && v->vmcb->exit_info1 & SVM_CR_IS_MOV)
		insn = (struct insn){.len = (u8)(v->vmcb->nrip - v->common.regs.rip), .gpr = v->vmcb->exit_info1 & 15};
	else if (!fetch(v, INSN_MOV_TO_CR4, &insn, e))
		return true;
	value = *hv_gpr(&v->common.regs, insn.gpr);
	if (!(v->vmcb->efer & EFER_LMA && v->vmcb->cs.attr & SVM_ATTR_L))
		value = (u32)value;
	if (guest_write_cr4(v, value)) {
		svm_skip(&v->common, insn.len);
		return false;
	}
	e->kind = HV_EXIT_CR_WRITE;
	e->len = insn.len;
	e->cr.cr = 4;
	e->cr.value = value;
	return true;
}

/*
 * The processor does not say why it refused: name the rule that is broken (AMD APM "Canonicalization and
 * Consistency Checks").
 */
static const char *invalid_text(const struct vmcb *c)
{
	bool lma = c->efer & EFER_LME && c->cr0 & CR0_PG;

	if (!(c->cr0 & CR0_CD) && c->cr0 & CR0_NW)
		return "CR0.NW set with CD clear";
	if (c->cr0 >> 32)
		return "CR0 bits 63:32 set";
	if (c->cr4 & ~svm_machine.cr4_allowed)
		return "reserved CR4 bit set";
	if (c->dr6 >> 32 || c->dr7 >> 32)
		return "DR6 or DR7 bits 63:32 set";
	if (lma && (!(c->cr4 & CR4_PAE) || !(c->cr0 & CR0_PE)))
		return "long mode without PAE or protection";
	if (lma && c->cr3 >> (cpuid(0x80000008, 0).eax & 0xff))
		return "CR3 beyond the physical address width";
	return "VMRUN refused the guest state (VMEXIT_INVALID)";
}

static __attribute__((noinline)) bool decode_other(struct svm_vcpu *v, struct hv_exit *e)
{
	u64 code = v->vmcb->exit_code;

	if ((s32)code == SVM_EXIT_INVALID)
		return exit_kind(e, HV_EXIT_BAD_STATE, invalid_text(v->vmcb));
	switch (code) {
	case SVM_EXIT_NMI:
	case SVM_EXIT_INIT:
		return exit_kind(e, HV_EXIT_HOST_IRQ, NULL);
	case SVM_EXIT_VINTR:
		return exit_window(v, e);
	case SVM_EXIT_CPUID:
		return exit_insn(v, e, INSN_CPUID, HV_EXIT_CPUID);
	case SVM_EXIT_HLT:
		return exit_insn(v, e, INSN_HLT, HV_EXIT_HLT);
	case SVM_EXIT_MSR:
		return exit_msr(v, e);
	case SVM_EXIT_WRITE_CR4:
		return exit_cr4(v, e);
	case SVM_EXIT_INVD:
	case SVM_EXIT_WBINVD:
		return exit_cache(v, e);
	case SVM_EXIT_EXCP(VECTOR_DB):
		return exit_reflect(v, e, VECTOR_DB);
	case SVM_EXIT_EXCP(VECTOR_AC):
		return exit_reflect(v, e, VECTOR_AC);
	case SVM_EXIT_EXCP(VECTOR_MC):
		return exit_machine_check(e);
	case SVM_EXIT_SHUTDOWN:
		return exit_kind(e, HV_EXIT_TRIPLE_FAULT, NULL);
	case SVM_EXIT_TASK_SWITCH:
		return exit_kind(e, HV_EXIT_UNKNOWN, "hardware task switch");
	case SVM_EXIT_RDPMC:
	case SVM_EXIT_RSM:
	case SVM_EXIT_INVLPGA:
	case SVM_EXIT_VMRUN:
	case SVM_EXIT_VMLOAD:
	case SVM_EXIT_VMSAVE:
	case SVM_EXIT_STGI:
	case SVM_EXIT_CLGI:
	case SVM_EXIT_SKINIT:
	case SVM_EXIT_RDTSCP:
	case SVM_EXIT_MONITOR:
	case SVM_EXIT_MWAIT:
	case SVM_EXIT_MWAIT_COND:
	case SVM_EXIT_XSETBV:
	case SVM_EXIT_RDPRU:
	case SVM_EXIT_INVPCID:
		return exit_undefined(e);
	}
	return exit_kind(e, HV_EXIT_UNKNOWN, "exit code unknown to this version");
}

static __attribute__((noinline)) bool exit_vmmcall(struct svm_vcpu *v, struct hv_exit *e)
{
	return exit_insn(v, e, INSN_VMMCALL, HV_EXIT_HYPERCALL);
}

/* The commonest by themselves: a long switch is a search, and needs more registers. */
bool svm_exit_decode(struct svm_vcpu *v, struct hv_exit *e)
{
	u64 code = v->vmcb->exit_code;

	e->reason = code;
	e->len = e->cpl = 0;
	e->text = NULL;
	if (likely(code == SVM_EXIT_NPF))
		return exit_npf(v, e);
	if (code == SVM_EXIT_INTR)
		return exit_kind(e, HV_EXIT_HOST_IRQ, NULL);
	if (code == SVM_EXIT_VMMCALL)
		return exit_vmmcall(v, e);
	if (code == SVM_EXIT_IOIO)
		return exit_io(v, e);
	return decode_other(v, e);
}
