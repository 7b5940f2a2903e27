/*
 * Several vCPUs in one VM: a guest starts, stops and signals its own processors.
 *
 * vCPU 0 begins with the VM and ends with it; the others are OFF until the guest starts them. A start leaves the
 * registers to the CPU that will first run the vCPU (vcpu_take_start): whatever of its former life is still in some
 * CPU's registers is there or nowhere.
 *
 * Locking: vm->lock keeps two starts of one vCPU apart (`starting`). Its state belongs to the scheduler. What a start
 * changes otherwise (start, reset, event word, timer) nobody else touches while the vCPU is OFF, but for events that
 * are sent to it: they are kept if they come after the start, and may be lost if before.
 */
#include "lib/err.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

_Static_assert(VM_VCPUS_MAX <= AERO_VCPUS_MAX, "every vCPU has its event word");

static struct vcpu *find(struct vm *vm, u64 index)
{
	return index < vm->config.vcpus ? vm->vcpu[index] : NULL;
}

static bool canonical(u64 va)
{
	return (u64)((s64)(va << 16) >> 16) == va;
}

/* True: this caller, and nobody else, may start v now. */
static bool claim(struct vcpu *v)
{
	struct vm *vm = v->vm;
	bool mine;

	lock_acquire(&vm->lock);
	mine = READ_ONCE(v->state) == VCPU_OFF && !v->starting;
	if (mine)
		v->starting = true;
	lock_release(&vm->lock);
	return mine;
}

s64 vcpu_call_start(struct vcpu *by, const struct hv_regs *r)
{
	struct vm *vm = by->vm;
	struct vcpu *v = find(vm, r->rdi);
	bool started;

	if (!v)
		return AERO_E_NOENT;
	if (!canonical(r->rsi) || r->r8 & ~PAGE_MASK)
		return AERO_E_INVAL;
	if (r->r8 >> PAGE_SHIFT >= vm->gs.pages)
		return AERO_E_FAULT;
	if (!claim(v))
		return AERO_E_BUSY;
	timer_cancel_sync(&v->timer);
	WRITE_ONCE(v->upcall_vector, 0);
	v->start = (struct hv_start){.rip = r->rsi, .rsp = r->rdx, .cr3 = r->r8, .rdi = r->r9};
	v->reset = true;
	v->irqs_off_since_ns = 0;
	vm_clear_vcpu_events(v);
	started = sched_restart(v);
	WRITE_ONCE(v->starting, false);
	return started ? 0 : AERO_E_BUSY;
}

s64 vcpu_call_stop(struct vcpu *by, u64 index)
{
	struct vcpu *v = find(by->vm, index);

	if (!v)
		return AERO_E_NOENT;
	if (index == 0)
		return AERO_E_PERM;
	sched_retire(v);
	return 0;
}

s64 vcpu_call_send(struct vcpu *by, u64 mask, u64 events)
{
	struct vm *vm = by->vm;

	if (!events || events & ~AERO_EVENTS_GUEST)
		return AERO_E_INVAL;
	if (mask & ~(BIT(vm->config.vcpus) - 1))
		return AERO_E_NOENT;
	for (; mask; mask &= mask - 1)
		vm_post_vcpu_event(vm->vcpu[__builtin_ctzl(mask)], events);
	return 0;
}

void vcpu_take_start(struct vcpu *v)
{
	v->reset = false;
	hv->vcpu_reset(v->hv, &v->start);
}
