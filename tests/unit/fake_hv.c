/* See fake_hv.h. */
#include "tests/unit/fake_hv.h"

#include <asm/prctl.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/x86/cpu.h"
#include "boot/boot_info.h"
#include "lib/err.h"
#include "lib/format.h"
#include "lib/lock.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "lib/work.h"
#include "mm/blk.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/swap_slots.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "vmm/config.h"
#include "vmm/memory.h"
#include "vmm/modules.h"
#include "vmm/sched.h"

#define SWAP_PAGES_MIN 64U
#define SETTLE_PASSES  20000U
#define CALL_PASSES    2000U
#define EXIT_NS        (10 * NSEC_PER_USEC) /* from entry to exit, if the guest does not say */
#define ENTRIES_MAX    100000U              /* in one pass of the CPU loop: the slice ends some time */

void (*fake_guest)(struct vcpu *v, struct hv_exit *e);
void (*fake_cpu_window)(void);
u64 fake_cpu_idle_ns = NSEC_PER_MSEC, fake_cpu_armed_ns = TIMER_NEVER, fake_cpu_passes, fake_cpu_idles;
u32 fake_allocs, fake_alloc_fail_at;
bool fake_vcpu_create_fails, fake_owes;
char fake_why[160];
u64 fake_rdx, fake_dumps;
u32 fake_caller;

static u32 entries_in_pass;

/* ---- hv_ops -------------------------------------------------------------- */

static int fake_vcpu_create(struct hv_vcpu **out, hfn_t root)
{
	hfn_t hfn = fake_vcpu_create_fails ? HFN_NONE : frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);

	if (hfn == HFN_NONE)
		return E_NOMEM;
	*out = mm_hfn_to_va(hfn);
	(*out)->root = root;
	return 0;
}

static void fake_release(struct hv_vcpu *v)
{
	CHECK(!v->on || v->on == this_cpu());
	v->on = NULL;
}

static void fake_vcpu_destroy(struct hv_vcpu *v)
{
	fake_release(v);
	frame_free(mm_va_to_hfn(v), 0);
}

static void vcpu_reset(struct hv_vcpu *v, const struct hv_start *s)
{
	v->start = *s;
	v->resets++;
	v->regs = (struct hv_regs){.rip = s->rip, .rsp = s->rsp, .rdi = s->rdi, .rsi = s->rsi};
	v->irqs_on = v->repeat = false;
	v->irq = 0;
	v->on = this_cpu();
}

/* Would the access that faulted succeed now? */
static bool access_possible(const struct hv_vcpu *v)
{
	enum page_state s = gspace_state(&v->owner->vm->gs, gpa_to_gfn(v->last.npf.gpa));

	if (s == PAGE_PRIVATE || s == PAGE_PINNED)
		return true;
	return !v->last.npf.write && (s == PAGE_ZERO || s == PAGE_SHARED);
}

void fake_guest_spins(struct vcpu *v, struct hv_exit *e)
{
	(void)v;
	CHECK(fake_cpu_armed_ns != TIMER_NEVER);
	fake_now_ns = MAX(fake_now_ns, fake_cpu_armed_ns);
	*e = (struct hv_exit){.kind = HV_EXIT_HOST_IRQ};
}

/* What must hold at every entry, whatever came before. */
static void check_entry(const struct hv_vcpu *v, u64 tlb_gen)
{
	const struct vm *vm = v->owner->vm;

	lock_assert_none();
	CHECK(vm->state == VM_RUNNING && v->owner->state == VCPU_RUNNING);
	CHECK(vm->vcpu[v->owner->index] == v->owner && v->owner->hv == v && v->root == vm->gs.pt.root);
	CHECK(tlb_gen == vm->gs.tlb_gen && !vm->gs.tlb_dirty && vm->gs.limbo == HFN_NONE);
	CHECK(fake_cpu_armed_ns != TIMER_NEVER);
}

