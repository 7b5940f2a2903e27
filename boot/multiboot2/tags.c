/* Multiboot2 information: see tags.h. Fields are read through get32/64, which know no alignment. */
#include "boot/multiboot2/tags.h"
#include "lib/bytes.h"
#include "lib/err.h"
#include "lib/string.h"

#define INFO_HEAD       8U
#define TAG_HEAD        8U

#define TAG_END         0
#define TAG_CMDLINE     1
#define TAG_MODULE      3
#define TAG_MMAP        6
#define TAG_FRAMEBUFFER 8
#define TAG_EFI64       12
#define TAG_ACPI_OLD    14
#define TAG_ACPI_NEW    15

#define MODULE_HEAD     16U /* the command line follows */
#define MMAP_HEAD       16U
#define MMAP_ENTRY_MIN  24U
#define FB_HEAD         32U
#define FB_TYPE_RGB     1
#define FB_COLOURS      6U /* position and size of red, green, blue */

#define RAM_AVAILABLE   1
#define RAM_ACPI        3
#define RAM_NVS         4

struct tag {
	const u8 *p; /* the whole tag */
	u32 bytes;   /* >= TAG_HEAD, inside the information */
};

u32 mb2_total_bytes(const void *head)
{
	u32 bytes = get32(head);

	return bytes >= INFO_HEAD + TAG_HEAD && bytes <= MB2_INFO_MAX ? bytes : 0;
}

/* The text of a tag from `at` on, terminated and printable. False: it does not end, or does not fit. */
static bool copy_text(const struct tag *t, u32 at, char *out, size_t size)
{
	const char *s = (const char *)t->p + at;
	size_t len = strnlen(s, t->bytes - at);

	if (len == t->bytes - at || len >= size)
		return false;
	for (size_t i = 0; i <= len; i++)
		out[i] = s[i] && (s[i] < ' ' || s[i] > '~') ? '?' : s[i];
	return true;
}

bool mb2_module_name(const char *line, char out[BOOT_NAME_BYTES])
{
	const char *start = line, *end = line;
	size_t n;

	for (; *end && *end != ' '; end++)
		if (*end == '/')
			start = end + 1;
	n = end - start;
	if (n == 0 || n >= BOOT_NAME_BYTES)
		return false;
	memcpy(out, start, n);
	out[n] = '\0';
	return true;
}

static bool take_module(const struct tag *t, struct mb2_info *out, const char **why)
{
	struct mb2_module *m = &out->module[out->module_count];
	char line[256];
	u32 start, end;

	if (out->module_count == MB2_MODULES_MAX) {
		*why = "too many modules";
		return false;
	}
	if (t->bytes <= MODULE_HEAD || !copy_text(t, MODULE_HEAD, line, sizeof(line)) ||
	    !mb2_module_name(line, m->name)) {
		*why = "a module without a name, or with a very long one";
		return false;
	}
	start = get32(t->p + 8);
	end = get32(t->p + 12);
	if (end < start) {
		*why = "a module ends before it starts";
		return false;
	}
	m->base = start;
	m->bytes = end - start;
	out->module_count++;
	return true;
}

enum boot_mem_type mb2_mem_type(u32 type)
{
	switch (type) {
	case RAM_AVAILABLE:
		return BOOT_MEM_USABLE;
	case RAM_ACPI:
	case RAM_NVS:
		return BOOT_MEM_ACPI;
	default:
		return BOOT_MEM_RESERVED;
	}
}

static bool take_map(const struct tag *t, struct memmap *map, const char **why)
{
	u32 entry_bytes = t->bytes >= MMAP_HEAD ? get32(t->p + 8) : 0;

	if (entry_bytes < MMAP_ENTRY_MIN || map->count) {
		*why = "a broken memory map, or a second one";
		return false;
	}
	for (u32 at = MMAP_HEAD; t->bytes - at >= entry_bytes; at += entry_bytes)
		memmap_add(map, get64(t->p + at), get64(t->p + at + 8), mb2_mem_type(get32(t->p + at + 16)));
	if (map->overflow) {
		*why = "the memory map has too many entries";
		return false;
	}
	return true;
}

/* Only what can be drawn on is taken: 32 bits a pixel, direct colour. Anything else is the same as none. */
static void take_framebuffer(const struct tag *t, struct boot_framebuffer *fb)
{
	u64 base;
	u32 pitch, width, height;

	if (t->bytes < FB_HEAD + FB_COLOURS || t->p[28] != 32 || t->p[29] != FB_TYPE_RGB)
		return;
	base = get64(t->p + 8);
	pitch = get32(t->p + 16);
	width = get32(t->p + 20);
	height = get32(t->p + 24);
	if (!width || !height || (u64)width * 4 > pitch || base + (u64)pitch * height < base)
		return;
	*fb = (struct boot_framebuffer){.base = base,
					.width = width,
					.height = height,
					.pitch_bytes = pitch,
					.format = t->p[FB_HEAD] == 0 ? BOOT_FB_RGB : BOOT_FB_BGR};
}

/* The newer root pointer, which has the 64-bit table, is better than the older. */
static void take_rsdp(const struct tag *t, struct mb2_info *out, u32 need)
{
	u32 bytes = MIN(t->bytes - TAG_HEAD, RSDP2_BYTES);

	if (bytes < need || out->rsdp_bytes >= need)
		return;
	memset(out->rsdp, 0, sizeof(out->rsdp));
	memcpy(out->rsdp, t->p + TAG_HEAD, bytes);
	out->rsdp_bytes = need;
}

static bool take_tag(u32 type, const struct tag *t, struct mb2_info *out, struct memmap *map, const char **why)
{
	switch (type) {
	case TAG_CMDLINE:
		*why = "the command line is too long";
		return copy_text(t, TAG_HEAD, out->cmdline, sizeof(out->cmdline));
	case TAG_MODULE:
		return take_module(t, out, why);
	case TAG_MMAP:
		return take_map(t, map, why);
	case TAG_FRAMEBUFFER:
		take_framebuffer(t, &out->fb);
		return true;
	case TAG_EFI64:
		out->efi_system_table = t->bytes >= TAG_HEAD + 8 ? get64(t->p + TAG_HEAD) : 0;
		return true;
	case TAG_ACPI_OLD:
		take_rsdp(t, out, RSDP1_BYTES);
		return true;
	case TAG_ACPI_NEW:
		take_rsdp(t, out, RSDP2_BYTES);
		return true;
	default:
		return true;
	}
}

int mb2_parse(const void *info, u32 bytes, struct mb2_info *out, struct memmap *map, const char **why)
{
	const u8 *p = info;
	u32 at = INFO_HEAD;

	memset(out, 0, sizeof(*out));
	while (bytes - at >= TAG_HEAD) {
		u32 type = get32(p + at);
		struct tag t = {p + at, get32(p + at + 4)};

		if (t.bytes < TAG_HEAD || t.bytes > bytes - at) {
			*why = "a tag that is longer than the information";
			return E_INVAL;
		}
		if (type == TAG_END) {
			*why = "no memory map";
			return map->count ? 0 : E_INVAL;
		}
		if (!take_tag(type, &t, out, map, why))
			return E_INVAL;
		at = MIN(ALIGN_UP(at + t.bytes, 8U), bytes);
	}
	*why = "no end tag";
	return E_INVAL;
}
