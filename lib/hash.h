/*
 * Keyed 64-bit hashes. hash_bytes: xxHash's XXH3 (libxxhash, header only, no vectors). hash_page: for whole pages,
 * which are hashed by the million.
 */
#ifndef LIB_HASH_H
#define LIB_HASH_H

#include "lib/types.h"

u64 hash_bytes(const void *data, size_t len, u64 key);

/*
 * At boot, before the first hash_page(): the secret that makes equal hashes of different pages as rare as chance,
 * whatever a guest writes. key tells apart what is to be (groups, places); hashes under different keys have nothing in
 * common.
 */
void hash_set_secret(u64 secret);
u64 hash_page(const void *page, u64 key);

/*
 * The same in two steps, for who needs several hashes of a page: what depends on it alone, and a hash of that, which
 * costs next to nothing.
 */
struct digest {
	u64 low, high;
};
struct digest digest_page(const void *page);
struct digest digest_bytes(const void *data, size_t len); /* PAGE_SIZE at most; a page's is not digest_page()'s */
u64 digest_hash(const struct digest *d, u64 key);

#endif
