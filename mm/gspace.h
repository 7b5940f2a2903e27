/*
 * A guest-physical address space: one VM's memory, a page state for each of its pages,
 * kept in the nested page table itself (present leaf with a tag, or a token).
 *
 * Invariants
 *  - Every change of state goes through gspace_change() (gspace_change.h): it checks that the
 *    transition is legal, updates count[] here and host-wide, the reverse map, and marks
 *    the TLB dirty when a present translation was removed or narrowed.
 *  - sum(count[]) == pages, always, also while a space grows. gspace_verify() proves it by walking the table.
 *  - A frame removed from the table is freed only after gspace_flush(): until then it stands in `limbo`, which
 *    every flush empties. A frame that was shared waits for the flushes of all spaces that may still translate to it.
 *  - Of a space that several CPUs run at once no two of them ever use different frames for one page of which one can be
 *    written: a page that gets another frame is unmapped everywhere before the new one can be reached.
 *  - A frame with a swap transfer under way (FRAME_F_IO) is freed by the end of the transfer, whatever became
 *    of its page meanwhile: rescued and then dropped, it is an orphan in state FRAME_HV.
 *
 * Locking: gs->lock (LOCK_RANK_GSPACE) guards tables, counts and page states. Never two gspace
 * locks at once: sharing takes its match's frame, not the other space. The table of spaces has
 * LOCK_RANK_SPACES, taken with no gspace lock held. No function here may be called with any gs->lock held, except where
 * it says so.
 *
 * Frames that become free here wake nobody: who waits for memory is woken by reclaim_step(). Arrival of a
 * page (gspace_swap_in_done, _failed) wakes its space.
 *
 * Pages in ABSENT cost nothing; a gspace of any size has one table page at first.
 *
 * Large pages (gspace_large.c): a region is 512 pages at a multiple of 512. While memory is plentiful the first write
 * to a region nothing of which is there maps all of it by one leaf over one frame block. Its pages are in state PRIVATE
 * like others; what concerns one of them splits the leaf first, which cannot fail: each large leaf has a spare table
 * page. What concerns all of them (a 2 MiB balloon unit, the end of the space) takes them at once.
 */
#ifndef MM_GSPACE_H
#define MM_GSPACE_H

#include "lib/list.h"
#include "lib/lock.h"
#include "lib/types.h"
#include "mm/clean.h"
#include "mm/dynmem.h"
#include "mm/pt.h"
#include "mm/wss.h"
#include "mm/zpool.h"

enum page_state {
	PAGE_ABSENT,       /* nothing; reads as zero */
	PAGE_PRIVATE,      /* own frame, writable */
	PAGE_ZERO,         /* the zero frame, read-only */
	PAGE_SHARED,       /* shared frame, read-only */
	PAGE_BALLOONED,    /* given up by the guest; content undefined */
	PAGE_COMPRESSED,   /* token: handle */
	PAGE_SWAPPED,      /* token: slot */
	PAGE_SWAPPING_OUT, /* in flight: token: hfn; the frame still holds the content */
	PAGE_SWAPPING_IN,  /* in flight: token: slot, or block | PAGE_FROM_DISK */
	PAGE_PINNED,       /* own frame, never reclaimed */
	PAGE_CLEAN,        /* token: block of the VM's own disk that holds it (clean.h) */
	PAGE_STATES
};
const char *page_state_name(enum page_state s);

enum gspace_access { GSPACE_READ = 1, GSPACE_WRITE = 2, GSPACE_EXEC = 4 };

/*
 * Memory allocation settings of a VM, in pages. Invariant: reservation <= limit <= the most it may ever have
 * (gs->pages; dynmem.h).
 */
struct mem_alloc {
	u32 reservation, limit;
	u32 shares; /* relative; default 10 per MiB, as ESX "normal" */
};

