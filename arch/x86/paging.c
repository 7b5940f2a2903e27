/*
 * Host page tables: see paging.h.
 *
 * Table pages are never freed. Only empty entries are filled, so no translation ever has to be flushed on another CPU.
 * Locking: host_lock guards the tables and the window cursor.
 */
#include "arch/x86/paging.h"
#include "arch/x86/asm.h"
#include "lib/err.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "mm/frame.h"
#include "mm/pt.h"

#define PTE_P             BIT(0)
#define PTE_W             BIT(1)
#define PTE_US            BIT(2)
#define PTE_PWT           BIT(3)
#define PTE_PCD           BIT(4)
#define PTE_A             BIT(5)
#define PTE_D             BIT(6)
#define PTE_PS            BIT(7)
#define PTE_G             BIT(8)
#define PTE_NX            BIT(63)
#define CPUID_EXT1_EDX_1G BIT(26)

#define STACK_SLOT_BYTES  (256 * KIB)
#define MMIO_MAP_BYTES    (64 * GIB)

extern const u8 image_start[], image_text_start[], image_text_end[], image_rodata_start[], image_rodata_end[];
extern const u8 image_data_start[], image_data_end[], image_end[];

static u64 host_leaf_flags(u32 prot, u32 level)
{
	u64 e = PTE_P | PTE_A | PTE_D;

	e |= prot & PT_W ? PTE_W : 0;
	e |= prot & PT_USER ? PTE_US : 0;
	e |= prot & PT_GLOBAL ? PTE_G : 0;
	e |= prot & PT_UNCACHED ? PTE_PCD | PTE_PWT : 0;
	e |= prot & PT_COMBINING ? PTE_PWT : 0; /* as cpu_init_features() sets up the PAT */
	e |= level > 1 ? PTE_PS : 0;
	if (!(prot & PT_X) && (rdmsr(MSR_EFER) & EFER_NXE))
		e |= PTE_NX;
	return e;
}

static u32 host_leaf_prot(u64 e, u32 level)
{
	(void)level;
	return PT_R | (e & PTE_W ? PT_W : 0) | (e & PTE_NX ? 0 : PT_X) | (e & PTE_US ? PT_USER : 0) |
	       (e & PTE_PCD   ? PT_UNCACHED
		: e & PTE_PWT ? PT_COMBINING
			      : 0) |
	       (e & PTE_G ? PT_GLOBAL : 0);
}

static struct pt_format host_format = {
    .name = "host",
    .present_mask = PTE_P,
    .addr_mask = BITS(51, 12),
    .large_bit = PTE_PS,
    .accessed = PTE_A,
    .dirty = PTE_D,
    .table_flags = PTE_P | PTE_W | PTE_A,
    .tag_mask = BITS(54, 52),
    .tag_shift = 52,
    .large_ok = {[2] = true},
    .leaf_flags = host_leaf_flags,
    .leaf_prot = host_leaf_prot,
};

static hfn_t host_table_alloc(struct pt_alloc *a)
{
	(void)a;
	return frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
}

static void host_table_free(struct pt_alloc *a, hfn_t hfn)
{
	(void)a;
	frame_free(hfn, 0);
}

static struct pt_alloc host_alloc = {host_table_alloc, host_table_free};
static struct pt host_pt;
static struct lock host_lock = LOCK_INIT("host-pt", LOCK_RANK_HOST_PT);
static u64 mmio_next = MMIO_MAP_BASE;
static hpa_t image_hpa;
static bool active;

int paging_init(void)
{
	if (cpuid(0x80000000U, 0).eax >= 0x80000001U && (cpuid(0x80000001U, 0).edx & CPUID_EXT1_EDX_1G))
		host_format.large_ok[3] = true;
	return pt_init(&host_pt, &host_format, &host_alloc);
}

static int map(u64 va, hpa_t hpa, u64 bytes, u32 prot)
{
	int err;

	if (bytes == 0)
		return 0;
	lock_acquire(&host_lock);
	err = pt_map_range(&host_pt, va, hpa, bytes, prot);
	lock_release(&host_lock);
	return err;
}

int paging_map_ram(hpa_t base, u64 bytes)
{
	return map(DIRECT_MAP_BASE + base.v, base, bytes, PT_R | PT_W | PT_GLOBAL);
}

/* One part of the image, at its linked address with `prot` and in the direct map, writable there only if it is here. */
static int map_part(hpa_t base, const u8 *start, const u8 *end, u32 prot)
{
	hpa_t hpa = HPA(base.v + (start - image_start));
	int err = map((u64)start, hpa, end - start, prot | PT_GLOBAL);

	if (err)
		return err;
	return map(DIRECT_MAP_BASE + hpa.v, hpa, end - start, (prot & ~PT_X) | PT_GLOBAL);
}

