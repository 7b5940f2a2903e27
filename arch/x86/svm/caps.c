/* What this processor's SVM can do, and switching it on and off on a CPU. */
#include "arch/x86/cpu.h"
#include "arch/x86/svm/svm.h"
#include "lib/err.h"
#include "lib/format.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define IOPM_ORDER     2      /* 12 KiB of 16 */
#define MSRPM_ORDER    1      /* 8 KiB */
#define MSRPM_C0000000 0x800U /* byte offset of the bits of MSR C0000000 and up */

struct svm_machine svm_machine;

static int missing(char *why, size_t size, const char *what)
{
	format_buf(why, size, "SVM: %s", what);
	return E_NOSYS;
}

int svm_probe(struct hv_caps *caps, char *why, size_t size)
{
	struct cpuid_result ext1, svm;

	if (cpuid(0x80000000, 0).eax < 0x8000000a || !(cpuid(0x80000001, 0).ecx & BIT(2)))
		return missing(why, size, "not supported (CPUID.80000001:ECX.SVM)");
	ext1 = cpuid(0x80000001, 0);
	svm = cpuid(0x8000000a, 0);
	if (rdmsr(MSR_VM_CR) & VM_CR_SVMDIS)
		return missing(why, size, "disabled by firmware (VM_CR.SVMDIS)");
	if (!(svm.edx & SVM_FEATURE_NP))
		return missing(why, size, "nested paging missing (CPUID.8000000A:EDX.NP)");
	if (svm.ebx < 2)
		return missing(why, size, "no address-space identifiers (CPUID.8000000A:EBX.NASID)");
	svm_machine.asids = svm.ebx;
	svm_machine.nrip = svm.edx & SVM_FEATURE_NRIPS;
	svm_machine.decode_assists = svm.edx & SVM_FEATURE_DECODE_ASSISTS;
	svm_machine.flush_by_asid = svm.edx & SVM_FEATURE_FLUSH_BY_ASID;
	svm_machine.invpcid = cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx & BIT(10);
	svm_machine.cr4_allowed = hv_cr4_allowed();
	*caps = (struct hv_caps){
	    .vendor = "SVM",
	    .asids = svm.ebx - 1,
	    .ad_bits = true,
	    .large_2m = true,
	    .large_1g = ext1.edx & BIT(26),
	    .unrestricted = true,
	    .nrip = svm_machine.nrip,
	    .npt = &svm_npt_format,
	    .hypercall_insn = {0x0f, 0x01, 0xd9},
	};
	return 0;
}

static void msr_pass(u8 *map, u32 msr)
{
	u32 bit = msr >= 0xc0000000 ? MSRPM_C0000000 * 8 + (msr - 0xc0000000) * 2 : msr * 2;

	map[bit / 8] &= (u8) ~(3U << bit % 8);
}

/*
 * One pair of permission maps for all guests. Passed through are registers that VMLOAD/VMSAVE or the VMCB switch; every
 * other MSR and every port exits.
 */
static int make_maps(void)
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
	hfn_t io = frame_alloc(IOPM_ORDER, FRAME_FOR_HV, FRAME_HV, false);
	hfn_t msr = frame_alloc(MSRPM_ORDER, FRAME_FOR_HV, FRAME_HV, false);

	if (io == HFN_NONE || msr == HFN_NONE) {
		if (io != HFN_NONE)
			frame_free(io, IOPM_ORDER);
		if (msr != HFN_NONE)
			frame_free(msr, MSRPM_ORDER);
		return E_NOMEM;
	}
	memset(mm_hfn_to_va(io), 0xff, PAGE_SIZE << IOPM_ORDER);
	memset(mm_hfn_to_va(msr), 0xff, PAGE_SIZE << MSRPM_ORDER);
	for (u32 i = 0; i < ARRAY_SIZE(pass); i++)
		msr_pass(mm_hfn_to_va(msr), pass[i]);
	svm_machine.iopm_pa = hfn_to_hpa(io).v;
	svm_machine.msrpm_pa = hfn_to_hpa(msr).v;
	return 0;
}

static int alloc_cpu(struct svm_cpu **out)
{
	hfn_t self = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	hfn_t host = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	hfn_t hsave = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
	hfn_t all[] = {self, host, hsave};

	if (self == HFN_NONE || host == HFN_NONE || hsave == HFN_NONE) {
		for (u32 i = 0; i < ARRAY_SIZE(all); i++)
			if (all[i] != HFN_NONE)
				frame_free(all[i], 0);
		return E_NOMEM;
	}
	*out = mm_hfn_to_va(self);
	(*out)->host_hfn = host;
	(*out)->hsave_hfn = hsave;
	(*out)->host_pa = hfn_to_hpa(host).v;
	return 0;
}

int svm_cpu_on(char *why, size_t size)
{
	struct svm_cpu *c;
	int err = svm_machine.iopm_pa ? 0 : make_maps();

	if (!err)
		err = alloc_cpu(&c);
	if (err) {
		format_buf(why, size, "SVM: no memory for control structures");
		return err;
	}
	hv_cpu_setup();
	asid_pool_init(&c->common.asids, svm_machine.asids - 1, svm_machine.flush_by_asid);
	/* Nested tables use the host's EFER.NXE (AMD APM "Nested Paging and VMRUN/#VMEXIT"). */
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME | EFER_NXE);
	wrmsr(MSR_VM_HSAVE_PA, hfn_to_hpa(c->hsave_hfn).v);
	__asm__ volatile("vmsave" : : "a"(c->host_pa) : "memory");
	this_cpu()->hv = c;
	return 0;
}

void svm_cpu_off(void)
{
	struct svm_cpu *c = this_cpu()->hv;

	if (!c)
		return;
	CHECK(!c->common.fpu && !c->common.live);
	wrmsr(MSR_VM_HSAVE_PA, 0);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SVME);
	this_cpu()->hv = NULL;
	frame_free(c->host_hfn, 0);
	frame_free(c->hsave_hfn, 0);
	frame_free(mm_va_to_hfn(c), 0);
}
