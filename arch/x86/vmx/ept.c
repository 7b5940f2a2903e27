/*
 * The EPT entry format and the instructions that drop cached translations. All guest memory is RAM that the
 * hypervisor maps write-back: leaves force write-back and ignore the guest's PAT, so that no page ever has two
 * memory types (Intel SDM "EPT and Memory Typing").
 */
#include "arch/x86/vmx/vmx.h"
#include "lib/panic.h"

#define EPT_R          BIT(0)
#define EPT_W          BIT(1)
#define EPT_X          BIT(2)
#define EPT_TYPE_WB    (6UL << 3)
#define EPT_TYPE_MASK  BITS(5, 3)
#define EPT_IGNORE_PAT BIT(6)
#define EPT_LARGE      BIT(7)
#define EPT_A          BIT(8)
#define EPT_D          BIT(9)

/* Writable but not readable is a misconfiguration; execute-only is optional: every leaf is readable. */
static u64 ept_leaf_flags(u32 prot, u32 level)
{
	u64 flags = EPT_IGNORE_PAT;

	if (prot & (PT_R | PT_W | PT_X))
		flags |= EPT_R;
	if (prot & PT_W)
		flags |= EPT_W;
	if (prot & PT_X)
		flags |= EPT_X;
	if (!(prot & PT_UNCACHED))
		flags |= EPT_TYPE_WB;
	if (level > 1)
		flags |= EPT_LARGE;
	return flags;
}

static u32 ept_leaf_prot(u64 entry, u32 level)
{
	u32 prot = PT_R;

	(void)level;
	if (entry & EPT_W)
		prot |= PT_W;
	if (entry & EPT_X)
		prot |= PT_X;
	if ((entry & EPT_TYPE_MASK) == 0)
		prot |= PT_UNCACHED;
	return prot;
}

#define EPT_FORMAT(...)                                                                                         \
	{                                                                                                       \
		.present_mask = EPT_R | EPT_W | EPT_X, .addr_mask = BITS(51, 12), .large_bit = EPT_LARGE,       \
		.table_flags = EPT_R | EPT_W | EPT_X, .tag_mask = BITS(54, 52), .tag_shift = 52,                \
		.large_ok = {[2] = true}, .leaf_flags = ept_leaf_flags, .leaf_prot = ept_leaf_prot, __VA_ARGS__ \
	}

const struct pt_format vmx_ept_format = EPT_FORMAT(.name = "EPT", .accessed = EPT_A, .dirty = EPT_D);
const struct pt_format vmx_ept_format_no_ad = EPT_FORMAT(.name = "EPT without A/D");

void vmx_invept(u64 type, u64 eptp)
{
	const struct {
		u64 eptp, zero;
	} operand = {eptp, 0};
	u8 failed;

	__asm__ volatile("invept %1, %2; setna %0" : "=q"(failed) : "m"(operand), "r"(type) : "cc", "memory");
	CHECK(!failed);
}

void vmx_invvpid(u64 type, u16 vpid)
{
	const struct {
		u64 vpid, address;
	} operand = {vpid, 0};
	u8 failed;

	__asm__ volatile("invvpid %1, %2; setna %0" : "=q"(failed) : "m"(operand), "r"(type) : "cc", "memory");
	CHECK(!failed);
}
