/*
 * Transparent page sharing (OSDI'02 section 4): a chained hash table of 16-byte
 * entries {64-bit keyed hash, frame, next}. An entry describes either a SHARED frame
 * (read-only, copy-on-write, counted) or a hint: a private page that was scanned but
 * not protected. A match with a hint is re-hashed, compared in full, and only then shared;
 * nothing is ever shared by hash alone. Zero pages are found without the table.
 *
 * Scanning is in random order within a VM, in bounded pieces, rate-limited per VM and host.
 *
 * No VM chooses the frame that its page is shared in: the first two move to a copy in one drawn at random among some
 * hundred (lot.h).
 *
 * Trust groups: pages of two spaces come to share a frame only if both are in one group (gs->share_group); by default
 * each space is alone in its own, since who shares with a stranger can tell by the time of a write what the stranger
 * has in memory. The group goes into the key of the hash, so equal pages of different groups never meet in the table.
 * The zero frame, which tells nothing, is everybody's. The key is a secret of this boot.
 */
#ifndef MM_SHARE_H
#define MM_SHARE_H

#include "lib/types.h"

struct gspace;

struct share_stats {
	u64 scanned, zero_found, hints, matches, false_matches, shared_frames, shared_pages, cow_breaks;
	u64 scan_ns;           /* the scanner took so long */
	u64 unique, unique_ns; /* pages it found nothing for, and what they took */
	u64 joined, joined_ns; /* pages that came to share a frame; zero pages are in neither */
	u64 table_bytes;       /* with the lot's frames */
};

int share_init(u64 key, u64 seed) must_check; /* table is allocated when the first space exists */
/* The group of that name, or with NULL one that nobody else is in. */
u64 share_group(const char *name);
void share_set_rate(u32 pages_per_sec_host, u32 pages_per_sec_vm); /* 0 stops */
/* Scans up to `budget` candidate pages over all spaces; returns pages scanned. Deferred work calls it. */
u32 share_scan(u32 budget);
/* Offers one page (that cannot go elsewhere). True if it is now shared or zero. */
bool share_offer(struct gspace *gs, gfn_t gfn);
/*
 * The same for pages on their way out, but for those that were just unshared. Returns how many are shared or zero now;
 * the others, except those rescued meanwhile, stay in v, in order.
 */
struct victims;
u32 share_offer_out(struct gspace *gs, struct victims *v);
/* Frame-side bookkeeping, called by gspace.c with the page's gspace lock held: */
/* the frame, HV yet, is about to become a shared one. False: no room */
bool share_enter(u64 hash, hfn_t hfn) must_check;
u32 share_hinted(u16 space);                      /* pages of this space that have a hint now */
void share_forget_hints(const hfn_t *hfn, u32 n); /* of frames that change their state, some of which may have one */
void share_forget_hint(hfn_t hfn);                /* private frame with FRAME_F_HINT changes owner or state */
/* last mapper of a shared frame left, or it may no longer be found. No-op without an entry */
void share_forget_shared(hfn_t hfn);
void share_note_cow(void);       /* a guest wrote to a shared page */
void share_release(void);        /* the last space is gone: gives table and lot back */
u64 share_frames_for(u64 pages); /* frames that table and lot take at most, with spaces of so many pages in all */
void share_stats(struct share_stats *out);

#endif