/* Events counted since creation. */
struct gspace_stats {
	u64 faults, zero_fills, cow_breaks, shared_in, zero_in;
	u64 balloon_out, balloon_back, balloon_broken; /* _broken: touched while ballooned */
	u64 balloon_refused;                           /* entries answered with anything but OK */
	u64 zip_in, zip_out;                           /* compressed, expanded */
	u64 zip_unread;                      /* of zip_in: whose content was given up before anybody wanted it */
	u64 not_read;                        /* compressed or swapped pages that were to be written in full */
	u64 swap_ahead;                      /* of swap_in: not asked for yet */
	u64 swap_unchanged;                  /* of swap_out: nothing had to be written */
	u64 clean_out, clean_in;             /* dropped because the VM's disk has them; come back */
	u64 clean_ahead;                     /* of clean_in: not asked for yet */
	u64 swap_out, swap_in, swap_rescued; /* _rescued: touched while being written */
	u64 waits;                           /* touches that had to wait for memory or I/O */
	u64 around;                          /* pages given with one that was touched: fault-around */
	u64 large_fills, large_splits, large_rebuilt; /* regions mapped at first touch, split, put together again */
	u64 balloon_relief;                           /* pages it took back although its target asked for them */
	u64 balloon_late;                             /* times that a deadline passed with the target not reached */
};

/* Pages that may be moved now. */
struct balloon_bucket {
	u32 tokens;
	u64 ns; /* filled up to then */
};

/* gspace_verify() in pieces: pages below `at` are counted, and followed as they change. 0: none is under way. */
struct gspace_proof {
	gfn_t at;
	u32 count[PAGE_STATES]; /* but for ABSENT */
	u32 copies, in_blocks;  /* pages that still have a slot; that are swapped in blocks of compressed ones */
	u32 marks, from_disk;   /* pages marked clean; that are read from the VM's disk */
	u32 large;              /* leaves, as they were met */
	u64 large_changes;      /* at the begin */
	u64 bad;
};

/* What became of pages lately that a space had compressed; for zip_pays(). */
struct zip_use {
	u32 read, unread; /* wanted again; given up before. gs->lock */
	u32 batches;      /* that were asked about; the boot CPU's */
};

#define CAUSE_MARKS 2U

struct gspace {
	u16 id;        /* 1..GSPACE_MAX-1, unique among live spaces; rmap and frames name it */
	bool dying;    /* no new pages, transfers drain */
	char name[16]; /* the VM's, for messages */
	struct lock lock;
	struct pt pt;
	struct pt_alloc pt_alloc;
	gfn_t pages;               /* size; grows only (gspace_grow) */
	u64 leaf_read, leaf_write; /* flags of a 4 KiB leaf of this format, read-only and writable */
	u32 count[PAGE_STATES];
	u64 tlb_gen;       /* advanced when cached translations may be stale; a vCPU compares before entry */
	bool tlb_dirty;    /* changes since tlb_gen was advanced */
	bool tlb_stale;    /* a shootdown has not yet covered every change */
	bool concurrent;   /* several CPUs may run its guest at once: set by its owner before the first of them does */
	bool limbo_shared; /* limbo holds frames that other spaces mapped */
	hfn_t limbo;       /* frames out of the table, to be freed after the next flush; linked by frame->next */
	u32 users;         /* gspace_get() without gspace_put(); LOCK_RANK_SPACES */
	gfn_t destroy_at;  /* where gspace_destroy_some() goes on */
	u32 large;         /* large leaves; as many table pages are in `spares`, linked by frame->next */
	hfn_t spares;
	gfn_t moving;       /* region that is unmapped to be rebuilt, GFN_NONE: none */
	hfn_t moving_table; /* its level-1 table, meanwhile linked nowhere */
	gfn_t rebuild_at;   /* where gspace_rebuild() goes on */
	gfn_t search_at;    /* where a search for a victim goes on that found none in its time; 0: none did */
	struct zpool zip;   /* its compressed pages */
	u32 zip_percent;    /* of its size that zip may take; 0: the host's default, ZIP_NONE: nothing */
	struct zip_use zip_use;
	struct mem_alloc alloc;
	struct gspace_stats stats;
	struct gspace_proof proof;

