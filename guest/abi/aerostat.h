/*
 * Aerostat guest ABI, version 1: the one header that hypervisor and guests share.
 * docs/GUEST-ABI.md is its prose. All structures are little-endian, naturally
 * aligned, and page-sized or smaller; reserved fields are zero.
 */
#ifndef AEROSTAT_ABI_H
#define AEROSTAT_ABI_H

#include <stdint.h>

#define AERO_ABI_VERSION 1

/*
 * Discovery.
 * CPUID 0x40000000: EAX = highest leaf, EBX ECX EDX = "Aerostat-HV\0" (4 characters each).
 * CPUID 0x40000001: EAX = ABI version, EBX = feature bits offered, ECX = hypercall MSR, EDX = vCPU number.
 * CPUID 0x40000002: EAX:EBX = TSC kHz (low, high), ECX = size of the VM in MiB.
 */
#define AERO_CPUID_BASE         0x40000000u
#define AERO_CPUID_FEATURES     0x40000001u
#define AERO_CPUID_TSC          0x40000002u
#define AERO_SIGNATURE          "Aerostat-HV"

#define AERO_FEATURE_BALLOON    (1u << 0)
#define AERO_FEATURE_BALLOON_2M (1u << 1)
#define AERO_FEATURE_DISK       (1u << 2)
#define AERO_FEATURE_TIMER      (1u << 3)
#define AERO_FEATURE_CONSOLE    (1u << 4)
#define AERO_FEATURE_SMP        (1u << 5) /* VCPU_START, VCPU_STOP, VCPU_SEND */
#define AERO_FEATURE_MEMORY     (1u << 6) /* memory is added while it runs: MEMORY_ONLINE */
#define AERO_FEATURE_HINT       (1u << 7) /* what the host need not keep: PAGE_HINT */

/*
 * MSR: a write of gpa | 1 makes the hypervisor fill that page with the hypercall routine (call it; VMCALL or VMMCALL,
 * then RET).
 */
#define AERO_MSR_HYPERCALL 0x4ae20000u

/*
 * Hypercall: RAX = number, RDI RSI RDX R8 R9 = arguments; RAX = result (0 or more, or a negative
 * AERO_E_*), RDX = second result where stated. Every other register is kept. CPL 0 only.
 */
enum aero_call {
	AERO_CALL_NOP = 0,
	AERO_CALL_HELLO = 1,         /* (abi version, features wanted, gpa of info page) -> features granted; once */
	AERO_CALL_CONSOLE_WRITE = 2, /* (gpa, bytes <= 1024) -> bytes taken */
	AERO_CALL_CONSOLE_READ = 3,  /* (gpa, bytes <= 1024) -> bytes given */
	AERO_CALL_UPCALL = 4,        /* (vector 32..255) -> 0: the caller's events raise this interrupt on it */
	/* (absolute ns on the VM's clock, 0 = off) -> 0; the caller gets AERO_EVENT_TIMER */
	AERO_CALL_TIMER = 5,
	AERO_CALL_BALLOON_INFLATE = 6, /* (gpa of u64 entries, count <= 512) -> accepted; RDX = newest target, pages */
	AERO_CALL_BALLOON_DEFLATE = 7, /* as inflate */
	AERO_CALL_DISK_SETUP = 8,      /* (disk, gpa of struct aero_disk_ring) -> disk size in 4 KiB pages */
	AERO_CALL_DISK_KICK = 9,       /* (disk) -> requests taken */
	AERO_CALL_SHUTDOWN = 10,       /* (enum aero_shutdown) does not return */
	AERO_CALL_BALLOON_POLL = 11,   /* () -> target pages; RDX = pages the rate allows now */
	AERO_CALL_VCPU_START = 12,     /* (vCPU, RIP, RSP, CR3, argument for its RDI) -> 0 */
	AERO_CALL_VCPU_STOP = 13,      /* (vCPU other than 0) -> 0; does not return if it is the caller */
	AERO_CALL_VCPU_SEND = 14,      /* (mask of vCPUs, AERO_EVENT_GUEST(n)...) -> 0: these events for these vCPUs */
	AERO_CALL_MEMORY_ONLINE = 15,  /* (gpa: the present end of memory, bytes) -> 0: memory goes on to gpa + bytes */
	AERO_CALL_PAGE_HINT = 16,      /* (gpa of struct aero_hint entries, count <= 256) -> answered OK */
	AERO_CALLS
};

enum aero_shutdown { AERO_SHUTDOWN_OFF = 0, AERO_SHUTDOWN_REBOOT = 1, AERO_SHUTDOWN_CRASH = 2 };

