/* See zpool.h. */
#include "mm/zpool.h"

#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"

/* Blocks: in RAM; being written (in RAM, too); away; being read. */
enum kind { KIND_FREE, KIND_ENTRY, KIND_SAME, KIND_BLOCK, KIND_WRITING, KIND_AWAY, KIND_READING };

struct entry {
	u32 next; /* in its block; first: the pool links free records through it */
	gfn_t gfn;
	u64 sum;
	union {
		u64 word; /* KIND_SAME */
		struct {
			u32 block;
			u16 bytes;
		};
	};
	u8 at; /* first unit */
	u8 pad[6];
	u8 kind;
};

struct block {
	u32 older;
	u32 newer;
	u64 taken; /* units */
	hfn_t hfn;
	u32 first; /* entry */
	u32 slot;  /* KIND_AWAY, KIND_READING */
	u16 entries;
	u8 run; /* longest run of free units */
	u8 kind;
};

_Static_assert(KIND_READING + 1 == ZPOOL_KINDS, "kinds");
/* What kind a record is can be told of any. */
_Static_assert(offsetof(struct entry, kind) == offsetof(struct block, kind), "kind");

union record {
	struct entry entry;
	struct block block;
};
static_assert_size(union record, ZPOOL_RECORD_BYTES);

void zpool_init(struct zpool *z)
{
	*z = (struct zpool){.records = POOL_INIT(sizeof(union record))};
}

static inline void *record_at(const struct zpool *z, u32 index)
{
	return pool_at_sized(&z->records, index, sizeof(union record));
}

static struct entry *entry_at(const struct zpool *z, u32 index)
{
	struct entry *e = record_at(z, index);

	CHECK(e->kind == KIND_ENTRY || e->kind == KIND_SAME);
	return e;
}

static struct block *block_at(const struct zpool *z, u32 index)
{
	struct block *b = record_at(z, index);

	CHECK(b->kind >= KIND_BLOCK && b->kind <= KIND_READING);
	return b;
}

/* For a proof under way. */
static inline bool is_behind(const struct zpool *z, u32 index)
{
	return unlikely(index < z->proof.at);
}

/* The only writer of kinds: *is, of record `index`. */
static inline void set_kind(struct zpool *z, u32 index, u8 *is, enum kind kind)
{
	if (is_behind(z, index)) {
		z->proof.kinds[*is]--;
		z->proof.kinds[kind]++;
	}
	*is = kind;
}

/* An entry with so much data comes to the block, or goes (sign -1). */
static inline void follow_data(struct zpool *z, u32 entry, u32 block, u32 bytes, s32 sign)
{
	if (is_behind(z, entry))
		z->proof.bytes += (u64)((s64)bytes * sign);
	if (is_behind(z, block))
		z->proof.in_blocks += (u32)sign;
}

/* ---- units --------------------------------------------------------------- */

static u32 units_of(u32 bytes)
{
	return DIV_ROUND_UP(bytes, ZPOOL_UNIT);
}

static u64 run_mask(u32 at, u32 units)
{
	return (units == ZPOOL_UNITS ? ~0UL : BIT(units) - 1) << at;
}

/* Bit i: a run of `units` free units begins at unit i. */
static u64 runs(u64 taken, u32 units)
{
	u64 starts = ~taken;

	for (u32 have = 1; have < units;) {
		u32 more = MIN(have, units - have);

		starts &= starts >> more;
		have += more;
	}
	return starts;
}

/* Bit i of `have`: a run of `run` begins there. Doubled as long as one is left, then by halves. */
static u32 longest_run(u64 taken)
{
	u64 have[7] = {~taken}, left;
	u32 run = 1, n = 0;

	if (!have[0])
		return 0;
	for (; n < 6 && (have[n] & have[n] >> run); n++, run *= 2)
		have[n + 1] = have[n] & have[n] >> run;
	if (run == ZPOOL_UNITS)
		return run;
	for (left = have[n]; n--;) {
		u64 longer = left & have[n] >> run;

		if (longer) {
			left = longer;
			run += 1U << n;
		}
	}
	return run;
}