static void run(struct hv_vcpu *v, u64 tlb_gen, struct hv_exit *e)
{
	u64 from = fake_now_ns;

	check_entry(v, tlb_gen);
	CHECK(!v->on || v->on == this_cpu()); /* released where it ran last */
	v->on = this_cpu();
	v->entries++;
	CHECK(++entries_in_pass < ENTRIES_MAX);
	if (v->irq && v->irqs_on) {
		v->irqs++;
		v->irq = 0;
	}
	if (v->repeat && v->last.kind == HV_EXIT_NPF && access_possible(v))
		v->repeat = false;
	if (!v->repeat) {
		v->last = (struct hv_exit){.kind = HV_EXIT_NONE};
		(fake_guest ? fake_guest : fake_guest_spins)(v->owner, &v->last);
		v->repeat = v->last.kind != HV_EXIT_NONE && v->last.kind != HV_EXIT_HOST_IRQ;
	}
	*e = v->last;
	if (fake_now_ns == from)
		fake_now_ns += EXIT_NS;
}

static void get_sys(struct hv_vcpu *v, struct hv_sys *s)
{
	*s = (struct hv_sys){.rflags = v->irqs_on ? BIT(9) : 0};
}

static void skip(struct hv_vcpu *v, u8 len)
{
	CHECK(v->repeat);
	v->repeat = false;
	v->skips++;
	v->skipped_len = len;
}

static void inject_exception(struct hv_vcpu *v, u8 vector, bool has_error, u32 error)
{
	CHECK(v->repeat);
	v->repeat = false;
	v->exceptions++;
	v->exception = vector;
	v->exception_has_error = has_error;
	v->exception_error = error;
}

static bool inject_irq(struct hv_vcpu *v, u8 vector)
{
	CHECK(vector >= 32);
	if (!v->irqs_on || v->irq_refused || v->irq)
		return false;
	v->irq = vector;
	return true;
}

static bool irq_enabled(struct hv_vcpu *v)
{
	return v->irqs_on;
}

static void dump(struct hv_vcpu *v, const char *who)
{
	(void)who;
	v->dumps++;
	fake_dumps++;
}

static const struct hv_ops fake_ops = {.name = "fake",
				       .vcpu_create = fake_vcpu_create,
				       .vcpu_destroy = fake_vcpu_destroy,
				       .release = fake_release,
				       .vcpu_reset = vcpu_reset,
				       .run = run,
				       .get_sys = get_sys,
				       .skip = skip,
				       .inject_exception = inject_exception,
				       .inject_irq = inject_irq,
				       .irq_enabled = irq_enabled,
				       .dump = dump};
const struct hv_ops *hv = &fake_ops;
struct hv_caps hv_caps = {.vendor = "FAKE", .asids = 7, .npt = &fake_format, .hypercall_insn = {0x0f, 0x01, 0xd9}};

void hv_set_phys_reader(hv_phys_read_fn fn)
{
	CHECK(fn);
}

void hv_set_owner(struct hv_vcpu *v, void *owner)
{
	v->owner = owner;
}

/* ---- the CPU ------------------------------------------------------------- */

static struct cpu cpu;

u32 cpu_count(void)
{
	return 1;
}

struct cpu *cpu_at(u32 id)
{
	CHECK(id == 0);
	return &cpu;
}

void cpu_kick(u32 id)
{
	panic("cpu%u kicked", id);
}

static jmp_buf loop_end;
static u32 passes_left;

struct hv_fast *hv_fast(struct hv_vcpu *v)
{
	return &v->fast;
}

u64 cpu_ticks_since_entry(void)
{
	return fake_now_ns;
}

u64 cpu_tsc_khz(void)
{
	return 1000000;
}

void cpu_timer_arm(u64 deadline_ns)
{
	fake_cpu_armed_ns = deadline_ns;
}

void fake_cpu_stop(void)
{
	passes_left = 0;
}

void cpu_irq_window(void)
{
	lock_assert_none();
	if (fake_cpu_window)
		fake_cpu_window();
	if (!passes_left)
		longjmp(loop_end, 1);
	passes_left--;
	fake_cpu_passes++;
	entries_in_pass = 0;
	if (!fake_owes)
		sched_this()->paying = false;
	blk_poll_all();
}

