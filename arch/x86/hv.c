/*
 * Vendor choice and what the back ends share: lazily switched registers, queued events, instruction fetch,
 * dumps. See hv_vcpu.h for the invariants.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/fpu_quirk.h"
#include "arch/x86/hv_vcpu.h"
#include "arch/x86/mitigate.h"
#include "lib/err.h"
#include "lib/format.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/string.h"

#define CPUID_1_ECX_VMX    BIT(5)
#define CPUID_EXT1_ECX_SVM BIT(2)

#define FXSAVE_FCW         0 /* offsets in the FXSAVE area */
#define FXSAVE_MXCSR       24
#define FCW_RESET          0x37f
#define MXCSR_RESET        0x1f80

const struct hv_ops *hv;
struct hv_caps hv_caps;
static hv_phys_read_fn phys_read;

int hv_init(char *why, size_t size)
{
	int err;

	if (cpuid(1, 0).ecx & CPUID_1_ECX_VMX)
		hv = &vmx_ops;
	else if (cpuid(0x80000000, 0).eax >= 0x80000001 && cpuid(0x80000001, 0).ecx & CPUID_EXT1_ECX_SVM)
		hv = &svm_ops;
	if (!hv) {
		format_buf(why, size, "this processor has neither VMX (CPUID.1:ECX.5) nor SVM (CPUID.80000001:ECX.2)");
		return E_NOSYS;
	}
	err = hv->probe(&hv_caps, why, size);
	return err ? err : hv->cpu_on(why, size);
}

void hv_set_phys_reader(hv_phys_read_fn fn)
{
	phys_read = fn;
}
void hv_set_owner(struct hv_vcpu *v, void *owner)
{
	v->owner = owner;
}

struct hv_fast *hv_fast(struct hv_vcpu *v)
{
	return &v->fast;
}

void hv_tlb_stats(struct hv_tlb_stats *out)
{
	struct hv_cpu *c = this_cpu()->hv;

	*out = c->tlb;
}

/* ---- one guest after another ---- */

static u64 births; /* atomic */

void hv_vcpu_born(struct hv_vcpu *v, hfn_t root)
{
	v->mark = (struct guest_mark){.root = root, .born = __atomic_add_fetch(&births, 1, __ATOMIC_RELAXED)};
}

void hv_guest_switch(struct hv_cpu *c, const struct hv_vcpu *v)
{
	if (last_guest_is_other(&c->last, &v->mark, __atomic_load_n(&births, __ATOMIC_RELAXED)))
		mitigate_switch();
}

/* ---- registers that stay live ---- */

void hv_cpu_setup(void)
{
	write_cr0((read_cr0() & ~(CR0_EM | CR0_TS)) | CR0_MP | CR0_NE);
	write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
	fpu_quirk_init();
	mitigate_cpu_on();
}

static void fpu_save(struct hv_vcpu *v)
{
	__asm__ volatile("fxsave64 %0" : "=m"(v->fxsave));
}

/*
 * AMD's FXRSTOR leaves the last x87 instruction and data pointers alone when no exception is pending: load them with
 * our own first, so that the next guest does not see the previous one's.
 */
static void fpu_restore(const struct hv_vcpu *v)
{
	static const u32 zero;

	__asm__ volatile("fnclex; emms; fildl %0" : : "m"(zero));
	__asm__ volatile("fxrstor64 %0" : : "m"(v->fxsave));
}

void hv_fpu_load(struct hv_cpu *c, struct hv_vcpu *v)
{
	if (c->fpu == v)
		return;
	if (c->fpu)
		fpu_save(c->fpu);
	if (!fpu_quirk_restore(v->fxsave))
		fpu_restore(v);
	c->fpu = v;
}

void hv_fpu_drop(struct hv_cpu *c, struct hv_vcpu *v, bool save)
{
	if (c->fpu != v)
		return;
	if (save)
		fpu_save(v);
	c->fpu = NULL;
}

void hv_fpu_save_guest(void)
{
	struct hv_cpu *c = this_cpu()->hv;

	if (c && c->fpu)
		hv_fpu_drop(c, c->fpu, true);
}

void hv_dr_save(struct hv_vcpu *v)
{
	__asm__ volatile("mov %%db0, %0" : "=r"(v->dr[0]));
	__asm__ volatile("mov %%db1, %0" : "=r"(v->dr[1]));
	__asm__ volatile("mov %%db2, %0" : "=r"(v->dr[2]));
	__asm__ volatile("mov %%db3, %0" : "=r"(v->dr[3]));
}

