/*
 * Two hostile guests on one machine, as programs in the input: hypercalls with any registers, other exits, memory
 * touched and written between the hypervisor's looks at it, rings and batches that are nearly right; and around them
 * time, a disk that is slow, late, failing or gone, memory that runs out, an operator who starts and stops.
 *
 * Held at all times: counts and page states agree (gspace_verify_all), nobody sees a word that another VM, an earlier
 * run of its own, or an earlier user of its disk left. In the end: guests that wait come to go on, and with the last VM
 * everything is given back.
 *
 * Short inputs are continued by a generator that the input seeds, so that a run of some seconds is worth something.
 */
#include <string.h>

#include "lib/hash.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "lib/work.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "tests/unit/fake_blk.h"
#include "tests/unit/fake_hv.h"
#include "tests/unit/fake_platform.h"
#include "vmm/pvdisk.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define VMS        2U
#define PAGES      (VM_MEMORY_MIN >> PAGE_SHIFT)
#define PAGES_MAX  (PAGES + PAGES / 2) /* with Dynamic Memory */
#define INFO       0x20U               /* frames with a part to play, if the guest so wishes */
#define RING       0x21U
#define BATCH      0x22U
#define DISK_PAGES 24U /* at most: two fill the partition */
#define DATA_PAGES (2 * DISK_PAGES)
#define OPS_MIN    48U
#define OPS_MAX    256U
#define OP_PASSES  6U

/* Words that tell whose they are. Nothing else that comes into a guest's memory has such a top half. */
#define MARK_TOP   0xa1a1a1a1UL
#define SECRET_TOP 0x5ec7e75eUL

static const struct fake_machine machine = {
    .frames = 800, .swap_pages = 2 * PAGES_MAX, .data_pages = DATA_PAGES, .min_free = 320};

struct guest {
	struct vm *vm;
	u32 actor;      /* vCPU that does what comes next */
	u32 generation; /* of the run: marks of earlier ones must be gone */
	bool planned;   /* `exit` is to be executed */
	bool is_call;
	struct hv_exit exit;
	struct hv_regs regs;
	gfn_t run_at; /* touches this page and the next, to run_end */
	gfn_t run_end;
};

static struct guest guest[VMS];
static u32 generations, marks;
static bool disk_failed, memory_failed;

/* ---- input --------------------------------------------------------------- */

static const u8 *in;
static size_t in_left;
static struct prng tail;

static u8 get8(void)
{
	if (!in_left)
		return (u8)prng_next(&tail);
	in_left--;
	return *in++;
}

static u16 get16(void)
{
	u16 low = get8();

	return (u16)(low | get8() << 8);
}

static u64 get64(void)
{
	u64 v = 0;

	for (u32 i = 0; i < 8; i++)
		v = v << 8 | get8();
	return v;
}

static gfn_t get_gfn(void)
{
	u8 kind = get8();

	switch (kind % 8) {
	case 0:
		return INFO + kind / 8 % 4;
	case 1:
		return PAGES - 1 - kind / 8 % 4;
	case 2:
		return get16() % PAGES;
	case 3:
		return 0x400 + kind / 8; /* in a 2 MiB unit */
	default:
		return 0x300 + kind / 8;
	}
}

/* A value such as pointers, counts and flags are made of. */
static u64 get_word(void)
{
	u8 kind = get8();

	switch (kind % 8) {
	case 0:
		return get64();
	case 1:
		return kind / 8;
	case 2:
		return get16();
	case 3:
		return BIT(get8() % 64) - kind / 8 % 3;
	case 4:
		return ~0UL - kind / 8;
	case 5:
		return ((u64)(PAGES - kind / 128) << PAGE_SHIFT) + get8();
	case 6:
		return (u64)get_gfn() << PAGE_SHIFT | get16() % PAGE_SIZE;
	default:
		return (u64)get_gfn() << PAGE_SHIFT;
	}
}

