/*
 * Host swap: what it is on, what was promised, and its records. swap_out.c and swap_in.c use them.
 *
 * A page on its way out is in state SWAPPING_OUT: unmapped everywhere (flushed) before its checksum is
 * taken, so the checksum, the bytes on the device and what the guest will read are the same. The checksum is keyed by
 * slot and owner too: a block that comes back from the wrong place does not pass.
 *
 * A transfer is one pre-allocated record; nothing is allocated on the way out. Records hold a pointer to their space,
 * which therefore waits for them before it goes (gs->swap_in_flight, swap_busy()). The number of writes in flight
 * follows the device: a slow one must not have a queue of writes in front of every read.
 *
 * Locking: swap.lock (LOCK_RANK_SWAP) guards everything in `swap` and swap_reserved / swap_in_flight of spaces. It is
 * not held across calls into gspace, share, blk or the platform.
 */
#include "mm/swap.h"

#include "lib/err.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/prng.h"
#include "mm/gspace.h"
#include "mm/swap_internal.h"
#include "mm/swap_slots.h"

#define OUT_START 4U /* writes in flight at first */
#define MIN_SLOTS 64U
/* Slots active beyond those promised: writes in flight, and rescued pages' slots until their write has ended. */
#define SPARE_SLOTS (OUT_RECORDS * BLK_PAGES_MAX)
#define TRIM_CHUNKS 64U

struct swap swap;

static const char *kept_off; /* by the operator; NULL: not */

void swap_init(u64 key, u64 seed)
{
	lock_init(&swap.lock, "swap", LOCK_RANK_SWAP);
	swap.state = SWAP_OFF;
	swap.why = kept_off ? kept_off : "no swap partition";
	swap.part = NULL;
	swap.key = key;
	swap.reserved = 0;
	swap.out_busy = swap.errors_in_row = swap.lost_count = 0;
	swap.out_limit = OUT_START;
	swap.in_starved = false;
	swap.stats = (struct swap_stats){0};
	slots_init(&swap.slots, 0);
	prng_seed(&swap.prng, seed);
	list_init(&swap.out_free);
	list_init(&swap.in_free);
	for (u32 i = 0; i < OUT_RECORDS; i++) {
		swap.out[i].req.done = swap_out_done;
		list_add_tail(&swap.out_free, &swap.out[i].link);
	}
	for (u32 i = 0; i < IN_RECORDS; i++) {
		swap.in[i].req.done = swap_in_done;
		list_add_tail(&swap.in_free, &swap.in[i].link);
	}
}

void swap_keep_off(const char *why)
{
	kept_off = why;
}

int swap_on(struct blk_part *part)
{
	if (kept_off) {
		log_info("swap", "off: %s", kept_off);
		return E_PERM;
	}
	if (part->kind != BLK_PART_SWAP || part->pages < MIN_SLOTS)
		return E_INVAL;
	if (READ_ONCE(part->dev->gone))
		return E_NODEV;
	lock_acquire(&swap.lock);
	if (swap.state != SWAP_OFF) {
		lock_release(&swap.lock);
		return E_EXIST;
	}
	swap.state = SWAP_ON;
	swap.why = NULL;
	swap.part = part;
	slots_init(&swap.slots, part->pages);
	lock_release(&swap.lock);
	log_info("swap", "on: %s, %lu MiB on %s", part->name, swap.slots.total >> (20 - PAGE_SHIFT), part->dev->name);
	return 0;
}

/* ---- promises ------------------------------------------------------------ */

static u64 slots_needed(u64 reserved)
{
	return reserved ? reserved + swap.slots.bad + SPARE_SLOTS : 0;
}

int swap_reserve(struct gspace *gs, u32 slots)
{
	int err = 0;
	u64 all;

	lock_acquire(&swap.lock);
	all = swap.reserved - gs->swap_reserved + slots;
	if (slots > gs->swap_reserved)
		err = all > swap.slots.total ? E_NOSPC : slots_grow(&swap.slots, slots_needed(all));
	if (!err) {
		swap.reserved = all;
		gs->swap_reserved = slots;
	}
	lock_release(&swap.lock);
	return err;
}

