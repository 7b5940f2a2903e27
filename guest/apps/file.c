/* See file.h. */
#include "guest/apps/file.h"

#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "lib/err.h"

#define FAULTS_PRINTED 8

bool file_possible(const char *who, struct kernel *k)
{
	if (disk_present(&k->disk) && k->disk.pages >= FILE_PIECE)
		return true;
	print("%s: needs a disk\n", who);
	return false;
}

int file_create(struct file *f, const char *who, struct kernel *k, u64 pages, const struct content *c)
{
	*f = (struct file){.who = who, .content = *c, .pages = (u32)CLAMP(pages, FILE_PIECE, k->disk.pages)};
	f->first = k->disk.pages - f->pages;
	f->generation = ram_array(&k->ram, f->pages * sizeof(*f->generation));
	f->piece = ram_array(&k->ram, FILE_PIECE * PAGE_SIZE);
	return f->generation && f->piece ? 0 : E_NOMEM;
}

bool file_load(struct file *f, struct kernel *k, u64 until_ns)
{
	while (f->loaded < f->pages && clock_ns(&k->clock) < until_ns) {
		u32 n = MIN(FILE_PIECE, f->pages - f->loaded);

		for (u32 i = 0; i < n; i++)
			content_fill(&f->content, f->loaded + i, 0, f->piece + i * PAGE_SIZE);
		if (disk_transfer(&k->disk, AERO_DISK_WRITE, f->first + f->loaded, arch_pa(f->piece), n)) {
			f->failed++;
			return false;
		}
		f->loaded += n;
	}
	return f->loaded == f->pages;
}

bool file_check(struct file *f, u32 page, const void *p)
{
	struct content_fault fault;

	if (content_check(&f->content, page, f->generation[page], p, &fault))
		return true;
	if (f->bad++ < FAULTS_PRINTED)
		print("%s: BAD page %u generation %u: %s; at %u found %#lx, expected %#lx\n", f->who, page,
		      f->generation[page], fault.what, fault.offset, fault.found, fault.expected);
	return false;
}