/* ---- whose words --------------------------------------------------------- */

static u64 new_mark(const struct guest *g)
{
	return MARK_TOP << 32 | (g->generation & 0xffff) << 16 | (marks++ & 0xffff);
}

/* What guests write otherwise must not look like it. */
static u64 no_mark(u64 word)
{
	return word >> 32 == MARK_TOP || word >> 32 == SECRET_TOP ? word & 0xffffffff : word;
}

static struct guest *guest_by_space(u16 id)
{
	for (u32 i = 0; i < VMS; i++)
		if (guest[i].vm && guest[i].vm->gs_valid && guest[i].vm->state != VM_STOPPING &&
		    guest[i].vm->gs.id == id)
			return &guest[i];
	return NULL;
}

/* Marks stand in a page twice: what the hypervisor writes may take half of one's place. */
static void check_frame(hfn_t hfn)
{
	const struct frame *f = frame_get(hfn);
	const struct guest *g = f->state == FRAME_GUEST ? guest_by_space(f->owner) : NULL;
	const u64 *page = mm_hfn_to_va(hfn);
	u64 a = page[0], b = page[PAGE_SIZE / 16];
	bool mark = g && a == b && a >> 32 == MARK_TOP;

	if (a >> 32 == SECRET_TOP || b >> 32 == SECRET_TOP || (mark && (a >> 16 & 0xffff) != (g->generation & 0xffff)))
		panic("foreign word %#lx or %#lx in frame %#x, gfn %#x of %s", a, b, hfn, f->gfn,
		      g ? g->vm->config.name : "several");
}

static void check_all(void)
{
	hfn_t span = frame_span();

	CHECK(gspace_verify_all() == 0);
	for (hfn_t h = 0; h < span; h++) {
		u8 state = frame_get(h)->state;

		if (state == FRAME_GUEST || state == FRAME_SHARED || state == FRAME_ZERO)
			check_frame(h);
	}
}

static bool accessible(struct vm *vm, gfn_t gfn, bool write)
{
	enum page_state s = gspace_state(&vm->gs, gfn);

	if (write && s == PAGE_PRIVATE) /* marked clean it is read-only */
		return fake_page_writable(vm, gfn);
	return s == PAGE_PRIVATE || s == PAGE_PINNED || (!write && (s == PAGE_SHARED || s == PAGE_ZERO));
}

static bool running(const struct guest *g)
{
	return g->vm && (g->vm->state == VM_RUNNING || g->vm->state == VM_PAUSED);
}

/* ---- guests -------------------------------------------------------------- */

static struct guest *guest_of(const struct vm *vm)
{
	return vm == guest[0].vm ? &guest[0] : &guest[1];
}

static void write_marks(struct guest *g, gfn_t gfn)
{
	u64 *page = fake_page(g->vm, gfn);

	page[0] = page[PAGE_SIZE / 16] = new_mark(g);
}

static struct hv_exit npf_exit(gfn_t gfn, bool write)
{
	return (struct hv_exit){.kind = HV_EXIT_NPF, .npf = {.gpa = gfn_to_gpa(gfn), .write = write, .read = !write}};
}

/* What it planned, page by page if it is a run of touches; then it spins. The other vCPUs touch some page, or spin. */
static void be_guest(struct vcpu *v, struct hv_exit *e)
{
	struct guest *g = guest_of(v->vm);

	if (v->index != g->actor) {
		gfn_t gfn = INFO + (g->run_at + v->index) % 0x400;

		if (!accessible(v->vm, gfn, gfn % 2))
			*e = npf_exit(gfn, gfn % 2);
		else
			fake_guest_spins(v, e);
		return;
	}
	if (g->planned) {
		g->planned = false;
		*e = g->exit;
		if (g->is_call)
			v->hv->regs = g->regs;
		return;
	}
	for (; g->run_at < g->run_end; g->run_at++) {
		if (!accessible(v->vm, g->run_at, true)) {
			*e = npf_exit(g->run_at, true);
			return;
		}
		if (gspace_state(&v->vm->gs, g->run_at) == PAGE_PRIVATE)
			write_marks(g, g->run_at);
	}
	fake_guest_spins(v, e);
}