void hv_dr_load(const struct hv_vcpu *v)
{
	__asm__ volatile("mov %0, %%db0" : : "r"(v->dr[0]));
	__asm__ volatile("mov %0, %%db1" : : "r"(v->dr[1]));
	__asm__ volatile("mov %0, %%db2" : : "r"(v->dr[2]));
	__asm__ volatile("mov %0, %%db3" : : "r"(v->dr[3]));
}

void hv_vcpu_init(struct hv_vcpu *v, const struct hv_start *s)
{
	u16 fcw = FCW_RESET;
	u32 mxcsr = MXCSR_RESET;

	memset(v->fxsave, 0, sizeof(v->fxsave));
	memcpy(v->fxsave + FXSAVE_FCW, &fcw, sizeof(fcw));
	memcpy(v->fxsave + FXSAVE_MXCSR, &mxcsr, sizeof(mxcsr));
	memset(v->dr, 0, sizeof(v->dr));
	v->exception.valid = v->irq.valid = false;
	v->regs = (struct hv_regs){.rip = s->rip, .rsp = s->rsp, .rdi = s->rdi, .rsi = s->rsi};
	v->asid.flush = true;
	for (u32 i = 0; i < HV_FAST_CPUIDS; i++)
		v->fast.cpuid[i].key = HV_FAST_NO_KEY;
}

/* ---- events ---- */

void hv_queue_exception(struct hv_vcpu *v, u8 vector, bool has_error, u32 error)
{
	v->exception = (struct hv_event){.valid = true, .vector = vector, .has_error = has_error, .error = error};
}

void hv_queue_irq(struct hv_vcpu *v, u8 vector)
{
	v->irq = (struct hv_event){.valid = true, .vector = vector};
}

/* ---- control registers ---- */

u64 hv_cr4_allowed(void)
{
	struct cpuid_result leaf1 = cpuid(1, 0), leaf7 = cpuid(0, 0).eax >= 7 ? cpuid(7, 0) : (struct cpuid_result){0};
	u64 bits =
	    CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;

	if (leaf1.ecx & BIT(17))
		bits |= CR4_PCIDE;
	if (leaf7.ebx & BIT(0))
		bits |= CR4_FSGSBASE;
	if (leaf7.ebx & BIT(7))
		bits |= CR4_SMEP;
	if (leaf7.ebx & BIT(20))
		bits |= CR4_SMAP;
	if (leaf7.ecx & BIT(2))
		bits |= CR4_UMIP;
	return bits;
}

bool hv_efer_write(u64 cr0, u64 old, u64 value, u64 *efer)
{
	const u64 settable = EFER_SCE | EFER_LME | EFER_NXE;

	if (value & ~(settable | EFER_LMA))
		return false;
	if (cr0 & CR0_PG && (value ^ old) & EFER_LME)
		return false;
	*efer = (old & ~settable) | (value & settable);
	return true;
}

/* ---- instruction fetch ---- */

/* Remembers which page the reader could not give. */
struct fetch {
	struct hv_vcpu *vcpu;
	gpa_t last;
};

static int fetch_read(void *arg, gpa_t gpa, void *dst, size_t len)
{
	struct tlb_cpu *tlb = &this_cpu()->tlb;
	struct fetch *f = arg;
	const u64 *space;
	int err;

	f->last = gpa;
	/* The reader may wait for other CPUs: for them this one is not in the guest meanwhile (tlb.h). */
	space = tlb_guest_pause(tlb);
	err = phys_read(f->vcpu->owner, gpa, dst, len);
	if (tlb_guest_resume(tlb, space))
		f->vcpu->asid.flush = true;
	return err;
}

/* Bytes at gva up to the page's end, at most `max`. Returns the count or an error. */
static int fetch_piece(const struct hv_sys *s, u64 gva, u8 *dst, size_t max, struct fetch *f)
{
	size_t n = MIN(max, PAGE_SIZE - (gva & ~PAGE_MASK));
	gpa_t gpa;
	int err;

	err = hv_guest_translate(s, GVA(gva), fetch_read, f, &gpa);
	if (!err)
		err = fetch_read(f, gpa, dst, n);
	return err ? err : (int)n;
}

