/*
 * See zip.h. LZ4 is Debian's library, which uses vector registers: mm_vectors_begin() makes them free, once for a batch
 * of pages or one page that comes back; never in an interrupt.
 *
 * A page is compressed while it is unmapped, but a touch may rescue it and write meanwhile (gspace_swap_out_begin):
 * then the result is anything, of bounded length, and gspace_zip_done() throws it away.
 */
#define LZ4_STATIC_LINKING_ONLY
#include <lz4.h>

#include "mm/zip.h"

#include "lib/err.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/platform.h"
#include "mm/swap.h"

/* Room for any page: a failure is one that changed meanwhile. Less than LZ4's own bound, so that it checks. */
#define OUT_BYTES (LZ4_COMPRESSBOUND(PAGE_SIZE) - 1)
#define WORDS     (PAGE_SIZE / sizeof(u64))
/* Frames that a nearly full pool keeps free: what a batch of victims takes, and some, or they find no room. */
#define ROOM_MIN  16U
#define ROOM_MAX  64U
#define USE_MAX   1024U /* fates of pages that are remembered: at so many, all count half */
#define USE_SLACK 64U   /* that are no sign */
#define PROBE     16U   /* one batch of so many is compressed although it does not pay */

static struct {
	struct lock lock;
	u64 key;
	u32 percent;
	bool lz4_good; /* its state is as a success leaves it */
	struct zip_stats stats;
	LZ4_stream_t lz4;
	u8 out[OUT_BYTES] aligned(16);
} zip = {.lock = LOCK_INIT("zip", LOCK_RANK_ZIP)};

void zip_init(u64 key, u32 percent)
{
	lock_init(&zip.lock, "zip", LOCK_RANK_ZIP);
	zip.key = key;
	zip.lz4_good = false;
	zip.stats = (struct zip_stats){0};
	zip_set_percent(percent);
}

void zip_set_percent(u32 percent)
{
	WRITE_ONCE(zip.percent, MIN(percent, ZIP_PERCENT_MAX));
}

u32 zip_max_frames(const struct gspace *gs)
{
	u32 percent = READ_ONCE(zip.percent);

	if (percent && gs->zip_percent)
		percent = gs->zip_percent == ZIP_NONE ? 0 : gs->zip_percent;
	return (u32)((u64)gs->pages * percent / 100);
}

u64 zip_frames_for(u64 pages)
{
	return pool_frames_for(ZPOOL_RECORD_BYTES, pages);
}

bool zip_ready(const struct gspace *gs)
{
	return READ_ONCE(gs->zip.frames) < zip_max_frames(gs);
}

bool zip_pays(struct gspace *gs)
{
	struct zip_use *use = &gs->zip_use;

	return READ_ONCE(use->unread) <= READ_ONCE(use->read) + USE_SLACK || use->batches++ % PROBE == 0;
}

static void note_use(struct gspace *gs, bool read)
{
	struct zip_use *use = &gs->zip_use;

	gs->stats.zip_unread += !read;
	(*(read ? &use->read : &use->unread))++;
	if (use->read + use->unread < USE_MAX)
		return;
	use->read /= 2;
	use->unread /= 2;
}

