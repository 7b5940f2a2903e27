/* See fake_vm.h. */
#include "tests/unit/fake_vm.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86/cpu.h"
#include "arch/x86/hv.h"
#include "lib/err.h"
#include "lib/format.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/balloon.h"
#include "mm/frame.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zip.h"
#include "tests/unit/fake_format.h"
#include "tests/unit/fake_mm.h"
#include "tests/unit/fake_platform.h"
#include "vmm/monitor.h"
#include "vmm/pvdisk.h"
#include "vmm/settings.h"
#include "vmm/vcpu.h"

#define FAKE_VMS_MAX 40

const char *fake_vm_refuse;
struct aero_info fake_vm_info;
bool fake_vm_silent, fake_vm_deaf;
char fake_vm_typed[64];
const struct hv_ops *hv;
struct hv_caps hv_caps = {.vendor = "FAKE", .asids = 7, .large_2m = true};

static struct list vms = LIST_INIT(vms);
static u32 vm_count;
static u16 next_id = 1;
static bool machine_up;

/* ---- the machine ---- */

u64 cpu_tsc_khz(void)
{
	return 1000000;
}

const char *vcpu_state_name(enum vcpu_state s)
{
	return s == VCPU_RUNNING ? "running" : "off";
}

u32 cpu_count(void)
{
	return 2;
}

bool sched_cpu_stats(u32 cpu, struct sched_cpu_stats *out)
{
	*out = (struct sched_cpu_stats){.idle_ns = 1 + cpu, .host_ns = 2};
	return cpu < cpu_count();
}

void sched_freeze(void) {}

void sched_thaw(void) {}

const char *exit_kind_name(enum hv_exit_kind k)
{
	return k == HV_EXIT_NPF ? "npf" : "other";
}

u64 fake_vm_starved_ns;

u64 sched_starved_ns(const struct vcpu *v, u64 now_ns)
{
	(void)v;
	(void)now_ns;
	return fake_vm_starved_ns;
}

void pvdisk_stats(struct pvdisk *d, struct pvdisk_stats *out)
{
	(void)d;
	*out = (struct pvdisk_stats){.reads = 3, .latency_ns = 6000};
}

/* ---- VMs ---- */

static int refuse(char *why, size_t size, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	format_vbuf(why, size, fmt, ap);
	va_end(ap);
	return err;
}

const char *vm_state_name(enum vm_state s)
{
	static const char *const name[VM_STATES] = {"created", "starting", "running", "paused", "stopping", "crashed"};

	return s < VM_STATES ? name[s] : "?";
}

struct vm *vm_next(struct vm *vm)
{
	struct list *l = vm ? vm->link.next : vms.next;

	return l == &vms ? NULL : list_entry(l, struct vm, link);
}

struct vm *vm_find(const char *name)
{
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm))
		if (str_eq(vm->config.name, name))
			return vm;
	return NULL;
}

int vm_create(const struct vm_config *cfg, struct vm **out, char *why, size_t size)
{
	struct vm *vm;

	CHECK(cfg->memory_bytes >= VM_MEMORY_MIN && cfg->memory_bytes <= VM_MEMORY_MAX);
	CHECK(cfg->memory_bytes % PAGE_SIZE == 0 && cfg->name[0]);
	if (cfg->maximum_bytes && (cfg->maximum_bytes < cfg->memory_bytes || cfg->minimum_bytes > cfg->memory_bytes))
		return refuse(why, size, E_RANGE, "maximum must be the VM's memory to 64G in whole pages");
	if (vm_find(cfg->name))
		return refuse(why, size, E_EXIST, "a VM named '%s' exists", cfg->name);
	if (vm_count == FAKE_VMS_MAX)
		return refuse(why, size, E_NOSPC, "there are %u VMs already", vm_count);
	if (cfg->reservation_bytes > cfg->memory_bytes ||
	    (cfg->limit_bytes && cfg->limit_bytes < cfg->reservation_bytes))
		return refuse(why, size, E_RANGE, "reservation is above the VM's memory or limit");
	vm = calloc(1, sizeof(*vm));
	vm->config = *cfg;
	vm->id = next_id++;
	vm->state = VM_CREATED;
	lock_init(&vm->lock, "vm", LOCK_RANK_VM);
	list_add_tail(&vms, &vm->link);
	vm_count++;
	*out = vm;
	return 0;
}

static void end(struct vm *vm)
{
	reclaim_remove(&vm->gs);
	while (!gspace_destroy_some(&vm->gs, 4096))
		;
	vm->gs_valid = false;
	vm->state = VM_CREATED;
	free(vm->vcpu[0]);
	vm->vcpu[0] = NULL;
	str_copy(vm->why, "stopped by the operator", sizeof(vm->why));
}

