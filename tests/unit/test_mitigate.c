/*
 * arch/x86/mitigate.c: what real processors need, by what they say of themselves (with the microcode that names the
 * fixes, and without).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/x86/last_guest.h"
#include "arch/x86/mitigate.h"
#include "lib/prng.h"
#include "lib/string.h"

/* CPUID.7:EDX of microcode with IBRS and IBPB, L1D flush and MD_CLEAR; ARCH_CAPABILITIES as these parts have them. */
#define SPEC     (BIT(26) | BIT(27) | BIT(31))
#define L1D      BIT(28)
#define MD       BIT(10)
#define CAPS     BIT(29)
#define RDCL_NO  BIT(0)
#define IBRS_ALL BIT(1)
#define RSBA     BIT(2)
#define SKIP_L1D BIT(3)
#define MDS_NO   BIT(5)
#define TAA_NO   BIT(8)
#define FBSDP_NO BIT(14)
#define FB_CLEAR BIT(17)
#define BHI_NO   BIT(20)
#define PBRSB_NO BIT(24)
#define RFDS_NO  BIT(27)
#define RFDS_CLR BIT(28)
/* CPUID.80000008:EBX and 80000021:EAX */
#define IBPB     BIT(12)
#define BTC_NO   BIT(29)
#define IBPB_RET BIT(30)
#define VERW_CLR BIT(5)
#define AUTOIBRS BIT(8)
#define BRTYPE   BIT(28)
#define SRSO_NO  BIT(29)

static const struct {
	const char *name;
	struct mitigate_cpu cpu;
	const char *in_force, *exposed;
} cpus[] = {
    {"Nehalem, no microcode", {MITIGATE_INTEL, 6, 0x1a, .smt = true}, "retpoline rsb", "ibpb l1tf mds smt"},
    {"Haswell",
     {MITIGATE_INTEL, 6, 0x3c, .smt = true, .edx7 = SPEC | L1D | MD},
     "retpoline ibpb-switch rsb l1d-flush verw",
     "smt"},
    {"Broadwell, no SMT",
     {MITIGATE_INTEL, 6, 0x4f, .edx7 = SPEC | L1D | MD},
     "retpoline ibpb-switch rsb l1d-flush verw",
     "none"},
    {"Skylake-SP",
     {MITIGATE_INTEL, 6, 0x55, .smt = true, .edx7 = SPEC | L1D | MD},
     "ibrs ibpb-switch rsb l1d-flush verw",
     "smt"},
    {"Skylake-SP as Bochs shows it", {MITIGATE_INTEL, 6, 0x55, .smt = false}, "retpoline rsb", "ibpb returns l1tf mds"},
    {"Coffee Lake, flushed by a hypervisor below",
     {MITIGATE_INTEL, 6, 0x9e, .edx7 = SPEC | L1D | MD | CAPS, .arch_caps = SKIP_L1D | RSBA},
     "ibrs ibpb-switch rsb verw",
     "none"},
    {"Cascade Lake",
     {MITIGATE_INTEL, 6, 0x55, .smt = true, .edx7 = SPEC | L1D | MD | CAPS,
      .arch_caps = RDCL_NO | IBRS_ALL | SKIP_L1D | MDS_NO | FB_CLEAR},
     "enhanced-ibrs ibpb-switch rsb-one verw",
     "bhi"},
    {"Ice Lake-SP",
     {MITIGATE_INTEL, 6, 0x6a, .smt = true, .edx7 = SPEC | L1D | MD | CAPS, .edx7_2 = 0,
      .arch_caps = RDCL_NO | IBRS_ALL | SKIP_L1D | MDS_NO | TAA_NO | FB_CLEAR},
     "enhanced-ibrs ibpb-switch rsb-one verw",
     "bhi"},
    {"Sapphire Rapids",
     {MITIGATE_INTEL, 6, 0x8f, .smt = true, .edx7 = SPEC | L1D | MD | CAPS, .edx7_2 = BIT(4),
      .arch_caps = RDCL_NO | IBRS_ALL | SKIP_L1D | MDS_NO | TAA_NO | FBSDP_NO | PBRSB_NO | RFDS_NO},
     "enhanced-ibrs ibpb-switch bhi-dis",
     "none"},
    {"Gracemont",
     {MITIGATE_INTEL, 6, 0xbe, .edx7 = SPEC | L1D | MD | CAPS, .edx7_2 = BIT(4),
      .arch_caps = RDCL_NO | IBRS_ALL | SKIP_L1D | MDS_NO | TAA_NO | FBSDP_NO | PBRSB_NO | RFDS_CLR},
     "enhanced-ibrs ibpb-switch bhi-dis verw",
     "none"},
    {"Goldmont", {MITIGATE_INTEL, 6, 0x5c, .edx7 = SPEC | MD}, "retpoline ibpb-switch rsb", "none"},
    {"Silvermont", {MITIGATE_INTEL, 6, 0x37, .edx7 = SPEC | MD}, "retpoline ibpb-switch rsb verw", "none"},
    {"Bonnell", {MITIGATE_INTEL, 6, 0x1c, .smt = true}, "none", "none"},
    {"Quark", {MITIGATE_INTEL, 5, 9, .smt = false}, "none", "none"},
    {"Opteron (K10)", {MITIGATE_AMD, 0x10, 2, .smt = false}, "retpoline rsb", "ibpb"},
    {"Opteron (Bulldozer)", {MITIGATE_AMD, 0x15, 2, .ebx_ext8 = IBPB}, "retpoline ibpb-switch ibpb-exit rsb", "none"},
    {"EPYC (Zen 1)",
     {MITIGATE_AMD, 0x17, 1, .smt = true, .ebx_ext8 = IBPB},
     "retpoline ibpb-switch ibpb-exit rsb",
     "none"},
    {"EPYC as QEMU shows it", {MITIGATE_AMD, 0x17, 1, .smt = false}, "retpoline rsb", "ibpb returns"},
    {"EPYC (Zen 2)",
     {MITIGATE_AMD, 0x17, 0x31, .smt = true, .ebx_ext8 = IBPB},
     "retpoline ibpb-switch ibpb-exit rsb",
     "none"},
    {"EPYC (Zen 3), old microcode",
     {MITIGATE_AMD, 0x19, 1, .ebx_ext8 = IBPB | BTC_NO},
     "retpoline ibpb-switch rsb",
     "returns mds"},
    {"EPYC (Zen 3)",
     {MITIGATE_AMD, 0x19, 1, .ebx_ext8 = IBPB | BTC_NO | IBPB_RET, .eax_ext21 = BRTYPE | VERW_CLR},
     "retpoline ibpb-switch ibpb-exit rsb verw",
     "none"},
    {"EPYC (Zen 4)",
     {MITIGATE_AMD, 0x19, 0x11, .ebx_ext8 = IBPB | BTC_NO | IBPB_RET, .eax_ext21 = AUTOIBRS | BRTYPE | VERW_CLR},
     "automatic-ibrs ibpb-switch ibpb-exit verw",
     "none"},
    {"EPYC (Zen 5)",
     {MITIGATE_AMD, 0x1a, 2, .ebx_ext8 = IBPB | BTC_NO | IBPB_RET, .eax_ext21 = AUTOIBRS | SRSO_NO | BRTYPE},
     "automatic-ibrs ibpb-switch",
     "none"},
    {"Hygon Dhyana", {MITIGATE_HYGON, 0x18, 0, .ebx_ext8 = IBPB}, "retpoline ibpb-switch ibpb-exit rsb", "none"},
    {"another vendor", {MITIGATE_OTHER, 6, 0x55, .smt = false}, "retpoline rsb", "none"},
};

