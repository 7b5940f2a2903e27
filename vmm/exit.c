/*
 * What each exit means. One case a line; a guest fault injects an exception or
 * ends that guest, never the host.
 */
#include "arch/x86/cpu.h"
#include "guest/abi/aerostat.h"
#include "lib/err.h"
#include "lib/string.h"
#include "vmm/cpuid.h"
#include "vmm/memory.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define VECTOR_UD               6
#define VECTOR_GP               13
#define PORT_DEBUG              0xe9 /* Bochs' debug port: a byte to the VM's console */
#define MSR_IA32_TSC            0x10
#define HYPERCALL_ROUTINE_BYTES 4 /* the instruction and RET */

const char *exit_kind_name(enum hv_exit_kind k)
{
	static const char *const name[HV_EXIT_KINDS] = {
	    [HV_EXIT_NONE] = "none",
	    [HV_EXIT_HOST_IRQ] = "host-irq",
	    [HV_EXIT_HYPERCALL] = "hypercall",
	    [HV_EXIT_CPUID] = "cpuid",
	    [HV_EXIT_MSR_READ] = "msr-read",
	    [HV_EXIT_MSR_WRITE] = "msr-write",
	    [HV_EXIT_IO] = "io",
	    [HV_EXIT_HLT] = "hlt",
	    [HV_EXIT_NPF] = "npf",
	    [HV_EXIT_CR_WRITE] = "cr-write",
	    [HV_EXIT_UNDEFINED] = "undefined",
	    [HV_EXIT_TRIPLE_FAULT] = "triple-fault",
	    [HV_EXIT_EXCEPTION] = "exception",
	    [HV_EXIT_BAD_STATE] = "bad-state",
	    [HV_EXIT_UNKNOWN] = "unknown",
	};

	return k < HV_EXIT_KINDS && name[k] ? name[k] : "?";
}

/* Ends the guest with everything known about its state in the log. */
static void end_guest(struct vcpu *v, const struct hv_exit *e, const char *what)
{
	vm_crash(v->vm, "%s (reason %#lx%s%s)", what, e->reason, e->text ? ": " : "", e->text ? e->text : "");
}

/*
 * Touches a page for the guest; on a wait the vCPU leaves the queue and the instruction runs again. False unless
 * resolved.
 */
static bool resolve(struct vcpu *v, gfn_t gfn, enum gspace_access access)
{
	int err = gspace_touch(&v->vm->gs, gfn, access);

	memory_check_pressure();
	if (err == E_AGAIN)
		sched_wait_memory(v, gfn);
	return err == 0;
}

static __attribute__((noinline)) void exit_npf(struct vcpu *v, struct hv_exit *e)
{
	u64 gfn = e->npf.gpa.v >> PAGE_SHIFT;

	if (gfn >= v->vm->gs.pages) {
		vm_crash(v->vm, "access beyond memory: gpa %#lx%s, memory ends at %#lx", e->npf.gpa.v,
			 e->npf.write ? " (write)" : "", (u64)v->vm->gs.pages << PAGE_SHIFT);
		return;
	}
	resolve(v, gfn, e->npf.write ? GSPACE_WRITE : e->npf.exec ? GSPACE_EXEC : GSPACE_READ);
}

static void exit_cpuid(struct vcpu *v, struct hv_regs *r, struct hv_exit *e)
{
	struct cpuid_regs c;

	struct hv_fast_cpuid *known = &hv_fast(v->hv)->cpuid[hv_fast_slot((u32)r->rax)];
	u64 key = r->rax << 32 | (u32)r->rcx;

	cpuid_guest(v, (u32)r->rax, (u32)r->rcx, &c);
	/* What a leaf says does not change while the VM runs. */
	*known = (struct hv_fast_cpuid){.key = key, .eax = c.eax, .ebx = c.ebx, .ecx = c.ecx, .edx = c.edx};
	r->rax = c.eax;
	r->rbx = c.ebx;
	r->rcx = c.ecx;
	r->rdx = c.edx;
	hv->skip(v->hv, e->len);
}

/* Fills a guest page with the hypercall routine of this vendor. */
static int write_hypercall_page(struct vcpu *v, u64 value)
{
	u8 code[HYPERCALL_ROUTINE_BYTES];
	u64 gpa = value & ~1UL;

	if (!(value & 1) || gpa & ~PAGE_MASK || gpa >> PAGE_SHIFT >= v->vm->gs.pages)
		return E_FAULT;
	memcpy(code, hv_caps.hypercall_insn, sizeof(hv_caps.hypercall_insn));
	code[HYPERCALL_ROUTINE_BYTES - 1] = 0xc3;
	return gspace_write(&v->vm->gs, GPA(gpa), code, sizeof(code));
}

