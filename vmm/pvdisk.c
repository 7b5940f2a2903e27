/* Paravirtual disk, see pvdisk.h. */
#include "vmm/pvdisk.h"
#include "guest/abi/aerostat.h"
#include "lib/err.h"
#include "lib/panic.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "mm/blk.h"
#include "mm/frame.h"
#include "mm/platform.h"
#include "vmm/vm_internal.h"

#define PVDISK_INFLIGHT  16 /* requests between the ring and the device */
#define PVDISK_COUNT_MAX 16
#define PVDISK_ORDER     2 /* struct pvdisk */
#define RETRY_NS         (2 * NSEC_PER_MSEC)

enum xfer_state { XFER_FREE, XFER_WAIT, XFER_DEVICE };

/* One request, copied out of the ring. */
struct xfer {
	struct blk_req req;
	struct pvdisk *disk;
	enum xfer_state state;
	u32 number;   /* of the request: those of one disk are taken in order */
	u32 slot;     /* in the ring */
	u64 since_ns; /* WAIT: it lacks a page that it is its turn to get */
	u32 pinned;   /* pages pinned so far, in order */
	u32 lacks;    /* WAIT: the page that it could not have */
	u32 at;       /* pages before this one are done with */
	hfn_t frame[PVDISK_COUNT_MAX];
	struct aero_disk_request r;
};

struct pvdisk {
	struct vm *vm;
	struct blk_part *part;
	u64 start, pages; /* slice of the partition */
	u8 *written;      /* bit a page: has been written by this guest */
	u32 written_order;
	hfn_t ring_hfn; /* pinned, HFN_NONE before setup */
	gfn_t ring_gfn;
	u32 taken; /* requests taken from the ring, free-running */
	u32 completed;
	bool dying;
	bool attached; /* pages of the VM may be copies of its blocks */
	struct work work;
	struct timer retry;
	struct list link; /* all disks, for slice allocation */
	struct pvdisk_stats stats;
	struct xfer xfer[PVDISK_INFLIGHT];
};
_Static_assert(sizeof(struct pvdisk) <= PAGE_SIZE << PVDISK_ORDER, "struct pvdisk");

/* Slices in use, any order. Below vm->lock: creation and destruction only. */
static struct lock slices_lock = LOCK_INIT("slices", LOCK_RANK_RECLAIM);
static struct list slices = LIST_INIT(slices);

/* ---- slices ---- */

static struct pvdisk *slice_overlapping(struct blk_part *part, u64 start, u64 pages)
{
	list_for_each (l, &slices) {
		struct pvdisk *d = list_entry(l, struct pvdisk, link);

		if (d->part == part && start < d->start + d->pages && d->start < start + pages)
			return d;
	}
	return NULL;
}

/* First fit: behind each slice that is in the way. */
static bool slice_find(struct pvdisk *d, struct blk_part *part)
{
	u64 start = 0;

	while (start + d->pages <= part->pages) {
		struct pvdisk *o = slice_overlapping(part, start, d->pages);

		if (!o) {
			d->part = part;
			d->start = start;
			list_add_tail(&slices, &d->link);
			return true;
		}
		start = o->start + o->pages;
	}
	return false;
}

static int slice_alloc(struct pvdisk *d)
{
	struct blk_part *part = NULL;
	int err = E_NOENT;

	lock_acquire(&slices_lock);
	while (err && (part = blk_part_next(part, BLK_PART_GUEST_DATA))) {
		if (!part->dev->gone)
			err = slice_find(d, part) ? 0 : E_NOSPC;
	}
	lock_release(&slices_lock);
	return err;
}

static void work_fn(struct work *w);
static void retry_fn(struct timer *t);

static u32 order_for(u64 bytes)
{
	u32 order = 0;

	while (PAGE_SIZE << order < bytes)
		order++;
	return order;
}

static u32 written_order(u64 pages)
{
	return order_for(DIV_ROUND_UP(pages, 8));
}

u32 pvdisk_frames(u64 bytes)
{
	return (1U << PVDISK_ORDER) + (1U << written_order(bytes >> PAGE_SHIFT));
}

static void free_parts(struct pvdisk *d)
{
	if (d->written)
		frame_free(mm_va_to_hfn(d->written), d->written_order);
	frame_free(mm_va_to_hfn(d), PVDISK_ORDER);
}

