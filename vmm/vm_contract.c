/*
 * The contract with a guest: the info page, events and upcalls, its console
 * rings, and the balloon's side of the page.
 *
 * The info page is pinned guest memory: the guest may write all of it at any time. What we write is only for the guest;
 * nothing is read back but the guest's report, once, as untrusted figures.
 */
#include "arch/x86/cpu.h"
#include "lib/err.h"
#include "lib/string.h"
#include "mm/balloon.h"
#include "mm/platform.h"
#include "vmm/vm_internal.h"

#define CLOCK_SHIFT 32

void (*vm_console_notify)(struct vm *vm);

static struct aero_info *info_of(const struct vm *vm)
{
	return vm->info_hfn == HFN_NONE ? NULL : mm_hfn_to_va(vm->info_hfn);
}

static void fill_clock(struct vm *vm, struct aero_info *info)
{
	u64 khz = cpu_tsc_khz();

	info->clock.version++;
	barrier();
	info->clock.base_ns = platform_now_ns() - vm->clock_base_ns;
	info->clock.base_tsc = __builtin_ia32_rdtsc();
	info->clock.mult = (1000000UL << CLOCK_SHIFT) / khz;
	info->clock.shift = CLOCK_SHIFT;
	barrier();
	info->clock.version++;
}

static void fill_balloon(struct vm *vm, struct aero_info *info)
{
	struct gspace *gs = &vm->gs;

	info->balloon.target = gs->balloon_target;
	info->balloon.floor = gs->alloc.reservation;
	info->balloon.max = gs->balloon_max;
	info->balloon.rate = gs->balloon_rate ? gs->balloon_rate : BALLOON_RATE_DEFAULT;
	info->balloon.rate_down = gs->balloon_rate_down ? gs->balloon_rate_down : info->balloon.rate;
	info->balloon.credit = (u32)balloon_credit_pages(gs);
	info->balloon.deadline_ms = gs->balloon_deadline_ms;
	barrier();
	info->balloon.sequence++;
}

static void fill_memory(struct vm *vm, struct aero_info *info)
{
	struct gspace *gs = &vm->gs;

	lock_acquire(&gs->lock);
	info->growth.online = (u64)gs->pages << PAGE_SHIFT;
	info->growth.offered = (u64)MAX(gs->dyn.offered, gs->pages) << PAGE_SHIFT;
	lock_release(&gs->lock);
	info->growth.maximum = vm_memory_max(&vm->config);
}

u32 vm_features_offered(const struct vm *vm)
{
	return AERO_FEATURE_BALLOON | AERO_FEATURE_BALLOON_2M | AERO_FEATURE_TIMER | AERO_FEATURE_CONSOLE |
	       AERO_FEATURE_SMP | AERO_FEATURE_HINT | (vm->disk ? AERO_FEATURE_DISK : 0) |
	       (vm->config.maximum_bytes ? AERO_FEATURE_MEMORY : 0);
}

s64 vm_attach_info(struct vm *vm, gpa_t gpa, u32 features)
{
	struct aero_info *info;
	hfn_t hfn;
	int err;

	if (vm->info_hfn != HFN_NONE)
		return AERO_E_PERM;
	if (gpa.v & ~PAGE_MASK || gpa.v >> PAGE_SHIFT >= vm->gs.pages)
		return AERO_E_FAULT;
	err = gspace_pin(&vm->gs, gpa_to_gfn(gpa), true, &hfn);
	if (err)
		return err;
	lock_acquire(&vm->lock);
	vm->info_gfn = gpa_to_gfn(gpa);
	vm->features = features;
	info = mm_hfn_to_va(hfn);
	page_clear(info);
	fill_clock(vm, info);
	fill_balloon(vm, info);
	fill_memory(vm, info);
	if (ring_used(&vm->con_in)) /* typed before there was anybody to tell */
		info->events = AERO_EVENT_CONSOLE;
	/* filled first: another CPU may post an event at once */
	__atomic_store_n(&vm->info_hfn, hfn, __ATOMIC_RELEASE);
	lock_release(&vm->lock);
	if (features & AERO_FEATURE_BALLOON) {
		vm->gs.balloon_progress_ns = platform_now_ns();
		vm->gs.balloon_2m = features & AERO_FEATURE_BALLOON_2M;
		WRITE_ONCE(vm->gs.balloon_present, true);
	}
	if (features & AERO_FEATURE_MEMORY)
		WRITE_ONCE(vm->gs.dyn.present, true);
	return features;
}

void vm_detach_info(struct vm *vm)
{
	if (vm->info_hfn == HFN_NONE)
		return;
	WRITE_ONCE(vm->gs.balloon_present, false);
	WRITE_ONCE(vm->gs.dyn.present, false);
	vm->info_hfn = HFN_NONE;
	gspace_unpin(&vm->gs, vm->info_gfn);
}

bool vm_read_info(struct vm *vm, struct aero_info *out)
{
	const struct aero_info *info;

	lock_acquire(&vm->lock);
	info = info_of(vm);
	if (info)
		memcpy(out, info, sizeof(*out));
	lock_release(&vm->lock);
	if (!info)
		return false;
	out->app.name[sizeof(out->app.name) - 1] = 0;
	return true;
}

