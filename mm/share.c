/*
 * Transparent page sharing: the table of hints and shared frames, and the scanner.
 *
 * How page A (space 1, frame a) comes to share a frame with an equal page. Contents are compared only while nobody can
 * write to either, and two spaces are never locked at once:
 *  1. A is hashed under its space's lock, the guest may be writing meanwhile. No entry with that hash: leave a hint. An
 * entry: go on.
 *  2. If the entry is a hint (page B, space 2, frame b), B is protected: PRIVATE -> SHARED with one reference, no
 *     entry,
 * translations flushed. From here b changes only if B's guest writes: then B, its only mapper, takes b for itself. B
 * moves to a copy in a frame r that nobody chose (lot.h), which gets the entry in the same step. Only such frames are
 * ever shared.
 *  3. A hold is taken on r, while the table is locked and the entry still there. With two references a
 *     write by B copies; r is fixed until the hold ends. A hint tells the past: whether r is what b was, step 5
 * finds out sooner than its hash would.
 *  4. A is protected in the same way. Its frame has no entry, so nobody else can find it.
 *  5. Under space 1's lock: A must still be as step 4 left it (else the guest has written); the pages are compared in
 * full; equal: A maps r, a is freed after the flush. The hold ends.
 *  6. If anything failed, what was protected becomes PRIVATE again. Should that not be possible (others
 *     share it by now) it stays SHARED with what references it has, which is correct as well.
 * Zero pages do steps 4 and 5 against the zero frame, with no table.
 *
 * Only the boot CPU does steps 2 to 6, as deferred work (assert_alone()). "Still as it was left"
 * (steps 2 and 5) is told by state, frame and references, which a guest cannot bring back once it has written: only
 * these steps make a page SHARED that way. A second CPU could, between the page's change and its flush (state and
 * hint's flag go first), and then the first would compare a page that can still be written through a translation from
 * before.
 *
 * A frame has at most one entry, its index in frame->share. FRAME_F_HINT tells a hint from a shared frame. Entries are
 * 16 bytes and heads at most 2 bytes a frame: 0.44 % of RAM when every frame has an entry. A frame with all the
 * references it may have loses its entry, so chains do not fill up with entries of no use.
 *
 * Locking: share.lock (LOCK_RANK_SHARE) guards all of this file's state and every frame->share. FRAME_F_HINT also needs
 * the lock of the space that owns the frame. Owner and gfn of a hint's frame are read under share.lock only, and so may
 * be out of date: step 2 checks them.
 */
#include "mm/share.h"

#include "lib/err.h"
#include "lib/hash.h"
#include "lib/lock.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/prng.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gspace.h"
#include "mm/lot.h"
#include "mm/platform.h"
#include "mm/pool.h"
#include "mm/reclaim.h"
#include "mm/rmap.h"
#include "mm/zip.h"

#define CHAIN_MAX         64   /* entries looked at under one head; more are not kept */
#define FRAMES_PER_HEAD   4    /* at least 2 after rounding to a power of two */
#define RATE_HOST_DEFAULT 8192 /* pages a second: 32 MiB/s */
#define RATE_VM_DEFAULT   2048
#define BURST_PER_SEC     4  /* a bucket holds a quarter of a second's pages */
#define VISITS_PER_PAGE   16 /* pages passed over (not private) for each that may be scanned */

struct entry {
	u64 hash; /* first: the pool links free entries through it */
	hfn_t hfn;
	u32 next;
};
static_assert_size(struct entry, 16);

static u32 hinted[GSPACE_MAX]; /* hints by the space that owns the frame; share.lock */

static struct {
	struct lock lock;
	u64 key;
	struct pool pool;
	hfn_t heads; /* block of u32 indices, HFN_NONE: no table yet */
	u32 heads_order, heads_mask;
	struct prng rnd;
	struct lot lot; /* frames that pages are shared in */
	u32 rate_host, rate_vm;
	u32 credit;
	u64 credit_ns;
	u32 turn; /* atomic: which space the next scan begins with */
	struct share_stats stats;
} share = {
    .lock = LOCK_INIT("share", LOCK_RANK_SHARE),
    .pool = POOL_INIT(sizeof(struct entry)),
    .heads = HFN_NONE,
};

