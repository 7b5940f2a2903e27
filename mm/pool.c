/* Pools of small entries; see pool.h. A directory frame holds 1024 frame numbers. */
#include "mm/pool.h"

#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define DIR_ENTRIES POOL_DIR_ENTRIES

static hfn_t *dir_slot(hfn_t dir, u32 i)
{
	return (hfn_t *)mm_hfn_to_va(dir) + i;
}

void *pool_at(const struct pool *p, u32 index)
{
	return pool_at_sized(p, index, p->entry_bytes);
}

static hfn_t pool_frame(void)
{
	return frame_alloc(0, FRAME_FOR_TABLE, FRAME_HV, true);
}

/* The place in the directories for data frame number `chunk`, or NULL. */
static hfn_t *grow_dirs(struct pool *p, u32 chunk)
{
	hfn_t *dir;

	if (p->root == HFN_NONE) {
		p->root = pool_frame();
		if (p->root == HFN_NONE)
			return NULL;
		p->dirs++;
	}
	if (chunk / DIR_ENTRIES >= DIR_ENTRIES)
		return NULL;
	dir = dir_slot(p->root, chunk / DIR_ENTRIES);
	if (chunk % DIR_ENTRIES == 0 && !*dir) {
		hfn_t hfn = pool_frame();

		if (hfn == HFN_NONE)
			return NULL;
		*dir = hfn;
		p->dirs++;
	}
	return dir_slot(*dir, chunk % DIR_ENTRIES);
}

static void free_push(struct pool *p, u32 index, void *entry)
{
	*(u32 *)entry = p->free_head;
	p->free_head = index;
	p->free++;
}

static int grow(struct pool *p)
{
	u32 chunk = p->frames;
	hfn_t *place = grow_dirs(p, chunk);
	hfn_t hfn = place ? pool_frame() : HFN_NONE;

	if (hfn == HFN_NONE)
		return E_NOMEM;
	*place = hfn;
	p->frames++;
	for (u32 i = p->per_frame; i-- > 0;)
		if (chunk || i)
			free_push(p, chunk * p->per_frame + i, pool_at(p, chunk * p->per_frame + i));
	return 0;
}

int pool_reserve(struct pool *p, u32 n)
{
	while (p->free - p->reserved < n) {
		int err = grow(p);

		if (err)
			return err;
	}
	p->reserved += n;
	return 0;
}

void pool_unreserve(struct pool *p, u32 n)
{
	CHECK(p->reserved >= n);
	p->reserved -= n;
}

u32 pool_take(struct pool *p)
{
	u32 index = p->free_head;

	CHECK(index && p->reserved);
	p->free_head = *(u32 *)pool_at(p, index);
	p->free--;
	p->reserved--;
	p->used++;
	return index;
}

void pool_give_at(struct pool *p, u32 index, void *entry)
{
	CHECK(p->used);
	p->used--;
	free_push(p, index, entry);
}

void pool_give(struct pool *p, u32 index)
{
	pool_give_at(p, index, pool_at(p, index));
}

void pool_release(struct pool *p)
{
	CHECK(!p->used && !p->reserved);
	for (u32 c = 0; c < p->frames; c++)
		frame_free(*dir_slot(*dir_slot(p->root, c / DIR_ENTRIES), c % DIR_ENTRIES), 0);
	for (u32 d = 0; p->root != HFN_NONE && d < DIR_ENTRIES; d++)
		if (*dir_slot(p->root, d))
			frame_free(*dir_slot(p->root, d), 0);
	if (p->root != HFN_NONE)
		frame_free(p->root, 0);
	*p = (struct pool)POOL_INIT(p->entry_bytes);
}

u64 pool_frames_for(u32 entry_bytes, u64 n)
{
	u64 data = DIV_ROUND_UP(n + 1, PAGE_SIZE / entry_bytes); /* index 0 is nobody's */

	return n ? data + DIV_ROUND_UP(data, DIR_ENTRIES) + 1 : 0;
}

u64 pool_bytes(const struct pool *p)
{
	return (u64)(p->frames + p->dirs) * PAGE_SIZE;
}