	/* reclaim's view, guarded by LOCK_RANK_RECLAIM */
	u32 target;              /* pages this VM should hold; policy.c */
	u32 balloon_target;      /* pages the balloon should hold */
	u32 balloon_max;         /* 65 % of pages by default */
	u32 balloon_rate;        /* pages a second up and down, 0 = default */
	bool balloon_present;    /* driver has registered */
	bool balloon_2m;         /* and may name 2 MiB units */
	u64 balloon_progress_ns; /* last time it moved toward its target */
	u64 share_group;         /* whom it may share pages with: share.h; set before the first page is there */
	/* share scanner's, guarded by LOCK_RANK_SHARE */
	u32 scan_credit; /* pages it may scan now */
	u32 scan_pos;    /* place in the present pass */
	u64 scan_ns;     /* when scan_credit was last added to */
	u64 scan_key;    /* order of the present pass, 0: none begun */
	/* reclaim's again */
	u32 swap_reserved; /* slots promised at admission */
	gfn_t order_next;  /* behind the last first write of its guest; with the next guarded by `lock` */
	u32 order_run;     /* pages it has gone through in order up to there */
	gfn_t ahead_next;  /* where the last read from swap ended; with the next guarded by `lock` */
	u32 ahead;         /* pages it takes at once */
	/* PRIVATE pages (or on their way out) that still have the slot they came from; guarded by `lock` */
	u32 swap_copies;
	gfn_t copies_at; /* where gspace_shed_copies() goes on */
	/* transfers that refer to this space (LOCK_RANK_SWAP); it may not go away before they end */
	u32 swap_in_flight;
	struct clean_disk disk; /* that its pages may be copies of; with the next four guarded by `lock` */
	u32 clean_marks;        /* PRIVATE pages that are marked clean */
	u32 clean_reads;        /* SWAPPING_IN pages that come from the disk */
	gfn_t clean_next;       /* where the last read from the disk ended */
	u32 clean_window;       /* pages it takes at once */
	gfn_t clean_hand;       /* where the last search for pages to drop ended; written with `lock` held */
	u32 clean_in_flight;    /* reads under way; clean.c's */
	u32 balloon_manual;     /* operator's fixed size, GFN_NONE: automatic */
	u32 balloon_last;       /* size at the last balance */
	u32 balloon_speed;      /* pages a balance period it grew by, smoothed */
	u64 balloon_raised_ns;  /* last time its target rose */
	u32 ration;             /* frames it may have in state low, to be able to inflate; atomic */
	u32 limit_ration;       /* frames it may have above that; atomic */
	u32 limit_least;        /* pages: the least it held while it was far above its limit; ~0: it is not */
	u32 limit_now;          /* pages: what a lowered limit has come down to, or less than the limit */
	u8 balloon_trouble;     /* enum balloon_trouble, as the operator has heard */
	u32 balloon_rate_down;  /* pages a second down, 0 = as up */
	struct balloon_bucket balloon_up, balloon_down, balloon_credit; /* guarded by `lock` */
	u32 balloon_deadline_ms;                                        /* time it has for its target, 0: none */
	u64 balloon_deadline_ns;                                        /* when that is over, 0: met or none */
	u32 relief_pages;                      /* atomic: taken back by the guest since the last balance */
	u64 relieved_ns;                       /* when that was last seen */
	u64 watch_ns, watch_out, watch_broken; /* what its balloon had given and broken at the beginning of the watch */
	u64 distrust_ns;                       /* until then it is no tier: it takes back what it gives */
	/* pages it held when the causes of changes of state were marked (reclaim_cause.h) */
	u32 held_mark[CAUSE_MARKS];
	struct wss wss;    /* sampling of the working set */
	struct dynmem dyn; /* a size that changes */
	struct list link;  /* in the list of all spaces */
};

#define GSPACE_MAX     1024U
#define ZIP_NONE       (~0u)
#define PAGE_FROM_DISK 0x80000000U /* in the payload of a page SWAPPING_IN */

/* id is chosen; fmt is the vendor's. E_NOMEM. */
int gspace_init(struct gspace *gs, const char *name, gfn_t pages, const struct pt_format *fmt,
		const struct mem_alloc *alloc) must_check;