int share_init(u64 key, u64 seed)
{
	lock_init(&share.lock, "share", LOCK_RANK_SHARE);
	share.key = key;
	share.pool = (struct pool)POOL_INIT(sizeof(struct entry));
	share.heads = HFN_NONE;
	share.lot.size = share.lot.count = 0;
	share.credit = 0;
	share.credit_ns = 0;
	share.stats = (struct share_stats){0};
	prng_seed(&share.rnd, seed);
	share_set_rate(RATE_HOST_DEFAULT, RATE_VM_DEFAULT);
	return 0;
}

/* Named ones are odd, others even. */
u64 share_group(const char *name)
{
	static u64 own;

	if (name)
		return hash_bytes(name, strlen(name), share.key) | 1;
	return __atomic_add_fetch(&own, 2, __ATOMIC_RELAXED);
}

void share_set_rate(u32 pages_per_sec_host, u32 pages_per_sec_vm)
{
	lock_acquire(&share.lock);
	share.rate_host = pages_per_sec_host;
	share.rate_vm = pages_per_sec_vm;
	lock_release(&share.lock);
}

/* ---- table: share.lock held ---------------------------------------------- */

static struct entry *entry_at(u32 index)
{
	return pool_at_sized(&share.pool, index, sizeof(struct entry));
}

static u32 *head_of(u64 hash)
{
	return (u32 *)mm_hfn_to_va(share.heads) + (hash & share.heads_mask);
}

/* One head for every FRAMES_PER_HEAD frames of RAM, in one block; a smaller table where no such block is free. */
static u32 heads_order(void)
{
	struct frame_stats f;
	u32 order = 0;

	frame_stats(&f);
	while (order < FRAME_ORDER_MAX && (PAGE_SIZE / sizeof(u32)) << order < f.total / FRAMES_PER_HEAD)
		order++;
	return order;
}

static bool table_make(void)
{
	u32 order;

	for (order = heads_order();; order--) {
		share.heads = frame_alloc(order, FRAME_FOR_TABLE, FRAME_HV, true);
		if (share.heads != HFN_NONE || !order)
			break;
	}
	share.heads_order = order;
	share.heads_mask = ((u32)(PAGE_SIZE / sizeof(u32)) << order) - 1;
	return share.heads != HFN_NONE;
}

static bool table_insert(u64 hash, hfn_t hfn)
{
	u32 length = 0;
	u32 *head, index;

	if (share.heads == HFN_NONE && !table_make())
		return false;
	head = head_of(hash);
	for (u32 i = *head; i && length < CHAIN_MAX; i = entry_at(i)->next)
		length++;
	if (length == CHAIN_MAX || pool_reserve(&share.pool, 1))
		return false;
	index = pool_take(&share.pool);
	*entry_at(index) = (struct entry){.hash = hash, .hfn = hfn, .next = *head};
	*head = index;
	frame_get(hfn)->share = index;
	return true;
}

static void unmark_hint(struct frame *f)
{
	DCHECK(hinted[f->owner] > 0);
	hinted[f->owner]--;
	f->flags &= ~FRAME_F_HINT;
}

static void table_hint(u64 hash, hfn_t hfn)
{
	if (!table_insert(hash, hfn))
		return;
	frame_get(hfn)->flags |= FRAME_F_HINT;
	hinted[frame_get(hfn)->owner]++;
	share.stats.hints++;
}

/* Of the frame, whose entry this is. */
static void table_remove(struct frame *f, hfn_t hfn)
{
	u32 index = f->share;
	struct entry *e = entry_at(index);
	u32 *link = head_of(e->hash);

	CHECK(index && e->hfn == hfn);
	while (*link != index) {
		CHECK(*link);
		link = &entry_at(*link)->next;
	}
	*link = e->next;
	pool_give_at(&share.pool, index, e);
	f->share = 0;
}

/* What an entry says about another page with the same hash. */
struct match {
	hfn_t hfn; /* HFN_NONE: no match */
	bool hint;
	u16 owner; /* of a hint; to be checked */
	gfn_t gfn;
};

/* A shared frame if there is one, else a hint. own is not a match for itself. */
static struct match table_find(u64 hash, hfn_t own)
{
	struct match m = {.hfn = HFN_NONE};
	u32 steps = 0;