void cpu_idle(void)
{
	lock_assert_none();
	CHECK(!work_pending());
	fake_cpu_idles++;
	fake_now_ns = MAX(fake_now_ns, MIN(fake_cpu_armed_ns, fake_now_ns + fake_cpu_idle_ns));
}

void fake_cpu_run(u32 passes)
{
	passes_left = passes;
	if (!setjmp(loop_end))
		sched_loop();
}

/* this_cpu() reads %gs:0, which nothing else uses in a Linux program. */
static void set_this_cpu(void)
{
	cpu = (struct cpu){.self = &cpu};
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, &cpu))
		abort();
}

/* ---- memory that fails --------------------------------------------------- */

hfn_t __real_frame_alloc(u32 order, enum frame_use use, enum frame_state state, bool clear);
hfn_t __wrap_frame_alloc(u32 order, enum frame_use use, enum frame_state state, bool clear);
hfn_t __wrap_frame_alloc_guest(bool clear);
hfn_t __real_frame_alloc_whole(u32 order, enum frame_use use, enum frame_state state, bool clear);
hfn_t __wrap_frame_alloc_whole(u32 order, enum frame_use use, enum frame_state state, bool clear);
hfn_t __wrap_frame_alloc_whole(u32 order, enum frame_use use, enum frame_state state, bool clear);

hfn_t __wrap_frame_alloc(u32 order, enum frame_use use, enum frame_state state, bool clear)
{
	/* More than there is: the allocator counts it as a failure of its own. */
	if (++fake_allocs == fake_alloc_fail_at)
		return __real_frame_alloc(FRAME_ORDER_MAX, FRAME_FOR_GUEST, state, false);
	return __real_frame_alloc(order, use, state, clear);
}

hfn_t __wrap_frame_alloc_guest(bool clear)
{
	return __wrap_frame_alloc(0, FRAME_FOR_GUEST, FRAME_GUEST, clear);
}

hfn_t __wrap_frame_alloc_whole(u32 order, enum frame_use use, enum frame_state state, bool clear)
{
	if (++fake_allocs == fake_alloc_fail_at)
		return __real_frame_alloc(FRAME_ORDER_MAX, FRAME_FOR_GUEST, state, false);
	return __real_frame_alloc_whole(order, use, state, clear);
}

/* ---- the image ----------------------------------------------------------- */

#define IMAGE_BYTES (3 * PAGE_SIZE)
#define IMAGE_AT    MIB

/* Two segments: code of more than a page, and data that is half bss. */
static void make_image(u8 *file)
{
	static const u64 segment[2][6] = {
	    /* offset, vaddr, paddr, filesz, memsz, align */
	    {0, IMAGE_AT, IMAGE_AT, 5000, 5000, PAGE_SIZE},
	    {2 * PAGE_SIZE, IMAGE_AT + 2 * PAGE_SIZE, IMAGE_AT + 2 * PAGE_SIZE, 2048, 4096, PAGE_SIZE},
	};
	static const u16 header[] = {0x457f, 0x464c, 0x0102, 1};
	u64 entry[3] = {IMAGE_AT + 0x200, 64, 0};
	u16 kind[4] = {2, 62, 1, 0}, sizes[4] = {64, 56, 2, 0};

	for (u32 i = 0; i < IMAGE_BYTES; i++)
		file[i] = (u8)(i * 7);
	memset(file, 0, 64);
	memcpy(file, header, sizeof(header));
	memcpy(file + 16, kind, sizeof(kind));
	memcpy(file + 24, entry, sizeof(entry));
	memcpy(file + 52, sizes, sizeof(sizes));
	for (u32 i = 0; i < 2; i++) {
		u32 type[2] = {1, i ? 6 : 5};

		memcpy(file + 64 + i * 56, type, sizeof(type));
		memcpy(file + 64 + i * 56 + 8, segment[i], sizeof(segment[i]));
	}
}

