/* See fake_nvme.h. Guest-side errors (bad queues, PRPs) end the test: the driver must not make any. */
#include "tests/unit/fake_nvme.h"

#include <stdlib.h>
#include <string.h>

#include "lib/panic.h"
#include "mm/platform.h"
#include "tests/unit/fake_platform.h"

#define STATUS_INVALID 0x0002U

static void *dma(struct fake_nvme *f, u64 hpa)
{
	CHECK(!f->quiesced);
	return (u8 *)mm_hfn_to_va(hpa_to_hfn(HPA(hpa))) + (hpa & (PAGE_SIZE - 1));
}

static void complete(struct fake_nvme *f, u32 qid, u32 cid, u32 status, u32 result)
{
	struct fake_nvme_queue *q = &f->q[qid];
	struct nvme_completion *e = (struct nvme_completion *)dma(f, q->cq) + q->cq_tail;

	CHECK((q->cq_tail + 1) % q->entries != q->cq_head);
	*e = (struct nvme_completion){.result = result, .sq_head = (u16)q->sq_head, .sq_id = (u16)qid};
	WRITE_ONCE(e->cid_status, cid | q->phase << 16 | status << 17);
	if (++q->cq_tail == q->entries) {
		q->cq_tail = 0;
		q->phase ^= 1;
	}
}

/* ---- admin --------------------------------------------------------------- */

static void put64(u8 *p, u64 v)
{
	memcpy(p, &v, sizeof(v));
}

static u64 ns_blocks(const struct fake_nvme *f, u32 i)
{
	return f->blocks[i] ? f->blocks[i] : FAKE_NVME_NS_BYTES >> f->shift[i];
}

static u32 admin_identify(struct fake_nvme *f, const struct nvme_command *cmd)
{
	u8 *p = dma(f, cmd->prp1);
	u32 i = cmd->nsid - 1;

	memset(p, 0, PAGE_SIZE);
	if (cmd->cdw10 == NVME_IDENTIFY_CONTROLLER) {
		memcpy(p + NVME_IDC_MODEL, "Fake NVMe\x01                                ", NVME_IDC_MODEL_BYTES);
		p[NVME_IDC_MDTS] = (u8)f->mdts;
		p[NVME_IDC_NN] = FAKE_NVME_NS;
		p[NVME_IDC_VWC] = f->write_cache;
		return 0;
	}
	if (cmd->cdw10 == NVME_IDENTIFY_ACTIVE_LIST) {
		if (f->no_active_list)
			return STATUS_INVALID;
		for (i = 0; i < FAKE_NVME_NS; i++)
			p[4 * i] = (u8)(i + 1);
		return 0;
	}
	if (i >= FAKE_NVME_NS)
		return STATUS_INVALID;
	put64(p + NVME_IDN_NSZE, ns_blocks(f, i));
	p[NVME_IDN_FLBAS] = 2;
	p[NVME_IDN_LBAF + 8] = (u8)f->metadata[i];
	p[NVME_IDN_LBAF + 10] = (u8)f->shift[i];
	return 0;
}

static u32 admin_create(struct fake_nvme *f, const struct nvme_command *cmd, bool sq)
{
	struct fake_nvme_queue *q = &f->q[1];

	CHECK((cmd->cdw10 & 0xffff) == 1 && (cmd->cdw11 & NVME_QUEUE_CONTIGUOUS));
	CHECK(cmd->cdw10 >> 16 <= NVME_CAP_MQES(f->cap) && cmd->prp1 % PAGE_SIZE == 0);
	if (f->fail_create)
		return STATUS_INVALID;
	if (!sq) {
		*q = (struct fake_nvme_queue){.cq = cmd->prp1, .entries = (cmd->cdw10 >> 16) + 1, .phase = 1};
		return 0;
	}
	CHECK(q->cq && cmd->cdw11 >> 16 == 1);
	q->sq = cmd->prp1;
	q->made = true;
	return 0;
}