static bool can_act(const struct guest *g)
{
	const struct vcpu *v = g->vm ? g->vm->vcpu[g->actor] : NULL;

	return v && g->vm->state == VM_RUNNING && v->state != VCPU_OFF && !v->hv->repeat;
}

static void let_act(struct guest *g)
{
	if (g->vm->vcpu[g->actor]->state == VCPU_HALTED)
		sched_wake(g->vm->vcpu[g->actor]);
	for (u32 i = 0; i < OP_PASSES && (g->planned || g->run_at < g->run_end) && can_act(g); i++)
		fake_cpu_run(1);
	g->planned = false;
	g->run_at = g->run_end;
}

static void act(struct guest *g, const struct hv_exit *e)
{
	if (!can_act(g))
		return;
	g->planned = true;
	g->is_call = e->kind == HV_EXIT_HYPERCALL;
	g->exit = *e;
	let_act(g);
}

/* Bit 0 of an entry is reserved without the feature. */
static void check_statuses(const struct guest *g, u64 gpa, u64 n)
{
	const u64 *entry;

	if (g->vm->features & AERO_FEATURE_BALLOON_2M || !accessible(g->vm, gpa_to_gfn(GPA(gpa)), false))
		return;
	entry = (u64 *)((u8 *)fake_page(g->vm, gpa_to_gfn(GPA(gpa))) + (gpa & ~PAGE_MASK));
	for (u64 i = 0; i < n; i++)
		CHECK(!(entry[i] & AERO_BALLOON_2M) || AERO_BALLOON_STATUS(entry[i]) == AERO_BALLOON_INVALID);
}

/* What a call may answer, if it is done. */
static void check_answer(const struct guest *g)
{
	s64 n = (s64)g->vm->vcpu[g->actor]->hv->regs.rax;
	const struct hv_regs *r = &g->regs;
	bool batch = r->rax == AERO_CALL_BALLOON_INFLATE || r->rax == AERO_CALL_BALLOON_DEFLATE;
	u64 bytes = batch                           ? r->rsi * 8
		    : r->rax == AERO_CALL_PAGE_HINT ? r->rsi * sizeof(struct aero_hint)
						    : r->rsi,
	    memory = (u64)g->vm->gs.pages << PAGE_SHIFT;

	if (n < 0) {
		CHECK(n == AERO_E_PERM || n == AERO_E_NOENT || n == AERO_E_IO || n == AERO_E_2BIG ||
		      n == AERO_E_FAULT || n == AERO_E_BUSY || n == AERO_E_INVAL || n == AERO_E_NOSYS ||
		      (n == AERO_E_NOSPC && r->rax == AERO_CALL_MEMORY_ONLINE));
		return;
	}
	CHECK(r->rax < AERO_CALLS);
	if (batch || r->rax == AERO_CALL_CONSOLE_READ || r->rax == AERO_CALL_PAGE_HINT)
		CHECK((r->rdi & ~PAGE_MASK) + bytes <= PAGE_SIZE);
	if (batch)
		check_statuses(g, r->rdi, r->rsi);
	if (batch || r->rax == AERO_CALL_CONSOLE_READ || r->rax == AERO_CALL_CONSOLE_WRITE)
		CHECK((u64)n <= r->rsi && r->rdi <= memory && bytes <= memory - r->rdi);
	if (r->rax == AERO_CALL_MEMORY_ONLINE)
		CHECK(n == 0 && r->rdi + r->rsi == memory && g->vm->config.maximum_bytes >= memory);
	if (r->rax == AERO_CALL_HELLO)
		CHECK(!(n & ~(s64)vm_features_offered(g->vm)) && g->vm->info_gfn == r->rdx >> PAGE_SHIFT);
}

