/* See cache.h. */
#include "guest/kernel/cache.h"
#include "guest/kernel/arch.h"
#include "lib/err.h"
#include "lib/string.h"

void cache_prepare(struct cache *c, struct ram *ram, struct disk *disk, struct clock *clock)
{
	*c = (struct cache){.ram = ram, .disk = disk, .clock = clock, .unused = CACHE_NONE};
}

int cache_create(struct cache *c, u64 first, u32 pages, u32 capacity, u32 keep_free)
{
	c->buckets = 1;
	while (c->buckets < capacity)
		c->buckets *= 2;
	c->bucket = ram_array(c->ram, c->buckets * sizeof(*c->bucket));
	c->entry = ram_array(c->ram, capacity * sizeof(*c->entry));
	c->shadow = ram_array(c->ram, pages * sizeof(*c->shadow));
	if (!c->bucket || !c->entry || !c->shadow)
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

/* ---- what the host is told ---- */

static void tell(struct cache *c, struct cache_entry *e)
{
	if (!e->used || e->dirty)
		return;
	hint_put(c->hints, AERO_HINT_CLEAN, gpa(e), c->first + e->page);
	e->told = true;
}

/* Some of them may have been changed, or be others', since. */
static void tell_news(struct cache *c)
{
	for (u32 i = 0; i < c->news_count; i++)
		tell(c, &c->entry[c->news[i]]);
	c->news_count = 0;
	hints_send(c->hints);
}

static void is_copy(struct cache *c, u32 index)
{
	if (c->news_count == CACHE_NEWS)
		tell_news(c);
	c->news[c->news_count++] = index;
}

void cache_tell(struct cache *c, u32 n)
{
	tell_news(c);
	for (n = MIN(n, c->capacity); n; n--) {
		tell(c, &c->entry[c->tell_hand]);
		c->tell_hand = (c->tell_hand + 1) % c->capacity;
	}
	hints_send(c->hints);
}

void cache_changes(struct cache *c, u32 page)
{
	u32 index = lookup(c, page);

	if (index == CACHE_NONE || !c->entry[index].told)
		return;
	tell_news(c); /* it may be among them */
	hint_put(c->hints, AERO_HINT_CHANGED, gpa(&c->entry[index]), 0);
	hints_send(c->hints);
	c->entry[index].told = false;
}

/* ---- */

static int write_back(struct cache *c, struct cache_entry *e)
{
	int err = disk_transfer(c->disk, AERO_DISK_WRITE, c->first + e->page, gpa(e), 1);

	if (err) {
		c->stats.errors++;
		return err;
	}
	e->dirty = false;
	c->stats.writebacks++;
	is_copy(c, (u32)(e - c->entry));
	return 0;
}

/* Without the balloon it could grow by so many, at most to its capacity. */
static u32 room(const struct cache *c, bool squeeze)
{
	return MIN(ram_ballooned(c->ram, squeeze), c->capacity - c->used);
}

static void shadow_set(struct cache *c, u32 page, u32 shadow)
{
	c->ram->out = c->ram->out - !!c->shadow[page] + !!shadow;
	c->shadow[page] = shadow;
}

/* Takes a cold entry out of use but leaves it its page; CACHE_NONE if all are dirty and the disk fails. */
static u32 evict(struct cache *c, bool squeeze)
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
		shadow_set(c, e->page, ram_put_away(c->ram, room(c, squeeze)));
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
	return c->used ? evict(c, false) : CACHE_NONE;
}

/* The next to use the page does not need what it holds. */
static void entry_put(struct cache *c, u32 index)
{
	if (c->entry[index].told)
		hint_put(c->hints, AERO_HINT_OVERWRITE, gpa(&c->entry[index]), 0);
	c->entry[index].told = false;
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

/* Reads the page into an entry; CACHE_NONE: disk error or no memory at all. */
static u32 read_in(struct cache *c, u32 page)
{
	u64 begin = clock_ns(c->clock);
	bool refault = ram_would_hold(c->ram, c->shadow[page], room(c, false));
	u32 index = entry_get(c);
	struct cache_entry *e;

	if (index == CACHE_NONE)
		return CACHE_NONE;
	e = &c->entry[index];
	if (disk_transfer(c->disk, AERO_DISK_READ, c->first + page, gpa(e), 1)) {
		c->stats.errors++;
		entry_put(c, index);
		return CACHE_NONE;
	}
	*e = (struct cache_entry){.page = page, .pfn = e->pfn, .next = *chain(c, page), .used = true};
	*chain(c, page) = index;
	c->used++;
	shadow_set(c, page, 0);
	if (refault) {
		c->stats.refaults++;
		c->stats.refault_ns += clock_ns(c->clock) - begin;
	}
	return index;
}

void *cache_get(struct cache *c, u32 page, bool write)
{
	u32 index = lookup(c, page);

	if (page >= c->pages)
		return NULL;
	if (index != CACHE_NONE) {
		c->stats.hits++;
		return use(&c->entry[index], write);
	}
	c->stats.misses++;
	index = read_in(c, page);
	if (index == CACHE_NONE)
		return NULL;
	if (!write)
		is_copy(c, index);
	return use(&c->entry[index], write);
}

u32 cache_shrink(struct cache *c, u32 want, bool squeeze)
{
	u32 freed = 0, index;

	for (want = MIN(want, cache_shrinkable(c)); freed < want; freed++) {
		index = evict(c, squeeze);
		if (index == CACHE_NONE)
			break;
		entry_put(c, index);
		c->stats.shrunk++;
	}
	hints_send(c->hints);
	return freed;
}

const void *cache_peek(struct cache *c, u32 page)
{
	u32 index = lookup(c, page);

	return index == CACHE_NONE ? NULL : arch_phys(gpa(&c->entry[index]));
}

void cache_drop(struct cache *c, u32 page)
{
	u32 index = lookup(c, page);

	shadow_set(c, page, 0); /* an empty balloon would not have kept it either */
	if (index == CACHE_NONE)
		return;
	unlink(c, index);
	c->entry[index].used = false;
	c->used--;
	entry_put(c, index);
	hints_send(c->hints);
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
