/*
 * The page-table walker. It knows levels, tables, leaves and tokens, and nothing of what flags mean:
 * all of that stands in struct pt_format.
 *
 * Invariant: a table page is linked only when it is complete, and one store links it, so a hardware walker sees
 * either what was there before or what is there now. Locking and TLB flushes are the caller's.
 */
#include "mm/pt.h"

#include "lib/err.h"
#include "lib/panic.h"
#include "mm/platform.h"

static inline u32 level_shift(u32 level)
{
	return PAGE_SHIFT + 9 * (level - 1);
}

static inline u64 level_bytes(u32 level)
{
	return 1UL << level_shift(level);
}

static u64 *slot(hfn_t table, u64 addr, u32 level)
{
	return (u64 *)mm_hfn_to_va(table) + (addr >> level_shift(level) & (PT_ENTRIES - 1));
}

static bool is_table(const struct pt_format *f, u64 e, u32 level)
{
	return level > 1 && pt_entry_present(f, e) && !(e & f->large_bit);
}

static u64 table_entry(const struct pt_format *f, hfn_t table)
{
	return ((hfn_to_hpa(table).v ^ f->addr_xor) & f->addr_mask) | f->table_flags;
}

static hfn_t entry_table(const struct pt_format *f, u64 e)
{
	return hpa_to_hfn(HPA((e ^ f->addr_xor) & f->addr_mask));
}

u64 pt_make_leaf(const struct pt_format *f, hpa_t hpa, u32 prot, u32 level, u32 tag)
{
	u64 addr = (hpa.v ^ f->addr_xor) & f->addr_mask & ~(level_bytes(level) - 1);
	u64 tags = (u64)tag << f->tag_shift & f->tag_mask;

	return addr | f->leaf_flags(prot, level) | tags | (level > 1 ? f->large_bit : 0);
}

hpa_t pt_entry_hpa(const struct pt_format *f, u64 e, u32 level)
{
	return HPA((e ^ f->addr_xor) & f->addr_mask & ~(level_bytes(level) - 1));
}

u32 pt_entry_tag(const struct pt_format *f, u64 e)
{
	return (e & f->tag_mask) >> f->tag_shift;
}

u64 pt_exchange(u64 *entry, u64 value)
{
	return __atomic_exchange_n(entry, value, __ATOMIC_SEQ_CST);
}

static hfn_t table_alloc(struct pt *pt)
{
	hfn_t hfn = pt->alloc->alloc(pt->alloc);

	if (hfn != HFN_NONE)
		pt->tables++;
	return hfn;
}

static void table_free(struct pt *pt, hfn_t hfn)
{
	pt->tables--;
	pt->near_range = ~0UL; /* it may be this one */
	pt->alloc->free(pt->alloc, hfn);
}

int pt_init(struct pt *pt, const struct pt_format *fmt, struct pt_alloc *alloc)
{
	*pt = (struct pt){.fmt = fmt, .alloc = alloc, .near_range = ~0UL};
	pt->root = table_alloc(pt);
	return pt->root == HFN_NONE ? E_NOMEM : 0;
}

static void table_destroy(struct pt *pt, hfn_t table, u32 level)
{
	u64 *e = mm_hfn_to_va(table);

	for (u32 i = 0; i < PT_ENTRIES; i++)
		if (is_table(pt->fmt, e[i], level))
			table_destroy(pt, entry_table(pt->fmt, e[i]), level - 1);
		else
			DCHECK(!e[i]);
	table_free(pt, table);
}

void pt_destroy(struct pt *pt)
{
	table_destroy(pt, pt->root, PT_LEVELS);
	pt->root = HFN_NONE;
	DCHECK(!pt->tables);
}

u64 *pt_find(struct pt *pt, u64 addr, u32 *level)
{
	const struct pt_format f = *pt->fmt; /* on every fault's path: what the loop needs is fetched once */
	u64 *table = mm_hfn_to_va(pt->root);
	u32 l = PT_LEVELS, shift = level_shift(PT_LEVELS);

	for (;; l--, shift -= 9) {
		u64 *e = table + (addr >> shift & (PT_ENTRIES - 1));
		u64 v = READ_ONCE(*e);

		if (l == 1 || !(v & f.present_mask) || v & f.large_bit) {
			*level = l;
			return e;
		}
		table = mm_hfn_to_va(hpa_to_hfn(HPA((v ^ f.addr_xor) & f.addr_mask)));
	}
}