void vm_post_vcpu_event(struct vcpu *v, u64 event)
{
	struct aero_info *info = info_of(v->vm);

	if (!info)
		return;
	/* A full barrier: either we see the vector, or the guest that sets it sees the event. */
	__atomic_or_fetch(aero_events(info, v->index), event, __ATOMIC_SEQ_CST);
	if (READ_ONCE(v->upcall_vector)) {
		WRITE_ONCE(v->upcall, true);
		sched_wake(v);
	}
}

void vm_post_event(struct vm *vm, u64 event)
{
	if (vm->vcpu[0])
		vm_post_vcpu_event(vm->vcpu[0], event);
}

void vm_clear_vcpu_events(struct vcpu *v)
{
	struct aero_info *info = info_of(v->vm);

	if (info)
		__atomic_store_n(aero_events(info, v->index), 0, __ATOMIC_SEQ_CST);
}

/* Deferred because mm_balloon_notify() comes with reclaim's lock held, and vm->lock ranks below it. */
static void notify_balloon(struct work *w)
{
	struct vm *vm = container_of(w, struct vm, notify_work);
	struct aero_info *info;
	u64 event = AERO_EVENT_BALLOON;

	lock_acquire(&vm->lock);
	info = info_of(vm);
	if (info) {
		fill_balloon(vm, info);
		fill_memory(vm, info);
		if (vm->features & AERO_FEATURE_MEMORY)
			event |= AERO_EVENT_MEMORY;
	}
	lock_release(&vm->lock);
	if (info)
		vm_post_event(vm, event);
}

s64 vm_memory_online(struct vm *vm, u64 gpa, u64 bytes)
{
	struct aero_info *info;
	int err;

	if (!(vm->features & AERO_FEATURE_MEMORY))
		return AERO_E_PERM;
	if ((gpa | bytes) & ~PAGE_MASK)
		return AERO_E_INVAL;
	err = gspace_grow(&vm->gs, gpa >> PAGE_SHIFT, bytes >> PAGE_SHIFT);
	if (err)
		return err;
	lock_acquire(&vm->lock);
	info = info_of(vm);
	if (info)
		fill_memory(vm, info);
	lock_release(&vm->lock);
	return 0;
}

u64 mm_guest_committed(struct gspace *gs)
{
	hfn_t hfn = __atomic_load_n(&vm_of_gspace(gs)->info_hfn, __ATOMIC_ACQUIRE);
	const struct aero_info *info = hfn == HFN_NONE ? NULL : mm_hfn_to_va(hfn);

	return info ? READ_ONCE(info->memory.committed) : 0;
}

void vm_contract_init(struct vm *vm)
{
	vm->info_hfn = HFN_NONE;
	work_init(&vm->notify_work, "balloon-notify", notify_balloon);
}

void mm_balloon_notify(struct gspace *gs)
{
	work_queue(&vm_of_gspace(gs)->notify_work);
}

/* ---- console rings ---- */

static void notify_operator(struct vm *vm)
{
	if (READ_ONCE(vm->con_attached) && vm_console_notify)
		vm_console_notify(vm);
}

void vm_console_put_byte(struct vm *vm, u8 c)
{
	lock_acquire(&vm->lock);
	if (unlikely(ring_force(&vm->con_out, c)))
		vm->con_dropped++;
	lock_release(&vm->lock);
	notify_operator(vm);
}

size_t vm_console_put(struct vm *vm, const char *text, size_t len)
{
	u32 dropped = 0;

	lock_acquire(&vm->lock);
	for (size_t i = 0; i < len; i++)
		dropped += ring_force(&vm->con_out, (u8)text[i]);
	vm->con_dropped += dropped;
	lock_release(&vm->lock);
	notify_operator(vm);
	return len;
}

static size_t ring_take(struct ring *r, char *buf, size_t size)
{
	size_t n = 0;
	int c;

	while (n < size && (c = ring_get(r)) >= 0)
		buf[n++] = (char)c;
	return n;
}

size_t vm_console_get(struct vm *vm, char *buf, size_t size)
{
	size_t n;

	lock_acquire(&vm->lock);
	n = ring_take(&vm->con_in, buf, size);
	lock_release(&vm->lock);
	return n;
}

size_t vm_console_read(struct vm *vm, char *buf, size_t size)
{
	size_t n;

	lock_acquire(&vm->lock);
	n = ring_take(&vm->con_out, buf, size);
	lock_release(&vm->lock);
	return n;
}

bool vm_console_line(struct vm *vm, const char *text, size_t len)
{
	bool room;

	lock_acquire(&vm->lock);
	room = len < ring_room(&vm->con_in);
	for (size_t i = 0; room && i <= len; i++)
		ring_put(&vm->con_in, i < len ? (u8)text[i] : '\r');
	lock_release(&vm->lock);
	if (room)
		vm_post_event(vm, AERO_EVENT_CONSOLE);
	return room;
}

size_t vm_console_write(struct vm *vm, const char *buf, size_t len)
{
	size_t n = 0;

	lock_acquire(&vm->lock);
	while (n < len && ring_put(&vm->con_in, buf[n]))
		n++;
	lock_release(&vm->lock);
	if (n)
		vm_post_event(vm, AERO_EVENT_CONSOLE);
	return n;
}
