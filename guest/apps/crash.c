/*
 * crash: a guest that misbehaves, `how=NAME`, `after=` seconds after start (default 2). What needs only hypercalls and
 * shared pages is here; processor faults are in kernel/misbehave.c. What the guest survives prints "crash:
 * survived NAME"; then= says what follows: crash (default: it reports one), run (it stays idle) or off. wildcall:
 * calls=10000.
 *
 * Everything random stays inside pages set aside for it, so that the host is what is tested and not this kernel's luck.
 */
#include "guest/apps/apps.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "lib/err.h"
#include "lib/prng.h"
#include "lib/string.h"

#define SCRATCH_PAGES 64
#define VICTIM_PAGES  (SCRATCH_PAGES - DISK_COUNT_MAX) /* where a transfer may start */
#define LIE_ROUNDS    200

struct crash {
	const char *how, *then;
	u64 at_ns;
	u64 calls;
	bool done;
	u8 *scratch;
	struct prng prng;
};

struct misdeed {
	const char *name;
	void (*run)(struct kernel *k, struct crash *c);
};

static u64 scratch_gpa(struct crash *c)
{
	return arch_pa(c->scratch) + prng_below(&c->prng, SCRATCH_PAGES) * PAGE_SIZE;
}

/* An argument of one of the kinds that checks get wrong. */
static u64 wild(struct kernel *k, struct crash *c)
{
	switch (prng_below(&c->prng, 8)) {
	case 0:
		return prng_next(&c->prng);
	case 1:
		return prng_below(&c->prng, 1024);
	case 2:
		return k->start.memory_bytes + prng_below(&c->prng, 8192) - 4096;
	case 3:
		return -prng_below(&c->prng, 8192);
	case 4:
		return BIT(prng_below(&c->prng, 64));
	case 5:
		return scratch_gpa(c) + prng_below(&c->prng, PAGE_SIZE);
	default:
		return scratch_gpa(c);
	}
}

/* Balloon entries: garbage, and pages of the scratch area. */
static void fill_entries(struct crash *c)
{
	u64 *entry = (u64 *)c->scratch;

	for (u32 i = 0; i < PAGE_SIZE / sizeof(*entry); i++)
		entry[i] = prng_below(&c->prng, 2) ? prng_next(&c->prng) | BIT(63)
						   : scratch_gpa(c) | prng_below(&c->prng, 16) << 4;
}

static u64 wild_number(struct crash *c)
{
	u64 n;

	do {
		n = prng_below(&c->prng, 4) ? prng_below(&c->prng, AERO_CALLS + 4) : prng_next(&c->prng);
	} while (n == AERO_CALL_SHUTDOWN);
	return n;
}

/* A first argument that cannot hurt this kernel: reads from the console go to the scratch area or nowhere. */
static void wildcall(struct kernel *k, struct crash *c)
{
	u64 refused = 0, number, gpa;

	for (u64 i = 0; i < c->calls; i++) {
		if (i % 64 == 0)
			fill_entries(c);
		number = wild_number(c);
		gpa = wild(k, c);
		if (number == AERO_CALL_BALLOON_INFLATE || number == AERO_CALL_BALLOON_DEFLATE ||
		    number == AERO_CALL_PAGE_HINT)
			gpa = prng_below(&c->prng, 2) ? arch_pa(c->scratch) : gpa | BIT(62);
		refused += arch_hypercall(number, gpa, wild(k, c), wild(k, c), NULL) < 0;
	}
	print("crash: %lu wild calls, %lu refused\n", c->calls, refused);
	/* The upcall vector and timer may be anything now: put right what the kernel needs. */
	arch_hypercall(AERO_CALL_UPCALL, KERNEL_UPCALL_VECTOR, 0, 0, NULL);
	k->timer_ns = 1;
}

/* Gives pages and touches them, gives them twice, takes back what was never given, tells impossible figures. */
static void balloonlie(struct kernel *k, struct crash *c)
{
	u64 *entry = (u64 *)c->scratch, kept = 0;

	for (u32 round = 0; round < LIE_ROUNDS; round++) {
		for (u32 i = 0; i < SCRATCH_PAGES - 1; i++)
			entry[i] = arch_pa(c->scratch) + (i + 1) * PAGE_SIZE;
		for (u32 i = SCRATCH_PAGES - 1; i < AERO_BALLOON_BATCH_MAX; i++)
			entry[i] = entry[i % (SCRATCH_PAGES - 1)];
		arch_hypercall(AERO_CALL_BALLOON_INFLATE, arch_pa(entry), AERO_BALLOON_BATCH_MAX, 0, NULL);
		for (u32 i = 1; i < SCRATCH_PAGES; i++) {
			u64 *touched = (u64 *)(c->scratch + i * PAGE_SIZE);

			kept += *touched != 0;
			*touched = round;
		}
		arch_hypercall(AERO_CALL_BALLOON_DEFLATE, arch_pa(entry), AERO_BALLOON_BATCH_MAX, 0, NULL);
		k->info->balloon_report.achieved = prng_next(&c->prng);
		k->info->memory.free = ~0ul;
	}
	print("crash: lied %u times, %lu pages had kept their content\n", LIE_ROUNDS, kept);
}

