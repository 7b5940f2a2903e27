/* See fake_hv_guest.h. */
#define _GNU_SOURCE
#include "tests/unit/fake_hv_guest.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest/kernel/arch.h"
#include "guest/kernel/console.h"
#include "lib/format.h"
#include "lib/hash.h"
#include "lib/panic.h"
#include "lib/string.h"

#define IMAGE_END_PAGE 300 /* a kernel of about 200 KiB at 1 MiB */
#define CONSOLE_PAGE   260
#define NEVER          (~0ul)

struct fake_hv fake;

#define REQUIRE(c)                                                              \
	do {                                                                    \
		if (!(c)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #c); \
			abort();                                                \
		}                                                               \
	} while (0)

static void *arena(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	REQUIRE(p != MAP_FAILED);
	return p;
}

/* ---- life ---- */

void fake_start(struct kernel *k, u32 memory_mib, u32 disk_mib, const char *cmdline)
{
	fake_start_growing(k, memory_mib, 0, disk_mib, cmdline);
}

void fake_start_growing(struct kernel *k, u32 memory_mib, u32 max_mib, u32 disk_mib, const char *cmdline)
{
	u64 bytes = memory_mib * MIB;
	u32 first, most = MAX(max_mib, memory_mib) * (u32)(MIB >> PAGE_SHIFT);

	memset(&fake, 0, sizeof(fake));
	prng_seed(&fake.prng, 42);
	fake.pages = (u32)(bytes >> PAGE_SHIFT);
	fake.room = most;
	fake.memory = arena((u64)most << PAGE_SHIFT);
	fake.ballooned = calloc(1, most);
	fake.pinned = calloc(1, most);
	fake.copy_of = calloc(most, sizeof(*fake.copy_of));
	fake.copy_hash = calloc(most, sizeof(*fake.copy_hash));
	fake.max = fake.pages * 65ul / 100;
	fake.features = AERO_FEATURE_BALLOON | AERO_FEATURE_TIMER | AERO_FEATURE_CONSOLE |
			(disk_mib ? AERO_FEATURE_DISK : 0) | AERO_FEATURE_HINT | (max_mib ? AERO_FEATURE_MEMORY : 0);
	fake.disk_pages = disk_mib * MIB >> PAGE_SHIFT;
	fake.disk = disk_mib ? arena(disk_mib * MIB) : NULL;
	fake.disk_latency_ns = 100 * NSEC_PER_USEC;
	fake.tsc_step_ns = 20 * NSEC_PER_USEC;
	fake.end_ns = NEVER;
	fake.now_ns = NSEC_PER_MSEC;

	memset(k, 0, sizeof(*k));
	k->start = (struct aero_start){.magic = AERO_START_MAGIC,
				       .abi_version = AERO_ABI_VERSION,
				       .vcpus = 1,
				       .memory_bytes = bytes,
				       .memory_max = max_mib * MIB,
				       .tsc_khz = 1000000,
				       .disks = disk_mib ? 1 : 0,
				       .name = "fake"};
	str_copy(k->start.cmdline, cmdline, sizeof(k->start.cmdline));
	memset(k->start.random, 0x5a, sizeof(k->start.random));
	console_init(arch_phys(CONSOLE_PAGE * PAGE_SIZE), CONSOLE_PAGE * PAGE_SIZE);
	first = IMAGE_END_PAGE + (u32)DIV_ROUND_UP(ram_meta_bytes(grow_max(bytes, max_mib * MIB)), PAGE_SIZE);
	kernel_init(k, arch_phys(IMAGE_END_PAGE * PAGE_SIZE), first, 1, 256);
	REQUIRE(ptab_init(&k->ptab, &k->ram, true) == 0);
}

void fake_boot(struct kernel *k, u32 memory_mib, u32 disk_mib, const char *cmdline)
{
	fake_start(k, memory_mib, disk_mib, cmdline);
	kernel_contract(k);
	kernel_start_app(k);
}

void fake_stop(void)
{
	munmap(fake.memory, (size_t)fake.room << PAGE_SHIFT);
	if (fake.disk)
		munmap(fake.disk, fake.disk_pages << PAGE_SHIFT);
	free(fake.ballooned);
	free(fake.pinned);
	free(fake.copy_of);
	free(fake.copy_hash);
}

