/*
 * The VMCS: which one is current on a CPU, its reset state, and reading it back. A VMCS is active on one CPU
 * at a time (v->cpu); release() makes it inactive. Every access makes it current first.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/vmx/vmx.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define ATTR_CODE64   0xa09b /* G, L, present, DPL 0, execute/read/accessed */
#define ATTR_DATA     0xc093 /* G, D/B, present, DPL 0, read/write/accessed */
#define ATTR_TSS_BUSY 0x008b

enum segment { ES, CS, SS, DS, FS, GS, LDTR, TR };

_Static_assert(sizeof(struct vmx_vcpu) <= PAGE_SIZE, "one frame");

static const u32 lazy_msr[VMX_LAZY_MSRS] = {MSR_KERNEL_GS_BASE, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK};

void vmwrite_failed(u32 field)
{
	panic("VMWRITE of field %#x failed", field);
}

static void vmclear(hfn_t vmcs)
{
	u64 pa = hfn_to_hpa(vmcs).v;
	u8 failed;

	__asm__ volatile("vmclear %1; setna %0" : "=q"(failed) : "m"(pa) : "cc", "memory");
	CHECK(!failed);
}

static void vmptrld(hfn_t vmcs)
{
	u64 pa = hfn_to_hpa(vmcs).v;
	u8 failed;

	__asm__ volatile("vmptrld %1; setna %0" : "=q"(failed) : "m"(pa) : "cc", "memory");
	CHECK(!failed);
}

static u64 tss_base(const u8 *gdt, u16 tr)
{
	u64 low, high;

	memcpy(&low, gdt + (tr & 0xfff8), sizeof(low));
	memcpy(&high, gdt + (tr & 0xfff8) + 8, sizeof(high));
	return (low >> 16 & 0xffffff) | (low >> 56 & 0xff) << 24 | high << 32;
}

/* What this CPU goes back to on an exit. RSP is written at each entry. */
static void write_host_state(void)
{
	struct desc_ptr gdt, idt;
	u16 cs, ss, tr;

	__asm__ volatile("sgdt %0" : "=m"(gdt));
	__asm__ volatile("sidt %0" : "=m"(idt));
	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	__asm__ volatile("mov %%ss, %0" : "=r"(ss));
	__asm__ volatile("str %0" : "=r"(tr));
	vmwrite(VMCS_HOST_CS_SEL, cs);
	vmwrite(VMCS_HOST_SS_SEL, ss);
	vmwrite(VMCS_HOST_DS_SEL, ss);
	vmwrite(VMCS_HOST_ES_SEL, ss);
	vmwrite(VMCS_HOST_FS_SEL, 0);
	vmwrite(VMCS_HOST_GS_SEL, 0);
	vmwrite(VMCS_HOST_TR_SEL, tr);
	vmwrite(VMCS_HOST_FS_BASE, rdmsr(MSR_FS_BASE));
	vmwrite(VMCS_HOST_GS_BASE, rdmsr(MSR_GS_BASE));
	vmwrite(VMCS_HOST_TR_BASE, tss_base((const u8 *)gdt.base, tr));
	vmwrite(VMCS_HOST_GDTR_BASE, gdt.base);
	vmwrite(VMCS_HOST_IDTR_BASE, idt.base);
	vmwrite(VMCS_HOST_CR0, read_cr0());
	vmwrite(VMCS_HOST_CR3, read_cr3());
	vmwrite(VMCS_HOST_CR4, read_cr4());
	vmwrite(VMCS_HOST_IA32_EFER, rdmsr(MSR_EFER));
	vmwrite(VMCS_HOST_IA32_PAT, rdmsr(MSR_IA32_PAT));
	vmwrite(VMCS_HOST_SYSENTER_CS, 0);
	vmwrite(VMCS_HOST_SYSENTER_ESP, 0);
	vmwrite(VMCS_HOST_SYSENTER_EIP, 0);
	vmwrite(VMCS_HOST_RIP, (u64)vmx_exit_entry);
}

void vmx_make_current(struct vmx_vcpu *v)
{
	struct vmx_cpu *c = this_cpu()->hv;

	CHECK(!v->common.cpu || v->common.cpu == &c->common);
	if (c->current != v) {
		vmptrld(v->vmcs);
		c->current = v;
	}
	if (!v->common.cpu) {
		v->common.cpu = &c->common;
		write_host_state();
	}
}

