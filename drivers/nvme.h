/*
 * NVMe controllers: internals shared by the driver's files.
 *
 *   nvme_queue.c  rings, command slots, PRP lists; no policy
 *   nvme_ctrl.c   the controller's life: reset, enable, queues, time-outs, recovery, shutdown
 *   nvme_ident.c  identify, namespaces
 *   nvme_io.c     struct blk_req to commands and back
 *   nvme_pci.c    finding controllers, windows, interrupts: the only file that knows the machine
 *
 * The controller is a state machine that nvme_step() moves; nothing spins but start-up and shutdown. Requests wait in
 * `pending` whenever they cannot be issued, so a reset is invisible to them: those in flight go back there once
 * and time out the second time. A controller whose resets lead to nothing is given up (GONE): bus mastering is turned
 * off first, so that frames can be handed back although commands were never answered.
 *
 * Locking: ctrl->lock (LOCK_RANK_BLK) guards everything here. Finished requests collect on ctrl->done and are
 * completed after the lock has been dropped. The device is not trusted: command ids and identify data are checked.
 */
#ifndef DRIVERS_NVME_H
#define DRIVERS_NVME_H

#include "drivers/nvme_spec.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/types.h"
#include "lib/work.h"
#include "mm/blk.h"

#define NVME_ENTRIES        64U /* of each ring: 4 KiB of commands */
#define NVME_NAMESPACES_MAX 16U
#define NVME_PRP_LIST_BYTES 256U /* room for BLK_PAGES_MAX - 1 entries */
#define NVME_RESETS_MAX     5U   /* in a row without a command done well: then the controller is given up */

#define NVME_STALL_NS       (5 * NSEC_PER_SEC)   /* no completion at all on a busy queue */
#define NVME_COMMAND_NS     (30 * NSEC_PER_SEC)  /* one command, on a queue that moves */
#define NVME_ABORT_NS       (2 * NSEC_PER_SEC)   /* from abort to reset */
#define NVME_SETUP_NS       (5 * NSEC_PER_SEC)   /* one admin command */
#define NVME_CHECK_NS       (50 * NSEC_PER_MSEC) /* between looks at CSTS and time-outs */
#define NVME_SHUTDOWN_NS    (10 * NSEC_PER_SEC)

struct nvme_ctrl;

/* The hardware below: nvme_pci.c on the machine, a model in the tests. */
struct nvme_hw_ops {
	u32 (*read)(struct nvme_ctrl *c, u32 reg);
	void (*write)(struct nvme_ctrl *c, u32 reg, u32 v);
	void (*quiesce)(struct nvme_ctrl *c); /* no DMA from here on */
	/* in its slot: the registers of one that is not may read as zeroes, too */
	bool (*present)(struct nvme_ctrl *c);
};

struct nvme_slot {
	bool busy, aborted;
	u8 generation;       /* in the command id: tells late answers from current ones */
	struct blk_req *req; /* I/O queue */
	u64 issued_ns;
	u64 aborted_ns;
};

struct nvme_queue {
	u32 id;
	u32 entries; /* of the rings; one less in flight */
	struct nvme_command *sq;
	volatile struct nvme_completion *cq;
	u8 *prp_lists; /* I/O queue: one list a slot */
	u32 sq_tail, cq_head, phase;
	u32 busy;
	u64 progress_ns; /* last completion, or first issue on an idle queue */
	struct nvme_slot slot[NVME_ENTRIES];
};

struct nvme_ns {
	struct blk_dev dev;
	struct nvme_ctrl *ctrl;
	u32 nsid;
	u32 lba_shift; /* 9 or 12 */
};

enum nvme_state {
	NVME_DISABLING, /* waits for CSTS.RDY = 0 */
	NVME_ENABLING,  /* waits for CSTS.RDY = 1 */
	NVME_SETUP,     /* creates the I/O queues */
	NVME_RUNNING,
	NVME_GONE,
};

enum nvme_setup_step { NVME_SETUP_FEATURES, NVME_SETUP_CQ, NVME_SETUP_SQ, NVME_SETUP_DONE };

struct nvme_ctrl {
	struct lock lock;
	const struct nvme_hw_ops *hw;
	void *hw_priv;
	char name[8]; /* "nvme0" */
	u64 cap;
	bool interrupts; /* a message interrupt is set up */
	bool started;    /* start-up is over: failures are retried */
	enum nvme_state state;
	u64 deadline_ns; /* of the state */
	u64 check_ns;    /* next look at CSTS and time-outs */