bool fake_try(void (*fn)(void *arg), void *arg)
{
	jmp_buf here;

	fake.leave = &here;
	if (setjmp(here) == 0)
		fn(arg);
	fake.leave = NULL;
	return !fake.ended && !fake.panicked;
}

static void turn_until_end(void *arg)
{
	struct kernel *k = arg;

	while (fake.now_ns < fake.end_ns) {
		if (!kernel_turn(k))
			kernel_run(k); /* its farewell */
	}
}

void fake_run(struct kernel *k, u64 ns)
{
	fake.end_ns = fake.now_ns + ns;
	fake_try(turn_until_end, k);
}

static _Noreturn void leave(void)
{
	REQUIRE(fake.leave);
	longjmp(*(jmp_buf *)fake.leave, 1);
}

_Noreturn void panic_at(const char *file, int line, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	format_vbuf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fake.panicked = true;
	if (!fake.leave)
		fprintf(stderr, "panic %s:%d: %s\n", file, line, text);
	print("PANIC %s:%d: %s\n", file, line, text);
	leave();
}

/* ---- events and time ---- */

void fake_post(u64 event)
{
	if (fake.info)
		__atomic_or_fetch(&fake.info->events, event, __ATOMIC_ACQ_REL);
}

void fake_set_target(u32 pages)
{
	fake.target = MIN(pages, fake.max);
	if (!fake.info)
		return;
	fake.info->balloon.target = fake.target;
	fake.info->balloon.sequence++;
	fake_post(AERO_EVENT_BALLOON);
}

void fake_offer(u32 pages)
{
	REQUIRE(pages <= fake.room);
	fake.offered = pages;
	if (!fake.info)
		return;
	fake.info->growth.offered = (u64)pages << PAGE_SHIFT;
	fake_post(AERO_EVENT_MEMORY);
}

void fake_type(const char *text)
{
	fake.input = text;
	fake_post(AERO_EVENT_CONSOLE);
}

bool fake_printed(const char *text)
{
	return memmem(fake.text, fake.text_used, text, strlen(text)) != NULL;
}

static u64 hash_of(u32 pfn)
{
	return hash_bytes(fake.memory + ((size_t)pfn << PAGE_SHIFT), PAGE_SIZE, 1);
}

/* As if it had been out meanwhile; unless it was written since. */
static void drop_copy(u32 pfn)
{
	if (!fake.copy_of[pfn] || fake.ballooned[pfn])
		return;
	if (hash_of(pfn) == fake.copy_hash[pfn]) {
		memcpy(fake.memory + ((size_t)pfn << PAGE_SHIFT),
		       fake.disk + ((size_t)(fake.copy_of[pfn] - 1) << PAGE_SHIFT), PAGE_SIZE);
		fake.dropped++;
	}
}

/* The data moves at the very end of a transfer, so that a page changed meanwhile is written as it is then. */
static void complete(struct fake_request *q)
{
	struct aero_disk_request *r = &q->r;
	s32 status = AERO_DISK_OK;
	u32 *fail = r->op == AERO_DISK_READ ? &fake.fail_reads : &fake.fail_writes;

	for (u32 i = 0; i < r->count; i++) {
		REQUIRE(!fake.ballooned[(r->gpa >> PAGE_SHIFT) + i]);
		drop_copy((u32)(r->gpa >> PAGE_SHIFT) + i);
		fake.copy_of[(r->gpa >> PAGE_SHIFT) + i] = 0; /* it was pinned */
	}
	if (*fail) {
		--*fail;
		status = AERO_E_IO;
	} else if (r->op == AERO_DISK_READ) {
		memcpy(fake.memory + r->gpa, fake.disk + (r->page << PAGE_SHIFT), (size_t)r->count << PAGE_SHIFT);
	} else if (r->op == AERO_DISK_WRITE) {
		memcpy(fake.disk + (r->page << PAGE_SHIFT), fake.memory + r->gpa, (size_t)r->count << PAGE_SHIFT);
	}
	fake.reads += r->op == AERO_DISK_READ;
	fake.writes += r->op == AERO_DISK_WRITE;
	fake.ring->request[q->slot].status = status;
	fake.ring->completed++;
	q->used = false;
	fake_post(AERO_EVENT_DISK(0));
}

