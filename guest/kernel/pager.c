/* See pager.h. */
#include "guest/kernel/pager.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/smp.h"
#include "lib/err.h"
#include "lib/panic.h"
#include "lib/string.h"

#define READ_TRIES     4
#define FRAME_TRIES    64
#define WRITE_RETRY_NS NSEC_PER_SEC
#define AHEAD_SCAN     1024 /* pages looked at when write-out runs ahead of need */

struct victim {
	u32 vpn, pfn;
	bool write;
};

void pager_prepare(struct pager *p, struct ram *ram, struct ptab *ptab, struct disk *disk, struct clock *clock)
{
	*p = (struct pager){.ram = ram, .ptab = ptab, .disk = disk, .clock = clock};
}

int pager_create(struct pager *p, u32 pages, u64 slots)
{
	CHECK(!p->page);
	p->page = ram_array(p->ram, pages * sizeof(*p->page));
	if (!p->page)
		return E_NOMEM;
	/* All tables now, so that a fault never lacks one. */
	for (u32 vpn = 0; vpn < pages; vpn++) {
		p->page[vpn].slot = PAGER_NO_SLOT;
		if (!ptab_entry(p->ptab, pager_va(vpn), true))
			return E_NOMEM;
	}
	p->pages = p->count[VPAGE_BLANK] = pages;
	p->slots = MIN(slots, PAGER_NO_SLOT - 1);
	p->low_free = slots ? CLAMP(p->ram->pages / 256, PAGER_BATCH, 512) : 0;
	return 0;
}

static u64 *entry(struct pager *p, u32 vpn)
{
	return ptab_entry(p->ptab, pager_va(vpn), false);
}

static bool is_out(enum vpage_state s)
{
	return s == VPAGE_WRITING || s == VPAGE_SWAPPED || s == VPAGE_READING;
}

static void state_set(struct pager *p, u32 vpn, enum vpage_state s)
{
	struct vpage *vp = &p->page[vpn];

	p->ram->out = p->ram->out - is_out(vp->state) + is_out(s);
	p->count[vp->state]--;
	vp->state = s;
	p->count[s]++;
}

/* Present, writable, accessed and dirty clear: the hardware sets them. */
static void map(struct pager *p, u32 vpn, u32 pfn)
{
	*entry(p, vpn) = (u64)pfn << PAGE_SHIFT | PTE_P | PTE_W | p->ptab->nx;
	p->page[vpn].age = 1;
	state_set(p, vpn, VPAGE_RESIDENT);
}

static void frame_release(struct pager *p, u32 pfn, bool squeeze)
{
	if (squeeze && p->squeezed)
		p->squeezed(p->arg, pfn);
	else
		ram_free(p->ram, pfn);
}

/* ---- write-out ---- */

static void write_done(struct disk_io *io)
{
	struct pager_write *w = container_of(io, struct pager_write, io);
	struct pager *p = w->pager;
	struct vpage *vp = &p->page[w->vpn];
	u32 pfn = w->pfn;

	w->pager = NULL;
	vp->flags &= ~VPAGE_IO;
	if (io->status) {
		/* The memory copy is the only good one. */
		p->stats.write_errors++;
		p->retry_ns = clock_ns(p->clock) + WRITE_RETRY_NS;
		vp->flags |= VPAGE_STALE;
		if (vp->state == VPAGE_WRITING)
			map(p, w->vpn, pfn);
		return;
	}
	p->stats.paged_out++;
	if (vp->state != VPAGE_WRITING)
		return; /* rescued: from now on the dirty bit says whether the slot is good */
	*entry(p, w->vpn) = 0;
	state_set(p, w->vpn, VPAGE_SWAPPED);
	frame_release(p, pfn, w->squeeze);
}

static struct pager_write *write_get(struct pager *p)
{
	for (u32 i = 0; i < ARRAY_SIZE(p->write); i++) {
		if (!p->write[i].pager)
			return &p->write[i];
	}
	return NULL;
}

