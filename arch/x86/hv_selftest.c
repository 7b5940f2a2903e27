/*
 * Self-test of the vendor back end in the real hypervisor: a machine of 64 pages, entered with small programs, one
 * for each kind of exit. Vendor-neutral but for the hypercall instruction. Everything is given back at the end.
 */
#include "arch/x86/hv_selftest.h"
#include "arch/x86/cpu.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "lib/timer.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define PTE_FLAGS      7UL /* present, writable, user */
#define CODE_BYTES     (GUEST_STUBS - GUEST_CODE)
#define HOST_EXITS_MAX 1000

extern const u8 selftest_image[], selftest_image_end[];

struct packed guest_pointer {
	u16 limit;
	u64 base;
};

static hfn_t table_alloc(struct pt_alloc *a)
{
	(void)a;
	return frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
}

static void table_free(struct pt_alloc *a, hfn_t hfn)
{
	(void)a;
	frame_free(hfn, 0);
}

static struct pt_alloc tables = {table_alloc, table_free};

void *selftest_page(struct selftest *s, u64 gpa)
{
	CHECK(gpa < GUEST_PAGES * PAGE_SIZE);
	return (u8 *)mm_hfn_to_va(s->base) + gpa;
}

void selftest_map(struct selftest *s, u64 gpa, u64 backing, u32 prot)
{
	u64 *entry;

	CHECK(pt_prepare(&s->pt, gpa, 1, &entry) == 0);
	pt_exchange(entry, pt_make_leaf(s->pt.fmt, HPA(hfn_to_hpa(s->base).v + backing), prot, 1, 0));
	s->tlb_gen++;
}

void selftest_unmap(struct selftest *s, u64 gpa)
{
	u32 level;
	u64 *entry = pt_find(&s->pt, gpa, &level);

	if (level == 1)
		pt_exchange(entry, 0);
	s->tlb_gen++;
}

/* ---- the guest's memory ---- */

static void write_tables(struct selftest *s)
{
	u64 *pt = selftest_page(s, GUEST_PT);

	*(u64 *)selftest_page(s, GUEST_PML4) = GUEST_PDPT | PTE_FLAGS;
	*(u64 *)selftest_page(s, GUEST_PDPT) = GUEST_PD | PTE_FLAGS;
	*(u64 *)selftest_page(s, GUEST_PD) = GUEST_PT | PTE_FLAGS;
	for (u64 i = 0; i < PT_ENTRIES; i++)
		pt[i] = i << PAGE_SHIFT | PTE_FLAGS;
}

static void write_descriptors(struct selftest *s)
{
	static const u64 gdt[] = {
	    0,
	    0x00af9b000000ffff, /* 08 code, 64 bits */
	    0x00cf93000000ffff, /* 10 data */
	    0x0000890000000067 | GUEST_TSS << 16,
	    0,                  /* 18 TSS */
	    0x00cff3000000ffff, /* 28 user data */
	    0x00affb000000ffff, /* 30 user code, 64 bits */
	    0x00cf9b000000ffff, /* 38 code, 32 bits */
	    0x00009b000000ffff, /* 40 code, 16 bits */
	    0x000093000000ffff, /* 48 data, 16 bits */
	};
	struct guest_pointer *p = selftest_page(s, GUEST_POINTERS);
	u64 *idt = selftest_page(s, GUEST_IDT), rsp0 = GUEST_STACK;

	memcpy(selftest_page(s, GUEST_GDT), gdt, sizeof(gdt));
	*p = (struct guest_pointer){sizeof(gdt) - 1, GUEST_GDT};
	p = selftest_page(s, GUEST_POINTERS + 16);
	*p = (struct guest_pointer){PAGE_SIZE - 1, GUEST_IDT};
	memcpy((u8 *)selftest_page(s, GUEST_TSS) + 4, &rsp0, sizeof(rsp0));
	for (u64 v = 0; v < 256; v++) {
		u64 at = GUEST_STUBS + 16 * v;

		idt[2 * v] = (at & 0xffff) | 0x08UL << 16 | 0x8e00UL << 32 | (at & 0xffff0000) << 32;
		idt[2 * v + 1] = 0;
	}
}

