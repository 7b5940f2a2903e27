/* Creation of vCPUs and their guest timer. */
#include "arch/x86/cpu.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "vmm/sched.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

_Static_assert(sizeof(struct vcpu) <= PAGE_SIZE, "a vCPU is one frame, its scratch page the next");
_Static_assert(AERO_CALL_NOP == 0, "what struct hv_fast.nop answers");
#define VCPU_ORDER 1

const char *vcpu_state_name(enum vcpu_state s)
{
	static const char *const name[VCPU_STATES] = {"off", "ready", "running", "halted", "memory"};

	return s < VCPU_STATES ? name[s] : "?";
}

static void timer_fired(struct timer *t)
{
	struct vcpu *v = container_of(t, struct vcpu, timer);

	vm_post_vcpu_event(v, AERO_EVENT_TIMER);
}

static int read_phys(void *owner, gpa_t gpa, void *dst, size_t len)
{
	struct vcpu *v = owner;

	return gspace_read(&v->vm->gs, gpa, dst, len);
}

void vcpu_init(void)
{
	hv_set_phys_reader(read_phys);
}

int vcpu_create(struct vm *vm, u32 index, hfn_t root, struct vcpu **out)
{
	hfn_t hfn = frame_alloc(VCPU_ORDER, FRAME_FOR_HV, FRAME_HV, true);
	struct vcpu *v;
	int err;

	if (hfn == HFN_NONE)
		return E_NOMEM;
	v = mm_hfn_to_va(hfn);
	err = hv->vcpu_create(&v->hv, root);
	if (err) {
		frame_free(hfn, VCPU_ORDER);
		return err;
	}
	hv_set_owner(v->hv, v);
	hv_fast(v->hv)->nop = true;
	v->vm = vm;
	v->scratch = mm_hfn_to_va(hfn + 1);
	v->index = index;
	list_init(&v->link);
	v->cpu = sched_first_cpu();
	v->loaded_on = CPU_NONE;
	timer_init_local(&v->timer, timer_fired);
	v->since_ns = platform_now_ns();
	*out = v;
	return 0;
}

void vcpu_destroy(struct vcpu *v)
{
	CHECK(v->state == VCPU_OFF);
	timer_cancel_sync(&v->timer);
	hv->vcpu_destroy(v->hv);
	frame_free(mm_va_to_hfn(v), VCPU_ORDER);
}

void vcpu_note_first_run(const struct vcpu *v)
{
	static bool noted;
	u64 ticks = cpu_ticks_since_entry();

	if (__atomic_exchange_n(&noted, true, __ATOMIC_RELAXED))
		return;
	log_info("boot", "first guest, %s, runs %lu TSC ticks after entry", v->vm->config.name, ticks);
}

void vcpu_set_timer(struct vcpu *v, u64 vm_ns)
{
	if (vm_ns == 0) {
		timer_cancel(&v->timer);
		return;
	}
	/* A deadline beyond the host clock's range is never; one in the past fires at once. */
	if (vm_ns > TIMER_NEVER - 1 - v->vm->clock_base_ns)
		timer_cancel(&v->timer);
	else
		timer_arm(&v->timer, vm_ns + v->vm->clock_base_ns);
}
