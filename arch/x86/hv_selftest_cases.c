/* The cases of the back ends' self-test, one function each; the programs they enter are in hv_selftest_guest.asm. */
#include "arch/x86/cpu.h"
#include "arch/x86/hv_selftest.h"
#include "lib/string.h"

#define GP         (STUB_MARK + VECTOR_GP)
#define IRQ        0x50
#define PREEMPT_NS (2 * NSEC_PER_MSEC)
#define RWX        (PT_R | PT_W | PT_X)

#define PROGRAM(n) extern const u8 program_##n[]
PROGRAM(cpuid);
PROGRAM(hlt);
PROGRAM(hypercall);
PROGRAM(io);
PROGRAM(msr);
PROGRAM(efer);
PROGRAM(efer_lme);
PROGRAM(cr4);
PROGRAM(cr0);
PROGRAM(cr8);
PROGRAM(cr3);
PROGRAM(touch);
PROGRAM(ud);
PROGRAM(triple);
PROGRAM(spin);
PROGRAM(window);
PROGRAM(enabled);
PROGRAM(modes);
PROGRAM(fpu);
PROGRAM(lazy);
PROGRAM(loop);
PROGRAM(step);
PROGRAM(alignment);
PROGRAM(undefined);
PROGRAM(cache);
PROGRAM(tsc);
#undef PROGRAM

static struct hv_regs *regs(struct selftest *s)
{
	return hv_regs(s->v);
}
static void start(struct selftest *s, const u8 *program)
{
	selftest_start(s, s->v, program);
}
static enum hv_exit_kind step(struct selftest *s)
{
	return selftest_step(s, s->v);
}
static void skip(struct selftest *s)
{
	hv->skip(s->v, s->e.len);
}

/* The next exit is a hypercall with this RAX. */
static bool calls(struct selftest *s, u64 rax)
{
	return step(s) == HV_EXIT_HYPERCALL && s->e.len == 3 && regs(s)->rax == rax;
}

static void test_cpuid(struct selftest *s)
{
	start(s, program_cpuid);
	WANT(step(s) == HV_EXIT_CPUID);
	WANT(s->e.len == 2 && regs(s)->rax == 0x40000000 && regs(s)->rcx == 7);
	regs(s)->rax = 0x1234;
	skip(s);
	WANT(calls(s, 0x1234));
	skip(s);
	WANT(step(s) == HV_EXIT_CPUID && s->e.len == 4);
}

static void test_hlt(struct selftest *s)
{
	start(s, program_hlt);
	WANT(step(s) == HV_EXIT_HLT);
	WANT(s->e.len == 1 && hv->irq_enabled(s->v));
	skip(s);
	WANT(hv->inject_irq(s->v, IRQ)); /* skipping has ended STI's shadow */
}

static void test_hypercall(struct selftest *s)
{
	start(s, program_hypercall);
	WANT(step(s) == HV_EXIT_HYPERCALL && s->e.cpl == 0 && regs(s)->rdi == GUEST_HOLE && regs(s)->rsi == GUEST_DATA);
	skip(s);
	WANT(step(s) == HV_EXIT_HYPERCALL && s->e.cpl == 3);
}

static void test_io(struct selftest *s)
{
	start(s, program_io);
	WANT(step(s) == HV_EXIT_IO && !s->e.io.in && s->e.io.port == 0x80 && s->e.io.bytes == 1);
	WANT(s->e.io.value == 0x5a && s->e.len == 1 && !s->e.io.string);
	skip(s);
	WANT(step(s) == HV_EXIT_IO && s->e.io.in && s->e.io.port == 0x71 && s->e.io.bytes == 4 && s->e.len == 2);
	regs(s)->rax = 0xcafe;
	skip(s);
	WANT(calls(s, 0xcafe));
	skip(s);
	WANT(step(s) == HV_EXIT_IO && !s->e.io.in && s->e.io.port == 0xe9 && s->e.io.bytes == 2 &&
	     s->e.io.value == 0xcafe);
	skip(s);
	WANT(step(s) == HV_EXIT_IO && s->e.io.in && s->e.io.string && s->e.io.rep && s->e.io.port == 0x1f0);
	WANT(s->e.io.bytes == 1 && s->e.len == 2);
	skip(s);
	WANT(step(s) == HV_EXIT_HYPERCALL);
}

static void test_msr(struct selftest *s)
{
	start(s, program_msr);
	WANT(step(s) == HV_EXIT_MSR_READ && s->e.msr.index == 0x1b && s->e.len == 2);
	skip(s);
	WANT(step(s) == HV_EXIT_MSR_WRITE && s->e.msr.index == 0x1234 && s->e.msr.value == 0x0123456789abcdef);
	skip(s);
	WANT(step(s) == HV_EXIT_HYPERCALL);
}

