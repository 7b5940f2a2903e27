/*
 * Mitigations of speculative execution: what a processor needs (worked out by a pure function from what it says of
 * itself), and what of that is in force. Guests are each other's attackers and the hypervisor's; the hypervisor has no
 * unprivileged code.
 *
 * Names: the manuals' (IBRS, IBPB, RSB, MD_CLEAR, L1D flush), as Linux and Xen use them. Sources: Intel "Speculative
 * Execution Side Channel Mitigations" and its list of affected processors; AMD "Software Techniques for Managing
 * Speculation", "Technical Guidance for Mitigating Branch Type Confusion", "Speculative Return Stack Overflow",
 * "Transient Scheduler Attacks".
 */
#ifndef ARCH_X86_MITIGATE_H
#define ARCH_X86_MITIGATE_H

#include "lib/types.h"

enum mitigate_vendor { MITIGATE_OTHER, MITIGATE_INTEL, MITIGATE_AMD, MITIGATE_HYGON };
enum mitigate_mode {
	MITIGATE_AUTO, /* what this processor needs */
	MITIGATE_OFF,
	MITIGATE_FULL, /* whatever this processor offers, needed or not */
};
/* How indirect branches of the hypervisor are kept from targets that a guest has trained. */
enum mitigate_branch {
	BRANCH_PLAIN,
	BRANCH_RETPOLINE,
	BRANCH_IBRS,     /* SPEC_CTRL.IBRS set at each exit, cleared before each entry */
	BRANCH_EIBRS,    /* enhanced IBRS: set once */
	BRANCH_AUTOIBRS, /* AMD automatic IBRS: set once in EFER */
};

/* What CPUID and IA32_ARCH_CAPABILITIES say; leaves and registers that do not exist are 0. */
struct mitigate_cpu {
	enum mitigate_vendor vendor;
	u32 family, model;
	bool smt;                 /* threads share a core */
	u32 edx7, edx7_2;         /* CPUID.(7,0):EDX, (7,2):EDX */
	u32 ebx_ext8;             /* CPUID.80000008:EBX */
	u32 eax_ext21, ecx_ext21; /* CPUID.80000021 */
	u64 arch_caps;
};

/* What stays open although the processor is affected, for want of a means. */
enum mitigate_exposure {
	EXPOSED_IBPB = BIT(0),    /* a guest's predictions reach the next guest */
	EXPOSED_RETURNS = BIT(1), /* returns are predicted from what a guest trained (Retbleed, SRSO) */
	EXPOSED_BHI = BIT(2),     /* branch history injection */
	EXPOSED_L1TF = BIT(3),
	EXPOSED_MDS = BIT(4), /* MDS, TAA, MMIO stale data, RFDS, TSA */
	EXPOSED_SMT = BIT(5), /* L1TF or MDS from the other thread of a core at the same time */
};
#define EXPOSURES     6U
#define MITIGATE_TEXT 96U /* holds what the two below can say */

struct mitigations {
	enum mitigate_mode mode;
	enum mitigate_branch branch;
	bool ibpb_switch; /* IBPB before another VM's vCPU runs on a CPU */
	bool ibpb_exit;   /* IBPB at each exit */
	bool rsb;         /* the return stack is filled at each exit */
	bool rsb_one;     /* one unbalanced call at each exit (post-barrier RSB) */
	bool bhi_dis;     /* SPEC_CTRL.BHI_DIS_S, set once */
	/* the L1 data cache is flushed before entries, but for those after exits that the back end answers */
	bool l1d;
	bool verw;   /* VERW clears the buffers before each entry */
	u32 exposed; /* enum mitigate_exposure */
};

/* Pure. */
void mitigate_decide(const struct mitigate_cpu *cpu, enum mitigate_mode mode, struct mitigations *out);
/* "auto", "off", "full"; false: another word. */
bool mitigate_parse_mode(const char *word, enum mitigate_mode *mode);
/* In force, as words: "retpoline ibpb-switch rsb"; and what is exposed: "smt"; "none" if nothing. */
void mitigate_describe(const struct mitigations *m, char *buf, size_t size);
void mitigate_describe_exposed(const struct mitigations *m, char *buf, size_t size);
const char *mitigate_mode_name(enum mitigate_mode mode);

extern struct mitigations mitigations; /* in force; written once at boot */

/* mitigate_cpu.c. Once, on the boot CPU, while the image's text is still writable (boot_info.h). */
void mitigate_init(enum mitigate_mode mode);
/* On each CPU that is to run guests: what is set once. */
void mitigate_cpu_on(void);
/* This CPU is about to enter another guest. */
void mitigate_switch(void);
void mitigate_flush_l1d(void);

#endif