static void act_call(struct guest *g, u64 nr, u64 rdi, u64 rsi, u64 rdx)
{
	struct hv_exit e = {.kind = HV_EXIT_HYPERCALL, .len = 3};
	u64 calls = g->vm && g->vm->gs_valid ? g->vm->vcpu[g->actor]->counts.exits[HV_EXIT_HYPERCALL] : 0;

	/* R8 is a CR3 of VCPU_START's. */
	g->regs =
	    (struct hv_regs){.rax = nr, .rdi = rdi, .rsi = rsi, .rdx = rdx, .r8 = rdx & 1 ? rdx : 0x2000, .r9 = 9};
	if (!can_act(g))
		return;
	act(g, &e);
	if (can_act(g) && g->vm->vcpu[g->actor]->counts.exits[HV_EXIT_HYPERCALL] != calls &&
	    g->vm->vcpu[g->actor]->hv->resets == 1)
		check_answer(g);
}

static void op_call(struct guest *g)
{
	u8 nr = get8();
	u64 rdi = get_word(), rsi = get_word(), rdx = get_word();

	/* Ends are rare, or nothing would ever be long. */
	if (nr % 18 == AERO_CALL_SHUTDOWN && nr < 0xc0)
		nr = AERO_CALL_HELLO;
	act_call(g, nr % 18 < AERO_CALLS ? nr % 18 : get_word(), rdi, rsi, rdx);
}

/* The calls of a well-meaning guest, so that the rest has something to abuse. */
static void op_good_call(struct guest *g)
{
	u8 what = get8();

	switch (what % 6) {
	case 0:
		act_call(g, AERO_CALL_HELLO, AERO_ABI_VERSION, what < 192 ? ~0UL : ~(u64)AERO_FEATURE_BALLOON_2M,
			 (u64)INFO << PAGE_SHIFT);
		break;
	case 1:
		act_call(g, AERO_CALL_UPCALL, 64, 0, 0);
		if (running(g))
			g->vm->vcpu[g->actor]->hv->irqs_on = true;
		break;
	case 2:
		act_call(g, AERO_CALL_DISK_SETUP, 0, (u64)RING << PAGE_SHIFT, 0);
		break;
	case 3:
		act_call(g, AERO_CALL_DISK_KICK, 0, 0, 0);
		break;
	case 4:
		act_call(g, AERO_CALL_TIMER, get16() * NSEC_PER_MSEC, 0, 0);
		break;
	default:
		act_call(g, AERO_CALL_CONSOLE_WRITE, (u64)get_gfn() << PAGE_SHIFT | get16() % PAGE_SIZE, get16() % 1030,
			 0);
	}
}

/* Asks for memory by what it says it has committed, takes of the offer what it likes, and uses some of it. */
static void op_grow(struct guest *g)
{
	u8 how = get8();
	struct aero_info *info;
	u64 end, more;

	if (!running(g))
		return;
	if (g->vm->info_hfn != HFN_NONE) {
		info = mm_hfn_to_va(g->vm->info_hfn);
		info->memory.committed = how & 0x80 ? no_mark(get_word()) : PAGES + how * 8U;
	}
	if (how & 1) {
		fake_now_ns += NSEC_PER_SEC / 4;
		reclaim_step(fake_now_ns);
	}
	/* As on a machine that has more: on this one what it may touch is all that there is. */
	if (how & 8 && g->vm->gs.dyn.maximum)
		g->vm->gs.dyn.offered = MIN(g->vm->gs.pages + how * 2U, PAGES_MAX);
	end = (u64)g->vm->gs.pages << PAGE_SHIFT;
	more = ((u64)g->vm->gs.dyn.offered << PAGE_SHIFT) - end;
	act_call(g, AERO_CALL_MEMORY_ONLINE, how & 0x40 ? get_word() : end,
		 how & 0x20 ? get_word()
		 : how & 2  ? more
			    : PAGE_SIZE,
		 0);
	if (!can_act(g))
		return;
	g->run_at = (gfn_t)(end >> PAGE_SHIFT);
	g->run_end = MIN(g->run_at + 8, g->vm->gs.pages);
	let_act(g);
}

