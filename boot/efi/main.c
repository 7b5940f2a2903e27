/*
 * BOOTX64.EFI: from the firmware to hv_entry. The order of things; each step says what is wrong by itself
 * and the loader then returns to the firmware.
 */
#include "arch/x86/asm.h"
#include "boot/efi/loader.h"
#include "boot/options.h"
#include "lib/string.h"

EFI_SYSTEM_TABLE *st;
EFI_BOOT_SERVICES *bs;

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table);

static bool find_volume(struct loader *l)
{
	EFI_GUID guid = LOADED_IMAGE_PROTOCOL;
	EFI_LOADED_IMAGE *loaded;
	EFI_STATUS s = bs->HandleProtocol(l->image, &guid, (void **)&loaded);

	if (EFI_ERROR(s) || !loaded->DeviceHandle) {
		say_error("the firmware does not say which volume this loader came from (%s)", status_name(s));
		return false;
	}
	l->volume = loaded->DeviceHandle;
	return true;
}

static bool alloc_info(struct loader *l)
{
	u64 base = loader_alloc(l, sizeof(struct boot_info), PAGE_SIZE, BOOT_MEM_LOADER);
	u64 mem = base ? loader_alloc(l, LOADER_MEM_MAX * sizeof(struct boot_mem), PAGE_SIZE, BOOT_MEM_LOADER) : 0;

	if (!mem)
		return false;
	l->info = (struct boot_info *)base;
	l->info->magic = BOOT_INFO_MAGIC;
	l->info->version = BOOT_INFO_VERSION;
	l->info->bytes = sizeof(struct boot_info);
	l->info->mem = mem;
	return true;
}

static bool read_options(struct loader *l)
{
	struct boot_info *bi = l->info;

	for (u32 i = 0; i < bi->module_count; i++) {
		struct boot_module *m = &bi->module[i];

		if (m->kind == BOOT_MODULE_CONFIG &&
		    !options_from_ini((const char *)m->base, m->bytes, bi->cmdline, sizeof(bi->cmdline))) {
			say_error("\\aerostat\\%s: [loader] options: longer than %zu characters", m->name,
				  sizeof(bi->cmdline) - 1);
			return false;
		}
	}
	return true;
}

/* Everything up to the jump; comes back only with a reason, which has been said. */
static EFI_STATUS load(struct loader *l)
{
	const void *hv;
	u64 hv_bytes;

	if (!find_volume(l) || !alloc_info(l) || !files_load(l, &hv, &hv_bytes) || !read_options(l) ||
	    !image_place(l, hv, hv_bytes))
		return EFI_LOAD_ERROR;
	firmware_collect(l);
	if (!tables_build(l))
		return EFI_OUT_OF_RESOURCES;
	return handoff(l);
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table)
{
	static struct loader loader;
	struct loader *l = &loader;
	EFI_STATUS s;

	st = table;
	bs = table->BootServices;
	l->image = image;
	bs->SetWatchdogTimer(0, 0, 0, NULL);
	say_init();
	say("Aerostat loader\n");
	if (read_cr4() & CR4_LA57) {
		say_error("the firmware runs with 5-level paging (CR4.LA57), which is not supported");
		return EFI_UNSUPPORTED;
	}
	s = load(l);
	loader_release(l);
	return s;
}