/*
 * The guest takes [first, first + n) on line: memory behind what it has, as far as it was offered (dynmem.h). All of it
 * ABSENT; nothing is allocated. E_INVAL: n is 0, or first is not its end. E_NOSPC: beyond the offer. E_PERM: dying.
 */
int gspace_grow(struct gspace *gs, u64 first, u64 n) must_check;
/*
 * Gives everything back, at most `budget` pages a call. True when done (also waits for transfers in flight).
 * Only with no vCPU running and dying set by the first call.
 */
bool gspace_destroy_some(struct gspace *gs, u32 budget);
struct gspace *gspace_by_id(u16 id); /* NULL if gone */
/* As gspace_by_id, and keeps it from going away until gspace_put(). NULL also if it is dying. */
struct gspace *gspace_get(u16 id);
void gspace_put(struct gspace *gs);
/*
 * Spaces in creation order, dying ones included; NULL cursor starts. For policy and scanners. The result stays valid
 * within the same work item: a space's end is a work item of its own.
 */
struct gspace *gspace_next(struct gspace *gs);

enum page_state gspace_state(struct gspace *gs, gfn_t gfn); /* a snapshot */

/*
 * Pages charged to the VM: private + pinned + in flight + frames of its compressed pages + its part of shared frames;
 * zero pages: 0. A shared page is charged the host's mean 1/refs (shared frames / pages that map them), so the charges
 * of all spaces add up to the frames in use, and no change of one frame's references has to visit all its mappers.
 */
u32 gspace_consumed(const struct gspace *gs);
/* Pages it can read that are not charged: zero pages, and of shared pages the rest. */
u32 gspace_saved(const struct gspace *gs);
/* Host-wide sums of count[] over live spaces. */
void gspace_host_counts(u64 out[PAGE_STATES]);

/*
 * A guest (or we for it) touches a page.
 *  0          the access will now succeed
 *  E_AGAIN    wait: transfer started or no frame now; mm_wake() follows
 *  E_FAULT    gfn outside the space, or the space is ending
 *  E_IO       the page is lost (mm_gspace_poisoned has been or will be called)
 */
int gspace_touch(struct gspace *gs, gfn_t gfn, enum gspace_access access) must_check;

/*
 * Copies between the hypervisor and guest-physical memory, touching pages as needed.
 * A copy that must wait returns E_AGAIN and may have moved a part: repeat the whole.
 * len <= GSPACE_COPY_MAX.
 */
#define GSPACE_COPY_MAX (64 * KIB)
int gspace_read(struct gspace *gs, gpa_t gpa, void *dst, size_t len) must_check;
int gspace_write(struct gspace *gs, gpa_t gpa, const void *src, size_t len) must_check;

/*
 * Pins a page (counted) for hypervisor access or DMA: PINNED until the last unpin. A pinned page has a frame of its
 * own whether written or not. A space does not end while it has pinned pages.
 * write: the content will change. E_AGAIN as gspace_touch; E_BUSY if the pin count is full.
 */
int gspace_pin(struct gspace *gs, gfn_t gfn, bool write, hfn_t *hfn) must_check;
/*
 * The same for a page all of which is going to be written (or else is zero or what it was): it is not brought back for
 * that.
 */
int gspace_pin_new(struct gspace *gs, gfn_t gfn, hfn_t *hfn) must_check;
void gspace_unpin(struct gspace *gs, gfn_t gfn);

/*
 * Balloon: the guest gives up / wants back a page. Both idempotent per page state:
 * E_INVAL outside or wrong state, E_BUSY pinned or in flight.
 */
int gspace_balloon_take(struct gspace *gs, gfn_t gfn) must_check;
int gspace_balloon_give(struct gspace *gs, gfn_t gfn) must_check; /* BALLOONED -> ABSENT */
/*
 * The same for a region, first its first page. take: all or nothing; *at is the page that was refused. A whole large
 * page, an absent or a ballooned region is one step; else each page is one. give: returns how many came back.
 */
int gspace_balloon_take_large(struct gspace *gs, gfn_t first, gfn_t *at) must_check;
u32 gspace_balloon_give_large(struct gspace *gs, gfn_t first);

