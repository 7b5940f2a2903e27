/*
 * A guest for simulations: logical pages with known content in guest memory or on the guest's own disk, a page
 * allocator, a balloon driver of some kind. It checks what it reads. A touch that has to wait blocks it until mm_wake()
 * - nothing else - so a lost wake-up is a guest that stands still.
 */
#ifndef TESTS_SIM_GUEST_H
#define TESTS_SIM_GUEST_H

#include "lib/prng.h"
#include "mm/gspace.h"

enum sim_balloon {
	SIM_GOOD,   /* does what it is asked, evicting pages to its disk */
	SIM_SLOW,   /* a page now and then */
	SIM_LYING,  /* inflates and goes on using the pages */
	SIM_DEAF,   /* has a driver that never answers */
	SIM_ABSENT, /* has none */
};

struct sim_page {
	gfn_t gfn; /* GFN_NONE: on the guest's disk, or never used */
	u32 version;
};

struct sim_guest {
	struct gspace gs;
	enum sim_balloon kind;
	struct prng rnd;
	u32 logical; /* pages of its workload */
	u32 common;  /* of these, the last have the same content in all guests until written */
	u32 write_percent;
	struct sim_page *page;
	gfn_t *free; /* stack of guest frames it believes free */
	u32 free_count;
	gfn_t *balloon; /* stack of those in the balloon */
	u32 balloon_count;
	u32 todo; /* page whose access had to wait */
	bool blocked, running;
	u64 operations, waits, bad, evictions;
};

void sim_start(struct sim_guest *g, const char *name, u32 pages, u32 logical, enum sim_balloon kind, u32 reservation);
/* Up to n accesses, stopping when it has to wait. */
void sim_run(struct sim_guest *g, u32 n);
/* One turn of its balloon driver. */
void sim_balloon(struct sim_guest *g);
/*
 * Reads every logical page, blocked or not able to go on as it may be: `pump` lets time pass. Returns pages found
 * wrong.
 */
u64 sim_verify(struct sim_guest *g, void (*pump)(void));
/* The guest is gone; pump as above. */
void sim_end(struct sim_guest *g, void (*pump)(void));
/* To be set as fake_mm_on_wake by the simulation. */
void sim_woken(struct sim_guest *g, struct gspace *gs);

#endif
