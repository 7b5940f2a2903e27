/*
 * Requests of the block layer as NVMe commands. A request is issued in pieces of at most max_pages pages and is
 * settled when no piece is in flight any more: done, failed, or to be issued once more.
 */
#include "drivers/nvme.h"

#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"

#define REQUEST_RETRIES 1

static void finish(struct nvme_ctrl *c, struct blk_req *r, int status)
{
	list_del(&r->link);
	r->status = status;
	list_add_tail(&c->done, &r->link);
}

static u32 issue_flush(struct nvme_ctrl *c, struct blk_req *r)
{
	struct nvme_command cmd = {.opcode_cid = NVME_IO_FLUSH, .nsid = nvme_ns(r->dev)->nsid};

	return nvme_queue_issue(c, &c->io, &cmd, r);
}

static void issue_piece(struct nvme_ctrl *c, struct blk_req *r)
{
	const struct nvme_ns *ns = nvme_ns(r->dev);
	struct nvme_rq *rq = nvme_rq(r);
	u32 pages = MIN(r->pages - rq->issued, c->max_pages);
	u64 lba = (r->sector * BLK_SECTOR + rq->issued * PAGE_SIZE) >> ns->lba_shift;
	struct nvme_command cmd = {
	    .opcode_cid = r->op == BLK_WRITE ? NVME_IO_WRITE : NVME_IO_READ,
	    .nsid = ns->nsid,
	    .cdw10 = (u32)lba,
	    .cdw11 = (u32)(lba >> 32),
	    .cdw12 = (u32)((pages * PAGE_SIZE) >> ns->lba_shift) - 1,
	};

	nvme_queue_prps(&c->io, &cmd, &r->frame[rq->issued], pages);
	nvme_queue_issue(c, &c->io, &cmd, r);
	rq->issued += pages;
}

static bool wholly_issued(struct blk_req *r)
{
	return r->op == BLK_FLUSH ? nvme_rq(r)->outstanding > 0 : nvme_rq(r)->issued == r->pages;
}

void nvme_io_pump(struct nvme_ctrl *c)
{
	while (c->state == NVME_RUNNING && !list_empty(&c->pending) && !nvme_queue_full(&c->io)) {
		struct blk_req *r = list_entry(c->pending.next, struct blk_req, link);

		if (r->op == BLK_FLUSH)
			issue_flush(c, r);
		else
			issue_piece(c, r);
		nvme_rq(r)->outstanding++;
		if (wholly_issued(r))
			list_del(&r->link);
	}
}

/* No piece is in flight any more. */
static void settle(struct nvme_ctrl *c, struct blk_req *r)
{
	struct nvme_rq *rq = nvme_rq(r);

	if (rq->status) {
		finish(c, r, rq->status);
	} else if (!rq->again) {
		finish(c, r, 0);
	} else if (rq->retries == REQUEST_RETRIES) {
		finish(c, r, E_TIMEDOUT);
	} else {
		*rq = (struct nvme_rq){.retries = rq->retries + 1};
		list_add(&c->pending, &r->link);
	}
}

/* One piece is over. A request that cannot succeed any more issues no further pieces. */
static void piece_over(struct nvme_ctrl *c, struct blk_req *r)
{
	struct nvme_rq *rq = nvme_rq(r);
	bool stopped = rq->status || rq->again;

	CHECK(rq->outstanding > 0);
	if (stopped)
		list_del(&r->link);
	if (--rq->outstanding == 0 && (stopped || r->op == BLK_FLUSH || rq->issued == r->pages))
		settle(c, r);
}

/* Not done for a reason that lies outside the command. */
static bool worth_retry(u32 status)
{
	u32 code = NVME_STATUS_CODE(status);

	return !(status & NVME_STATUS_DNR) && (code == NVME_SC_ABORT_REQUESTED || code == NVME_SC_SQ_DELETED ||
					       code == NVME_SC_NS_NOT_READY || (code & 0x700) == NVME_SCT_PATH);
}

void nvme_io_reaped(struct nvme_ctrl *c, u32 slot, u32 status, u32 result)
{
	struct blk_req *r = c->io.slot[slot].req;

	(void)result;
	c->io.slot[slot].req = NULL;
	if (!status)
		c->resets_in_row = 0;
	else if (worth_retry(status))
		nvme_rq(r)->again = 1;
	else
		nvme_rq(r)->status = E_IO;
	piece_over(c, r);
}

void nvme_io_lost(struct nvme_ctrl *c)
{
	for (u32 i = 0; i < c->io.entries; i++) {
		struct blk_req *r = c->io.slot[i].busy ? c->io.slot[i].req : NULL;

		if (!r)
			continue;
		c->io.slot[i].busy = false;
		c->io.slot[i].req = NULL;
		nvme_rq(r)->again = 1;
		piece_over(c, r);
	}
}

void nvme_io_fail_all(struct nvme_ctrl *c, int status)
{
	for (u32 i = 0; i < c->io.entries; i++) {
		struct blk_req *r = c->io.slot[i].busy ? c->io.slot[i].req : NULL;

		if (!r)
			continue;
		c->io.slot[i].busy = false;
		c->io.slot[i].req = NULL;
		nvme_rq(r)->status = status;
		piece_over(c, r);
	}
	while (!list_empty(&c->pending))
		finish(c, list_entry(c->pending.next, struct blk_req, link), status);
}

/* ---- struct blk_ops ------------------------------------------------------ */

static void ns_submit(struct blk_dev *d, struct blk_req *r)
{
	struct nvme_ctrl *c = nvme_ns(d)->ctrl;
	bool finished = true;

	lock_acquire(&c->lock);
	memset(r->driver, 0, sizeof(r->driver));
	list_init(&r->link);
	if (c->state == NVME_GONE) {
		finish(c, r, E_NODEV);
	} else if (r->op == BLK_FLUSH && !c->write_cache) {
		finish(c, r, 0);
	} else {
		list_add_tail(&c->pending, &r->link);
		nvme_io_pump(c);
		finished = false;
	}
	lock_release(&c->lock);
	if (finished)
		work_queue(&c->work);
}

static void ns_poll(struct blk_dev *d)
{
	nvme_poll(nvme_ns(d)->ctrl);
}

static void ns_shutdown(struct blk_dev *d)
{
	nvme_ctrl_shutdown(nvme_ns(d)->ctrl);
}

const struct blk_ops nvme_blk_ops = {.submit = ns_submit, .poll = ns_poll, .shutdown = ns_shutdown};
