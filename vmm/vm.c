/*
 * The table of VMs: creation, look-up, settings, admission figures.
 * Life cycle is in vm_life.c, the contract with the guest in vm_contract.c.
 */
#include "arch/x86/cpu.h"
#include "lib/err.h"
#include "lib/format.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/policy.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "vmm/settings.h"
#include "vmm/vm_internal.h"

/* struct vm and its console rings: one block. */
#define VM_ORDER            2
#define VM_CONSOLE_IN_BYTES 1024
_Static_assert(sizeof(struct vm) + VM_CONSOLE_BYTES + VM_CONSOLE_IN_BYTES <= PAGE_SIZE << VM_ORDER, "struct vm");

static struct lock list_lock = LOCK_INIT("vm-list", LOCK_RANK_VM_LIST);
static struct list vms = LIST_INIT(vms);
static u32 vm_count;
static u16 next_id = 1;

const char *vm_state_name(enum vm_state s)
{
	static const char *const name[VM_STATES] = {"created", "starting", "running", "paused", "stopping", "crashed"};

	return s < VM_STATES ? name[s] : "?";
}

static bool name_ok(const char *name)
{
	size_t len = strnlen(name, VM_NAME_MAX + 1);

	if (len == 0 || len > VM_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
		      c == '-'))
			return false;
	}
	return true;
}

int vm_fail(char *why, size_t size, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	format_vbuf(why, size, fmt, ap);
	va_end(ap);
	return err;
}

static int config_check(const struct vm_config *c, char *why, size_t size)
{
	if (!name_ok(c->name))
		return vm_fail(why, size, E_INVAL, "bad VM name: 1 to %u of A-Z a-z 0-9 _ -", VM_NAME_MAX);
	if (c->memory_bytes < VM_MEMORY_MIN || c->memory_bytes > VM_MEMORY_MAX || c->memory_bytes & ~PAGE_MASK)
		return vm_fail(why, size, E_RANGE, "memory must be 8M to 64G in whole pages");
	if (!c->maximum_bytes && (c->minimum_bytes || c->buffer_percent))
		return vm_fail(why, size, E_INVAL, "minimum and buffer go with maximum: Dynamic Memory");
	if (c->maximum_bytes &&
	    (c->maximum_bytes < c->memory_bytes || c->maximum_bytes > VM_MEMORY_MAX || c->maximum_bytes & ~PAGE_MASK))
		return vm_fail(why, size, E_RANGE, "maximum must be the VM's memory to 64G in whole pages");
	if (c->minimum_bytes && (c->minimum_bytes < VM_MEMORY_MIN || c->minimum_bytes > c->memory_bytes))
		return vm_fail(why, size, E_RANGE, "minimum must be 8M to the VM's memory");
	if (c->buffer_percent && (c->buffer_percent < DYNMEM_BUFFER_MIN || c->buffer_percent > DYNMEM_BUFFER_MAX))
		return vm_fail(why, size, E_RANGE, "buffer must be 5 to 2000 percent");
	if (c->maximum_bytes && c->balloon_max_percent)
		return vm_fail(why, size, E_INVAL, "balloon-max does not go with maximum: minimum says it");
	if (c->limit_bytes && (c->limit_bytes < c->reservation_bytes || c->limit_bytes < VM_MEMORY_MIN))
		return vm_fail(why, size, E_RANGE, "limit must be at least the reservation and 8M, or 0 for none");
	if (c->reservation_bytes > vm_memory_max(c))
		return vm_fail(why, size, E_RANGE, "reservation is above the VM's memory");
	if (c->shares > VM_SHARES_MAX)
		return vm_fail(why, size, E_RANGE, "shares must be at most %u", VM_SHARES_MAX);
	if (c->vcpus < 1 || c->vcpus > VM_VCPUS_MAX)
		return vm_fail(why, size, E_RANGE, "vcpus must be 1 to %u", VM_VCPUS_MAX);
	if (c->disk_bytes > PVDISK_BYTES_MAX)
		return vm_fail(why, size, E_RANGE, "disk must be at most 16G");
	if (c->balloon_max_percent > 95)
		return vm_fail(why, size, E_RANGE, "balloon-max must be at most 95 percent");
	return 0;
}

