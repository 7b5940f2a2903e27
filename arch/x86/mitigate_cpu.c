/* Mitigations on the machine: asking the processor, and putting in force what mitigate.c decides. */
#include "arch/x86/asm.h"
#include "arch/x86/desc.h"
#include "arch/x86/mitigate.h"
#include "lib/log.h"
#include "lib/string.h"

#define MSR_IA32_SPEC_CTRL         0x48U
#define SPEC_CTRL_IBRS             BIT(0)
#define SPEC_CTRL_BHI_DIS_S        BIT(10)
#define MSR_IA32_PRED_CMD          0x49U
#define PRED_CMD_IBPB              BIT(0)
#define MSR_IA32_ARCH_CAPABILITIES 0x10aU
#define MSR_IA32_FLUSH_CMD         0x10bU
#define FLUSH_CMD_L1D              BIT(0)
#define EFER_AIBRSE                BIT(21)
#define CPUID_7_EDX_ARCH_CAPS      BIT(29)

/* mitigate.inc */
#define EXIT_RSB     1U
#define EXIT_RSB_ONE 2U
#define EXIT_IBRS    4U
#define EXIT_IBPB    8U
#define ENTRY_VERW   1U
#define ENTRY_IBRS   2U

#define THUNK_BYTES  32U
#define REG_RSP      4U
#define REGS         16U

u8 mitigate_exit, mitigate_entry;
const u16 mitigate_selector = SEL_DATA;
extern u8 mitigate_thunks[]; /* thunk.asm */

static enum mitigate_vendor vendor_of(const struct cpuid_result *r)
{
	char name[12];

	memcpy(name, (u32[]){r->ebx, r->edx, r->ecx}, sizeof(name));
	if (!memcmp(name, "GenuineIntel", sizeof(name)))
		return MITIGATE_INTEL;
	if (!memcmp(name, "AuthenticAMD", sizeof(name)))
		return MITIGATE_AMD;
	return memcmp(name, "HygonGenuine", sizeof(name)) ? MITIGATE_OTHER : MITIGATE_HYGON;
}

static bool has_smt(enum mitigate_vendor vendor, u32 basic, u32 ext)
{
	if (vendor == MITIGATE_INTEL)
		return basic >= 0xb && (cpuid(0xb, 0).ebx & 0xffff) > 1;
	return ext >= 0x8000001e && (cpuid(0x8000001e, 0).ebx >> 8 & 0xff) > 0;
}

static void ask(struct mitigate_cpu *c)
{
	struct cpuid_result zero = cpuid(0, 0), one = cpuid(1, 0), r;
	u32 ext = cpuid(0x80000000U, 0).eax, family = one.eax >> 8 & 15;

	*c = (struct mitigate_cpu){.vendor = vendor_of(&zero), .family = family, .model = one.eax >> 4 & 15};
	if (family == 15)
		c->family += one.eax >> 20 & 0xff;
	if (family == 6 || family == 15)
		c->model |= one.eax >> 12 & 0xf0;
	c->smt = has_smt(c->vendor, zero.eax, ext);
	if (zero.eax >= 7) {
		r = cpuid(7, 0);
		c->edx7 = r.edx;
		c->edx7_2 = r.eax >= 2 ? cpuid(7, 2).edx : 0;
	}
	if (c->edx7 & CPUID_7_EDX_ARCH_CAPS)
		c->arch_caps = rdmsr(MSR_IA32_ARCH_CAPABILITIES);
	if (ext >= 0x80000008U)
		c->ebx_ext8 = cpuid(0x80000008U, 0).ebx;
	if (ext >= 0x80000021U) {
		r = cpuid(0x80000021U, 0);
		c->eax_ext21 = r.eax;
		c->ecx_ext21 = r.ecx;
	}
}

/* JMP by register over the beginning of each thunk. One CPU runs; CPUID makes it forget what it has fetched. */
static void plain_thunks(void)
{
	u8 *thunk = mitigate_thunks;

	for (u32 reg = 0; reg < REGS; reg++) {
		u8 *at = thunk;

		if (reg == REG_RSP)
			continue;
		if (reg >= 8)
			*at++ = 0x41;
		*at++ = 0xff;
		*at++ = 0xe0 | (reg & 7);
		*at = 0xcc;
		thunk += THUNK_BYTES;
	}
	cpuid(0, 0);
}

void mitigate_init(enum mitigate_mode mode)
{
	struct mitigations *m = &mitigations;
	struct mitigate_cpu c;

	ask(&c);
	mitigate_decide(&c, mode, m);
	if (m->branch != BRANCH_RETPOLINE)
		plain_thunks();
	mitigate_exit = (m->rsb ? EXIT_RSB : 0) | (m->rsb_one ? EXIT_RSB_ONE : 0) | (m->ibpb_exit ? EXIT_IBPB : 0) |
			(m->branch == BRANCH_IBRS ? EXIT_IBRS : 0);
	mitigate_entry = (m->verw ? ENTRY_VERW : 0) | (m->branch == BRANCH_IBRS ? ENTRY_IBRS : 0);
}

void mitigate_cpu_on(void)
{
	if (mitigations.branch == BRANCH_EIBRS)
		wrmsr(MSR_IA32_SPEC_CTRL, SPEC_CTRL_IBRS | (mitigations.bhi_dis ? SPEC_CTRL_BHI_DIS_S : 0));
	if (mitigations.branch == BRANCH_AUTOIBRS)
		wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_AIBRSE);
}

void mitigate_switch(void)
{
	if (mitigations.ibpb_switch)
		wrmsr(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
}

void mitigate_flush_l1d(void)
{
	if (unlikely(mitigations.l1d))
		wrmsr(MSR_IA32_FLUSH_CMD, FLUSH_CMD_L1D);
}
