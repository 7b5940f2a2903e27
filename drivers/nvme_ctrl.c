/* The life of an NVMe controller: reset, enable, queues, time-outs, recovery, shutdown. See nvme.h. */
#include "drivers/nvme.h"

#include "lib/err.h"
#include "lib/format.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/platform.h"

#define ADMIN_ENTRIES 16U
#define TO_UNIT_NS    (500 * NSEC_PER_MSEC)

static u32 reg_read(struct nvme_ctrl *c, u32 reg)
{
	return c->hw->read(c, reg);
}

static void reg_write64(struct nvme_ctrl *c, u32 reg, u64 v)
{
	c->hw->write(c, reg, (u32)v);
	c->hw->write(c, reg + 4, (u32)(v >> 32));
}

static u64 ring_addr(const volatile void *ring)
{
	return hfn_to_hpa(mm_va_to_hfn((const void *)(uintptr_t)ring)).v;
}

static u64 ready_deadline(const struct nvme_ctrl *c)
{
	return platform_now_ns() + MAX(NVME_CAP_TO(c->cap), 2U) * TO_UNIT_NS;
}

/* ---- giving up and starting over ----------------------------------------- */

static void give_up(struct nvme_ctrl *c, const char *why)
{
	log_error("nvme", "%s: %s: given up", c->name, why);
	c->hw->quiesce(c);
	c->state = NVME_GONE;
	c->command_busy = false;
	for (u32 i = 0; i < c->ns_count; i++)
		WRITE_ONCE(c->ns[i].dev.gone, true);
	nvme_io_fail_all(c, E_NODEV);
}

static void reset_begin(struct nvme_ctrl *c, const char *why)
{
	if (!c->hw->present(c)) {
		give_up(c, "device removed");
		return;
	}
	if (c->resets_in_row++ >= (c->started ? NVME_RESETS_MAX : 1)) {
		give_up(c, why);
		return;
	}
	if (c->started)
		log_warn("nvme", "%s: %s: controller reset %u", c->name, why, c->resets_in_row);
	for (u32 i = 0; i < c->ns_count; i++)
		c->ns[i].dev.stats.resets++;
	c->command_busy = false;
	c->hw->write(c, NVME_REG_CC, 0);
	c->state = NVME_DISABLING;
	c->deadline_ns = ready_deadline(c);
}

/* ---- set-up: the steps of a reset ---------------------------------------- */

static void command_start(struct nvme_ctrl *c, struct nvme_command *cmd)
{
	CHECK(!c->command_busy);
	c->command_busy = true;
	c->command_slot = nvme_queue_issue(c, &c->admin, cmd, NULL);
}

/* Answers to aborts are of no interest: what counts is whether the command comes back. */
static void admin_reaped(struct nvme_ctrl *c, u32 slot, u32 status, u32 result)
{
	if (!c->command_busy || slot != c->command_slot)
		return;
	c->command_busy = false;
	c->command_status = status;
	c->command_result = result;
}

static void setup_command(struct nvme_ctrl *c)
{
	u32 queue = (c->io.entries - 1) << 16 | c->io.id;
	struct nvme_command cmd = {0};

	switch (c->step) {
	case NVME_SETUP_FEATURES:
		cmd.opcode_cid = NVME_ADMIN_SET_FEATURES;
		cmd.cdw10 = NVME_FEATURE_QUEUES;
		cmd.cdw11 = 0; /* one pair, counted from zero */
		break;
	case NVME_SETUP_CQ:
		cmd.opcode_cid = NVME_ADMIN_CREATE_CQ;
		cmd.prp1 = ring_addr(c->io.cq);
		cmd.cdw10 = queue;
		cmd.cdw11 = NVME_QUEUE_CONTIGUOUS | (c->interrupts ? NVME_CQ_INTERRUPTS : 0);
		break;
	default:
		cmd.opcode_cid = NVME_ADMIN_CREATE_SQ;
		cmd.prp1 = ring_addr(c->io.sq);
		cmd.cdw10 = queue;
		cmd.cdw11 = NVME_QUEUE_CONTIGUOUS | c->io.id << 16;
		break;
	}
	command_start(c, &cmd);
}

static void enable(struct nvme_ctrl *c)
{
	/* RDY is 0: the controller has let go of memory. */
	nvme_io_lost(c);
	nvme_queue_clear(&c->admin);
	nvme_queue_clear(&c->io);
	if (!c->interrupts)
		c->hw->write(c, NVME_REG_INTMS, ~0U);
	c->hw->write(c, NVME_REG_AQA, (c->admin.entries - 1) << 16 | (c->admin.entries - 1));
	reg_write64(c, NVME_REG_ASQ, ring_addr(c->admin.sq));
	reg_write64(c, NVME_REG_ACQ, ring_addr(c->admin.cq));
	c->hw->write(c, NVME_REG_CC, NVME_CC_EN | NVME_CC_IOSQES_64 | NVME_CC_IOCQES_16);
	c->state = NVME_ENABLING;
	c->deadline_ns = ready_deadline(c);
}