int vm_destroy(struct vm *vm, char *why, size_t size)
{
	if (vm->gs_valid)
		return refuse(why, size, E_BUSY, "'%s' is %s: stop it first", vm->config.name,
			      vm_state_name(vm->state));
	list_del(&vm->link);
	vm_count--;
	free(vm);
	return 0;
}

int vm_would_start(struct vm *vm, char *why, size_t size)
{
	CHECK(!vm->gs_valid);
	return fake_vm_refuse ? refuse(why, size, E_NOMEM, "%s", fake_vm_refuse) : 0;
}

int vm_start(struct vm *vm, char *why, size_t size)
{
	struct mem_alloc alloc = {.reservation = (u32)(vm->config.reservation_bytes >> PAGE_SHIFT),
				  .limit = (u32)(vm->config.memory_bytes >> PAGE_SHIFT),
				  .shares = vm->config.shares ? vm->config.shares : 80};

	if (fake_vm_refuse)
		return refuse(why, size, E_NOMEM, "%s", fake_vm_refuse);
	if (vm->gs_valid)
		return refuse(why, size, E_BUSY, "'%s' is %s", vm->config.name, vm_state_name(vm->state));
	if (gspace_init(&vm->gs, vm->config.name, (gfn_t)(vm->config.memory_bytes >> PAGE_SHIFT), &fake_format_plain,
			&alloc))
		return refuse(why, size, E_NOMEM, "no memory for the address space of '%s'", vm->config.name);
	vm->gs.balloon_max = vm->gs.pages / 100 * BALLOON_MAX_PERCENT;
	if (vm->config.maximum_bytes)
		vm->gs.dyn = (struct dynmem){.minimum = (u32)(vm->config.minimum_bytes >> PAGE_SHIFT),
					     .maximum = (u32)(vm->config.maximum_bytes >> PAGE_SHIFT),
					     .buffer = 20,
					     .present = true,
					     .offered = vm->gs.pages};
	vm->vcpu[0] = calloc(1, sizeof(struct vcpu));
	vm->vcpu[0]->state = VCPU_RUNNING;
	vm->past.exits[HV_EXIT_NPF] = 12;
	vm->gs_valid = true;
	vm->state = VM_RUNNING;
	vm->started_ns = fake_now_ns;
	reclaim_add(&vm->gs);
	return 0;
}

static int change(struct vm *vm, enum vm_state from, enum vm_state to, char *why, size_t size)
{
	if (vm->state != from)
		return refuse(why, size, E_BUSY, "'%s' is %s", vm->config.name, vm_state_name(vm->state));
	vm->state = to;
	return 0;
}

int vm_pause(struct vm *vm, char *why, size_t size)
{
	return change(vm, VM_RUNNING, VM_PAUSED, why, size);
}

int vm_resume(struct vm *vm, char *why, size_t size)
{
	return change(vm, VM_PAUSED, VM_RUNNING, why, size);
}

int vm_stop(struct vm *vm, bool force, char *why, size_t size)
{
	if (!vm->gs_valid)
		return refuse(why, size, E_BUSY, "'%s' is %s", vm->config.name, vm_state_name(vm->state));
	if (force || !fake_vm_deaf)
		end(vm);
	return 0;
}

int vm_would_reserve(struct vm *vm, u64 bytes, char *why, size_t size)
{
	if (fake_vm_refuse)
		return refuse(why, size, E_NOMEM, "%s", fake_vm_refuse);
	if (bytes > vm->config.memory_bytes)
		return refuse(why, size, E_RANGE, "reservation must be at most the VM's memory");
	return 0;
}

int vm_set_reservation(struct vm *vm, u64 bytes, char *why, size_t size)
{
	int err = vm_would_reserve(vm, bytes, why, size);

	if (err)
		return err;
	vm->config.reservation_bytes = bytes;
	if (vm->gs_valid)
		vm->gs.alloc.reservation = (u32)(bytes >> PAGE_SHIFT);
	return 0;
}

int vm_set_limit(struct vm *vm, u64 bytes, char *why, size_t size)
{
	if (bytes && bytes < vm->config.reservation_bytes)
		return refuse(why, size, E_RANGE, "limit must be at least the reservation");
	vm->config.limit_bytes = bytes;
	return 0;
}

int vm_set_shares(struct vm *vm, u32 shares, char *why, size_t size)
{
	CHECK(shares && why && size);
	vm->config.shares = shares;
	if (vm->gs_valid)
		vm->gs.alloc.shares = shares;
	return 0;
}

