/*
 * The hand-off from a boot loader to the hypervisor: the one structure that the
 * UEFI loader (boot/efi) fills. All addresses are host physical. The loader
 * enters hv_entry (arch/x86/entry.asm) in long mode with
 *   RDI = physical address of struct boot_info,
 *   CR3 = tables that map all of RAM both 1:1 and at DIRECT_MAP_BASE (RW), and
 *         the hypervisor image at its linked address (RWX allowed here only;
 *         the hypervisor makes its own W^X tables at once),
 *   interrupts off, boot services left, RSP valid in identity-mapped memory (the hypervisor switches stacks first).
 *
 * Everything the loader allocated stays reserved by its memory type until the
 * hypervisor frees it: BOOT_MEM_LOADER may be reused after boot_info, tables and
 * modules have been consumed or copied; BOOT_MEM_IMAGE never.
 */
#ifndef BOOT_INFO_H
#define BOOT_INFO_H

#include "lib/types.h"

#define BOOT_INFO_MAGIC   0x4f52544154534f41UL
#define BOOT_INFO_VERSION 1
#define BOOT_NAME_BYTES   64
#define BOOT_MODULES_MAX  16

enum boot_mem_type {
	BOOT_MEM_USABLE = 1,   /* free RAM */
	BOOT_MEM_LOADER = 2,   /* RAM: boot_info, boot page tables */
	BOOT_MEM_MODULE = 3,   /* RAM: configuration and guest images */
	BOOT_MEM_IMAGE = 4,    /* RAM: the hypervisor's own segments */
	BOOT_MEM_ACPI = 5,     /* RAM holding ACPI tables (reclaim/NVS): mapped, never handed out */
	BOOT_MEM_RESERVED = 6, /* firmware run-time, MMIO, anything else */
};

struct boot_mem {
	u64 base, bytes; /* page aligned, sorted by base, not overlapping */
	u32 type;        /* enum boot_mem_type */
	u32 zero;
};

enum boot_module_kind { BOOT_MODULE_CONFIG = 1, BOOT_MODULE_GUEST = 2 };

struct boot_module {
	u64 base, bytes; /* base page aligned; memory up to the page's end is zero */
	u32 kind;
	u32 zero;
	char name[BOOT_NAME_BYTES]; /* file name on the volume, e.g. "guest.elf", terminated */
};

/* 32 bits a pixel; the numbers are EFI's PixelFormat. */
enum boot_fb_format { BOOT_FB_RGB = 0, BOOT_FB_BGR = 1, BOOT_FB_MASK = 2 };

struct boot_framebuffer {
	u64 base; /* 0: none */
	u32 width, height, pitch_bytes, format;
};

struct boot_info {
	u64 magic;
	u32 version, bytes;
	u64 rsdp;             /* ACPI root pointer, 0 if the firmware has none */
	u64 smbios;           /* 0 if none */
	u64 efi_system_table; /* for runtime reset; 0 if not UEFI */
	u64 image_base;       /* physical start of the loaded hypervisor image (2 MiB aligned) */
	u64 image_bytes;
	u64 mem; /* array of struct boot_mem */
	u32 mem_count;
	u32 module_count;
	struct boot_module module[BOOT_MODULES_MAX];
	struct boot_framebuffer fb;
	u64 low_page;               /* a free page below 1 MiB for the AP trampoline, 0 if none */
	u64 entropy[4];             /* EFI_RNG where present mixed with TSC: seeds hash keys */
	u8 boot_partition_guid[16]; /* unique GUID of the volume booted from, 0 if unknown */
	char cmdline[256];          /* loader options, terminated */
};

#endif