static void test_efer(struct selftest *s)
{
	start(s, program_efer);
	WANT(calls(s, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE));
	skip(s);
	WANT(calls(s, EFER_LME | EFER_LMA));
	skip(s);
	WANT(calls(s, GP) && regs(s)->rcx == 0);
	start(s, program_efer_lme);
	WANT(calls(s, GP));
}

static u64 *return_rip(struct selftest *s)
{
	return selftest_page(s, regs(s)->rsp);
}

/* A CR4 value with this bit is refused, by the back end or (bits it does not have) by the processor; the guest goes on.
 */
static bool refuses_cr4(struct selftest *s, u64 bit)
{
	if (step(s) == HV_EXIT_HYPERCALL && regs(s)->rax == GP) {
		*return_rip(s) += 4;
		skip(s);
		return true;
	}
	if (s->e.kind != HV_EXIT_CR_WRITE || s->e.cr.cr != 4 || !(s->e.cr.value & bit) || s->e.len != 4)
		return false;
	skip(s);
	return true;
}

static void test_cr4(struct selftest *s)
{
	start(s, program_cr4);
	WANT(step(s) == HV_EXIT_HYPERCALL && regs(s)->rax & CR4_TSD && !(regs(s)->rax & CR4_VMXE));
	skip(s);
	WANT(refuses_cr4(s, CR4_VMXE));
	WANT(refuses_cr4(s, BIT(18))); /* OSXSAVE */
	WANT(step(s) == HV_EXIT_HYPERCALL && !(regs(s)->rax & (CR4_VMXE | BIT(18))));
}

static void test_cr0(struct selftest *s)
{
	const u64 set = CR0_CD | CR0_NW | CR0_TS;

	start(s, program_cr0);
	WANT(step(s) == HV_EXIT_HYPERCALL && (regs(s)->rax & (set | CR0_NE)) == set);
	skip(s);
	WANT(step(s) == HV_EXIT_HYPERCALL && (regs(s)->rax & (set | CR0_NE)) == CR0_NE);
	WANT(!(read_cr0() & (CR0_CD | CR0_NW | CR0_TS)));
}

static void test_cr3_cr8(struct selftest *s)
{
	start(s, program_cr8);
	WANT(calls(s, 5));
	start(s, program_cr3);
	WANT(calls(s, GUEST_PML4));
}

static bool faults(struct selftest *s, u64 gpa)
{
	return step(s) == HV_EXIT_NPF && s->e.npf.gpa.v == gpa;
}

static void test_npf(struct selftest *s)
{
	u8 *data = selftest_page(s, GUEST_DATA);

	start(s, program_touch);
	WANT(faults(s, GUEST_HOLE) && s->e.npf.read && !s->e.npf.write && !s->e.npf.exec && !s->e.npf.walk);
	selftest_map(s, GUEST_HOLE, GUEST_DATA, PT_R | PT_X);
	WANT(calls(s, 0));
	skip(s);
	WANT(faults(s, GUEST_HOLE) && s->e.npf.write && !s->e.npf.exec && !s->e.npf.walk);
	selftest_map(s, GUEST_HOLE, GUEST_DATA, PT_R | PT_W);
	WANT(step(s) == HV_EXIT_HYPERCALL);
	WANT(*(u64 *)data == GUEST_DATA);
	skip(s);
	WANT(faults(s, GUEST_HOLE) && s->e.npf.exec && !s->e.npf.write && !s->e.npf.walk);
	memcpy(data, hv_caps.hypercall_insn, sizeof(hv_caps.hypercall_insn));
	selftest_map(s, GUEST_HOLE, GUEST_DATA, RWX);
	WANT(step(s) == HV_EXIT_HYPERCALL && regs(s)->rip == GUEST_HOLE);
}

static void test_npf_walk(struct selftest *s)
{
	u64 *pd = selftest_page(s, GUEST_PD), *pt = selftest_page(s, GUEST_DATA);

	start(s, program_touch);
	pd[1] = GUEST_HOLE | 7;
	pt[0] = (GUEST_DATA + PAGE_SIZE) | 7;
	regs(s)->rdi = GUEST_LARGE;
	WANT(step(s) == HV_EXIT_NPF && s->e.npf.walk && s->e.npf.gpa.v >> PAGE_SHIFT == GUEST_HOLE >> PAGE_SHIFT);
	selftest_map(s, GUEST_HOLE, GUEST_DATA, PT_R);
	WANT(step(s) == HV_EXIT_NPF && s->e.npf.walk && s->e.npf.write);
	selftest_map(s, GUEST_HOLE, GUEST_DATA, PT_R | PT_W);
	WANT(calls(s, 0));
	WANT(pt[0] & BIT(5)); /* accessed */
}

