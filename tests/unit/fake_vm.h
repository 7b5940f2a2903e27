/*
 * VMs without processors, for the operator's commands: the functions of vmm/vm.h over real guest address spaces
 * (mm on the fake machine), and guests that say whatever a test wants.
 */
#ifndef TESTS_FAKE_VM_H
#define TESTS_FAKE_VM_H

#include "vmm/console.h"
#include "vmm/vm.h"

#define FAKE_VM_FRAMES 4096U

/* First call: a fake machine. Every call: no VMs, settings and log as at boot. */
void fake_vm_reset(void);
void fake_vm_end(void); /* gives everything back */
/* The same as set-up and teardown of a test. */
int fake_vm_fresh(void **state);
int fake_vm_over(void **state);

/* The next calls of vm_start() / vm_set_*() fail with this text. NULL: they work. */
extern const char *fake_vm_refuse;
/* What the guest of vm tells; all VMs that run. */
extern struct aero_info fake_vm_info;
extern bool fake_vm_silent;    /* no guest has said HELLO */
extern bool fake_vm_deaf;      /* guests ignore an orderly stop, and what is typed */
extern char fake_vm_typed[64]; /* at the consoles, the last line */

/* Touches pages [0, n) so that they are private. */
void fake_vm_touch(struct vm *vm, u32 n);

/* A sink that keeps everything, cut at its size; terminated. */
#define FAKE_OUT_BYTES (256 * KIB)
struct fake_out {
	struct console_out out;
	char text[FAKE_OUT_BYTES];
	size_t len;
};
void fake_out_init(struct fake_out *f);
extern u64 fake_vm_starved_ns; /* of every vCPU */

#endif
