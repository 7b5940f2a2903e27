/* Multiboot information of the first kind: see mb1.h. */
#include "boot/multiboot2/mb1.h"
#include "lib/bytes.h"
#include "lib/err.h"
#include "lib/string.h"

#define INFO_BYTES     52U
#define INFO_FLAGS     0
#define INFO_CMDLINE   16
#define INFO_MODS      20 /* count, address */
#define INFO_MMAP      44 /* bytes, address */
#define HAS_CMDLINE    BIT(2)
#define HAS_MODS       BIT(3)
#define HAS_MMAP       BIT(6)

#define MOD_BYTES      16U /* start, end, command line, nothing */
#define MMAP_SIZE      4U  /* of the size itself, which it does not count */
#define MMAP_ENTRY_MIN 20U
#define MMAP_BYTES_MAX (64 * KIB)

#define EBDA_SEGMENT   0x40e /* the BIOS' word with the extended data area's segment */
#define EBDA_BYTES     1024U
#define BIOS_BASE      0xe0000U
#define BIOS_BYTES     0x20000U

/* NULL: not all of it can be read. */
static const u8 *bytes_at(const struct mb1_memory *m, u32 at, u64 bytes)
{
	return at && bytes <= m->bytes && at <= m->bytes - bytes ? (const u8 *)(m->base + at) : NULL;
}

/* A text of less than size characters, made printable. */
static bool copy_text(const struct mb1_memory *m, u32 at, char *out, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		const u8 *c = i <= ~at ? bytes_at(m, at + (u32)i, 1) : NULL;

		if (!c)
			return false;
		out[i] = (char)(*c && (*c < ' ' || *c > '~') ? '?' : *c);
		if (!*c)
			return true;
	}
	return false;
}

static bool take_module(const struct mb1_memory *m, const u8 *p, struct mb2_module *to)
{
	char line[256];
	u32 start = get32(p), end = get32(p + 4);

	if (end < start || !copy_text(m, get32(p + 8), line, sizeof(line)) || !mb2_module_name(line, to->name))
		return false;
	to->base = start;
	to->bytes = end - start;
	return true;
}

static bool take_modules(const struct mb1_memory *m, const u8 *info, struct mb2_info *out, const char **why)
{
	u32 count = get32(info + INFO_MODS);
	const u8 *p =
	    count <= MB2_MODULES_MAX ? bytes_at(m, get32(info + INFO_MODS + 4), (u64)count * MOD_BYTES) : NULL;

	*why = "a list of modules that is too long or out of reach";
	if (!p)
		return count == 0;
	*why = "a module that ends before it starts, has no name or a very long one";
	for (; out->module_count < count; out->module_count++)
		if (!take_module(m, p + (size_t)out->module_count * MOD_BYTES, &out->module[out->module_count]))
			return false;
	return true;
}

static bool take_map(const struct mb1_memory *m, const u8 *info, struct memmap *map)
{
	u32 bytes = get32(info + INFO_MMAP), at = 0;
	const u8 *p = bytes <= MMAP_BYTES_MAX ? bytes_at(m, get32(info + INFO_MMAP + 4), bytes) : NULL;

	while (p && bytes - at >= MMAP_SIZE + MMAP_ENTRY_MIN) {
		u32 size = get32(p + at);
		const u8 *entry = p + at + MMAP_SIZE;

		if (size < MMAP_ENTRY_MIN || size > bytes - at - MMAP_SIZE)
			return false;
		memmap_add(map, get64(entry), get64(entry + 8), mb2_mem_type(get32(entry + 16)));
		at += MMAP_SIZE + size;
	}
	return p && map->count && !map->overflow;
}

static void find_rsdp(const struct mb1_memory *m, u32 base, u32 bytes, struct mb2_info *out)
{
	const u8 *p = bytes_at(m, base, bytes);

	for (u32 at = 0; p && !out->rsdp_bytes && at + RSDP2_BYTES <= bytes; at += RSDP_ALIGN) {
		if (!rsdp_is_valid(p + at))
			continue;
		out->rsdp_bytes = p[at + RSDP_REVISION] >= 2 ? RSDP2_BYTES : RSDP1_BYTES;
		memcpy(out->rsdp, p + at, out->rsdp_bytes);
	}
}

/* The command line begins with this program's own name. */
static void drop_first_word(char *line)
{
	const char *rest = line;

	while (*rest && *rest != ' ')
		rest++;
	while (*rest == ' ')
		rest++;
	memmove(line, rest, strlen(rest) + 1);
}

int mb1_parse(const struct mb1_memory *m, u32 info, struct mb2_info *out, struct memmap *map, const char **why)
{
	const u8 *p = bytes_at(m, info, INFO_BYTES), *ebda = bytes_at(m, EBDA_SEGMENT, 2);
	u32 flags = p ? get32(p + INFO_FLAGS) : 0;

	memset(out, 0, sizeof(*out));
	*why = "no memory map, or a broken one";
	if (!(flags & HAS_MMAP) || !take_map(m, p, map))
		return E_INVAL;
	if (flags & HAS_MODS && !take_modules(m, p, out, why))
		return E_INVAL;
	*why = "the command line is too long";
	if (flags & HAS_CMDLINE && !copy_text(m, get32(p + INFO_CMDLINE), out->cmdline, sizeof(out->cmdline)))
		return E_INVAL;
	drop_first_word(out->cmdline);
	if (ebda)
		find_rsdp(m, (u32)get16(ebda) << 4, EBDA_BYTES, out);
	find_rsdp(m, BIOS_BASE, BIOS_BYTES, out);
	return 0;
}
