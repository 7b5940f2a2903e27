/*
 * A whole guest, from docs/GUEST-ABI.md and the header alone: it greets, stamps every page it has, reads the stamps
 * back for ever, and gives pages to the balloon as it is asked to. It uses the first 4 GiB, which are mapped; entry.asm
 * has what C cannot say.
 */
#include "guest/abi/aerostat.h"

#define PAGE   4096ul
#define VECTOR 0x40       /* of the upcall */
#define TICK   10000000ul /* ns */
#define CHECKS 64         /* pages read back, or stamped anew, in a tick */

extern char upcall[], hypercall_page[];
static struct aero_info info __attribute__((aligned(4096)));
static uint64_t batch[AERO_BALLOON_BATCH_MAX] __attribute__((aligned(4096)));
static uint64_t idt[2 * (VECTOR + 1)], seed, first, end, held;
static uint8_t *stamp; /* of each page: 0: it is in the balloon, else which one it has */

static int64_t call(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	__asm__ volatile("call hypercall_page" : "+a"(number), "+d"(c) : "D"(a), "S"(b) : "memory", "cc");
	return (int64_t)number;
}

static uint64_t clock_ns(void)
{
	volatile struct aero_info *i = &info;
	uint32_t version;
	uint64_t ns;

	do {
		version = i->clock.version;
		ns = i->clock.base_ns +
		     (uint64_t)((unsigned __int128)(__builtin_ia32_rdtsc() - i->clock.base_tsc) * i->clock.mult >>
				i->clock.shift);
	} while (version % 2 || version != i->clock.version);
	return ns;
}

/* Writes the next stamp to the page, and compares: no two pages, stamps and starts of the VM have the same. */
static void visit(uint64_t page, int write)
{
	volatile uint64_t *at = (volatile uint64_t *)(page * PAGE);
	int wrong = 0;

	if (write)
		stamp[page] = stamp[page] % 255 + 1;
	for (uint64_t i = 0; i < PAGE / 8; i++) {
		uint64_t word = ((page << 20 | i << 8 | stamp[page]) + seed) * 0x9e3779b97f4a7c15ul;

		if (write)
			at[i] = word;
		wrong |= at[i] != word;
	}
	info.app.pages_checked++;
	info.app.errors += wrong;
}

/* A batch toward the target. What the host has taken is forgotten; what comes back is stamped anew. */
static void follow_balloon(void)
{
	uint64_t target = __atomic_load_n(&info.balloon.target, __ATOMIC_RELAXED), n = 0;
	int more = held < target;
	uint64_t most = more ? target - held : held - target;

	for (uint64_t page = end; page-- > first && n < most && n < AERO_BALLOON_BATCH_MAX;)
		if ((stamp[page] != 0) == more)
			batch[n++] = page * PAGE;
	if (n)
		call(more ? AERO_CALL_BALLOON_INFLATE : AERO_CALL_BALLOON_DEFLATE, (uint64_t)batch, n, 0);
	while (n--) {
		uint64_t page = batch[n] / PAGE, status = AERO_BALLOON_STATUS(batch[n]);

		if (status != AERO_BALLOON_OK && status != AERO_BALLOON_ALREADY)
			continue; /* as it was; the next tick tries again */
		held += more ? 1 : -1ul;
		stamp[page] = 0;
		if (!more)
			visit(page, 1);
	}
	info.balloon_report.achieved = held;
}

/* What there is to do, then a sleep until the next tick or event. */
static void tick(void)
{
	static uint64_t random;

	if (__atomic_exchange_n(&info.events, 0, __ATOMIC_SEQ_CST) & AERO_EVENT_SHUTDOWN)
		call(AERO_CALL_SHUTDOWN, AERO_SHUTDOWN_OFF, 0, 0);
	follow_balloon();
	for (int i = 0; i < CHECKS; i++) {
		random = random * 6364136223846793005ul + 1442695040888963407ul;
		uint64_t page = first + (random >> 32) % (end - first);

		if (stamp[page])
			visit(page, i % 4 == 0);
	}
	call(AERO_CALL_TIMER, clock_ns() + TICK, 0, 0);
	__asm__ volatile("cli" ::: "memory");
	if (!__atomic_load_n(&info.events, __ATOMIC_SEQ_CST))
		__asm__ volatile("sti; hlt" ::: "memory"); /* no interrupt comes between these two */
	__asm__ volatile("sti" ::: "memory");
}

/* The hypercall page, the information page, and an interrupt that ends a sleep. */
static void greet(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idtr = {sizeof(idt) - 1, (uint64_t)idt};
	uint64_t gate = (uint64_t)upcall, page = (uint64_t)hypercall_page | 1;
	uint32_t eax = AERO_CPUID_FEATURES, ebx, msr = 0, edx;

	__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(msr), "=d"(edx));
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)page), "d"((uint32_t)(page >> 32)) : "memory");
	if (call(AERO_CALL_HELLO, AERO_ABI_VERSION, AERO_FEATURE_BALLOON, (uint64_t)&info) != AERO_FEATURE_BALLOON)
		call(AERO_CALL_SHUTDOWN, AERO_SHUTDOWN_CRASH, 0, 0);
	idt[2 * VECTOR] = (gate & 0xffff) | 0x08 << 16 | 0x8eul << 40 | (gate >> 16 & 0xffff) << 48; /* below 4 GiB */
	__asm__ volatile("lidt %0" ::"m"(idtr));
	call(AERO_CALL_UPCALL, VECTOR, 0, 0);
	call(AERO_CALL_CONSOLE_WRITE, (uint64_t) "example: here\n", 14, 0);
}

void example(const struct aero_start *start);
void example(const struct aero_start *start)
{
	if (start->magic != AERO_START_MAGIC || start->abi_version != AERO_ABI_VERSION)
		return; /* to UD2, and there is no IDT: the VM ends */
	greet();
	seed = *(const uint64_t *)start->random;
	end = (start->memory_bytes < 1ul << 32 ? start->memory_bytes : 1ul << 32) / PAGE;
	stamp = (uint8_t *)start->image_end; /* a byte a page, behind the image: it reads as zero */
	first = (start->image_end + end + PAGE - 1) / PAGE;
	for (uint64_t page = first; page < end; page++)
		visit(page, 1);
	for (int i = 0; i < 7; i++)
		info.app.name[i] = "example"[i];
	info.app.state = 1;
	for (;;)
		tick();
}