/* A slot for vpn: its own, a new one, or that of a resident page, which then has to be written to another when it goes.
 */
static bool slot_get(struct pager *p, u32 vpn)
{
	struct vpage *vp = &p->page[vpn];

	if (vp->slot != PAGER_NO_SLOT)
		return true;
	vp->flags |= VPAGE_STALE;
	if (p->slot_next < p->slots) {
		vp->slot = (u32)p->slot_next++;
		return true;
	}
	for (u32 i = 0; i < p->pages; i++) {
		struct vpage *other = &p->page[p->slot_hand];

		p->slot_hand = (p->slot_hand + 1) % p->pages;
		if ((other->state == VPAGE_RESIDENT || other->state == VPAGE_BLANK) && other->slot != PAGER_NO_SLOT &&
		    !(other->flags & VPAGE_IO)) {
			vp->slot = other->slot;
			other->slot = PAGER_NO_SLOT;
			return true;
		}
	}
	return false;
}

static void write_begin(struct pager *p, const struct victim *v, bool squeeze)
{
	struct pager_write *w = write_get(p);
	struct vpage *vp = &p->page[v->vpn];

	*w = (struct pager_write){.io.done = write_done, .pager = p, .vpn = v->vpn, .pfn = v->pfn, .squeeze = squeeze};
	vp->flags = (vp->flags & ~VPAGE_STALE) | VPAGE_IO | VPAGE_CONTENT;
	CHECK(disk_post(p->disk, AERO_DISK_WRITE, vp->slot, (u64)v->pfn << PAGE_SHIFT, 1, &w->io) == 0);
}

/* ---- the clock ---- */

static bool needs_write(const struct vpage *vp, u64 pte)
{
	if (pte & PTE_D || vp->flags & VPAGE_STALE)
		return true;
	return vp->flags & VPAGE_CONTENT && vp->slot == PAGER_NO_SLOT;
}

/* Not present from here on; a page to be written keeps its pfn for a rescue. What the hardware noted until now is in
 * pte. */
static struct victim take_out(struct pager *p, u32 vpn, u64 *e)
{
	struct vpage *vp = &p->page[vpn];
	u64 pte = __atomic_exchange_n(e, *e & PTE_ADDR, __ATOMIC_ACQ_REL);
	bool write = needs_write(vp, pte);

	if (!write)
		*e = 0;
	state_set(p, vpn, write ? VPAGE_WRITING : vp->flags & VPAGE_CONTENT ? VPAGE_SWAPPED : VPAGE_BLANK);
	return (struct victim){.vpn = vpn, .pfn = (u32)((pte & PTE_ADDR) >> PAGE_SHIFT), .write = write};
}

/* One look at one page: true if it is cold and can go; its entry is then taken out. */
static bool choose(struct pager *p, u32 vpn, bool may_write, struct victim *v, bool *aged)
{
	struct vpage *vp = &p->page[vpn];
	u64 *e;

	if (vp->state != VPAGE_RESIDENT || vp->flags & VPAGE_IO)
		return false;
	e = entry(p, vpn);
	if (*e & PTE_A) {
		__atomic_fetch_and(e, ~PTE_A, __ATOMIC_RELAXED);
		vp->age = PAGER_AGE_MAX;
		*aged = true;
		return false;
	}
	if (vp->age) {
		vp->age--;
		return false;
	}
	if (needs_write(vp, *e) && !(may_write && slot_get(p, vpn)))
		return false;
	*v = take_out(p, vpn, e);
	return true;
}

/* The translations are flushed: nobody can reach the page any more. */
static void let_go(struct pager *p, const struct victim *v, bool squeeze)
{
	p->page[v->vpn].shadow = ram_put_away(p->ram, ram_ballooned(p->ram, squeeze));
	if (v->write) {
		write_begin(p, v, squeeze);
		return;
	}
	p->stats.dropped++;
	frame_release(p, v->pfn, squeeze);
}