/*
 * Looks at up to `regions` regions for one whose pages are all PRIVATE but mapped singly, and maps it by a large leaf
 * again: in place if its frames are still in order, else by a copy, at most one a call. A region that is touched
 * meanwhile stays as it was. Empty tables on the way are given back. For times of plenty. Returns regions rebuilt.
 */
u32 gspace_rebuild(struct gspace *gs, u32 regions);

/*
 * A PRIVATE page no transfer uses, or a SHARED one whose frame nobody else maps any more, for swap and sharing: a few
 * random probes, then a bounded linear search from a random place. Pages of large leaves that were used since the last
 * look come last. False if it found none (there may be some yet). A snapshot: what is done to the page re-checks it.
 * random_shared: a SHARED page, of those probed the one with the fewest mappers.
 */
struct prng;
bool gspace_random_private(struct gspace *gs, struct prng *rnd, gfn_t *out);
bool gspace_random_shared(struct gspace *gs, struct prng *rnd, gfn_t *out);

/*
 * Swap transitions (called by swap.c). The frame of a page in SWAPPING_IN is the transfer's, in state FRAME_HV: given
 * to swap_in_start(), taken over by in_done, freed by swap.c on failure. After in_done the slot is swap.c's to free;
 * after in_failed it still belongs to the page. For every out_begin there must be one out_done_all or out_failed with
 * the same hfn, also if the space is dying.
 *  out_begin  PRIVATE -> SWAPPING_OUT (also ZERO/absent refused: E_INVAL; PINNED or FRAME_F_IO E_BUSY; dying E_PERM).
 *             E_EXIST: it was marked clean, and is CLEAN now: out already.
 *             *hfn holds the content. Caller flushes (gspace_flush) before it starts the write.
 *  out_begin_some  the same for at most `most` of the next `look` pages from `from` < pages on: those that can go,
 *                  whose numbers and
 *             frames it stores. Returns how many
 *  out_done_all  of n <= 64 pages each SWAPPING_OUT -> SWAPPED, with as many slots from `slot` on; frames are freed
 *                after the caller's flush.
 *             Returns bit i set: slot + i is used; clear: that page was rescued meanwhile
 *  out_failed SWAPPING_OUT -> PRIVATE (write error; nothing lost); if rescued, only ends the transfer
 *  out_unchanged  instead of out_done_all, after the flush: SWAPPING_OUT -> SWAPPED with the slot the page once came
 *                 from, if it still is
 *             what it was then. False: it is not, or has none, or was rescued: all as before
 *  in_done    SWAPPING_IN -> PRIVATE with hfn; in_failed: SWAPPING_IN -> SWAPPED. in_done keeps `slot` with the page,
 *             if it returns true
 */
int gspace_swap_out_begin(struct gspace *gs, gfn_t gfn, hfn_t *hfn) must_check;
u32 gspace_swap_out_begin_some(struct gspace *gs, gfn_t from, u32 look, u32 most, gfn_t *gfn, hfn_t *hfn) must_check;
u64 gspace_swap_out_done_all(struct gspace *gs, u32 n, const gfn_t *gfn, const hfn_t *hfn, u32 slot) must_check;
void gspace_swap_out_failed(struct gspace *gs, gfn_t gfn, hfn_t hfn);
struct digest;
bool gspace_swap_out_unchanged(struct gspace *gs, gfn_t gfn, hfn_t hfn, const struct digest *digest) must_check;
/*
 * Between out_begin and flush and out_done or out_failed, by share.c. The frame is freed after the next flush. E_BUSY:
 * the page was rescued meanwhile, its transfer is over. Other errors: the page waits as before.
 *  out_zero   SWAPPING_OUT -> ZERO if its content is zero; E_INVAL: it is not
 *  out_merge  SWAPPING_OUT -> SHARED `with`, on which the caller has a hold, if their contents are equal; E_INVAL: they
 *             differ. E_NOMEM
 */
