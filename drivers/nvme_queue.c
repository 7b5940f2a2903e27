/* Submission and completion rings of one queue pair: see nvme.h. */
#include "drivers/nvme.h"

#include "lib/err.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/platform.h"

#define BAD_COMPLETIONS_LOGGED 8

_Static_assert(NVME_ENTRIES * sizeof(struct nvme_command) <= PAGE_SIZE, "one page");
_Static_assert((BLK_PAGES_MAX - 1) * sizeof(u64) <= NVME_PRP_LIST_BYTES, "list of a whole request");
_Static_assert(PAGE_SIZE % NVME_PRP_LIST_BYTES == 0, "no list crosses a page");

static void *alloc_pages(u32 order)
{
	hfn_t hfn = frame_alloc(order, FRAME_FOR_HV, FRAME_HV, true);

	return hfn == HFN_NONE ? NULL : mm_hfn_to_va(hfn);
}

static u64 dma_addr(const volatile void *va)
{
	u64 offset = (uintptr_t)va & (PAGE_SIZE - 1);

	return hfn_to_hpa(mm_va_to_hfn((const u8 *)(uintptr_t)va - offset)).v + offset;
}

int nvme_queue_alloc(struct nvme_queue *q, u32 id, u32 entries, bool prp_lists)
{
	CHECK(entries >= 2 && entries <= NVME_ENTRIES);
	q->id = id;
	q->entries = entries;
	q->sq = alloc_pages(0);
	q->cq = alloc_pages(0);
	q->prp_lists = prp_lists ? alloc_pages(2) : NULL;
	_Static_assert(NVME_ENTRIES * NVME_PRP_LIST_BYTES <= PAGE_SIZE << 2, "PRP lists");
	if (!q->sq || !q->cq || (prp_lists && !q->prp_lists))
		return E_NOMEM;
	nvme_queue_clear(q);
	return 0;
}

void nvme_queue_clear(struct nvme_queue *q)
{
	page_clear(q->sq);
	page_clear((void *)(uintptr_t)q->cq);
	q->sq_tail = 0;
	q->cq_head = 0;
	q->phase = 1;
	q->busy = 0;
	for (u32 i = 0; i < q->entries; i++) {
		q->slot[i].busy = false;
		q->slot[i].req = NULL;
		q->slot[i].generation++;
	}
}

bool nvme_queue_full(const struct nvme_queue *q)
{
	return q->busy == q->entries - 1;
}

static u32 free_slot(const struct nvme_queue *q)
{
	for (u32 i = 0; i < q->entries; i++)
		if (!q->slot[i].busy)
			return i;
	panic("nvme: no free slot on queue %u", q->id);
}

u32 nvme_slot_cid(const struct nvme_queue *q, u32 slot)
{
	return (u32)q->slot[slot].generation << 8 | slot;
}

static void ring_doorbell(struct nvme_ctrl *c, const struct nvme_queue *q, bool completion, u32 v)
{
	u32 stride = 4U << NVME_CAP_DSTRD(c->cap);

	c->hw->write(c, NVME_REG_DOORBELLS + (2 * q->id + completion) * stride, v);
}

u32 nvme_queue_issue(struct nvme_ctrl *c, struct nvme_queue *q, struct nvme_command *cmd, struct blk_req *r)
{
	u32 slot = free_slot(q);
	u64 now = platform_now_ns();

	lock_assert_held(&c->lock);
	CHECK(!nvme_queue_full(q));
	if (!q->busy)
		q->progress_ns = now;
	q->busy++;
	q->slot[slot] = (struct nvme_slot){
	    .busy = true,
	    .generation = (u8)(q->slot[slot].generation + 1),
	    .req = r,
	    .issued_ns = now,
	};
	cmd->opcode_cid = (cmd->opcode_cid & 0xffff) | nvme_slot_cid(q, slot) << 16;
	q->sq[q->sq_tail] = *cmd;
	q->sq_tail = (q->sq_tail + 1) % q->entries;
	/* The command is in memory before the device hears of it: stores are ordered on x86. */
	barrier();
	ring_doorbell(c, q, false, q->sq_tail);
	return slot;
}

void nvme_queue_prps(struct nvme_queue *q, struct nvme_command *cmd, const hfn_t *frame, u32 pages)
{
	u64 *list;

	CHECK(pages >= 1 && pages <= BLK_PAGES_MAX);
	cmd->prp1 = hfn_to_hpa(frame[0]).v;
	if (pages == 1)
		return;
	if (pages == 2) {
		cmd->prp2 = hfn_to_hpa(frame[1]).v;
		return;
	}
	list = (u64 *)(q->prp_lists + (size_t)free_slot(q) * NVME_PRP_LIST_BYTES);
	for (u32 i = 1; i < pages; i++)
		list[i - 1] = hfn_to_hpa(frame[i]).v;
	cmd->prp2 = dma_addr(list);
}

/* False if the completion names no command in flight: the device's fault, and not to be acted on. */
static bool take_slot(struct nvme_ctrl *c, struct nvme_queue *q, u32 cid)
{
	u32 slot = cid & 0xff;

	if (slot >= q->entries || !q->slot[slot].busy || nvme_slot_cid(q, slot) != cid) {
		if (c->bad_completions++ < BAD_COMPLETIONS_LOGGED)
			log_error("nvme", "%s: queue %u completes unknown command %#x", c->name, q->id, cid);
		return false;
	}
	q->slot[slot].busy = false;
	q->busy--;
	q->progress_ns = platform_now_ns();
	return true;
}

void nvme_queue_reap(struct nvme_ctrl *c, struct nvme_queue *q, nvme_reap_fn fn)
{
	u32 seen;

	lock_assert_held(&c->lock);
	for (seen = 0; seen < q->entries; seen++) {
		volatile struct nvme_completion *e = &q->cq[q->cq_head];
		u32 word = e->cid_status;
		u32 result;

		if ((word >> 16 & 1) != q->phase)
			break;
		barrier(); /* the rest of the entry is valid only now */
		result = e->result;
		if (++q->cq_head == q->entries) {
			q->cq_head = 0;
			q->phase ^= 1;
		}
		if (take_slot(c, q, word & 0xffff))
			fn(c, word & 0xff, word >> 17, result);
	}
	if (seen)
		ring_doorbell(c, q, true, q->cq_head);
}