static u64 next_due(void)
{
	u64 due = fake.timer_ns ? fake.timer_ns : NEVER;

	for (u32 i = 0; i < AERO_DISK_REQUESTS; i++) {
		if (fake.request[i].used)
			due = MIN(due, fake.request[i].due_ns);
	}
	return due;
}

static void deliver(void)
{
	for (u32 i = 0; i < AERO_DISK_REQUESTS; i++) {
		if (fake.request[i].used && fake.request[i].due_ns <= fake.now_ns)
			complete(&fake.request[i]);
	}
	if (fake.timer_ns && fake.timer_ns <= fake.now_ns) {
		fake.timer_ns = 0;
		fake_post(AERO_EVENT_TIMER);
	}
}

u64 arch_tsc(void)
{
	fake.now_ns += fake.tsc_step_ns;
	deliver();
	return fake.now_ns;
}

void arch_wait(const u64 *events)
{
	u64 due;

	deliver();
	if (READ_ONCE(*events))
		return;
	fake.waits++;
	due = next_due();
	if (due == NEVER && fake.end_ns == NEVER) {
		fprintf(stderr, "the guest sleeps for ever\n");
		abort();
	}
	/* A sleep beyond the run's end is cut: real HLT may end for no reason too. */
	fake.now_ns = MAX(fake.now_ns, MIN(due, MAX(fake.end_ns, fake.now_ns + NSEC_PER_MSEC)));
	deliver();
}

/* ---- memory ---- */

void *arch_phys(u64 pa)
{
	REQUIRE(pa >> PAGE_SHIFT < fake.pages);
	return fake.memory + pa;
}

u64 arch_pa(const void *va)
{
	REQUIRE((const u8 *)va >= fake.memory && (const u8 *)va < fake.memory + ((size_t)fake.pages << PAGE_SHIFT));
	return (u64)((const u8 *)va - fake.memory);
}

u32 arch_cpu(void)
{
	return 0;
}

s64 arch_start_cpu(u32 index)
{
	(void)index;
	return AERO_E_NOSYS;
}

void arch_relax(void) {}

void arch_tlb_flush(void)
{
	memset(fake.tlb, 0, sizeof(fake.tlb));
	fake.tlb_flushes++;
}

void arch_tlb_flush_page(u64 va)
{
	u64 vpn = (va - APP_BASE) >> PAGE_SHIFT;

	fake.tlb[vpn % FAKE_TLB].vpn = 0;
}

void *arch_app_page(struct pager *p, u32 vpn, bool write)
{
	typeof(&fake.tlb[0]) t = &fake.tlb[vpn % FAKE_TLB];
	u64 *e;

	if (t->vpn == vpn + 1ul && (!write || t->dirty)) {
		fake.tlb_hits++;
		return arch_phys(t->pfn << PAGE_SHIFT);
	}
	while (!(*(e = ptab_entry(p->ptab, pager_va(vpn), false)) & PTE_P))
		pager_fault(p, vpn);
	*e |= PTE_A | (write ? PTE_D : 0);
	t->vpn = vpn + 1ul;
	t->pfn = (*e & PTE_ADDR) >> PAGE_SHIFT;
	t->dirty = write;
	return arch_phys(t->pfn << PAGE_SHIFT);
}

u32 fake_touched(void)
{
	u8 *vec = calloc(1, fake.pages);
	u32 n = 0;

	REQUIRE(mincore(fake.memory, (size_t)fake.pages << PAGE_SHIFT, vec) == 0);
	for (u32 i = 0; i < fake.pages; i++)
		n += vec[i] & 1;
	free(vec);
	return n;
}

bool arch_misbehave(const char *how)
{
	(void)how;
	return false;
}

const char *arch_misbehaviours(void)
{
	return "";
}

/* Nothing leaves a guest that runs on the host. */
u64 arch_measure(enum arch_path path, u64 va)
{
	(void)path, (void)va;
	return 0;
}

/* ---- hypercalls ---- */

static bool in_memory(u64 gpa, u64 bytes)
{
	u64 end = (u64)fake.pages << PAGE_SHIFT;

	return gpa < end && bytes <= end - gpa;
}