static bool has_error_code(u32 vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

/* mov eax, STUB_MARK + vector; [pop rcx]; hypercall; iretq */
static void write_stubs(struct selftest *s)
{
	for (u32 v = 0; v < 256; v++) {
		u8 *p = (u8 *)selftest_page(s, GUEST_STUBS) + 16 * v;
		u32 mark = STUB_MARK + v;

		*p++ = 0xb8;
		memcpy(p, &mark, sizeof(mark));
		p += sizeof(mark);
		if (has_error_code(v))
			*p++ = 0x59;
		memcpy(p, hv_caps.hypercall_insn, sizeof(hv_caps.hypercall_insn));
		p += sizeof(hv_caps.hypercall_insn);
		*p++ = 0x48;
		*p++ = 0xcf;
	}
}

/* The image says VMCALL for the hypercall and VMMCALL for the other vendor's: swapped for SVM. */
static void write_code(struct selftest *s)
{
	size_t bytes = (size_t)(selftest_image_end - selftest_image);
	u8 *code = selftest_page(s, GUEST_CODE);
	bool svm = hv_caps.hypercall_insn[2] == 0xd9;

	CHECK(bytes <= CODE_BYTES);
	memcpy(code, selftest_image, bytes);
	for (size_t i = 0; svm && i + 2 < bytes; i++)
		if (code[i] == 0x0f && code[i + 1] == 0x01 && (code[i + 2] == 0xc1 || code[i + 2] == 0xd9))
			code[i + 2] ^= 0xc1 ^ 0xd9;
}

static void reset_guest(struct selftest *s)
{
	for (u64 gpa = 0; gpa < GUEST_PAGES * PAGE_SIZE; gpa += PAGE_SIZE) {
		memset(selftest_page(s, gpa), 0, PAGE_SIZE);
		selftest_map(s, gpa, gpa, PT_R | PT_W | PT_X);
	}
	for (u64 gpa = GUEST_HOLE; gpa < GUEST_LARGE; gpa += PAGE_SIZE)
		selftest_unmap(s, gpa);
	write_tables(s);
	write_descriptors(s);
	write_stubs(s);
	write_code(s);
}

/* ---- running ---- */

static int read_guest(void *arg, gpa_t gpa, void *dst, size_t len)
{
	struct selftest *s = arg;
	const u8 *page;
	u32 level;
	u64 *entry;

	if (s->reader_waits) {
		s->reader_waits = false;
		return E_AGAIN;
	}
	if (s->reader_uses_vectors) {
		hv_fpu_save_guest();
		__asm__ volatile("pcmpeqd %%xmm0, %%xmm0" : : : "memory");
	}
	entry = pt_find(&s->pt, gpa.v, &level);
	if (!pt_entry_present(s->pt.fmt, *entry))
		return E_FAULT;
	page = mm_hfn_to_va(hpa_to_hfn(pt_entry_hpa(s->pt.fmt, *entry, level)));
	memcpy(dst, page + (gpa.v & ~PAGE_MASK), len);
	return 0;
}

void selftest_start(struct selftest *s, struct hv_vcpu *v, const u8 *program)
{
	const struct hv_start start = {
	    .rip = GUEST_CODE + (u64)(program - selftest_image),
	    .rsp = v == s->v ? GUEST_STACK : GUEST_STACK - PAGE_SIZE,
	    .cr3 = GUEST_PML4,
	    .rdi = GUEST_HOLE,
	    .rsi = GUEST_DATA,
	};

	write_descriptors(s); /* the last program may have left the TSS busy */
	hv->vcpu_reset(v, &start);
}

enum hv_exit_kind selftest_step(struct selftest *s, struct hv_vcpu *v)
{
	for (u32 i = 0; i < HOST_EXITS_MAX; i++) {
		hv->run(v, s->tlb_gen, &s->e);
		if (s->e.kind != HV_EXIT_HOST_IRQ)
			break;
		cpu_irq_window();
	}
	return s->e.kind;
}

bool selftest_want(struct selftest *s, bool ok, const char *what, int line)
{
	if (ok)
		return true;
	log_warn("selftest", "%s: line %d: not so: %s", s->name, line, what);
	log_warn("selftest", "last exit: kind %u reason %#lx len %u text %s", s->e.kind, s->e.reason, s->e.len,
		 s->e.text ? s->e.text : "-");
	hv->dump(s->v, "selftest");
	s->failed = true;
	return false;
}

static int setup(struct selftest *s)
{
	int err = pt_init(&s->pt, hv_caps.npt, &tables);

	if (err)
		return err;
	s->base = frame_alloc(GUEST_PAGES_ORDER, FRAME_FOR_HV, FRAME_HV, true);
	if (s->base == HFN_NONE)
		return E_NOMEM;
	err = hv->vcpu_create(&s->v, s->pt.root);
	if (!err)
		err = hv->vcpu_create(&s->other, s->pt.root);
	if (err)
		return err;
	hv_set_owner(s->v, s);
	hv_set_owner(s->other, s);
	hv_set_phys_reader(read_guest);
	return 0;
}

static void teardown(struct selftest *s)
{
	hv_set_phys_reader(NULL);
	if (s->other)
		hv->vcpu_destroy(s->other);
	if (s->v)
		hv->vcpu_destroy(s->v);
	for (u64 gpa = 0; gpa < GUEST_LARGE; gpa += PAGE_SIZE)
		selftest_unmap(s, gpa);
	if (s->base != HFN_NONE)
		frame_free(s->base, GUEST_PAGES_ORDER);
	pt_destroy(&s->pt);
}

int hv_selftest(void)
{
	struct selftest s = {.base = HFN_NONE};
	u32 failed = 0, free = frame_free_count();
	int err = setup(&s);

	if (err) {
		log_warn("selftest", "cannot set up: %s", err_name(err));
		return 1;
	}
	for (u32 i = 0; i < selftest_case_count; i++) {
		s.name = selftest_cases[i].name;
		s.failed = false;
		reset_guest(&s);
		log_info("selftest", "%s", s.name);
		selftest_cases[i].fn(&s);
		failed += s.failed;
		cpu_irq_window();
		timer_run_expired(cpu_now_ns()); /* the console's turn */
	}
	teardown(&s);
	if (frame_free_count() != free) {
		log_warn("selftest", "frames: %u before, %u after", free, frame_free_count());
		failed++;
	}
	log_info("selftest", "hv selftest: %u passed, %u failed", selftest_case_count - failed, failed);
	return (int)failed;
}
