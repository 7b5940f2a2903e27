/*
 * Which guest ran last on a CPU, for what has to happen between two guests and not between two vCPUs of one
 * (mitigate_switch()). Pure.
 *
 * A guest is known by its nested root. A frame can become another VM's root once its VM is gone: so each vCPU also has
 * a number, counted up as vCPUs are made. All vCPUs of a VM are made before one of them runs: what is younger than the
 * guest that ran last is not its sibling, though its root be in the same frame.
 */
#ifndef ARCH_X86_LAST_GUEST_H
#define ARCH_X86_LAST_GUEST_H

#include "lib/types.h"

/* Of a vCPU. Of a CPU: the root of the guest that ran last, and how many vCPUs had been made by then; zero at first. */
struct guest_mark {
	hfn_t root;
	u64 born; /* from 1 on */
};

/*
 * A vCPU is about to run where `last` says who ran before; births: vCPUs made until now. True: that was another guest.
 */
static inline bool last_guest_is_other(struct guest_mark *last, const struct guest_mark *vcpu, u64 births)
{
	if (vcpu->root == last->root && vcpu->born <= last->born)
		return false;
	*last = (struct guest_mark){.root = vcpu->root, .born = births};
	return true;
}

#endif
