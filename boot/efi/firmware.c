/* What only the firmware can tell. All of it is optional: what is missing stays zero. */
#include "boot/efi/loader.h"
#include "boot/entropy.h"
#include "lib/string.h"

#define LOW_PAGE_MAX 0x9efffUL /* below the usual extended BIOS data area */

static bool guid_equal(const EFI_GUID *a, const EFI_GUID *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static void find_tables(struct boot_info *bi)
{
	static const EFI_GUID acpi2 = {0x8868e871, 0xe4f1, 0x11d3, {0xbc, 0x22, 0, 0x80, 0xc7, 0x3c, 0x88, 0x81}};
	static const EFI_GUID acpi1 = {0xeb9d2d30, 0x2d88, 0x11d3, {0x9a, 0x16, 0, 0x90, 0x27, 0x3f, 0xc1, 0x4d}};
	static const EFI_GUID smbios3 = {0xf2fd1544, 0x9794, 0x4a2c, {0x99, 0x2e, 0xe5, 0xbb, 0xcf, 0x20, 0xe3, 0x94}};
	static const EFI_GUID smbios = {0xeb9d2d31, 0x2d88, 0x11d3, {0x9a, 0x16, 0, 0x90, 0x27, 0x3f, 0xc1, 0x4d}};
	u64 rsdp1 = 0, smbios2 = 0;

	for (UINTN i = 0; i < st->NumberOfTableEntries; i++) {
		const EFI_CONFIGURATION_TABLE *t = &st->ConfigurationTable[i];

		if (guid_equal(&t->VendorGuid, &acpi2))
			bi->rsdp = (u64)t->VendorTable;
		else if (guid_equal(&t->VendorGuid, &acpi1))
			rsdp1 = (u64)t->VendorTable;
		else if (guid_equal(&t->VendorGuid, &smbios3))
			bi->smbios = (u64)t->VendorTable;
		else if (guid_equal(&t->VendorGuid, &smbios))
			smbios2 = (u64)t->VendorTable;
	}
	bi->rsdp = bi->rsdp ? bi->rsdp : rsdp1;
	bi->smbios = bi->smbios ? bi->smbios : smbios2;
	bi->efi_system_table = (u64)st;
}

/* A linear buffer with 32 bits a pixel; with masks, the highest bit of all tells. */
static bool is_32_bit(const EFI_GRAPHICS_OUTPUT_MODE_INFORMATION *m)
{
	const EFI_PIXEL_BITMASK *b = &m->PixelInformation;

	if (m->PixelFormat == PixelBitMask)
		return ((b->RedMask | b->GreenMask | b->BlueMask | b->ReservedMask) >> 24) != 0;
	return m->PixelFormat < PixelBitMask;
}

static void find_framebuffer(struct boot_framebuffer *fb)
{
	EFI_GUID guid = EFI_GRAPHICS_OUTPUT_PROTOCOL_GUID;
	EFI_GRAPHICS_OUTPUT_PROTOCOL *gop;
	EFI_GRAPHICS_OUTPUT_PROTOCOL_MODE *mode;

	if (EFI_ERROR(bs->LocateProtocol(&guid, NULL, (void **)&gop)) || !gop->Mode || !gop->Mode->Info)
		return;
	mode = gop->Mode;
	if (!is_32_bit(mode->Info))
		return;
	*fb = (struct boot_framebuffer){.base = mode->FrameBufferBase,
					.width = mode->Info->HorizontalResolution,
					.height = mode->Info->VerticalResolution,
					.pitch_bytes = mode->Info->PixelsPerScanLine * 4,
					.format = mode->Info->PixelFormat};
}

static void gather_entropy(u64 entropy[4])
{
	EFI_GUID guid = EFI_RNG_PROTOCOL_GUID;
	EFI_RNG_PROTOCOL *rng;
	u64 seed[4] = {0};

	if (!EFI_ERROR(bs->LocateProtocol(&guid, NULL, (void **)&rng)))
		rng->GetRNG(rng, NULL, sizeof(seed), (UINT8 *)seed);
	for (u32 i = 0; i < 4; i++) {
		bs->Stall(50);
		entropy[i] = entropy_word(seed[i] + i);
	}
}

/* The unique GUID of the GPT partition that the volume lies on, from its device path. */
static void find_partition(EFI_HANDLE volume, u8 guid_out[16])
{
	EFI_GUID guid = DEVICE_PATH_PROTOCOL;
	EFI_DEVICE_PATH *p;

	if (EFI_ERROR(bs->HandleProtocol(volume, &guid, (void **)&p)))
		return;
	while (DevicePathType(p) != END_DEVICE_PATH_TYPE && DevicePathNodeLength(p) >= sizeof(*p)) {
		if (DevicePathType(p) == MEDIA_DEVICE_PATH && DevicePathSubType(p) == MEDIA_HARDDRIVE_DP) {
			HARDDRIVE_DEVICE_PATH *hd = (HARDDRIVE_DEVICE_PATH *)p;

			if (hd->SignatureType == SIGNATURE_TYPE_GUID)
				memcpy(guid_out, hd->Signature, 16);
		}
		p = NextDevicePathNode(p);
	}
}

static u64 find_low_page(void)
{
	EFI_PHYSICAL_ADDRESS page = LOW_PAGE_MAX;

	return EFI_ERROR(bs->AllocatePages(AllocateMaxAddress, EfiLoaderData, 1, &page)) ? 0 : page;
}

void firmware_collect(struct loader *l)
{
	struct boot_info *bi = l->info;

	find_tables(bi);
	find_framebuffer(&bi->fb);
	gather_entropy(bi->entropy);
	find_partition(l->volume, bi->boot_partition_guid);
	bi->low_page = find_low_page();
}
