/*
 * The end of the firmware. After the last memory map nothing may be allocated or
 * said through the firmware, so everything else is ready before.
 */
#include "arch/x86/asm.h"
#include "boot/efi/loader.h"

#define MAP_BYTES  (LOADER_MEM_MAX * 48UL)
#define EXIT_TRIES 8
#define MEM_LIMIT  (1UL << 44) /* frame numbers are 32-bit */

static u8 map_buf[MAP_BYTES] aligned(16);
static UINTN map_bytes, map_key, desc_bytes;

static EFI_STATUS read_map(void)
{
	UINT32 version;

	map_bytes = sizeof(map_buf);
	return bs->GetMemoryMap(&map_bytes, (EFI_MEMORY_DESCRIPTOR *)map_buf, &map_key, &desc_bytes, &version);
}

static enum boot_mem_type type_of(const EFI_MEMORY_DESCRIPTOR *d)
{
	switch (d->Type) {
	case EfiConventionalMemory:
	case EfiBootServicesCode:
	case EfiBootServicesData:
	case EfiLoaderCode:
	case EfiLoaderData:
		/* RAM that cannot be cached normally is of no use to anybody. */
		return d->Attribute & EFI_MEMORY_WB ? BOOT_MEM_USABLE : BOOT_MEM_RESERVED;
	case EfiACPIReclaimMemory:
	case EfiACPIMemoryNVS:
		return BOOT_MEM_ACPI;
	default:
		return BOOT_MEM_RESERVED;
	}
}

static void convert_map(struct memmap *m, struct boot_mem *entries)
{
	memmap_init(m, entries, LOADER_MEM_MAX);
	for (UINTN off = 0; off + desc_bytes <= map_bytes; off += desc_bytes) {
		const EFI_MEMORY_DESCRIPTOR *d = (EFI_MEMORY_DESCRIPTOR *)(map_buf + off);

		if (d->NumberOfPages <= ~0UL >> PAGE_SHIFT)
			memmap_add(m, d->PhysicalStart, d->NumberOfPages << PAGE_SHIFT, type_of(d));
	}
	memmap_finish(m, MEM_LIMIT);
}

u64 firmware_ram_end(void)
{
	u64 end = 0;

	if (EFI_ERROR(read_map()))
		return 0;
	for (UINTN off = 0; off + desc_bytes <= map_bytes; off += desc_bytes) {
		const EFI_MEMORY_DESCRIPTOR *d = (EFI_MEMORY_DESCRIPTOR *)(map_buf + off);

		if (memmap_is_ram(type_of(d)))
			end = MAX(end, d->PhysicalStart + (d->NumberOfPages << PAGE_SHIFT));
	}
	return MIN(end, MEM_LIMIT);
}

static void fill_map(struct loader *l, struct memmap *m)
{
	convert_map(m, (struct boot_mem *)l->info->mem);
	for (u32 i = 0; i < l->owned_count; i++)
		memmap_set(m, l->owned[i].base, l->owned[i].bytes, l->owned[i].type);
	if (l->info->low_page)
		memmap_set(m, l->info->low_page, PAGE_SIZE, BOOT_MEM_LOADER);
	l->info->mem_count = m->count;
}

static _Noreturn void enter(const struct loader *l)
{
	__asm__ volatile("cli\n\t"
			 "mov %0, %%cr3\n\t"
			 "jmp *%1"
			 :
			 : "r"(l->top_table), "r"(l->entry), "D"(l->info)
			 : "memory");
	__builtin_unreachable();
}

/* A timer event between the map and the exit makes the key stale: read the map again and retry. */
EFI_STATUS handoff(struct loader *l)
{
	struct memmap m;
	EFI_STATUS s;

	for (u32 i = 0; i < EXIT_TRIES; i++) {
		s = read_map();
		if (EFI_ERROR(s))
			break;
		fill_map(l, &m);
		if (m.overflow) {
			s = EFI_BUFFER_TOO_SMALL;
			break;
		}
		s = bs->ExitBootServices(l->image, map_key);
		if (!EFI_ERROR(s))
			enter(l);
	}
	say_directly();
	say_error("boot services cannot be left (%s, status 0x%lx)", status_name(s), s);
	return s;
}
