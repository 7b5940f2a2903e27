/* Files of \aerostat on the loader's own volume. */
#include "boot/efi/loader.h"
#include "lib/elf.h"
#include "lib/string.h"

#define DIR_NAME    "\\aerostat"
#define CONFIG_NAME "aerostat.ini"
#define HV_NAME     "aerostat.elf"
#define MEM_LIMIT   (1UL << 44) /* frame numbers are 32-bit */
#define INFO_BYTES  1024        /* EFI_FILE_INFO with a long name */

u64 loader_alloc(struct loader *l, u64 bytes, u64 align, enum boot_mem_type type)
{
	u64 pages = DIV_ROUND_UP(MAX(bytes, 1UL), PAGE_SIZE), slack = align / PAGE_SIZE - 1;
	EFI_PHYSICAL_ADDRESS got = MEM_LIMIT - 1;
	u64 base, before, behind;

	if (l->owned_count == ARRAY_SIZE(l->owned) ||
	    EFI_ERROR(bs->AllocatePages(AllocateMaxAddress, EfiLoaderData, pages + slack, &got))) {
		say_error("out of memory: no %lu KiB in one piece", (pages + slack) * 4);
		return 0;
	}
	base = ALIGN_UP((u64)got, align);
	before = (base - got) / PAGE_SIZE;
	behind = slack - before;
	if (before)
		bs->FreePages(got, before);
	if (behind)
		bs->FreePages(base + pages * PAGE_SIZE, behind);
	memset((void *)base, 0, pages * PAGE_SIZE);
	l->owned[l->owned_count++] = (struct owned){base, pages * PAGE_SIZE, type};
	return base;
}

void loader_release(struct loader *l)
{
	if (l->info && l->info->low_page)
		bs->FreePages(l->info->low_page, 1);
	l->info = NULL;
	while (l->owned_count) {
		const struct owned *o = &l->owned[--l->owned_count];

		bs->FreePages(o->base, o->bytes / PAGE_SIZE);
	}
}

/* The name as plain ASCII; false if it does not fit or is not ASCII. */
static bool name_to_ascii(const CHAR16 *in, char *out, size_t size)
{
	size_t i;

	for (i = 0; in[i]; i++) {
		if (i + 1 >= size || in[i] < 0x20 || in[i] > 0x7e)
			return false;
		out[i] = (char)in[i];
	}
	out[i] = '\0';
	return true;
}

static EFI_STATUS open_file(EFI_FILE_HANDLE dir, const char *name, EFI_FILE_HANDLE *out)
{
	CHAR16 wide[BOOT_NAME_BYTES];
	size_t i;

	for (i = 0; name[i] && i + 1 < ARRAY_SIZE(wide); i++)
		wide[i] = (u8)name[i];
	wide[i] = 0;
	return dir->Open(dir, out, wide, EFI_FILE_MODE_READ, 0);
}

static EFI_STATUS file_bytes(EFI_FILE_HANDLE f, u64 *bytes)
{
	EFI_GUID guid = EFI_FILE_INFO_ID;
	u64 buf[INFO_BYTES / 8];
	UINTN size = sizeof(buf);
	EFI_STATUS s = f->GetInfo(f, &guid, &size, buf);

	if (!EFI_ERROR(s))
		*bytes = ((EFI_FILE_INFO *)buf)->FileSize;
	return s;
}

static bool read_all(EFI_FILE_HANDLE f, const char *name, u64 base, u64 bytes)
{
	for (u64 done = 0; done < bytes;) {
		UINTN n = bytes - done;
		EFI_STATUS s = f->Read(f, &n, (void *)(base + done));

		if (EFI_ERROR(s)) {
			say_error(DIR_NAME "\\%s: cannot be read (%s)", name, status_name(s));
			return false;
		}
		if (n == 0) {
			say_error(DIR_NAME "\\%s: truncated: %lu of %lu bytes could be read", name, done, bytes);
			return false;
		}
		done += n;
	}
	return true;
}