	if (share.heads == HFN_NONE)
		return m;
	for (u32 i = *head_of(hash); i && steps < CHAIN_MAX; i = entry_at(i)->next, steps++) {
		const struct entry *e = entry_at(i);
		const struct frame *f;

		if (e->hash != hash || e->hfn == own)
			continue;
		f = frame_get(e->hfn);
		m = (struct match){.hfn = e->hfn, .hint = f->flags & FRAME_F_HINT, .owner = f->owner, .gfn = f->gfn};
		if (!m.hint)
			break;
	}
	return m;
}

/* Short, for many pages of which few have a match. */
static bool table_has_other(u64 hash, hfn_t own)
{
	u32 steps = 0;

	for (u32 i = *head_of(hash); i && steps < CHAIN_MAX; steps++) {
		const struct entry *e = entry_at(i);

		if (e->hash == hash && e->hfn != own)
			return true;
		i = e->next;
	}
	return false;
}

static bool table_has(u64 hash, hfn_t hfn)
{
	u32 i = share.heads == HFN_NONE ? 0 : *head_of(hash);

	while (i && (entry_at(i)->hash != hash || entry_at(i)->hfn != hfn))
		i = entry_at(i)->next;
	return i;
}

/* ---- frame-side bookkeeping ---------------------------------------------- */

bool share_enter(u64 hash, hfn_t hfn)
{
	bool made;

	lock_acquire(&share.lock);
	made = table_insert(hash, hfn);
	lock_release(&share.lock);
	return made;
}

u32 share_hinted(u16 space)
{
	return READ_ONCE(hinted[space]);
}

void share_forget_hints(const hfn_t *hfn, u32 n)
{
	lock_acquire(&share.lock);
	for (u32 i = 0; i < n; i++) {
		struct frame *f = frame_get(hfn[i]);

		if (!(f->flags & FRAME_F_HINT))
			continue;
		table_remove(f, hfn[i]);
		unmark_hint(f);
	}
	lock_release(&share.lock);
}

void share_forget_hint(hfn_t hfn)
{
	CHECK(frame_get(hfn)->flags & FRAME_F_HINT);
	share_forget_hints(&hfn, 1);
}

void share_forget_shared(hfn_t hfn)
{
	struct frame *f = frame_get(hfn);

	lock_acquire(&share.lock);
	if (f->share)
		table_remove(f, hfn);
	lock_release(&share.lock);
}

void share_note_cow(void)
{
	__atomic_fetch_add(&share.stats.cow_breaks, 1, __ATOMIC_RELAXED);
}

void share_release(void)
{
	lock_acquire(&share.lock);
	pool_release(&share.pool);
	lot_release(&share.lot);
	if (share.heads != HFN_NONE)
		frame_free(share.heads, share.heads_order);
	share.heads = HFN_NONE;
	lock_release(&share.lock);
}

/* ---- one page ------------------------------------------------------------ */

enum look { LOOK_SKIPPED, LOOK_NOTHING, LOOK_ZERO, LOOK_MATCH };

struct candidate {
	struct gspace *gs;
	gfn_t gfn;
	hfn_t hfn;
	u64 hash;
	struct match match;
	bool out; /* on its way out: unmapped already */
	int err;  /* the last one of merge() */
};

/* No other CPU shares pages: see above. */
static void assert_alone(void)
{
	CHECK(platform_this_cpu()->id == 0);
}

static u64 group_key(const struct gspace *gs)
{
	return share.key ^ gs->share_group;
}

static u64 page_hash(const struct gspace *gs, hfn_t hfn)
{
	return hash_page(mm_hfn_to_va(hfn), group_key(gs));
}

/*
 * Hashes the page and finds a match; without one leaves a hint if asked to. gs->lock held. Large pages: the scanner,
 * who leaves hints, passes them by in times of plenty. Else it looks into them, and only a page that has a match makes
 * one break.
 */
static enum look look_locked(struct candidate *c, bool hint)
{
	const void *page;
	struct frame *f;

	c->hfn = gspace_private_hfn(c->gs, c->gfn, !hint || !reclaim_plenty());
	if (c->hfn == HFN_NONE)
		return LOOK_SKIPPED;
	page = mm_hfn_to_va(c->hfn);
	if (page_is_zero(page))
		return LOOK_ZERO;
	c->hash = page_hash(c->gs, c->hfn);
	f = frame_get(c->hfn);

