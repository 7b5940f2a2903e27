/* The VMCB: creation, reset state, and reading it back for walks and dumps. */
#include "arch/x86/cpu.h"
#include "arch/x86/svm/svm.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define ATTR_CODE64   0xa9b /* G, L, present, DPL 0, execute/read/accessed */
#define ATTR_DATA     0xc93 /* G, D/B, present, DPL 0, read/write/accessed */
#define ATTR_LDT      0x082
#define ATTR_TSS_BUSY 0x08b

_Static_assert(sizeof(struct svm_vcpu) <= PAGE_SIZE, "one frame");

int svm_vcpu_create(struct hv_vcpu **out, hfn_t root)
{
	hfn_t self = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	hfn_t vmcb = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	struct svm_vcpu *v;

	if (self == HFN_NONE || vmcb == HFN_NONE) {
		if (self != HFN_NONE)
			frame_free(self, 0);
		if (vmcb != HFN_NONE)
			frame_free(vmcb, 0);
		return E_NOMEM;
	}
	v = mm_hfn_to_va(self);
	v->vmcb = mm_hfn_to_va(vmcb);
	v->vmcb_pa = hfn_to_hpa(vmcb).v;
	hv_vcpu_born(&v->common, root);
	*out = &v->common;
	return 0;
}

void svm_vcpu_destroy(struct hv_vcpu *hv_vcpu)
{
	struct svm_vcpu *v = svm_of(hv_vcpu);

	svm_release(hv_vcpu);
	frame_free(mm_va_to_hfn(v->vmcb), 0);
	frame_free(mm_va_to_hfn(v), 0);
}

static void reset_controls(struct vmcb *c, hfn_t root)
{
	c->intercept[SVM_INTERCEPT_CR] = SVM_CR_WRITE(4);
	/* #DB and #AC: a guest can make their delivery raise them again for ever, without an instruction boundary. */
	c->intercept[SVM_INTERCEPT_EXCEPTION] = BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC);
	c->intercept[SVM_INTERCEPT_MISC1] = SVM_MISC1_INTR | SVM_MISC1_NMI | SVM_MISC1_INIT | SVM_MISC1_RDPMC |
					    SVM_MISC1_CPUID | SVM_MISC1_RSM | SVM_MISC1_INVD | SVM_MISC1_HLT |
					    SVM_MISC1_INVLPGA | SVM_MISC1_IOIO | SVM_MISC1_MSR | SVM_MISC1_TASK_SWITCH |
					    SVM_MISC1_SHUTDOWN;
	c->intercept[SVM_INTERCEPT_MISC2] = SVM_MISC2_VMRUN | SVM_MISC2_VMMCALL | SVM_MISC2_VMLOAD | SVM_MISC2_VMSAVE |
					    SVM_MISC2_STGI | SVM_MISC2_CLGI | SVM_MISC2_SKINIT | SVM_MISC2_RDTSCP |
					    SVM_MISC2_WBINVD | SVM_MISC2_MONITOR | SVM_MISC2_MWAIT | SVM_MISC2_XSETBV |
					    SVM_MISC2_RDPRU;
	if (svm_machine.invpcid)
		c->intercept[SVM_INTERCEPT_MISC3] = SVM_MISC3_INVPCID;
	c->iopm_pa = svm_machine.iopm_pa;
	c->msrpm_pa = svm_machine.msrpm_pa;
	c->vintr = SVM_VINTR_MASKING;
	c->np_control = SVM_NP_ENABLE;
	c->n_cr3 = hfn_to_hpa(root).v;
}

