/*
 * What the two back ends have in common; nobody else includes this. A back end's vCPU embeds struct hv_vcpu, its
 * per-CPU part embeds struct hv_cpu (this_cpu()->hv points at it).
 *
 * Registers that VMCB/VMCS do not switch stay live in the CPU while the hypervisor, which uses none of them, runs:
 * FPU/SSE and DR0-3 (VMX: also DR6 and the SYSCALL registers). They are exchanged when another vCPU enters, so that
 * nothing of one guest is ever seen by the next. All of it belongs to one CPU: no lock.
 */
#ifndef ARCH_X86_HV_VCPU_H
#define ARCH_X86_HV_VCPU_H

#include "arch/x86/asid.h"
#include "arch/x86/hv.h"
#include "arch/x86/insn.h"
#include "arch/x86/last_guest.h"
#include "arch/x86/x86_bits.h"

#define FXSAVE_BYTES 512

struct hv_event {
	bool valid, has_error;
	u8 vector;
	u32 error;
};

struct hv_vcpu {
	struct hv_regs regs; /* first: enter.asm, hv_regs() */
	u64 dr[4];
	struct hv_cpu *cpu; /* whose registers or caches may hold our state; NULL: none */
	void *owner;        /* for the physical reader */
	struct guest_mark mark;
	struct hv_event exception; /* for the next entry */
	struct hv_event irq;       /* accepted; delivered when the guest can take it */
	struct asid_slot asid;
	struct hv_fast fast;
	u8 fxsave[FXSAVE_BYTES] aligned(16);
};

_Static_assert(offsetof(struct hv_vcpu, regs) == 0, "hv_regs()");

struct hv_cpu {
	struct hv_vcpu *fpu;  /* whose FPU registers are live, or NULL */
	struct hv_vcpu *live; /* whose other lazily switched registers are live, or NULL */
	struct asid_pool asids;
	struct hv_tlb_stats tlb;
	struct guest_mark last; /* see hv_guest_switch() */
};

/* Registers as after reset and those of start; the back end does the rest. Live registers of v are forgotten. */
void hv_vcpu_init(struct hv_vcpu *v, const struct hv_start *s);
/* v is new. */
void hv_vcpu_born(struct hv_vcpu *v, hfn_t root);
/*
 * v is about to run on this CPU, where another vCPU did: if that was another VM's, predictions of branches are dropped.
 */
void hv_guest_switch(struct hv_cpu *c, const struct hv_vcpu *v);
/* The FPU registers become v's. */
void hv_fpu_load(struct hv_cpu *c, struct hv_vcpu *v);
void hv_dr_save(struct hv_vcpu *v);
void hv_dr_load(const struct hv_vcpu *v);
/* Forgets (or first saves) what of v is in this CPU's FPU. */
void hv_fpu_drop(struct hv_cpu *c, struct hv_vcpu *v, bool save);
/* Host CR0/CR4 as the world switch and FXSAVE need them. */
void hv_cpu_setup(void);

void hv_queue_exception(struct hv_vcpu *v, u8 vector, bool has_error, u32 error);
void hv_queue_irq(struct hv_vcpu *v, u8 vector);

/* Guest-settable CR4 bits on this processor. */
u64 hv_cr4_allowed(void);
/* New EFER for a guest write of value, given CR0 and the present EFER; false: #GP. */
bool hv_efer_write(u64 cr0, u64 old, u64 value, u64 *efer);

/*
 * Fetches and recognises the instruction at the guest's RIP. 0; E_AGAIN: *exit is filled in and goes to the caller of
 * run(); E_FAULT: the bytes do not match the exit, another vCPU has changed code or tables: repeat after a flush.
 */
int hv_fetch(struct hv_vcpu *v, const struct hv_sys *s, enum insn_id want, struct insn *out,
	     struct hv_exit *exit) must_check;
u64 *hv_gpr(struct hv_regs *r, u8 number); /* encoding order */

/*
 * The answer to CPUID of this leaf, RAX into *rax, if it is known; counted. Here and in what else runs between two
 * entries: no CHECK, no lock, nothing of this CPU's per-CPU data (SVM: GS is the guest's).
 */
static inline bool hv_fast_cpuid(struct hv_vcpu *v, u64 leaf, u64 *rax)
{
	struct hv_regs *r = &v->regs;
	const struct hv_fast_cpuid *c = &v->fast.cpuid[hv_fast_slot((u32)leaf)];

	if (c->key != (leaf << 32 | (u32)r->rcx))
		return false;
	*rax = c->eax;
	r->rbx = c->ebx;
	r->rcx = c->ecx;
	r->rdx = c->edx;
	v->fast.count[HV_EXIT_CPUID]++;
	return true;
}

/* Common lines of dump(). */
void hv_dump_common(struct hv_vcpu *v, const struct hv_sys *s, const char *who);

#endif
