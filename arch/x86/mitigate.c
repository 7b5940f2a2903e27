/*
 * Which mitigations a processor needs. Pure: tests/unit/test_mitigate.c has a table of processors. Register bits are
 * used only where CPUID or ARCH_CAPABILITIES enumerates them; an emulator that does not have them gets what software
 * alone can do.
 */
#include "arch/x86/mitigate.h"

#include "lib/format.h"
#include "lib/string.h"

/* CPUID.(7,0):EDX */
#define EDX7_MD_CLEAR   BIT(10)
#define EDX7_SPEC_CTRL  BIT(26) /* IBRS and IBPB */
#define EDX7_L1D_FLUSH  BIT(28)
#define EDX7_2_BHI_CTRL BIT(4)
/* IA32_ARCH_CAPABILITIES */
#define CAP_RDCL_NO    BIT(0)
#define CAP_IBRS_ALL   BIT(1)
#define CAP_RSBA       BIT(2)
#define CAP_SKIP_L1DFL BIT(3) /* a hypervisor below does it */
#define CAP_MDS_NO     BIT(5)
#define CAP_TAA_NO     BIT(8)
#define CAP_FBSDP_NO   BIT(14)
#define CAP_FB_CLEAR   BIT(17)
#define CAP_BHI_NO     BIT(20)
#define CAP_PBRSB_NO   BIT(24)
#define CAP_RFDS_NO    BIT(27)
#define CAP_RFDS_CLEAR BIT(28)
/* CPUID.80000008:EBX */
#define EXT8_IBPB     BIT(12)
#define EXT8_BTC_NO   BIT(29)
#define EXT8_IBPB_RET BIT(30)
/* CPUID.80000021 */
#define EXT21_VERW_CLEAR  BIT(5)
#define EXT21_AUTOIBRS    BIT(8)
#define EXT21_IBPB_BRTYPE BIT(28)
#define EXT21_SRSO_NO     BIT(29)
#define EXT21_TSA_NO      (BIT(1) | BIT(2)) /* ECX */

struct mitigations mitigations;

enum trait {
	IN_ORDER = BIT(0), /* does not speculate */
	NO_L1TF = BIT(1),
	NO_MDS = BIT(2),
	RSB_UNDERFLOW = BIT(3), /* returns fall back to the branch predictor: retpolines are not enough */
};

/* Family 6 processors of Intel that differ from the rest. */
static const struct {
	u8 model, traits;
} intel[] = {
    /* clang-format off */
    {0x1c, IN_ORDER}, {0x26, IN_ORDER}, {0x27, IN_ORDER}, {0x35, IN_ORDER}, {0x36, IN_ORDER}, /* Bonnell, Saltwell */
    {0x37, NO_L1TF}, {0x4a, NO_L1TF}, {0x4d, NO_L1TF}, {0x5a, NO_L1TF}, {0x5d, NO_L1TF}, /* Silvermont */
    {0x4c, NO_L1TF}, {0x75, NO_L1TF}, /* Airmont */
    {0x57, NO_L1TF}, {0x85, NO_L1TF}, /* Xeon Phi */
    {0x5c, NO_L1TF | NO_MDS}, {0x5f, NO_L1TF | NO_MDS}, {0x7a, NO_L1TF | NO_MDS}, /* Goldmont */
    {0x86, NO_L1TF | NO_MDS}, {0x96, NO_L1TF | NO_MDS}, {0x9c, NO_L1TF | NO_MDS}, /* Tremont */
    {0x4e, RSB_UNDERFLOW}, {0x5e, RSB_UNDERFLOW}, {0x55, RSB_UNDERFLOW}, /* Skylake, Cascade Lake */
    {0x8e, RSB_UNDERFLOW}, {0x9e, RSB_UNDERFLOW}, {0xa5, RSB_UNDERFLOW}, {0xa6, RSB_UNDERFLOW}, /* Kaby to Comet Lake */
    {0x66, RSB_UNDERFLOW}, /* Cannon Lake */
    /* clang-format on */
};

static u32 intel_traits(const struct mitigate_cpu *c)
{
	if (c->family != 6)
		return c->family < 6 ? IN_ORDER : NO_L1TF | NO_MDS;
	for (u32 i = 0; i < ARRAY_SIZE(intel); i++)
		if (intel[i].model == c->model)
			return intel[i].traits;
	return 0;
}