int gspace_out_zero(struct gspace *gs, gfn_t gfn, hfn_t hfn) must_check;
int gspace_out_merge(struct gspace *gs, gfn_t gfn, hfn_t hfn, hfn_t with) must_check;
bool gspace_swap_in_done(struct gspace *gs, gfn_t gfn, hfn_t hfn, u32 slot) must_check;
void gspace_swap_in_failed(struct gspace *gs, gfn_t gfn);

/* Gives back the slots of up to n pages that are in RAM; a bounded look. */
void gspace_shed_copies(struct gspace *gs, u32 n);

/*
 * Between out_begin and flush and out_done or out_failed, by zip.c: SWAPPING_OUT -> COMPRESSED, frame freed after the
 * next flush. E_BUSY: the page was rescued meanwhile, its transfer is over. Other errors are zpool_put()'s: the page
 * waits as before.
 */
struct zpage;
int gspace_zip_done(struct gspace *gs, gfn_t gfn, hfn_t hfn, const struct zpage *page) must_check;
/*
 * A page that did not compress: mark_poor while it is SWAPPING_OUT with hfn. It stays marked while it is PRIVATE and
 * not written to; without a dirty bit it counts as written.
 */
void gspace_mark_poor(struct gspace *gs, gfn_t gfn, hfn_t hfn);
bool gspace_is_poor(struct gspace *gs, gfn_t gfn);
/*
 * The oldest block of compressed pages on its way to swap and back, by swap.c. A SWAPPED page of such a block has an
 * entry, not a slot: handle | SWAP_PACKED.
 *  out_begin  the block, 0: none; *hfn holds it and does not change till the end. Touches take pages from it as before
 *  out_done   its pages are SWAPPED and its frame is freed; returns how many, 0: all are gone, and the slot is not used
 *  out_failed all as before
 *  in_done    the pages are COMPRESSED; returns how many. The slot is swap.c's to free
 *  in_failed  the frame is swap.c's to free. False: all pages are gone, and the slot is, too
 */
u32 gspace_zip_out_begin(struct gspace *gs, hfn_t *hfn);
u32 gspace_zip_out_done(struct gspace *gs, u32 block, u32 slot);
void gspace_zip_out_failed(struct gspace *gs, u32 block);
u32 gspace_zip_in_done(struct gspace *gs, u32 block);
bool gspace_zip_in_failed(struct gspace *gs, u32 block);

/*
 * Pages that are copies of a block of the VM's own disk; what a guest's hints do (clean.h).
 *  set_disk   the disk, or NULL: no read of it begins any more
 *  mark       gfn holds what `block` does: a PRIVATE page is marked, one that is compressed or swapped becomes CLEAN.
 *             False: neither, or the block is not on the disk. The caller flushes (gspace_flush) before it believes the
 *             mark. *split: a large page was split for it
 *  unmark     gfn is no copy any more (its block is going to change). E_AGAIN: it has to come back first, and mm_wake()
 *             follows; E_IO as gspace_touch
 *  overwrite  all of gfn is going to be written: what it holds elsewhere is dropped, and it is ABSENT. False: it holds
 *             nothing elsewhere
 *  drop       takes up to `want` marked pages out of RAM, those not used of late first; a bounded look. Returns pages;
 *             the caller flushes
 *  in_done, in_failed   by clean.c: SWAPPING_IN -> PRIVATE, marked, with hfn; SWAPPING_IN -> CLEAN. The caller wakes
 *  the space
 */
void gspace_set_disk(struct gspace *gs, const struct clean_disk *disk);
bool gspace_clean_mark(struct gspace *gs, gfn_t gfn, u64 block, bool *split);
int gspace_clean_unmark(struct gspace *gs, gfn_t gfn) must_check;
bool gspace_overwrite(struct gspace *gs, gfn_t gfn);
u32 gspace_clean_drop(struct gspace *gs, u32 want, gfn_t start);
void gspace_clean_in_done(struct gspace *gs, gfn_t gfn, hfn_t hfn);
void gspace_clean_in_failed(struct gspace *gs, gfn_t gfn);