/* Modules are found in the direct map, and the address arithmetic of that wraps to any address. */
static void load_image(void)
{
	static u8 file[IMAGE_BYTES] aligned(PAGE_SIZE);
	static struct boot_info bi;
	static bool loaded;

	if (loaded)
		return;
	loaded = true;
	make_image(file);
	bi.module_count = 1;
	bi.module[0] = (struct boot_module){
	    .base = (u64)file - DIRECT_MAP_BASE, .bytes = IMAGE_BYTES, .kind = BOOT_MODULE_GUEST, .name = "guest.elf"};
	modules_init(&bi);
	CHECK(module_find("guest.elf"));
}

/* ---- the machine --------------------------------------------------------- */

struct blk_part fake_data_part = {.kind = BLK_PART_GUEST_DATA, .name = "fake-data"};
static struct fake_machine machine;
static u64 used_at_start;

static u64 frames_used(void)
{
	struct frame_stats f;

	frame_stats(&f);
	return f.total - f.free;
}

static void partitions(void)
{
	static bool registered;

	fake_blk_part.pages = MAX(machine.swap_pages, SWAP_PAGES_MIN);
	fake_data_part.dev = fake_blk_part.dev;
	fake_data_part.start = fake_blk_part.start + fake_blk_part.pages * (PAGE_SIZE / BLK_SECTOR);
	fake_data_part.pages = MAX(machine.data_pages, 1U);
	/* Swap takes the first partition of its kind, so this hides it. */
	fake_data_part.kind = machine.data_pages ? BLK_PART_GUEST_DATA : BLK_PART_SWAP;
	if (!registered)
		blk_register_part(&fake_data_part);
	registered = true;
}

/* As at boot, but with fixed keys and seeds. */
static void start_mm(void)
{
	static struct config config;

	memory_start(&config);
	CHECK(share_init(0x1234567890abcdef, 42) == 0);
	swap_init(0x5eed, 1);
	clean_init();
	if (machine.swap_pages)
		CHECK(swap_on(&fake_blk_part) == 0);
	if (machine.min_free)
		reclaim_set_min_free(machine.min_free);
	fake_allocs = fake_alloc_fail_at = 0;
	fake_vcpu_create_fails = false;
	fake_caller = 0;
	fake_guest = NULL;
	fake_cpu_window = NULL;
	fake_cpu_armed_ns = TIMER_NEVER;
	fake_cpu_idle_ns = NSEC_PER_MSEC;
	fake_cpu_passes = fake_cpu_idles = 0;
	CHECK(sched_init_cpu() == 0);
	used_at_start = frames_used();
}

void fake_machine_start(const struct fake_machine *m)
{
	machine = *m;
	set_this_cpu();
	load_image();
	fake_platform_reset();
	fake_mm_start(m->frames);
	fake_blk_start(MAX(m->swap_pages, SWAP_PAGES_MIN) + m->data_pages);
	partitions();
	vm_init();
	start_mm();
}

void fake_machine_restart(void)
{
	CHECK(!vm_next(NULL));
	fake_platform_reset();
	fake_mm_restart();
	fake_blk_restart();
	start_mm();
}

void fake_machine_stop(void)
{
	CHECK(!vm_next(NULL));
	fake_mm_stop();
	fake_blk_stop();
}

void *fake_data_page(u32 page)
{
	CHECK(page < fake_data_part.pages);
	return fake_blk_page(fake_blk_part.pages + page);
}

static bool busy(void)
{
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm))
		if (vm->state == VM_STOPPING || vm->state == VM_STARTING)
			return true;
	return work_pending() || fake_blk.pending;
}

void fake_machine_settle(void)
{
	for (u32 i = 0; busy() && i < SETTLE_PASSES; i++)
		fake_cpu_run(1);
}