#define AERO_E_PERM  (-1)
#define AERO_E_NOENT (-2)
#define AERO_E_IO    (-5)
#define AERO_E_2BIG  (-7)
#define AERO_E_AGAIN (-11)
#define AERO_E_NOMEM (-12)
#define AERO_E_FAULT (-14)
#define AERO_E_BUSY  (-16)
#define AERO_E_INVAL (-22)
#define AERO_E_NOSPC (-28)
#define AERO_E_NOSYS (-38)

/*
 * What a guest finds when it starts: 64-bit mode, flat segments (CS 0x08, others 0x10, no GDT loaded: limit 0),
 * interrupts off, paging on with the first 4 GiB mapped 1:1 by 2 MiB entries (RW, X), RDI = gpa of struct aero_start,
 * RSP valid. struct aero_start, the first page tables and the stack lie in [0x1000, 0x10000); the kernel image is an
 * ELF64 executable loaded at its physical addresses, which must be at or above 0x100000. All other memory reads as
 * zero.
 */
#define AERO_START_MAGIC 0x5452415453414541ull
struct aero_start {
	uint64_t magic;
	uint32_t abi_version, vcpus;
	uint64_t memory_bytes; /* one range from 0; no holes */
	uint64_t image_end;    /* first free byte after the kernel image (with bss) */
	uint64_t memory_max;   /* it may grow to, with AERO_FEATURE_MEMORY; 0: it does not grow */
	uint64_t reserved0;
	uint64_t tsc_khz;
	uint32_t disks, reserved;
	char name[16];      /* the VM's name */
	char cmdline[256];  /* terminated */
	uint8_t random[32]; /* differs at every start */
};

/*
 * Events: bits in a word of each vCPU (aero_events), set by the hypervisor, cleared by the guest (atomically). Those of
 * the VM (all but TIMER and GUEST) go to vCPU 0.
 */
#define AERO_EVENT_TIMER    (1ull << 0)
#define AERO_EVENT_BALLOON  (1ull << 1)
#define AERO_EVENT_CONSOLE  (1ull << 2)
#define AERO_EVENT_SHUTDOWN (1ull << 3) /* the operator asks for an orderly end */
#define AERO_EVENT_MEMORY   (1ull << 4) /* look at growth.offered */
#define AERO_EVENT_DISK(n)  (1ull << (8 + (n)))
#define AERO_EVENT_GUEST(n) (1ull << (32 + (n))) /* 0..31: the guest's own, from vCPU to vCPU */
#define AERO_EVENTS_GUEST   0xffffffff00000000ull

/* Balloon entry: gpa of a 4 KiB or 2 MiB unit | flags; the hypervisor puts a status into bits 11:4. */
#define AERO_BALLOON_2M        1ull
#define AERO_BALLOON_STATUS(e) (((e) >> 4) & 0xff)
enum aero_balloon_status {
	AERO_BALLOON_OK = 0,
	AERO_BALLOON_INVALID = 1, /* outside memory, misaligned, or reserved bits */
	AERO_BALLOON_PINNED = 2,  /* in use by the hypervisor */
	AERO_BALLOON_BUSY = 3,    /* in transfer, or faster than the rate: later */
	AERO_BALLOON_ALREADY = 4, /* inflate of a ballooned / deflate of a present page */
	AERO_BALLOON_OVER = 5,    /* beyond the target or maximum */
};
#define AERO_BALLOON_BATCH_MAX 512

/*
 * Hints: what the guest knows of a page and the host cannot see. page: gpa of a 4 KiB page | op; the hypervisor puts a
 * status into bits 11:4. block: of disk 0, with CLEAN; else 0. All of a call lie in one page; CHANGED entries are done
 * first.
 */
struct aero_hint {
	uint64_t page, block;
};
enum aero_hint_op {
	/* all of it will be written before it is read: until then it holds what it did, or zeroes */
	AERO_HINT_OVERWRITE = 1,
	AERO_HINT_CLEAN = 2,   /* it holds what the block holds, until it is written */
	AERO_HINT_CHANGED = 3, /* no more: the block is about to be written from elsewhere */
};
#define AERO_HINT_STATUS(page) (((page) >> 4) & 0xff)
enum aero_hint_status {
	AERO_HINT_OK = 0,
	AERO_HINT_INVALID = 1, /* no such op, page or block, or reserved bits */
	AERO_HINT_NOT_NOW = 2, /* CLEAN: the host could not use it; what was said of the page before holds */
};
#define AERO_HINT_BATCH_MAX 256