int pvdisk_create(struct vm *vm, u64 bytes, struct pvdisk **out)
{
	hfn_t hfn = frame_alloc(PVDISK_ORDER, FRAME_FOR_HV, FRAME_HV, true);
	struct pvdisk *d;
	int err;

	if (hfn == HFN_NONE)
		return E_NOMEM;
	d = mm_hfn_to_va(hfn);
	d->vm = vm;
	d->pages = bytes >> PAGE_SHIFT;
	d->ring_hfn = HFN_NONE;
	list_init(&d->link);
	work_init(&d->work, "pvdisk", work_fn);
	timer_init(&d->retry, retry_fn);
	d->written_order = written_order(d->pages);
	hfn = frame_alloc(d->written_order, FRAME_FOR_HV, FRAME_HV, true);
	if (hfn == HFN_NONE) {
		free_parts(d);
		return E_NOMEM;
	}
	d->written = mm_hfn_to_va(hfn);
	err = slice_alloc(d);
	if (err) {
		free_parts(d);
		return err;
	}
	*out = d;
	return 0;
}

static void unpin(struct xfer *x)
{
	gfn_t gfn = gpa_to_gfn(GPA(x->r.gpa));

	while (x->pinned)
		gspace_unpin(&x->disk->vm->gs, gfn + --x->pinned);
}

void pvdisk_attach(struct pvdisk *d, struct gspace *gs)
{
	const struct clean_disk disk = {
	    .part = d->part, .start = d->start, .pages = (u32)d->pages, .written = d->written};

	gspace_set_disk(gs, &disk);
	d->attached = true;
}

bool pvdisk_destroy(struct pvdisk *d)
{
	d->dying = true;
	timer_cancel(&d->retry);
	for (u32 i = 0; i < PVDISK_INFLIGHT; i++) {
		struct xfer *x = &d->xfer[i];

		if (x->state == XFER_DEVICE)
			return false;
		if (x->state == XFER_WAIT)
			unpin(x);
		x->state = XFER_FREE;
	}
	if (work_is_queued(&d->work))
		return false; /* it finds dying set and does nothing */
	if (d->attached)
		gspace_set_disk(&d->vm->gs, NULL);
	if (d->attached && clean_busy(&d->vm->gs))
		return false;
	if (d->ring_hfn != HFN_NONE)
		gspace_unpin(&d->vm->gs, d->ring_gfn);
	lock_acquire(&slices_lock);
	list_del(&d->link);
	lock_release(&slices_lock);
	free_parts(d);
	return true;
}

/* ---- requests ---- */

static struct aero_disk_ring *ring_of(struct pvdisk *d)
{
	return mm_hfn_to_va(d->ring_hfn);
}

static bool is_written(const struct pvdisk *d, u64 page)
{
	return d->written[page / 8] >> (page % 8) & 1;
}

static void answer(struct xfer *x, int status)
{
	struct pvdisk *d = x->disk;
	struct aero_disk_ring *ring = ring_of(d);

	unpin(x);
	x->state = XFER_FREE;
	if (status)
		d->stats.errors++;
	WRITE_ONCE(ring->request[x->slot].status, status);
	barrier();
	WRITE_ONCE(ring->completed, ++d->completed);
	vm_post_event(d->vm, AERO_EVENT_DISK(0));
}

static void mark_written(struct pvdisk *d, const struct aero_disk_request *r)
{
	/* Released: who reads the bit without our lock (mm/clean.h) may read the block. */
	for (u64 p = r->page; p < r->page + r->count; p++)
		__atomic_store_n(&d->written[p / 8], d->written[p / 8] | (u8)(1 << p % 8), __ATOMIC_RELEASE);
}

static void transfer_done(struct blk_req *req);

static void to_device(struct xfer *x, enum blk_op op, u32 pages)
{
	struct pvdisk *d = x->disk;
	struct blk_req *req = &x->req;

	req->op = op;
	req->page = d->start + x->r.page + x->at;
	req->pages = pages;
	memcpy(req->frame, x->frame + x->at, pages * sizeof(x->frame[0]));
	req->done = transfer_done;
	req->arg = x;
	x->state = XFER_DEVICE;
	blk_submit(d->part, req);
}

/*
 * The next part of a read: pages the guest has not written are cleared, the run of written ones behind them goes to the
 * device. The two never mix in one transfer: before its end, or if a write overtakes it, the guest would see
 * what an earlier user of the slice left on the disk.
 */