/* ---- open blocks --------------------------------------------------------- */

/* Which of the open blocks `units` fit into best; ZPOOL_OPEN: none. */
static u32 find_open(const struct zpool *z, u32 units)
{
	u32 found = ZPOOL_OPEN, best = ZPOOL_UNITS + 1;

	for (u32 i = 0; i < ZPOOL_OPEN; i++) {
		if (z->open_run[i] >= units && z->open_run[i] < best) {
			best = z->open_run[i];
			found = i;
		}
	}
	return found;
}

/* The block's run is another now: it is open if it was, or has more room than another that is. */
static void consider_open(struct zpool *z, u32 index)
{
	u32 run = block_at(z, index)->run, least = run, place = ZPOOL_OPEN;

	for (u32 i = 0; i < ZPOOL_OPEN; i++) {
		if (z->open[i] == index) {
			place = i;
			break;
		}
		if (z->open_run[i] < least) {
			least = z->open_run[i];
			place = i;
		}
	}
	if (place == ZPOOL_OPEN)
		return;
	z->open[place] = index;
	z->open_run[place] = (u8)run;
}

static void close_block(struct zpool *z, u32 index)
{
	for (u32 i = 0; i < ZPOOL_OPEN; i++)
		if (z->open[i] == index)
			z->open[i] = z->open_run[i] = 0;
}

/* ---- blocks -------------------------------------------------------------- */

static void list_newest(struct zpool *z, u32 index)
{
	struct block *b = block_at(z, index);

	b->older = z->newest;
	b->newer = 0;
	if (z->newest)
		block_at(z, z->newest)->newer = index;
	else
		z->oldest = index;
	z->newest = index;
}

/* Out of the list, and closed. */
static void unlist(struct zpool *z, u32 index)
{
	struct block *b = block_at(z, index);

	if (b->older)
		block_at(z, b->older)->newer = b->newer;
	else
		z->oldest = b->newer;
	if (b->newer)
		block_at(z, b->newer)->older = b->older;
	else
		z->newest = b->older;
	close_block(z, index);
}

/* Two records are promised: the block's and its first entry's. */
static u32 block_make(struct zpool *z)
{
	hfn_t hfn = frame_alloc(0, FRAME_FOR_TABLE, FRAME_ZIP, false);
	struct block *b;
	u32 index;

	if (hfn == HFN_NONE)
		return 0;
	index = pool_take(&z->records);
	b = record_at(z, index);
	*b = (struct block){.hfn = hfn, .run = ZPOOL_UNITS};
	set_kind(z, index, &b->kind, KIND_BLOCK);
	list_newest(z, index);
	z->frames++;
	return index;
}

static void record_end(struct zpool *z, u32 index)
{
	set_kind(z, index, &block_at(z, index)->kind, KIND_FREE);
	pool_give(&z->records, index);
}

/* The last entry has left the block. Those with a transfer wait for its end. Returns the slot that is free now. */
static u32 block_empty(struct zpool *z, u32 index)
{
	struct block *b = block_at(z, index);
	u32 slot = ZPOOL_NO_SLOT;

	switch (b->kind) {
	case KIND_BLOCK:
		unlist(z, index);
		frame_free(b->hfn, 0);
		z->frames--;
		record_end(z, index);
		break;
	case KIND_AWAY:
		slot = b->slot;
		z->away--;
		record_end(z, index);
		break;
	default:
		break;
	}
	return slot;
}

static u8 *data_of(const struct zpool *z, const struct entry *e)
{
	return (u8 *)mm_hfn_to_va(block_at(z, e->block)->hfn) + e->at * ZPOOL_UNIT;
}

/* ---- entries ------------------------------------------------------------- */

