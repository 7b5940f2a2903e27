/*
 * Hints, and reads from a VM's own disk. See clean.h; what happens to a page is gspace_clean.c's.
 *
 * Locking: clean.lock (LOCK_RANK_SWAP, never with swap's own) guards the records and clean_in_flight of spaces. It is
 * not held across calls into gspace, blk or the platform.
 */
#include "mm/clean.h"

#include "lib/err.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/blk.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/platform.h"

#define READ_RECORDS   32U
#define SPLITS_MAX     16U /* large pages that one batch may split */

#define ENTRY_OP       BITS(3, 0)
#define ENTRY_STATUS   BITS(11, 4)
#define ENTRY_RESERVED BITS(63, 52)

struct read {
	struct blk_req req;
	struct list link;
	struct gspace *gs;
	gfn_t gfn; /* of the first page; req.pages tells how many */
	bool retried;
};

static struct {
	struct lock lock;
	struct list free;
	bool starved; /* a touch found no record */
	struct clean_stats stats;
	struct read read[READ_RECORDS];
} clean;

static void read_done(struct blk_req *r);

void clean_init(void)
{
	lock_init(&clean.lock, "clean", LOCK_RANK_SWAP);
	clean.starved = false;
	clean.stats = (struct clean_stats){0};
	list_init(&clean.free);
	for (u32 i = 0; i < READ_RECORDS; i++) {
		clean.read[i].req.done = read_done;
		list_add_tail(&clean.free, &clean.read[i].link);
	}
}

void clean_stats(struct clean_stats *out)
{
	lock_acquire(&clean.lock);
	*out = clean.stats;
	lock_release(&clean.lock);
}

bool clean_busy(const struct gspace *gs)
{
	return READ_ONCE(gs->clean_in_flight) != 0;
}

/* ---- reads --------------------------------------------------------------- */

static struct read *take_record(struct gspace *gs)
{
	struct list *link;

	lock_acquire(&clean.lock);
	link = list_pop(&clean.free);
	if (link)
		gs->clean_in_flight++;
	else
		clean.starved = true;
	lock_release(&clean.lock);
	return link ? list_entry(link, struct read, link) : NULL;
}

static void drop_record(struct read *io)
{
	bool starved;

	lock_acquire(&clean.lock);
	list_add_tail(&clean.free, &io->link);
	io->gs->clean_in_flight--;
	starved = clean.starved;
	clean.starved = false;
	lock_release(&clean.lock);
	if (starved)
		mm_wake(NULL);
}

int clean_read(struct gspace *gs, gfn_t gfn, u32 block, const hfn_t *hfn, u32 n)
{
	struct read *io = take_record(gs);

	if (!io)
		return E_AGAIN;
	CHECK(n && n <= BLK_PAGES_MAX && block + n <= gs->disk.pages);
	io->gs = gs;
	io->gfn = gfn;
	io->retried = false;
	io->req.op = BLK_READ;
	io->req.page = gs->disk.start + block;
	io->req.pages = n;
	memcpy(io->req.frame, hfn, n * sizeof(*hfn));
	blk_submit(gs->disk.part, &io->req);
	return 0;
}

static void account(const struct blk_req *r)
{
	lock_acquire(&clean.lock);
	clean.stats.reads++;
	clean.stats.pages += r->status ? 0 : r->pages;
	clean.stats.errors += r->status != 0;
	clean.stats.ns += platform_now_ns() - r->submitted_ns;
	lock_release(&clean.lock);
}

/* Those from the i-th on are where they were. */
static void give_up(struct read *io, u32 i)
{
	for (; i < io->req.pages; i++) {
		gspace_clean_in_failed(io->gs, io->gfn + i);
		frame_free(io->req.frame[i], 0);
	}
}

/*
 * Only the page that was asked for is worth another try. The disk may be going by now: then nobody waits for it any
 * more.
 */
static bool try_again(struct read *io)
{
	struct blk_part *part;

	if (io->retried || io->req.status == E_NODEV)
		return false;
	lock_acquire(&io->gs->lock);
	part = io->gs->disk.part;
	lock_release(&io->gs->lock);
	if (!part)
		return false;
	give_up(io, 1);
	io->retried = true;
	io->req.pages = 1;
	log_warn("clean", "read of a page of %s from its disk failed (%s): reading again", io->gs->name,
		 err_name(io->req.status));
	blk_submit(part, &io->req);
	return true;
}

static void read_done(struct blk_req *r)
{
	struct read *io = container_of(r, struct read, req);
	struct gspace *gs = io->gs;

	account(r);
	if (r->status && try_again(io))
		return;
	if (r->status) {
		give_up(io, 0);
		if (!gs->dying && READ_ONCE(gs->disk.part))
			mm_gspace_poisoned(gs, io->gfn, "it cannot be read from the VM's disk");
	}
	for (u32 i = 0; !r->status && i < r->pages; i++)
		gspace_clean_in_done(gs, io->gfn + i, r->frame[i]);
	mm_wake(gs);
	drop_record(io);
}

/* ---- hints --------------------------------------------------------------- */

static gfn_t gfn_of(const struct hint *h)
{
	return (gfn_t)((h->page & BITS(51, 12)) >> PAGE_SHIFT);
}

static bool is_valid(const struct gspace *gs, const struct hint *h)
{
	u64 op = h->page & ENTRY_OP;

	if (h->page & ENTRY_RESERVED || (h->page & BITS(51, 12)) >> PAGE_SHIFT >= gs->pages)
		return false;
	if (op == HINT_CLEAN)
		return h->block < gs->disk.pages;
	return (op == HINT_OVERWRITE || op == HINT_CHANGED) && !h->block;
}

/* Pages that are to stop being copies. All reads that it takes are begun before anything waits. */
static int take_changed(struct gspace *gs, const struct hint *entry, u32 n)
{
	int result = 0, err;

	for (u32 i = 0; i < n && result != E_IO; i++) {
		if ((entry[i].page & ENTRY_OP) != HINT_CHANGED || !is_valid(gs, &entry[i]))
			continue;
		err = gspace_clean_unmark(gs, gfn_of(&entry[i]));
		result = err ? err : result;
	}
	return result;
}

static enum hint_status take_one(struct gspace *gs, const struct hint *h, u32 *splits)
{
	bool split = false, marked;

	if (!is_valid(gs, h))
		return HINT_INVALID;
	switch (h->page & ENTRY_OP) {
	case HINT_OVERWRITE:
		gspace_overwrite(gs, gfn_of(h));
		return HINT_OK;
	case HINT_CLEAN:
		marked = gspace_clean_mark(gs, gfn_of(h), h->block, *splits ? &split : NULL);
		*splits -= split;
		return marked ? HINT_OK : HINT_NOT_NOW;
	default:
		return HINT_OK; /* take_changed() did it */
	}
}

int clean_hints(struct gspace *gs, struct hint *entry, u32 n)
{
	u32 splits = SPLITS_MAX;
	int done = 0, err;

	CHECK(n <= HINT_BATCH_MAX);
	err = take_changed(gs, entry, n);
	for (u32 i = 0; i < n && !err; i++) {
		enum hint_status status = take_one(gs, &entry[i], &splits);

		entry[i].page = (entry[i].page & ~ENTRY_STATUS) | (u64)status << 4;
		done += status == HINT_OK;
	}
	gspace_flush(gs);
	return err ? err : done;
}
