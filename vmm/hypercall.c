/*
 * The hypercall surface. Everything a guest passes is checked, copied before
 * use and bounded in work.
 *
 * A call that has to wait for one of its own pages returns `false`: nothing has happened
 * yet and the guest's instruction runs again. So each call first pins or reads what it needs and
 * acts afterwards.
 */
#include "guest/abi/aerostat.h"
#include "lib/err.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/balloon.h"
#include "mm/clean.h"
#include "mm/platform.h"
#include "vmm/pvdisk.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define CONSOLE_CALL_MAX 1024

_Static_assert(BALLOON_BATCH_MAX == AERO_BALLOON_BATCH_MAX, "one batch, one page");
_Static_assert(HINT_BATCH_MAX == AERO_HINT_BATCH_MAX && sizeof(struct hint) == sizeof(struct aero_hint),
	       "one batch, one page");

/* A page-aligned-or-not range inside one guest page, pinned for writing: *va is ours until unpinned. */
static int pin_range(struct vm *vm, gpa_t gpa, size_t len, void **va)
{
	hfn_t hfn;
	int err;

	if ((gpa.v & ~PAGE_MASK) + len > PAGE_SIZE || gpa.v >> PAGE_SHIFT >= vm->gs.pages)
		return E_FAULT;
	err = gspace_pin(&vm->gs, gpa_to_gfn(gpa), true, &hfn);
	if (err)
		return err;
	*va = (u8 *)mm_hfn_to_va(hfn) + (gpa.v & ~PAGE_MASK);
	return 0;
}

static s64 call_hello(struct vcpu *v, struct hv_regs *r)
{
	struct vm *vm = v->vm;

	if (r->rdi != AERO_ABI_VERSION)
		return AERO_E_NOSYS;
	return vm_attach_info(vm, GPA(r->rdx), (u32)r->rsi & vm_features_offered(vm));
}

/* Its buffer is not for the stack of every call. */
static __attribute__((noinline)) s64 call_console_write(struct vcpu *v, struct hv_regs *r)
{
	char text[CONSOLE_CALL_MAX];
	int err;

	if (r->rsi > sizeof(text))
		return AERO_E_2BIG;
	err = gspace_read(&v->vm->gs, GPA(r->rdi), text, r->rsi);
	return err ? err : (s64)vm_console_put(v->vm, text, r->rsi);
}

static s64 call_console_read(struct vcpu *v, struct hv_regs *r)
{
	void *va;
	s64 n;

	if (r->rsi > CONSOLE_CALL_MAX)
		return AERO_E_2BIG;
	n = pin_range(v->vm, GPA(r->rdi), r->rsi, &va);
	if (n)
		return n;
	n = (s64)vm_console_get(v->vm, va, r->rsi);
	gspace_unpin(&v->vm->gs, gpa_to_gfn(GPA(r->rdi)));
	return n;
}

static s64 call_upcall(struct vcpu *v, struct hv_regs *r)
{
	if (r->rdi < 32 || r->rdi > 255)
		return AERO_E_INVAL;
	WRITE_ONCE(v->upcall_vector, (u8)r->rdi);
	return 0;
}

/* Copies the batch to our own memory, acts on the copy, writes the statuses back into the pinned page. */
static s64 call_balloon(struct vcpu *v, struct hv_regs *r, u32 (*act)(struct gspace *, u64 *, u32))
{
	struct gspace *gs = &v->vm->gs;
	u64 *batch, *va;
	s64 n;

	if (!(v->vm->features & AERO_FEATURE_BALLOON))
		return AERO_E_PERM;
	if (r->rsi > BALLOON_BATCH_MAX)
		return AERO_E_2BIG;
	if (r->rdi & 7)
		return AERO_E_INVAL;
	batch = v->scratch;
	n = pin_range(v->vm, GPA(r->rdi), r->rsi * sizeof(*batch), (void **)&va);
	if (n)
		return n;
	memcpy(batch, va, r->rsi * sizeof(*batch));
	lock_acquire(&v->vm->lock); /* two batches at once would both fill the room up to the target */
	n = act(gs, batch, (u32)r->rsi);
	lock_release(&v->vm->lock);
	memcpy(va, batch, r->rsi * sizeof(*batch));
	gspace_unpin(gs, gpa_to_gfn(GPA(r->rdi)));
	r->rdx = gs->balloon_target;
	return n;
}

static s64 call_balloon_poll(struct vcpu *v, struct hv_regs *r)
{
	if (!(v->vm->features & AERO_FEATURE_BALLOON))
		return AERO_E_PERM;
	r->rdx = balloon_allowance(&v->vm->gs, platform_now_ns());
	return v->vm->gs.balloon_target;
}

