/* Any bytes as an ELF file: what is accepted lies inside the file and does not wrap or overlap. */
#include <stdlib.h>
#include <string.h>

#include "lib/elf.h"
#include "lib/panic.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void check_image(const struct elf_image *img, const u8 *file, u64 bytes)
{
	bool entry = false;

	CHECK(img->count >= 1 && img->count <= ELF_SEGMENTS_MAX);
	for (u32 i = 0; i < img->count; i++) {
		const struct elf_segment *s = &img->seg[i];
		u8 sum = 0;

		CHECK(s->file_offset <= bytes && s->file_bytes <= bytes - s->file_offset);
		for (u64 k = 0; k < s->file_bytes; k++) /* under ASan: really readable */
			sum ^= file[s->file_offset + k];
		CHECK(s->mem_bytes > 0 && s->mem_bytes >= s->file_bytes);
		CHECK(s->vaddr >= img->vaddr_low && s->vaddr + s->mem_bytes <= img->vaddr_high);
		CHECK(s->paddr >= img->paddr_low && s->paddr + s->mem_bytes <= img->paddr_high);
		entry |= (s->flags & ELF_X) && img->entry - s->vaddr < s->mem_bytes;
		*(volatile u8 *)&sum = sum;
	}
	CHECK(entry);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct elf_image img;
	const char *why = NULL;
	u8 *copy = malloc(size + 1);

	/* Always with a plausible identification, or nothing would get past the first check. */
	memcpy(copy, data, size);
	if (size >= 20 && (data[0] & 1)) {
		memcpy(copy, "\177ELF\2\1\1", 7);
		memcpy(copy + 16, "\2\0\76\0", 4);
	}
	if (elf_parse(copy, size, &img, &why) == 0)
		check_image(&img, copy, size);
	else
		CHECK(why && *why);
	free(copy);
	return 0;
}
