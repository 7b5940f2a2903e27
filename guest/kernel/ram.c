/* See ram.h. */
#include "guest/kernel/ram.h"
#include "guest/kernel/arch.h"
#include "lib/panic.h"
#include "lib/string.h"

size_t ram_meta_bytes(u32 pages)
{
	u32 groups = DIV_ROUND_UP(pages, RAM_GROUP);

	return groups * sizeof(struct ram_group) + pages;
}

void ram_init(struct ram *r, u32 pages, u32 max, void *meta)
{
	*r = (struct ram){.pages = pages, .max = max, .groups = DIV_ROUND_UP(pages, RAM_GROUP)};
	r->group = meta;
	r->state = (u8 *)(r->group + DIV_ROUND_UP(max, RAM_GROUP));
	memset(r->group, 0, r->groups * sizeof(*r->group));
	memset(r->state, RAM_KERNEL, pages);
	r->count[RAM_KERNEL] = pages;
	r->lowest = pages;
}

void ram_grow(struct ram *r, u32 pages)
{
	u32 first = r->pages, groups = DIV_ROUND_UP(pages, RAM_GROUP);

	CHECK(pages > first && pages <= r->max);
	memset(r->group + r->groups, 0, (groups - r->groups) * sizeof(*r->group));
	memset(r->state + first, RAM_KERNEL, pages - first);
	r->count[RAM_KERNEL] += pages - first;
	r->groups = groups;
	r->pages = pages;
	ram_release(r, first, pages);
}

static void count_change(struct ram *r, u32 pfn, enum ram_state s, int by)
{
	struct ram_group *g = &r->group[pfn / RAM_GROUP];

	r->count[s] += by;
	if (s == RAM_FREE)
		g->free += by;
	else if (s == RAM_BALLOON)
		g->balloon += by;
}

void ram_set(struct ram *r, u32 pfn, enum ram_state s)
{
	CHECK(pfn < r->pages);
	count_change(r, pfn, ram_get(r, pfn), -1);
	r->state[pfn] = s;
	count_change(r, pfn, s, 1);
	if (s == RAM_FREE)
		r->lowest = MIN(r->lowest, pfn);
}

void ram_set_group(struct ram *r, u32 first, enum ram_state s)
{
	struct ram_group *g = &r->group[first / RAM_GROUP];
	u32 count[RAM_STATES] = {0};

	CHECK(first % RAM_GROUP == 0 && first + RAM_GROUP <= r->pages);
	if (g->free == RAM_GROUP)
		count[RAM_FREE] = RAM_GROUP;
	else if (g->balloon == RAM_GROUP)
		count[RAM_BALLOON] = RAM_GROUP;
	else
		for (u32 i = 0; i < RAM_GROUP; i++)
			count[r->state[first + i]]++;
	for (u32 i = 0; i < RAM_STATES; i++)
		r->count[i] -= count[i];
	memset(r->state + first, s, RAM_GROUP);
	r->count[s] += RAM_GROUP;
	g->free = s == RAM_FREE ? RAM_GROUP : 0;
	g->balloon = s == RAM_BALLOON ? RAM_GROUP : 0;
	if (s == RAM_FREE)
		r->lowest = MIN(r->lowest, first);
}

void ram_release(struct ram *r, u32 first, u32 end)
{
	for (u32 pfn = first; pfn < end; pfn++)
		ram_set(r, pfn, RAM_FREE);
}

u32 ram_find(const struct ram *r, enum ram_state s, u32 from)
{
	const u8 *at = from < r->pages ? memchr(r->state + from, s, r->pages - from) : NULL;

	return at ? (u32)(at - r->state) : RAM_NONE;
}

u32 ram_alloc(struct ram *r, enum ram_state s)
{
	u32 pfn;

	if (r->count[RAM_FREE] == 0)
		return RAM_NONE;
	while (r->group[r->lowest / RAM_GROUP].free == 0)
		r->lowest = (r->lowest / RAM_GROUP + 1) * RAM_GROUP;
	pfn = ram_find(r, RAM_FREE, r->lowest);
	ram_set(r, pfn, s);
	r->lowest = pfn + 1;
	return pfn;
}

void ram_free(struct ram *r, u32 pfn)
{
	CHECK(pfn < r->pages && ram_get(r, pfn) != RAM_FREE);
	ram_set(r, pfn, RAM_FREE);
}

u32 ram_put_away(struct ram *r, u32 room)
{
	u32 shadow = ++r->evictions + room;

	return shadow ? shadow : 1;
}

bool ram_would_hold(const struct ram *r, u32 shadow, u32 room)
{
	u32 left = shadow - r->evictions;

	return shadow && ((left && left <= r->pages) || r->out <= room);
}

static u32 find_run(const struct ram *r, u32 count)
{
	u32 first = ram_find(r, RAM_FREE, 0), n = 0;

	while (first != RAM_NONE && first + count <= r->pages) {
		for (n = 0; n < count && ram_get(r, first + n) == RAM_FREE; n++)
			;
		if (n == count)
			return first;
		first = ram_find(r, RAM_FREE, first + n);
	}
	return RAM_NONE;
}

void *ram_array(struct ram *r, size_t bytes)
{
	u32 count = (u32)DIV_ROUND_UP(bytes, PAGE_SIZE), first = find_run(r, count);
	void *va;

	if (first == RAM_NONE)
		return NULL;
	for (u32 i = 0; i < count; i++)
		ram_set(r, first + i, RAM_KERNEL);
	va = arch_phys((u64)first << PAGE_SHIFT);
	memset(va, 0, (size_t)count << PAGE_SHIFT);
	return va;
}

u32 ram_find_group(const struct ram *r, enum ram_state s)
{
	for (u32 g = r->groups; g-- > 0;) {
		u32 n = s == RAM_FREE ? r->group[g].free : r->group[g].balloon;

		if (n == RAM_GROUP)
			return g * RAM_GROUP;
	}
	return RAM_NONE;
}

bool ram_verify(const struct ram *r)
{
	u32 count[RAM_STATES] = {0};

	for (u32 g = 0; g < r->groups; g++) {
		u32 free = 0, balloon = 0;

		for (u32 pfn = g * RAM_GROUP; pfn < MIN(r->pages, (g + 1) * RAM_GROUP); pfn++) {
			if (r->state[pfn] >= RAM_STATES)
				return false;
			count[r->state[pfn]]++;
			free += r->state[pfn] == RAM_FREE;
			balloon += r->state[pfn] == RAM_BALLOON;
		}
		if (free != r->group[g].free || balloon != r->group[g].balloon)
			return false;
	}
	return memcmp(count, r->count, sizeof(count)) == 0;
}
