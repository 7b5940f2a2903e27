/*
 * Swap: pages on their way out, and blocks of compressed ones. Victims are gathered, unmapped and flushed; what is not
 * shared, in swap as it is, or compressed is written.
 */
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/platform.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap_internal.h"
#include "mm/swap_slots.h"
#include "mm/zip.h"

#define SLOW_WRITE_NS (200 * NSEC_PER_MSEC)
#define FAST_WRITE_NS (50 * NSEC_PER_MSEC)
#define VICTIM_RUN    8U  /* pages looked at from one random place */
#define VICTIM_TRIES  64U /* random places for one request */
#define FEW_MARKS     32U /* of so many pages one that is a copy of a block of its VM's disk */

/* ---- records ------------------------------------------------------------- */

/* How many more pages of gs fit into what was promised to it, if `begun` of those on their way out have no slot yet. */
static u32 quota_of(struct gspace *gs, u32 begun)
{
	u32 held = swap_slots_held(gs);

	held -= MIN(begun, held);
	return gs->swap_reserved > held ? gs->swap_reserved - held : 0;
}

/* With *slots slots, at most `want`. NULL: no record, no slot, or swap is not on. */
static struct out_io *take_out_record(struct gspace *gs, u32 want, u32 *slots)
{
	struct out_io *io = NULL;
	u32 first;

	*slots = 0;
	lock_acquire(&swap.lock);
	if (swap.state == SWAP_ON && swap.out_busy < swap.out_limit) {
		*slots = slots_alloc(&swap.slots, MIN(want, BLK_PAGES_MAX), &first);
		if (*slots) {
			io = list_entry(list_pop(&swap.out_free), struct out_io, link);
			io->gs = gs;
			io->slot = first;
			swap.out_busy++;
			gs->swap_in_flight++;
		}
	}
	lock_release(&swap.lock);
	return io;
}

static void seed_prng(struct prng *prng)
{
	lock_acquire(&swap.lock);
	prng_seed(prng, prng_next(&swap.prng));
	lock_release(&swap.lock);
}

static void drop_out_record(struct out_io *io)
{
	lock_acquire(&swap.lock);
	list_add_tail(&swap.out_free, &io->link);
	swap.out_busy--;
	io->gs->swap_in_flight--;
	lock_release(&swap.lock);
}

/* ---- victims ------------------------------------------------------------- */

static bool add_victim(struct gspace *gs, struct victims *v, gfn_t gfn)
{
	if (gspace_swap_out_begin(gs, gfn, &v->hfn[v->count]))
		return false;
	v->gfn[v->count++] = gfn;
	return true;
}

/*
 * The next pages from gfn on, as far as they can go out. Those that could only be shared are at once; returns how many
 * were.
 */
static u32 try_victims(struct gspace *gs, struct victims *v, gfn_t gfn, u32 most, bool writes)
{
	u32 shared = 0;

	if (writes) {
		v->count += gspace_swap_out_begin_some(gs, gfn, VICTIM_RUN, most, &v->gfn[v->count], &v->hfn[v->count]);
		return 0;
	}
	for (gfn_t end = MIN(gfn + VICTIM_RUN, gs->pages); gfn < end && most; gfn++) {
		bool poor = gspace_is_poor(gs, gfn), went = poor ? share_offer(gs, gfn) : add_victim(gs, v, gfn);

		shared += poor && went;
		most -= went;
	}
	return shared;
}

/* With nothing private left, a shared page goes in a copy of its own: the frame comes free with its last mapper. */
static bool try_shared(struct gspace *gs, struct victims *v, struct prng *prng)
{
	gfn_t gfn;

	return gspace_random_shared(gs, prng, &gfn) && !gspace_unshare(gs, gfn) && add_victim(gs, v, gfn);
}

/*
 * Random places, and a few neighbours of each: they are often wanted back together. Returns pages that are gone
 * already: shared, or dropped because the VM's disk has them.
 */
static u32 gather(struct gspace *gs, struct victims *v, u32 want)
{
	bool writes = swap_can_out(); /* else only what compresses, or is in swap already, can go */
	struct prng prng;
	u64 dropped = READ_ONCE(gs->stats.clean_out);
	u32 shared = 0;
	gfn_t gfn;

	seed_prng(&prng);
	v->count = v->unshared = 0;
	for (u32 i = 0; i < VICTIM_TRIES && v->count + shared < want; i++) {
		/* a search that finds nothing is long: once for a batch */
		if (!v->unshared && gspace_random_private(gs, &prng, &gfn))
			shared += try_victims(gs, v, gfn, want - v->count - shared, writes);
		else if (try_shared(gs, v, &prng))
			v->unshared++;
		else
			break;
	}
	return shared + (u32)(READ_ONCE(gs->stats.clean_out) - dropped);
}

/* ---- writes -------------------------------------------------------------- */