/* Reads a whole file, which may be empty, into fresh pages of `type`. False: an error was said. */
static bool read_file(struct loader *l, EFI_FILE_HANDLE dir, const char *name, enum boot_mem_type type, u64 *base,
		      u64 *bytes)
{
	EFI_FILE_HANDLE f;
	EFI_STATUS s = open_file(dir, name, &f);
	bool ok = false;

	if (EFI_ERROR(s)) {
		say_error(DIR_NAME "\\%s: cannot be opened (%s)", name, status_name(s));
		return false;
	}
	s = file_bytes(f, bytes);
	if (EFI_ERROR(s))
		say_error(DIR_NAME "\\%s: cannot be read (%s)", name, status_name(s));
	else if (*bytes > LOADER_FILE_MAX)
		say_error(DIR_NAME "\\%s: larger than %lu MiB", name, LOADER_FILE_MAX / MIB);
	else {
		*base = loader_alloc(l, *bytes, PAGE_SIZE, type);
		ok = *base && read_all(f, name, *base, *bytes);
	}
	f->Close(f);
	return ok;
}

static bool load_module(struct loader *l, EFI_FILE_HANDLE dir, const char *name, enum boot_module_kind kind)
{
	struct boot_module *m = &l->info->module[l->info->module_count];
	struct elf_image img;
	const char *why;

	if (l->info->module_count == BOOT_MODULES_MAX) {
		say_error(DIR_NAME "\\%s: more than %d files", name, BOOT_MODULES_MAX);
		return false;
	}
	if (!read_file(l, dir, name, BOOT_MEM_MODULE, &m->base, &m->bytes))
		return false;
	if (kind == BOOT_MODULE_GUEST && elf_parse((void *)m->base, m->bytes, &img, &why)) {
		say_error(DIR_NAME "\\%s: %s", name, why);
		return false;
	}
	m->kind = kind;
	str_copy(m->name, name, sizeof(m->name));
	l->info->module_count++;
	return true;
}

/* FAT keeps case but does not tell it apart. */
static bool ends_with_elf(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && name[n - 4] == '.' && (name[n - 3] | 0x20) == 'e' && (name[n - 2] | 0x20) == 'l' &&
	       (name[n - 1] | 0x20) == 'f';
}

static bool same_name(const char *a, const char *b)
{
	for (; *a && *b; a++, b++) {
		char x = *a >= 'A' && *a <= 'Z' ? *a | 0x20 : *a;
		char y = *b >= 'A' && *b <= 'Z' ? *b | 0x20 : *b;

		if (x != y)
			return false;
	}
	return *a == *b;
}

static bool load_guests(struct loader *l, EFI_FILE_HANDLE dir)
{
	u64 buf[INFO_BYTES / 8];
	EFI_FILE_INFO *info = (EFI_FILE_INFO *)buf;
	char name[BOOT_NAME_BYTES];

	for (;;) {
		UINTN size = sizeof(buf);
		EFI_STATUS s = dir->Read(dir, &size, buf);

		if (EFI_ERROR(s)) {
			say_error(DIR_NAME ": the folder cannot be read (%s)", status_name(s));
			return false;
		}
		if (size == 0)
			return true;
		if ((info->Attribute & EFI_FILE_DIRECTORY) || !name_to_ascii(info->FileName, name, sizeof(name)))
			continue;
		if (ends_with_elf(name) && !same_name(name, HV_NAME) && !load_module(l, dir, name, BOOT_MODULE_GUEST))
			return false;
	}
}

bool files_load(struct loader *l, const void **hv, u64 *hv_bytes)
{
	EFI_GUID guid = SIMPLE_FILE_SYSTEM_PROTOCOL;
	EFI_FILE_IO_INTERFACE *fs;
	EFI_FILE_HANDLE root, dir;
	EFI_STATUS s = bs->HandleProtocol(l->volume, &guid, (void **)&fs);
	bool ok;
	u64 base;

	if (!EFI_ERROR(s))
		s = fs->OpenVolume(fs, &root);
	if (EFI_ERROR(s)) {
		say_error("the boot volume cannot be opened (%s)", status_name(s));
		return false;
	}
	s = open_file(root, DIR_NAME, &dir);
	if (EFI_ERROR(s)) {
		say_error(DIR_NAME ": the folder cannot be opened (%s)", status_name(s));
		root->Close(root);
		return false;
	}
	ok = load_module(l, dir, CONFIG_NAME, BOOT_MODULE_CONFIG) &&
	     read_file(l, dir, HV_NAME, BOOT_MEM_LOADER, &base, hv_bytes) && load_guests(l, dir);
	*hv = (void *)base;
	dir->Close(dir);
	root->Close(root);
	return ok;
}