static void lazy_save(struct hv_vcpu *h)
{
	struct vmx_vcpu *v = vmx_of(h);

	hv_dr_save(h);
	__asm__ volatile("mov %%db6, %0" : "=r"(v->dr6));
	for (u32 i = 0; i < VMX_LAZY_MSRS; i++)
		v->msr[i] = rdmsr(lazy_msr[i]);
}

static void lazy_load(struct hv_vcpu *h)
{
	const struct vmx_vcpu *v = vmx_of(h);

	hv_dr_load(h);
	__asm__ volatile("mov %0, %%db6" : : "r"(v->dr6));
	for (u32 i = 0; i < VMX_LAZY_MSRS; i++)
		wrmsr(lazy_msr[i], v->msr[i]);
}

void vmx_make_live(struct vmx_vcpu *v)
{
	struct hv_cpu *c = this_cpu()->hv;

	vmx_make_current(v);
	hv_fpu_load(c, &v->common);
	if (c->live == &v->common)
		return;
	if (c->live)
		lazy_save(c->live);
	lazy_load(&v->common);
	hv_guest_switch(c, &v->common);
	c->live = &v->common;
}

void vmx_release(struct hv_vcpu *h)
{
	struct vmx_cpu *c = this_cpu()->hv;
	struct vmx_vcpu *v = vmx_of(h);

	if (!h->cpu)
		return;
	CHECK(h->cpu == &c->common);
	hv_fpu_drop(&c->common, h, true);
	if (c->common.live == h) {
		lazy_save(h);
		c->common.live = NULL;
	}
	vmclear(v->vmcs);
	if (c->current == v)
		c->current = NULL;
	v->launched = false;
	h->cpu = NULL;
}

int vmx_vcpu_create(struct hv_vcpu **out, hfn_t root)
{
	hfn_t self = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	hfn_t vmcs = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	struct vmx_vcpu *v;

	if (self == HFN_NONE || vmcs == HFN_NONE) {
		if (self != HFN_NONE)
			frame_free(self, 0);
		if (vmcs != HFN_NONE)
			frame_free(vmcs, 0);
		return E_NOMEM;
	}
	v = mm_hfn_to_va(self);
	v->vmcs = vmcs;
	hv_vcpu_born(&v->common, root);
	v->eptp = hfn_to_hpa(root).v | EPTP_WB | EPTP_WALK4 | (vmx_machine.ad_bits ? EPTP_AD : 0);
	*(u32 *)mm_hfn_to_va(vmcs) = vmx_machine.revision;
	vmclear(vmcs);
	*out = &v->common;
	return 0;
}

void vmx_vcpu_destroy(struct hv_vcpu *h)
{
	struct vmx_vcpu *v = vmx_of(h);

	vmx_release(h);
	frame_free(v->vmcs, 0);
	frame_free(mm_va_to_hfn(v), 0);
}

static void reset_controls(struct vmx_vcpu *v)
{
	v->pin_controls = vmx_machine.pin;
	v->cpu_controls = vmx_machine.cpu;
	v->entry_controls = vmx_machine.entry | VMX_ENTRY_IA32E;
	vmwrite(VMCS_PIN_CONTROLS, v->pin_controls);
	if (vmx_machine.timer_ticks)
		vmwrite(VMCS_GUEST_TIMER, vmx_machine.timer_ticks);
	vmwrite(VMCS_CPU_CONTROLS, v->cpu_controls);
	vmwrite(VMCS_CPU2_CONTROLS, vmx_machine.cpu2);
	vmwrite(VMCS_EXIT_CONTROLS, vmx_machine.exit);
	vmwrite(VMCS_ENTRY_CONTROLS, v->entry_controls);
	/* #DB and #AC: a guest can make their delivery raise them again for ever, without an instruction boundary. */
	vmwrite(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC));
	vmwrite(VMCS_PF_ERROR_MASK, 0);
	vmwrite(VMCS_PF_ERROR_MATCH, 0);
	vmwrite(VMCS_CR3_TARGET_COUNT, 0);
	vmwrite(VMCS_EXIT_MSR_STORE_COUNT, 0);
	vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, 0);
	vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
	vmwrite(VMCS_ENTRY_EVENT, 0);
	vmwrite(VMCS_MSR_BITMAP, vmx_machine.msr_bitmap_pa);
	vmwrite(VMCS_EPT_POINTER, v->eptp);
	vmwrite(VMCS_LINK_POINTER, ~0UL);
	vmwrite(VMCS_TSC_OFFSET, v->tsc_offset);
	vmwrite(VMCS_CR0_MASK, vmx_machine.cr0_owned);
	vmwrite(VMCS_CR4_MASK, vmx_machine.cr4_owned);
}