int vm_set_memory(struct vm *vm, u64 bytes, char *why, size_t size)
{
	if (fake_vm_refuse)
		return refuse(why, size, E_RANGE, "%s", fake_vm_refuse);
	if (vm->gs_valid)
		vm->gs.dyn.fixed = (u32)(bytes >> PAGE_SHIFT);
	else
		vm->config.memory_bytes = bytes;
	return 0;
}

int vm_set_minimum(struct vm *vm, u64 bytes, char *why, size_t size)
{
	CHECK(bytes && why && size);
	vm->config.minimum_bytes = bytes;
	vm->gs.dyn.minimum = (u32)(bytes >> PAGE_SHIFT);
	return 0;
}

int vm_set_buffer(struct vm *vm, u32 percent, char *why, size_t size)
{
	CHECK(percent && why && size);
	vm->config.buffer_percent = vm->gs.dyn.buffer = percent;
	return 0;
}

int vm_configure(struct vm *vm, const struct vm_config *cfg, char *why, size_t size)
{
	CHECK(why && size && str_eq(vm->config.name, cfg->name));
	if (cfg->reservation_bytes > cfg->memory_bytes)
		return refuse(why, size, E_RANGE, "reservation is above the VM's memory");
	vm->config = *cfg;
	return 0;
}

bool vm_console_line(struct vm *vm, const char *text, size_t len)
{
	(void)vm;
	if (fake_vm_deaf)
		return false;
	CHECK(strlen(fake_vm_typed) + len + 1 < sizeof(fake_vm_typed));
	strncat(fake_vm_typed, text, len);
	strcat(fake_vm_typed, "\r");
	return true;
}

bool vm_read_info(struct vm *vm, struct aero_info *out)
{
	if (fake_vm_silent || !vm->gs_valid)
		return false;
	*out = fake_vm_info;
	return true;
}

void vm_counts(const struct vm *vm, struct vm_counts *out)
{
	*out = vm->past;
}

void vm_host_memory(struct vm_host_memory *out)
{
	struct frame_stats f;

	frame_stats(&f);
	*out = (struct vm_host_memory){.total = f.total, .free = f.free, .hypervisor = f.by_state[FRAME_HV]};
	out->guest = f.total - f.free - out->hypervisor;
	out->ram_unreserved = f.free;
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm))
		if (vm->gs_valid)
			out->overhead += vm->config.memory_bytes / LARGE_SIZE + vm->config.vcpus;
}

/* ---- for tests ---- */

void fake_vm_touch(struct vm *vm, u32 n)
{
	while (n--) /* not in order, in which more would come than is asked for */
		CHECK(gspace_touch(&vm->gs, n, GSPACE_WRITE) == 0);
}

void fake_vm_end(void)
{
	struct vm *vm;
	char why[128];

	while ((vm = vm_next(NULL))) {
		if (vm->gs_valid)
			end(vm);
		CHECK(vm_destroy(vm, why, sizeof(why)) == 0);
	}
	monitor_sync();
}

void fake_vm_reset(void)
{
	struct host_config defaults = {.share_rate = SETTINGS_SHARE_RATE,
				       .balloon_rate = BALLOON_RATE_DEFAULT,
				       .zip_percent = ZIP_PERCENT_DEFAULT,
				       .log_level = LOG_INFO + 1};

	if (!machine_up) {
		fake_platform_reset();
		fake_mm_start(FAKE_VM_FRAMES);
		swap_init(1, 2);
		zip_init(3, ZIP_PERCENT_DEFAULT);
		reclaim_init(NULL);
	}
	machine_up = true;
	fake_vm_end();
	next_id = 1;
	fake_vm_refuse = NULL;
	fake_vm_silent = fake_vm_deaf = false;
	memset(&fake_vm_info, 0, sizeof(fake_vm_info));
	settings_apply(&defaults);
}

static void keep(struct console_out *o, const char *text, size_t len)
{
	struct fake_out *f = container_of(o, struct fake_out, out);

	len = MIN(len, FAKE_OUT_BYTES - 1 - f->len);
	memcpy(f->text + f->len, text, len);
	f->len += len;
	f->text[f->len] = 0;
}

void fake_out_init(struct fake_out *f)
{
	f->out.write = keep;
	f->len = 0;
	f->text[0] = 0;
}

int fake_vm_fresh(void **state)
{
	(void)state;
	fake_vm_reset();
	return 0;
}

int fake_vm_over(void **state)
{
	(void)state;
	fake_vm_end();
	return 0;
}