static void real_processors(void **state)
{
	char text[MITIGATE_TEXT];
	struct mitigations m;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(cpus); i++) {
		print_message("%s\n", cpus[i].name);
		mitigate_decide(&cpus[i].cpu, MITIGATE_AUTO, &m);
		mitigate_describe(&m, text, sizeof(text));
		assert_string_equal(text, cpus[i].in_force);
		mitigate_describe_exposed(&m, text, sizeof(text));
		assert_string_equal(text, cpus[i].exposed);
		assert_int_equal(m.mode, MITIGATE_AUTO);
	}
}

/* Off is off everywhere; full never does less than auto, and writes no register that is not enumerated. */
static void modes(void **state)
{
	struct mitigations a, f, off;
	char text[MITIGATE_TEXT];

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(cpus); i++) {
		const struct mitigate_cpu *c = &cpus[i].cpu;
		bool ibpb = c->vendor == MITIGATE_INTEL ? c->edx7 & BIT(26) : c->ebx_ext8 & IBPB;

		mitigate_decide(c, MITIGATE_AUTO, &a);
		mitigate_decide(c, MITIGATE_FULL, &f);
		mitigate_decide(c, MITIGATE_OFF, &off);
		mitigate_describe(&off, text, sizeof(text));
		assert_string_equal(text, "none");
		mitigate_describe_exposed(&off, text, sizeof(text));
		assert_string_equal(text, "unknown");
		assert_true(f.ibpb_switch >= a.ibpb_switch && f.ibpb_exit >= a.ibpb_exit && f.rsb >= a.rsb &&
			    f.l1d >= a.l1d && f.verw >= a.verw && f.branch >= a.branch);
		assert_int_equal(f.exposed, a.exposed);
		assert_int_equal(f.ibpb_switch, ibpb);
		assert_int_equal(f.l1d, (c->edx7 & L1D) != 0);
		assert_true(f.branch != BRANCH_IBRS || c->edx7 & BIT(26));
		assert_true(f.branch != BRANCH_EIBRS || c->arch_caps & IBRS_ALL);
		assert_true(f.branch != BRANCH_AUTOIBRS || c->eax_ext21 & AUTOIBRS);
	}
}

