/*
 * Life cycle of a VM: admission and start, loading the guest image, pause,
 * stop, crash, and giving everything back.
 *
 * Whatever is long runs as life_work: STARTING copies the image a piece at a time (it may have to wait for
 * memory like any guest), STOPPING drains transfers and frees pages a bounded number at a time.
 */
#include "arch/x86/cpu.h"
#include "boot/boot_info.h"
#include "lib/err.h"
#include "lib/format.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/balloon.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "vmm/modules.h"
#include "vmm/settings.h"
#include "vmm/vm_internal.h"

#define LOAD_CHUNK       (32 * KIB)
#define REAP_PAGES       256 /* pages given back in one piece */
#define RETRY_NS         (5 * NSEC_PER_MSEC)
#define STOP_PATIENCE_NS (5 * NSEC_PER_SEC) /* an orderly stop turns into a forced one */

/* The start area of guest/abi/aerostat.h: [0x1000, 0x10000). */
#define START_GPA       0x1000UL
#define START_PML4      0x2000UL
#define START_PDPT      0x3000UL
#define START_PD        0x4000UL /* four: 4 GiB */
#define START_STACK_TOP 0x10000UL
#define PTE_P_W         3UL
#define PTE_LARGE       BIT(7)

/* ---- building the guest ---- */

static int write_tables(struct vm *vm)
{
	u64 page[PT_ENTRIES];
	int err;

	memset(page, 0, sizeof(page));
	page[0] = START_PDPT | PTE_P_W;
	err = gspace_write(&vm->gs, GPA(START_PML4), page, sizeof(page));
	if (err)
		return err;
	for (u64 i = 0; i < 4; i++)
		page[i] = (START_PD + i * PAGE_SIZE) | PTE_P_W;
	err = gspace_write(&vm->gs, GPA(START_PDPT), page, sizeof(page));
	for (u64 d = 0; d < 4 && !err; d++) {
		for (u64 i = 0; i < PT_ENTRIES; i++)
			page[i] = (d * GIB + i * LARGE_SIZE) | PTE_P_W | PTE_LARGE;
		err = gspace_write(&vm->gs, GPA(START_PD + d * PAGE_SIZE), page, sizeof(page));
	}
	return err;
}

static int write_start(struct vm *vm, const struct elf_image *img)
{
	struct aero_start s;

	memset(&s, 0, sizeof(s));
	s.magic = AERO_START_MAGIC;
	s.abi_version = AERO_ABI_VERSION;
	s.vcpus = vm->config.vcpus;
	s.memory_bytes = vm->config.memory_bytes;
	s.memory_max = vm->config.maximum_bytes;
	s.image_end = ALIGN_UP(img->paddr_high, PAGE_SIZE);
	s.tsc_khz = cpu_tsc_khz();
	s.disks = vm->disk ? 1 : 0;
	str_copy(s.name, vm->config.name, sizeof(s.name));
	str_copy(s.cmdline, vm->config.cmdline, sizeof(s.cmdline));
	modules_random(s.random, sizeof(s.random));
	return gspace_write(&vm->gs, GPA(START_GPA), &s, sizeof(s));
}

/* Copies piece `step` of the image's segments; E_NOENT past the last. */
static int write_chunk(struct vm *vm, const struct module *m, u32 step)
{
	for (u32 i = 0; i < m->image.count; i++) {
		const struct elf_segment *s = &m->image.seg[i];
		u64 chunks = DIV_ROUND_UP(s->file_bytes, LOAD_CHUNK), at;

		if (step >= chunks) {
			step -= chunks;
			continue;
		}
		at = step * LOAD_CHUNK;
		return gspace_write(&vm->gs, GPA(s->paddr + at), (const u8 *)m->data + s->file_offset + at,
				    MIN(LOAD_CHUNK, s->file_bytes - at));
	}
	return E_NOENT;
}

/* One piece: 0 more to do, E_NOENT done, E_AGAIN wait for memory, other: failed. */
static int load_some(struct vm *vm)
{
	const struct module *m = module_find(vm->config.image);
	int err;

	if (!m)
		return E_INVAL; /* was checked at start; modules never go away */
	if (vm->load_step == 0)
		err = write_tables(vm);
	else if (vm->load_step == 1)
		err = write_start(vm, &m->image);
	else
		err = write_chunk(vm, m, vm->load_step - 2);
	if (!err)
		vm->load_step++;
	return err;
}