static u32 entry_make(struct zpool *z, const struct zpage *page, enum kind kind)
{
	u32 index = pool_take(&z->records);
	struct entry *e = record_at(z, index);

	*e = (struct entry){.gfn = page->gfn, .sum = page->sum, .word = page->word};
	set_kind(z, index, &e->kind, kind);
	z->entries++;
	return index;
}

static u32 put_data(struct zpool *z, const struct zpage *page, u32 block)
{
	u32 index = entry_make(z, page, KIND_ENTRY), units = units_of(page->bytes);
	struct entry *e = entry_at(z, index);
	struct block *b = block_at(z, block);

	e->block = block;
	e->bytes = page->bytes;
	e->at = __builtin_ctzl(runs(b->taken, units));
	e->next = b->first;
	b->first = index;
	b->entries++;
	b->taken |= run_mask(e->at, units);
	b->run = longest_run(b->taken);
	memcpy(data_of(z, e), page->data, page->bytes);
	z->bytes += page->bytes;
	follow_data(z, index, block, page->bytes, 1);
	return index;
}

int zpool_put(struct zpool *z, const struct zpage *page, u32 max_frames, u32 *handle)
{
	u32 block = 0, place;
	int err;

	if (page->bytes > ZPOOL_BYTES_MAX)
		return E_2BIG;
	if (z->most && z->records.used + 2 > z->most)
		return E_NOSPC;
	err = pool_reserve(&z->records, 2);
	if (err)
		return err;
	if (!page->bytes) {
		*handle = entry_make(z, page, KIND_SAME);
		z->same++;
		pool_unreserve(&z->records, 1);
		return 0;
	}
	place = find_open(z, units_of(page->bytes));
	if (place < ZPOOL_OPEN) {
		block = z->open[place];
		pool_unreserve(&z->records, 1);
	} else {
		err = z->frames >= max_frames ? E_NOSPC : E_NOMEM;
		if (err == E_NOMEM)
			block = block_make(z);
		if (!block) {
			pool_unreserve(&z->records, 2);
			return err;
		}
	}
	*handle = put_data(z, page, block);
	if (place < ZPOOL_OPEN)
		z->open_run[place] = block_at(z, block)->run;
	else
		consider_open(z, block);
	return 0;
}

void zpool_look(const struct zpool *z, u32 handle, struct zpage *page)
{
	const struct entry *e = entry_at(z, handle);

	*page = (struct zpage){.gfn = e->gfn, .sum = e->sum};
	if (e->kind == KIND_SAME) {
		page->word = e->word;
		return;
	}
	page->bytes = e->bytes;
	if (zpool_here(z, handle))
		page->data = data_of(z, e);
}

/* Units and place of an entry of a block are free again. */
static u32 drop_data(struct zpool *z, u32 handle)
{
	const struct entry *e = entry_at(z, handle);
	struct block *b = block_at(z, e->block);
	u32 index = e->block, *link = &b->first;

	while (*link != handle)
		link = &entry_at(z, *link)->next;
	*link = e->next;
	z->bytes -= e->bytes;
	follow_data(z, handle, index, e->bytes, -1);
	b->taken &= ~run_mask(e->at, units_of(e->bytes));
	b->run = longest_run(b->taken);
	if (!--b->entries)
		return block_empty(z, index);
	if (b->kind == KIND_BLOCK)
		consider_open(z, index);
	return ZPOOL_NO_SLOT;
}

u32 zpool_drop(struct zpool *z, u32 handle)
{
	struct entry *e = entry_at(z, handle);
	u32 slot = ZPOOL_NO_SLOT;

	if (e->kind == KIND_SAME)
		z->same--;
	else
		slot = drop_data(z, handle);
	set_kind(z, handle, &e->kind, KIND_FREE);
	z->entries--;
	pool_give(&z->records, handle);
	return slot;
}

/* ---- out of RAM and back ------------------------------------------------- */

/*
 * What lies between the entries is of those that had the frame before, who may be others: it does not go to the disk.
 */
