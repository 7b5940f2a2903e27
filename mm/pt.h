/*
 * One walker for every page table: host tables, EPT and NPT are each a
 * `const struct pt_format` of masks. Four levels of 512 entries.
 *
 * An entry is a leaf (maps a frame), a table, a token or empty. Tokens are non-present
 * entries in which mm keeps where a page went: `kind` (1..31) in bits 7:3 and a 52-bit payload
 * in bits 63:12. Bits 2:0 of a token are zero, so that it is not present in any format
 * (EPT: R, W, X; NPT and host: P). An empty entry is 0 (AMD and Intel alike). A token above level 1 stands for each
 * page of its range: a split repeats it.
 *
 * Leaf entries carry a 3-bit software tag in bits 54:52, ignored by EPT and NPT
 * (Intel SDM "EPT Paging-Structure Entries"; AMD APM "Nested Page Tables": AVL bits).
 *
 * Walks never allocate unless asked; allocation is prepare (may fail) and then commit
 * (cannot). Locking is the caller's. Only the page-table formats and address spaces (mm/gspace*) include this file.
 */
#ifndef MM_PT_H
#define MM_PT_H

#include "lib/types.h"

#define PT_LEVELS  4
#define PT_ENTRIES 512U

enum pt_prot { PT_R = 1, PT_W = 2, PT_X = 4, PT_USER = 8, PT_UNCACHED = 16, PT_GLOBAL = 32, PT_COMBINING = 64 };

struct pt_format {
	const char *name;
	u64 present_mask;    /* any of these bits set: present */
	u64 addr_mask;       /* physical address bits of an entry */
	u64 addr_xor;        /* address bits kept inverted; 0 in every real format */
	u64 large_bit;       /* marks a leaf above level 1 */
	u64 accessed, dirty; /* 0: the format has none */
	u64 table_flags;     /* flags of an entry that points to a table */
	u64 tag_mask;        /* 3 software bits in leaves */
	u8 tag_shift;
	bool large_ok[PT_LEVELS + 1]; /* [2]: 2 MiB, [3]: 1 GiB leaves exist */
	/* prot (PT_*) of a leaf at a level to entry flags, without address; and back. */
	u64 (*leaf_flags)(u32 prot, u32 level);
	u32 (*leaf_prot)(u64 entry, u32 level);
};

/* pt_page_* : where table pages come from; host tables and guest spaces account differently. */
struct pt_alloc {
	hfn_t (*alloc)(struct pt_alloc *a); /* cleared frame, or HFN_NONE */
	void (*free)(struct pt_alloc *a, hfn_t hfn);
};

struct pt {
	const struct pt_format *fmt;
	struct pt_alloc *alloc;
	hfn_t root;
	u32 tables;     /* table pages in use, root included */
	u64 near_range; /* the level-1 table that pt_find_near() came to last: addr / 2 MiB; ~0: none */
	u64 *near;
};

#define PT_TOKEN_KINDS 32

static inline bool pt_entry_present(const struct pt_format *f, u64 e)
{
	return (e & f->present_mask) != 0;
}
static inline bool pt_entry_token(const struct pt_format *f, u64 e)
{
	return e && !pt_entry_present(f, e);
}
static inline u64 pt_token(u32 kind, u64 payload)
{
	return payload << 12 | (u64)kind << 3;
}
static inline u32 pt_token_kind(u64 e)
{
	return e >> 3 & (PT_TOKEN_KINDS - 1);
}
static inline u64 pt_token_payload(u64 e)
{
	return e >> 12;
}

int pt_init(struct pt *pt, const struct pt_format *fmt, struct pt_alloc *alloc) must_check; /* an empty root. E_NOMEM */
/* Frees every table page. Leaves and tokens must be gone (debug builds check). */
void pt_destroy(struct pt *pt);

/*
 * Finds the entry that decides the translation of addr: a leaf at any level, or the
 * level-1 entry, or the empty/token entry at which the walk ends. *level is its level.
 */
u64 *pt_find(struct pt *pt, u64 addr, u32 *level);