static void test_exception(struct selftest *s)
{
	start(s, program_ud);
	WANT(calls(s, STUB_MARK + 6));
	start(s, program_enabled);
	WANT(calls(s, 1));
	skip(s);
	hv->inject_exception(s->v, VECTOR_GP, true, 0x77);
	WANT(calls(s, GP) && regs(s)->rcx == 0x77);
}

static void test_triple_fault(struct selftest *s)
{
	start(s, program_triple);
	WANT(step(s) == HV_EXIT_TRIPLE_FAULT);
}

/* The timer ends the guest's turn, also when it is entered with interrupts off. */
static void test_preempt(struct selftest *s)
{
	u64 end, before;

	start(s, program_spin);
	for (u32 i = 0; i < 3; i++) {
		end = cpu_now_ns() + PREEMPT_NS;
		before = regs(s)->rbx;
		/*
		 * The timer may be early, and the console interrupts as well. An emulator that is kept from running may
		 * let a turn pass before the guest's first instruction: then it gets another, for a second.
		 */
		while (cpu_now_ns() < end || (regs(s)->rbx == before && cpu_now_ns() < end + NSEC_PER_SEC)) {
			cpu_timer_arm(MAX(end, cpu_now_ns() + PREEMPT_NS / 2));
			hv->run(s->v, s->tlb_gen, &s->e);
			WANT(s->e.kind == HV_EXIT_HOST_IRQ);
			cpu_irq_window();
		}
		WANT(regs(s)->rbx != before && !hv->irq_enabled(s->v));
	}
}

static void test_window(struct selftest *s)
{
	start(s, program_window);
	WANT(calls(s, 1));
	WANT(!hv->inject_irq(s->v, IRQ));
	skip(s);
	WANT(step(s) == HV_EXIT_NONE);
	WANT(regs(s)->rbx == 1); /* STI's shadow was respected, and no more */
	WANT(hv->inject_irq(s->v, IRQ));
	WANT(calls(s, STUB_MARK + IRQ));
	skip(s);
	WANT(calls(s, 2) && regs(s)->rbx == 3);
}

static void test_reinject(struct selftest *s)
{
	start(s, program_enabled);
	WANT(calls(s, 1));
	skip(s);
	WANT(calls(s, 2));
	skip(s);
	selftest_unmap(s, GUEST_IDT);
	WANT(hv->inject_irq(s->v, IRQ));
	WANT(step(s) == HV_EXIT_NPF && s->e.npf.gpa.v >> PAGE_SHIFT == GUEST_IDT >> PAGE_SHIFT);
	WANT(!hv->inject_irq(s->v, IRQ + 1));
	selftest_map(s, GUEST_IDT, GUEST_IDT, RWX);
	WANT(calls(s, STUB_MARK + IRQ));
	skip(s);
	WANT(step(s) == HV_EXIT_NONE || regs(s)->rax == 3); /* the window that was asked for */
	if (s->e.kind == HV_EXIT_NONE)
		WANT(calls(s, 3));
	skip(s);
	WANT(calls(s, 4));
}

static void test_exception_and_irq(struct selftest *s)
{
	start(s, program_enabled);
	WANT(calls(s, 1));
	skip(s);
	WANT(calls(s, 2));
	skip(s);
	WANT(hv->inject_irq(s->v, IRQ));
	hv->inject_exception(s->v, VECTOR_GP, true, 1);
	WANT(calls(s, GP) && regs(s)->rcx == 1);
	skip(s);
	WANT(calls(s, STUB_MARK + IRQ));
	skip(s);
	WANT(calls(s, 3));
}

static void test_modes(struct selftest *s)
{
	struct hv_sys sys;

	start(s, program_modes);
	WANT(calls(s, 1));
	skip(s);
	WANT(calls(s, 2));
	hv->get_sys(s->v, &sys);
	WANT(!(sys.cr0 & CR0_PG) && !(sys.efer & (EFER_LMA | EFER_LME)));
	skip(s);
	WANT(calls(s, 3));
	hv->get_sys(s->v, &sys);
	WANT(!(sys.cr0 & CR0_PE));
	skip(s);
	WANT(step(s) == HV_EXIT_CPUID);
	skip(s);
	WANT(step(s) == HV_EXIT_IO && s->e.io.port == 0x80);
	skip(s);
	WANT(calls(s, 4) && regs(s)->rbx == (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE));
}