static void read_on(struct xfer *x)
{
	struct pvdisk *d = x->disk;
	u32 n = 0;

	while (x->at < x->r.count && !is_written(d, x->r.page + x->at))
		page_clear(mm_hfn_to_va(x->frame[x->at++]));
	while (x->at + n < x->r.count && is_written(d, x->r.page + x->at + n))
		n++;
	if (n)
		to_device(x, BLK_READ, n);
	else
		answer(x, AERO_DISK_OK);
}

static void transfer_done(struct blk_req *req)
{
	struct xfer *x = req->arg;
	struct pvdisk *d = x->disk;
	struct vm *vm = d->vm;

	lock_acquire(&vm->lock);
	d->stats.latency_ns += platform_now_ns() - req->submitted_ns;
	if (x->r.op == AERO_DISK_WRITE && !req->status)
		mark_written(d, &x->r);
	x->at += req->pages;
	if (req->status)
		answer(x, AERO_E_IO);
	else if (x->r.op == AERO_DISK_READ)
		read_on(x);
	else
		answer(x, AERO_DISK_OK);
	if (!d->dying)
		work_queue(&d->work); /* the ring may hold more */
	lock_release(&vm->lock);
}

/* All pages are pinned: to the device, or answered from the bitmap alone. */
static void submit(struct xfer *x)
{
	if (x->r.op == AERO_DISK_WRITE) {
		to_device(x, BLK_WRITE, x->r.count);
	} else if (x->r.op == AERO_DISK_FLUSH) {
		to_device(x, BLK_FLUSH, 0);
	} else {
		read_on(x);
		x->disk->stats.zero_reads += x->state == XFER_FREE;
	}
}

static int pin_page(struct xfer *x, u32 i)
{
	struct gspace *gs = &x->disk->vm->gs;
	gfn_t gfn = gpa_to_gfn(GPA(x->r.gpa)) + i;

	return x->r.op == AERO_DISK_READ ? gspace_pin_new(gs, gfn, &x->frame[i])
					 : gspace_pin(gs, gfn, false, &x->frame[i]);
}

/* Of one that holds no page: does it still lack what it lacked the last time? Then the others need not be tried. */
static bool still_lacks(struct xfer *x)
{
	int err = x->lacks ? pin_page(x, x->lacks) : E_NOENT;

	if (!err)
		gspace_unpin(&x->disk->vm->gs, gpa_to_gfn(GPA(x->r.gpa)) + x->lacks);
	return err == E_AGAIN;
}

/* Pins what is not yet pinned. False: has to wait. */
static bool pin_pages(struct xfer *x, int *err)
{
	*err = 0;
	while (x->pinned < x->r.count) {
		*err = pin_page(x, x->pinned);
		if (*err) {
			x->lacks = x->pinned;
			return *err != E_AGAIN;
		}
		x->pinned++;
	}
	return true;
}

static struct xfer *oldest_waiting(struct pvdisk *d)
{
	struct xfer *oldest = NULL;

	for (u32 i = 0; i < PVDISK_INFLIGHT; i++) {
		struct xfer *x = &d->xfer[i];

		if (x->state == XFER_WAIT && (!oldest || (s32)(x->number - oldest->number) < 0))
			oldest = x;
	}
	return oldest;
}

/*
 * Pinned pages cannot be taken from the VM: if all that it may hold were pages of requests that lack others, none would
 * ever be complete. So only the oldest of those that wait keeps what it has.
 */
static void advance(struct xfer *x)
{
	struct pvdisk *d = x->disk;
	bool oldest = x == oldest_waiting(d);
	u32 before = x->pinned;
	int err;

	if ((!oldest && still_lacks(x)) || !pin_pages(x, &err)) {
		if (!oldest || x->pinned > before)
			x->since_ns = platform_now_ns();
		if (!oldest)
			unpin(x);
		d->stats.waits++;
		x->state = XFER_WAIT;
		timer_arm(&d->retry, platform_now_ns() + RETRY_NS);
		return;
	}
	if (err)
		answer(x, err == E_FAULT ? AERO_E_FAULT : err == E_BUSY ? AERO_E_BUSY : AERO_E_IO);
	else
		submit(x);
}