static void reset_segment(enum segment n, u16 sel, u32 attr, u32 limit)
{
	vmwrite(VMCS_GUEST_ES_SEL + 2 * n, sel);
	vmwrite(VMCS_GUEST_ES_ATTR + 2 * n, attr);
	vmwrite(VMCS_GUEST_ES_LIMIT + 2 * n, limit);
	vmwrite(VMCS_GUEST_ES_BASE + 2 * n, 0);
}

static void reset_segments(void)
{
	reset_segment(CS, 0x08, ATTR_CODE64, ~0U);
	reset_segment(SS, 0x10, ATTR_DATA, ~0U);
	reset_segment(DS, 0x10, ATTR_DATA, ~0U);
	reset_segment(ES, 0x10, ATTR_DATA, ~0U);
	reset_segment(FS, 0x10, ATTR_DATA, ~0U);
	reset_segment(GS, 0x10, ATTR_DATA, ~0U);
	reset_segment(LDTR, 0, HV_ATTR_UNUSABLE, 0);
	reset_segment(TR, 0x18, ATTR_TSS_BUSY, 0x67);
	vmwrite(VMCS_GUEST_GDTR_BASE, 0);
	vmwrite(VMCS_GUEST_GDTR_LIMIT, 0);
	vmwrite(VMCS_GUEST_IDTR_BASE, 0);
	vmwrite(VMCS_GUEST_IDTR_LIMIT, 0);
}