static void test_bad_state(struct selftest *s)
{
	const struct hv_start bad = {.rip = GUEST_CODE, .rsp = GUEST_STACK, .cr3 = BIT(60)};

	hv->vcpu_reset(s->v, &bad);
	WANT(step(s) == HV_EXIT_BAD_STATE && s->e.text);
	start(s, program_cpuid); /* and the vCPU can be used again */
	WANT(step(s) == HV_EXIT_CPUID);
}

static bool fpu_is(struct hv_vcpu *v, u64 mark, u64 control_word)
{
	struct hv_regs *r = hv_regs(v);

	return r->rax == mark && r->rcx == control_word;
}

static void test_fpu(struct selftest *s)
{
	struct hv_vcpu *v[2] = {s->v, s->other};

	for (u32 i = 0; i < 2; i++) {
		selftest_start(s, v[i], program_fpu);
		hv_regs(v[i])->rdi = 0x1111111111111111 * (i + 1);
		WANT(selftest_step(s, v[i]) == HV_EXIT_HYPERCALL && fpu_is(v[i], 0, 0x37f));
		hv->skip(v[i], s->e.len);
		WANT(selftest_step(s, v[i]) == HV_EXIT_HYPERCALL);
		hv->skip(v[i], s->e.len);
	}
	hv_fpu_save_guest();
	__asm__ volatile("fldz; pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm15, %%xmm15" : : : "memory");
	for (u32 i = 0; i < 2; i++) {
		WANT(selftest_step(s, v[i]) == HV_EXIT_HYPERCALL);
		WANT(fpu_is(v[i], 0x1111111111111111 * (i + 1), 0x27f) && hv_regs(v[i])->rbx == hv_regs(v[i])->rax);
	}
}

static bool lazy_are(struct hv_vcpu *v, u64 value)
{
	struct hv_regs *r = hv_regs(v);

	return r->rbx == value && r->r8 == value && r->r9 == value;
}

static void test_lazy(struct selftest *s)
{
	struct hv_vcpu *v[2] = {s->v, s->other};

	for (u32 i = 0; i < 2; i++) {
		selftest_start(s, v[i], program_lazy);
		hv_regs(v[i])->rdi = 0x7000 * (i + 1);
		WANT(selftest_step(s, v[i]) == HV_EXIT_HYPERCALL && lazy_are(v[i], 0));
		hv->skip(v[i], s->e.len);
		WANT(selftest_step(s, v[i]) == HV_EXIT_HYPERCALL);
		hv->skip(v[i], s->e.len);
	}
	hv->release(s->v); /* as if it moved to another CPU */
	for (u32 i = 0; i < 2; i++) {
		WANT(selftest_step(s, v[i]) == HV_EXIT_HYPERCALL);
		WANT(lazy_are(v[i], 0x7000 * (i + 1)) && hv_regs(v[i])->r10 == 0x7000 * (i + 1));
	}
	WANT(this_cpu()->self == this_cpu());
}

/* Flushes and new identifiers so far: each makes older translations of a guest unreachable. */
static u64 tlb_actions(void)
{
	struct hv_tlb_stats t;

	hv_tlb_stats(&t);
	return t.flush_guest + t.flush_all + t.assigned;
}

static void test_tlb(struct selftest *s)
{
	u64 before;

	start(s, program_loop);
	WANT(step(s) == HV_EXIT_HYPERCALL);
	before = tlb_actions();
	for (u32 i = 0; i < 3; i++) {
		skip(s);
		WANT(step(s) == HV_EXIT_HYPERCALL);
	}
	WANT(tlb_actions() == before);
	for (u32 i = 0; i < 64; i++) {
		before = tlb_actions();
		s->tlb_gen++;
		skip(s);
		WANT(step(s) == HV_EXIT_HYPERCALL);
		WANT(tlb_actions() > before);
	}
	before = tlb_actions();
	hv->release(s->v);
	skip(s);
	WANT(step(s) == HV_EXIT_HYPERCALL);
}

/* What the guest sees through a translation that was changed under it. */
static void test_remap(struct selftest *s)
{
	start(s, program_touch);
	*(u64 *)selftest_page(s, GUEST_DATA) = 0x1111;
	*(u64 *)selftest_page(s, GUEST_DATA + PAGE_SIZE) = 0x2222;
	selftest_map(s, GUEST_HOLE, GUEST_DATA, RWX);
	WANT(calls(s, 0x1111));
	selftest_map(s, GUEST_HOLE, GUEST_DATA + PAGE_SIZE, RWX);
	start(s, program_touch);
	WANT(calls(s, 0x2222));
	start(s, program_touch);
	selftest_unmap(s, GUEST_HOLE);
	WANT(faults(s, GUEST_HOLE));
}

