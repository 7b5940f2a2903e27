/*
 * Swap: pages on their way back, and blocks of compressed ones. What was read is checked; a page that is wrong is read
 * once more, and then lost.
 */
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/platform.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/platform.h"
#include "mm/swap_internal.h"
#include "mm/swap_slots.h"

/* at most in flight when one more is taken for a page that nobody has asked for */
#define AHEAD_RECORDS (IN_RECORDS / 2)

static int in_start(struct gspace *gs, gfn_t gfn, u32 block, u32 slot, hfn_t hfn, bool ahead)
{
	u64 start = platform_now_ns();
	struct list *link;
	struct in_io *io;

	lock_acquire(&swap.lock);
	link = ahead && swap.stats.in_flight_in >= AHEAD_RECORDS ? NULL : list_pop(&swap.in_free);
	if (!link) {
		swap.in_starved |= !ahead;
		lock_release(&swap.lock);
		return E_AGAIN;
	}
	swap.stats.in_flight_in++;
	gs->swap_in_flight++;
	lock_release(&swap.lock);

	io = list_entry(link, struct in_io, link);
	io->gs = gs;
	io->gfn = gfn;
	io->slot = slot;
	io->block = block;
	io->ahead = ahead;
	io->retried = false;
	io->req.op = BLK_READ;
	io->req.page = slot;
	io->req.pages = 1;
	io->req.frame[0] = hfn;
	blk_submit(swap.part, &io->req);
	count_work(&swap.stats.came, 0, &swap.stats.came_ns, start);
	return 0;
}

int swap_in_start(struct gspace *gs, gfn_t gfn, u32 slot, hfn_t hfn, bool ahead)
{
	return in_start(gs, gfn, 0, slot, hfn, ahead);
}

int swap_in_block(struct gspace *gs, gfn_t gfn, u32 block, u32 slot, hfn_t hfn)
{
	return in_start(gs, gfn, block, slot, hfn, false);
}

static void drop_in_record(struct in_io *io)
{
	bool starved;

	lock_acquire(&swap.lock);
	list_add_tail(&swap.in_free, &io->link);
	swap.stats.in_flight_in--;
	io->gs->swap_in_flight--;
	starved = swap.in_starved;
	swap.in_starved = false;
	lock_release(&swap.lock);
	if (starved)
		mm_wake(NULL);
}

/* Counts and verifies a completed read. NULL if the page is good, else what is wrong. */
static const char *in_verdict(struct in_io *io)
{
	gfn_t what = io->block ? ~io->block : io->gfn;
	const char *bad = NULL;
	struct digest digest;
	u64 sum = 0;

	if (!io->req.status) {
		digest = digest_page(mm_hfn_to_va(io->req.frame[0]));
		sum = swap_page_sum(&digest, io->gs, what, io->slot);
	}
	lock_acquire(&swap.lock);
	swap.stats.in_ns += platform_now_ns() - io->req.submitted_ns;
	if (io->req.status) {
		swap.stats.read_errors++;
		bad = io->req.status == E_NODEV ? "swap device gone" : "swap read error";
	} else if (sum != *slots_sum(&swap.slots, io->slot)) {
		swap.stats.checksum_errors++;
		bad = "swap checksum mismatch";
	} else {
		swap.stats.in++;
		swap.stats.packed_in += io->block != 0;
	}
	lock_release(&swap.lock);
	return bad;
}

static void in_lost(struct in_io *io, const char *why)
{
	bool used = true;

	log_error("swap", "%s: page %#x of %s, slot %u, is lost", why, io->gfn, io->gs->name, io->slot);
	if (io->block)
		used = gspace_zip_in_failed(io->gs, io->block);
	else
		gspace_swap_in_failed(io->gs, io->gfn);
	frame_free(io->req.frame[0], 0);
	if (!io->gs->dying && used)
		mm_gspace_poisoned(io->gs, io->gfn, why);
	if (io->req.status == E_NODEV)
		swap_fail("the device is gone");
	else if (!swap_note_lost(io->slot))
		swap_fail("too many pages could not be read");
	if (!used)
		swap_slot_free(io->slot);
}

void swap_in_done(struct blk_req *r)
{
	struct in_io *io = container_of(r, struct in_io, req);
	u64 start = platform_now_ns();
	const char *bad = in_verdict(io);
	bool kept = false;

	if (bad && !io->ahead && !io->retried && r->status != E_NODEV) {
		io->retried = true;
		log_warn("swap", "%s at slot %u: reading again", bad, io->slot);
		blk_submit(swap.part, r);
		return;
	}
	if (bad && io->ahead) {
		/* Who wants it will ask for it. */
		gspace_swap_in_failed(io->gs, io->gfn);
		frame_free(r->frame[0], 0);
	} else if (bad) {
		in_lost(io, bad);
	} else {
		if (io->block)
			gspace_zip_in_done(io->gs, io->block);
		else
			kept = gspace_swap_in_done(io->gs, io->gfn, r->frame[0], io->slot);
		if (!kept)
			swap_slot_free(io->slot);
	}
	drop_in_record(io);
	count_work(&swap.stats.came, 1, &swap.stats.came_ns, start);
}
