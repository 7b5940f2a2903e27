/* Byte ring: one producer, one consumer, power-of-two size; locking is the owner's. */
#ifndef VMM_RING_H
#define VMM_RING_H

#include "lib/types.h"

struct ring {
	u8 *buf;
	u32 size, head, tail; /* head: next write, tail: next read; free-running */
};

static inline void ring_init(struct ring *r, void *buf, u32 size)
{
	r->buf = buf;
	r->size = size;
	r->head = r->tail = 0;
}
static inline u32 ring_used(const struct ring *r)
{
	return r->head - r->tail;
}
static inline u32 ring_room(const struct ring *r)
{
	return r->size - ring_used(r);
}
static inline bool ring_put(struct ring *r, u8 c)
{
	if (ring_room(r) == 0)
		return false;
	r->buf[r->head++ & (r->size - 1)] = c;
	return true;
}
/* The oldest byte goes if there is no room: true. */
static inline bool ring_force(struct ring *r, u8 c)
{
	bool full = ring_room(r) == 0;

	r->buf[r->head++ & (r->size - 1)] = c;
	if (unlikely(full))
		r->tail++;
	return full;
}
static inline int ring_get(struct ring *r)
{
	if (ring_used(r) == 0)
		return -1;
	return r->buf[r->tail++ & (r->size - 1)];
}

#endif