static void setup_begin(struct nvme_ctrl *c)
{
	c->state = NVME_SETUP;
	c->deadline_ns = platform_now_ns() + NVME_SETUP_NS;
	c->step = NVME_SETUP_FEATURES;
	setup_command(c);
}

static void setup_advance(struct nvme_ctrl *c)
{
	nvme_queue_reap(c, &c->admin, admin_reaped);
	if (c->command_busy)
		return;
	if (c->command_status) {
		reset_begin(c, "I/O queues cannot be created");
		return;
	}
	if (++c->step == NVME_SETUP_DONE) {
		c->state = NVME_RUNNING;
		c->check_ns = platform_now_ns() + NVME_CHECK_NS;
		return;
	}
	setup_command(c);
}

/* One step of a reset. True if it came further. */
static bool reset_advance(struct nvme_ctrl *c)
{
	enum nvme_state before = c->state;
	u32 csts = reg_read(c, NVME_REG_CSTS);

	if (csts == NVME_CSTS_REMOVED) {
		give_up(c, "device removed");
		return false;
	}
	if (c->state == NVME_DISABLING && !(csts & NVME_CSTS_RDY))
		enable(c);
	else if (c->state != NVME_DISABLING && (csts & NVME_CSTS_CFS))
		reset_begin(c, "fatal status while starting");
	else if (c->state == NVME_ENABLING && (csts & NVME_CSTS_RDY))
		setup_begin(c);
	else if (c->state == NVME_SETUP)
		setup_advance(c);
	if (c->state == before && platform_now_ns() > c->deadline_ns)
		reset_begin(c, "controller does not get ready");
	return c->state != before;
}

/* ---- running ------------------------------------------------------------- */

static void command_abort(struct nvme_ctrl *c, u32 slot, u64 now)
{
	struct nvme_slot *s = &c->io.slot[slot];
	struct nvme_command cmd = {
	    .opcode_cid = NVME_ADMIN_ABORT,
	    .cdw10 = nvme_slot_cid(&c->io, slot) << 16 | c->io.id,
	};

	if (nvme_queue_full(&c->admin)) {
		reset_begin(c, "aborts are not answered");
		return;
	}
	/* When one hangs, many do: one line for all of them. */
	if (!c->abort_said_ns || now - c->abort_said_ns > NVME_STALL_NS)
		log_warn("nvme", "%s: commands time out, the oldest after %lu ms: abort", s->req->dev->name,
			 (now - s->issued_ns) / NSEC_PER_MSEC);
	c->abort_said_ns = now;
	s->req->dev->stats.timeouts++;
	s->aborted = true;
	s->aborted_ns = now;
	nvme_queue_issue(c, &c->admin, &cmd, NULL);
}

/*
 * A slow drive with a deep queue is not a dead one: a command is overdue when nothing at all came back for
 * NVME_STALL_NS, or when it waits for NVME_COMMAND_NS itself.
 */
static bool overdue(const struct nvme_queue *q, const struct nvme_slot *s, u64 now)
{
	return s->busy && (now - s->issued_ns > NVME_COMMAND_NS ||
			   (now - s->issued_ns > NVME_STALL_NS && now - q->progress_ns > NVME_STALL_NS));
}

static void check_timeouts(struct nvme_ctrl *c, u64 now)
{
	const struct nvme_slot *slot = c->io.slot;
	u32 oldest = NVME_ENTRIES;

	for (u32 i = 0; i < c->io.entries; i++) {
		if (!overdue(&c->io, &slot[i], now))
			continue;
		if (slot[i].aborted && now - slot[i].aborted_ns > NVME_ABORT_NS) {
			reset_begin(c, "abort without effect");
			return;
		}
		if (!slot[i].aborted && (oldest == NVME_ENTRIES || slot[i].issued_ns < slot[oldest].issued_ns))
			oldest = i;
	}
	if (oldest != NVME_ENTRIES)
		command_abort(c, oldest, now);
}

static void check_health(struct nvme_ctrl *c)
{
	u64 now = platform_now_ns();
	u32 csts;

	if (now < c->check_ns)
		return;
	c->check_ns = now + NVME_CHECK_NS;
	csts = reg_read(c, NVME_REG_CSTS);
	if (csts == NVME_CSTS_REMOVED)
		give_up(c, "device removed");
	else if (csts & NVME_CSTS_CFS)
		reset_begin(c, "fatal status");
	else if (!(csts & NVME_CSTS_RDY))
		reset_begin(c, "not ready any more");
	else
		check_timeouts(c, now);
}