static struct vm *find_locked(const char *name)
{
	list_for_each (l, &vms) {
		struct vm *vm = list_entry(l, struct vm, link);

		if (str_eq(vm->config.name, name))
			return vm;
	}
	return NULL;
}

static struct vm *vm_alloc(const struct vm_config *cfg)
{
	hfn_t hfn = frame_alloc(VM_ORDER, FRAME_FOR_HV, FRAME_HV, true);
	struct vm *vm;

	if (hfn == HFN_NONE)
		return NULL;
	vm = mm_hfn_to_va(hfn);
	vm->config = *cfg;
	/* In whole pages, so that reservation and swap add up to the VM's memory. */
	vm->config.reservation_bytes = ALIGN_DOWN(cfg->reservation_bytes, PAGE_SIZE);
	vm->config.limit_bytes = ALIGN_DOWN(cfg->limit_bytes, PAGE_SIZE);
	vm->config.minimum_bytes = ALIGN_DOWN(cfg->minimum_bytes, PAGE_SIZE);
	vm->id = next_id++;
	lock_init(&vm->lock, "vm", LOCK_RANK_VM);
	vm->con_buf = (u8 *)(vm + 1);
	ring_init(&vm->con_out, vm->con_buf, VM_CONSOLE_BYTES);
	ring_init(&vm->con_in, vm->con_buf + VM_CONSOLE_BYTES, VM_CONSOLE_IN_BYTES);
	vm_contract_init(vm);
	vm_life_init(vm);
	return vm;
}

int vm_create(const struct vm_config *cfg, struct vm **out, char *why, size_t size)
{
	struct vm *vm;
	int err = config_check(cfg, why, size);

	if (err)
		return err;
	lock_acquire(&list_lock);
	if (find_locked(cfg->name))
		err = vm_fail(why, size, E_EXIST, "a VM named '%s' exists", cfg->name);
	else if (vm_count == VM_MAX)
		err = vm_fail(why, size, E_NOSPC, "there are %u VMs already", VM_MAX);
	else if (!(vm = vm_alloc(cfg)))
		err = vm_fail(why, size, E_NOMEM, "no memory for a VM's own structures");
	if (!err) {
		list_add_tail(&vms, &vm->link);
		vm_count++;
		*out = vm;
	}
	lock_release(&list_lock);
	return err;
}

int vm_destroy(struct vm *vm, char *why, size_t size)
{
	lock_acquire(&list_lock);
	if (vm->state != VM_CREATED && vm->state != VM_CRASHED) {
		lock_release(&list_lock);
		return vm_fail(why, size, E_BUSY, "'%s' is %s: stop it first", vm->config.name,
			       vm_state_name(vm->state));
	}
	/* Its last notification may still be on its way. */
	if (work_is_queued(&vm->notify_work) || work_is_queued(&vm->life_work)) {
		lock_release(&list_lock);
		return vm_fail(why, size, E_BUSY, "'%s' is still ending", vm->config.name);
	}
	list_del(&vm->link);
	vm_count--;
	lock_release(&list_lock);
	frame_free(mm_va_to_hfn(vm), VM_ORDER);
	return 0;
}

struct vm *vm_find(const char *name)
{
	struct vm *vm;

	lock_acquire(&list_lock);
	vm = find_locked(name);
	lock_release(&list_lock);
	return vm;
}

struct vm *vm_next(struct vm *vm)
{
	struct list *l;

	lock_acquire(&list_lock);
	l = vm ? vm->link.next : vms.next;
	lock_release(&list_lock);
	return l == &vms ? NULL : list_entry(l, struct vm, link);
}

struct vm *vm_of_gspace(struct gspace *gs)
{
	return container_of(gs, struct vm, gs);
}

