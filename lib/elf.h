/*
 * ELF64 executables for x86-64: checks a whole file and lists its load segments. Pure: the boot
 * loader reads the hypervisor with it and the VM builder its guest images; nothing in the file is trusted.
 */
#ifndef LIB_ELF_H
#define LIB_ELF_H

#include "lib/types.h"

#define ELF_SEGMENTS_MAX 16

enum elf_flag { ELF_X = 1, ELF_W = 2, ELF_R = 4 };

struct elf_segment {
	u64 vaddr, paddr;
	u64 file_offset, file_bytes; /* inside the file */
	u64 mem_bytes;               /* >= file_bytes, > 0; the rest is zero */
	u32 flags;                   /* enum elf_flag */
};

struct elf_image {
	u64 entry; /* inside an executable segment (virtual) */
	/* What the segments cover, [low, high): virtual and physical. */
	u64 vaddr_low, vaddr_high, paddr_low, paddr_high;
	u32 count; /* >= 1 */
	struct elf_segment seg[ELF_SEGMENTS_MAX];
};

/*
 * Fills out from a file image of `bytes` bytes (any alignment). Segments are inside the file, do not wrap
 * and do not overlap each other in virtual or physical space. E_INVAL: with the reason in *why
 * ("not an ELF file", "truncated: ..."). Sizes are not limited otherwise: callers check the covered ranges.
 */
int elf_parse(const void *file, u64 bytes, struct elf_image *out, const char **why) must_check;

#endif
