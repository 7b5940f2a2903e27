/*
 * A processor for guests, on the host: `struct hv_ops` whose guests are functions of the test, and what else vmm/ wants
 * of the machine. Links without cmocka, so that the fuzzer uses it as well.
 *
 * A guest instruction that exits runs again and again, as on a real processor, until the hypervisor has skipped it,
 * answered it with an exception, or (nested page fault) made the access possible. Only then the guest is asked what it
 * does next. The CPU loop is the real one: fake_cpu_run() lets it make a number of passes.
 *
 * Linked with --wrap=frame_alloc, so that any allocation can be made to fail.
 */
#ifndef TESTS_FAKE_HV_H
#define TESTS_FAKE_HV_H

#include "arch/x86/hv.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

struct hv_vcpu {
	struct hv_regs regs;
	struct hv_start start; /* of the last reset */
	struct hv_fast fast;
	hfn_t root;
	struct vcpu *owner;
	bool irqs_on;     /* RFLAGS.IF */
	struct cpu *on;   /* whose registers hold it */
	bool irq_refused; /* the guest cannot take an interrupt just now */
	bool repeat;      /* `last` is not done yet */
	struct hv_exit last;
	u8 irq;   /* to be delivered at the next entry, 0: none */
	u64 irqs; /* delivered */
	u64 entries, resets, dumps, skips, exceptions;
	u8 skipped_len;
	u8 exception; /* the last one injected */
	bool exception_has_error;
	u32 exception_error;
};

/* What the guest of v does next: fills in *e, and the operands in v->hv->regs. NULL: guests spin until a timer. */
extern void (*fake_guest)(struct vcpu *v, struct hv_exit *e);
void fake_guest_spins(struct vcpu *v, struct hv_exit *e);

/* Frames are few and pages of the disk fewer: tests want to come to the ends of both. */
struct fake_machine {
	u32 frames;
	u32 swap_pages, data_pages; /* 0: no such partition */
	u32 min_free;               /* frames; 0: the sliding scale */
};
/* Memory, disk, mm and the scheduler as after boot, and an image guest.elf; no VM. */
void fake_machine_start(const struct fake_machine *m);
/* The same once more, quickly; all VMs must be gone. The disk keeps what is on it. */
void fake_machine_restart(void);
void fake_machine_stop(void);
/* Passes of the CPU loop until there is neither work nor a transfer, within bounds. */
void fake_machine_settle(void);
/* CHECKs that every page and frame is accounted for. */
void fake_machine_verify(void);
/* All VMs are gone: NULL if everything has been given back, else what has not. */
const char *fake_machine_leak(void);
void *fake_data_page(u32 page); /* of the data partition, as it is on the disk */
extern struct blk_part fake_data_part;

/* So many passes of the CPU loop, or until fake_cpu_stop(). */
void fake_cpu_run(u32 passes);
void fake_cpu_stop(void);
extern void (*fake_cpu_window)(void); /* called at the start of each pass, or NULL */
extern u64 fake_cpu_idle_ns;          /* an idle CPU moves the clock so far, or to the timer */
extern u64 fake_cpu_armed_ns;         /* the timer, TIMER_NEVER: off */
extern u64 fake_cpu_passes, fake_cpu_idles;
extern bool fake_owes; /* else timers and work are served in every pass, whatever guests are owed */

/* Calls of frame_alloc() so far. The one that brings them to fake_alloc_fail_at fails; 0: none. */
extern u32 fake_allocs, fake_alloc_fail_at;
extern bool fake_vcpu_create_fails;

struct vm_config fake_vm_config(const char *name); /* 8 MiB, no disk */
/* Created, started and RUNNING on return. NULL if it cannot be, with the reason in fake_why. */
struct vm *fake_vm_run(const struct vm_config *c);
extern char fake_why[160];
/* Ends and destroys it. */
void fake_vm_remove(struct vm *vm);
/* Passes until vm is in state s; CHECKs that it comes to it. */
void fake_vm_await(struct vm *vm, enum vm_state s);

/*
 * One hypercall of the guest in vm, by way of the CPU loop: RAX, or FAKE_WAITS if the guest now waits for memory. RDX
 * afterwards is in fake_rdx. fake_call_again() lets a call that waits go on, until it is done.
 */
#define FAKE_WAITS ((s64)1 << 62)
extern u32 fake_caller; /* which vCPU makes the calls and exits: 0 after fake_machine_start and _restart */
extern u64 fake_rdx;
extern u64 fake_dumps; /* of all vCPUs */
s64 fake_call(struct vm *vm, u64 nr, u64 rdi, u64 rsi, u64 rdx);
s64 fake_call_again(struct vm *vm);
/* One exit of the guest, the same way. False if it is not done: the guest waits. */
bool fake_exit(struct vm *vm, const struct hv_exit *e);

/* Everything of the VM that can be goes to swap; CHECKs that gfn has. */
void fake_swap_out(struct vm *vm, gfn_t gfn);
/* The page's bytes, which must be in memory. Not a touch. */
void *fake_page(struct vm *vm, gfn_t gfn);
bool fake_page_writable(struct vm *vm, gfn_t gfn); /* as the guest's processor has it */
/* A word no other page has, at the start of the page. Waits for memory. */
void fake_page_write(struct vm *vm, gfn_t gfn, u64 word);
u64 fake_page_read(struct vm *vm, gfn_t gfn);

#endif