static void enter_running(struct vm *vm)
{
	const struct module *m = module_find(vm->config.image);
	struct hv_start s = {.rip = m->image.entry, .rsp = START_STACK_TOP, .cr3 = START_PML4, .rdi = START_GPA};

	vm->vcpu[0]->start = s;
	vm->vcpu[0]->reset = true;
	vm->started_ns = vm->clock_base_ns = platform_now_ns();
	vm->state = VM_RUNNING;
	sched_start(vm->vcpu[0]);
	/* Limited, as a guest may reboot as often as it likes. */
	log_guest(&vm->log_limit, "vm", "%s: running, %lu MiB, image %s", vm->config.name,
		  vm->config.memory_bytes / MIB, vm->config.image);
}

/* ---- start ---- */

static void release_parts(struct vm *vm)
{
	vm_counts(vm, &vm->past);
	for (u32 i = 0; i < VM_VCPUS_MAX; i++) {
		if (vm->vcpu[i])
			vcpu_destroy(vm->vcpu[i]);
		vm->vcpu[i] = NULL;
	}
}

static struct mem_alloc alloc_of(const struct vm_config *c)
{
	return (struct mem_alloc){.reservation = (u32)(c->reservation_bytes >> PAGE_SHIFT),
				  .limit = vm_limit_pages(c),
				  .shares = c->shares ? c->shares : (u32)(c->memory_bytes / MIB * VM_SHARES_PER_MIB)};
}

static int create_space(struct vm *vm, char *why, size_t size)
{
	struct vm_config *c = &vm->config;
	struct mem_alloc alloc = alloc_of(c);
	int err;

	err = gspace_init(&vm->gs, c->name, (gfn_t)(c->memory_bytes >> PAGE_SHIFT), hv_caps.npt, &alloc);
	if (err)
		return vm_fail(why, size, err, "no memory for the address space of '%s'", c->name);
	vm->gs.concurrent = c->vcpus > 1;
	vm->gs.dyn = vm_dynmem(c);
	err = swap_reserve(&vm->gs, vm_swap_need(vm_memory_max(c), c->reservation_bytes));
	for (u32 i = 0; i < c->vcpus && !err; i++)
		err = vcpu_create(vm, i, vm->gs.pt.root, &vm->vcpu[i]);
	if (err) {
		release_parts(vm);
		swap_unreserve(&vm->gs);
		while (!gspace_destroy_some(&vm->gs, REAP_PAGES))
			;
		return vm_fail(why, size, err, "no memory for the structures of '%s' (%s)", c->name, err_name(err));
	}
	return 0;
}

int vm_would_start(struct vm *vm, char *why, size_t size)
{
	struct vm_config *c = &vm->config;
	const struct module *m = module_find(c->image);
	u64 need = vm_swap_need(vm_memory_max(c), c->reservation_bytes);

	if (!m)
		return vm_fail(why, size, E_NOENT, "no guest image '%s' on the boot volume", c->image);
	if (m->image.paddr_low < MIB || m->image.paddr_high > c->memory_bytes)
		return vm_fail(why, size, E_RANGE, "image '%s' does not fit into 1M to %luM", c->image,
			       c->memory_bytes / MIB);
	return vm_admit(c->reservation_bytes >> PAGE_SHIFT,
			vm_overhead_frames(c) + vm_headroom_frames(c->reservation_bytes >> PAGE_SHIFT), need, why,
			size);
}

static int start_checked(struct vm *vm, char *why, size_t size)
{
	struct vm_config *c = &vm->config;
	int err = vm_would_start(vm, why, size);

	if (err)
		return err;
	if (c->disk_bytes) {
		err = pvdisk_create(vm, c->disk_bytes, &vm->disk);
		if (err)
			return vm_fail(why, size, err, "no disk of %luM: %s", c->disk_bytes / MIB,
				       err == E_NOENT   ? "no guest-data partition"
				       : err == E_NOSPC ? "guest-data partition full"
							: "out of memory");
	}
	err = create_space(vm, why, size);
	if (err && vm->disk && pvdisk_destroy(vm->disk))
		vm->disk = NULL;
	if (!err && vm->disk)
		pvdisk_attach(vm->disk, &vm->gs);
	return err;
}

static void forget_last_run(struct vm *vm)
{
	vm->why[0] = 0;
	vm->crashed = vm->restart = false;
	vm->load_step = 0;
	vm->end_asked = vm->end_claimed = VM_END_NONE;
	vm->cap_start_ns = vm->cap_used_ns = 0;
	vm->features = 0;
	memset(&vm->past, 0, sizeof(vm->past));
}