	lock_acquire(&share.lock);
	c->match = table_find(c->hash, c->hfn);
	if (c->match.hfn == HFN_NONE && hint && !(f->share && entry_at(f->share)->hash == c->hash)) {
		if (f->share)
			table_remove(f, c->hfn); /* the page has changed since */
		if (f->flags & FRAME_F_HINT)
			unmark_hint(f);
		table_hint(c->hash, c->hfn);
	}
	lock_release(&share.lock);
	return c->match.hfn == HFN_NONE ? LOOK_NOTHING : LOOK_MATCH;
}

/* Step 3. The frame may be anything by now unless its entry is still there. */
static bool hold(hfn_t hfn, u64 hash)
{
	bool ok;

	lock_acquire(&share.lock);
	ok = table_has(hash, hfn) && !(frame_get(hfn)->flags & FRAME_F_HINT) && rmap_hold(hfn);
	lock_release(&share.lock);
	return ok;
}

static void count_false_match(void)
{
	lock_acquire(&share.lock);
	share.stats.false_matches++;
	lock_release(&share.lock);
}

/* Steps 4 and 5, with a hold on the match. */
static bool merge(struct candidate *c, bool promoted)
{
	c->err = c->out ? gspace_out_merge(c->gs, c->gfn, c->hfn, c->match.hfn)
			: gspace_share_protect(c->gs, c->gfn, c->hfn, false);
	if (c->err || c->out)
		return !c->err;
	c->err = gspace_share_merge(c->gs, c->gfn, c->hfn, c->match.hfn);
	if (!c->err)
		return true;
	if (c->err == E_INVAL && !promoted && page_hash(c->gs, c->hfn) == c->hash)
		count_false_match();
	gspace_share_undo(c->gs, c->gfn, c->hfn);
	return false;
}

/* Steps 3 to 5. promoted: the match was a hint until step 2. */
static bool join_shared(struct candidate *c, bool promoted)
{
	hfn_t with = c->match.hfn;
	bool joined;

	if (!hold(with, c->hash))
		return false;
	joined = merge(c, promoted);
	if (rmap_refs(with) > RMAP_REFS_MAX) /* our hold included: it is full */
		share_forget_shared(with);
	gspace_share_drop(c->gs, with);
	return joined;
}

/* The frame for the next page that is shared. What the last one left behind has been freed by now. */
static hfn_t draw_frame(void)
{
	hfn_t hfn;

	lock_acquire(&share.lock);
	lot_fill(&share.lot, &share.rnd);
	hfn = lot_draw(&share.lot, &share.rnd);
	lock_release(&share.lock);
	return hfn;
}

static void return_frame(hfn_t hfn)
{
	lock_acquire(&share.lock);
	lot_return(&share.lot, hfn);
	lock_release(&share.lock);
}

/* Step 2. Afterwards c's match is a shared frame; false: it has none. */
static bool promote(struct candidate *c, struct gspace *other)
{
	struct match *m = &c->match;
	hfn_t to = draw_frame();

	if (to == HFN_NONE)
		return false;
	if (gspace_share_protect(other, m->gfn, m->hfn, true)) {
		return_frame(to);
		return false;
	}
	if (gspace_share_move(other, m->gfn, m->hfn, to, c->hash)) {
		return_frame(to);
		gspace_share_undo(other, m->gfn, m->hfn);
		return false;
	}
	m->hfn = to;
	return true;
}

/* Steps 2 to 6 with a hint. */
static bool join_hint(struct candidate *c)
{
	struct gspace *other = gspace_get(c->match.owner);
	bool joined = false;

	if (!other)
		return false;
	if (promote(c, other)) {
		joined = join_shared(c, true);
		if (!joined)
			gspace_share_undo(other, c->match.gfn, c->match.hfn);
	}
	gspace_put(other);
	return joined;
}

static void count_look(enum look look, bool done, u64 ns)
{
	lock_acquire(&share.lock);
	share.stats.scanned++;
	if (look == LOOK_NOTHING) {
		share.stats.unique++;
		share.stats.unique_ns += ns;
	} else if (look == LOOK_MATCH && done) {
		share.stats.joined++;
		share.stats.joined_ns += ns;
	}
	if (done && look == LOOK_ZERO)
		share.stats.zero_found++;
	if (done && look == LOOK_MATCH)
		share.stats.matches++;
	lock_release(&share.lock);
}

