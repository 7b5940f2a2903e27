/*
 * Console command `mem worst`: the worst that guests can do together, and what backs it. Every page of every VM is then
 * in use and differs from every other, no balloon gives anything, nothing compresses.
 */
#include "mm/frame.h"
#include "mm/policy.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "vmm/command.h"
#include "vmm/pairs.h"
#include "vmm/vm.h"

static u64 to_bytes(u64 pages)
{
	return pages << PAGE_SHIFT;
}

static void take_worst(struct worst_case *w)
{
	struct vm_host_memory m;
	struct reclaim_stats r;
	struct swap_stats s;

	vm_host_memory(&m);
	reclaim_stats(&r);
	swap_stats(&s);
	*w = (struct worst_case){.overhead = m.overhead, .swap = s.state == SWAP_ON ? s.slots - s.bad : s.used};
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm)) {
		if (!vm->gs_valid)
			continue;
		w->pages += vm_memory_max(&vm->config) >> PAGE_SHIFT;
		w->reserved += vm->gs.alloc.reservation;
		w->headroom += vm_headroom_frames(vm->gs.alloc.reservation);
		w->promised += vm->gs.swap_reserved;
	}
	w->ram = m.total - MIN(m.total, m.hypervisor - m.overhead_held + r.min_free);
}

/* Pages that need a frame of their own as soon as they are written, or read. */
static void print_debts(struct pairs *p)
{
	u64 count[PAGE_STATES];
	struct share_stats s;

	gspace_host_counts(count);
	share_stats(&s);
	pairs_label(p, "debts:");
	pairs_size(p, "cow-breaks", to_bytes(count[PAGE_SHARED] - MIN(count[PAGE_SHARED], s.shared_frames)));
	pairs_size(p, "zero-writes", to_bytes(count[PAGE_ZERO]));
	pairs_size(p, "decompression", to_bytes(count[PAGE_COMPRESSED]));
	pairs_size(p, "balloon", to_bytes(count[PAGE_BALLOONED]));
	pairs_size(p, "absent", to_bytes(count[PAGE_ABSENT]));
	pairs_size(p, "reserve", to_bytes(frame_reserve()));
	pairs_end(p);
}

int cmd_mem_worst(struct command_run *r)
{
	struct worst_case w;
	struct pairs p;
	u64 missing;

	take_worst(&w);
	missing = policy_worst_missing(&w);
	pairs_begin(&p, r->out);
	pairs_label(&p, "worst:");
	pairs_size(&p, "pages", to_bytes(w.pages));
	pairs_size(&p, "reserved", to_bytes(w.reserved));
	pairs_size(&p, "head-room", to_bytes(w.headroom));
	pairs_size(&p, "overhead", to_bytes(w.overhead));
	pairs_end(&p);
	print_debts(&p);
	pairs_label(&p, "backing:");
	pairs_size(&p, "ram", to_bytes(w.ram));
	pairs_size(&p, "swap", to_bytes(w.swap));
	pairs_size(&p, "swap-promised", to_bytes(w.promised));
	pairs_format(&p, "backed", "%s", missing ? "no" : "yes");
	pairs_size(&p, "missing", to_bytes(missing));
	pairs_end(&p);
	return 0;
}