int vm_start(struct vm *vm, char *why, size_t size)
{
	int err;

	if (vm->state != VM_CREATED && vm->state != VM_CRASHED)
		return vm_fail(why, size, E_BUSY, "'%s' is %s", vm->config.name, vm_state_name(vm->state));
	err = start_checked(vm, why, size);
	if (err)
		return err;
	forget_last_run(vm);
	vm->gs.balloon_max =
	    (u32)((u64)vm->gs.pages *
		  (vm->config.balloon_max_percent ? vm->config.balloon_max_percent : BALLOON_MAX_PERCENT) / 100);
	vm->gs.balloon_rate = settings_balloon_rate(&vm->config);
	vm->gs.balloon_rate_down = settings_number(NUMBER_BALLOON_RATE_DOWN);
	vm->gs.zip_percent = vm->config.zip_percent;
	if (vm->config.share_group[0])
		vm->gs.share_group = share_group(vm->config.share_group);
	vm->gs_valid = true;
	vm->state = VM_STARTING;
	reclaim_add(&vm->gs);
	work_queue(&vm->life_work);
	return 0;
}

/* ---- pause, stop, crash ---- */

static void set_paused(struct vm *vm, bool paused)
{
	WRITE_ONCE(vm->state, paused ? VM_PAUSED : VM_RUNNING);
	for (u32 i = 0; i < VM_VCPUS_MAX; i++)
		if (vm->vcpu[i])
			sched_poke(vm->vcpu[i]);
}

int vm_pause(struct vm *vm, char *why, size_t size)
{
	if (vm->state != VM_RUNNING)
		return vm_fail(why, size, E_BUSY, "'%s' is %s", vm->config.name, vm_state_name(vm->state));
	set_paused(vm, true);
	return 0;
}

int vm_resume(struct vm *vm, char *why, size_t size)
{
	if (vm->state != VM_PAUSED)
		return vm_fail(why, size, E_BUSY, "'%s' is %s", vm->config.name, vm_state_name(vm->state));
	set_paused(vm, false);
	return 0;
}

static void dump_vcpus(struct vm *vm)
{
	for (u32 i = 0; i < VM_VCPUS_MAX; i++)
		if (vm->vcpu[i] && vm->vcpu[i]->slices) {
			hv->dump(vm->vcpu[i]->hv, vm->config.name);
			hv->release(vm->vcpu[i]->hv);
		}
}

/*
 * Any state with a valid space -> STOPPING. The reaper does the rest. When this returns no CPU runs a vCPU of the VM,
 * or a timer of one.
 */
static void end(struct vm *vm, bool crashed, bool dump, const char *why)
{
	WRITE_ONCE(vm->state, VM_STOPPING);
	vm->crashed = crashed;
	str_copy(vm->why, why, sizeof(vm->why));
	for (u32 i = 0; i < VM_VCPUS_MAX; i++)
		if (vm->vcpu[i]) {
			sched_stop(vm->vcpu[i]);
			timer_cancel_sync(&vm->vcpu[i]->timer);
		}
	if (dump)
		dump_vcpus(vm);
	reclaim_remove(&vm->gs);
	timer_cancel(&vm->life_timer);
	work_queue(&vm->life_work);
}

int vm_stop(struct vm *vm, bool force, char *why, size_t size)
{
	if (vm->state == VM_STOPPING && vm->restart) {
		vm->restart = false;
		str_copy(vm->why, "stopped by the operator", sizeof(vm->why));
		return 0;
	}
	if (vm->state != VM_RUNNING && vm->state != VM_PAUSED && vm->state != VM_STARTING)
		return vm_fail(why, size, E_BUSY, "'%s' is %s", vm->config.name, vm_state_name(vm->state));
	if (force || vm->state != VM_RUNNING || vm->info_hfn == HFN_NONE) {
		end(vm, false, false, "stopped by the operator");
		return 0;
	}
	vm_post_event(vm, AERO_EVENT_SHUTDOWN);
	if (!vm->life_timer.armed)
		timer_arm(&vm->life_timer, platform_now_ns() + STOP_PATIENCE_NS);
	return 0;
}

/* The first to ask says why. */
static void ask_end(struct vm *vm, enum vm_end how, const char *why)
{
	if (__atomic_exchange_n(&vm->end_claimed, 1, __ATOMIC_ACQ_REL))
		return;
	str_copy(vm->end_why, why, sizeof(vm->end_why));
	__atomic_store_n(&vm->end_asked, how, __ATOMIC_RELEASE);
	work_queue(&vm->life_work);
}

