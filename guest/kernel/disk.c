/* See disk.h. The host may change what it likes in the ring: only `status` is believed, and only to be what it says. */
#include "guest/kernel/disk.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/smp.h"
#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"

int disk_open(struct disk *d, u32 index, struct ram *ram)
{
	u32 pfn = ram_alloc(ram, RAM_KERNEL);
	s64 pages;

	*d = (struct disk){.index = index};
	if (pfn == RAM_NONE)
		return E_NOMEM;
	memset(arch_phys((u64)pfn << PAGE_SHIFT), 0, PAGE_SIZE);
	pages = arch_hypercall(AERO_CALL_DISK_SETUP, index, (u64)pfn << PAGE_SHIFT, 0, NULL);
	if (pages < 0) {
		ram_free(ram, pfn);
		return (int)pages;
	}
	d->ring = arch_phys((u64)pfn << PAGE_SHIFT);
	d->pages = (u64)pages;
	return 0;
}

u32 disk_room(const struct disk *d)
{
	u32 room = 0;

	/* Slots are used in turn: one slow request holds back those behind it. */
	while (room < AERO_DISK_REQUESTS && !d->io[(d->posted + room) % AERO_DISK_REQUESTS])
		room++;
	return room;
}

int disk_post(struct disk *d, enum aero_disk_op op, u64 page, u64 gpa, u32 count, struct disk_io *io)
{
	u32 slot = d->posted % AERO_DISK_REQUESTS;
	struct aero_disk_request *r;

	if (!disk_present(d) || count == 0 || count > DISK_COUNT_MAX || page + count > d->pages)
		return E_INVAL;
	if (d->io[slot])
		return E_NOSPC;
	r = &d->ring->request[slot];
	*r = (struct aero_disk_request){.page = page, .gpa = gpa, .op = op, .count = count};
	WRITE_ONCE(r->status, AERO_DISK_PENDING);
	io->pending = true;
	d->io[slot] = io;
	d->posted++;
	d->in_flight++;
	__atomic_store_n(&d->ring->posted, d->posted, __ATOMIC_RELEASE);
	if (op == AERO_DISK_READ) {
		d->stats.reads++;
		d->stats.read_pages += count;
	} else {
		d->stats.writes++;
		d->stats.write_pages += count;
	}
	return 0;
}

void disk_kick(struct disk *d)
{
	s64 err;

	if (d->kicked == d->posted)
		return;
	err = arch_hypercall(AERO_CALL_DISK_KICK, d->index, 0, 0, NULL);
	if (err < 0)
		panic("disk %u: kick refused: %ld", d->index, err);
	d->kicked = d->posted;
	d->stats.kicks++;
}

u32 disk_reap(struct disk *d)
{
	u32 reaped = 0;

	for (u32 slot = 0; d->in_flight && slot < AERO_DISK_REQUESTS; slot++) {
		struct disk_io *io = d->io[slot];
		s32 status;

		if (!io)
			continue;
		status = __atomic_load_n(&d->ring->request[slot].status, __ATOMIC_ACQUIRE);
		if (status == AERO_DISK_PENDING)
			continue;
		d->io[slot] = NULL;
		d->in_flight--;
		d->ended++;
		d->stats.errors += status != AERO_DISK_OK;
		io->status = status;
		io->pending = false;
		reaped++;
		if (io->done)
			io->done(io);
	}
	return reaped;
}

void disk_wait(struct disk *d, struct disk_io *io)
{
	disk_kick(d);
	smp_disk_wait_begin();
	for (disk_reap(d); io->pending; disk_reap(d))
		smp_sleep();
	smp_disk_wait_end();
}

void disk_wait_any(struct disk *d)
{
	u64 ended = d->ended;

	disk_kick(d);
	smp_disk_wait_begin();
	for (disk_reap(d); d->ended == ended && d->in_flight; disk_reap(d))
		smp_sleep();
	smp_disk_wait_end();
}

int disk_transfer(struct disk *d, enum aero_disk_op op, u64 page, u64 gpa, u32 count)
{
	struct disk_io io = {0};
	int err;

	while ((err = disk_post(d, op, page, gpa, count, &io)) == E_NOSPC)
		disk_wait_any(d);
	if (err)
		return err;
	disk_wait(d, &io);
	return io.status;
}
