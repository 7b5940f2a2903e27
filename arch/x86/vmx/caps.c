/* What this processor's VMX can do, and switching it on and off on a CPU. */
#include "arch/x86/cpu.h"
#include "arch/x86/vmx/vmx.h"
#include "lib/err.h"
#include "lib/format.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define VPID_LAST        0xffffU
#define MSR_BITMAP_WRITE 2048U /* byte offsets: writes, and MSR C0000000 and up within each half */
#define MSR_BITMAP_HIGH  1024U

struct vmx_machine vmx_machine;

static int missing(char *why, size_t size, const char *what)
{
	format_buf(why, size, "VMX: %s", what);
	return E_NOSYS;
}

struct control {
	u64 bit;
	const char *name; /* as in the manual */
};

static const struct control pin_controls[] = {
    {VMX_PIN_EXTINT, "external-interrupt exiting"},
    {VMX_PIN_NMI, "NMI exiting"},
};
static const struct control cpu_controls[] = {
    {VMX_CPU_INTERRUPT_WINDOW, "interrupt-window exiting"},
    {VMX_CPU_TSC_OFFSET, "use TSC offsetting"},
    {VMX_CPU_HLT, "HLT exiting"},
    {VMX_CPU_MWAIT, "MWAIT exiting"},
    {VMX_CPU_RDPMC, "RDPMC exiting"},
    {VMX_CPU_CR8_LOAD, "CR8-load exiting"},
    {VMX_CPU_CR8_STORE, "CR8-store exiting"},
    {VMX_CPU_IO, "unconditional I/O exiting"},
    {VMX_CPU_MSR_BITMAP, "use MSR bitmaps"},
    {VMX_CPU_MONITOR, "MONITOR exiting"},
    {VMX_CPU_SECONDARY, "activate secondary controls"},
};
static const struct control cpu2_controls[] = {
    {VMX_CPU2_EPT, "enable EPT"},
    {VMX_CPU2_UNRESTRICTED, "unrestricted guest"},
};
static const struct control exit_controls[] = {
    {VMX_EXIT_SAVE_DEBUG, "save debug controls"}, {VMX_EXIT_HOST_64, "host address-space size"},
    {VMX_EXIT_SAVE_PAT, "save IA32_PAT"},         {VMX_EXIT_LOAD_PAT, "load IA32_PAT"},
    {VMX_EXIT_SAVE_EFER, "save IA32_EFER"},       {VMX_EXIT_LOAD_EFER, "load IA32_EFER"},
};
static const struct control entry_controls[] = {
    {VMX_ENTRY_LOAD_DEBUG, "load debug controls"},
    {VMX_ENTRY_IA32E, "IA-32e mode guest"},
    {VMX_ENTRY_LOAD_PAT, "load IA32_PAT"},
    {VMX_ENTRY_LOAD_EFER, "load IA32_EFER"},
};

/* A capability MSR has the forced bits in its low half and the allowed ones in its high half. */
static int require(u32 msr, const struct control *want, u32 count, const char *group, u32 *out, char *why, size_t size)
{
	u64 cap = rdmsr(msr);
	u32 value = (u32)cap;

	for (u32 i = 0; i < count; i++) {
		if (!(cap >> 32 & want[i].bit)) {
			format_buf(why, size, "VMX: %s control missing: \"%s\" (MSR %#x = %#lx)", group, want[i].name,
				   msr, cap);
			return E_NOSYS;
		}
		value |= (u32)want[i].bit;
	}
	*out = value;
	return 0;
}

