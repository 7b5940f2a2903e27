/*
 * The hypervisor's own address space: direct map of RAM, the image, device windows and stacks; nothing is both writable
 * and executable, and the image's text and constants are not writable through the direct map either.
 */
#ifndef ARCH_X86_PAGING_H
#define ARCH_X86_PAGING_H

#include "arch/x86/cpu.h"
#include "lib/types.h"

/* Boot, in this order; needs the frame allocator. E_NOMEM. */
int paging_init(void) must_check;
/* One RAM range into the direct map; none may cover the image. */
int paging_map_ram(hpa_t base, u64 bytes) must_check;
/* The image at its linked address and in the direct map. */
int paging_map_image(hpa_t base) must_check;
hpa_t paging_image_base(void); /* as given to paging_map_image() */
void paging_activate(void);    /* loads CR3 on this CPU */

/* Fresh frames for one stack of a CPU, above its guard page. E_NOMEM. */
int paging_map_stack(u32 cpu, enum cpu_stack which, u64 *top) must_check;

/* Names the guard page that an address lies in: false if it is none. */
bool paging_guard_page(u64 va, u32 *cpu, enum cpu_stack *which);

/* Can an aligned word at va be read? For backtraces and dumps: works before and after paging_activate(). */
bool paging_readable(u64 va);

/* Read access to firmware data anywhere: the direct map where it covers it, else a new window. NULL: no room. */
const void *paging_view(hpa_t hpa, size_t bytes);

#endif