static void add_counts(struct vm_counts *to, const struct vm_counts *c)
{
	for (u32 i = 0; i < ARRAY_SIZE(c->exits); i++)
		to->exits[i] += READ_ONCE(c->exits[i]);
	to->hypercalls += READ_ONCE(c->hypercalls);
	to->hypercall_errors += READ_ONCE(c->hypercall_errors);
}

static void add_vcpu(struct vm_counts *to, const struct vcpu *v)
{
	const struct hv_fast *fast = hv_fast(v->hv);

	add_counts(to, &v->counts);
	for (u32 i = 0; i < HV_EXIT_KINDS; i++)
		to->exits[i] += READ_ONCE(fast->count[i]);
	to->hypercalls += READ_ONCE(fast->count[HV_EXIT_HYPERCALL]);
}

void vm_counts(const struct vm *vm, struct vm_counts *out)
{
	struct vm_counts sum = {.hypercalls = 0};

	add_counts(&sum, &vm->past);
	for (u32 i = 0; i < VM_VCPUS_MAX; i++)
		if (vm->vcpu[i])
			add_vcpu(&sum, vm->vcpu[i]);
	*out = sum;
}

/* ---- memory: admission and settings ---- */

/* Slots a VM must have so that everything above its reservation can leave RAM. */
u32 vm_swap_need(u64 memory_bytes, u64 reservation_bytes)
{
	return (u32)((memory_bytes - reservation_bytes) >> PAGE_SHIFT);
}

static u64 to_mib(u64 frames)
{
	return frames >> (20 - PAGE_SHIFT);
}

int vm_admit(u64 reservation_pages, u64 overhead, u64 swap_pages, char *why, size_t size)
{
	struct vm_host_memory m;
	struct admission a;
	struct swap_stats s;
	u64 missing = 0;
	int err;

	vm_host_memory(&m);
	a = (struct admission){.ram_unreserved = m.ram_unreserved,
			       .swap_unreserved = m.swap_unreserved,
			       .reservation = reservation_pages,
			       .overhead = overhead,
			       .size = reservation_pages + swap_pages};
	err = policy_admit(&a, &missing);
	if (err == E_NOMEM)
		return vm_fail(
		    why, size, err,
		    "not admitted: reservation %luM + overhead %luM needs %luM more RAM than the %luM unreserved",
		    to_mib(reservation_pages), to_mib(overhead) + 1, to_mib(missing) + 1, to_mib(m.ram_unreserved));
	if (err) {
		swap_stats(&s);
		return vm_fail(
		    why, size, err,
		    "not admitted: memory above the reservation needs %luM of swap, %luM unreserved (swap %s%s%s)",
		    to_mib(swap_pages), to_mib(m.swap_unreserved),
		    s.state == SWAP_ON    ? "on"
		    : s.state == SWAP_OFF ? "off"
					  : "failed",
		    s.why ? ": " : "", s.why ? s.why : "");
	}
	return 0;
}

/* RAM that a reservation takes from what can be promised. */
static u64 firm_frames(u64 reservation_bytes)
{
	u64 pages = reservation_bytes >> PAGE_SHIFT;

	return pages + vm_headroom_frames(pages);
}

int vm_would_reserve(struct vm *vm, u64 bytes, char *why, size_t size)
{
	u64 old = vm->config.reservation_bytes, less, was, will;

	if (bytes > vm_memory_max(&vm->config) || (vm->config.limit_bytes && bytes > vm->config.limit_bytes))
		return vm_fail(why, size, E_RANGE, "reservation must be at most the VM's memory and limit");
	if (!vm->gs_valid)
		return 0;
	bytes = ALIGN_DOWN(bytes, PAGE_SIZE);
	less = bytes < old ? (old - bytes) >> PAGE_SHIFT : 0;
	was = firm_frames(old);
	will = firm_frames(bytes) + swap_frames_for(less);
	return vm_admit(will > was ? will - was : 0, 0, less, why, size);
}

