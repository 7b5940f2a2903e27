/* Memory map of the hand-off: see memmap.h. Sizes are a few hundred entries, so simple quadratic steps will do. */
#include "boot/memmap.h"
#include "lib/string.h"

void memmap_init(struct memmap *m, struct boot_mem *entries, u32 max)
{
	*m = (struct memmap){.entry = entries, .max = max};
}

static void insert_at(struct memmap *m, u32 at, u64 base, u64 end, u32 type)
{
	if (base >= end)
		return;
	if (m->count == m->max) {
		m->overflow = true;
		return;
	}
	memmove(&m->entry[at + 1], &m->entry[at], (m->count - at) * sizeof(m->entry[0]));
	m->entry[at] = (struct boot_mem){.base = base, .bytes = end - base, .type = type};
	m->count++;
}

static void remove_at(struct memmap *m, u32 at)
{
	m->count--;
	memmove(&m->entry[at], &m->entry[at + 1], (m->count - at) * sizeof(m->entry[0]));
}

void memmap_add(struct memmap *m, u64 base, u64 bytes, enum boot_mem_type type)
{
	u64 end = base + bytes < base ? ~0UL : base + bytes;

	if (type == BOOT_MEM_USABLE) {
		if (base > ~0UL - PAGE_SIZE)
			return;
		base = ALIGN_UP(base, PAGE_SIZE);
		end = ALIGN_DOWN(end, PAGE_SIZE);
	} else {
		base = ALIGN_DOWN(base, PAGE_SIZE);
		end = end > ~0UL - PAGE_SIZE ? ALIGN_DOWN(~0UL, PAGE_SIZE) : ALIGN_UP(end, PAGE_SIZE);
	}
	insert_at(m, m->count, base, end, type);
}

static u64 entry_end(const struct boot_mem *e)
{
	return e->base + e->bytes;
}

/* Insertion sort by base; firmware maps come nearly sorted. */
static void sort(struct memmap *m)
{
	for (u32 i = 1; i < m->count; i++) {
		struct boot_mem e = m->entry[i];
		u32 j = i;

		for (; j > 0 && m->entry[j - 1].base > e.base; j--)
			m->entry[j] = m->entry[j - 1];
		m->entry[j] = e;
	}
}

static void merge(struct memmap *m)
{
	for (u32 i = 0; i + 1 < m->count;) {
		struct boot_mem *a = &m->entry[i], *b = a + 1;

		if (a->type == b->type && entry_end(a) == b->base) {
			a->bytes += b->bytes;
			remove_at(m, i + 1);
		} else {
			i++;
		}
	}
}

static void clip(struct memmap *m, u64 limit)
{
	for (u32 i = 0; i < m->count;) {
		struct boot_mem *e = &m->entry[i];

		if (e->base >= limit) {
			remove_at(m, i);
			continue;
		}
		e->bytes = MIN(entry_end(e), limit) - e->base;
		i++;
	}
}

void memmap_finish(struct memmap *m, u64 limit)
{
	struct boot_mem lower, upper;
	u64 end;

	clip(m, limit);
	sort(m);
	for (u32 i = 0; i + 1 < m->count;) {
		lower = m->entry[i];
		upper = m->entry[i + 1];
		if (entry_end(&lower) <= upper.base) {
			i++;
			continue;
		}
		/* Overlap: the stronger range stays whole, the weaker is cut into what sticks out before and behind. */
		end = MAX(entry_end(&lower), entry_end(&upper));
		remove_at(m, i + 1);
		remove_at(m, i);
		if (upper.type >= lower.type) {
			insert_at(m, m->count, lower.base, upper.base, lower.type);
			insert_at(m, m->count, upper.base, entry_end(&upper), upper.type);
			insert_at(m, m->count, entry_end(&upper), end > entry_end(&upper) ? end : 0, lower.type);
		} else {
			insert_at(m, m->count, lower.base, entry_end(&lower), lower.type);
			insert_at(m, m->count, entry_end(&lower), end > entry_end(&lower) ? end : 0, upper.type);
		}
		if (m->overflow)
			return;
		sort(m);
		i = i ? i - 1 : 0;
	}
	merge(m);
}

void memmap_set(struct memmap *m, u64 base, u64 bytes, enum boot_mem_type type)
{
	u64 end = base + bytes;

	for (u32 i = 0; i < m->count;) {
		struct boot_mem e = m->entry[i];

		if (entry_end(&e) <= base || e.base >= end) {
			i++;
			continue;
		}
		remove_at(m, i);
		insert_at(m, i, MAX(e.base, end), MAX(entry_end(&e), end), e.type);
		insert_at(m, i, e.base, MIN(base, entry_end(&e)), e.type);
		if (e.base < base)
			i++;
		if (entry_end(&e) > end)
			i++;
	}
	insert_at(m, m->count, base, end, type);
	sort(m);
	merge(m);
}

bool memmap_is_ram(u32 type)
{
	return type >= BOOT_MEM_USABLE && type <= BOOT_MEM_ACPI;
}

u64 memmap_ram_end(const struct memmap *m)
{
	for (u32 i = m->count; i > 0; i--)
		if (memmap_is_ram(m->entry[i - 1].type))
			return entry_end(&m->entry[i - 1]);
	return 0;
}