/*
 * True in *done if the page is shared or zero now. False if there was nothing to scan. start: of the work on this page.
 */
static bool share_page(struct gspace *gs, gfn_t gfn, bool hint, u64 start, bool *done)
{
	struct candidate c = {.gs = gs, .gfn = gfn};
	enum look look;

	assert_alone();
	lock_acquire(&gs->lock);
	look = look_locked(&c, hint);
	lock_release(&gs->lock);
	*done = false;
	if (look == LOOK_SKIPPED)
		return false;
	if (look == LOOK_ZERO)
		*done = !gspace_share_zero(gs, gfn);
	else if (look == LOOK_MATCH)
		*done = c.match.hint ? join_hint(&c) : join_shared(&c, false);
	count_look(look, *done, platform_now_ns() - start);
	return true;
}

bool share_offer(struct gspace *gs, gfn_t gfn)
{
	bool done;

	return share_page(gs, gfn, false, platform_now_ns(), &done) && done;
}

static int offer_out(struct candidate *c)
{
	if (page_is_zero(mm_hfn_to_va(c->hfn))) {
		c->err = gspace_out_zero(c->gs, c->gfn, c->hfn);
		if (!c->err)
			__atomic_fetch_add(&share.stats.zero_found, 1, __ATOMIC_RELAXED);
		if (c->err != E_INVAL)
			return c->err;
	}
	lock_acquire(&share.lock);
	c->match = table_find(c->hash, c->hfn);
	lock_release(&share.lock);
	c->err = E_NOENT;
	if (c->match.hfn != HFN_NONE && (c->match.hint ? join_hint(c) : join_shared(c, false))) {
		__atomic_fetch_add(&share.stats.matches, 1, __ATOMIC_RELAXED);
		return 0;
	}
	return c->err == E_BUSY ? E_BUSY : E_NOENT;
}

/* Bit i: there is an entry like hash[i]. */
static u64 matches_of(const u64 *hash, const struct victims *v)
{
	u64 found = 0;

	lock_acquire(&share.lock);
	for (u32 i = 0; i < v->count && share.heads != HFN_NONE; i++)
		found |= (u64)table_has_other(hash[i], v->hfn[i]) << i;
	lock_release(&share.lock);
	return found;
}

u32 share_offer_out(struct gspace *gs, struct victims *v)
{
	u64 hash[BLK_PAGES_MAX], key = group_key(gs), found;
	u32 left = 0, shared = 0, offered = v->count - v->unshared;

	assert_alone();
	for (u32 i = 0; i < v->count; i++)
		hash[i] = digest_hash(&v->digest[i], key);
	found = matches_of(hash, v);
	for (u32 i = 0; i < v->count; i++) {
		struct candidate c = {.gs = gs, .gfn = v->gfn[i], .hfn = v->hfn[i], .hash = hash[i], .out = true};
		int err = E_NOENT;

		/* one of many, or perhaps a page of zeroes */
		if (i < offered && (found >> i & 1 || !*(const u64 *)mm_hfn_to_va(v->hfn[i])))
			err = offer_out(&c);
		shared += !err;
		if (err == E_NOENT)
			victims_keep(v, i, &left);
	}
	v->count = left;
	return shared;
}

/* ---- scanner ------------------------------------------------------------- */

/* Token bucket: adds what has accrued since *since; returns what it holds. */
static u32 bucket_fill(u32 *credit, u64 *since, u32 rate, u64 now)
{
	u32 most = rate / BURST_PER_SEC + 1;
	u64 elapsed = MIN(now - *since, NSEC_PER_SEC);
	u64 more = elapsed * rate / NSEC_PER_SEC;

	if (!rate)
		return *credit = 0;
	if (elapsed == NSEC_PER_SEC)
		*since = now;
	else
		*since += more * NSEC_PER_SEC / rate;
	*credit = MIN(*credit + more, most);
	return *credit;
}

/*
 * The i-th page of a pass over `pages`: a permutation of all of them by a four-round Feistel network over the next even
 * number of bits, walked on until it falls within range (less than 4 steps on average).
 */
