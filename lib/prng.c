/* xoshiro256**, seeded through splitmix64 so that any seed (0 too) gives a good state. */
#include "lib/prng.h"

#include "lib/panic.h"

static u64 rotate_left(u64 x, u32 n)
{
	return x << n | x >> (64 - n);
}

void prng_seed(struct prng *p, u64 seed)
{
	for (u32 i = 0; i < ARRAY_SIZE(p->s); i++) {
		u64 z = seed += 0x9e3779b97f4a7c15UL;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9UL;
		z = (z ^ z >> 27) * 0x94d049bb133111ebUL;
		p->s[i] = z ^ z >> 31;
	}
}

u64 prng_next(struct prng *p)
{
	u64 *s = p->s;
	u64 result = rotate_left(s[1] * 5, 7) * 9;
	u64 t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate_left(s[3], 45);
	return result;
}

/* Multiply and take the high half; values that would favour some results are drawn again. */
u64 prng_below(struct prng *p, u64 bound)
{
	unsigned __int128 product;
	u64 unfair;

	CHECK(bound > 0);
	unfair = (0 - bound) % bound;
	do {
		product = (unsigned __int128)prng_next(p) * bound;
	} while ((u64)product < unfair);
	return (u64)(product >> 64);
}