void vm_crash(struct vm *vm, const char *fmt, ...)
{
	char why[sizeof(vm->why)];
	va_list ap;

	va_start(ap, fmt);
	format_vbuf(why, sizeof(why), fmt, ap);
	va_end(ap);
	ask_end(vm, VM_END_CRASH, why);
}

void vm_guest_shutdown(struct vm *vm, u64 how)
{
	switch (how) {
	case AERO_SHUTDOWN_OFF:
		ask_end(vm, VM_END_OFF, "shut down by the guest");
		break;
	case AERO_SHUTDOWN_REBOOT:
		ask_end(vm, VM_END_REBOOT, "rebooted by the guest");
		break;
	default:
		ask_end(vm, VM_END_CRASH, "the guest reported a crash");
	}
}

void mm_gspace_poisoned(struct gspace *gs, gfn_t gfn, const char *why)
{
	vm_crash(vm_of_gspace(gs), "page %#x is lost: %s", gfn, why);
}

static void do_end(struct vm *vm)
{
	bool crash = vm->end_asked == VM_END_CRASH;

	if (crash)
		log_warn("vm", "%s: crashed: %s", vm->config.name, vm->end_why);
	/* The operator who has asked for an end wants no new start. */
	vm->restart = vm->end_asked == VM_END_REBOOT && !vm->life_timer.armed;
	if (vm->end_asked == VM_END_REBOOT && !vm->restart)
		str_copy(vm->end_why, "shut down by the guest", sizeof(vm->end_why));
	end(vm, crash, crash, vm->end_why);
}

/* ---- the reaper ---- */

static void finish_stop(struct vm *vm)
{
	char why[128];
	bool restart = vm->restart && !vm->crashed;

	swap_unreserve(&vm->gs);
	release_parts(vm);
	timer_cancel(&vm->life_timer); /* set for a retry, if a lost page had the last step done earlier */
	vm->gs_valid = false;
	vm->state = vm->crashed ? VM_CRASHED : VM_CREATED;
	log_guest(&vm->log_limit, "vm", "%s: %s (%s)", vm->config.name, vm_state_name(vm->state), vm->why);
	if (restart && vm_start(vm, why, sizeof(why))) {
		log_warn("vm", "%s: restart failed: %s", vm->config.name, why);
		format_buf(vm->why, sizeof(vm->why), "restart failed: %s", why);
	}
}

/* True when all is given back. Order: no transfers into guest pages, then pins, then pages. */
static bool reap_some(struct vm *vm)
{
	if (vm->disk) {
		if (!pvdisk_destroy(vm->disk))
			return false;
		vm->disk = NULL;
	}
	vm_detach_info(vm);
	return gspace_destroy_some(&vm->gs, REAP_PAGES);
}

static void retry_later(struct vm *vm)
{
	timer_arm(&vm->life_timer, platform_now_ns() + RETRY_NS);
}

static void starting(struct vm *vm)
{
	int err = load_some(vm);

	if (err == E_NOENT)
		enter_running(vm);
	else if (err == E_AGAIN)
		retry_later(vm);
	else if (err)
		vm_crash(vm, "loading the image failed: %s", err_name(err));
	else
		work_queue(&vm->life_work);
}

static void life_step(struct work *w)
{
	struct vm *vm = container_of(w, struct vm, life_work);

	if (__atomic_load_n(&vm->end_asked, __ATOMIC_ACQUIRE) && vm->gs_valid && vm->state != VM_STOPPING)
		do_end(vm);
	else if (vm->state == VM_STARTING)
		starting(vm);
	else if (vm->state == VM_STOPPING) {
		u32 before = vm->gs.count[PAGE_ABSENT];

		if (reap_some(vm))
			finish_stop(vm);
		else if (vm->gs.count[PAGE_ABSENT] == before)
			retry_later(vm); /* waits for transfers */
		else
			work_queue(&vm->life_work);
	}
}

static void life_timer_fired(struct timer *t)
{
	struct vm *vm = container_of(t, struct vm, life_timer);

	if (vm->state == VM_RUNNING || vm->state == VM_PAUSED) {
		log_warn("vm", "%s: did not shut down in %lu s: forced", vm->config.name,
			 STOP_PATIENCE_NS / NSEC_PER_SEC);
		end(vm, false, true, "stopped by the operator, forced");
	} else {
		work_queue(&vm->life_work);
	}
}

void vm_life_init(struct vm *vm)
{
	work_init(&vm->life_work, "vm-life", life_step);
	timer_init(&vm->life_timer, life_timer_fired);
}
