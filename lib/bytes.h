/* Little-endian numbers in tables of others: at any address. The caller has checked that the bytes are there. */
#ifndef LIB_BYTES_H
#define LIB_BYTES_H

#include "lib/string.h"
#include "lib/types.h"

static inline u16 get16(const void *p)
{
	u16 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline u32 get32(const void *p)
{
	u32 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline u64 get64(const void *p)
{
	u64 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

#endif