/* Another vCPU acts from now on, if it is up. */
static void op_actor(struct guest *g)
{
	u32 want = get8() % VM_VCPUS_MAX;

	if (running(g) && g->vm->vcpu[want] && g->vm->vcpu[want]->state != VCPU_OFF)
		g->actor = want;
}

/* Calls about vCPUs with arguments that may be good. */
static void op_vcpu(struct guest *g)
{
	u8 how = get8(), index = get8() % 4;
	u64 where = get_word();

	switch (how % 4) {
	case 0:
	case 1:
		act_call(g, AERO_CALL_VCPU_START, index, how & 0x10 ? where : MIB, where);
		break;
	case 2:
		act_call(g, AERO_CALL_VCPU_STOP, index, 0, 0);
		break;
	default:
		act_call(g, AERO_CALL_VCPU_SEND, BIT(index) | (how & 0x10 ? where : 0), where << 32 | (how & 0x20), 0);
	}
	op_actor(g);
}

static void op_touch(struct guest *g)
{
	gfn_t gfn = get_gfn();
	u32 n = get8() % 64;

	if (!can_act(g))
		return;
	g->run_at = gfn;
	g->run_end = MIN(gfn + n, PAGES);
	let_act(g);
}

/* The guest writes where it may without an exit: pages in use by the hypervisor, too. */
static void op_poke(struct guest *g)
{
	gfn_t gfn = get_gfn();
	u32 at = get16() % 512;
	u64 word = no_mark(get_word());

	if (running(g) && accessible(g->vm, gfn, true))
		((u64 *)fake_page(g->vm, gfn))[at] = word;
}

static void op_copy_in(struct guest *g)
{
	gpa_t gpa = GPA(get_word());
	u64 bytes[4] = {no_mark(get_word()), no_mark(get_word()), 0, 0};
	u32 n = get8() % 5 * 8;

	gpa.v &= ~7UL;
	if (running(g) && gspace_write(&g->vm->gs, gpa, bytes, n))
		return; /* it did not want to be there */
}

static struct aero_disk_ring *ring_of(struct guest *g)
{
	return running(g) && accessible(g->vm, RING, true) ? fake_page(g->vm, RING) : NULL;
}

/* A request that may be good. */
static void op_request(struct guest *g)
{
	struct aero_disk_ring *ring = ring_of(g);
	u8 what = get8(), where = get8();
	u64 gpa = (u64)get_gfn() << PAGE_SHIFT;

	if (!ring)
		return;
	ring->request[ring->posted++ % AERO_DISK_REQUESTS] =
	    (struct aero_disk_request){.page = where & 0x40 ? where % 8 : where % DISK_PAGES,
				       .gpa = gpa,
				       .op = what % 8 < 4   ? AERO_DISK_READ
					     : what % 8 < 7 ? AERO_DISK_WRITE
							    : AERO_DISK_FLUSH,
				       .count = what % 8 == 7 ? 0 : 1 + what / 8 % 17,
				       .status = AERO_DISK_PENDING};
	if (where & 0x80)
		act_call(g, AERO_CALL_DISK_KICK, 0, 0, 0);
}

