/*
 * Guest page walk in software: from a guest's linear address to its guest-physical address, for fetching instructions
 * and for dumps. Rights are not checked: the processor has done so, or nobody acts on the answer. Everything read is
 * the guest's and may change under us; the walk is bounded by the number of levels.
 */
#include "arch/x86/hv.h"
#include "arch/x86/x86_bits.h"
#include "lib/err.h"

#define PTE_P    BIT(0)
#define PTE_PS   BIT(7)
#define PTE_ADDR BITS(51, 12)

/* One step: the entry at table + index, 4 or 8 bytes. */
static int read_entry(hv_phys_read_fn read, void *arg, u64 gpa, u32 bytes, u64 *entry)
{
	int err;

	*entry = 0;
	err = read(arg, GPA(gpa), entry, bytes);
	if (err)
		return err;
	return *entry & PTE_P ? 0 : E_FAULT;
}

/* 8-byte entries from `level` down; the table of that level is at `table`. */
static int walk_wide(u64 table, u64 gva, u32 level, hv_phys_read_fn read, void *arg, gpa_t *out)
{
	for (;; level--) {
		u32 shift = PAGE_SHIFT + 9 * (level - 1);
		u64 entry, offset = BITS(shift - 1, 0);
		int err = read_entry(read, arg, table + ((gva >> shift & 0x1ff) << 3), 8, &entry);

		if (err)
			return err;
		if (level == 1 || (level <= 3 && entry & PTE_PS)) {
			*out = GPA((entry & PTE_ADDR & ~offset) | (gva & offset));
			return 0;
		}
		table = entry & PTE_ADDR;
	}
}

/* PAE without long mode: four entries at the 32-byte aligned CR3, then two levels. */
static int walk_pae(u64 cr3, u32 gva, hv_phys_read_fn read, void *arg, gpa_t *out)
{
	u64 entry;
	int err = read_entry(read, arg, (cr3 & 0xffffffe0) + (gva >> 30 << 3), 8, &entry);

	return err ? err : walk_wide(entry & PTE_ADDR, gva, 2, read, arg, out);
}

/* Two levels of 4-byte entries; 4 MiB pages carry address bits 39:32 in bits 20:13. */
static int walk_legacy(const struct hv_sys *s, u32 gva, hv_phys_read_fn read, void *arg, gpa_t *out)
{
	u64 entry;
	int err = read_entry(read, arg, (s->cr3 & 0xfffff000) + (gva >> 22 << 2), 4, &entry);

	if (err)
		return err;
	if (entry & PTE_PS && s->cr4 & CR4_PSE) {
		*out = GPA((entry & 0xffc00000) | (entry & BITS(20, 13)) << 19 | (gva & 0x3fffff));
		return 0;
	}
	err = read_entry(read, arg, (entry & 0xfffff000) + ((gva >> 12 & 0x3ff) << 2), 4, &entry);
	if (err)
		return err;
	*out = GPA((entry & 0xfffff000) | (gva & ~PAGE_MASK));
	return 0;
}

int hv_guest_translate(const struct hv_sys *s, gva_t gva, hv_phys_read_fn read, void *arg, gpa_t *out)
{
	if (!(s->cr0 & CR0_PG)) {
		*out = GPA((u32)gva.v);
		return 0;
	}
	if (s->efer & EFER_LMA) {
		if ((s64)(gva.v << 16) >> 16 != (s64)gva.v)
			return E_FAULT;
		return walk_wide(s->cr3 & PTE_ADDR, gva.v, 4, read, arg, out);
	}
	if (s->cr4 & CR4_PAE)
		return walk_pae(s->cr3, (u32)gva.v, read, arg, out);
	return walk_legacy(s, (u32)gva.v, read, arg, out);
}