/* As pt_find, by a shorter way if the last search ended in the same level-1 table. Callers keep each other out. */
static inline u64 *pt_find_near(struct pt *pt, u64 addr, u32 *level)
{
	u64 *e;

	if (likely(addr >> LARGE_SHIFT == pt->near_range)) {
		*level = 1;
		return pt->near + (addr >> PAGE_SHIFT & (PT_ENTRIES - 1));
	}
	e = pt_find(pt, addr, level);
	if (*level == 1) {
		pt->near_range = addr >> LARGE_SHIFT;
		pt->near = e - (addr >> PAGE_SHIFT & (PT_ENTRIES - 1));
	}
	return e;
}

/*
 * Makes sure a level `level` entry for addr exists (tables above it, splitting a larger leaf). E_NOMEM leaves the
 * tables valid.
 */
int pt_prepare(struct pt *pt, u64 addr, u32 level, u64 **entry) must_check;

/*
 * Splits the large leaf of `level` that maps addr one level down, keeping flags, tag, A and D; or the token. 0 if there
 * is none. Translations stay as they are: nothing needs a flush (Intel SDM "Invalidation of TLBs and Paging-Structure
 * Caches").
 */
int pt_split(struct pt *pt, u64 addr, u32 level) must_check;
/*
 * The same with a table page that the caller has, content undefined: cannot fail. CHECKs that there is something to
 * split.
 */
void pt_split_with(struct pt *pt, u64 addr, u32 level, hfn_t table);

/* A level-1 leaf from flags that leaf_flags() gave. */
static inline u64 pt_leaf(const struct pt_format *f, hpa_t hpa, u64 flags, u32 tag)
{
	return ((hpa.v ^ f->addr_xor) & f->addr_mask) | flags | ((u64)tag << f->tag_shift & f->tag_mask);
}
u64 pt_make_leaf(const struct pt_format *f, hpa_t hpa, u32 prot, u32 level, u32 tag);
hpa_t pt_entry_hpa(const struct pt_format *f, u64 e, u32 level);
u32 pt_entry_tag(const struct pt_format *f, u64 e);

/* One atomic store of an entry (other CPUs' hardware walkers read it). The old value is returned, A/D included. */
u64 pt_exchange(u64 *entry, u64 value);

/* Frees the level-1 table that holds addr's entry if all of it is empty. True if it did. */
bool pt_prune(struct pt *pt, u64 addr);

/*
 * Puts `value` (leaf, token or 0) in place of the level-1 table that holds addr's entry and returns the table, which
 * is the caller's now and which processors may walk until the next flush. HFN_NONE if there is no such table.
 */
hfn_t pt_take_table(struct pt *pt, u64 addr, u64 value);
/* Puts such a table back: *entry, of level 2, points to it again. */
void pt_give_table(struct pt *pt, u64 *entry, hfn_t table);

/*
 * Maps [addr, addr+bytes) to hpa with the largest leaves allowed; replaces nothing (E_EXIST). For host tables.
 * What was mapped before an error stays.
 */
int pt_map_range(struct pt *pt, u64 addr, hpa_t hpa, u64 bytes, u32 prot) must_check;
/* Splits large leaves at the edges; CHECKs that it got the tables for that. */
void pt_unmap_range(struct pt *pt, u64 addr, u64 bytes);

typedef bool (*pt_visit_fn)(void *arg, u64 addr, u64 *entry, u32 level);
/*
 * Visits level-1 entries (and large leaves) of [addr, addr+bytes) that are not empty, in order, until fn returns false.
 */
bool pt_for_each(struct pt *pt, u64 addr, u64 bytes, pt_visit_fn fn, void *arg);
/*
 * The same in bounded pieces: looks at no more than *budget entries, empty ones and links to tables included. Returns
 * where to go on, addr + bytes or more where nothing is left.
 */
u64 pt_for_each_some(struct pt *pt, u64 addr, u64 bytes, u32 *budget, pt_visit_fn fn, void *arg);

#endif