static int request_check(const struct pvdisk *d, const struct aero_disk_request *r)
{
	if (r->op > AERO_DISK_FLUSH)
		return AERO_E_INVAL;
	if (r->op == AERO_DISK_FLUSH)
		return r->count ? AERO_E_INVAL : 0;
	if (r->count == 0 || r->count > PVDISK_COUNT_MAX || r->gpa & ~PAGE_MASK)
		return AERO_E_INVAL;
	if (r->page >= d->pages || r->count > d->pages - r->page)
		return AERO_E_NOSPC;
	if (r->gpa >> PAGE_SHIFT >= d->vm->gs.pages || r->count > d->vm->gs.pages - (r->gpa >> PAGE_SHIFT))
		return AERO_E_FAULT;
	return 0;
}

static struct xfer *xfer_free(struct pvdisk *d)
{
	for (u32 i = 0; i < PVDISK_INFLIGHT; i++)
		if (d->xfer[i].state == XFER_FREE)
			return &d->xfer[i];
	return NULL;
}

static void take_one(struct pvdisk *d, struct xfer *x)
{
	struct aero_disk_ring *ring = ring_of(d);
	int err;

	x->disk = d;
	x->number = d->taken++;
	x->slot = x->number % AERO_DISK_REQUESTS;
	x->since_ns = platform_now_ns();
	x->pinned = x->lacks = x->at = 0;
	x->state = XFER_WAIT;
	x->r = *(volatile struct aero_disk_request *)&ring->request[x->slot];
	err = request_check(d, &x->r);
	if (err) {
		answer(x, err);
		return;
	}
	if (x->r.op == AERO_DISK_READ) {
		d->stats.reads++;
		d->stats.read_pages += x->r.count;
	} else if (x->r.op == AERO_DISK_WRITE) {
		d->stats.writes++;
		d->stats.write_pages += x->r.count;
	}
	advance(x);
}

/* Takes requests while there are free records; at most a ring's worth whatever `posted` says. */
static s64 take(struct pvdisk *d)
{
	u32 posted = READ_ONCE(ring_of(d)->posted);
	struct xfer *x;
	s64 n = 0;

	if (posted - d->taken > AERO_DISK_REQUESTS)
		return AERO_E_INVAL;
	while (d->taken != posted && (x = xfer_free(d))) {
		take_one(d, x);
		n++;
	}
	return n;
}

static void work_fn(struct work *w)
{
	struct pvdisk *d = container_of(w, struct pvdisk, work);
	struct vm *vm = d->vm;

	lock_acquire(&vm->lock);
	if (!d->dying && d->ring_hfn != HFN_NONE) {
		struct xfer *oldest = oldest_waiting(d);

		if (oldest)
			advance(oldest);
		for (u32 i = 0; i < PVDISK_INFLIGHT; i++)
			if (d->xfer[i].state == XFER_WAIT && &d->xfer[i] != oldest)
				advance(&d->xfer[i]);
		take(d);
	}
	lock_release(&vm->lock);
}

static void retry_fn(struct timer *t)
{
	work_queue(&container_of(t, struct pvdisk, retry)->work);
}

/* ---- hypercalls ---- */

s64 pvdisk_setup(struct vm *vm, u64 disk, gpa_t gpa)
{
	struct pvdisk *d = vm->disk;
	hfn_t hfn;
	int err;

	if (disk != 0 || !d || !(vm->features & AERO_FEATURE_DISK))
		return AERO_E_NOENT;
	if (d->ring_hfn != HFN_NONE)
		return AERO_E_PERM;
	if (gpa.v & ~PAGE_MASK || gpa.v >> PAGE_SHIFT >= vm->gs.pages)
		return AERO_E_FAULT;
	err = gspace_pin(&vm->gs, gpa_to_gfn(gpa), true, &hfn);
	if (err)
		return err;
	d->ring_gfn = gpa_to_gfn(gpa);
	d->ring_hfn = hfn;
	d->taken = d->completed = 0;
	page_clear(mm_hfn_to_va(hfn));
	return (s64)d->pages;
}

s64 pvdisk_kick(struct vm *vm, u64 disk)
{
	struct pvdisk *d = vm->disk;

	if (disk != 0 || !d || d->ring_hfn == HFN_NONE)
		return AERO_E_NOENT;
	return take(d);
}

void pvdisk_stats(struct pvdisk *d, struct pvdisk_stats *out)
{
	u64 now = platform_now_ns();
	const struct xfer *x;

	lock_acquire(&d->vm->lock);
	*out = d->stats;
	x = oldest_waiting(d);
	out->starved_ns = x && now > x->since_ns ? now - x->since_ns : 0;
	lock_release(&d->vm->lock);
}