void fake_machine_verify(void)
{
	CHECK(gspace_verify_all() == 0);
	frame_verify();
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm)) {
		bool up = vm->state != VM_CREATED && vm->state != VM_CRASHED;

		CHECK(vm->gs_valid == up);
		CHECK(up || (!vm->vcpu[0] && !vm->disk && vm->info_hfn == HFN_NONE && !vm->life_timer.armed));
	}
}

const char *fake_machine_leak(void)
{
	struct swap_stats s;
	u64 used;

	for (u32 i = 0; i < 100; i++)
		swap_trim();
	fake_machine_verify();
	swap_stats(&s);
	if (fake_blk.pending || fake_blk_part.dev->in_flight)
		return "a disk request";
	if (s.used || s.reserved || s.in_flight_in || s.in_flight_out)
		return "swap slots";
	/* Slots that are no good are remembered. */
	used = frames_used() - (s.bad ? MIN(frames_used() - used_at_start, s.slots / SLOTS_PER_CHUNK + 2) : 0);
	return used == used_at_start ? NULL : "frames";
}

/* ---- VMs ----------------------------------------------------------------- */

struct vm_config fake_vm_config(const char *name)
{
	struct vm_config c = {.memory_bytes = VM_MEMORY_MIN, .vcpus = 1};

	str_copy(c.name, name, sizeof(c.name));
	str_copy(c.image, "guest.elf", sizeof(c.image));
	return c;
}

void fake_vm_await(struct vm *vm, enum vm_state s)
{
	/* One that is to end still runs until the boot CPU has come to it. */
	for (u32 i = 0; (vm->state != s || (s == VM_RUNNING && vm->end_asked)) && i < SETTLE_PASSES; i++)
		fake_cpu_run(1);
	CHECK(vm->state == s);
}

struct vm *fake_vm_run(const struct vm_config *c)
{
	struct vm *vm;

	if (vm_create(c, &vm, fake_why, sizeof(fake_why)))
		return NULL;
	if (vm_start(vm, fake_why, sizeof(fake_why))) {
		CHECK(vm_destroy(vm, fake_why + strlen(fake_why), sizeof(fake_why) - strlen(fake_why)) == 0);
		return NULL;
	}
	fake_vm_await(vm, VM_RUNNING);
	return vm;
}

void fake_vm_remove(struct vm *vm)
{
	int err = vm_stop(vm, true, fake_why, sizeof(fake_why));

	CHECK(!err || vm->state == VM_STOPPING || vm->state == VM_CREATED || vm->state == VM_CRASHED);
	for (u32 i = 0; (err = vm_destroy(vm, fake_why, sizeof(fake_why))) && i < SETTLE_PASSES; i++)
		fake_cpu_run(1);
	CHECK(!err);
}

/* ---- single exits -------------------------------------------------------- */

static struct {
	struct vm *vm;
	struct hv_exit exit;
	struct hv_regs regs;
	bool is_call, begun;
	void (*guest)(struct vcpu *v, struct hv_exit *e); /* of the other VMs */
} one;

static void one_exit(struct vcpu *v, struct hv_exit *e)
{
	if (v->vm != one.vm || v->index != fake_caller) {
		(one.guest ? one.guest : fake_guest_spins)(v, e);
		return;
	}
	if (one.begun) { /* it is done */
		*e = (struct hv_exit){.kind = HV_EXIT_HOST_IRQ};
		return;
	}
	one.begun = true;
	*e = one.exit;
	if (one.is_call)
		v->hv->regs = one.regs;
}

/* Until the exit has been dealt with or the guest waits, unless `patient`. True if it has been. */
static bool one_run(bool patient)
{
	struct hv_vcpu *v = one.vm->vcpu[fake_caller]->hv;

	one.guest = fake_guest;
	fake_guest = one_exit;
	for (u32 i = 0; i < CALL_PASSES && !(one.begun && !v->repeat); i++) {
		fake_cpu_run(1);
		if (one.vm->state != VM_RUNNING || one.vm->end_asked ||
		    (one.begun && v->owner->state == VCPU_WAIT_MEMORY && !patient))
			break;
	}
	fake_guest = one.guest;
	CHECK(one.begun);
	fake_rdx = v->regs.rdx;
	return !v->repeat;
}

