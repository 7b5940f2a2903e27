/*
 * Page hash and checksum: XXH3 from libxxhash's header, scalar code only. The key is mixed in as the seed; it is a
 * secret of this boot, so a guest cannot prepare colliding pages.
 */
#include "lib/hash.h"

#include "lib/string.h"

#define XXH_INLINE_ALL
#define XXH_VECTOR 0 /* XXH_SCALAR */
#define XXH_NO_STDLIB
#define XXH_NO_STREAM
#include <xxhash.h>

u64 hash_bytes(const void *data, size_t len, u64 key)
{
	return XXH3_64bits_withSeed(data, len, key);
}