static void reset_state(const struct hv_start *s)
{
	u64 cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE;
	u64 cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;

	vmwrite(VMCS_GUEST_CR0, cr0 | (rdmsr(MSR_IA32_VMX_CR0_FIXED0) & ~(CR0_PE | CR0_PG)));
	vmwrite(VMCS_CR0_SHADOW, cr0);
	vmwrite(VMCS_GUEST_CR3, s->cr3);
	vmwrite(VMCS_GUEST_CR4, cr4 | CR4_MCE | rdmsr(MSR_IA32_VMX_CR4_FIXED0));
	vmwrite(VMCS_CR4_SHADOW, cr4);
	vmwrite(VMCS_GUEST_IA32_EFER, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
	vmwrite(VMCS_GUEST_IA32_PAT, PAT_RESET);
	vmwrite(VMCS_GUEST_IA32_DEBUGCTL, 0);
	vmwrite(VMCS_GUEST_DR7, DR7_INIT);
	vmwrite(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
	vmwrite(VMCS_GUEST_INTERRUPTIBILITY, 0);
	vmwrite(VMCS_GUEST_ACTIVITY, 0);
	vmwrite(VMCS_GUEST_PENDING_DEBUG, 0);
	vmwrite(VMCS_GUEST_SYSENTER_CS, 0);
	vmwrite(VMCS_GUEST_SYSENTER_ESP, 0);
	vmwrite(VMCS_GUEST_SYSENTER_EIP, 0);
	vmwrite(VMCS_GUEST_RSP, s->rsp);
	vmwrite(VMCS_GUEST_RIP, s->rip);
}

void vmx_vcpu_reset(struct hv_vcpu *h, const struct hv_start *s)
{
	struct vmx_vcpu *v = vmx_of(h);

	vmx_release(h); /* live registers go, with whatever they held */
	hv_vcpu_init(h, s);
	memset(v->msr, 0, sizeof(v->msr));
	v->cr2 = v->cr8 = 0;
	v->dr6 = DR6_INIT;
	vmx_make_current(v);
	reset_controls(v);
	reset_segments();
	reset_state(s);
}

/* ---- reading back ---- */

void vmx_get_sys(struct hv_vcpu *h, struct hv_sys *s)
{
	struct vmx_vcpu *v = vmx_of(h);
	u64 mask = vmx_machine.cr0_owned, mask4 = vmx_machine.cr4_owned;

	vmx_make_current(v);
	*s = (struct hv_sys){
	    .rflags = vmread(VMCS_GUEST_RFLAGS),
	    .cr0 = (vmread(VMCS_GUEST_CR0) & ~mask) | (vmread(VMCS_CR0_SHADOW) & mask),
	    .cr2 = v->cr2,
	    .cr3 = vmread(VMCS_GUEST_CR3),
	    .cr4 = (vmread(VMCS_GUEST_CR4) & ~mask4) | (vmread(VMCS_CR4_SHADOW) & mask4),
	    .efer = vmread(VMCS_GUEST_IA32_EFER),
	    .interruptibility = vmread(VMCS_GUEST_INTERRUPTIBILITY),
	    .pending = vmread(VMCS_GUEST_PENDING_DEBUG),
	};
#define SEG(name, n)                                                        \
	do {                                                                \
		s->name.sel = (u16)vmread(VMCS_GUEST_ES_SEL + 2 * (n));     \
		s->name.attr = (u32)vmread(VMCS_GUEST_ES_ATTR + 2 * (n));   \
		s->name.limit = (u32)vmread(VMCS_GUEST_ES_LIMIT + 2 * (n)); \
		s->name.base = vmread(VMCS_GUEST_ES_BASE + 2 * (n));        \
	} while (0)
	SEG(es, ES);
	SEG(cs, CS);
	SEG(ss, SS);
	SEG(ds, DS);
	SEG(fs, FS);
	SEG(gs, GS);
	SEG(ldtr, LDTR);
	SEG(tr, TR);
#undef SEG
	s->gdtr.base = vmread(VMCS_GUEST_GDTR_BASE);
	s->gdtr.limit = (u32)vmread(VMCS_GUEST_GDTR_LIMIT);
	s->idtr.base = vmread(VMCS_GUEST_IDTR_BASE);
	s->idtr.limit = (u32)vmread(VMCS_GUEST_IDTR_LIMIT);
}

void vmx_dump(struct hv_vcpu *h, const char *who)
{
	struct vmx_vcpu *v = vmx_of(h);
	struct hv_sys s;

	vmx_get_sys(h, &s);
	hv_dump_common(h, &s, who);
#define LINE(...) log_line(LOG_WARN, who, __VA_ARGS__)
	LINE("exit reason %lx qualification %lx event %lx error %lx insn length %lu", vmread(VMCS_EXIT_REASON),
	     vmread(VMCS_EXIT_QUALIFICATION), vmread(VMCS_EXIT_EVENT), vmread(VMCS_EXIT_EVENT_ERROR),
	     vmread(VMCS_EXIT_INSN_LENGTH));
	LINE("idt vectoring %lx error %lx entry event %lx instruction error %lu", vmread(VMCS_IDT_VECTORING),
	     vmread(VMCS_IDT_VECTORING_ERROR), vmread(VMCS_ENTRY_EVENT), vmread(VMCS_INSTRUCTION_ERROR));
	LINE("guest physical %lx linear %lx activity %lx", vmread(VMCS_GUEST_PHYSICAL_ADDRESS),
	     vmread(VMCS_GUEST_LINEAR_ADDRESS), vmread(VMCS_GUEST_ACTIVITY));
	LINE("controls pin %lx cpu %lx cpu2 %lx exit %lx entry %lx", vmread(VMCS_PIN_CONTROLS),
	     vmread(VMCS_CPU_CONTROLS), vmread(VMCS_CPU2_CONTROLS), vmread(VMCS_EXIT_CONTROLS),
	     vmread(VMCS_ENTRY_CONTROLS));
	LINE("real cr0 %lx cr4 %lx masks %lx %lx eptp %lx tsc offset %lx", vmread(VMCS_GUEST_CR0),
	     vmread(VMCS_GUEST_CR4), vmread(VMCS_CR0_MASK), vmread(VMCS_CR4_MASK), v->eptp, v->tsc_offset);
	LINE("dr6 %lx (as last switched) dr7 %lx cr8 %lx pat %016lx", v->dr6, vmread(VMCS_GUEST_DR7), v->cr8,
	     vmread(VMCS_GUEST_IA32_PAT));
	LINE("kernel gs %016lx star %016lx lstar %016lx cstar %016lx sfmask %lx (as last switched)", v->msr[0],
	     v->msr[1], v->msr[2], v->msr[3], v->msr[4]);
	LINE("sysenter cs %lx esp %lx eip %lx", vmread(VMCS_GUEST_SYSENTER_CS), vmread(VMCS_GUEST_SYSENTER_ESP),
	     vmread(VMCS_GUEST_SYSENTER_EIP));
#undef LINE
}