static bool one_begin(struct vm *vm, const struct hv_exit *e)
{
	CHECK(vm->state == VM_RUNNING && !vm->vcpu[fake_caller]->hv->repeat);
	one.vm = vm;
	one.exit = *e;
	one.begun = false;
	if (vm->vcpu[fake_caller]->state == VCPU_HALTED)
		sched_wake(vm->vcpu[fake_caller]);
	return one_run(false);
}

s64 fake_call(struct vm *vm, u64 nr, u64 rdi, u64 rsi, u64 rdx)
{
	struct hv_regs *r = &vm->vcpu[fake_caller]->hv->regs;
	struct hv_exit e = {.kind = HV_EXIT_HYPERCALL, .len = 3};

	one.is_call = true;
	one.regs = *r;
	one.regs.rax = nr;
	one.regs.rdi = rdi;
	one.regs.rsi = rsi;
	one.regs.rdx = rdx;
	return one_begin(vm, &e) ? (s64)r->rax : FAKE_WAITS;
}

s64 fake_call_again(struct vm *vm)
{
	struct hv_regs *r = &vm->vcpu[fake_caller]->hv->regs;

	CHECK(one.vm == vm && one.begun && vm->vcpu[fake_caller]->hv->repeat);
	return one_run(true) ? (s64)r->rax : FAKE_WAITS;
}

bool fake_exit(struct vm *vm, const struct hv_exit *e)
{
	one.is_call = false;
	return one_begin(vm, e);
}

/* ---- guest pages --------------------------------------------------------- */

void fake_swap_out(struct vm *vm, gfn_t gfn)
{
	u32 percent = vm->gs.zip_percent;

	vm->gs.zip_percent = ZIP_NONE;
	for (u32 i = 0; gspace_state(&vm->gs, gfn) != PAGE_SWAPPED; i++) {
		CHECK(i < 100);
		(void)swap_out(&vm->gs, vm->gs.pages);
		for (u32 j = 0; fake_blk.pending && j < 100; j++)
			fake_blk_poll();
	}
	vm->gs.zip_percent = percent;
}

bool fake_page_writable(struct vm *vm, gfn_t gfn)
{
	const struct pt_format *f = vm->gs.pt.fmt;
	u32 level;
	u64 e;

	lock_acquire(&vm->gs.lock);
	e = *pt_find(&vm->gs.pt, gfn_to_gpa(gfn).v, &level);
	lock_release(&vm->gs.lock);
	return pt_entry_present(f, e) && f->leaf_prot(e, level) & PT_W;
}

void *fake_page(struct vm *vm, gfn_t gfn)
{
	u32 level;
	u64 *entry;
	hfn_t hfn;

	lock_acquire(&vm->gs.lock);
	entry = pt_find(&vm->gs.pt, gfn_to_gpa(gfn).v, &level);
	CHECK(level <= 2 && pt_entry_present(vm->gs.pt.fmt, *entry));
	hfn = hpa_to_hfn(pt_entry_hpa(vm->gs.pt.fmt, *entry, level));
	lock_release(&vm->gs.lock);
	return mm_hfn_to_va(level == 2 ? hfn + gfn % LARGE_PAGES : hfn);
}

void fake_page_write(struct vm *vm, gfn_t gfn, u64 word)
{
	int err;

	for (u32 i = 0; (err = gspace_write(&vm->gs, gfn_to_gpa(gfn), &word, sizeof(word))) == E_AGAIN && i < 1000; i++)
		fake_blk_poll();
	CHECK(!err);
}

u64 fake_page_read(struct vm *vm, gfn_t gfn)
{
	u64 word;
	int err;

	for (u32 i = 0; (err = gspace_read(&vm->gs, gfn_to_gpa(gfn), &word, sizeof(word))) == E_AGAIN && i < 1000; i++)
		fake_blk_poll();
	CHECK(!err);
	return word;
}