static void clear_gaps(const struct zpool *z, const struct block *b)
{
	u8 *data = mm_hfn_to_va(b->hfn);

	for (u64 left = ~b->taken; left;) {
		u32 at = __builtin_ctzl(left), units = __builtin_ctzl(~(left >> at)); /* not all are free */

		memset(data + at * ZPOOL_UNIT, 0, units * ZPOOL_UNIT);
		left &= ~run_mask(at, units);
	}
	for (u32 i = b->first; i; i = entry_at(z, i)->next) {
		const struct entry *e = entry_at(z, i);

		memset(data_of(z, e) + e->bytes, 0, units_of(e->bytes) * ZPOOL_UNIT - e->bytes);
	}
}

u32 zpool_write_begin(struct zpool *z, hfn_t *hfn)
{
	u32 index = z->oldest;

	if (!index)
		return 0;
	unlist(z, index);
	clear_gaps(z, block_at(z, index));
	set_kind(z, index, &block_at(z, index)->kind, KIND_WRITING);
	z->writing++;
	*hfn = block_at(z, index)->hfn;
	return index;
}

static struct block *end_writing(struct zpool *z, u32 index)
{
	struct block *b = block_at(z, index);

	CHECK(b->kind == KIND_WRITING);
	z->writing--;
	return b;
}

bool zpool_write_done(struct zpool *z, u32 index, u32 slot)
{
	struct block *b = end_writing(z, index);

	frame_free(b->hfn, 0);
	z->frames--;
	if (!b->entries) {
		record_end(z, index);
		return false;
	}
	set_kind(z, index, &b->kind, KIND_AWAY);
	b->slot = slot;
	z->away++;
	return true;
}

/* Is in RAM as if it were new, unless nothing is left of it. */
static bool settle(struct zpool *z, u32 index)
{
	struct block *b = block_at(z, index);

	set_kind(z, index, &b->kind, KIND_BLOCK);
	list_newest(z, index);
	if (b->entries) {
		consider_open(z, index);
		return true;
	}
	block_empty(z, index);
	return false;
}

void zpool_write_failed(struct zpool *z, u32 index)
{
	end_writing(z, index);
	settle(z, index);
}

bool zpool_away(const struct zpool *z, u32 handle, u32 *index, u32 *slot)
{
	const struct block *b;

	*index = entry_at(z, handle)->block;
	b = block_at(z, *index);
	CHECK(b->kind == KIND_AWAY || b->kind == KIND_READING);
	*slot = b->slot;
	return b->kind == KIND_AWAY;
}

void zpool_read_begin(struct zpool *z, u32 index, hfn_t hfn)
{
	struct block *b = block_at(z, index);

	CHECK(b->kind == KIND_AWAY);
	frame_set_state(hfn, FRAME_ZIP);
	set_kind(z, index, &b->kind, KIND_READING);
	b->hfn = hfn;
	z->away--;
	z->frames++;
	z->reading++;
}

static struct block *end_reading(struct zpool *z, u32 index)
{
	struct block *b = block_at(z, index);

	CHECK(b->kind == KIND_READING);
	z->reading--;
	return b;
}

bool zpool_read_done(struct zpool *z, u32 index)
{
	end_reading(z, index);
	return settle(z, index);
}

bool zpool_read_failed(struct zpool *z, u32 index)
{
	struct block *b = end_reading(z, index);

	z->frames--;
	if (!b->entries) {
		record_end(z, index);
		return false;
	}
	set_kind(z, index, &b->kind, KIND_AWAY);
	z->away++;
	return true;
}

u32 zpool_entry_of(const struct zpool *z, u32 index, u32 handle)
{
	return handle ? entry_at(z, handle)->next : block_at(z, index)->first;
}

bool zpool_here(const struct zpool *z, u32 handle)
{
	const struct entry *e = entry_at(z, handle);

	return e->kind == KIND_SAME || block_at(z, e->block)->kind <= KIND_WRITING;
}