u32 pager_reclaim(struct pager *p, u32 want, u32 scan, bool squeeze)
{
	struct victim v[PAGER_BATCH];
	u32 taken = 0, n;
	bool aged;

	want = MIN(want, pager_evictable(p));
	while (taken < want && scan) {
		u32 writes = disk_present(p->disk) ? disk_room(p->disk) : 0;

		if (squeeze && clock_ns(p->clock) < p->retry_ns)
			writes = 0;
		aged = false;
		for (n = 0; n < MIN(want - taken, PAGER_BATCH) && scan; scan--) {
			if (choose(p, p->hand, writes > 0, &v[n], &aged))
				writes -= v[n++].write;
			p->hand = (p->hand + 1) % p->pages;
		}
		if (n)
			smp_flush();
		else if (aged)
			smp_flush_later();
		for (u32 i = 0; i < n; i++)
			let_go(p, &v[i], squeeze);
		taken += n;
		if (n == 0 || writes == 0)
			break;
	}
	if (taken)
		disk_kick(p->disk);
	return taken;
}

u32 pager_evictable(const struct pager *p)
{
	u32 out = p->count[VPAGE_SWAPPED] + p->count[VPAGE_WRITING] + p->count[VPAGE_READING];
	u32 resident = p->count[VPAGE_RESIDENT];

	if (resident <= PAGER_MIN_RESIDENT || out >= p->slots)
		return 0;
	return (u32)MIN(resident - PAGER_MIN_RESIDENT, p->slots - out);
}

/* Blank but for a slot that it keeps, with what is no more its content. */
static void make_blank(struct pager *p, u32 vpn)
{
	struct vpage *vp = &p->page[vpn];

	vp->flags = vp->slot == PAGER_NO_SLOT ? 0 : VPAGE_STALE;
	vp->age = 0;
	state_set(p, vpn, VPAGE_BLANK);
}

u32 pager_discard(struct pager *p, u32 vpn, u32 n)
{
	u32 pfn[PAGER_BATCH], frames = 0, done;

	CHECK(n <= PAGER_BATCH && vpn + n <= p->pages);
	for (done = 0; done < n; done++, vpn++) {
		struct vpage *vp = &p->page[vpn];

		if (vp->flags & VPAGE_IO || vp->state == VPAGE_READING)
			break;
		if (vp->state == VPAGE_RESIDENT)
			pfn[frames++] =
			    (u32)((__atomic_exchange_n(entry(p, vpn), 0, __ATOMIC_ACQ_REL) & PTE_ADDR) >> PAGE_SHIFT);
		make_blank(p, vpn);
	}
	if (frames)
		smp_flush();
	while (frames)
		ram_free(p->ram, pfn[--frames]);
	return done;
}

void pager_overwrite(struct pager *p, u32 vpn, u32 n)
{
	CHECK(n <= PAGER_BATCH && vpn + n <= p->pages);
	for (; n; n--, vpn++) {
		struct vpage *vp = &p->page[vpn];

		if (vp->state == VPAGE_RESIDENT)
			hint_put(p->hints, AERO_HINT_OVERWRITE, *entry(p, vpn) & PTE_ADDR, 0);
		else if (vp->state == VPAGE_SWAPPED && !(vp->flags & VPAGE_IO))
			make_blank(p, vpn);
	}
	hints_send(p->hints);
}

/* ---- faults ---- */

static u32 frame_get(struct pager *p)
{
	u32 pfn = ram_alloc(p->ram, RAM_APP), started;

	if (pfn == RAM_NONE)
		p->stats.stalls++;
	for (u32 tries = 0; pfn == RAM_NONE; tries++) {
		if (tries == FRAME_TRIES)
			panic("out of memory: %u pages resident, %u swapped, %lu write errors",
			      p->count[VPAGE_RESIDENT], p->count[VPAGE_SWAPPED], p->stats.write_errors);
		/* Every age can be worn down in so many looks. */
		started = pager_reclaim(p, PAGER_BATCH, p->pages * (PAGER_AGE_MAX + 2), false);
		if (p->ram->count[RAM_FREE] == 0 && p->disk->in_flight)
			disk_wait_any(p->disk);
		if (p->ram->count[RAM_FREE] == 0 && (started == 0 || tries > FRAME_TRIES / 2))
			p->need_memory(p->arg, PAGER_BATCH);
		pfn = ram_alloc(p->ram, RAM_APP);
	}
	if (p->ram->count[RAM_FREE] + p->count[VPAGE_WRITING] < p->low_free)
		pager_reclaim(p, PAGER_BATCH, AHEAD_SCAN, false);
	return pfn;
}