static void test_single_step(struct selftest *s)
{
	u64 rip;

	start(s, program_step);
	WANT(step(s) == HV_EXIT_CPUID);
	rip = regs(s)->rip;
	skip(s);
	WANT(calls(s, STUB_MARK + VECTOR_DB) && *return_rip(s) == rip + 2);
	skip(s);
	WANT(calls(s, STUB_MARK + VECTOR_DB) && *return_rip(s) == rip + 3);
	skip(s);
	WANT(calls(s, STUB_MARK + VECTOR_DB) && regs(s)->rip == rip + 3);
}

/* Emulators without alignment checks let the access pass. */
static void test_alignment(struct selftest *s)
{
	start(s, program_alignment);
	WANT(step(s) == HV_EXIT_HYPERCALL);
	WANT(s->e.cpl == 3 || (regs(s)->rax == STUB_MARK + VECTOR_AC && regs(s)->rcx == 0));
}

/* Whether the back end or the processor itself says so: all of them end as #UD. */
static void test_undefined(struct selftest *s)
{
	start(s, program_undefined);
	for (u32 i = 0; i < 6; i++) {
		if (step(s) == HV_EXIT_UNDEFINED) {
			hv->inject_exception(s->v, 6, false, 0);
			step(s);
		}
		WANT(s->e.kind == HV_EXIT_HYPERCALL && regs(s)->rax == STUB_MARK + 6);
		*return_rip(s) += 3;
		regs(s)->rax = 0; /* VMRUN faults on a bad operand before it exits */
		skip(s);
	}
	WANT(step(s) == HV_EXIT_HYPERCALL && regs(s)->rip < GUEST_STUBS);
}

/* Exits that the back end answers itself, and fetches for: the guest's vector registers stay its own. */
static void test_cache(struct selftest *s)
{
	start(s, program_cache);
	regs(s)->rdi = 0x1234567890abcdef;
	s->reader_uses_vectors = true;
	WANT(step(s) == HV_EXIT_HYPERCALL && regs(s)->rax == 0x1234567890abcdef);
	s->reader_uses_vectors = false;
}

static void test_tsc(struct selftest *s)
{
	u64 first;

	start(s, program_tsc);
	hv->set_tsc_offset(s->v, 0);
	WANT(step(s) == HV_EXIT_HYPERCALL);
	first = regs(s)->rax;
	skip(s);
	hv->set_tsc_offset(s->v, 1UL << 50);
	WANT(step(s) == HV_EXIT_HYPERCALL && (regs(s)->rax - first) >> 50 == 1);
	hv->set_tsc_offset(s->v, 0);
}

/* A page that holds the instruction or its tables is away when the back end fetches it: an ordinary nested fault. */
static void test_fetch_wait(struct selftest *s)
{
	if (hv_caps.nrip)
		return;
	start(s, program_cpuid);
	s->reader_waits = true;
	WANT(step(s) == HV_EXIT_NPF && s->e.npf.exec && s->e.npf.gpa.v < GUEST_PAGES * PAGE_SIZE);
	WANT(step(s) == HV_EXIT_CPUID && s->e.len == 2);
}

const struct selftest_case selftest_cases[] = {
    {"cpuid", test_cpuid},
    {"hlt", test_hlt},
    {"hypercall and its privilege level", test_hypercall},
    {"port input and output", test_io},
    {"unknown MSRs", test_msr},
    {"EFER", test_efer},
    {"CR4", test_cr4},
    {"CR0", test_cr0},
    {"CR3 and CR8", test_cr3_cr8},
    {"nested fault: read, write, execute", test_npf},
    {"nested fault on a page walk", test_npf_walk},
    {"exceptions in the guest", test_exception},
    {"triple fault", test_triple_fault},
    {"interrupt window", test_window},
    {"nested fault during delivery", test_reinject},
    {"exception before interrupt", test_exception_and_irq},
    {"long mode, real mode and back", test_modes},
    {"invalid state", test_bad_state},
    {"FPU of two vCPUs", test_fpu},
    {"SYSCALL and debug registers of two vCPUs", test_lazy},
    {"TLB generations", test_tlb},
    {"changed translations", test_remap},
    {"single step over an exit", test_single_step},
    {"alignment check", test_alignment},
    {"undefined instructions", test_undefined},
    {"WBINVD and INVD", test_cache},
    {"TSC offset", test_tsc},
    {"instruction fetch that has to wait", test_fetch_wait},
    {"preemption with interrupts off", test_preempt},
};
const u32 selftest_case_count = ARRAY_SIZE(selftest_cases);