static void add(u64 *counter, u64 n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static void count(u64 *counter)
{
	add(counter, 1);
}

/* Of what is kept, which is a fraction of the page. */
static u64 sum_of(const struct gspace *gs, const struct zpage *z)
{
	struct digest digest = {.low = z->word};

	if (z->bytes)
		digest = digest_bytes(z->data, z->bytes);
	return digest_hash(&digest, zip.key ^ ((u64)gs->id << 32 | z->gfn) * 0xc2b2ae3d27d4eb4fUL);
}

/* ---- in ------------------------------------------------------------------ */

static bool same_filled(const void *page, u64 *word)
{
	const u64 *w = page;

	*word = w[0];
	for (u32 i = 1; i < WORDS; i++)
		if (w[i] != w[0])
			return false;
	return true;
}

/* Bytes in zip.out; 0: the page is of no use to us. */
static u32 compress(const void *page)
{
	u64 start = platform_now_ns();
	int n;

	if (!zip.lz4_good)
		LZ4_initStream(&zip.lz4, sizeof(zip.lz4));
	n = LZ4_compress_fast_extState_fastReset(&zip.lz4, page, (char *)zip.out, PAGE_SIZE, OUT_BYTES, 1);
	zip.lz4_good = n > 0;
	zip.stats.tried++;
	zip.stats.lz4_in_ns += platform_now_ns() - start;
	return n > 0 && (u32)n <= ZPOOL_BYTES_MAX ? (u32)n : 0;
}

/* True if the page is gone from v: stored, or not to be taken any more. */
static bool store(struct gspace *gs, gfn_t gfn, hfn_t hfn)
{
	const void *page = mm_hfn_to_va(hfn);
	struct zpage z = {.gfn = gfn, .data = zip.out};
	int err;

	if (!same_filled(page, &z.word)) {
		if (frame_get(hfn)->flags & FRAME_F_POOR)
			return false;
		if (!zip_ready(gs)) {
			count(&zip.stats.full);
			return false;
		}
		z.bytes = compress(page);
		if (!z.bytes) {
			count(&zip.stats.poor);
			gspace_mark_poor(gs, gfn, hfn);
			return false;
		}
	}
	z.sum = sum_of(gs, &z);
	err = gspace_zip_done(gs, gfn, hfn, &z);
	if (err == E_BUSY)
		return true;
	if (!err)
		count(&zip.stats.in);
	if (!err && !z.bytes)
		count(&zip.stats.same);
	if (err)
		count(err == E_NOSPC ? &zip.stats.full : &zip.stats.no_memory);
	return !err;
}

u32 zip_store(struct gspace *gs, struct victims *v)
{
	u32 left = 0, before = v->count;
	u64 start = platform_now_ns();

	if (!zip_max_frames(gs))
		return 0;
	lock_acquire(&zip.lock);
	mm_vectors_begin();
	for (u32 i = 0; i < before; i++)
		if (!store(gs, v->gfn[i], v->hfn[i]))
			victims_keep(v, i, &left);
	v->count = left;
	zip.stats.in_ns += platform_now_ns() - start;
	lock_release(&zip.lock);
	return before - left;
}

/* ---- out ----------------------------------------------------------------- */

static bool expand(const struct zpage *z, void *page)
{
	u64 *w = page, start;
	int n;

	if (!z->bytes) {
		for (u32 i = 0; i < WORDS; i++)
			w[i] = z->word;
		return true;
	}
	mm_vectors_begin();
	start = platform_now_ns();
	n = LZ4_decompress_safe(z->data, page, (int)z->bytes, PAGE_SIZE);
	add(&zip.stats.lz4_out_ns, platform_now_ns() - start);
	return n == PAGE_SIZE;
}

int zip_load(struct gspace *gs, gfn_t gfn, u32 handle, void *page)
{
	u64 start = platform_now_ns();
	struct zpage z;

	lock_assert_held(&gs->lock);
	zpool_look(&gs->zip, handle, &z);
	if (z.gfn == gfn && sum_of(gs, &z) == z.sum && expand(&z, page)) {
		count(&zip.stats.out);
		add(&zip.stats.expanded, z.bytes != 0);
		add(&zip.stats.out_ns, z.bytes ? platform_now_ns() - start : 0);
		return 0;
	}
	count(&zip.stats.errors);
	log_error("zip", "the compressed copy of page %#x of %s is damaged", gfn, gs->name);
	return E_IO;
}

void zip_drop(struct gspace *gs, u32 handle, bool read)
{
	u32 slot;

	lock_assert_held(&gs->lock);
	note_use(gs, read);
	slot = zpool_drop(&gs->zip, handle);
	if (slot != ZPOOL_NO_SLOT)
		swap_slot_free(slot);
}

const char *zip_wrong(const struct gspace *gs, gfn_t gfn, u32 handle, bool here)
{
	struct zpage z;

	zpool_look(&gs->zip, handle, &z);
	if (z.gfn != gfn)
		return "its entry is another page's";
	return zpool_here(&gs->zip, handle) == here ? NULL : "its entry is not where its state says";
}

/*
 * Half of what a VM may hold is for pages that it can touch: one that holds nothing else than compressed pages stands
 * still.
 */
static u32 held_most(const struct gspace *gs)
{
	return MAX(MIN(READ_ONCE(gs->target), gs->alloc.limit) / 2, ROOM_MAX);
}

u32 zip_surplus(const struct gspace *gs)
{
	u32 max = zip_max_frames(gs), keep = max - CLAMP(max / 8, MIN(ROOM_MIN, (max + 1) / 2), ROOM_MAX);
	u32 here = READ_ONCE(gs->zip.frames) - READ_ONCE(gs->zip.writing);

	keep = MIN(keep, held_most(gs));
	return here > keep ? here - keep : 0;
}

void zip_stats(struct zip_stats *out)
{
	u64 host[PAGE_STATES];

	lock_acquire(&zip.lock);
	*out = zip.stats;
	lock_release(&zip.lock);
	out->percent = zip.percent;
	gspace_host_counts(host);
	out->pages = host[PAGE_COMPRESSED];
	out->frames = frame_state_count(FRAME_ZIP);
	for (struct gspace *gs = gspace_next(NULL); gs; gs = gspace_next(gs)) {
		out->same_pages += READ_ONCE(gs->zip.same);
		out->bytes += READ_ONCE(gs->zip.bytes);
	}
}