u64 swap_frames_for(u32 slots)
{
	u64 will, is;

	lock_acquire(&swap.lock);
	is = slots_frames(&swap.slots, swap.slots.active);
	will = slots_frames(&swap.slots, slots_needed(swap.reserved + slots));
	lock_release(&swap.lock);
	return will > is ? will - is : 0;
}

u64 swap_frames(void)
{
	u64 n;

	lock_acquire(&swap.lock);
	n = slots_frames(&swap.slots, swap.slots.active);
	lock_release(&swap.lock);
	return n;
}

void swap_unreserve(struct gspace *gs)
{
	CHECK(!swap_reserve(gs, 0));
}

bool swap_forget_lost(u32 slot)
{
	for (u32 i = 0; i < swap.lost_count; i++) {
		if (swap.lost[i] != slot)
			continue;
		swap.lost[i] = swap.lost[--swap.lost_count];
		return true;
	}
	return false;
}

bool swap_note_lost(u32 slot)
{
	bool noted = false;

	lock_acquire(&swap.lock);
	swap_forget_lost(slot);
	if (swap.lost_count < LOST_MAX) {
		swap.lost[swap.lost_count++] = slot;
		noted = true;
	}
	lock_release(&swap.lock);
	return noted;
}

void swap_slot_free(u32 slot)
{
	lock_acquire(&swap.lock);
	if (swap_forget_lost(slot))
		slots_retire(&swap.slots, slot);
	else
		slots_free(&swap.slots, slot);
	lock_release(&swap.lock);
}

bool swap_busy(const struct gspace *gs)
{
	return READ_ONCE(gs->swap_in_flight) != 0;
}

/* ---- state --------------------------------------------------------------- */

void swap_fail(const char *why)
{
	bool first;

	lock_acquire(&swap.lock);
	first = swap.state == SWAP_ON;
	if (first) {
		swap.state = SWAP_FAILED;
		swap.why = why;
	}
	lock_release(&swap.lock);
	if (first)
		log_error("swap",
			  "stopped: %s; no more pages go out, those that are out are read as long as that works", why);
}

/* On, and its device there. */
static bool is_on(void)
{
	if (READ_ONCE(swap.state) != SWAP_ON)
		return false;
	if (!READ_ONCE(swap.part->dev->gone))
		return true;
	swap_fail("the device is gone");
	return false;
}

void swap_trim(void)
{
	is_on();
	lock_acquire(&swap.lock);
	slots_shrink(&swap.slots, slots_needed(swap.reserved), TRIM_CHUNKS);
	lock_release(&swap.lock);
}

bool swap_can_out(void)
{
	bool can;

	if (!is_on())
		return false;
	lock_acquire(&swap.lock);
	can = swap.out_busy < swap.out_limit;
	lock_release(&swap.lock);
	return can;
}

void swap_stats(struct swap_stats *out)
{
	lock_acquire(&swap.lock);
	*out = swap.stats;
	out->state = swap.state;
	out->why = swap.why;
	out->slots = swap.slots.total;
	out->used = swap.slots.used;
	out->bad = swap.slots.bad;
	out->reserved = swap.reserved;
	if (swap.state == SWAP_ON && swap.slots.total > swap.slots.bad + swap.reserved)
		out->unreserved = swap.slots.total - swap.slots.bad - swap.reserved;
	lock_release(&swap.lock);
}

bool swap_copy_good(const struct gspace *gs, gfn_t gfn, u32 slot, const struct digest *digest)
{
	u64 sum = swap_page_sum(digest, gs, gfn, slot);
	bool good;

	lock_acquire(&swap.lock);
	good = sum == *slots_sum(&swap.slots, slot);
	lock_release(&swap.lock);
	return good;
}

/* Pages move from one count to another on other CPUs: so all at once. */
u32 swap_slots_held(struct gspace *gs)
{
	u32 held;

	lock_acquire(&gs->lock);
	held = gs->count[PAGE_SWAPPED] + gs->count[PAGE_SWAPPING_OUT] + gs->count[PAGE_SWAPPING_IN] - gs->clean_reads +
	       gs->swap_copies + gs->zip.writing;
	lock_release(&gs->lock);
	return held;
}

void swap_shed(struct gspace *gs)
{
	u32 held = swap_slots_held(gs);

	if (gs->swap_copies && held > gs->swap_reserved)
		gspace_shed_copies(gs, held - gs->swap_reserved);
}