int paging_map_image(hpa_t base)
{
	int err = map_part(base, image_text_start, image_text_end, PT_R | PT_X);

	image_hpa = base;
	if (!err)
		err = map_part(base, image_rodata_start, image_rodata_end, PT_R);
	if (!err)
		err = map_part(base, image_data_start, image_data_end, PT_R | PT_W);
	return err;
}

hpa_t paging_image_base(void)
{
	return image_hpa;
}

void paging_activate(void)
{
	write_cr3(hfn_to_hpa(host_pt.root).v);
	active = true;
}

static u64 stack_bytes(enum cpu_stack which)
{
	return which == STACK_MAIN ? STACK_MAIN_BYTES : STACK_IST_BYTES;
}

/* Address of the guard page below a stack. */
static u64 stack_guard(u32 cpu, enum cpu_stack which)
{
	u64 at = STACK_MAP_BASE + cpu * STACK_SLOT_BYTES;

	for (u32 i = 0; i < which; i++)
		at += PAGE_SIZE + stack_bytes(i);
	return at;
}

int paging_map_stack(u32 cpu, enum cpu_stack which, u64 *top)
{
	u64 at = stack_guard(cpu, which) + PAGE_SIZE;

	*top = at + stack_bytes(which);
	for (; at < *top; at += PAGE_SIZE) {
		hfn_t hfn = frame_alloc(0, FRAME_FOR_HV, FRAME_HV, true);
		int err = hfn == HFN_NONE ? E_NOMEM : map(at, hfn_to_hpa(hfn), PAGE_SIZE, PT_R | PT_W | PT_GLOBAL);

		if (err)
			return log_err("paging", err, "stack %u of cpu%u", which, cpu);
	}
	return 0;
}

bool paging_guard_page(u64 va, u32 *cpu, enum cpu_stack *which)
{
	if (va < STACK_MAP_BASE || va >= STACK_MAP_BASE + CPUS_MAX * STACK_SLOT_BYTES)
		return false;
	*cpu = (va - STACK_MAP_BASE) / STACK_SLOT_BYTES;
	for (u32 i = 0; i < STACKS; i++)
		if (ALIGN_DOWN(va, PAGE_SIZE) == stack_guard(*cpu, i)) {
			*which = i;
			return true;
		}
	return false;
}

bool paging_readable(u64 va)
{
	u32 level;

	if (va & 7)
		return false;
	if (!active)
		return va >= (u64)image_start && va < (u64)image_end;
	if ((s64)va >= 0 || (s64)va >> 47 != -1)
		return false;
	return pt_entry_present(&host_format, *pt_find(&host_pt, va, &level));
}

static int map_window(hpa_t hpa, size_t bytes, u32 prot, volatile void **va)
{
	u64 first = ALIGN_DOWN(hpa.v, PAGE_SIZE), end = ALIGN_UP(hpa.v + bytes, PAGE_SIZE), at;
	int err;

	lock_acquire(&host_lock);
	at = mmio_next;
	err = end <= first || end - first > MMIO_MAP_BASE + MMIO_MAP_BYTES - at ? E_NOMEM : 0;
	if (!err)
		err = pt_map_range(&host_pt, at, HPA(first), end - first, PT_R | PT_W | PT_GLOBAL | prot);
	if (!err) {
		mmio_next = at + (end - first) + PAGE_SIZE; /* an unmapped page between windows */
		*va = (volatile void *)(at + (hpa.v - first));
	}
	lock_release(&host_lock);
	return err ? log_err("paging", err, "device window of %zu bytes at 0x%lx", bytes, hpa.v) : 0;
}

int mmio_map(hpa_t hpa, size_t bytes, volatile void **va)
{
	return map_window(hpa, bytes, PT_UNCACHED, va);
}

int mmio_map_combining(hpa_t hpa, size_t bytes, volatile void **va)
{
	return map_window(hpa, bytes, PT_COMBINING, va);
}

const void *paging_view(hpa_t hpa, size_t bytes)
{
	volatile void *va;
	u64 page = ALIGN_DOWN(hpa.v, PAGE_SIZE), end = hpa.v + bytes;
	bool direct = end >= hpa.v && end < MMIO_MAP_BASE - DIRECT_MAP_BASE;

	for (; direct && page < end; page += PAGE_SIZE)
		direct = paging_readable(DIRECT_MAP_BASE + page);
	if (direct)
		return hpa_to_va(hpa);
	return mmio_map(hpa, bytes, &va) ? NULL : (const void *)va;
}