static gfn_t pass_order(u64 key, u32 i, u32 pages)
{
	u32 half = 1;

	while (half < 16 && 1UL << (2 * half) < pages)
		half++;
	do {
		u32 left = i >> half, right = i & ((1U << half) - 1);

		for (u32 round = 0; round < 4; round++) {
			u64 mix = (right + key + round) * 0x9e3779b97f4a7c15UL;
			u32 next = (left ^ mix >> 40) & ((1U << half) - 1);

			left = right;
			right = next;
		}
		i = left << half | right;
	} while (i >= pages);
	return i;
}

/* The next page of gs to look at; a new order for each pass. */
static gfn_t scan_next(struct gspace *gs)
{
	gfn_t gfn;

	lock_acquire(&share.lock);
	if (!gs->scan_key || gs->scan_pos >= gs->pages) {
		gs->scan_key = prng_next(&share.rnd) | 1;
		gs->scan_pos = 0;
	}
	gfn = pass_order(gs->scan_key, gs->scan_pos++, gs->pages);
	lock_release(&share.lock);
	return gfn;
}

/* How many pages of gs may be scanned now: both buckets allow them. */
static u32 scan_allowance(struct gspace *gs, u32 want)
{
	u64 now = platform_now_ns();
	u32 host, vm;

	lock_acquire(&share.lock);
	host = bucket_fill(&share.credit, &share.credit_ns, share.rate_host, now);
	vm = bucket_fill(&gs->scan_credit, &gs->scan_ns, share.rate_vm, now);
	lock_release(&share.lock);
	return MIN(want, MIN(host, vm));
}

static void scan_charge(struct gspace *gs, u32 pages)
{
	lock_acquire(&share.lock);
	share.credit -= MIN(pages, share.credit);
	gs->scan_credit -= MIN(pages, gs->scan_credit);
	lock_release(&share.lock);
}

static u32 scan_space(struct gspace *gs, u32 want)
{
	u32 allowed = gs->dying ? 0 : scan_allowance(gs, want);
	u32 scanned = 0;

	for (u32 visits = allowed * VISITS_PER_PAGE; visits && scanned < allowed; visits--) {
		u64 start = platform_now_ns();
		bool done;

		scanned += share_page(gs, scan_next(gs), true, start, &done);
	}
	scan_charge(gs, scanned);
	return scanned;
}

/* Each space once, an equal part of what is left for each; begins with another one every time. */
static u32 scan_spaces(u32 budget)
{
	struct gspace *gs = NULL;
	u32 spaces = 0, scanned = 0;

	while ((gs = gspace_next(gs)))
		spaces++;
	if (!spaces)
		return 0;
	for (u32 skip = __atomic_fetch_add(&share.turn, 1, __ATOMIC_RELAXED) % spaces + 1; skip; skip--)
		gs = gspace_next(gs);
	for (u32 left = spaces; left && scanned < budget; left--) {
		scanned += scan_space(gs, DIV_ROUND_UP(budget - scanned, left));
		gs = gspace_next(gs);
		if (!gs)
			gs = gspace_next(NULL);
	}
	return scanned;
}

u32 share_scan(u32 budget)
{
	u64 start = platform_now_ns();
	u32 scanned = scan_spaces(budget);

	lock_acquire(&share.lock);
	share.stats.scan_ns += platform_now_ns() - start;
	lock_release(&share.lock);
	return scanned;
}

u64 share_frames_for(u64 pages)
{
	struct frame_stats f;

	frame_stats(&f); /* no frame has more than one entry */
	return pages
		   ? lot_frames() + (1UL << heads_order()) + pool_frames_for(sizeof(struct entry), MIN(pages, f.total))
		   : 0;
}

void share_stats(struct share_stats *out)
{
	u64 host[PAGE_STATES];

	lock_acquire(&share.lock);
	*out = share.stats;
	out->table_bytes = pool_bytes(&share.pool) + (u64)share.lot.count * PAGE_SIZE;
	if (share.heads != HFN_NONE)
		out->table_bytes += PAGE_SIZE << share.heads_order;
	lock_release(&share.lock);
	gspace_host_counts(host);
	out->shared_frames = frame_state_count(FRAME_SHARED);
	out->shared_pages = host[PAGE_SHARED];
}
