/*
 * A virtual machine: configuration, life cycle, address space, vCPUs and
 * paravirtual devices.
 *
 * Life cycle: CREATED -start-> STARTING (image is loaded, deferred work) -> RUNNING <-pause/resume-> PAUSED;
 * RUNNING -(stop, guest's own shutdown)-> STOPPING -> CREATED; RUNNING -(fault)-> STOPPING -> CRASHED -start->
 * STARTING. STOPPING gives memory back in bounded pieces (deferred work). destroy removes a CREATED or CRASHED VM.
 *
 * What a VM is, the boot CPU decides: the table of VMs, `state`, what comes and goes with it (address space, vCPUs,
 * disk, info page) and the settings are changed there only, in the console's commands and in life_work, and only while
 * no vCPU runs where a vCPU looks at them without a lock. A CPU that runs a vCPU and wants its VM ended (a crash, a
 * shutdown) asks: `end_asked` keeps the vCPUs from being entered again, and life_work does the rest.
 *
 * Locking: vm->lock (LOCK_RANK_VM) guards devices, console rings and the info page's host side. The list of VMs has
 * LOCK_RANK_VM_LIST.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include "guest/abi/aerostat.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/timer.h"
#include "lib/types.h"
#include "lib/work.h"
#include "mm/gspace.h"
#include "vmm/ring.h"

#define VM_NAME_MAX       15
#define VM_MAX            256
#define VM_VCPUS_MAX      8
#define VM_CONSOLE_BYTES  (8 * KIB)
#define VM_CPU_WEIGHT_MAX 100000U
#define VM_CPU_CAP_MAX    800U
#define VM_MEMORY_MIN     (8 * MIB)
#define VM_MEMORY_MAX     (64 * GIB)

enum vm_state { VM_CREATED, VM_STARTING, VM_RUNNING, VM_PAUSED, VM_STOPPING, VM_CRASHED, VM_STATES };
const char *vm_state_name(enum vm_state s);

enum vm_end { VM_END_NONE, VM_END_CRASH, VM_END_OFF, VM_END_REBOOT };

struct vm_config {
	char name[VM_NAME_MAX + 1];         /* [A-Za-z0-9_-]+ */
	u64 memory_bytes;                   /* page multiple; with Dynamic Memory what it starts with */
	u64 minimum_bytes, maximum_bytes;   /* Dynamic Memory (mm/dynmem.h), minimum 0: memory_bytes. maximum 0: none */
	u32 buffer_percent;                 /* of what the guest has committed; 0: 20 */
	u64 reservation_bytes, limit_bytes; /* limit 0: none */
	u32 shares;                         /* 0: 10 per MiB */
	u32 vcpus;
	u64 disk_bytes;          /* paravirtual disk 0; 0: none */
	u32 balloon_max_percent; /* 0: 65 */
	u32 cpu_weight;          /* share of CPU time; 0: 1000 */
	u32 cpu_cap;             /* at most this percent of one CPU; 0: no cap */
	u32 zip_percent;         /* of memory for its compressed pages; 0: the host's zip-max, ZIP_NONE: nothing */
	char share_group[VM_NAME_MAX + 1]; /* VMs of one group share equal pages; empty: with no other VM */
	u32 balloon_rate;                  /* pages a second that its balloon may move; 0: the host's setting */
	/* ends a guest that keeps interrupts off for so much of its own run time; 0: never */
	u32 watchdog_sec;
	char image[64]; /* module name, default "guest.elf" */
	char cmdline[256];
	bool autostart;
};

struct vcpu;
struct pvdisk;

struct vm_counts {
	u64 exits[32]; /* by enum hv_exit_kind */
	u64 hypercalls, hypercall_errors;
};

