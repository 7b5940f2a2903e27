/* See cache.h. */
#include "guest/kernel/cache.h"
#include "guest/kernel/arch.h"
#include "lib/err.h"
#include "lib/string.h"

void cache_prepare(struct cache *c, struct ram *ram, struct disk *disk)
{
	*c = (struct cache){.ram = ram, .disk = disk, .unused = CACHE_NONE};
}

int cache_create(struct cache *c, u64 first, u32 pages, u32 capacity, u32 keep_free)
{
	c->buckets = 1;
	while (c->buckets < capacity)
		c->buckets *= 2;
	c->bucket = ram_array(c->ram, c->buckets * sizeof(*c->bucket));
	c->entry = ram_array(c->ram, capacity * sizeof(*c->entry));
	if (!c->bucket || !c->entry)
		return E_NOMEM;
	for (u32 i = 0; i < c->buckets; i++)
		c->bucket[i] = CACHE_NONE;
	for (u32 i = capacity; i-- > 0; c->unused = i)
		c->entry[i].next = c->unused;
	c->first = first;
	c->pages = pages;
	c->capacity = capacity;
	c->keep_free = keep_free;
	return 0;
}

static u32 *chain(struct cache *c, u32 page)
{
	return &c->bucket[(page * 2654435761u) & (c->buckets - 1)];
}

static u32 lookup(struct cache *c, u32 page)
{
	u32 i = *chain(c, page);

	while (i != CACHE_NONE && c->entry[i].page != page)
		i = c->entry[i].next;
	return i;
}

static void unlink(struct cache *c, u32 index)
{
	u32 *at = chain(c, c->entry[index].page);

	while (*at != index)
		at = &c->entry[*at].next;
	*at = c->entry[index].next;
}

static u64 gpa(const struct cache_entry *e)
{
	return (u64)e->pfn << PAGE_SHIFT;
}

static int write_back(struct cache *c, struct cache_entry *e)
{
	int err = disk_transfer(c->disk, AERO_DISK_WRITE, c->first + e->page, gpa(e), 1);

	if (err) {
		c->stats.errors++;
		return err;
	}
	e->dirty = false;
	c->stats.writebacks++;
	return 0;
}

/* Takes a cold entry out of use but leaves it its page; CACHE_NONE if all are dirty and the disk fails. */
static u32 evict(struct cache *c)
{
	for (u32 looks = 0; looks < 3 * c->capacity; looks++) {
		u32 index = c->hand;
		struct cache_entry *e = &c->entry[index];

		c->hand = (c->hand + 1) % c->capacity;
		if (!e->used)
			continue;
		if (e->referenced) {
			e->referenced = false;
			continue;
		}
		if (e->dirty && write_back(c, e))
			continue;
		unlink(c, index);
		e->used = false;
		c->used--;
		c->stats.evictions++;
		return index;
	}
	return CACHE_NONE;
}

/* An entry with a page for new content: grown while memory is plentiful, otherwise the coldest one's. */
static u32 entry_get(struct cache *c)
{
	u32 index = c->unused, pfn;

	if (index != CACHE_NONE && (c->ram->count[RAM_FREE] > c->keep_free || c->used < CACHE_MIN)) {
		pfn = ram_alloc(c->ram, RAM_CACHE);
		if (pfn != RAM_NONE) {
			c->unused = c->entry[index].next;
			c->entry[index].pfn = pfn;
			return index;
		}
	}
	return c->used ? evict(c) : CACHE_NONE;
}

static void entry_put(struct cache *c, u32 index)
{
	ram_free(c->ram, c->entry[index].pfn);
	c->entry[index].next = c->unused;
	c->unused = index;
}

static void *use(struct cache_entry *e, bool write)
{
	e->referenced = true;
	e->dirty |= write;
	return arch_phys(gpa(e));
}

void *cache_get(struct cache *c, u32 page, bool write)
{
	u32 index = lookup(c, page);
	struct cache_entry *e;

	if (page >= c->pages)
		return NULL;
	if (index != CACHE_NONE) {
		c->stats.hits++;
		return use(&c->entry[index], write);
	}
	c->stats.misses++;
	index = entry_get(c);
	if (index == CACHE_NONE)
		return NULL;
	e = &c->entry[index];
	if (disk_transfer(c->disk, AERO_DISK_READ, c->first + page, gpa(e), 1)) {
		c->stats.errors++;
		entry_put(c, index);
		return NULL;
	}
	*e = (struct cache_entry){.page = page, .pfn = e->pfn, .next = *chain(c, page), .used = true};
	*chain(c, page) = index;
	c->used++;
	return use(e, write);
}

u32 cache_shrink(struct cache *c, u32 want)
{
	u32 freed = 0, index;

	for (want = MIN(want, cache_shrinkable(c)); freed < want; freed++) {
		index = evict(c);
		if (index == CACHE_NONE)
			break;
		entry_put(c, index);
		c->stats.shrunk++;
	}
	return freed;
}

int cache_flush(struct cache *c)
{
	int first = 0, err;

	for (u32 i = 0; i < c->capacity; i++) {
		if (!c->entry[i].used || !c->entry[i].dirty)
			continue;
		err = write_back(c, &c->entry[i]);
		first = first ? first : err;
	}
	return first;
}
