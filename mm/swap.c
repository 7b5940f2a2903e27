/*
 * Host swap. A page on its way out is in state SWAPPING_OUT: unmapped everywhere (flushed) before its checksum is
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
#include "lib/hash.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/platform.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap_slots.h"
#include "mm/zip.h"

#define OUT_RECORDS   16U
#define OUT_START     4U /* writes in flight at first */
#define IN_RECORDS    64U
#define AHEAD_RECORDS (IN_RECORDS / 2) /* at most in flight when one more is taken for a page that nobody has asked for */
#define SLOW_WRITE_NS (200 * NSEC_PER_MSEC)
#define FAST_WRITE_NS (50 * NSEC_PER_MSEC)
#define MIN_SLOTS     64U
/* Slots active beyond those promised: writes in flight, and rescued pages' slots until their write has ended. */
#define SPARE_SLOTS  (OUT_RECORDS * BLK_PAGES_MAX)
#define TRIM_CHUNKS  64U
#define LOST_MAX     16U /* slots that could not be read and are still taken */
#define VICTIM_RUN   8U  /* pages looked at from one random place */
#define VICTIM_TRIES 64U /* random places for one request */
#define FEW_MARKS    32U /* of so many pages one that is a copy of a block of its VM's disk */

struct out_io {
	struct blk_req req;
	struct list link;
	struct gspace *gs;
	u32 slot;    /* of gfn[0] */
	bool blocks; /* gfn: blocks of compressed pages */
	gfn_t gfn[BLK_PAGES_MAX];
};

struct in_io {
	struct blk_req req;
	struct list link;
	struct gspace *gs;
	gfn_t gfn;
	u32 slot;
	u32 block; /* of compressed pages, gfn among them; 0: none */
	bool ahead; /* nobody has asked for it */
	bool retried;
};

static struct {
	struct lock lock;
	enum swap_state state;
	const char *why;
	struct blk_part *part;
	struct slots slots;
	u64 reserved;
	u64 key;
	struct prng prng;
	struct list out_free, in_free;
	u32 out_busy, out_limit; /* records */
	bool in_starved;         /* a touch found no record */
	u32 errors_in_row;
	u32 lost[LOST_MAX], lost_count; /* slots: retired when their page is dropped */
	struct swap_stats stats;        /* counters only */
	struct out_io out[OUT_RECORDS];
	struct in_io in[IN_RECORDS];
} swap;

static const char *kept_off; /* by the operator; NULL: not */

