/*
 * Address-space identifiers (AMD ASID, Intel VPID) and the decision when a guest's cached translations have to go.
 * Pure arithmetic, tested on the host: the emulators never keep a stale translation, so a missing flush shows nowhere
 * else.
 *
 * Rules
 *  - A pool belongs to one CPU. Identifiers are handed out in ascending order and never twice within a generation; when
 *    they run out the generation advances and everything is flushed (ASID_FLUSH_ALL). A pool starts exhausted, so
 *    whatever firmware left behind goes with the first entry.
 *  - A slot (one per vCPU) is valid on a CPU while it names that CPU and the pool's present generation. A vCPU that
 * comes from another CPU gets a new identifier, also when it returns: this CPU may hold older translations under its
 * former one.
 *  - An identifier new in its generation has no translations, so no flush is due for it (AMD APM "TLB Control",
 *    "Address Space Identifier"). Intel also caches guest-physical mappings under the EPT root, not the VPID, and a
 *    root's frame can be reused by another guest: there a new identifier needs INVEPT as well (SDM "Operations that
 * Invalidate Cached Mappings", "Guidelines for Use of the INVEPT Instruction"). ASID_NEW tells the back end.
 *  - tlb_gen differs from the one last entered with, or a flush was asked for (a guest's paging mode was changed by
 * us): the guest's translations go. With per-identifier flushes (AMD FlushByAsid; INVEPT single-context) that is
 * ASID_FLUSH_GUEST; without, the guest moves to a new identifier.
 *  - A translation that only gained rights needs no flush: a nested fault drops what caused it (SDM "Operations that
 * Invalidate Cached Mappings"; AMD APM "Nested Paging": the TLB is not used for entries that fault).
 */
#ifndef ARCH_X86_ASID_H
#define ARCH_X86_ASID_H

#include "lib/types.h"

struct asid_pool {
	u32 last; /* identifiers are 1 .. last; 0 is the host's */
	u32 next;
	u64 generation;
	bool flush_one; /* the processor can flush one identifier */
};

struct asid_slot {
	const struct asid_pool *pool; /* NULL: none yet */
	u64 generation;
	u32 asid;
	u64 tlb_gen; /* of the last entry */
	bool flush;  /* asked for */
};

enum asid_action {
	ASID_KEEP = 0,
	ASID_NEW = BIT(0),         /* slot->asid was assigned just now */
	ASID_FLUSH_GUEST = BIT(1), /* flush slot->asid's translations before entry */
	ASID_FLUSH_ALL = BIT(2),   /* flush every identifier's translations before entry */
};

/* last >= 1. */
void asid_pool_init(struct asid_pool *pool, u32 last, bool flush_one);
/* Nothing is due before this entry: what asid_enter() would find, for the path of every exit. */
static inline bool asid_is_current(const struct asid_pool *pool, const struct asid_slot *slot, u64 tlb_gen)
{
	return slot->pool == pool && slot->generation == pool->generation && slot->tlb_gen == tlb_gen && !slot->flush;
}
/* Before each entry; the result is a set of enum asid_action that the caller has to carry out. */
u32 asid_enter(struct asid_pool *pool, struct asid_slot *slot, u64 tlb_gen);

#endif