static int read_slot(struct pager *p, u32 vpn, u32 pfn)
{
	int err = AERO_E_IO;

	for (u32 tries = 0; err && tries < READ_TRIES; tries++) {
		p->stats.read_retries += tries > 0;
		err = disk_transfer(p->disk, AERO_DISK_READ, p->page[vpn].slot, (u64)pfn << PAGE_SHIFT, 1);
	}
	return err;
}

static void page_in(struct pager *p, u32 vpn)
{
	struct vpage *vp = &p->page[vpn];
	u64 begin = clock_ns(p->clock);
	bool refault = ram_would_hold(p->ram, vp->shadow, ram_ballooned(p->ram, false));
	u32 pfn;
	int err;

	state_set(p, vpn, VPAGE_READING);
	pfn = frame_get(p);
	err = read_slot(p, vpn, pfn);
	if (err)
		panic("page %u is lost: the disk answers %d for slot %u", vpn, err, vp->slot);
	map(p, vpn, pfn);
	smp_wake_pages();
	p->stats.major_faults++;
	p->stats.paged_in++;
	if (refault) {
		p->stats.refaults++;
		p->stats.refault_ns += clock_ns(p->clock) - begin;
	}
}

void pager_fault(struct pager *p, u32 vpn)
{
	struct vpage *vp = &p->page[vpn];
	u32 pfn;

	CHECK(vpn < p->pages);
	switch (vp->state) {
	case VPAGE_BLANK:
		pfn = frame_get(p);
		if (vp->state != VPAGE_BLANK) { /* another vCPU's, while we slept */
			ram_free(p->ram, pfn);
			break;
		}
		memset(arch_phys((u64)pfn << PAGE_SHIFT), 0, PAGE_SIZE);
		map(p, vpn, pfn);
		p->stats.minor_faults++;
		break;
	case VPAGE_WRITING:
		map(p, vpn, (u32)(*entry(p, vpn) >> PAGE_SHIFT));
		p->stats.rescued++;
		p->stats.minor_faults++;
		break;
	case VPAGE_SWAPPED:
		page_in(p, vpn);
		break;
	case VPAGE_READING:
		smp_sleep_page(); /* another vCPU's: look again */
		break;
	default:
		arch_tlb_flush_page(pager_va(vpn));
	}
}

static bool verify_page(struct pager *p, u32 vpn)
{
	const struct vpage *vp = &p->page[vpn];
	u64 pte = *entry(p, vpn);
	bool has_frame = vp->state == VPAGE_RESIDENT || vp->state == VPAGE_WRITING;

	if (vp->state >= VPAGE_STATES || !!(pte & PTE_P) != (vp->state == VPAGE_RESIDENT))
		return false;
	if (has_frame && ram_get(p->ram, (u32)((pte & PTE_ADDR) >> PAGE_SHIFT)) != RAM_APP)
		return false;
	if (vp->state == VPAGE_SWAPPED && vp->slot >= p->slots)
		return false;
	return vp->state != VPAGE_WRITING || vp->flags & VPAGE_IO;
}

bool pager_verify(struct pager *p)
{
	u32 count[VPAGE_STATES] = {0};

	for (u32 vpn = 0; vpn < p->pages; vpn++) {
		if (!verify_page(p, vpn))
			return false;
		count[p->page[vpn].state]++;
	}
	return memcmp(count, p->count, sizeof(count)) == 0;
}
