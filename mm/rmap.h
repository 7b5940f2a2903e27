/*
 * Reverse map: who maps a shared frame. A guest frame's only mapper stands in
 * its frame entry (owner, gfn); a shared frame heads a chain of 12-byte nodes
 * {gspace, gfn, next} from a pool that grows by frames. The zero frame has no chain (its mappers are only counted).
 *
 * A frame's `refs` counts its nodes and the holds on it. A hold keeps a frame shared and its content
 * fixed while it is compared: with two references no mapper can take the frame for itself.
 * Chains are bounded by RMAP_REFS_MAX, so that every walk is.
 *
 * Locking: all functions take LOCK_RANK_RMAP inside. A frame's chain and refs change only under it. refs
 * of a frame in the share table can grow at any time; of one that is not (share_forget_shared) it cannot.
 */
#ifndef MM_RMAP_H
#define MM_RMAP_H

#include "lib/types.h"

#define RMAP_NONE     0U
#define RMAP_REFS_MAX 256U /* as KSM's max_page_sharing: bounds a walk at a saving of 255/256 */

void rmap_init(void);
/* Promises n nodes: as many rmap_add() cannot fail. E_NOMEM. */
int rmap_prepare(u32 n) must_check;
void rmap_cancel(u32 n);                           /* gives a promise back */
void rmap_add(hfn_t hfn, u16 gspace, gfn_t gfn);   /* FRAME_SHARED; uses one promise */
u32 rmap_remove(hfn_t hfn, u16 gspace, gfn_t gfn); /* CHECKs that it was there; returns the references left */

/* False if the frame is not shared, has no mapper left, or has as many as it may. */
bool rmap_hold(hfn_t hfn) must_check;
u32 rmap_drop(hfn_t hfn); /* ends a hold; returns the references left */

u32 rmap_refs(hfn_t hfn);                        /* nodes and holds of a FRAME_SHARED */
bool rmap_has(hfn_t hfn, u16 gspace, gfn_t gfn); /* walks the chain */
/* Mappers in turn: *cursor starts at 0; false at the end. The frame's chain must not change meanwhile. */
bool rmap_next(hfn_t hfn, u32 *cursor, u16 *gspace, gfn_t *gfn);

u32 rmap_nodes(void); /* in use */
u64 rmap_bytes(void);
u64 rmap_frames_for(u64 pages); /* frames that the map takes if so many pages are shared */
void rmap_release(void);        /* the last space is gone: gives the pool's frames back */

#endif