static void out_done(struct blk_req *r);
static void in_done(struct blk_req *r);

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
		swap.out[i].req.done = out_done;
		list_add_tail(&swap.out_free, &swap.out[i].link);
	}
	for (u32 i = 0; i < IN_RECORDS; i++) {
		swap.in[i].req.done = in_done;
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

/* Takes a slot off the list of those that could not be read; false: it is not there. */
static bool forget_lost(u32 slot)
{
	for (u32 i = 0; i < swap.lost_count; i++) {
		if (swap.lost[i] != slot)
			continue;
		swap.lost[i] = swap.lost[--swap.lost_count];
		return true;
	}
	return false;
}

void swap_slot_free(u32 slot)
{
	lock_acquire(&swap.lock);
	if (forget_lost(slot))
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

static void fail_tier(const char *why)
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
	fail_tier("the device is gone");
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

/* gfn: of a block ~block, which is no page's. */
static u64 page_sum(const struct digest *digest, const struct gspace *gs, gfn_t gfn, u32 slot)
{
	u64 place = (u64)slot * 0x9e3779b97f4a7c15UL ^ ((u64)gs->id << 32 | gfn) * 0xc2b2ae3d27d4eb4fUL;

	return digest_hash(digest, swap.key ^ place);
}

bool swap_copy_good(const struct gspace *gs, gfn_t gfn, u32 slot, const struct digest *digest)
{
	u64 sum = page_sum(digest, gs, gfn, slot);
	bool good;

	lock_acquire(&swap.lock);
	good = sum == *slots_sum(&swap.slots, slot);
	lock_release(&swap.lock);
	return good;
}

/* With those of pages and blocks on their way out. Pages move from one count to another on other CPUs: so all at once. */
static u32 slots_held(struct gspace *gs)
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
	u32 held = slots_held(gs);

	if (gs->swap_copies && held > gs->swap_reserved)
		gspace_shed_copies(gs, held - gs->swap_reserved);
}

/* The processor's work on n pages, from `start` to now. */
static void count_work(u64 *pages, u32 n, u64 *ns, u64 start)
{
	__atomic_fetch_add(pages, n, __ATOMIC_RELAXED);
	__atomic_fetch_add(ns, platform_now_ns() - start, __ATOMIC_RELAXED);
}

/* ---- out ----------------------------------------------------------------- */

/* How many more pages of gs fit into what was promised to it, if `begun` of those on their way out have no slot yet. */
static u32 quota_of(struct gspace *gs, u32 begun)
{
	u32 held = slots_held(gs);

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

static bool add_victim(struct gspace *gs, struct victims *v, gfn_t gfn)
{
	if (gspace_swap_out_begin(gs, gfn, &v->hfn[v->count]))
		return false;
	v->gfn[v->count++] = gfn;
	return true;
}

/* The next pages from gfn on, as far as they can go out. Those that could only be shared are at once; returns how many were. */
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
 * Random places, and a few neighbours of each: they are often wanted back together. Returns pages that are gone already: shared, or dropped
 * because the VM's disk has them.
 */
static u32 gather(struct gspace *gs, struct victims *v, u32 want)
{
	bool writes = swap_can_out(); /* else only what compresses, or is in swap already, can go */
	struct prng prng;
	u64 dropped = READ_ONCE(gs->stats.clean_out);
	u32 shared = 0;
	gfn_t gfn;

	seed_prng(&prng);
	v->count = 0;
	for (u32 i = 0; i < VICTIM_TRIES && v->count + shared < want; i++) {
		if (!gspace_random_private(gs, &prng, &gfn)) {
			if (!try_shared(gs, v, &prng))
				break;
			continue;
		}
		shared += try_victims(gs, v, gfn, want - v->count - shared, writes);
	}
	return shared + (u32)(READ_ONCE(gs->stats.clean_out) - dropped);
}

static void submit_out(struct out_io *io, const struct digest *digest)
{
	u64 sum[BLK_PAGES_MAX];

	for (u32 i = 0; i < io->req.pages; i++)
		sum[i] = page_sum(&digest[i], io->gs, io->blocks ? ~io->gfn[i] : io->gfn[i], io->slot + i);
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
		bool copy = READ_ONCE(frame_get(v->hfn[i])->flags) & FRAME_F_COPY; /* once gone it does not come again */

		if (!copy || !gspace_swap_out_unchanged(gs, v->gfn[i], v->hfn[i], &v->digest[i]))
			victims_keep(v, i, &left);
	}
	v->count = left;
	lock_acquire(&swap.lock);
	swap.stats.unchanged += before - left;
	lock_release(&swap.lock);
	return before - left;
}

/* Writes what is left of v, as far as there are slots for it; the others stay in v, in order. Slots of pages in RAM are less needed. */
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

/* Copies of blocks of the VM's own disk, a run from where the last one ended: they cost nothing now, and come back together. */
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
 * One batch: dropped because it is in swap as it is, shared, compressed, or written, the last two in the order that pays; what finds
 * no place stays. Returns pages that went, or are on their way.
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
	if (!zip_pays(gs))
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
		fail_tier("the device is gone");
		return;
	}
	log_error("swap", "write of %u pages at slot %u failed (%s): pages stay in memory, slots retired", n, io->slot,
		  err_name(io->req.status));
	if (stop)
		fail_tier("too many write errors in a row");
}

static void out_done(struct blk_req *r)
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

/* ---- in ------------------------------------------------------------------ */

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
		sum = page_sum(&digest, io->gs, what, io->slot);
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

/* Its slot is not to cost the next VM a page. False: more are bad than we can remember. */
static bool note_lost(u32 slot)
{
	bool noted = false;

	lock_acquire(&swap.lock);
	forget_lost(slot);
	if (swap.lost_count < LOST_MAX) {
		swap.lost[swap.lost_count++] = slot;
		noted = true;
	}
	lock_release(&swap.lock);
	return noted;
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
		fail_tier("the device is gone");
	else if (!note_lost(io->slot))
		fail_tier("too many pages could not be read");
	if (!used)
		swap_slot_free(io->slot);
}

static void in_done(struct blk_req *r)
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