static void op_balloon(struct guest *g)
{
	u32 n = get8() % 24;
	u64 gfn = get_gfn(), *batch;
	u8 how = get8();

	if (!running(g) || !accessible(g->vm, BATCH, true))
		return;
	batch = fake_page(g->vm, BATCH);
	for (u32 i = 0; i < n; i++)
		batch[i] = (gfn + i) << PAGE_SHIFT | (how & 3 ? 0 : no_mark(get_word()));
	if (how % 16 == 15)
		batch[0] = (u64)(get8() % 5) << LARGE_SHIFT | AERO_BALLOON_2M;
	act_call(g, how & 0x40 ? AERO_CALL_BALLOON_DEFLATE : AERO_CALL_BALLOON_INFLATE, (u64)BATCH << PAGE_SHIFT, n, 0);
}

/*
 * Hints that may be good, about pages and blocks that other operations use; and some of them out of memory, if they are
 * believed.
 */
static void op_hint(struct guest *g)
{
	u32 n = get8() % 24, block = get8();
	u64 gfn = get_gfn();
	struct aero_hint *batch;
	u8 how = get8();

	if (!running(g) || !accessible(g->vm, BATCH, true))
		return;
	batch = fake_page(g->vm, BATCH);
	if (how & 0x80)
		g->vm->gs.target = 0; /* as long as memory is plentiful nothing is marked */
	for (u32 i = 0; i < n; i++) {
		u64 op = how & 0x20 ? 1 + (how + i) % 3 : how & 0x10 ? get8() : AERO_HINT_CLEAN;

		batch[i].page = (gfn + i) << PAGE_SHIFT | (how & 3 ? 0 : no_mark(get_word())) | op;
		batch[i].block = how & 12 && op == AERO_HINT_CLEAN ? (block + i) % (DISK_PAGES + 1)
				 : how & 12                        ? 0
								   : no_mark(get_word());
	}
	act_call(g, AERO_CALL_PAGE_HINT, (u64)BATCH << PAGE_SHIFT, n, 0);
	if (how & 0x40 && running(g))
		(void)swap_out(&g->vm->gs, n);
}

static void op_exit(struct guest *g)
{
	struct hv_exit e = {.kind = get8() % HV_EXIT_KINDS, .len = 2, .cpl = get8() % 4, .reason = 1, .text = "fuzz"};
	u64 word = get_word();

	switch (e.kind) {
	case HV_EXIT_TRIPLE_FAULT:
	case HV_EXIT_EXCEPTION:
	case HV_EXIT_BAD_STATE:
	case HV_EXIT_UNKNOWN:
		if (e.cpl)
			e.kind = HV_EXIT_HLT;
		break;
	case HV_EXIT_NPF:
		e.npf.gpa = GPA(e.cpl ? word & (VM_MEMORY_MIN - 1) : word);
		e.npf.write = word & 1;
		break;
	case HV_EXIT_MSR_READ:
	case HV_EXIT_MSR_WRITE:
		e.msr.index = e.cpl ? AERO_MSR_HYPERCALL : (u32)word;
		e.msr.value = word;
		break;
	case HV_EXIT_IO:
		e.io.port = e.cpl ? 0xe9 : (u16)word;
		e.io.bytes = 1 << word % 3;
		e.io.in = word & 8;
		e.io.string = word & 16;
		break;
	default:
		break;
	}
	if (running(g))
		g->vm->vcpu[g->actor]->hv->irqs_on |= e.kind == HV_EXIT_HLT && e.cpl;
	act(g, &e);
}

/* ---- around them --------------------------------------------------------- */

static void op_time(void)
{
	u8 how = get8();

	fake_now_ns += how < 128 ? how * NSEC_PER_MSEC : how < 250 ? NSEC_PER_SEC / 4 : 6 * NSEC_PER_SEC;
	fake_cpu_run(4);
}

