/*
 * hash_page is NH, the universal hash of UMAC (Black, Halevi, Krawczyk, Krovetz, Rogaway: "UMAC: Fast and Secure
 * Message Authentication", CRYPTO'99), with 64-bit words: for two pages that differ, the sums are equal for at most one
 * in 2^64 of all secrets. One multiplication for 16 bytes is less than half of what XXH3 takes without vectors.
 */
#include "lib/hash.h"

#include "lib/string.h"

#define XXH_INLINE_ALL
#define XXH_VECTOR 0 /* XXH_SCALAR */
#define XXH_NO_STDLIB
#define XXH_NO_STREAM
#include <xxhash.h>

#define PAGE_WORDS (PAGE_SIZE / sizeof(u64))

static u64 secret_word[PAGE_WORDS]; /* all zero: not chosen yet */

u64 hash_bytes(const void *data, size_t len, u64 key)
{
	return XXH3_64bits_withSeed(data, len, key);
}

/* SplitMix64's finaliser. */
static u64 mix(u64 x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9UL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebUL;
	return x ^ x >> 31;
}

void hash_set_secret(u64 secret)
{
	for (u32 i = 0; i < PAGE_WORDS; i++)
		secret_word[i] = mix(secret + (i + 1) * 0x9e3779b97f4a7c15UL);
}

/*
 * sum += (word[i] + secret[i]) * (word[i + 1] + secret[i + 1]), for 32 pairs, 7 instructions each. By hand: link-time
 * optimisation forgets `#pragma GCC unroll`, and what is unrolled in C is a tenth longer.
 */
#define NH_WORDS 64
#define NH(i)                                                                                                     \
	"mov " #i "(%[w]), %%rax; mov 8+" #i "(%[w]), %%rdx; add " #i "(%[s]), %%rax; add 8+" #i "(%[s]), %%rdx;" \
	"mul %%rdx; add %%rax, %[low]; adc %%rdx, %[high];"
#define NH_4(i)  NH(i) NH(16 + i) NH(32 + i) NH(48 + i)
#define NH_16(i) NH_4(i) NH_4(64 + i) NH_4(128 + i) NH_4(192 + i)

static inline void add_products(struct digest *sum, const u64 *word, const u64 *secret)
{
	__asm__(NH_16(0) NH_16(256)
		: [low] "+&r"(sum->low), [high] "+&r"(sum->high)
		: [w] "r"(word), [s] "r"(secret), "m"(*(const u64(*)[NH_WORDS])word),
		  "m"(*(const u64(*)[NH_WORDS])secret)
		: "rax", "rdx", "cc");
}

/* The same for four pairs, aligned anyhow. */
#define STEP_WORDS 8
#define STEP_BYTES (STEP_WORDS * sizeof(u64))

static inline void add_step(struct digest *sum, const void *word, const u64 *secret)
{
	__asm__(NH_4(0)
		: [low] "+&r"(sum->low), [high] "+&r"(sum->high)
		: [w] "r"(word), [s] "r"(secret), "m"(*(const u8(*)[STEP_BYTES])word),
		  "m"(*(const u64(*)[STEP_WORDS])secret)
		: "rax", "rdx", "cc");
}

struct digest digest_page(const void *page)
{
	const u64 *word = page, *secret = secret_word;
	struct digest sum = {0};

	if (unlikely(!(secret[0] | secret[1])))
		hash_set_secret(0);
	for (u32 i = 0; i < PAGE_WORDS; i += NH_WORDS)
		add_products(&sum, word + i, secret + i);
	return sum;
}

/* With zeroes up to a whole step, and its length. */
struct digest digest_bytes(const void *data, size_t len)
{
	struct digest sum = {.low = len};
	const u64 *secret = secret_word;
	u64 rest[STEP_WORDS] = {0};
	const u8 *at = data;

	if (unlikely(!(secret[0] | secret[1])))
		hash_set_secret(0);
	for (; len >= STEP_BYTES; len -= STEP_BYTES, at += STEP_BYTES, secret += STEP_WORDS)
		add_step(&sum, at, secret);
	if (len) {
		memcpy(rest, at, len);
		add_step(&sum, rest, secret);
	}
	return sum;
}

u64 digest_hash(const struct digest *d, u64 key)
{
	return mix(d->low ^ mix(d->high ^ mix(key)));
}

u64 hash_page(const void *page, u64 key)
{
	struct digest d = digest_page(page);

	return digest_hash(&d, key);
}