struct vm {
	struct list link;
	struct lock lock;
	u16 id;
	enum vm_state state;
	struct vm_config config;
	char why[96];     /* how it came to its last CREATED/CRASHED state, for the operator */
	struct gspace gs; /* valid while gs_valid: STARTING .. STOPPING */
	bool gs_valid;
	bool crashed; /* STOPPING ends in CRASHED */
	bool restart; /* STOPPING ends in a new start (guest asked for a reboot) */
	struct vcpu *vcpu[VM_VCPUS_MAX];
	u64 started_ns, clock_base_ns;
	u32 load_step; /* STARTING: next piece of the image */
	u32 mem_wakes; /* atomic: counts mm_wake(), so that a waiter never misses one */

	/* contract */
	hfn_t info_hfn; /* pinned info page, HFN_NONE before HELLO */
	gfn_t info_gfn;
	u32 features; /* granted */

	/* console: out is what the guest printed and nobody has read yet, in is what the operator typed */
	struct ring con_out, con_in;
	u8 *con_buf;
	bool con_attached;
	u64 con_dropped;

	struct pvdisk *disk;
	struct work notify_work; /* mirrors the balloon target into the info page */
	struct work life_work;   /* STARTING: loads the image; STOPPING: gives memory back */
	struct timer life_timer; /* retries life_work; end of an orderly stop's patience */
	u32 end_claimed;         /* atomic: somebody writes end_why */
	u32 end_asked;           /* atomic: enum vm_end; life_work has to end the VM for end_why */
	char end_why[96];
	u64 cap_start_ns, cap_used_ns; /* atomic: this period of the CPU cap */
	struct log_limit log_limit;
	struct vm_counts past; /* of the last run's vCPUs, when they are gone: vm_counts() */
};

/* All take effect at once or return an error with one line for the operator in why. */
int vm_create(const struct vm_config *cfg, struct vm **out, char *why, size_t size) must_check;
int vm_start(struct vm *vm, char *why, size_t size) must_check;
/* Image and admission, for a VM that does not run; its disk is not looked at. */
int vm_would_start(struct vm *vm, char *why, size_t size) must_check;
int vm_pause(struct vm *vm, char *why, size_t size) must_check;
int vm_resume(struct vm *vm, char *why, size_t size) must_check;
/*
 * Orderly: asks the guest (AERO_EVENT_SHUTDOWN) and ends it after 5 s; force: at once. Of a VM that reboots: it stays
 * down.
 */
int vm_stop(struct vm *vm, bool force, char *why, size_t size) must_check;
int vm_destroy(struct vm *vm, char *why, size_t size) must_check;

/* Takes effect on a running VM too; admission is checked. bytes. */
/* Could vm_set_reservation() do it? Nothing is changed. */
int vm_would_reserve(struct vm *vm, u64 bytes, char *why, size_t size) must_check;
int vm_set_reservation(struct vm *vm, u64 bytes, char *why, size_t size) must_check;
int vm_set_limit(struct vm *vm, u64 bytes, char *why, size_t size) must_check;
int vm_set_shares(struct vm *vm, u32 shares, char *why, size_t size) must_check;
/*
 * Memory that a VM has, 0: by what its guest needs. Of a running VM with Dynamic Memory: more is taken on line by its
 * guest, less is the balloon's. Of one that does not run, what it starts with.
 */
int vm_set_memory(struct vm *vm, u64 bytes, char *why, size_t size) must_check;
/* Of a VM with Dynamic Memory; also while it runs. */
int vm_set_minimum(struct vm *vm, u64 bytes, char *why, size_t size) must_check;
int vm_set_buffer(struct vm *vm, u32 percent, char *why, size_t size) must_check;
/* What it may ever have: what admission counts. */
static inline u64 vm_memory_max(const struct vm_config *c)
{
	return c->maximum_bytes ? c->maximum_bytes : c->memory_bytes;
}
/*
 * All settings at once. Of a VM that has memory only what does not belong to its start may differ: the caller sees to
 * it.
 */
int vm_configure(struct vm *vm, const struct vm_config *cfg, char *why, size_t size) must_check;

struct vm *vm_find(const char *name); /* NULL: there is none */
struct vm *vm_next(struct vm *vm);    /* creation order; NULL starts */
struct vm *vm_of_gspace(struct gspace *gs);