static int probe_controls(char *why, size_t size)
{
	struct vmx_machine *m = &vmx_machine;
	int err;

#define REQUIRE(msr, list, group, out) require(msr, list, ARRAY_SIZE(list), group, out, why, size)
	err = REQUIRE(MSR_IA32_VMX_TRUE_PINBASED_CTLS, pin_controls, "pin-based", &m->pin);
	if (!err)
		err = REQUIRE(MSR_IA32_VMX_TRUE_PROCBASED_CTLS, cpu_controls, "processor-based", &m->cpu);
	if (!err)
		err = REQUIRE(MSR_IA32_VMX_PROCBASED_CTLS2, cpu2_controls, "secondary processor-based", &m->cpu2);
	if (!err)
		err = REQUIRE(MSR_IA32_VMX_TRUE_EXIT_CTLS, exit_controls, "VM-exit", &m->exit);
	if (!err)
		err = REQUIRE(MSR_IA32_VMX_TRUE_ENTRY_CTLS, entry_controls, "VM-entry", &m->entry);
#undef REQUIRE
	if (err)
		return err;
	if (m->cpu & (VMX_CPU_CR3_LOAD | VMX_CPU_CR3_STORE))
		return missing(why, size, "CR3 accesses cannot be left to guests (IA32_VMX_TRUE_PROCBASED_CTLS)");
	/* Wanted, but a processor without it only lets a guest slow itself down. */
	m->cpu2 |= rdmsr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32 & VMX_CPU2_WBINVD;
	if (rdmsr(MSR_IA32_VMX_TRUE_PINBASED_CTLS) >> 32 & VMX_PIN_TIMER)
		m->timer_ticks = (u32)(cpu_tsc_khz() >> VMX_MISC_TIMER_SHIFT(rdmsr(MSR_IA32_VMX_MISC))) + 1;
	/* Set by each vCPU as its mode is. */
	m->entry &= ~(u32)VMX_ENTRY_IA32E;
	m->cpu &= ~(u32)VMX_CPU_INTERRUPT_WINDOW;
	return 0;
}

static int probe_ept(struct hv_caps *caps, char *why, size_t size)
{
	struct vmx_machine *m = &vmx_machine;
	u64 cap = rdmsr(MSR_IA32_VMX_EPT_VPID_CAP);
	const u64 vpid_caps = EPT_CAP_INVVPID | EPT_CAP_INVVPID_SINGLE | EPT_CAP_INVVPID_ALL;

	if (!(cap & EPT_CAP_WALK4))
		return missing(why, size, "EPT page-walk length of 4 missing (IA32_VMX_EPT_VPID_CAP.6)");
	if (!(cap & EPT_CAP_WB))
		return missing(why, size, "write-back EPT structures missing (IA32_VMX_EPT_VPID_CAP.14)");
	if (!(cap & EPT_CAP_2M))
		return missing(why, size, "2-MByte EPT pages missing (IA32_VMX_EPT_VPID_CAP.16)");
	if (!(cap & EPT_CAP_INVEPT) || !(cap & EPT_CAP_INVEPT_SINGLE) || !(cap & EPT_CAP_INVEPT_ALL))
		return missing(why, size, "INVEPT missing (IA32_VMX_EPT_VPID_CAP.20, 25, 26)");
	m->ad_bits = cap & EPT_CAP_AD;
	m->vpid = rdmsr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32 & VMX_CPU2_VPID && (cap & vpid_caps) == vpid_caps;
	if (m->vpid)
		m->cpu2 |= VMX_CPU2_VPID;
	caps->asids = m->vpid ? VPID_LAST : 0;
	caps->ad_bits = m->ad_bits;
	caps->large_2m = true;
	caps->large_1g = cap & EPT_CAP_1G;
	caps->npt = m->ad_bits ? &vmx_ept_format : &vmx_ept_format_no_ad;
	return 0;
}

/*
 * Which CR0 and CR4 bits a guest may really have. CD and NW are never the guest's: VM entry and exit do not switch them
 * (SDM "Loading Guest Control Registers"), so a guest that set them would slow the host; it sees them in the shadow.
 * MCE stays set, or a machine check in a guest would be a shutdown of the machine.
 */
static void probe_owned(void)
{
	u64 cr0_fixed = rdmsr(MSR_IA32_VMX_CR0_FIXED0) | ~rdmsr(MSR_IA32_VMX_CR0_FIXED1);
	u64 cr4_free = hv_cr4_allowed() & rdmsr(MSR_IA32_VMX_CR4_FIXED1) & ~rdmsr(MSR_IA32_VMX_CR4_FIXED0);

	vmx_machine.cr0_owned = (cr0_fixed & ~(CR0_PE | CR0_PG)) | CR0_NE | CR0_CD | CR0_NW;
	vmx_machine.cr4_owned = ~cr4_free | CR4_MCE;
}

