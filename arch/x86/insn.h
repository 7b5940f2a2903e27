/*
 * Recognises the few instructions that exit without the processor telling their length (SVM without NRIPS).
 * Pure; the bytes are a guest's and may be anything.
 */
#ifndef ARCH_X86_INSN_H
#define ARCH_X86_INSN_H

#include "lib/types.h"

#define INSN_BYTES_MAX 15

enum insn_id {
	INSN_CPUID,
	INSN_HLT,
	INSN_VMMCALL,
	INSN_RDMSR,
	INSN_WRMSR,
	INSN_CACHE,      /* INVD or WBINVD: some processors report the one as the other */
	INSN_MOV_TO_CR4, /* gpr valid */
	INSN_IDS
};

struct insn {
	u8 len;
	u8 gpr; /* MOV_TO_CR4: source, 0 = RAX .. 15 = R15 in encoding order */
};

/* 0; E_2BIG: the instruction goes on beyond n bytes; E_INVAL: it is another one. */
int insn_decode(const u8 *bytes, size_t n, bool long_mode, enum insn_id want, struct insn *out) must_check;

#endif