/*
 * Share transitions (called by share.c, which explains the order), gs->lock inside unless stated.
 *  share_zero     PRIVATE -> ZERO if its content is zero, looked at while nobody can write; E_INVAL if it is not
 *  private_hfn    frame of a PRIVATE page no transfer uses, else HFN_NONE. gs->lock held, and kept while the result is
 *                 used. A SHARED page whose frame nobody else maps any more becomes PRIVATE first. large: also of a
 *                 page in a large leaf, which stays one, but its frames get entries of their own
 *  share_protect  PRIVATE -> SHARED with one reference, and flushes: on return the content changes only with the state.
 *                 E_INVAL if gfn is not PRIVATE with frame hfn (HFN_NONE: any), E_NOMEM. hinted: nor if that has no
 *                 hint
 *  share_move     SHARED `from`, one reference and no entry -> SHARED `to`, a copy, which was HV and has an entry now;
 *                 frees `from` and flushes. E_AGAIN: the page changed meanwhile. E_NOMEM
 *  share_merge    SHARED `own`, one reference -> SHARED `with`, on which the caller has a hold, if their contents are
 *                 equal; frees own. E_INVAL: they differ. E_AGAIN: the page changed meanwhile. E_NOMEM
 *  share_undo     SHARED hfn with one reference -> PRIVATE; anything else is left as it is
 *  unshare        SHARED -> PRIVATE, in a copy (half of the reserve may be used) if others map the frame, so that it
 *                 can be swapped; also 0 if it is PRIVATE. E_INVAL: neither. E_NOMEM. Takes gs->lock; the caller
 *                 flushes
 *  share_drop     ends a hold; if it was the last reference, frees the frame (gs: whose flush it waits for)
 */
int gspace_share_zero(struct gspace *gs, gfn_t gfn) must_check;
hfn_t gspace_private_hfn(struct gspace *gs, gfn_t gfn, bool large);
int gspace_share_protect(struct gspace *gs, gfn_t gfn, hfn_t hfn, bool hinted) must_check;
int gspace_share_move(struct gspace *gs, gfn_t gfn, hfn_t from, hfn_t to, u64 hash) must_check;
int gspace_share_merge(struct gspace *gs, gfn_t gfn, hfn_t own, hfn_t with) must_check;
void gspace_share_undo(struct gspace *gs, gfn_t gfn, hfn_t hfn);
int gspace_unshare(struct gspace *gs, gfn_t gfn) must_check;
void gspace_share_drop(struct gspace *gs, hfn_t hfn);

/* Shoots down what changed and frees the frames in limbo. Call without gs->lock. Cheap if nothing changed. */
void gspace_flush(struct gspace *gs);

/* Test-and-clear of the accessed bit (false for a page not mapped); E_NOSYS without one. A large leaf has one for all
 * its pages. Flush is batched by the caller. */
int gspace_test_accessed(struct gspace *gs, gfn_t gfn, bool *accessed) must_check;

/*
 * Working-set samples (wss.c). A watched page shows whether it was touched since, by its accessed bit or, `unmap`, by
 * being mapped again. Flush (gspace_flush) between the two. A page that is not mapped when it is watched counts once it
 * is mapped and used. written: by its dirty bit; false where `unmap` says nothing of that.
 */
bool gspace_has_accessed(const struct gspace *gs);
bool gspace_watch(struct gspace *gs, gfn_t gfn, bool unmap); /* true: there is something to flush */
bool gspace_watched_touched(struct gspace *gs, gfn_t gfn, bool unmap, bool *written);

/*
 * Walks the whole table: counts, frame entries and reverse map must agree. Returns pages that do not (0 = consistent)
 * and logs the first.
 */
u64 gspace_verify(struct gspace *gs);
/*
 * The same, `regions` regions a piece, or as many records of the pool as pages of these: begin, some until it is false,
 * then how many are wrong.
 */
void gspace_verify_begin(struct gspace *gs);
bool gspace_verify_some(struct gspace *gs, u32 regions);
u64 gspace_verify_end(struct gspace *gs);
/*
 * All spaces, and host-wide: sums of counts, references against reverse-map nodes and mappers, guest frames against
 * pages. No hold may exist.
 */
u64 gspace_verify_all(void);

#endif
