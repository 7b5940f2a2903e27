/*
 * Basic types shared by all of Aerostat, freestanding and on the host.
 *
 * Addresses of different spaces never mix: hpa_t (host physical), gpa_t (guest
 * physical) and gva_t (guest virtual) are one-field structs, so the compiler
 * refuses an assignment across them. Frame numbers are 32-bit (16 TiB).
 */
#ifndef LIB_TYPES_H
#define LIB_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

typedef struct {
	u64 v;
} hpa_t; /* host physical address */
typedef struct {
	u64 v;
} gpa_t; /* guest physical address */
typedef struct {
	u64 v;
} gva_t;           /* guest virtual address */
typedef u32 hfn_t; /* host frame number: hpa >> PAGE_SHIFT */
typedef u32 gfn_t; /* guest frame number: gpa >> PAGE_SHIFT */

#define HPA(x)      ((hpa_t){(u64)(x)})
#define GPA(x)      ((gpa_t){(u64)(x)})
#define GVA(x)      ((gva_t){(u64)(x)})

#define PAGE_SHIFT  12
#define PAGE_SIZE   4096UL
#define PAGE_MASK   (~(PAGE_SIZE - 1))
#define LARGE_SHIFT 21
#define LARGE_SIZE  (1UL << LARGE_SHIFT)
#define LARGE_PAGES 512U /* 4 KiB pages in a large one */
#define HFN_NONE    ((hfn_t)~0u)
#define GFN_NONE    ((gfn_t)~0u)

static inline hfn_t hpa_to_hfn(hpa_t a)
{
	return (hfn_t)(a.v >> PAGE_SHIFT);
}
static inline hpa_t hfn_to_hpa(hfn_t f)
{
	return HPA((u64)f << PAGE_SHIFT);
}
static inline gfn_t gpa_to_gfn(gpa_t a)
{
	return (gfn_t)(a.v >> PAGE_SHIFT);
}
static inline gpa_t gfn_to_gpa(gfn_t f)
{
	return GPA((u64)f << PAGE_SHIFT);
}

#define KIB                           1024UL
#define MIB                           (1024UL * KIB)
#define GIB                           (1024UL * MIB)
#define NSEC_PER_USEC                 1000UL
#define NSEC_PER_MSEC                 1000000UL
#define NSEC_PER_SEC                  1000000000UL

#define BIT(n)                        (1UL << (n))
#define BITS(hi, lo)                  ((~0UL >> (63 - (hi))) & (~0UL << (lo)))
#define ARRAY_SIZE(a)                 (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                     ((a) < (b) ? (a) : (b))
#define MAX(a, b)                     ((a) > (b) ? (a) : (b))
#define CLAMP(x, lo, hi)              MIN(MAX(x, lo), hi)
#define ALIGN_UP(x, a)                (((x) + (a)-1) & ~((typeof(x))(a)-1))
#define ALIGN_DOWN(x, a)              ((x) & ~((typeof(x))(a)-1))
#define DIV_ROUND_UP(x, d)            (((x) + (d)-1) / (d))
#define container_of(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))

#define must_check                    __attribute__((warn_unused_result))
#define packed                        __attribute__((packed))
#define aligned(n)                    __attribute__((aligned(n)))
#define printf_like(f, a)             __attribute__((format(printf, f, a)))
#define unlikely(x)                   __builtin_expect(!!(x), 0)
#define likely(x)                     __builtin_expect(!!(x), 1)
#define static_assert_size(type, n)   _Static_assert(sizeof(type) == (n), "size of " #type)

/* One read or write of a value that others change: never torn, never repeated. */
#define READ_ONCE(x)     (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))
#define barrier()        __asm__ volatile("" ::: "memory")

#endif