/* Requests nobody should believe, changed again while they are worked on. */
static void ringlie(struct kernel *k, struct crash *c)
{
	struct aero_disk_ring *ring = k->disk.ring;
	u64 refused = 0;

	if (!ring) {
		print("crash: no disk\n");
		return;
	}
	for (u32 round = 0; round < LIE_ROUNDS; round++) {
		for (u32 i = 0; i < AERO_DISK_REQUESTS; i++) {
			struct aero_disk_request *r = &ring->request[i];

			*r = (struct aero_disk_request){
			    .page = prng_below(&c->prng, 2) ? wild(k, c) : prng_below(&c->prng, k->disk.pages + 8),
			    .gpa = prng_below(&c->prng, 4)
				       ? arch_pa(c->scratch) + prng_below(&c->prng, VICTIM_PAGES) * PAGE_SIZE
				       : wild(k, c) | BIT(62),
			    .op = (u32)prng_below(&c->prng, 5),
			    .count = (u32)prng_below(&c->prng, 24),
			    .status = (s32)prng_below(&c->prng, 3),
			};
			if (r->count > DISK_COUNT_MAX)
				r->count = prng_below(&c->prng, 2) ? ~0u : 17;
		}
		WRITE_ONCE(ring->posted, ring->posted + (u32)prng_below(&c->prng, 2 * AERO_DISK_REQUESTS));
		if (prng_below(&c->prng, 16) == 0)
			WRITE_ONCE(ring->posted, (u32)prng_next(&c->prng));
		refused += arch_hypercall(AERO_CALL_DISK_KICK, 0, 0, 0, NULL) < 0;
		WRITE_ONCE(ring->completed, (u32)prng_next(&c->prng));
	}
	print("crash: %u rounds of lies in the ring, %lu kicks refused\n", LIE_ROUNDS, refused);
}

/* Words of the scratch area, on the disk and in memory: they tell that they are ours. */
static u64 own_word(struct kernel *k, struct crash *c)
{
	return (k->seed & ~0xfffful) | (prng_next(&c->prng) & 0xfffful);
}

static void scribble(struct kernel *k, struct crash *c, u32 page)
{
	u64 *word = (u64 *)(c->scratch + page * PAGE_SIZE), own = own_word(k, c);

	for (u32 i = 0; i < PAGE_SIZE / sizeof(*word); i++)
		word[i] = own;
}

/* Neither ours nor zero. */
static u64 foreign_words(struct kernel *k, struct crash *c, u32 page)
{
	const u64 *word = (u64 *)(c->scratch + page * PAGE_SIZE);
	u64 n = 0;

	for (u32 i = 0; i < PAGE_SIZE / sizeof(*word); i++)
		n += word[i] && (word[i] ^ k->seed) >> 16;
	return n;
}

static u32 lies(struct kernel *k, struct crash *c, struct aero_hint *h)
{
	u32 n = (u32)prng_below(&c->prng, AERO_HINT_BATCH_MAX) + 1;

	for (u32 i = 0; i < n; i++) {
		u64 page = arch_pa(c->scratch) + (1 + prng_below(&c->prng, SCRATCH_PAGES - 1)) * PAGE_SIZE;

		h[i].page = prng_below(&c->prng, 4) ? page | (1 + prng_below(&c->prng, 3))
						    : wild(k, c) | BIT(52 + prng_below(&c->prng, 12));
		h[i].block = prng_below(&c->prng, 2)   ? prng_below(&c->prng, k->disk.pages + 8)
			     : prng_below(&c->prng, 4) ? 0
						       : wild(k, c);
	}
	return n;
}

/*
 * Pages said to be copies of blocks that they are not, blocks written without a word, pages to be overwritten that are
 * read. What comes of it is zeroes, and what this VM itself wrote, if to another place.
 */
