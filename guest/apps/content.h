/*
 * What the workloads' pages hold, so that every byte can be checked. A page's content is a function of its number, its
 * generation and (for unique pages) this VM's seed; the choice among kinds depends on the number only, so that VMs
 * agree on it.
 *
 *   ZERO    all zero in even generations, filled in odd ones
 *   SAME    the same in every VM that is at the same generation
 *   SOFT    this VM's alone, each word of the stream sixteen times: compresses to less than a quarter
 *   UNIQUE  this VM's alone
 *
 * A filled page: word 0 magic and page number, word 1 generation and kind, word 2 seed, words 3..510 a stream that
 * depends on all of these, word 511 the sum of the others. A wrong page therefore tells whose it is.
 */
#ifndef GUEST_CONTENT_H
#define GUEST_CONTENT_H

#include "lib/types.h"

enum content_kind { CONTENT_ZERO, CONTENT_SAME, CONTENT_SOFT, CONTENT_UNIQUE };

struct content {
	u64 seed;
	u32 zero_percent, same_percent, soft_percent;
};

struct content_fault {
	u32 offset; /* of the first wrong word, bytes */
	u64 found, expected;
	const char *what; /* another page's, an older generation, ... */
};

enum content_kind content_kind(const struct content *c, u32 page);
void content_fill(const struct content *c, u32 page, u32 generation, void *p);
/* Compares every byte. False: *f says how it differs. */
bool content_check(const struct content *c, u32 page, u32 generation, const void *p, struct content_fault *f);

/*
 * A page that several threads write at once, without a lock: word w is thread w % threads', with a generation of its
 * own. The words say nothing of themselves, so that writers of one page meet in every cache line. ZERO: zero in the
 * thread's even generations; SAME: two contents, by the generation's lowest bit, so that pages that parted can become
 * the same again.
 */
struct content_part {
	u32 page, thread, threads;
};
void content_fill_part(const struct content *c, const struct content_part *part, u32 generation, void *p);
bool content_check_part(const struct content *c, const struct content_part *part, u32 generation, const void *p,
			struct content_fault *f);

/* A well mixed function of x (splitmix64's finaliser). */
u64 content_mix(u64 x);

#endif
