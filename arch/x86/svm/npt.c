/*
 * The nested page-table format: long-mode page tables in which every leaf is a user page, because the processor
 * walks them as user accesses (AMD APM "Nested Paging").
 */
#include "arch/x86/svm/svm.h"

#define NPT_P   BIT(0)
#define NPT_W   BIT(1)
#define NPT_U   BIT(2)
#define NPT_PWT BIT(3)
#define NPT_PCD BIT(4)
#define NPT_A   BIT(5)
#define NPT_D   BIT(6)
#define NPT_PS  BIT(7)
#define NPT_NX  BIT(63)

static u64 npt_leaf_flags(u32 prot, u32 level)
{
	u64 flags = NPT_U;

	if (prot & (PT_R | PT_W | PT_X))
		flags |= NPT_P;
	if (prot & PT_W)
		flags |= NPT_W;
	if (!(prot & PT_X))
		flags |= NPT_NX;
	if (prot & PT_UNCACHED)
		flags |= NPT_PCD | NPT_PWT;
	if (level > 1)
		flags |= NPT_PS;
	return flags;
}

static u32 npt_leaf_prot(u64 entry, u32 level)
{
	u32 prot = PT_R;

	(void)level;
	if (entry & NPT_W)
		prot |= PT_W;
	if (!(entry & NPT_NX))
		prot |= PT_X;
	if (entry & NPT_PCD)
		prot |= PT_UNCACHED;
	return prot;
}

const struct pt_format svm_npt_format = {
    .name = "NPT",
    .present_mask = NPT_P,
    .addr_mask = BITS(51, 12),
    .large_bit = NPT_PS,
    .accessed = NPT_A,
    .dirty = NPT_D,
    .table_flags = NPT_P | NPT_W | NPT_U,
    .tag_mask = BITS(54, 52),
    .tag_shift = 52,
    .large_ok = {[2] = true},
    .leaf_flags = npt_leaf_flags,
    .leaf_prot = npt_leaf_prot,
};