static void protect(u32 pfn, u32 n, bool away)
{
	u8 *at = fake.memory + ((size_t)pfn << PAGE_SHIFT);

	memset(fake.copy_of + pfn, 0, n * sizeof(*fake.copy_of));
	if (away)
		REQUIRE(madvise(at, (size_t)n << PAGE_SHIFT, MADV_DONTNEED) == 0);
	REQUIRE(mprotect(at, (size_t)n << PAGE_SHIFT, away ? PROT_NONE : PROT_READ | PROT_WRITE) == 0);
	memset(fake.ballooned + pfn, away, n);
}

static bool entry_bad(u64 entry, u32 n)
{
	u64 pfn = (entry & BITS(51, 12)) >> PAGE_SHIFT;

	return entry & (BITS(63, 52) | BITS(3, 1)) || pfn % n || pfn + n > fake.pages ||
	       (n > 1 && !(fake.granted & AERO_FEATURE_BALLOON_2M));
}

static u32 inflate_one(u64 entry)
{
	u32 n = entry & AERO_BALLOON_2M ? LARGE_PAGES : 1;
	u64 pfn = (entry & BITS(51, 12)) >> PAGE_SHIFT;
	static u32 turn;

	if (entry_bad(entry, n))
		return AERO_BALLOON_INVALID;
	if (fake.held + n > fake.target)
		return AERO_BALLOON_OVER;
	if (fake.busy_every && ++turn % fake.busy_every == 0)
		return AERO_BALLOON_BUSY;
	for (u32 i = 0; i < n; i++) {
		if (fake.ballooned[pfn + i])
			return AERO_BALLOON_ALREADY;
		if (fake.pinned[pfn + i])
			return AERO_BALLOON_PINNED;
	}
	protect((u32)pfn, n, true);
	fake.held += n;
	fake.inflated += n;
	return AERO_BALLOON_OK;
}

static u32 deflate_one(u64 entry)
{
	u32 n = entry & AERO_BALLOON_2M ? LARGE_PAGES : 1;
	u64 pfn = (entry & BITS(51, 12)) >> PAGE_SHIFT;

	if (entry_bad(entry, n))
		return AERO_BALLOON_INVALID;
	if (!fake.ballooned[pfn])
		return AERO_BALLOON_ALREADY;
	protect((u32)pfn, n, false);
	fake.held -= n;
	fake.deflated += n;
	return AERO_BALLOON_OK;
}

static s64 call_balloon(u64 gpa, u64 count, bool inflate, u64 *second)
{
	u64 *entry;
	s64 accepted = 0;

	if (count > AERO_BALLOON_BATCH_MAX)
		return AERO_E_2BIG;
	if (gpa & 7)
		return AERO_E_INVAL;
	if (gpa % PAGE_SIZE + count * 8 > PAGE_SIZE || !in_memory(gpa, count * 8))
		return AERO_E_FAULT;
	entry = (u64 *)(fake.memory + gpa);
	for (u64 i = 0; i < count; i++) {
		u32 status = inflate ? inflate_one(entry[i]) : deflate_one(entry[i]);

		entry[i] = (entry[i] & ~BITS(11, 4)) | (u64)status << 4;
		accepted += status == AERO_BALLOON_OK;
		fake.refused += status != AERO_BALLOON_OK;
	}
	if (second)
		*second = fake.target;
	return accepted;
}

static int check_request(const struct aero_disk_request *r)
{
	if (r->op > AERO_DISK_FLUSH)
		return AERO_E_INVAL;
	if (r->op == AERO_DISK_FLUSH)
		return r->count ? AERO_E_INVAL : 0;
	if (r->count == 0 || r->count > 16 || r->gpa % PAGE_SIZE)
		return AERO_E_INVAL;
	if (r->page >= fake.disk_pages || r->count > fake.disk_pages - r->page)
		return AERO_E_NOSPC;
	return in_memory(r->gpa, (u64)r->count << PAGE_SHIFT) ? 0 : AERO_E_FAULT;
}

static struct fake_request *request_free(void)
{
	for (u32 i = 0; i < AERO_DISK_REQUESTS; i++) {
		if (!fake.request[i].used)
			return &fake.request[i];
	}
	return NULL;
}

