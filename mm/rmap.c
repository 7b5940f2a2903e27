/* Reverse map of shared frames; see rmap.h. Chains are singly linked, newest mapper first. */
#include "mm/rmap.h"

#include "lib/lock.h"
#include "lib/panic.h"
#include "mm/frame.h"
#include "mm/pool.h"

struct node {
	u32 next; /* first: the pool links free nodes through it */
	gfn_t gfn;
	u16 gspace;
	u16 zero;
};
static_assert_size(struct node, 12);

static struct {
	struct lock lock;
	struct pool pool;
} rmap = {
    .lock = LOCK_INIT("rmap", LOCK_RANK_RMAP),
    .pool = POOL_INIT(sizeof(struct node)),
};

void rmap_init(void)
{
	lock_init(&rmap.lock, "rmap", LOCK_RANK_RMAP);
	rmap.pool = (struct pool)POOL_INIT(sizeof(struct node));
}

static struct node *node_at(u32 index)
{
	return pool_at_sized(&rmap.pool, index, sizeof(struct node));
}

int rmap_prepare(u32 n)
{
	int err;

	lock_acquire(&rmap.lock);
	err = pool_reserve(&rmap.pool, n);
	lock_release(&rmap.lock);
	return err;
}

void rmap_cancel(u32 n)
{
	lock_acquire(&rmap.lock);
	pool_unreserve(&rmap.pool, n);
	lock_release(&rmap.lock);
}

void rmap_add(hfn_t hfn, u16 gspace, gfn_t gfn)
{
	struct frame *f = frame_get(hfn);
	u32 index;

	lock_acquire(&rmap.lock);
	CHECK(f->state == FRAME_SHARED);
	index = pool_take(&rmap.pool);
	*node_at(index) = (struct node){.next = f->rmap, .gfn = gfn, .gspace = gspace};
	f->rmap = index;
	f->refs++;
	lock_release(&rmap.lock);
}

static bool node_at_is(const struct node *n, u16 gspace, gfn_t gfn)
{
	return n->gspace == gspace && n->gfn == gfn;
}

static bool node_is(u32 index, u16 gspace, gfn_t gfn)
{
	return node_at_is(node_at(index), gspace, gfn);
}

u32 rmap_remove(hfn_t hfn, u16 gspace, gfn_t gfn)
{
	struct frame *f = frame_get(hfn);
	u32 *link = &f->rmap;
	struct node *n = NULL;
	u32 index, left;

	lock_acquire(&rmap.lock);
	CHECK(f->state == FRAME_SHARED);
	for (index = *link; index != RMAP_NONE; index = *link) {
		n = node_at(index);
		if (node_at_is(n, gspace, gfn))
			break;
		link = &n->next;
	}
	CHECK(index != RMAP_NONE && f->refs);
	*link = n->next;
	pool_give(&rmap.pool, index);
	left = --f->refs;
	lock_release(&rmap.lock);
	return left;
}

bool rmap_hold(hfn_t hfn)
{
	struct frame *f = frame_get(hfn);
	bool ok;

	lock_acquire(&rmap.lock);
	ok = f->state == FRAME_SHARED && f->refs && f->refs < RMAP_REFS_MAX;
	if (ok)
		f->refs++;
	lock_release(&rmap.lock);
	return ok;
}

u32 rmap_drop(hfn_t hfn)
{
	struct frame *f = frame_get(hfn);
	u32 left;

	lock_acquire(&rmap.lock);
	CHECK(f->state == FRAME_SHARED && f->refs);
	left = --f->refs;
	lock_release(&rmap.lock);
	return left;
}

u32 rmap_refs(hfn_t hfn)
{
	struct frame *f = frame_get(hfn);
	u32 refs;

	lock_acquire(&rmap.lock);
	refs = f->state == FRAME_SHARED ? f->refs : 0;
	lock_release(&rmap.lock);
	return refs;
}

bool rmap_has(hfn_t hfn, u16 gspace, gfn_t gfn)
{
	struct frame *f = frame_get(hfn);
	bool found = false;

	lock_acquire(&rmap.lock);
	if (f->state == FRAME_SHARED)
		for (u32 i = f->rmap; i != RMAP_NONE && !found; i = node_at(i)->next)
			found = node_is(i, gspace, gfn);
	lock_release(&rmap.lock);
	return found;
}

bool rmap_next(hfn_t hfn, u32 *cursor, u16 *gspace, gfn_t *gfn)
{
	struct frame *f = frame_get(hfn);
	u32 index = RMAP_NONE;

	lock_acquire(&rmap.lock);
	if (f->state == FRAME_SHARED)
		index = *cursor ? node_at(*cursor)->next : f->rmap;
	if (index != RMAP_NONE) {
		*gspace = node_at(index)->gspace;
		*gfn = node_at(index)->gfn;
		*cursor = index;
	}
	lock_release(&rmap.lock);
	return index != RMAP_NONE;
}

u32 rmap_nodes(void)
{
	return READ_ONCE(rmap.pool.used);
}

u64 rmap_bytes(void)
{
	return pool_bytes(&rmap.pool);
}

u64 rmap_frames_for(u64 pages)
{
	return pool_frames_for(sizeof(struct node), pages);
}

void rmap_release(void)
{
	lock_acquire(&rmap.lock);
	pool_release(&rmap.pool);
	lock_release(&rmap.lock);
}
