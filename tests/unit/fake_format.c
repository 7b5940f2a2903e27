/* See fake_format.h. */
#include "tests/unit/fake_format.h"

static u64 leaf_flags(u32 prot, u32 level)
{
	return FAKE_PRESENT | (prot & PT_W ? 0 : FAKE_READ_ONLY) | (prot & PT_X ? 0 : FAKE_NO_EXEC) |
	       (prot & PT_USER ? FAKE_USER : 0) | (prot & PT_UNCACHED ? FAKE_UNCACHED : 0) |
	       (prot & PT_GLOBAL ? FAKE_GLOBAL : 0) | (level > 1 ? FAKE_LARGE : 0);
}

static u32 leaf_prot(u64 e, u32 level)
{
	(void)level;
	return PT_R | (e & FAKE_READ_ONLY ? 0 : PT_W) | (e & FAKE_NO_EXEC ? 0 : PT_X) | (e & FAKE_USER ? PT_USER : 0) |
	       (e & FAKE_UNCACHED ? PT_UNCACHED : 0) | (e & FAKE_GLOBAL ? PT_GLOBAL : 0);
}

#define COMMON                                                                                                        \
	.present_mask = FAKE_PRESENT, .addr_mask = BITS(51, 12), .addr_xor = 0x000a5a5a5a000000UL,                    \
	.large_bit = FAKE_LARGE, .table_flags = FAKE_PRESENT | FAKE_TABLE, .tag_mask = BITS(62, 60), .tag_shift = 60, \
	.leaf_flags = leaf_flags, .leaf_prot = leaf_prot

const struct pt_format fake_format = {
    COMMON, .name = "odd", .accessed = FAKE_ACCESSED, .dirty = FAKE_DIRTY, .large_ok = {[2] = true, [3] = true},
};

const struct pt_format fake_format_plain = {
    COMMON,
    .name = "odd, plain",
};