static s64 call_kick(void)
{
	u32 posted = fake.ring->posted;
	s64 n = 0;

	if (posted - fake.taken > AERO_DISK_REQUESTS)
		return AERO_E_INVAL;
	for (; fake.taken != posted; n++) {
		u32 slot = fake.taken % AERO_DISK_REQUESTS;
		struct fake_request *q = request_free();
		int err = check_request(&fake.ring->request[slot]);

		if (!q)
			break; /* a liar posted more than the ring holds */
		fake.taken++;
		if (err) {
			fake.ring->request[slot].status = err;
			fake_post(AERO_EVENT_DISK(0));
			continue;
		}
		*q = (struct fake_request){true, slot,
					   fake.stuck ? NEVER
						      : fake.now_ns + fake.disk_latency_ns / 2 +
							    prng_below(&fake.prng, fake.disk_latency_ns + 1),
					   fake.ring->request[slot]};
	}
	return n;
}

static s64 call_setup(u64 disk, u64 gpa)
{
	if (disk || !fake.disk)
		return AERO_E_NOENT;
	if (fake.ring)
		return AERO_E_PERM;
	if (gpa % PAGE_SIZE || !in_memory(gpa, PAGE_SIZE))
		return AERO_E_FAULT;
	fake.ring = (struct aero_disk_ring *)(fake.memory + gpa);
	fake.pinned[gpa >> PAGE_SHIFT] = 1;
	memset(fake.ring, 0, PAGE_SIZE);
	return (s64)fake.disk_pages;
}

static s64 call_hello(u64 version, u64 features, u64 gpa)
{
	if (version != AERO_ABI_VERSION)
		return AERO_E_NOSYS;
	if (fake.info)
		return AERO_E_PERM;
	if (gpa % PAGE_SIZE || !in_memory(gpa, PAGE_SIZE))
		return AERO_E_FAULT;
	fake.info = (struct aero_info *)(fake.memory + gpa);
	memset(fake.info, 0, PAGE_SIZE);
	fake.pinned[gpa >> PAGE_SHIFT] = 1;
	fake.info->clock.mult = 1ul << 32;
	fake.info->clock.shift = 32;
	fake.info->clock.version = 2;
	fake.granted = (u32)features & fake.features;
	return fake.granted;
}

static s64 call_write(u64 gpa, u64 bytes)
{
	if (bytes > 1024)
		return AERO_E_2BIG;
	if (!in_memory(gpa, bytes))
		return AERO_E_FAULT;
	if (fake.text_used + bytes >= FAKE_TEXT_BYTES)
		fake.text_used = 0;
	memcpy(fake.text + fake.text_used, fake.memory + gpa, bytes);
	fake.text_used += bytes;
	return (s64)bytes;
}

static s64 call_read(u64 gpa, u64 bytes)
{
	s64 n = 0;

	if (bytes > 1024)
		return AERO_E_2BIG;
	if (gpa % PAGE_SIZE + bytes > PAGE_SIZE || !in_memory(gpa, bytes))
		return AERO_E_FAULT;
	while (fake.input && *fake.input && n < (s64)bytes)
		fake.memory[gpa + n++] = (u8)*fake.input++;
	return n;
}

static s64 call_upcall(u64 vector)
{
	if (vector < 32 || vector > 255)
		return AERO_E_INVAL;
	fake.vector = (u32)vector;
	return 0;
}

static s64 call_online(u64 gpa, u64 bytes)
{
	u64 pages = bytes >> PAGE_SHIFT;

	if (!(fake.features & AERO_FEATURE_MEMORY))
		return AERO_E_PERM;
	if ((gpa | bytes) % PAGE_SIZE || !bytes || gpa >> PAGE_SHIFT != fake.pages)
		return AERO_E_INVAL;
	if (fake.offered <= fake.pages || pages > fake.offered - fake.pages)
		return AERO_E_NOSPC;
	fake.pages += (u32)pages;
	fake.onlined++;
	return 0;
}