static void submit_out(struct out_io *io, const struct digest *digest)
{
	u64 sum[BLK_PAGES_MAX];

	for (u32 i = 0; i < io->req.pages; i++)
		sum[i] = swap_page_sum(&digest[i], io->gs, io->blocks ? ~io->gfn[i] : io->gfn[i], io->slot + i);
	lock_acquire(&swap.lock);
	memcpy(slots_sums(&swap.slots, io->slot, io->req.pages), sum, io->req.pages * sizeof(sum[0]));
	swap.stats.in_flight_out += io->req.pages;
	lock_release(&swap.lock);
	io->req.op = BLK_WRITE;
	io->req.page = io->slot;
	blk_submit(swap.part, &io->req);
}

/* Starts a write of at most `most` pages of v from `from` on, as many as there are slots for. Returns how many. */
static u32 write_some(struct gspace *gs, const struct victims *v, u32 from, u32 most)
{
	u32 n;
	struct out_io *io = take_out_record(gs, MIN(v->count - from, most), &n);

	if (!io)
		return 0;
	for (u32 i = 0; i < n; i++) {
		io->gfn[i] = v->gfn[from + i];
		io->req.frame[i] = v->hfn[from + i];
	}
	io->req.pages = n;
	io->blocks = false;
	submit_out(io, &v->digest[from]); /* it is the device's after this */
	return n;
}

/* Starts a write of the oldest blocks of compressed pages, if the pool has more than it should. Returns how many. */
static u32 write_blocks(struct gspace *gs, u32 want)
{
	struct digest digest[BLK_PAGES_MAX];
	u32 slots, n;
	struct out_io *io = take_out_record(gs, want, &slots);

	if (!io)
		return 0;
	for (n = 0; n < slots; n++) {
		io->gfn[n] = gspace_zip_out_begin(gs, &io->req.frame[n]);
		if (!io->gfn[n])
			break;
		digest[n] = digest_page(mm_hfn_to_va(io->req.frame[n]));
	}
	lock_acquire(&swap.lock);
	for (u32 i = n; i < slots; i++)
		slots_free(&swap.slots, io->slot + i);
	lock_release(&swap.lock);
	if (!n) {
		drop_out_record(io);
		return 0;
	}
	io->req.pages = n;
	io->blocks = true;
	submit_out(io, digest);
	return n;
}

/* ---- a batch ------------------------------------------------------------- */

/* Once for all that is to become of them. */
static void digest_victims(struct victims *v)
{
	for (u32 i = 0; i < v->count; i++)
		v->digest[i] = digest_page(mm_hfn_to_va(v->hfn[i]));
}

/* Those whose slot of the last time still holds what they are: nothing to write. The others stay in v, in order. */
static u32 drop_unchanged(struct gspace *gs, struct victims *v)
{
	u32 left = 0, before = v->count;

	if (READ_ONCE(swap.state) != SWAP_ON || READ_ONCE(swap.part->dev->gone))
		return 0;
	for (u32 i = 0; i < before; i++) {
		/* once gone it does not come again */
		bool copy = READ_ONCE(frame_get(v->hfn[i])->flags) & FRAME_F_COPY;

		if (!copy || !gspace_swap_out_unchanged(gs, v->gfn[i], v->hfn[i], &v->digest[i]))
			victims_keep(v, i, &left);
	}
	v->count = left;
	lock_acquire(&swap.lock);
	swap.stats.unchanged += before - left;
	lock_release(&swap.lock);
	return before - left;
}

/*
 * Writes what is left of v, as far as there are slots for it; the others stay in v, in order. Slots of pages in RAM are
 * less needed.
 */
static u32 write_victims(struct gspace *gs, struct victims *v)
{
	u32 quota = quota_of(gs, v->count), written = 0, left = 0, n = 1;

	if (v->count > quota && gs->swap_copies) {
		gspace_shed_copies(gs, v->count - quota);
		quota = quota_of(gs, v->count);
	}
	for (; written < v->count && n; written += n)
		n = write_some(gs, v, written, MIN(quota - written, v->count));
	for (u32 i = written; i < v->count; i++)
		victims_keep(v, i, &left);
	v->count = left;
	return written;
}

/*
 * Copies of blocks of the VM's own disk, a run from where the last one ended: they cost nothing now, and come back
 * together.
 */
static u32 drop_clean(struct gspace *gs, u32 want)
{
	u32 n, marks = READ_ONCE(gs->clean_marks);

	/* If they are few, looking for them costs more than they are worth. */
	if (!marks || (marks < gs->pages / FEW_MARKS && (swap_can_out() || zip_ready(gs))))
		return 0;
	n = gspace_clean_drop(gs, MIN(want, BLK_PAGES_MAX), READ_ONCE(gs->clean_hand));
	gspace_flush(gs);
	return n;
}

/*
 * One batch: dropped because it is in swap as it is, shared, compressed, or written, the last two in the order that
 * pays; what finds no place stays. Returns pages that went, or are on their way.
 */
