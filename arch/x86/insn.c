/* Instruction recognition: prefixes, opcode, ModRM. */
#include "arch/x86/insn.h"
#include "lib/err.h"

#define REX_B BIT(0)
#define REX_R BIT(2)

static const struct {
	u8 bytes[3], count;
	bool modrm;
	bool low_bit_free; /* of the last byte */
} opcode[INSN_IDS] = {
    [INSN_CPUID] = {{0x0f, 0xa2}, 2},
    [INSN_HLT] = {{0xf4}, 1},
    [INSN_VMMCALL] = {{0x0f, 0x01, 0xd9}, 3},
    [INSN_RDMSR] = {{0x0f, 0x32}, 2},
    [INSN_WRMSR] = {{0x0f, 0x30}, 2},
    [INSN_CACHE] = {{0x0f, 0x08}, 2, .low_bit_free = true},
    [INSN_MOV_TO_CR4] = {{0x0f, 0x22}, 2, .modrm = true},
};

static bool legacy_prefix(u8 b)
{
	switch (b) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64:
	case 0x65: /* segments */
	case 0x66:
	case 0x67: /* operand, address size */
	case 0xf0:
	case 0xf2:
	case 0xf3: /* LOCK, REPNE, REP */
		return true;
	}
	return false;
}

int insn_decode(const u8 *bytes, size_t n, bool long_mode, enum insn_id want, struct insn *out)
{
	size_t at = 0;
	u8 rex = 0;

	while (at < n && legacy_prefix(bytes[at]))
		at++;
	if (at < n && long_mode && (bytes[at] & 0xf0) == 0x40)
		rex = bytes[at++];
	for (u32 i = 0; i < opcode[want].count; i++, at++) {
		u8 ignore = opcode[want].low_bit_free && i == opcode[want].count - 1U;

		if (at == n)
			return n < INSN_BYTES_MAX ? E_2BIG : E_INVAL;
		if ((bytes[at] ^ opcode[want].bytes[i]) & ~ignore)
			return E_INVAL;
	}
	*out = (struct insn){0};
	if (opcode[want].modrm) {
		if (at == n)
			return n < INSN_BYTES_MAX ? E_2BIG : E_INVAL;
		/* MOV CR takes registers only, whatever the mod field says (AMD APM "MOV CRn"). */
		if ((bytes[at] >> 3 & 7) != 4 || rex & REX_R)
			return E_INVAL;
		out->gpr = (bytes[at] & 7) | (rex & REX_B ? 8 : 0);
		at++;
	}
	out->len = (u8)at;
	return 0;
}