static void hintlie(struct kernel *k, struct crash *c)
{
	u64 refused = 0, foreign = 0;

	for (u32 i = 1; i < SCRATCH_PAGES; i++)
		scribble(k, c, i);
	for (u32 round = 0; round < LIE_ROUNDS; round++) {
		u32 n = lies(k, c, (struct aero_hint *)c->scratch);
		u32 page = 1 + (u32)prng_below(&c->prng, SCRATCH_PAGES - 1);

		if (round % 16 == 15)
			n = (u32)wild(k, c);
		refused += arch_hypercall(AERO_CALL_PAGE_HINT, arch_pa(c->scratch), n, 0, NULL) < 0;
		for (u32 i = 1; i < SCRATCH_PAGES; i++)
			foreign += foreign_words(k, c, i);
		scribble(k, c, page);
		if (disk_present(&k->disk) &&
		    disk_transfer(&k->disk, AERO_DISK_WRITE, prng_below(&c->prng, k->disk.pages),
				  arch_pa(c->scratch + page * PAGE_SIZE), 1))
			refused++;
	}
	print("crash: hints that lie, %u times, %lu refused, %lu foreign words\n", LIE_ROUNDS, refused, foreign);
}

/* Scribbles over the shared page, the host's half too. */
static void infolie(struct kernel *k, struct crash *c)
{
	struct aero_info saved = *k->info;

	for (u32 round = 0; round < LIE_ROUNDS; round++) {
		for (u32 i = 1; i < sizeof(*k->info) / sizeof(u64); i++)
			WRITE_ONCE(((u64 *)k->info)[i], prng_next(&c->prng));
		arch_hypercall(AERO_CALL_BALLOON_POLL, 0, 0, 0, NULL);
	}
	saved.events = ~0ul & ~AERO_EVENT_SHUTDOWN;
	*k->info = saved;
}

static void end_off(struct kernel *k, struct crash *c)
{
	(void)k, (void)c;
	kernel_shutdown(AERO_SHUTDOWN_OFF);
}

static void end_reboot(struct kernel *k, struct crash *c)
{
	(void)k, (void)c;
	kernel_shutdown(AERO_SHUTDOWN_REBOOT);
}

static const struct misdeed misdeeds[] = {
    {"wildcall", wildcall}, {"balloonlie", balloonlie}, {"ringlie", ringlie},   {"hintlie", hintlie},
    {"infolie", infolie},   {"off", end_off},           {"reboot", end_reboot},
};

static bool commit(struct kernel *k, struct crash *c)
{
	for (u32 i = 0; i < ARRAY_SIZE(misdeeds); i++) {
		if (str_eq(misdeeds[i].name, c->how)) {
			misdeeds[i].run(k, c);
			return true;
		}
	}
	return arch_misbehave(c->how);
}

static int crash_start(struct kernel *k)
{
	struct crash *c = k->app_state = ram_array(&k->ram, sizeof(*c));
	u64 after;
	int err;

	if (!c)
		return E_NOMEM;
	c->how = args_text(&k->args, "how", "triple");
	c->then = args_text(&k->args, "then", "crash");
	c->scratch = ram_array(&k->ram, SCRATCH_PAGES * PAGE_SIZE);
	if (!c->scratch)
		return E_NOMEM;
	prng_seed(&c->prng, k->seed);
	/* These need a target that is not met: the driver stays out of it. */
	if (str_eq(c->how, "balloonlie") || str_eq(c->how, "selfballoon"))
		k->balloon.present = false;
	err = args_number(&k->args, "after", 86400, 2, &after);
	if (!err)
		err = args_number(&k->args, "calls", 1000000000, 10000, &c->calls);
	if (err)
		return err;
	c->at_ns = clock_ns(&k->clock) + after * NSEC_PER_SEC;
	k->info->app.state = 1;
	print("crash: ready, %s in %lu s\n", c->how, after);
	return 0;
}

static u64 crash_step(struct kernel *k, u64 until_ns)
{
	struct crash *c = k->app_state;

	(void)until_ns;
	if (c->done)
		return KERNEL_NEVER;
	if (clock_ns(&k->clock) < c->at_ns)
		return c->at_ns;
	c->done = true;
	print("crash: now: %s\n", c->how);
	if (!commit(k, c)) {
		print("crash: no misdeed '%s' (there are: wildcall balloonlie ringlie hintlie infolie off reboot %s)\n",
		      c->how, arch_misbehaviours());
		return KERNEL_NEVER;
	}
	print("crash: survived %s\n", c->how);
	if (!str_eq(c->then, "run"))
		kernel_shutdown(str_eq(c->then, "off") ? AERO_SHUTDOWN_OFF : AERO_SHUTDOWN_CRASH);
	return KERNEL_NEVER;
}

const struct app app_crash = {.name = "crash", .start = crash_start, .step = crash_step};
