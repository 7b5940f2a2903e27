/* Backtraces by frame pointers: see backtrace.h. */
#include "arch/x86/backtrace.h"
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"

#define FRAMES_MAX 4096U /* a whole stack of them */

extern const u8 image_text_start[], image_text_end[];

const char *ksym_find(u64 addr, u64 *offset)
{
	u64 rel = addr - IMAGE_BASE;
	u32 low = 0, high = ksym_count;

	if (addr < (u64)image_text_start || addr >= (u64)image_text_end || ksym_count == 0 || rel < ksyms[0].offset)
		return NULL;
	while (high - low > 1) {
		u32 mid = low + (high - low) / 2;

		if (ksyms[mid].offset <= rel)
			low = mid;
		else
			high = mid;
	}
	*offset = rel - ksyms[low].offset;
	return ksym_names + ksyms[low].name;
}

/* A frame is [rbp] = caller's rbp, [rbp + 8] = return address; the stack grows down, so each is above the last. */
static bool frame_next(u64 *rbp, u64 *ret)
{
	u64 next;

	if (!paging_readable(*rbp) || !paging_readable(*rbp + 8))
		return false;
	next = ((u64 *)*rbp)[0];
	*ret = ((u64 *)*rbp)[1];
	if (*ret == 0)
		return false;
	*rbp = next > *rbp ? next : 0; /* 0 is not readable: ends the walk */
	return true;
}

void backtrace(u64 rip, u64 rbp, u32 max, void (*fn)(u64 addr, bool ret, u32 times))
{
	u64 last = rip, ret = 0;
	u32 times = 1, calls = 0, frames = 0;

	while (calls < max && frames++ < FRAMES_MAX && frame_next(&rbp, &ret)) {
		if (ret == last) {
			times++;
			continue;
		}
		fn(last, calls++ > 0, times);
		last = ret;
		times = 1;
	}
	if (calls < max)
		fn(last, calls > 0, times);
}