int hv_fetch(struct hv_vcpu *v, const struct hv_sys *s, enum insn_id want, struct insn *out, struct hv_exit *exit)
{
	bool wide = s->efer & EFER_LMA && s->cs.attr & HV_ATTR_L;
	u64 gva = wide ? v->regs.rip : (u32)(s->cs.base + v->regs.rip);
	struct fetch f = {.vcpu = v};
	u8 bytes[INSN_BYTES_MAX];
	int have = 0, err, n;

	CHECK(phys_read);
	do {
		n = fetch_piece(s, wide ? gva + have : (u32)(gva + have), bytes + have, sizeof(bytes) - have, &f);
		if (n < 0) {
			err = n;
			break;
		}
		have += n;
		err = insn_decode(bytes, have, wide, want, out);
	} while (err == E_2BIG);
	if (err == E_AGAIN) {
		*exit = (struct hv_exit){.kind = HV_EXIT_NPF, .reason = exit->reason};
		exit->npf.gpa = f.last;
		exit->npf.read = exit->npf.exec = true;
		return E_AGAIN;
	}
	return err ? E_FAULT : 0;
}

u64 *hv_gpr(struct hv_regs *r, u8 number)
{
	static const u8 offset[16] = {
	    offsetof(struct hv_regs, rax), offsetof(struct hv_regs, rcx), offsetof(struct hv_regs, rdx),
	    offsetof(struct hv_regs, rbx), offsetof(struct hv_regs, rsp), offsetof(struct hv_regs, rbp),
	    offsetof(struct hv_regs, rsi), offsetof(struct hv_regs, rdi), offsetof(struct hv_regs, r8),
	    offsetof(struct hv_regs, r9),  offsetof(struct hv_regs, r10), offsetof(struct hv_regs, r11),
	    offsetof(struct hv_regs, r12), offsetof(struct hv_regs, r13), offsetof(struct hv_regs, r14),
	    offsetof(struct hv_regs, r15),
	};

	return (u64 *)((u8 *)r + offset[number & 15]);
}

/* ---- dump ---- */

void hv_dump_common(struct hv_vcpu *v, const struct hv_sys *s, const char *who)
{
	const struct hv_regs *r = &v->regs;
	const struct {
		const char *name;
		u16 sel;
		u32 attr, limit;
		u64 base;
	} seg[] = {
#define SEG(n) {#n, s->n.sel, s->n.attr, s->n.limit, s->n.base}
	    SEG(cs), SEG(ss), SEG(ds), SEG(es), SEG(fs), SEG(gs), SEG(ldtr), SEG(tr), SEG(gdtr), SEG(idtr),
#undef SEG
	};

#define LINE(...) log_line(LOG_WARN, who, __VA_ARGS__)
	LINE("rip %016lx rsp %016lx rflags %08lx", r->rip, r->rsp, s->rflags);
	LINE("rax %016lx rbx %016lx rcx %016lx rdx %016lx", r->rax, r->rbx, r->rcx, r->rdx);
	LINE("rsi %016lx rdi %016lx rbp %016lx r8  %016lx", r->rsi, r->rdi, r->rbp, r->r8);
	LINE("r9  %016lx r10 %016lx r11 %016lx r12 %016lx", r->r9, r->r10, r->r11, r->r12);
	LINE("r13 %016lx r14 %016lx r15 %016lx", r->r13, r->r14, r->r15);
	LINE("cr0 %08lx cr2 %016lx cr3 %016lx cr4 %08lx efer %04lx", s->cr0, s->cr2, s->cr3, s->cr4, s->efer);
	for (u32 i = 0; i < ARRAY_SIZE(seg); i++)
		LINE("%-4s %04x attr %05x limit %08x base %016lx", seg[i].name, seg[i].sel, seg[i].attr, seg[i].limit,
		     seg[i].base);
	LINE("dr0 %lx dr1 %lx dr2 %lx dr3 %lx (as last switched)", v->dr[0], v->dr[1], v->dr[2], v->dr[3]);
	LINE("interruptibility %lx pending %lx queued exception %d/%u irq %d/%u", s->interruptibility, s->pending,
	     v->exception.valid, v->exception.vector, v->irq.valid, v->irq.vector);
	LINE("nested root %x asid %u generation %lu tlb_gen %lu", v->mark.root, v->asid.asid, v->asid.generation,
	     v->asid.tlb_gen);
#undef LINE
}