void nvme_step(struct nvme_ctrl *c)
{
	lock_assert_held(&c->lock);
	if (c->state == NVME_RUNNING) {
		nvme_queue_reap(c, &c->io, nvme_io_reaped);
		nvme_queue_reap(c, &c->admin, admin_reaped);
		check_health(c);
	} else {
		while (c->state < NVME_RUNNING && reset_advance(c))
			;
	}
	nvme_io_pump(c);
}

void nvme_poll(struct nvme_ctrl *c)
{
	struct list done = LIST_INIT(done);

	lock_acquire(&c->lock);
	nvme_step(c);
	list_move_all(&c->done, &done);
	lock_release(&c->lock);
	blk_complete_list(&done);
}

/* ---- start-up and shutdown ----------------------------------------------- */

static void poll_work(struct work *w)
{
	nvme_poll(container_of(w, struct nvme_ctrl, work));
}

int nvme_ctrl_init(struct nvme_ctrl *c, const struct nvme_hw_ops *hw, void *hw_priv, u32 index)
{
	int err;

	memset(c, 0, sizeof(*c));
	lock_init(&c->lock, "nvme", LOCK_RANK_BLK);
	list_init(&c->pending);
	list_init(&c->done);
	work_init(&c->work, "nvme", poll_work);
	c->hw = hw;
	c->hw_priv = hw_priv;
	format_buf(c->name, sizeof(c->name), "nvme%u", index);
	c->cap = reg_read(c, NVME_REG_CAP) | (u64)reg_read(c, NVME_REG_CAP + 4) << 32;
	c->max_pages = 1;
	if (c->cap == ~0UL)
		return log_err("nvme", E_NODEV, "%s: does not answer", c->name);
	if (!(c->cap & NVME_CAP_CSS_NVM) || NVME_CAP_MPSMIN(c->cap) != 0 || NVME_CAP_MQES(c->cap) == 0)
		return log_err("nvme", E_NOSYS, "%s: capabilities %#llx not supported", c->name,
			       (unsigned long long)c->cap);
	err = nvme_queue_alloc(&c->admin, 0, ADMIN_ENTRIES, false);
	if (!err)
		err = nvme_queue_alloc(&c->io, 1, MIN(NVME_CAP_MQES(c->cap) + 1, NVME_ENTRIES), true);
	return err;
}

int nvme_ctrl_start(struct nvme_ctrl *c)
{
	int err = 0;

	lock_acquire(&c->lock);
	reset_begin(c, "start");
	while (c->state < NVME_RUNNING) {
		nvme_step(c);
		platform_relax();
	}
	if (c->state == NVME_RUNNING)
		err = nvme_identify(c);
	if (err && c->state != NVME_GONE)
		give_up(c, "cannot be identified");
	if (c->state == NVME_GONE)
		err = E_NODEV;
	c->started = true;
	c->resets_in_row = 0;
	lock_release(&c->lock);
	return err;
}

int nvme_admin_sync(struct nvme_ctrl *c, struct nvme_command *cmd, u32 *result)
{
	u64 limit_ns = platform_now_ns() + NVME_SETUP_NS;

	command_start(c, cmd);
	while (c->command_busy) {
		if (platform_now_ns() > limit_ns) {
			give_up(c, "admin command timed out");
			return E_TIMEDOUT;
		}
		platform_relax();
		nvme_queue_reap(c, &c->admin, admin_reaped);
	}
	if (c->command_status)
		return E_IO;
	*result = c->command_result;
	return 0;
}

static void notify_shutdown(struct nvme_ctrl *c)
{
	u64 limit_ns = platform_now_ns() + NVME_SHUTDOWN_NS;
	u32 cc = reg_read(c, NVME_REG_CC) & ~NVME_CC_SHN_MASK;

	c->hw->write(c, NVME_REG_CC, cc | NVME_CC_SHN_NORMAL);
	while ((reg_read(c, NVME_REG_CSTS) & NVME_CSTS_SHST_MASK) != NVME_CSTS_SHST_DONE) {
		if (platform_now_ns() > limit_ns) {
			log_warn("nvme", "%s: shutdown is not acknowledged", c->name);
			return;
		}
		platform_relax();
	}
}

void nvme_ctrl_shutdown(struct nvme_ctrl *c)
{
	lock_acquire(&c->lock);
	if (c->state != NVME_GONE) {
		if (c->state == NVME_RUNNING)
			notify_shutdown(c);
		c->hw->quiesce(c);
		c->state = NVME_GONE;
		for (u32 i = 0; i < c->ns_count; i++)
			WRITE_ONCE(c->ns[i].dev.gone, true);
		nvme_io_fail_all(c, E_NODEV);
	}
	lock_release(&c->lock);
}