/* The same with hints. A batch that has to wait for a page has done nothing that cannot be done again. */
static s64 call_hint(struct vcpu *v, const struct hv_regs *r)
{
	struct gspace *gs = &v->vm->gs;
	struct hint *batch = (struct hint *)v->scratch;
	size_t bytes = r->rsi * sizeof(*batch);
	void *va;
	s64 n;

	if (!(v->vm->features & AERO_FEATURE_HINT))
		return AERO_E_PERM;
	if (r->rsi > HINT_BATCH_MAX)
		return AERO_E_2BIG;
	if (r->rdi & 7)
		return AERO_E_INVAL;
	n = pin_range(v->vm, GPA(r->rdi), bytes, &va);
	if (n)
		return n;
	memcpy(batch, va, bytes);
	n = clean_hints(gs, batch, (u32)r->rsi);
	if (n >= 0)
		memcpy(va, batch, bytes);
	gspace_unpin(gs, gpa_to_gfn(GPA(r->rdi)));
	return n;
}

static s64 call_disk(struct vcpu *v, struct hv_regs *r, bool setup)
{
	struct vm *vm = v->vm;
	s64 n;

	lock_acquire(&vm->lock);
	n = setup ? pvdisk_setup(vm, r->rdi, GPA(r->rsi)) : pvdisk_kick(vm, r->rdi);
	lock_release(&vm->lock);
	return n;
}

static s64 call_vcpu(struct vcpu *v, const struct hv_regs *r)
{
	if (!(v->vm->features & AERO_FEATURE_SMP))
		return AERO_E_PERM;
	switch (r->rax) {
	case AERO_CALL_VCPU_START:
		return vcpu_call_start(v, r);
	case AERO_CALL_VCPU_STOP:
		return vcpu_call_stop(v, r->rdi);
	default:
		return vcpu_call_send(v, r->rdi, r->rsi);
	}
}

static s64 call_timer(struct vcpu *v, const struct hv_regs *r)
{
	vcpu_set_timer(v, r->rdi);
	return 0;
}

static __attribute__((noinline)) s64 dispatch(struct vcpu *v, struct hv_regs *r)
{
	/* Everything but the greeting and the end wants the contract first. */
	if (v->vm->info_hfn == HFN_NONE && r->rax != AERO_CALL_HELLO && r->rax != AERO_CALL_NOP &&
	    r->rax != AERO_CALL_CONSOLE_WRITE && r->rax != AERO_CALL_SHUTDOWN)
		return r->rax < AERO_CALLS ? AERO_E_PERM : AERO_E_NOSYS;
	switch (r->rax) {
	case AERO_CALL_NOP:
		return 0;
	case AERO_CALL_HELLO:
		return call_hello(v, r);
	case AERO_CALL_CONSOLE_WRITE:
		return call_console_write(v, r);
	case AERO_CALL_CONSOLE_READ:
		return call_console_read(v, r);
	case AERO_CALL_UPCALL:
		return call_upcall(v, r);
	case AERO_CALL_TIMER:
		return call_timer(v, r);
	case AERO_CALL_BALLOON_INFLATE:
		return call_balloon(v, r, balloon_inflate);
	case AERO_CALL_BALLOON_DEFLATE:
		return call_balloon(v, r, balloon_deflate);
	case AERO_CALL_BALLOON_POLL:
		return call_balloon_poll(v, r);
	case AERO_CALL_DISK_SETUP:
		return call_disk(v, r, true);
	case AERO_CALL_DISK_KICK:
		return call_disk(v, r, false);
	case AERO_CALL_SHUTDOWN:
		vm_guest_shutdown(v->vm, r->rdi);
		return 0;
	case AERO_CALL_VCPU_START:
	case AERO_CALL_VCPU_STOP:
	case AERO_CALL_VCPU_SEND:
		return call_vcpu(v, r);
	case AERO_CALL_MEMORY_ONLINE:
		return vm_memory_online(v->vm, r->rdi, r->rsi);
	case AERO_CALL_PAGE_HINT:
		return call_hint(v, r);
	default:
		return AERO_E_NOSYS;
	}
}

bool hypercall_handle(struct vcpu *v, struct hv_regs *r)
{
	/* The commonest does not look for its place. */
	s64 n = r->rax == AERO_CALL_TIMER && v->vm->info_hfn != HFN_NONE ? call_timer(v, r) : dispatch(v, r);

	if (n == E_AGAIN) {
		sched_wait_memory(v, ~v->counts.hypercalls);
		return false;
	}
	v->counts.hypercalls++;
	if (n < 0)
		v->counts.hypercall_errors++;
	r->rax = (u64)n;
	return true;
}