/* ---- Intel --------------------------------------------------------------- */

static void intel_branches(const struct mitigate_cpu *c, u32 traits, struct mitigations *m)
{
	bool spec_ctrl = c->edx7 & EDX7_SPEC_CTRL, unsafe = traits & RSB_UNDERFLOW || c->arch_caps & CAP_RSBA;

	m->ibpb_switch = spec_ctrl;
	m->exposed |= spec_ctrl ? 0 : EXPOSED_IBPB;
	if (spec_ctrl && c->arch_caps & CAP_IBRS_ALL) {
		m->branch = BRANCH_EIBRS;
		m->rsb_one = !(c->arch_caps & CAP_PBRSB_NO);
		m->bhi_dis = !(c->arch_caps & CAP_BHI_NO) && c->edx7_2 & EDX7_2_BHI_CTRL;
		if (!(c->arch_caps & CAP_BHI_NO) && !m->bhi_dis)
			m->exposed |= EXPOSED_BHI;
		return;
	}
	m->rsb = true;
	m->branch = unsafe && spec_ctrl ? BRANCH_IBRS : BRANCH_RETPOLINE;
	m->exposed |= unsafe && !spec_ctrl ? EXPOSED_RETURNS : 0;
}

/* MDS, TAA, MMIO stale data and RFDS all end with the same instruction. */
static bool intel_needs_verw(const struct mitigate_cpu *c, u32 traits)
{
	bool mds = !(traits & NO_MDS) && !(c->arch_caps & CAP_MDS_NO);
	bool taa = c->arch_caps & CAP_MDS_NO && !(c->arch_caps & CAP_TAA_NO) && c->edx7 & EDX7_MD_CLEAR;
	bool mmio = c->arch_caps & CAP_FB_CLEAR && !(c->arch_caps & CAP_FBSDP_NO);

	return mds || taa || mmio || (c->arch_caps & CAP_RFDS_CLEAR && !(c->arch_caps & CAP_RFDS_NO));
}

static void decide_intel(const struct mitigate_cpu *c, struct mitigations *m)
{
	u32 traits = intel_traits(c);
	bool means = c->edx7 & EDX7_MD_CLEAR || c->arch_caps & (CAP_FB_CLEAR | CAP_RFDS_CLEAR), l1tf, mds;

	if (traits & IN_ORDER)
		return;
	intel_branches(c, traits, m);
	l1tf = !(traits & NO_L1TF) && !(c->arch_caps & (CAP_RDCL_NO | CAP_SKIP_L1DFL));
	m->l1d = l1tf && c->edx7 & EDX7_L1D_FLUSH;
	m->exposed |= l1tf && !m->l1d ? EXPOSED_L1TF : 0;
	mds = intel_needs_verw(c, traits);
	m->verw = mds && means;
	m->exposed |= mds && !means ? EXPOSED_MDS : 0;
	if (c->smt && (l1tf || (mds && !(c->arch_caps & CAP_MDS_NO))))
		m->exposed |= EXPOSED_SMT;
}

/* ---- AMD, Hygon ---------------------------------------------------------- */

/* Returns may go where a guest has trained them to: on Zen 1 and 2 by branch type confusion, up to Zen 4 by SRSO. */
static void amd_returns(const struct mitigate_cpu *c, struct mitigations *m)
{
	bool zen12 = c->family == 0x17 || c->vendor == MITIGATE_HYGON, zen34 = c->family == 0x19;
	bool btc = (zen12 || c->family == 0x15 || c->family == 0x16) && !(c->ebx_ext8 & EXT8_BTC_NO);
	bool srso = (zen12 || zen34) && !(c->eax_ext21 & EXT21_SRSO_NO);
	/* On Zen 3 and 4 IBPB flushes what SRSO needs only with microcode that says so. */
	bool means = c->ebx_ext8 & EXT8_IBPB && (!zen34 || c->eax_ext21 & EXT21_IBPB_BRTYPE);

	m->ibpb_exit = (btc || srso) && means;
	m->exposed |= (btc || srso) && !means ? EXPOSED_RETURNS : 0;
}