static void exit_msr_write(struct vcpu *v, struct hv_exit *e)
{
	int err = e->msr.index == AERO_MSR_HYPERCALL ? write_hypercall_page(v, e->msr.value) : E_FAULT;

	if (err == E_AGAIN)
		sched_wait_memory(v, e->msr.value >> PAGE_SHIFT);
	else if (err)
		hv->inject_exception(v->hv, VECTOR_GP, true, 0);
	else
		hv->skip(v->hv, e->len);
}

static void exit_msr_read(struct vcpu *v, struct hv_regs *r, struct hv_exit *e)
{
	u64 value;

	if (e->msr.index == MSR_IA32_TSC) {
		value = __builtin_ia32_rdtsc();
	} else {
		hv->inject_exception(v->hv, VECTOR_GP, true, 0);
		return;
	}
	r->rax = (u32)value;
	r->rdx = value >> 32;
	hv->skip(v->hv, e->len);
}

/* There are no emulated devices but the debug port: reads float high, writes go nowhere. String forms are refused. */
static __attribute__((noinline)) void exit_io(struct vcpu *v, struct hv_exit *e)
{
	struct hv_regs *r = hv_regs(v->hv);

	if (e->io.string) {
		hv->inject_exception(v->hv, VECTOR_GP, true, 0);
		return;
	}
	if (e->io.port == PORT_DEBUG && e->io.bytes == 1 && !e->io.in) {
		vm_console_put_byte(v->vm, (u8)e->io.value);
	} else if (e->io.in) {
		u64 mask = e->io.bytes == 1 ? 0xff : e->io.bytes == 2 ? 0xffff : 0xffffffff;

		/* A 32-bit IN clears the upper half of RAX, as every 32-bit result does. */
		r->rax = e->io.bytes == 4 ? mask : r->rax | mask;
	}
	hv->skip(v->hv, e->len);
}

static void exit_hlt(struct vcpu *v, struct hv_exit *e)
{
	hv->skip(v->hv, e->len);
	if (!hv->irq_enabled(v->hv)) {
		vm_crash(v->vm, "halted with interrupts off");
		return;
	}
	v->irqs_off_since_ns = 0; /* for the watchdog: it had them on */
	if (!READ_ONCE(v->upcall))
		sched_halt(v);
}

/* From user mode it is an undefined instruction: a process is not the VM. */
static __attribute__((noinline)) void exit_hypercall(struct vcpu *v, struct hv_exit *e)
{
	if (e->cpl)
		hv->inject_exception(v->hv, VECTOR_UD, false, 0);
	else if (hypercall_handle(v, hv_regs(v->hv)))
		hv->skip(v->hv, e->len);
}

static __attribute__((noinline)) void exit_other(struct vcpu *v, struct hv_exit *e);

/* The commonest first: a long switch is a search. Each out of line: one does not save registers for another. */
void exit_handle(struct vcpu *v, struct hv_exit *e)
{
	v->counts.exits[e->kind]++;
	if (likely(e->kind == HV_EXIT_NPF))
		exit_npf(v, e);
	else if (e->kind == HV_EXIT_HYPERCALL)
		exit_hypercall(v, e);
	else if (e->kind == HV_EXIT_IO)
		exit_io(v, e);
	else if (e->kind > HV_EXIT_HOST_IRQ)
		exit_other(v, e);
}

static void exit_other(struct vcpu *v, struct hv_exit *e)
{
	struct hv_regs *r = hv_regs(v->hv);

	switch (e->kind) {
	case HV_EXIT_CPUID:
		exit_cpuid(v, r, e);
		break;
	case HV_EXIT_MSR_READ:
		exit_msr_read(v, r, e);
		break;
	case HV_EXIT_MSR_WRITE:
		exit_msr_write(v, e);
		break;
	case HV_EXIT_HLT:
		exit_hlt(v, e);
		break;
	case HV_EXIT_UNDEFINED:
		hv->inject_exception(v->hv, VECTOR_UD, false, 0);
		break;
	case HV_EXIT_CR_WRITE:
		hv->inject_exception(v->hv, VECTOR_GP, true, 0);
		break;
	case HV_EXIT_TRIPLE_FAULT:
		end_guest(v, e, "triple fault");
		break;
	case HV_EXIT_EXCEPTION:
		end_guest(v, e, "exception");
		break;
	case HV_EXIT_BAD_STATE:
		end_guest(v, e, "invalid guest state");
		break;
	default:
		end_guest(v, e, "unexpected exit");
		break;
	}
}
