/*
 * Reverse map: who maps a shared frame. A guest frame's only mapper stands in
 * its frame entry (owner, gfn); a shared frame heads a chain of 12-byte nodes
 * {gspace, gfn, next} from a pool that grows by frames. The zero frame has no chain (its mappers are only counted).
 */
#ifndef MM_RMAP_H
#define MM_RMAP_H

#include "lib/types.h"

#define RMAP_NONE 0U

void rmap_init(void);
/* Makes sure `n` nodes can be added without failing. E_NOMEM. */
int rmap_prepare(u32 n) must_check;
void rmap_add(hfn_t hfn, u16 gspace, gfn_t gfn); /* cannot fail after rmap_prepare */
void rmap_remove(hfn_t hfn, u16 gspace, gfn_t gfn); /* CHECKs that it was there */
/* Mappers in turn: *cursor starts at 0; false at the end. The frame's chain must not change meanwhile. */
bool rmap_next(hfn_t hfn, u32 *cursor, u16 *gspace, gfn_t *gfn);
u64 rmap_bytes(void);

#endif
