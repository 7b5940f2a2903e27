/*
 * Early memory. The frame table is cut out of a usable range, everything usable goes to the allocator, modules and
 * image are claimed for good. The loader's ranges stay out of the allocator until nothing in them is needed any more.
 * The first MiB is never used: firmware and the start of other CPUs have their own ideas about it.
 */
#include "boot/memory.h"
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"
#include "boot/memmap.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"

#define LOW_MEMORY_END MIB
#define ADD_BYTES      GIB /* frame_add_range counts in 32 bits; a piece at a time */

static u64 ram_bytes;

static const struct boot_mem *map_of(const struct boot_info *bi)
{
	return hpa_to_va(HPA(bi->mem));
}

u64 memory_ram_bytes(void)
{
	return ram_bytes;
}

bool memory_has_ram(const struct boot_info *bi, u64 base, u64 bytes)
{
	const struct boot_mem *mem = map_of(bi);

	for (u32 i = 0; i < bi->mem_count; i++)
		if (memmap_is_ram(mem[i].type) && mem[i].base < base + bytes && base < mem[i].base + mem[i].bytes)
			return true;
	return false;
}

static u64 ram_end(const struct boot_info *bi)
{
	const struct boot_mem *mem = map_of(bi);
	u64 end = 0;

	for (u32 i = 0; i < bi->mem_count; i++) {
		if (!memmap_is_ram(mem[i].type))
			continue;
		end = MAX(end, mem[i].base + mem[i].bytes);
		ram_bytes += mem[i].bytes;
	}
	return end;
}

/* Physical address of `bytes` in the first usable range that holds them. */
static u64 find_table_memory(const struct boot_info *bi, u64 bytes)
{
	const struct boot_mem *mem = map_of(bi);

	for (u32 i = 0; i < bi->mem_count; i++) {
		u64 base = MAX(mem[i].base, LOW_MEMORY_END), end = mem[i].base + mem[i].bytes;

		if (mem[i].type == BOOT_MEM_USABLE && base < end && end - base >= bytes)
			return base;
	}
	panic("no %lu KiB in one piece for the frame table (RAM %lu MiB)", bytes / KIB, ram_bytes / MIB);
}

static void for_frames(u64 base, u64 end, void (*fn)(hfn_t first, u32 count))
{
	base = MAX(base, LOW_MEMORY_END);
	for (; base < end; base += MIN(ADD_BYTES, end - base))
		fn(base >> PAGE_SHIFT, MIN(ADD_BYTES, end - base) >> PAGE_SHIFT);
}

static void init_frames(const struct boot_info *bi)
{
	const struct boot_mem *mem = map_of(bi);
	u64 span = ram_end(bi) >> PAGE_SHIFT;
	u64 bytes = ALIGN_UP(frame_table_bytes(span), PAGE_SIZE);
	u64 table = find_table_memory(bi, bytes);

	memset(hpa_to_va(HPA(table)), 0, bytes);
	frame_init(hpa_to_va(HPA(table)), span);
	for (u32 i = 0; i < bi->mem_count; i++) {
		u64 base = mem[i].base, end = base + mem[i].bytes;

		if (mem[i].type == BOOT_MEM_MODULE || mem[i].type == BOOT_MEM_IMAGE) {
			for_frames(base, end, frame_claim_range);
		} else if (mem[i].type == BOOT_MEM_USABLE && table >= base && table < end) {
			for_frames(base, table, frame_add_range);
			for_frames(table, table + bytes, frame_claim_range);
			for_frames(table + bytes, end, frame_add_range);
		} else if (mem[i].type == BOOT_MEM_USABLE) {
			for_frames(base, end, frame_add_range);
		}
	}
}

/* Ranges that touch are mapped as one, so that large pages are used across a change of type. */
static int map_ram(const struct boot_info *bi)
{
	const struct boot_mem *mem = map_of(bi);
	u64 base = 0, end = 0;
	int err = 0;

	for (u32 i = 0; i < bi->mem_count && !err; i++) {
		if (!memmap_is_ram(mem[i].type) || mem[i].type == BOOT_MEM_IMAGE)
			continue;
		if (mem[i].base != end) {
			err = paging_map_ram(HPA(base), end - base);
			base = mem[i].base;
		}
		end = mem[i].base + mem[i].bytes;
	}
	return err ? err : paging_map_ram(HPA(base), end - base);
}

void memory_init(const struct boot_info *bi)
{
	int err;

	init_frames(bi);
	err = paging_init();
	if (!err)
		err = map_ram(bi);
	if (!err)
		err = paging_map_image(HPA(bi->image_base));
	if (err)
		panic("page tables cannot be built: error %d", err);
	paging_activate();
	err = cpu_init_stacks();
	if (err)
		panic("no memory for stacks: error %d", err);
}

void memory_free_loader(const struct boot_info *bi)
{
	/* The map itself lies in such a range: each entry is read before its frames are given away. */
	const struct boot_mem *mem = map_of(bi);
	u32 count = bi->mem_count;
	struct boot_mem own = {0};

	for (u32 i = 0; i < count; i++) {
		struct boot_mem m = mem[i];

		if (m.type != BOOT_MEM_LOADER)
			continue;
		if (bi->mem >= m.base && bi->mem < m.base + m.bytes)
			own = m; /* last */
		else
			for_frames(m.base, m.base + m.bytes, frame_add_range);
	}
	if (own.bytes)
		for_frames(own.base, own.base + own.bytes, frame_add_range);
}