static u32 admin_abort(struct fake_nvme *f, const struct nvme_command *cmd)
{
	u32 cid = cmd->cdw10 >> 16;

	CHECK((cmd->cdw10 & 0xffff) == 1);
	f->aborts++;
	if (f->ignore_abort)
		return 0;
	for (u32 i = 0; i < f->lost_count; i++)
		if (f->lost[i].opcode_cid >> 16 == cid) {
			f->lost[i] = f->lost[--f->lost_count];
			complete(f, 1, cid, NVME_SC_ABORT_REQUESTED, 0);
			break;
		}
	return 0;
}

static void admin_run(struct fake_nvme *f)
{
	struct fake_nvme_queue *q = &f->q[0];

	while (!f->dead_admin && q->sq_head != q->sq_tail) {
		struct nvme_command cmd = ((struct nvme_command *)dma(f, q->sq))[q->sq_head];
		u32 status = 0;

		q->sq_head = (q->sq_head + 1) % q->entries;
		switch (cmd.opcode_cid & 0xff) {
		case NVME_ADMIN_IDENTIFY:
			status = admin_identify(f, &cmd);
			break;
		case NVME_ADMIN_CREATE_CQ:
			status = admin_create(f, &cmd, false);
			break;
		case NVME_ADMIN_CREATE_SQ:
			status = admin_create(f, &cmd, true);
			break;
		case NVME_ADMIN_ABORT:
			status = admin_abort(f, &cmd);
			break;
		default:
			CHECK((cmd.opcode_cid & 0xff) == NVME_ADMIN_SET_FEATURES);
			break;
		}
		complete(f, 0, cmd.opcode_cid >> 16, status, 0);
	}
}

/* ---- I/O ----------------------------------------------------------------- */

static void transfer(struct fake_nvme *f, const struct nvme_command *cmd, bool write)
{
	u32 i = cmd->nsid - 1;
	u64 lba = cmd->cdw10 | (u64)cmd->cdw11 << 32, blocks = (cmd->cdw12 & 0xffff) + 1;
	u64 bytes = blocks << f->shift[i], pages = bytes / PAGE_SIZE;
	u8 *disk = f->data[i] + (lba << f->shift[i]);

	CHECK(i < FAKE_NVME_NS && bytes % PAGE_SIZE == 0 && lba + blocks <= ns_blocks(f, i));
	CHECK(!f->mdts || pages <= 1U << f->mdts);
	f->pages_max = MAX(f->pages_max, (u32)pages);
	for (u64 p = 0; p < pages; p++) {
		u64 at = cmd->prp1;
		u8 *mem;

		if (p == 1 && pages == 2)
			at = cmd->prp2;
		else if (p)
			at = ((u64 *)dma(f, cmd->prp2))[p - 1];
		CHECK(at % PAGE_SIZE == 0);
		mem = dma(f, at);
		if (write)
			memcpy(disk + p * PAGE_SIZE, mem, PAGE_SIZE);
		else
			memcpy(mem, disk + p * PAGE_SIZE, PAGE_SIZE);
	}
}

static void execute(struct fake_nvme *f, const struct nvme_command *cmd)
{
	u32 opcode = cmd->opcode_cid & 0xff;

	if (f->swallow) {
		f->swallow--;
		f->lost[f->lost_count++] = *cmd;
		return;
	}
	if (opcode == NVME_IO_FLUSH) {
		f->flushes++;
	} else {
		CHECK(opcode == NVME_IO_READ || opcode == NVME_IO_WRITE);
		if (opcode == NVME_IO_READ)
			f->reads++;
		else
			f->writes++;
		if (!f->fail_status)
			transfer(f, cmd, opcode == NVME_IO_WRITE);
	}
	complete(f, 1, cmd->opcode_cid >> 16, f->fail_status, 0);
}

u32 fake_nvme_run(struct fake_nvme *f, u32 max)
{
	struct fake_nvme_queue *q = &f->q[1];
	u32 ran = 0;

	if (f->removed || f->quiesced || !(f->csts & NVME_CSTS_RDY) || !q->made)
		return 0;
	while (q->sq_head != q->sq_tail) {
		f->held[f->held_count++] = ((struct nvme_command *)dma(f, q->sq))[q->sq_head];
		q->sq_head = (q->sq_head + 1) % q->entries;
	}
	f->waiting_max = MAX(f->waiting_max, f->held_count);
	for (; f->stray; f->stray--)
		complete(f, 1, 0xff00 | f->stray, 0, 0);
	for (; f->held_count && ran < max; ran++) {
		u32 pick = f->reversed ? f->held_count - 1 : 0;
		struct nvme_command cmd = f->held[pick];

		memmove(&f->held[pick], &f->held[pick + 1], (--f->held_count - pick) * sizeof(cmd));
		execute(f, &cmd);
	}
	return ran;
}

