/* Keyed 64-bit page hash and checksum: xxHash's XXH3/XXH64 (libxxhash, header only, no vectors). */
#ifndef LIB_HASH_H
#define LIB_HASH_H

#include "lib/types.h"

u64 hash_bytes(const void *data, size_t len, u64 key);
static inline u64 hash_page(const void *page, u64 key) { return hash_bytes(page, PAGE_SIZE, key); }

#endif