void zpool_release(struct zpool *z)
{
	CHECK(!z->entries && !z->frames);
	pool_release(&z->records);
}

/* ---- proof --------------------------------------------------------------- */

/* Neighbours in the list name each other, and its ends are known: with as many in it as there are, it is one list. */
static bool links_are_good(const struct zpool *z, u32 index)
{
	const struct block *b = block_at(z, index);

	if (b->older ? block_at(z, b->older)->newer != index : z->oldest != index)
		return false;
	return b->newer ? block_at(z, b->newer)->older == index : z->newest == index;
}

/* Returns how many entries it has. */
static u32 verify_block(const struct zpool *z, u32 index, struct zpool_proof *v)
{
	const struct block *b = block_at(z, index);
	u64 taken = 0;
	u32 n = 0;

	for (u32 i = b->first; i && n <= ZPOOL_UNITS; i = entry_at(z, i)->next, n++) {
		const struct entry *e = entry_at(z, i);
		u64 mask = run_mask(e->at, units_of(e->bytes));

		v->bad += e->kind != KIND_ENTRY || e->block != index || (taken & mask);
		taken |= mask;
	}
	v->in_blocks += n;
	v->bad += n != b->entries || taken != b->taken || b->run != longest_run(taken);
	v->bad += !n && (b->kind == KIND_BLOCK || b->kind == KIND_AWAY);
	v->bad += b->kind != KIND_AWAY && frame_get(b->hfn)->state != FRAME_ZIP;
	v->bad += b->kind == KIND_BLOCK && !links_are_good(z, index);
	return n;
}

/* Returns what it took, in records. */
static u32 verify_record(const struct zpool *z, u32 index, struct zpool_proof *v)
{
	const union record *r = record_at(z, index);
	u32 kind = r->entry.kind;

	if (kind > KIND_READING) {
		v->bad++;
		return 1;
	}
	v->kinds[kind]++;
	if (kind == KIND_ENTRY)
		v->bytes += r->entry.bytes;
	return kind >= KIND_BLOCK ? 1 + verify_block(z, index, v) : 1;
}

static u64 verify_open(const struct zpool *z)
{
	u64 bad = 0;

	for (u32 i = 0; i < ZPOOL_OPEN; i++)
		bad += z->open[i] ? block_at(z, z->open[i])->kind != KIND_BLOCK ||
					block_at(z, z->open[i])->run != z->open_run[i]
				  : z->open_run[i] != 0;
	return bad;
}

void zpool_verify_begin(struct zpool *z)
{
	z->proof = (struct zpool_proof){.at = 1};
}

bool zpool_verify_some(struct zpool *z, u32 records)
{
	u32 end = z->records.frames * (PAGE_SIZE / sizeof(union record)), took = 0;

	while (z->proof.at < end && took < records)
		took += verify_record(z, z->proof.at++, &z->proof);
	return z->proof.at < end;
}

u64 zpool_verify_end(struct zpool *z)
{
	struct zpool_proof *v = &z->proof;
	u64 bad;

	(void)zpool_verify_some(z, ~0U); /* what has been added since the last piece */
	bad = v->bad + verify_open(z);
	bad += v->kinds[KIND_ENTRY] != v->in_blocks || v->kinds[KIND_SAME] != z->same || v->bytes != z->bytes;
	bad += v->kinds[KIND_ENTRY] + v->kinds[KIND_SAME] != z->entries;
	bad += v->kinds[KIND_WRITING] != z->writing || v->kinds[KIND_READING] != z->reading;
	bad += v->kinds[KIND_AWAY] != z->away;
	bad += v->kinds[KIND_BLOCK] + z->writing + z->reading != z->frames;
	bad += !v->kinds[KIND_BLOCK] != !z->oldest || !z->oldest != !z->newest;
	v->at = 0;
	return bad;
}

u64 zpool_verify(struct zpool *z)
{
	zpool_verify_begin(z);
	return zpool_verify_end(z);
}
