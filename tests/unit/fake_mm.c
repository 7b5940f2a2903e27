/* See fake_mm.h. */
#include "tests/unit/fake_mm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/panic.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "mm/rmap.h"
#include "mm/share.h"
#include "tests/unit/fake_platform.h"

/* vmm/ has its own where it is linked. */
#define WEAK          __attribute__((weak))

#define HOLE_FRAMES   24         /* between the two ranges; not a power of two */
#define FILLED_FRAMES (1U << 17) /* more than any test uses that reads what it never wrote */

hfn_t fake_mm_first = 16, fake_mm_span;
struct fake_mm_counts fake_mm;
char fake_mm_poison_why[64];
void (*fake_mm_on_shootdown)(struct gspace *gs);
void (*fake_mm_on_wake)(struct gspace *gs);
u64 (*fake_mm_committed)(struct gspace *gs);

static u8 *arena;
static size_t arena_bytes;
static void *table;

void fake_mm_restart(void)
{
	u32 frames = fake_mm_span - fake_mm_first - HOLE_FRAMES, low = frames / 3;

	memset(table, 0, frame_table_bytes(fake_mm_span));
	frame_init(table, fake_mm_span);
	frame_add_range(fake_mm_first, low);
	frame_add_range(fake_mm_first + low + HOLE_FRAMES, frames - low);
	rmap_init();
	if (share_init(0x1234567890abcdef, 42))
		abort();
	fake_mm = (struct fake_mm_counts){0};
	fake_mm_poison_why[0] = '\0';
}

void fake_mm_start(u32 frames)
{
	fake_mm_stop();
	fake_mm_span = fake_mm_first + frames + HOLE_FRAMES;
	arena_bytes = (size_t)fake_mm_span * PAGE_SIZE;
	arena = mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	table = malloc(frame_table_bytes(fake_mm_span));
	if (arena == MAP_FAILED || !table)
		abort();
	if (frames <= FILLED_FRAMES)
		memset(arena, 0xa5, arena_bytes);
	fake_mm_restart();
}

void fake_mm_stop(void)
{
	if (arena)
		munmap(arena, arena_bytes);
	free(table);
	arena = NULL;
	table = NULL;
	fake_mm_on_shootdown = NULL;
	fake_mm_on_wake = NULL;
	fake_mm_committed = NULL;
}

void mm_vectors_begin(void)
{
	fake_mm.vectors++;
}

void *mm_hfn_to_va(hfn_t hfn)
{
	CHECK(hfn < fake_mm_span);
	return arena + (size_t)hfn * PAGE_SIZE;
}

hfn_t mm_va_to_hfn(const void *va)
{
	return ((const u8 *)va - arena) / PAGE_SIZE;
}

WEAK void mm_tlb_shootdown(struct gspace *gs)
{
	if (fake_mm_on_shootdown)
		fake_mm_on_shootdown(gs);
	fake_mm.shootdowns++;
}

WEAK void mm_wake(struct gspace *gs)
{
	if (fake_mm_on_wake)
		fake_mm_on_wake(gs);
	fake_mm.wakes++;
}

WEAK void mm_gspace_poisoned(struct gspace *gs, gfn_t gfn, const char *why)
{
	(void)gs;
	(void)gfn;
	strncpy(fake_mm_poison_why, why, sizeof(fake_mm_poison_why) - 1);
	fake_mm.poisoned++;
}

WEAK void mm_balloon_notify(struct gspace *gs)
{
	(void)gs;
	fake_mm.balloon_notified++;
}

WEAK u64 mm_guest_committed(struct gspace *gs)
{
	return fake_mm_committed ? fake_mm_committed(gs) : 0;
}

WEAK u64 mm_guest_time_ns(struct gspace *gs)
{
	(void)gs;
	return fake_now_ns;
}