static void op_disk(void)
{
	u8 how = get8(), from = get8();

	switch (how % 8) {
	case 0:
	case 1:
		fake_blk.hold = !fake_blk.hold;
		break;
	case 2:
		fake_blk.early_reads = !fake_blk.early_reads;
		break;
	case 3:
		fake_blk.latency_ns = from * NSEC_PER_MSEC / 8;
		break;
	case 4:
		fake_blk.bad_read_from = fake_blk.bad_write_from = fake_blk_part.pages + from % DATA_PAGES;
		fake_blk.bad_read_to = fake_blk.bad_write_to = fake_blk.bad_read_from + (how < 128 ? 0 : DATA_PAGES);
		break;
	case 5: /* of swap */
		disk_failed |= how > 200;
		if (how > 200)
			fake_blk.bad_read_to = fake_blk.bad_write_to = from;
		break;
	case 6:
		fake_blk.gone |= how > 240;
		disk_failed |= how > 240;
		break;
	default:
		fake_blk_poll();
	}
}

static void op_memory(struct guest *g)
{
	u8 how = get8();

	switch (how % 6) {
	case 0:
		reclaim_step(fake_now_ns);
		break;
	case 1:
		share_set_rate(8192, 8192);
		reclaim_scan();
		share_set_rate(0, 0);
		break;
	case 2:
	case 3:
		if (running(g))
			(void)swap_out(&g->vm->gs, how);
		break;
	case 4:
		if (running(g))
			reclaim_set_manual(&g->vm->gs, how < 128 ? how * 8U : GFN_NONE);
		break;
	default:
		fake_alloc_fail_at = fake_allocs + 1 + how / 6;
		memory_failed = true;
	}
}

static void create(struct guest *g)
{
	struct vm_config c = fake_vm_config(g == &guest[0] ? "a" : "b");
	u8 how = get8();
	char why[128];

	c.disk_bytes = (u64)(how % 4 ? DISK_PAGES : how % 16) << PAGE_SHIFT;
	c.reservation_bytes = how & 0x10 ? 40 * PAGE_SIZE : 0;
	c.watchdog_sec = how & 0x20 ? 1 : 0;
	c.vcpus = how & 0x80 ? 1 : 3;
	c.balloon_max_percent = how & 0x40 ? 90 : 0;
	c.maximum_bytes = how & 0x40 ? 0 : (u64)PAGES_MAX << PAGE_SHIFT;
	if (vm_create(&c, &g->vm, why, sizeof(why)))
		g->vm = NULL;
}

static void start(struct guest *g)
{
	char why[128];

	if (g->vm && !vm_start(g->vm, why, sizeof(why))) {
		g->generation = ++generations;
		g->actor = 0;
	}
}

static void op_operator(struct guest *g)
{
	u8 how = get8(), arg = get8();
	char why[128];
	struct aero_info info;
	int err = 0;

	if (!g->vm) {
		create(g);
		start(g);
		return;
	}
	switch (how % 16) {
	case 0:
		err = vm_pause(g->vm, why, sizeof(why));
		break;
	case 1:
	case 2:
		err = vm_resume(g->vm, why, sizeof(why));
		break;
	case 3:
		err = vm_stop(g->vm, arg & 1, why, sizeof(why));
		break;
	case 4:
		if (!vm_destroy(g->vm, why, sizeof(why)))
			g->vm = NULL;
		break;
	case 5:
		err = vm_set_reservation(g->vm, arg * 16 * PAGE_SIZE, why, sizeof(why));
		break;
	case 6:
		err = vm_set_limit(g->vm, (u64)arg << 20, why, sizeof(why));
		break;
	case 7:
		err = arg < 128 ? vm_set_shares(g->vm, arg * 5000, why, sizeof(why))
				: vm_set_memory(g->vm, (arg - 128) / 8 * MIB, why, sizeof(why));
		break;
	case 8:
	case 9:
		(void)vm_console_write(g->vm, "operator", arg % 9);
		break;
	case 10:
		(void)vm_read_info(g->vm, &info);
		break;
	case 11:
		vm_post_event(g->vm, BIT(arg % 64));
		break;
	case 12:
		if (g->vm->gs_valid && arg > 220)
			mm_gspace_poisoned(&g->vm->gs, arg, "fuzz");
		break;
	default:
		start(g);
	}
	(void)err;
}