/* ---- registers ----------------------------------------------------------- */

static u32 hw_read(struct nvme_ctrl *c, u32 reg)
{
	struct fake_nvme *f = c->hw_priv;

	fake_now_ns += NSEC_PER_USEC;
	if (f->removed)
		return ~0U;
	switch (reg) {
	case NVME_REG_CAP:
		return (u32)f->cap;
	case NVME_REG_CAP + 4:
		return (u32)(f->cap >> 32);
	case NVME_REG_CC:
		return f->cc;
	case NVME_REG_CSTS:
		return f->csts;
	default:
		panic("fake nvme: read of %#x", reg);
	}
}

static void write_cc(struct fake_nvme *f, u32 v)
{
	u32 old = f->cc;

	f->cc = v;
	if ((v & NVME_CC_SHN_MASK) == NVME_CC_SHN_NORMAL) {
		f->shutdowns++;
		f->csts |= NVME_CSTS_SHST_DONE;
	}
	if (!(old & NVME_CC_EN) && (v & NVME_CC_EN)) {
		CHECK(!(f->csts & NVME_CSTS_RDY));
		f->enables++;
		f->q[0] =
		    (struct fake_nvme_queue){.sq = f->asq, .cq = f->acq, .entries = (f->aqa & 0xfff) + 1, .phase = 1};
		f->q[1].made = false;
		if (!f->never_ready)
			f->csts |= NVME_CSTS_RDY;
	}
	if (!(v & NVME_CC_EN) && !f->never_idle) {
		f->csts = 0;
		f->held_count = 0;
		f->lost_count = 0;
		f->q[1].made = false;
	}
}

static void write_doorbell(struct fake_nvme *f, u32 reg, u32 v)
{
	u32 index = (reg - NVME_REG_DOORBELLS) / (4U << NVME_CAP_DSTRD(f->cap));
	struct fake_nvme_queue *q = &f->q[index / 2];

	CHECK(index < 4 && v < q->entries);
	if (index & 1)
		q->cq_head = v;
	else
		q->sq_tail = v;
	if (index == 0)
		admin_run(f);
}

static void hw_write(struct nvme_ctrl *c, u32 reg, u32 v)
{
	struct fake_nvme *f = c->hw_priv;

	if (f->removed)
		return;
	if (reg >= NVME_REG_DOORBELLS)
		write_doorbell(f, reg, v);
	else if (reg == NVME_REG_CC)
		write_cc(f, v);
	else if (reg == NVME_REG_AQA)
		f->aqa = v;
	else if (reg == NVME_REG_ASQ)
		f->asq = v;
	else if (reg == NVME_REG_ACQ)
		f->acq = v;
	else if (reg == NVME_REG_ASQ + 4)
		f->asq |= (u64)v << 32;
	else if (reg == NVME_REG_ACQ + 4)
		f->acq |= (u64)v << 32;
}

static void hw_quiesce(struct nvme_ctrl *c)
{
	((struct fake_nvme *)c->hw_priv)->quiesced = true;
}

static bool hw_present(struct nvme_ctrl *c)
{
	return !((struct fake_nvme *)c->hw_priv)->pulled;
}

const struct nvme_hw_ops fake_nvme_ops = {
    .read = hw_read, .write = hw_write, .quiesce = hw_quiesce, .present = hw_present};

void fake_nvme_init(struct fake_nvme *f)
{
	*f = (struct fake_nvme){.cap = 1023 | 4UL << 24 | NVME_CAP_CSS_NVM, .shift = {9, 12}};
	for (u32 i = 0; i < FAKE_NVME_NS; i++)
		f->data[i] = calloc(1, FAKE_NVME_NS_BYTES);
}

void fake_nvme_free(struct fake_nvme *f)
{
	for (u32 i = 0; i < FAKE_NVME_NS; i++)
		free(f->data[i]);
}
