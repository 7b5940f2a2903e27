/*
 * What VMs can make the hypervisor allocate beside their own pages, all of it promised at admission: no guest, whatever
 * it does, takes memory that another was promised.
 */
#include "mm/frame.h"
#include "mm/reclaim.h"
#include "mm/rmap.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zip.h"
#include "vmm/pvdisk.h"
#include "vmm/vm_internal.h"

#define VCPU_FRAMES 8U /* at most: struct vcpu, its scratch page, control blocks of either vendor */

struct sums {
	u64 pages;         /* of guests: each may have an entry in the share table and one in the reverse map */
	u64 tables;        /* nested; not counted as the hypervisor's */
	u64 structures;    /* there from a VM's start on */
	u64 zip, zip_held; /* records of compressed pages */
	u64 firm;          /* reservations and head-room */
};

static void add(struct sums *s, const struct vm_config *c)
{
	u64 most = vm_memory_max(c);

	s->pages += most >> PAGE_SHIFT;
	s->tables += vm_tables_max(most);
	/* Of what is reserved nothing is compressed. */
	if (c->reservation_bytes < most)
		s->zip += zip_frames_for(most >> PAGE_SHIFT);
	s->structures += c->vcpus * VCPU_FRAMES + (c->disk_bytes ? pvdisk_frames(c->disk_bytes) : 0);
}

static void add_started(struct sums *s)
{
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm)) {
		u64 reservation = vm->gs.alloc.reservation;

		if (!vm->gs_valid)
			continue;
		add(s, &vm->config);
		s->zip_held += pool_bytes(&vm->gs.zip.records) >> PAGE_SHIFT;
		s->firm += reservation + vm_headroom_frames(reservation);
	}
}

static u64 entries(const struct sums *s)
{
	return share_frames_for(s->pages) + rmap_frames_for(s->pages);
}

static u64 entries_held(void)
{
	struct share_stats s;

	share_stats(&s);
	return (s.table_bytes + rmap_bytes()) >> PAGE_SHIFT;
}

u64 vm_overhead_frames(const struct vm_config *c)
{
	struct sums others = {.pages = 0}, all;

	add_started(&others);
	all = others;
	add(&all, c);
	return all.tables + all.structures + all.zip + entries(&all) - others.tables - others.structures - others.zip -
	       entries(&others) + swap_frames_for(vm_swap_need(vm_memory_max(c), c->reservation_bytes));
}

void vm_host_memory(struct vm_host_memory *out)
{
	struct sums s = {.pages = 0};
	struct reclaim_stats r;
	struct swap_stats swap;
	struct frame_stats f;
	u64 promised;

	frame_stats(&f);
	swap_stats(&swap);
	reclaim_stats(&r);
	add_started(&s);
	out->total = f.total;
	out->free = f.free;
	out->guest =
	    f.by_state[FRAME_GUEST] + f.by_state[FRAME_SHARED] + f.by_state[FRAME_TABLE] + f.by_state[FRAME_ZIP];
	out->hypervisor = f.total - f.free - out->guest;
	out->overhead = s.tables + s.structures + s.zip + entries(&s) + swap_frames();
	out->overhead_held = MIN(
	    s.structures + MIN(s.zip, s.zip_held) + MIN(entries(&s), entries_held()) + swap_frames(), out->hypervisor);
	promised = s.firm + out->overhead + out->hypervisor - out->overhead_held + r.min_free;
	out->ram_unreserved = out->total > promised ? out->total - promised : 0;
	out->swap_unreserved = swap.unreserved;
}