static void one_op(void)
{
	u8 what = get8();
	struct guest *g = &guest[what >> 7];

	if (running(g) && g->vm->vcpu[g->actor]->state == VCPU_OFF)
		g->actor = 0;
	switch (what % 16) {
	case 0:
	case 1:
		op_call(g);
		break;
	case 2:
	case 3:
		op_good_call(g);
		break;
	case 4:
	case 5:
		op_touch(g);
		break;
	case 6:
		op_poke(g);
		break;
	case 7:
		if (what & 0x40)
			op_vcpu(g);
		else if (what & 0x20)
			op_grow(g);
		else
			op_copy_in(g);
		break;
	case 8:
	case 9:
		op_request(g);
		break;
	case 10:
		if (what & 0x40)
			op_hint(g);
		else
			op_balloon(g);
		break;
	case 11:
		op_exit(g);
		break;
	case 12:
		op_time();
		break;
	case 13:
		op_disk();
		break;
	case 14:
		op_memory(g);
		break;
	default:
		op_operator(g);
	}
}

/* A guest's own reboot begins a run as well. Its first run ends in some pass of the loop. */
static void watch_reboots(void)
{
	for (u32 i = 0; i < VMS; i++)
		if (guest[i].vm && guest[i].vm->restart && guest[i].vm->state == VM_STOPPING) {
			guest[i].generation = ++generations;
			guest[i].actor = 0;
		}
}

/* ---- the end ------------------------------------------------------------- */

static bool vm_waits(const struct vm *vm)
{
	for (u32 i = 0; i < VM_VCPUS_MAX; i++)
		if (vm->vcpu[i] && vm->vcpu[i]->state == VCPU_WAIT_MEMORY)
			return true;
	return false;
}

static bool somebody_waits(void)
{
	for (u32 i = 0; i < VMS; i++)
		if (guest[i].vm && guest[i].vm->state == VM_RUNNING && vm_waits(guest[i].vm))
			return true;
	return false;
}

static void finish(void)
{
	const char *leak;

	fake_blk = (struct fake_blk){.pending = fake_blk.pending, .gone = fake_blk.gone};
	fake_alloc_fail_at = 0;
	fake_cpu_idle_ns = 10 * NSEC_PER_MSEC;
	/* A disk that works and memory that does not fail: whoever waits for them goes on. */
	for (u32 i = 0; !disk_failed && somebody_waits(); i++) {
		CHECK(i < 20000);
		fake_cpu_run(1);
		watch_reboots();
	}
	check_all();
	for (u32 i = 0; i < VMS; i++)
		if (guest[i].vm)
			fake_vm_remove(guest[i].vm);
	fake_machine_settle();
	leak = fake_machine_leak();
	if (leak)
		panic("left behind: %s", leak);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_set_level(LOG_ERROR);
	fake_machine_start(&machine);
	return 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	in = data;
	in_left = size;
	prng_seed(&tail, hash_bytes(data, MIN(size, 4), size / 16));
	fake_machine_restart();
	share_set_rate(0, 0); /* op_memory() scans: otherwise most of the time would go there */
	for (u32 i = 0; i < DATA_PAGES; i++) {
		u64 *page = fake_data_page(i);

		page[0] = page[PAGE_SIZE / 16] = SECRET_TOP << 32 | i;
	}
	memset(guest, 0, sizeof(guest));
	generations = marks = 0;
	disk_failed = memory_failed = false;
	fake_guest = be_guest;
	for (u32 i = 0; i < VMS; i++) {
		create(&guest[i]);
		start(&guest[i]);
	}
	fake_cpu_run(12);
	for (u32 i = 0; i < OPS_MAX && (in_left || i < OPS_MIN); i++) {
		one_op();
		watch_reboots();
		if (i % 16 == 0)
			check_all();
	}
	finish();
	return 0;
}
