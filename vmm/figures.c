/* Figures of host and VMs. See figures.h. */
#include "vmm/figures.h"

#include "lib/platform.h"
#include "lib/string.h"
#include "mm/balloon.h"
#include "mm/blk.h"
#include "vmm/command.h"
#include "vmm/vcpu.h"

/* ---- host ---- */

static void take_disks(struct disk_figures *d)
{
	*d = (struct disk_figures){0};
	for (struct blk_dev *dev = blk_next(NULL); dev; dev = blk_next(dev)) {
		const struct blk_stats *s = &dev->stats;

		d->devices++;
		d->gone += dev->gone;
		d->gone_name = dev->gone ? dev->name : d->gone_name;
		d->resets += s->resets;
		d->reads += s->reads;
		d->writes += s->writes;
		d->read_pages += s->read_pages;
		d->write_pages += s->write_pages;
		d->ns += s->read_ns + s->write_ns;
		d->errors += s->errors + s->timeouts;
	}
}

void figures_host(struct host_figures *h)
{
	h->ns = platform_now_ns();
	vm_host_memory(&h->memory);
	gspace_host_counts(h->page);
	reclaim_stats(&h->reclaim);
	share_stats(&h->share);
	swap_stats(&h->swap);
	zip_stats(&h->zip);
	take_disks(&h->disk);
	h->configured = 0;
	h->vms = h->running = 0;
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm)) {
		h->vms++;
		h->running += vm->state == VM_RUNNING;
		if (vm->gs_valid)
			h->configured += vm->gs.pages;
	}
}

u64 figures_saved(const struct host_figures *h)
{
	u64 shared = h->page[PAGE_SHARED], frames = h->share.shared_frames;

	return h->page[PAGE_ZERO] + (shared > frames ? shared - frames : 0);
}

u64 figures_vm_saved(const struct vm_figures *f, const struct host_figures *h)
{
	u64 shared = f->count[PAGE_SHARED], all = h->page[PAGE_SHARED];
	u64 backed = all ? shared * h->share.shared_frames / all : 0;

	return f->count[PAGE_ZERO] + shared - MIN(backed, shared);
}

u64 figures_overcommit(const struct host_figures *h)
{
	u64 room = h->memory.total - MIN(h->memory.hypervisor, h->memory.total);

	return room ? h->configured * 100 / room : 0;
}

/* ---- VMs ---- */

static void take_memory(struct gspace *gs, u64 now, struct vm_figures *f)
{
	lock_acquire(&gs->lock);
	for (u32 s = 0; s < PAGE_STATES; s++)
		f->count[s] = gs->count[s];
	f->stats = gs->stats;
	f->reservation = gs->alloc.reservation;
	f->limit = gs->alloc.limit;
	f->shares = gs->alloc.shares;
	f->tables = gs->pt.tables;
	f->zip_frames = gs->zip.frames;
	f->zip_bytes = gs->zip.bytes;
	f->tables_max = (u32)vm_tables_max((u64)gs->pages << PAGE_SHIFT);
	lock_release(&gs->lock);
	f->pages = gs->pages;
	f->consumed = gspace_consumed(gs);
	f->target = READ_ONCE(gs->target);
	f->active = wss_active(gs);
	f->hinted = share_hinted(gs->id);
	f->written_known = wss_written(gs, &f->written);
	f->active_slow = (u32)((u64)gs->wss.slow * 1000 / WSS_ONE);
	f->active_fast = (u32)((u64)gs->wss.fast * 1000 / WSS_ONE);
	f->swap_reserved = gs->swap_reserved;
	f->zip_max = zip_max_frames(gs);
	f->balloon_target = READ_ONCE(gs->balloon_target);
	f->balloon_max = gs->balloon_max;
	f->balloon_present = READ_ONCE(gs->balloon_present);
	f->balloon_stalled = balloon_stalled(gs, now) || gs->balloon_trouble == BALLOON_LYING;
	f->balloon_manual = gs->balloon_manual != GFN_NONE;
	f->demand = dynmem_status(gs);
	if (f->demand == DYNMEM_OFF)
		return;
	f->committed = READ_ONCE(gs->dyn.committed);
	f->wanted = dynmem_wanted(gs);
	f->has = dynmem_have(gs);
	f->pressure = dynmem_pressure(gs);
}

static u64 spent(const struct vcpu *v, enum vcpu_state s, u64 now)
{
	u64 since = READ_ONCE(v->since_ns);

	return v->ns_in[s] + (v->state == s && now > since ? now - since : 0);
}

static void take_vcpus(const struct vm *vm, u64 now, struct vm_figures *f)
{
	struct vm_counts c;

	for (u32 i = 0; i < VM_VCPUS_MAX && vm->vcpu[i]; i++) {
		f->vcpus++;
		f->run_ns += spent(vm->vcpu[i], VCPU_RUNNING, now);
		f->wait_ns += spent(vm->vcpu[i], VCPU_WAIT_MEMORY, now);
		if (vm->state == VM_RUNNING)
			f->starved_ns = MAX(f->starved_ns, sched_starved_ns(vm->vcpu[i], now));
	}
	vm_counts(vm, &c);
	for (u32 i = 0; i < HV_EXIT_KINDS; i++) {
		f->exits[i] = c.exits[i];
		f->exits_all += f->exits[i];
	}
}

static void take_guest(struct vm *vm, struct vm_figures *f)
{
	struct guest_figures *g = &f->guest;
	struct aero_info i;

	f->speaks = vm_read_info(vm, &i);
	if (!f->speaks)
		return;
	command_word(g->app, sizeof(g->app), i.app.name, sizeof(i.app.name));
	g->operations = i.app.operations;
	g->errors = i.app.errors;
	g->checked = i.app.pages_checked;
	g->latency_ns = i.app.latency_ns;
	g->hit_permille = i.app.hit_permille;
	g->refaults = i.balloon_report.refaults;
	g->refault_ns = i.balloon_report.refault_ns;
	g->refused = i.balloon_report.refused_no_memory + i.balloon_report.refused_pinned;
	g->total = i.memory.total;
	g->free = i.memory.free;
	g->cached = i.memory.cached;
	g->committed = i.memory.committed;
	g->paged_in = i.memory.paged_in;
	g->paged_out = i.memory.paged_out;
	g->stalls = i.memory.allocation_stalls;
}

void figures_vm(struct vm *vm, struct vm_figures *f)
{
	*f = (struct vm_figures){.ns = platform_now_ns(), .state = vm->state, .live = vm->gs_valid};
	if (!f->live)
		return;
	take_memory(&vm->gs, f->ns, f);
	take_vcpus(vm, f->ns, f);
	take_guest(vm, f);
	f->has_disk = vm->disk != NULL;
	if (!f->has_disk)
		return;
	pvdisk_stats(vm->disk, &f->disk);
	if (vm->state == VM_RUNNING)
		f->starved_ns = MAX(f->starved_ns, f->disk.starved_ns);
}

const char *figures_lack(const struct vm_figures *f, const struct host_figures *h)
{
	bool limited = figures_at_limit(f);

	if (f->count[PAGE_SWAPPING_IN] && !limited)
		return "a page is not read";
	if (h->swap.state == SWAP_FAILED)
		return limited ? "limit, swap failed" : "swap failed";
	if (h->swap.state == SWAP_OFF)
		return limited ? "limit, no swap" : "no swap";
	return limited ? "limit" : "no free memory";
}
