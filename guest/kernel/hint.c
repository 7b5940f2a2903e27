/* See hint.h. */
#include "guest/kernel/hint.h"
#include "guest/kernel/arch.h"
#include "lib/err.h"
#include "lib/panic.h"

int hints_init(struct hints *h, struct ram *ram, u32 features)
{
	*h = (struct hints){0};
	if (!(features & AERO_FEATURE_HINT))
		return 0;
	h->batch = ram_array(ram, PAGE_SIZE);
	if (!h->batch)
		return E_NOMEM;
	h->batch_gpa = arch_pa(h->batch);
	return 0;
}

void hint_put(struct hints *h, enum aero_hint_op op, u64 gpa, u64 block)
{
	if (!h || !h->batch)
		return;
	h->batch[h->count++] = (struct aero_hint){.page = gpa | op, .block = block};
	h->stats.clean += op == AERO_HINT_CLEAN;
	h->stats.overwrite += op == AERO_HINT_OVERWRITE;
	h->stats.changed += op == AERO_HINT_CHANGED;
	if (h->count == AERO_HINT_BATCH_MAX)
		hints_send(h);
}

void hints_send(struct hints *h)
{
	s64 taken;

	if (!h || !h->count)
		return;
	taken = arch_hypercall(AERO_CALL_PAGE_HINT, h->batch_gpa, h->count, 0, NULL);
	if (taken < 0)
		panic("hints refused: %ld", taken);
	h->stats.calls++;
	for (u32 i = 0; i < h->count && taken < h->count; i++) {
		CHECK(AERO_HINT_STATUS(h->batch[i].page) != AERO_HINT_INVALID);
		h->stats.not_now += AERO_HINT_STATUS(h->batch[i].page) == AERO_HINT_NOT_NOW;
	}
	h->count = 0;
}