static void words(void **state)
{
	const struct mitigations all = {.branch = BRANCH_AUTOIBRS,
					.ibpb_switch = true,
					.ibpb_exit = true,
					.rsb = true,
					.rsb_one = true,
					.bhi_dis = true,
					.l1d = true,
					.verw = true,
					.exposed = ~0U};
	enum mitigate_mode mode = MITIGATE_AUTO;
	char text[MITIGATE_TEXT];

	(void)state;
	mitigate_describe(&all, text, sizeof(text));
	assert_string_equal(text, "automatic-ibrs ibpb-switch ibpb-exit rsb bhi-dis l1d-flush verw");
	mitigate_describe_exposed(&all, text, sizeof(text));
	assert_string_equal(text, "ibpb returns bhi l1tf mds smt");
	assert_true(mitigate_parse_mode("off", &mode) && mode == MITIGATE_OFF);
	assert_true(mitigate_parse_mode("full", &mode) && mode == MITIGATE_FULL);
	assert_true(mitigate_parse_mode("auto", &mode) && mode == MITIGATE_AUTO);
	assert_false(mitigate_parse_mode("", &mode) || mitigate_parse_mode("on", &mode));
	assert_string_equal(mitigate_mode_name(MITIGATE_FULL), "full");
}

/* What ran on one CPU, in turn, and whether an IBPB is due before it. */
static void barrier_between_guests(void **state)
{
	enum { A = 100, B = 101 };
	static const struct {
		const char *what;
		struct guest_mark vcpu;
		u64 births;
		bool due;
	} runs[] = {
	    {"the first", {A, 1}, 4, true}, /* A has vCPUs 1 and 2, B 3 and 4 */
	    {"the same again", {A, 1}, 4, false},
	    {"its sibling", {A, 2}, 4, false},
	    {"another VM's", {B, 3}, 4, true},
	    {"its sibling", {B, 4}, 4, false},
	    {"back", {A, 2}, 4, true},
	    {"sibling, while other VMs began elsewhere", {A, 1}, 9, false},
	    {"one of those", {102, 8}, 9, true},
	    {"A", {A, 1}, 9, true},
	    {"A has ended, its root's frame is the next one's", {A, 10}, 11, true},
	    {"its sibling", {A, 11}, 11, false},
	    {"again in the same frame, nobody between", {A, 12}, 12, true},
	    {"it alone", {A, 12}, 500, false},
	};
	struct guest_mark last = {0};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(runs); i++) {
		print_message("%s\n", runs[i].what);
		assert_int_equal(last_guest_is_other(&last, &runs[i].vcpu, runs[i].births), runs[i].due);
	}
}

/*
 * VMs begin and end at random in a few frames, and run on two CPUs: a barrier whenever the VM is another one, and never
 * else.
 */
static void barrier_for_any_history(void **state)
{
	enum { FRAMES = 4, VCPUS = 3, CPUS = 2 };
	struct {
		u64 vm;
		struct guest_mark vcpu[VCPUS];
	} live[FRAMES] = {0};
	struct guest_mark last[CPUS] = {0};
	u64 ran[CPUS] = {0}, births = 0, vms = 0;
	struct prng p;

	(void)state;
	prng_seed(&p, 7);
	for (u32 i = 0; i < 20000; i++) {
		u32 at = (u32)prng_below(&p, FRAMES), cpu = (u32)prng_below(&p, CPUS);

		if (!live[at].vm || !prng_below(&p, 8)) {
			live[at].vm = ++vms;
			for (u32 n = 0; n < VCPUS; n++)
				live[at].vcpu[n] = (struct guest_mark){10 + at, ++births};
		}
		assert_int_equal(last_guest_is_other(&last[cpu], &live[at].vcpu[prng_below(&p, VCPUS)], births),
				 ran[cpu] != live[at].vm);
		ran[cpu] = live[at].vm;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(real_processors),
	    cmocka_unit_test(modes),
	    cmocka_unit_test(words),
	    cmocka_unit_test(barrier_between_guests),
	    cmocka_unit_test(barrier_for_any_history),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