int vm_set_reservation(struct vm *vm, u64 bytes, char *why, size_t size)
{
	int err = vm_would_reserve(vm, bytes, why, size);

	if (err)
		return err;
	bytes = ALIGN_DOWN(bytes, PAGE_SIZE);
	if (vm->gs_valid) {
		err = swap_reserve(&vm->gs, vm_swap_need(vm_memory_max(&vm->config), bytes));
		if (err)
			return vm_fail(why, size, err, "no swap for the memory above the reservation");
		lock_acquire(&vm->gs.lock);
		vm->gs.alloc.reservation = (u32)(bytes >> PAGE_SHIFT);
		lock_release(&vm->gs.lock);
		reclaim_rebalance();
	}
	vm->config.reservation_bytes = bytes;
	return 0;
}

int vm_set_limit(struct vm *vm, u64 bytes, char *why, size_t size)
{
	if (bytes && (bytes < vm->config.reservation_bytes || bytes < VM_MEMORY_MIN))
		return vm_fail(why, size, E_RANGE, "limit must be at least the reservation and 8M, or 0 for none");
	vm->config.limit_bytes = ALIGN_DOWN(bytes, PAGE_SIZE);
	if (vm->gs_valid) {
		lock_acquire(&vm->gs.lock);
		vm->gs.alloc.limit = vm_limit_pages(&vm->config);
		lock_release(&vm->gs.lock);
		reclaim_rebalance();
	}
	return 0;
}

int vm_set_shares(struct vm *vm, u32 shares, char *why, size_t size)
{
	if (shares == 0 || shares > VM_SHARES_MAX)
		return vm_fail(why, size, E_RANGE, "shares must be 1 to %u", VM_SHARES_MAX);
	vm->config.shares = shares;
	if (vm->gs_valid) {
		lock_acquire(&vm->gs.lock);
		vm->gs.alloc.shares = shares;
		lock_release(&vm->gs.lock);
		reclaim_rebalance();
	}
	return 0;
}

int vm_configure(struct vm *vm, const struct vm_config *cfg, char *why, size_t size)
{
	int err = config_check(cfg, why, size);

	if (err)
		return err;
	CHECK(str_eq(vm->config.name, cfg->name));
	CHECK(!vm->gs_valid || vm->config.memory_bytes == cfg->memory_bytes);
	if (vm->gs_valid) { /* other CPUs look at these */
		WRITE_ONCE(vm->config.cpu_weight, cfg->cpu_weight);
		WRITE_ONCE(vm->config.cpu_cap, cfg->cpu_cap);
		WRITE_ONCE(vm->config.watchdog_sec, cfg->watchdog_sec);
		vm->config.autostart = cfg->autostart;
		vm->config.balloon_rate = cfg->balloon_rate;
		WRITE_ONCE(vm->gs.balloon_rate, settings_balloon_rate(cfg));
	} else {
		vm->config = *cfg;
	}
	return 0;
}

u32 vm_limit_pages(const struct vm_config *c)
{
	u64 most = vm_memory_max(c), bytes = c->limit_bytes ? MIN(c->limit_bytes, most) : most;

	return (u32)(bytes >> PAGE_SHIFT);
}

/* ---- Dynamic Memory ---- */

static u64 least_memory(const struct vm_config *c)
{
	return c->minimum_bytes ? c->minimum_bytes : c->memory_bytes;
}

static int fail_range(const struct vm_config *c, char *why, size_t size)
{
	return vm_fail(why, size, E_RANGE, "memory must be %luM to %luM, or auto", least_memory(c) / MIB,
		       vm_memory_max(c) / MIB);
}

/* It starts with so much from now on. */
static int set_startup(struct vm *vm, u64 bytes, char *why, size_t size)
{
	struct vm_config c = vm->config;
	int err;

	c.memory_bytes = bytes;
	err = config_check(&c, why, size);
	if (!err)
		vm->config.memory_bytes = bytes;
	return err;
}