/* Replaces the leaf or token *entry at `level` by `table`, filled with the same one level down. */
static void split_into(struct pt *pt, u64 *entry, u32 level, hfn_t table)
{
	const struct pt_format *f = pt->fmt;
	u64 *child = mm_hfn_to_va(table);
	u64 old = READ_ONCE(*entry), base = pt_entry_hpa(f, old, level).v, ad;
	bool present = pt_entry_present(f, old);

	for (u32 i = 0; i < PT_ENTRIES; i++)
		child[i] = present ? pt_make_leaf(f, HPA(base + i * level_bytes(level - 1)), f->leaf_prot(old, level),
						  level - 1, pt_entry_tag(f, old))
				   : old;
	/* Only now A and D cannot change any more in the leaf. */
	ad = pt_exchange(entry, table_entry(f, table)) & (f->accessed | f->dirty);
	for (u32 i = 0; present && i < PT_ENTRIES; i++)
		__atomic_fetch_or(&child[i], ad, __ATOMIC_RELAXED);
}

static int split_entry(struct pt *pt, u64 *entry, u32 level)
{
	hfn_t table = table_alloc(pt);

	if (table == HFN_NONE)
		return E_NOMEM;
	split_into(pt, entry, level, table);
	return 0;
}

int pt_split(struct pt *pt, u64 addr, u32 level)
{
	u32 found;
	u64 *e = pt_find(pt, addr, &found);

	if (found != level || level < 2 || !*e)
		return 0;
	return split_entry(pt, e, level);
}

void pt_split_with(struct pt *pt, u64 addr, u32 level, hfn_t table)
{
	u32 found;
	u64 *e = pt_find(pt, addr, &found);

	CHECK(found == level && level > 1 && *e);
	split_into(pt, e, level, table);
	pt->tables++;
}

/* Makes *entry of `level` point to a table. */
static int ensure_table(struct pt *pt, u64 *entry, u32 level)
{
	u64 v = READ_ONCE(*entry);
	hfn_t table;

	if (is_table(pt->fmt, v, level))
		return 0;
	if (v)
		return split_entry(pt, entry, level);
	table = table_alloc(pt);
	if (table == HFN_NONE)
		return E_NOMEM;
	pt_exchange(entry, table_entry(pt->fmt, table));
	return 0;
}

int pt_prepare(struct pt *pt, u64 addr, u32 level, u64 **entry)
{
	hfn_t table = pt->root;

	for (u32 l = PT_LEVELS; l > level; l--) {
		u64 *e = slot(table, addr, l);
		int err = ensure_table(pt, e, l);

		if (err)
			return err;
		table = entry_table(pt->fmt, *e);
	}
	*entry = slot(table, addr, level);
	return 0;
}

/* The level-2 entry that points to the level-1 table of addr, or NULL if there is no such table. */
static u64 *find_link(struct pt *pt, u64 addr, hfn_t *table)
{
	u64 *link = NULL;

	*table = pt->root;
	for (u32 l = PT_LEVELS; l > 1; l--) {
		link = slot(*table, addr, l);
		if (!is_table(pt->fmt, *link, l))
			return NULL;
		*table = entry_table(pt->fmt, *link);
	}
	return link;
}

bool pt_prune(struct pt *pt, u64 addr)
{
	hfn_t table;
	u64 *link = find_link(pt, addr, &table), *e;

	if (!link)
		return false;
	e = mm_hfn_to_va(table);
	for (u32 i = 0; i < PT_ENTRIES; i++)
		if (e[i])
			return false;
	pt_exchange(link, 0);
	table_free(pt, table);
	return true;
}

hfn_t pt_take_table(struct pt *pt, u64 addr, u64 value)
{
	hfn_t table;
	u64 *link = find_link(pt, addr, &table);

	if (!link)
		return HFN_NONE;
	pt_exchange(link, value);
	pt->tables--;
	pt->near_range = ~0UL; /* it may be this one */
	return table;
}