static u32 out_some(struct gspace *gs, u32 want)
{
	u32 done, blocks = 0, quota = quota_of(gs, 0) + gs->swap_copies, surplus = zip_surplus(gs);
	u64 start = platform_now_ns(), before_zip;
	bool zip = zip_ready(gs);
	struct victims v;

	if (!zip && (!swap_can_out() || !quota))
		return 0;
	if (surplus)
		blocks = write_blocks(gs, MIN(surplus, quota_of(gs, 0)));
	want -= MIN(blocks, want);
	done = blocks + gather(gs, &v, MIN(zip ? want : MIN(want, quota), BLK_PAGES_MAX));
	gspace_flush(gs);
	digest_victims(&v);
	done += share_offer_out(gs, &v);
	done += drop_unchanged(gs, &v);
	if (v.count && !zip_pays(gs))
		done += write_victims(gs, &v);
	before_zip = platform_now_ns();
	done += zip_store(gs, &v);
	start += platform_now_ns() - before_zip;
	done += write_victims(gs, &v);
	for (u32 i = 0; i < v.count; i++)
		gspace_swap_out_failed(gs, v.gfn[i], v.hfn[i]);
	gspace_flush(gs);
	count_work(&swap.stats.went, done, &swap.stats.went_ns, start);
	return done;
}

u32 swap_out(struct gspace *gs, u32 want)
{
	u32 done = 0, n;

	while (done < want && !gs->dying && (swap_can_out() || zip_ready(gs) || READ_ONCE(gs->clean_marks))) {
		n = drop_clean(gs, want - done);
		if (!n)
			n = out_some(gs, want - done);
		if (!n)
			break;
		done += n;
	}
	return done;
}

/* ---- the end of a write -------------------------------------------------- */

/* A slow device gets fewer writes at a time, a quick one more. */
static void adapt_limit(u64 ns)
{
	if (ns > SLOW_WRITE_NS)
		swap.out_limit = MAX(swap.out_limit / 2, 1U);
	else if (ns < FAST_WRITE_NS)
		swap.out_limit = MIN(swap.out_limit + 1, OUT_RECORDS);
}

static void account_out(struct out_io *io, u32 out, u32 rescued)
{
	u64 ns = platform_now_ns() - io->req.submitted_ns;

	lock_acquire(&swap.lock);
	adapt_limit(ns);
	swap.stats.out += out;
	swap.stats.packed_out += io->blocks ? out : 0;
	swap.stats.rescued += rescued;
	swap.stats.out_ns += ns;
	swap.stats.in_flight_out -= io->req.pages;
	if (!io->req.status)
		swap.errors_in_row = 0;
	lock_release(&swap.lock);
}

/* Bit i: its slot is needed. */
static u64 blocks_done(struct out_io *io)
{
	u64 done = 0;

	for (u32 i = 0; i < io->req.pages; i++)
		done |= (u64)(gspace_zip_out_done(io->gs, io->gfn[i], io->slot + i) != 0) << i;
	return done;
}

static void out_written(struct out_io *io)
{
	u32 n = io->req.pages, rescued = 0;
	u64 done = io->blocks ? blocks_done(io) : gspace_swap_out_done_all(io->gs, n, io->gfn, io->req.frame, io->slot);

	for (u32 i = 0; i < n; i++) {
		if (done >> i & 1)
			continue;
		rescued++;
		swap_slot_free(io->slot + i);
	}
	gspace_flush(io->gs);
	account_out(io, n - rescued, rescued);
}

/* The pages stay in RAM. Slots of a failed write are not used again, unless it is the whole device that went. */
static void out_failed(struct out_io *io)
{
	bool gone = io->req.status == E_NODEV, stop;
	u32 n = io->req.pages;

	for (u32 i = 0; i < n; i++) {
		if (io->blocks)
			gspace_zip_out_failed(io->gs, io->gfn[i]);
		else
			gspace_swap_out_failed(io->gs, io->gfn[i], io->req.frame[i]);
	}
	account_out(io, 0, 0);
	lock_acquire(&swap.lock);
	swap.stats.write_errors++;
	stop = ++swap.errors_in_row >= SWAP_ERRORS_MAX;
	for (u32 i = 0; i < n; i++) {
		if (gone)
			slots_free(&swap.slots, io->slot + i);
		else
			slots_retire(&swap.slots, io->slot + i);
	}
	lock_release(&swap.lock);
	if (gone) {
		swap_fail("the device is gone");
		return;
	}
	log_error("swap", "write of %u pages at slot %u failed (%s): pages stay in memory, slots retired", n, io->slot,
		  err_name(io->req.status));
	if (stop)
		swap_fail("too many write errors in a row");
}

void swap_out_done(struct blk_req *r)
{
	struct out_io *io = container_of(r, struct out_io, req);
	u64 start = platform_now_ns();

	if (r->status)
		out_failed(io);
	else
		out_written(io);
	drop_out_record(io);
	reclaim_memory_returned();
	count_work(&swap.stats.went, 0, &swap.stats.went_ns, start);
}