int vmx_probe(struct hv_caps *caps, char *why, size_t size)
{
	u64 basic, feature;
	int err;

	if (!(cpuid(1, 0).ecx & BIT(5)))
		return missing(why, size, "not supported (CPUID.1:ECX.VMX)");
	feature = rdmsr(MSR_IA32_FEATURE_CONTROL);
	if (feature & FEATURE_CONTROL_LOCKED && !(feature & FEATURE_CONTROL_VMXON_OUTSIDE_SMX))
		return missing(why, size, "disabled and locked by firmware (IA32_FEATURE_CONTROL.2)");
	basic = rdmsr(MSR_IA32_VMX_BASIC);
	if (!(basic & VMX_BASIC_TRUE_CONTROLS))
		return missing(why, size, "true controls missing (IA32_VMX_BASIC.55)");
	*caps =
	    (struct hv_caps){.vendor = "VMX", .unrestricted = true, .nrip = true, .hypercall_insn = {0x0f, 0x01, 0xc1}};
	vmx_machine.revision = VMX_BASIC_REVISION(basic);
	err = probe_controls(why, size);
	if (!err)
		err = probe_ept(caps, why, size);
	if (!err)
		probe_owned();
	return err;
}

/* Passed through: what the VMCS switches (FS, GS base, SYSENTER, PAT) and the lazily switched ones. */
static int make_bitmap(void)
{
	static const u32 pass[] = {
	    MSR_FS_BASE,
	    MSR_GS_BASE,
	    MSR_KERNEL_GS_BASE,
	    MSR_STAR,
	    MSR_LSTAR,
	    MSR_CSTAR,
	    MSR_SFMASK,
	    MSR_IA32_SYSENTER_CS,
	    MSR_IA32_SYSENTER_ESP,
	    MSR_IA32_SYSENTER_EIP,
	    MSR_IA32_PAT,
	};
	hfn_t hfn = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, false);
	u8 *map;

	if (hfn == HFN_NONE)
		return E_NOMEM;
	map = mm_hfn_to_va(hfn);
	memset(map, 0xff, PAGE_SIZE);
	for (u32 i = 0; i < ARRAY_SIZE(pass); i++) {
		u32 at = (pass[i] & 0x1fff) / 8 + (pass[i] >= 0xc0000000 ? MSR_BITMAP_HIGH : 0);

		map[at] &= (u8)~BIT(pass[i] % 8);
		map[at + MSR_BITMAP_WRITE] &= (u8)~BIT(pass[i] % 8);
	}
	vmx_machine.msr_bitmap_pa = hfn_to_hpa(hfn).v;
	return 0;
}

/* VMXON with a region of the right revision. Control registers must have their fixed bits; E_NOSYS names one that has
 * not. */
static int enter_vmx(hfn_t region, char *why, size_t size)
{
	u64 pa = hfn_to_hpa(region).v, feature = rdmsr(MSR_IA32_FEATURE_CONTROL);
	u8 failed;

	if (!(feature & FEATURE_CONTROL_LOCKED))
		wrmsr(MSR_IA32_FEATURE_CONTROL, feature | FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON_OUTSIDE_SMX);
	*(u32 *)mm_hfn_to_va(region) = vmx_machine.revision;
	write_cr0((read_cr0() | rdmsr(MSR_IA32_VMX_CR0_FIXED0)) & rdmsr(MSR_IA32_VMX_CR0_FIXED1));
	write_cr4((read_cr4() | rdmsr(MSR_IA32_VMX_CR4_FIXED0)) & rdmsr(MSR_IA32_VMX_CR4_FIXED1));
	__asm__ volatile("vmxon %1; setna %0" : "=q"(failed) : "m"(pa) : "cc", "memory");
	return failed ? missing(why, size, "VMXON failed") : 0;
}

int vmx_cpu_on(char *why, size_t size)
{
	hfn_t self = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	hfn_t region = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	struct vmx_cpu *c;
	int err = E_NOMEM;

	format_buf(why, size, "VMX: no memory for control structures");
	if (self != HFN_NONE && region != HFN_NONE)
		err = vmx_machine.msr_bitmap_pa ? 0 : make_bitmap();
	if (!err) {
		hv_cpu_setup();
		err = enter_vmx(region, why, size);
	}
	if (err) {
		if (self != HFN_NONE)
			frame_free(self, 0);
		if (region != HFN_NONE)
			frame_free(region, 0);
		return err;
	}
	c = mm_hfn_to_va(self);
	c->vmxon = region;
	asid_pool_init(&c->common.asids, VPID_LAST, true);
	this_cpu()->hv = c;
	return 0;
}

void vmx_cpu_off(void)
{
	struct vmx_cpu *c = this_cpu()->hv;

	if (!c)
		return;
	CHECK(!c->common.fpu && !c->common.live);
	__asm__ volatile("vmxoff" : : : "cc", "memory");
	write_cr4(read_cr4() & ~CR4_VMXE);
	this_cpu()->hv = NULL;
	frame_free(c->vmxon, 0);
	frame_free(mm_va_to_hfn(c), 0);
}