/* What the guest says has to be true, unless it is one that lies. */
static u32 take_hint(const struct aero_hint *h)
{
	u64 pfn = (h->page & BITS(51, 12)) >> PAGE_SHIFT, op = h->page & 15;
	u8 *at = fake.memory + (pfn << PAGE_SHIFT);

	if (h->page & BITS(63, 52) || pfn >= fake.pages || !op || op > AERO_HINT_CHANGED ||
	    (op == AERO_HINT_CLEAN ? h->block >= fake.disk_pages : h->block))
		return AERO_HINT_INVALID;
	fake.hints++;
	if (op == AERO_HINT_CLEAN && (fake.ballooned[pfn] || prng_below(&fake.prng, 4) == 0))
		return AERO_HINT_NOT_NOW;
	if (fake.ballooned[pfn])
		return AERO_HINT_OK;
	if (op == AERO_HINT_CHANGED)
		drop_copy((u32)pfn);
	fake.copy_of[pfn] = 0;
	if (op == AERO_HINT_CLEAN) {
		REQUIRE(fake.lies || memcmp(at, fake.disk + (h->block << PAGE_SHIFT), PAGE_SIZE) == 0);
		fake.copy_of[pfn] = (u32)h->block + 1;
		fake.copy_hash[pfn] = hash_of((u32)pfn);
	} else if (op == AERO_HINT_OVERWRITE && prng_below(&fake.prng, 2)) {
		memset(at, 0, PAGE_SIZE);
	}
	return AERO_HINT_OK;
}

static s64 call_hint(u64 gpa, u64 count)
{
	struct aero_hint *entry;
	s64 taken = 0;

	if (!(fake.granted & AERO_FEATURE_HINT))
		return AERO_E_PERM;
	if (count > AERO_HINT_BATCH_MAX)
		return AERO_E_2BIG;
	if (gpa & 7)
		return AERO_E_INVAL;
	if (gpa % PAGE_SIZE + count * sizeof(*entry) > PAGE_SIZE || !in_memory(gpa, count * sizeof(*entry)))
		return AERO_E_FAULT;
	entry = (struct aero_hint *)(fake.memory + gpa);
	for (u64 i = 0; i < count; i++) {
		u32 status = take_hint(&entry[i]);

		entry[i].page = (entry[i].page & ~BITS(11, 4)) | (u64)status << 4;
		taken += status == AERO_HINT_OK;
	}
	return taken;
}

static s64 call_poll(u64 *second)
{
	if (second)
		*second = fake.rate ? fake.rate : fake.pages;
	return fake.target;
}

s64 arch_hypercall(u64 number, u64 a0, u64 a1, u64 a2, u64 *second)
{
	fake.now_ns += fake.tsc_step_ns;
	for (u32 i = 0; i < 2; i++)
		drop_copy((u32)prng_below(&fake.prng, fake.pages));
	/* clang-format off */
	switch (number) {
	case AERO_CALL_NOP:		return 0;
	case AERO_CALL_HELLO:		return call_hello(a0, a1, a2);
	case AERO_CALL_CONSOLE_WRITE:	return call_write(a0, a1);
	case AERO_CALL_CONSOLE_READ:	return call_read(a0, a1);
	case AERO_CALL_UPCALL:		return call_upcall(a0);
	case AERO_CALL_TIMER:		fake.timer_ns = a0; return 0;
	case AERO_CALL_BALLOON_INFLATE: return call_balloon(a0, a1, true, second);
	case AERO_CALL_BALLOON_DEFLATE: return call_balloon(a0, a1, false, second);
	case AERO_CALL_BALLOON_POLL:	return call_poll(second);
	case AERO_CALL_DISK_SETUP:	return call_setup(a0, a1);
	case AERO_CALL_DISK_KICK:	return a0 || !fake.ring ? AERO_E_NOENT : call_kick();
	case AERO_CALL_MEMORY_ONLINE:	return call_online(a0, a1);
	case AERO_CALL_PAGE_HINT:	return call_hint(a0, a1);
	case AERO_CALL_VCPU_START:
	case AERO_CALL_VCPU_STOP:
	case AERO_CALL_VCPU_SEND:	return AERO_E_PERM; /* the feature is not offered */
	case AERO_CALL_SHUTDOWN:	fake.ended = true; fake.how = a0; leave();
	default:			return AERO_E_NOSYS;
	}
	/* clang-format on */
}