	struct nvme_queue admin, io;
	enum nvme_setup_step step;
	bool command_busy; /* the one admin command that set-up or start-up waits for */
	u32 command_slot;
	u32 command_status, command_result;

	u32 max_pages; /* of one command, from MDTS */
	bool write_cache;
	u32 resets_in_row; /* since a command was done well */
	u32 bad_completions;
	u64 abort_said_ns; /* last abort, for the log */

	struct list pending; /* struct blk_req not (wholly) issued, oldest first */
	struct list done;    /* finished, status set */
	struct work work;    /* queued by the interrupt handler and for what is on `done` */

	u32 ns_count;
	struct nvme_ns ns[NVME_NAMESPACES_MAX];
};

/* The driver's words of a request (blk_req.driver). A request may need several commands (MDTS). */
struct nvme_rq {
	u32 issued;      /* pages for which a command was issued */
	u32 outstanding; /* commands in flight */
	s32 status;      /* first error */
	u32 again;       /* a command was lost: issue all of it again, once */
	u32 retries;
};
_Static_assert(sizeof(struct nvme_rq) <= sizeof(((struct blk_req *)0)->driver), "driver words");

static inline struct nvme_rq *nvme_rq(struct blk_req *r)
{
	return (struct nvme_rq *)r->driver;
}
static inline struct nvme_ns *nvme_ns(struct blk_dev *d)
{
	return container_of(d, struct nvme_ns, dev);
}

/* nvme_queue.c. Lock held. */
int nvme_queue_alloc(struct nvme_queue *q, u32 id, u32 entries, bool prp_lists) must_check;
void nvme_queue_clear(struct nvme_queue *q); /* as after a controller reset: empty, no slot in use */
bool nvme_queue_full(const struct nvme_queue *q);
/* Takes a slot, fills in the command id, rings the doorbell. The queue is not full. */
u32 nvme_queue_issue(struct nvme_ctrl *c, struct nvme_queue *q, struct nvme_command *cmd, struct blk_req *r);
/* Describes `pages` frames to the slot that nvme_queue_issue() takes next. */
void nvme_queue_prps(struct nvme_queue *q, struct nvme_command *cmd, const hfn_t *frame, u32 pages);
u32 nvme_slot_cid(const struct nvme_queue *q, u32 slot);
/* Calls fn for each new completion; at most one round of the ring. */
typedef void (*nvme_reap_fn)(struct nvme_ctrl *c, u32 slot, u32 status, u32 result);
void nvme_queue_reap(struct nvme_ctrl *c, struct nvme_queue *q, nvme_reap_fn fn);

/* nvme_ctrl.c */
/* Reads capabilities, allocates the rings; touches nothing of the device yet. E_NODEV, E_NOSYS, E_NOMEM. */
int nvme_ctrl_init(struct nvme_ctrl *c, const struct nvme_hw_ops *hw, void *hw_priv, u32 index) must_check;
/* Brings a controller up and identifies it; registers nothing. Spins, bounded by CAP.TO and NVME_SETUP_NS. E_NODEV. */
int nvme_ctrl_start(struct nvme_ctrl *c) must_check;
/* One bounded piece of whatever is due. Lock held. */
void nvme_step(struct nvme_ctrl *c);
/* nvme_step() and the completion of what finished. Takes the lock. */
void nvme_poll(struct nvme_ctrl *c);
/* One admin command at start-up: spins. Lock held. 0, E_IO, E_TIMEDOUT. */
int nvme_admin_sync(struct nvme_ctrl *c, struct nvme_command *cmd, u32 *result) must_check;
void nvme_ctrl_shutdown(struct nvme_ctrl *c);

/* nvme_ident.c: fills in max_pages, write_cache and ns[]. At start-up. */
int nvme_identify(struct nvme_ctrl *c) must_check;

/* nvme_io.c. Lock held, except by ops. */
extern const struct blk_ops nvme_blk_ops;
void nvme_io_pump(struct nvme_ctrl *c); /* issues what is pending */
void nvme_io_reaped(struct nvme_ctrl *c, u32 slot, u32 status, u32 result);
void nvme_io_lost(struct nvme_ctrl *c);                 /* after a reset: everything in flight once more */
void nvme_io_fail_all(struct nvme_ctrl *c, int status); /* in flight and pending */

/* nvme_pci.c: finds, starts and registers all controllers. Returns devices registered. */
u32 nvme_probe_all(void);

#endif