/*
 * Ends a VM for a fault of its own (or a lost page): soon, on the boot CPU; state dump to the log, STOPPING -> CRASHED.
 * Any CPU, any lock.
 */
void vm_crash(struct vm *vm, const char *fmt, ...) printf_like(2, 3);

/*
 * Sets event bits of the VM (vCPU 0's) or of one vCPU and raises its upcall; nothing before HELLO. Any CPU; no lock of
 * LOCK_RANK_SCHED or above held.
 */
void vm_post_event(struct vm *vm, u64 event);
void vm_post_vcpu_event(struct vcpu *v, u64 event);
void vm_clear_vcpu_events(struct vcpu *v); /* OFF */

/* Of all its vCPUs, in its present or last run, with the exits that the back end answers. */
void vm_counts(const struct vm *vm, struct vm_counts *out);

/*
 * Called (with no lock held) when a guest has printed whose console is shown (con_attached); the operator's console
 * sets it.
 */
extern void (*vm_console_notify)(struct vm *vm);
/* Guest's side: bytes taken; when the ring is full the oldest output is lost and counted. */
size_t vm_console_put(struct vm *vm, const char *text, size_t len);
void vm_console_put_byte(struct vm *vm, u8 c);
size_t vm_console_get(struct vm *vm, char *buf, size_t size);
/* Operator's side of a VM's console: bytes moved. */
size_t vm_console_read(struct vm *vm, char *buf, size_t size);
size_t vm_console_write(struct vm *vm, const char *buf, size_t len);
/* text and a return, or, for lack of room, nothing of it: false */
bool vm_console_line(struct vm *vm, const char *text, size_t len);

/* A snapshot of the guest's side of the info page; false if there is none yet. */
bool vm_read_info(struct vm *vm, struct aero_info *out);

/* Host share of memory for admission and `mem`. Frames. */
struct vm_host_memory {
	u64 total, hypervisor, free, guest; /* hypervisor: image, tables, pools; guest: all VM frames */
	u64 overhead;                       /* that started VMs may cause beside their pages */
	u64 overhead_held;                  /* of this, in `hypervisor` already */
	u64 ram_unreserved, swap_unreserved;
};
void vm_host_memory(struct vm_host_memory *out);

/* HELLO: pins the info page and fills the contract. Features granted, or E_AGAIN, E_FAULT, E_PERM (done before). */
s64 vm_attach_info(struct vm *vm, gpa_t gpa, u32 features);
void vm_guest_shutdown(struct vm *vm, u64 how); /* enum aero_shutdown */
/* The guest takes [gpa, gpa + bytes) on line: 0 or AERO_E_*. */
s64 vm_memory_online(struct vm *vm, u64 gpa, u64 bytes);
u32 vm_features_offered(const struct vm *vm); /* AERO_FEATURE_* */

/*
 * Frames that a VM must be able to get whatever the others do, so that a copy-on-write break or a page on its way back
 * (from compression, from swap) never waits for ever: what its reservation does not promise anyway.
 */
#define VM_HEADROOM_FRAMES 128U
static inline u32 vm_headroom_frames(u64 reservation_pages)
{
	return reservation_pages < VM_HEADROOM_FRAMES ? VM_HEADROOM_FRAMES - (u32)reservation_pages : 0;
}

void vm_init(void);
/*
 * What a VM can make the hypervisor allocate beside its pages, in frames: nested tables, vCPUs, disk, entries of the
 * share table and the reverse map, tables for its slots of swap. Of one to be started, beside what the others already
 * may.
 */
u64 vm_overhead_frames(const struct vm_config *c);
/* The most frames that a VM's nested tables take. */
static inline u64 vm_tables_max(u64 memory_bytes)
{
	return DIV_ROUND_UP(memory_bytes, LARGE_SIZE) + DIV_ROUND_UP(memory_bytes, GIB) + 2;
}

#endif
