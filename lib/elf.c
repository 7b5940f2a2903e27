/*
 * ELF64 parser. Every offset is checked against the file's length before it is
 * used, and structures are copied out, so an unaligned or truncated file is harmless.
 */
#include "lib/elf.h"
#include "lib/err.h"
#include "lib/string.h"

#define ELF_MAGIC   0x464c457fU
#define ELFCLASS64  2
#define ELFDATA2LSB 1
#define EV_CURRENT  1
#define ET_EXEC     2
#define EM_X86_64   62
#define PT_LOAD     1
#define PHDRS_MAX   64

struct elf_header {
	u32 magic;
	u8 class, data, ident_version, abi, pad[8];
	u16 type, machine;
	u32 version;
	u64 entry, phoff, shoff;
	u32 flags;
	u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
static_assert_size(struct elf_header, 64);

struct elf_phdr {
	u32 type, flags;
	u64 offset, vaddr, paddr, filesz, memsz, align;
};
static_assert_size(struct elf_phdr, 56);

static bool range_inside(u64 offset, u64 len, u64 total)
{
	return offset <= total && len <= total - offset;
}

static bool ranges_overlap(u64 a, u64 a_len, u64 b, u64 b_len)
{
	return a < b + b_len && b < a + a_len;
}

static const char *check_header(const struct elf_header *h, u64 bytes)
{
	if (h->magic != ELF_MAGIC)
		return "not an ELF file";
	if (h->class != ELFCLASS64 || h->data != ELFDATA2LSB || h->machine != EM_X86_64)
		return "not an ELF64 file for x86-64";
	if (h->type != ET_EXEC || h->version != EV_CURRENT)
		return "not an executable";
	if (h->phentsize != sizeof(struct elf_phdr) || h->phnum == 0 || h->phnum > PHDRS_MAX)
		return "bad program header table";
	if (!range_inside(h->phoff, (u64)h->phnum * sizeof(struct elf_phdr), bytes))
		return "truncated: program headers lie outside the file";
	return NULL;
}

static const char *check_segment(const struct elf_image *img, const struct elf_segment *s, u64 bytes)
{
	if (!range_inside(s->file_offset, s->file_bytes, bytes))
		return "truncated: a segment lies outside the file";
	if (s->file_bytes > s->mem_bytes)
		return "a segment is larger in the file than in memory";
	if (s->vaddr + s->mem_bytes < s->vaddr || s->paddr + s->mem_bytes < s->paddr)
		return "a segment wraps around the address space";
	for (u32 i = 0; i < img->count; i++) {
		const struct elf_segment *o = &img->seg[i];

		if (ranges_overlap(s->vaddr, s->mem_bytes, o->vaddr, o->mem_bytes) ||
		    ranges_overlap(s->paddr, s->mem_bytes, o->paddr, o->mem_bytes))
			return "segments overlap";
	}
	return NULL;
}

static void add_segment(struct elf_image *img, const struct elf_segment *s)
{
	img->seg[img->count++] = *s;
	img->vaddr_low = MIN(img->vaddr_low, s->vaddr);
	img->vaddr_high = MAX(img->vaddr_high, s->vaddr + s->mem_bytes);
	img->paddr_low = MIN(img->paddr_low, s->paddr);
	img->paddr_high = MAX(img->paddr_high, s->paddr + s->mem_bytes);
}

static const char *read_segments(const u8 *file, u64 bytes, const struct elf_header *h, struct elf_image *img)
{
	struct elf_phdr p;
	struct elf_segment s;
	const char *why;

	for (u32 i = 0; i < h->phnum; i++) {
		memcpy(&p, file + h->phoff + i * sizeof(p), sizeof(p));
		if (p.type != PT_LOAD || p.memsz == 0)
			continue;
		if (img->count == ELF_SEGMENTS_MAX)
			return "too many segments";
		s = (struct elf_segment){p.vaddr,  p.paddr, p.offset,
					 p.filesz, p.memsz, p.flags & (ELF_R | ELF_W | ELF_X)};
		why = check_segment(img, &s, bytes);
		if (why)
			return why;
		add_segment(img, &s);
	}
	return img->count ? NULL : "no load segment";
}

static const char *check_entry(const struct elf_image *img)
{
	for (u32 i = 0; i < img->count; i++) {
		const struct elf_segment *s = &img->seg[i];

		if ((s->flags & ELF_X) && img->entry >= s->vaddr && img->entry - s->vaddr < s->mem_bytes)
			return NULL;
	}
	return "entry point outside every executable segment";
}

int elf_parse(const void *file, u64 bytes, struct elf_image *out, const char **why)
{
	struct elf_header h;

	memset(out, 0, sizeof(*out));
	out->vaddr_low = out->paddr_low = ~0UL;
	if (bytes < sizeof(h)) {
		*why = bytes ? "truncated: shorter than an ELF header" : "empty file";
		return E_INVAL;
	}
	memcpy(&h, file, sizeof(h));
	out->entry = h.entry;
	*why = check_header(&h, bytes);
	if (!*why)
		*why = read_segments(file, bytes, &h, out);
	if (!*why)
		*why = check_entry(out);
	return *why ? E_INVAL : 0;
}