int vm_set_memory(struct vm *vm, u64 bytes, char *why, size_t size)
{
	const struct vm_config *c = &vm->config;

	bytes = ALIGN_DOWN(bytes, PAGE_SIZE);
	if (!c->maximum_bytes && (vm->gs_valid || !bytes))
		return vm_fail(why, size, E_INVAL,
			       "'%s' has no Dynamic Memory (maximum=): its size changes only while it is stopped",
			       c->name);
	if (!vm->gs_valid && bytes)
		return set_startup(vm, bytes, why, size);
	if (bytes && (bytes < least_memory(c) || bytes > c->maximum_bytes))
		return fail_range(c, why, size);
	if (!vm->gs_valid)
		return 0;
	if (bytes && !READ_ONCE(vm->gs.dyn.present))
		return vm_fail(why, size, E_BUSY, "the guest of '%s' does not take memory on line", c->name);
	WRITE_ONCE(vm->gs.dyn.fixed, (u32)(bytes >> PAGE_SHIFT));
	reclaim_rebalance();
	return 0;
}

int vm_set_minimum(struct vm *vm, u64 bytes, char *why, size_t size)
{
	struct vm_config c = vm->config;
	int err;

	c.minimum_bytes = ALIGN_DOWN(bytes, PAGE_SIZE);
	err = config_check(&c, why, size);
	if (err)
		return err;
	vm->config.minimum_bytes = c.minimum_bytes;
	if (vm->gs_valid) {
		WRITE_ONCE(vm->gs.dyn.minimum, (u32)(least_memory(&c) >> PAGE_SHIFT));
		reclaim_rebalance();
	}
	return 0;
}

int vm_set_buffer(struct vm *vm, u32 percent, char *why, size_t size)
{
	struct vm_config c = vm->config;
	int err;

	c.buffer_percent = percent;
	err = config_check(&c, why, size);
	if (err)
		return err;
	vm->config.buffer_percent = percent;
	if (vm->gs_valid) {
		WRITE_ONCE(vm->gs.dyn.buffer, percent ? percent : DYNMEM_BUFFER_DEFAULT);
		reclaim_rebalance();
	}
	return 0;
}

struct dynmem vm_dynmem(const struct vm_config *c)
{
	if (!c->maximum_bytes)
		return (struct dynmem){.maximum = 0};
	return (struct dynmem){.minimum = (u32)(least_memory(c) >> PAGE_SHIFT),
			       .maximum = (u32)(c->maximum_bytes >> PAGE_SHIFT),
			       .offered = (u32)(c->memory_bytes >> PAGE_SHIFT),
			       .buffer = c->buffer_percent ? c->buffer_percent : DYNMEM_BUFFER_DEFAULT};
}

/* ---- what mm asks of us ---- */

void mm_wake(struct gspace *gs)
{
	sched_wake_memory(gs ? vm_of_gspace(gs) : NULL);
}

static u64 vcpu_had_ns(const struct vcpu *v, u64 now, bool runs)
{
	enum vcpu_state s = READ_ONCE(v->state);
	u64 had = READ_ONCE(v->ns_in[VCPU_RUNNING]) + READ_ONCE(v->ns_in[VCPU_HALTED]), since = READ_ONCE(v->since_ns);

	return had + (runs && (s == VCPU_RUNNING || s == VCPU_HALTED) && now > since ? now - since : 0);
}

u64 mm_guest_time_ns(struct gspace *gs)
{
	const struct vm *vm = vm_of_gspace(gs);
	u64 now = platform_now_ns(), most = 0;

	for (u32 i = 0; i < VM_VCPUS_MAX; i++)
		if (vm->vcpu[i])
			most = MAX(most, vcpu_had_ns(vm->vcpu[i], now, READ_ONCE(vm->state) == VM_RUNNING));
	return most;
}

static struct tlb_cpu *tlb_of(u32 id)
{
	return &cpu_at(id)->tlb;
}

void mm_tlb_shootdown(struct gspace *gs)
{
	static const struct tlb_machine machine = {
	    .count = cpu_count, .cpu = tlb_of, .kick = cpu_kick, .relax = platform_relax, .now_ns = platform_now_ns};

	DCHECK(gs->tlb_gen != 0);
	tlb_shootdown(&machine, this_cpu()->lib.id, &gs->tlb_gen);
}

void vm_init(void)
{
	CHECK(list_empty(&vms));
	vcpu_init();
}