static void decide_amd(const struct mitigate_cpu *c, struct mitigations *m)
{
	bool tsa = c->family == 0x19 && (c->ecx_ext21 & EXT21_TSA_NO) != EXT21_TSA_NO;

	m->ibpb_switch = c->ebx_ext8 & EXT8_IBPB;
	m->exposed |= m->ibpb_switch ? 0 : EXPOSED_IBPB;
	m->branch = c->eax_ext21 & EXT21_AUTOIBRS ? BRANCH_AUTOIBRS : BRANCH_RETPOLINE;
	amd_returns(c, m);
	m->rsb = m->branch == BRANCH_RETPOLINE;
	/* An IBPB leaves the return stack alone unless it says otherwise. */
	if (m->ibpb_exit && !(c->ebx_ext8 & EXT8_IBPB_RET))
		m->rsb = true;
	m->verw = tsa && c->eax_ext21 & EXT21_VERW_CLEAR;
	m->exposed |= tsa && !m->verw ? EXPOSED_MDS : 0;
}

/* ---- all ----------------------------------------------------------------- */

static void add_all(const struct mitigate_cpu *c, struct mitigations *m)
{
	bool ibpb = c->vendor == MITIGATE_INTEL ? c->edx7 & EDX7_SPEC_CTRL : c->ebx_ext8 & EXT8_IBPB;

	m->ibpb_switch = m->ibpb_exit = ibpb;
	m->rsb = true;
	m->l1d = c->edx7 & EDX7_L1D_FLUSH;
	m->verw = true; /* an old processor only looks at the selector */
	if (m->branch == BRANCH_PLAIN)
		m->branch = BRANCH_RETPOLINE;
}

void mitigate_decide(const struct mitigate_cpu *c, enum mitigate_mode mode, struct mitigations *out)
{
	struct mitigations m = {.mode = mode};

	if (c->vendor == MITIGATE_INTEL) {
		decide_intel(c, &m);
	} else if (c->vendor != MITIGATE_OTHER) {
		decide_amd(c, &m);
	} else { /* nothing is known of it: what needs nobody's help */
		m.branch = BRANCH_RETPOLINE;
		m.rsb = true;
	}
	if (mode == MITIGATE_FULL)
		add_all(c, &m);
	*out = mode == MITIGATE_OFF ? (struct mitigations){.mode = mode} : m;
}

/* ---- words --------------------------------------------------------------- */

static const char *const mode_name[] = {[MITIGATE_AUTO] = "auto", [MITIGATE_OFF] = "off", [MITIGATE_FULL] = "full"};

const char *mitigate_mode_name(enum mitigate_mode mode)
{
	return mode_name[mode];
}

bool mitigate_parse_mode(const char *word, enum mitigate_mode *mode)
{
	for (u32 i = 0; i < ARRAY_SIZE(mode_name); i++)
		if (str_eq(word, mode_name[i])) {
			*mode = i;
			return true;
		}
	return false;
}

static void add_word(char *buf, size_t size, bool on, const char *word)
{
	size_t n = strlen(buf);

	if (on)
		format_buf(buf + n, size - n, "%s%s", n ? " " : "", word);
}

void mitigate_describe(const struct mitigations *m, char *buf, size_t size)
{
	static const char *const branch[] = {[BRANCH_PLAIN] = "",
					     [BRANCH_RETPOLINE] = "retpoline",
					     [BRANCH_IBRS] = "ibrs",
					     [BRANCH_EIBRS] = "enhanced-ibrs",
					     [BRANCH_AUTOIBRS] = "automatic-ibrs"};

	buf[0] = '\0';
	add_word(buf, size, m->branch != BRANCH_PLAIN, branch[m->branch]);
	add_word(buf, size, m->ibpb_switch, "ibpb-switch");
	add_word(buf, size, m->ibpb_exit, "ibpb-exit");
	add_word(buf, size, m->rsb, "rsb");
	add_word(buf, size, m->rsb_one && !m->rsb, "rsb-one");
	add_word(buf, size, m->bhi_dis, "bhi-dis");
	add_word(buf, size, m->l1d, "l1d-flush");
	add_word(buf, size, m->verw, "verw");
	add_word(buf, size, !buf[0], "none");
}

void mitigate_describe_exposed(const struct mitigations *m, char *buf, size_t size)
{
	static const char *const name[EXPOSURES] = {"ibpb", "returns", "bhi", "l1tf", "mds", "smt"};

	buf[0] = '\0';
	for (u32 i = 0; i < EXPOSURES; i++)
		add_word(buf, size, m->exposed & BIT(i), name[i]);
	add_word(buf, size, !buf[0], m->mode == MITIGATE_OFF ? "unknown" : "none");
}