void pt_give_table(struct pt *pt, u64 *entry, hfn_t table)
{
	pt_exchange(entry, table_entry(pt->fmt, table));
	pt->tables++;
}

static bool leaf_fits(const struct pt_format *f, u64 addr, hpa_t hpa, u64 bytes, u32 level)
{
	u64 size = level_bytes(level);

	return level == 1 || (f->large_ok[level] && !((addr | hpa.v) & (size - 1)) && bytes >= size);
}

/* Maps one leaf of at most `bytes`; *level is the one it got. */
static int map_one(struct pt *pt, u64 addr, hpa_t hpa, u64 bytes, u32 prot, u32 *level)
{
	u32 l;
	u64 *e = pt_find(pt, addr, &l);
	int err;

	if (*e)
		return E_EXIST;
	/* A table that exists is not replaced by a leaf: never above the level where the walk ended. */
	while (!leaf_fits(pt->fmt, addr, hpa, bytes, l))
		l--;
	err = pt_prepare(pt, addr, l, &e);
	if (err)
		return err;
	pt_exchange(e, pt_make_leaf(pt->fmt, hpa, prot, l, 0));
	*level = l;
	return 0;
}

int pt_map_range(struct pt *pt, u64 addr, hpa_t hpa, u64 bytes, u32 prot)
{
	CHECK(!((addr | hpa.v | bytes) & (PAGE_SIZE - 1)));
	while (bytes) {
		u32 level;
		int err = map_one(pt, addr, hpa, bytes, prot, &level);

		if (err)
			return err;
		addr += level_bytes(level);
		hpa.v += level_bytes(level);
		bytes -= level_bytes(level);
	}
	return 0;
}

void pt_unmap_range(struct pt *pt, u64 addr, u64 bytes)
{
	u64 left = bytes;

	while (left) {
		u32 level;
		u64 *e = pt_find(pt, addr, &level);
		u64 covered = level_bytes(level) - (addr & (level_bytes(level) - 1));

		if (*e && (covered < level_bytes(level) || left < covered)) {
			/* Only a part of a large leaf goes. */
			CHECK(!pt_split(pt, addr, level));
			continue;
		}
		pt_exchange(e, 0);
		addr += MIN(covered, left);
		left -= MIN(covered, left);
	}
}

struct walk {
	struct pt *pt;
	u64 left; /* entries that may be looked at */
	u64 at;   /* the first one that has not been */
	pt_visit_fn fn;
	void *arg;
};

/* Visits [addr, last] below one table. False: that is enough. */
static bool visit(struct walk *w, hfn_t table, u32 level, u64 addr, u64 last)
{
	const struct pt_format *f = w->pt->fmt;

	for (;;) {
		u64 *e = slot(table, addr, level);
		u64 v = READ_ONCE(*e);
		u64 end = addr | (level_bytes(level) - 1); /* last byte under e */
		bool more = true;

		w->at = addr;
		if (!w->left)
			return false;
		w->left--;
		if (is_table(f, v, level))
			more = visit(w, entry_table(f, v), level - 1, addr, MIN(end, last));
		else if (v)
			more = w->fn(w->arg, addr, e, level);
		if (!is_table(f, v, level))
			w->at = end + 1;
		if (!more)
			return false;
		if (end >= last)
			return true;
		addr = end + 1;
	}
}

bool pt_for_each(struct pt *pt, u64 addr, u64 bytes, pt_visit_fn fn, void *arg)
{
	struct walk w = {.pt = pt, .left = ~0UL, .fn = fn, .arg = arg};

	return !bytes || visit(&w, pt->root, PT_LEVELS, addr, addr + bytes - 1);
}

u64 pt_for_each_some(struct pt *pt, u64 addr, u64 bytes, u32 *budget, pt_visit_fn fn, void *arg)
{
	struct walk w = {.pt = pt, .left = *budget, .at = addr, .fn = fn, .arg = arg};

	if (bytes)
		visit(&w, pt->root, PT_LEVELS, addr, addr + bytes - 1);
	*budget = (u32)w.left;
	return MIN(w.at, addr + bytes);
}