#define AERO_VCPUS_MAX      64

/*
 * The shared information page, one per VM. The hypervisor writes [0, 1024), the guest [1024, 4096); each reads
 * the other's as untrusted, once.
 */
struct aero_info {
	/* written by the hypervisor */
	uint64_t events; /* of vCPU 0. Exception, as vcpu_events: the guest clears bits */
	struct {
		uint32_t version; /* odd while being changed */
		uint32_t shift;   /* ns = base_ns + ((tsc - base_tsc) * mult >> shift) (128-bit product) */
		uint64_t base_tsc, base_ns, mult;
		int64_t wall_offset_ns; /* add for UTC; 0: unknown */
	} clock;
	struct {
		uint64_t target;      /* pages the balloon should hold */
		uint64_t floor;       /* pages of memory the host will not go below */
		uint64_t max;         /* most pages the balloon may hold */
		uint32_t rate;        /* pages a second up */
		uint32_t deadline_ms; /* wanted within; 0: none */
		uint64_t sequence;    /* changes with the target */
		uint32_t rate_down;   /* pages a second down; rate: up. 0: as rate */
		uint32_t credit;      /* pages that may come back at once, whatever the rate and the target */
	} balloon;
	uint64_t vcpu_events[AERO_VCPUS_MAX]; /* of the others; [0] is not used */
	struct {                              /* bytes from 0, whole pages */
		uint64_t online;              /* memory of the VM now */
		uint64_t offered;             /* may be taken on line up to there; online: nothing */
		uint64_t maximum;
	} growth;
	uint8_t pad0[1024 - 8 - 40 - 48 - 8 * AERO_VCPUS_MAX - 24];

	/* written by the guest; all counters since start */
	struct {
		uint64_t achieved; /* pages in the balloon */
		uint64_t refused_no_memory, refused_pinned, refused_host, refused_rate;
		uint64_t refaults; /* pages read back that the guest would hold if its balloon were empty */
		uint64_t refault_ns;
	} balloon_report;
	struct { /* pages */
		uint64_t total, free, cached, committed;
		uint64_t paged_in, paged_out, allocation_stalls, major_faults, minor_faults;
	} memory;
	struct {
		char name[16];               /* workload, terminated */
		uint64_t operations, errors; /* errors: wrong bytes seen by the workload */
		uint64_t latency_ns;         /* mean of the last second */
		uint32_t hit_permille;
		uint32_t state; /* 0 starting, 1 running, 2 done */
		uint64_t pages_checked;
	} app;
	uint8_t pad1[3072 - 56 - 72 - 56];
};

/* A vCPU's event word. */
static inline uint64_t *aero_events(struct aero_info *info, uint32_t vcpu)
{
	return vcpu ? &info->vcpu_events[vcpu] : &info->events;
}

/*
 * Paravirtual disk: a page with one ring of requests. The guest fills request[i % AERO_DISK_REQUESTS] and then advances
 * `posted`; the hypervisor answers in place, sets status, and advances `completed` (in any order: status tells). A slot
 * may be filled again once its status is not AERO_DISK_PENDING. Units are 4 KiB pages.
 */
#define AERO_DISK_REQUESTS 64
enum aero_disk_op { AERO_DISK_READ = 0, AERO_DISK_WRITE = 1, AERO_DISK_FLUSH = 2 };
#define AERO_DISK_PENDING 1 /* set by the guest on posting */
#define AERO_DISK_OK      0
struct aero_disk_request {
	uint64_t page; /* on the disk */
	uint64_t gpa;  /* page-aligned guest memory */
	uint32_t op;
	uint32_t count;  /* pages, 1..16, contiguous in guest memory; FLUSH: 0 */
	int32_t status;  /* PENDING, OK or AERO_E_* */
	uint32_t cookie; /* the guest's own */
	uint64_t reserved[2];
};
struct aero_disk_ring {
	uint32_t posted;    /* guest: requests posted since setup */
	uint32_t completed; /* hypervisor */
	uint32_t reserved[6];
	struct aero_disk_request request[AERO_DISK_REQUESTS];
};

#ifndef AERO_NO_ASSERTS
_Static_assert(sizeof(struct aero_start) <= 4096, "start page");
_Static_assert(sizeof(struct aero_info) == 4096, "info page");
_Static_assert(sizeof(struct aero_disk_request) == 48, "request");
_Static_assert(sizeof(struct aero_disk_ring) <= 4096, "ring page");
#endif

#endif