void svm_vcpu_reset(struct hv_vcpu *hv_vcpu, const struct hv_start *s)
{
	struct svm_vcpu *v = svm_of(hv_vcpu);
	const struct svm_segment data = {.selector = 0x10, .attr = ATTR_DATA, .limit = ~0U};
	struct vmcb *c = v->vmcb;
	u64 tsc_offset = c->tsc_offset;

	svm_release(hv_vcpu);
	memset(v->length, 0, sizeof(v->length));
	memset(c, 0, sizeof(*c));
	reset_controls(c, v->common.mark.root);
	c->tsc_offset = tsc_offset;
	c->es = c->ss = c->ds = c->fs = c->gs = data;
	c->cs = (struct svm_segment){.selector = 0x08, .attr = ATTR_CODE64, .limit = ~0U};
	c->ldtr.attr = ATTR_LDT;
	c->tr = (struct svm_segment){.selector = 0x18, .attr = ATTR_TSS_BUSY, .limit = 0x67};
	c->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_SVME;
	c->cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE;
	c->cr3 = s->cr3;
	c->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_MCE;
	c->dr6 = DR6_INIT;
	c->dr7 = DR7_INIT;
	c->rflags = RFLAGS_FIXED;
	c->g_pat = PAT_RESET;
	hv_vcpu_init(hv_vcpu, s);
}

/* 12 packed attribute bits to the neutral form, which leaves a gap of four. */
static u32 neutral_attr(u16 attr)
{
	return (attr & 0xff) | (u32)(attr & 0xf00) << 4;
}

void svm_get_sys(struct hv_vcpu *hv_vcpu, struct hv_sys *s)
{
	const struct vmcb *c = svm_of(hv_vcpu)->vmcb;

	*s = (struct hv_sys){
	    .rflags = c->rflags,
	    .cr0 = c->cr0,
	    .cr2 = c->cr2,
	    .cr3 = c->cr3,
	    .cr4 = c->cr4,
	    .efer = c->efer & ~EFER_SVME,
	    .interruptibility = c->interrupt_shadow,
	    .pending = c->event_inj,
	};
#define SEG(n)                                       \
	do {                                         \
		s->n.sel = c->n.selector;            \
		s->n.attr = neutral_attr(c->n.attr); \
		s->n.limit = c->n.limit;             \
		s->n.base = c->n.base;               \
	} while (0)
	SEG(es);
	SEG(cs);
	SEG(ss);
	SEG(ds);
	SEG(fs);
	SEG(gs);
	SEG(ldtr);
	SEG(tr);
	SEG(gdtr);
	SEG(idtr);
#undef SEG
}

void svm_dump(struct hv_vcpu *hv_vcpu, const char *who)
{
	const struct vmcb *c = svm_of(hv_vcpu)->vmcb;
	struct hv_sys s;

	svm_get_sys(hv_vcpu, &s);
	hv_dump_common(hv_vcpu, &s, who);
#define LINE(...) log_line(LOG_WARN, who, __VA_ARGS__)
	LINE("exit code %lx info1 %lx info2 %lx int info %lx next rip %lx", c->exit_code, c->exit_info1, c->exit_info2,
	     c->exit_int_info, c->nrip);
	LINE("inject %lx vintr %lx shadow %lx cpl %u", c->event_inj, c->vintr, c->interrupt_shadow, c->cpl);
	LINE("intercepts %08x %08x %08x %08x %08x %08x", c->intercept[0], c->intercept[1], c->intercept[2],
	     c->intercept[3], c->intercept[4], c->intercept[5]);
	LINE("nested cr3 %lx control %lx tlb %u asid %u tsc offset %lx", c->n_cr3, c->np_control, c->tlb_control,
	     c->asid, c->tsc_offset);
	LINE("dr6 %lx dr7 %lx pat %016lx", c->dr6, c->dr7, c->g_pat);
	LINE("star %016lx lstar %016lx cstar %016lx sfmask %lx kernel gs %016lx", c->star, c->lstar, c->cstar,
	     c->sfmask, c->kernel_gs_base);
	LINE("sysenter cs %lx esp %lx eip %lx", c->sysenter_cs, c->sysenter_esp, c->sysenter_eip);
#undef LINE
}
