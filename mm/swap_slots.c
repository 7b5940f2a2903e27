/* See swap_slots.h. Two levels: dir[] -> frame of struct entry -> frame of struct chunk. */
#include "mm/swap_slots.h"

#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define MAP_WORDS     8U
#define DIR_ENTRIES   512U
#define SEARCH_CHUNKS 1024U /* chunks looked at in one allocation: 2 GiB of swap */

struct chunk {
	u64 sum[SLOTS_PER_CHUNK];
	u64 map[MAP_WORDS]; /* 1: taken, retired or no such slot */
};
static_assert_size(struct chunk, PAGE_SIZE);

struct entry {
	hfn_t hfn;
	u16 free; /* slots of the chunk that can be had */
	u16 pad;
};
static_assert_size(struct entry, PAGE_SIZE / DIR_ENTRIES);

void slots_init(struct slots *s, u64 total)
{
	memset(s, 0, sizeof(*s));
	s->total = MIN(total, SLOTS_MAX);
}

static u32 chunks_for(u64 slots)
{
	return (u32)DIV_ROUND_UP(slots, SLOTS_PER_CHUNK);
}

/* Slots of a chunk: fewer in the partition's last. */
static u32 chunk_slots(const struct slots *s, u32 c)
{
	return (u32)MIN(s->total - (u64)c * SLOTS_PER_CHUNK, SLOTS_PER_CHUNK);
}

static struct entry *entry_of(struct slots *s, u32 c)
{
	return (struct entry *)mm_hfn_to_va(s->dir[c / DIR_ENTRIES]) + c % DIR_ENTRIES;
}

static struct chunk *chunk_of(struct slots *s, u32 c)
{
	return mm_hfn_to_va(entry_of(s, c)->hfn);
}

static bool taken(const struct chunk *k, u32 bit)
{
	return k->map[bit / 64] >> bit % 64 & 1;
}

static void set_taken(struct chunk *k, u32 bit, bool on)
{
	if (on)
		k->map[bit / 64] |= BIT(bit % 64);
	else
		k->map[bit / 64] &= ~BIT(bit % 64);
}

/* Not for guests, but to be had as guests' memory is: the reserve is for keeping going, not for new promises. */
static hfn_t new_frame(void)
{
	return frame_alloc(0, FRAME_FOR_GUEST, FRAME_HV, true);
}

static int add_chunk(struct slots *s, u32 c)
{
	bool new_dir = c % DIR_ENTRIES == 0;
	hfn_t dir = new_dir ? new_frame() : s->dir[c / DIR_ENTRIES], hfn;
	struct chunk *k;

	if (dir == HFN_NONE)
		return E_NOMEM;
	hfn = new_frame();
	if (hfn == HFN_NONE) {
		if (new_dir)
			frame_free(dir, 0);
		return E_NOMEM;
	}
	s->dir[c / DIR_ENTRIES] = dir;
	*entry_of(s, c) = (struct entry){.hfn = hfn, .free = (u16)chunk_slots(s, c)};
	k = chunk_of(s, c);
	for (u32 bit = chunk_slots(s, c); bit < MAP_WORDS * 64; bit++)
		set_taken(k, bit, true);
	s->active += chunk_slots(s, c);
	return 0;
}

int slots_grow(struct slots *s, u64 want)
{
	int err = 0;

	want = MIN(want, s->total);
	while (!err && s->active < want)
		err = add_chunk(s, chunks_for(s->active));
	return err;
}

u64 slots_frames(const struct slots *s, u64 want)
{
	u32 chunks = chunks_for(MIN(want, s->total));

	return chunks + DIV_ROUND_UP(chunks, DIR_ENTRIES);
}

static void drop_chunk(struct slots *s, u32 c)
{
	frame_free(entry_of(s, c)->hfn, 0);
	if (c % DIR_ENTRIES == 0)
		frame_free(s->dir[c / DIR_ENTRIES], 0);
	s->active -= chunk_slots(s, c);
	if (s->chunk == c)
		s->chunk = s->bit = 0;
}

void slots_shrink(struct slots *s, u64 want, u32 budget)
{
	for (; budget && s->active; budget--) {
		u32 last = chunks_for(s->active) - 1, n = chunk_slots(s, last);

		/* A chunk with retired slots stays: it alone remembers them. */
		if (s->active - n < want || entry_of(s, last)->free != n)
			return;
		drop_chunk(s, last);
	}
}

/* First run of `want` free slots at or after bit `from`, else the longest there is. */
static u32 find_run(const struct chunk *k, u32 from, u32 want, u32 *start)
{
	u32 best = 0;

	for (u32 bit = from; bit < SLOTS_PER_CHUNK && best < want;) {
		u32 len = 0;

		while (len < want && bit + len < SLOTS_PER_CHUNK && !taken(k, bit + len))
			len++;
		if (len > best) {
			best = len;
			*start = bit;
		}
		bit += len + 1;
	}
	return best;
}

u32 slots_alloc(struct slots *s, u32 want, u32 *first)
{
	u32 chunks = chunks_for(s->active), n, start = 0;

	/* One more than there are: the first chunk is looked at again from its start. */
	for (u32 i = 0; want && i <= MIN(chunks, SEARCH_CHUNKS) && chunks; i++, s->bit = 0, s->chunk++) {
		if (s->chunk >= chunks)
			s->chunk = 0;
		if (!entry_of(s, s->chunk)->free)
			continue;
		n = find_run(chunk_of(s, s->chunk), s->bit, want, &start);
		if (!n)
			continue;
		for (u32 j = 0; j < n; j++)
			set_taken(chunk_of(s, s->chunk), start + j, true);
		entry_of(s, s->chunk)->free -= (u16)n;
		s->used += n;
		s->bit = start + n;
		*first = s->chunk * SLOTS_PER_CHUNK + start;
		return n;
	}
	return 0;
}

static void check_taken(struct slots *s, u32 slot)
{
	CHECK(slot < s->active && taken(chunk_of(s, slot / SLOTS_PER_CHUNK), slot % SLOTS_PER_CHUNK));
}

void slots_free(struct slots *s, u32 slot)
{
	check_taken(s, slot);
	set_taken(chunk_of(s, slot / SLOTS_PER_CHUNK), slot % SLOTS_PER_CHUNK, false);
	entry_of(s, slot / SLOTS_PER_CHUNK)->free++;
	s->used--;
}

void slots_retire(struct slots *s, u32 slot)
{
	check_taken(s, slot);
	s->used--; /* and not free: its bit stays set */
	s->bad++;
}

u64 *slots_sums(struct slots *s, u32 first, u32 n)
{
	CHECK(n && first / SLOTS_PER_CHUNK == (first + n - 1) / SLOTS_PER_CHUNK);
	check_taken(s, first);
	check_taken(s, first + n - 1);
	return &chunk_of(s, first / SLOTS_PER_CHUNK)->sum[first % SLOTS_PER_CHUNK];
}

u64 *slots_sum(struct slots *s, u32 slot)
{
	return slots_sums(s, slot, 1);
}
