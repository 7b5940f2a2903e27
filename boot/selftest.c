/* Intentional faults: see selftest.h. */
#include "boot/selftest.h"
#include "arch/x86/asm.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hv.h"
#include "boot/options.h"
#include "drivers/drivers.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/string.h"

extern u8 image_text_start[];
extern const u8 image_rodata_start[];
static struct lock inner = LOCK_INIT("inner", LOCK_RANK_VM);
static struct lock outer = LOCK_INIT("outer", LOCK_RANK_VM_LIST);

static void fault_page(void)
{
	*(volatile u64 *)(DIRECT_MAP_BASE + (1UL << 45)) = 1;
}

static void fault_text(void)
{
	*(volatile u8 *)image_text_start = 0;
}

/* The frame of the first text page, found through the page tables' own direct map: the other way to the same bytes. */
static void fault_text_alias(void)
{
	u64 *table = hpa_to_va(HPA(read_cr3() & BITS(51, 12)));
	u64 va = (u64)image_text_start, entry = 0;

	for (u32 shift = 39; shift >= PAGE_SHIFT; shift -= 9) {
		entry = table[va >> shift & 511];
		if (shift == PAGE_SHIFT || (entry & BIT(7)))
			break;
		table = hpa_to_va(HPA(entry & BITS(51, 12)));
	}
	*(volatile u8 *)hpa_to_va(HPA(entry & BITS(51, 12))) = 0;
}

static void fault_execute_data(void)
{
	static u8 code[] = {0xc3};

	((void (*)(void))code)();
}

static void fault_double(void)
{
	/* RSP outside the canonical addresses: the push faults, and so does the delivery of that fault. */
	__asm__ volatile("mov %0, %%rsp\n\tpush %%rax" : : "r"(1UL << 62) : "memory");
}

static u64 recurse(volatile u64 *depth)
{
	volatile u64 filler[64];

	filler[0] = ++*depth;
	return *depth ? recurse(depth) + filler[0] : 0;
}

static void fault_stack(void)
{
	volatile u64 depth = 0;

	recurse(&depth);
}

static void fault_invalid_opcode(void)
{
	__asm__ volatile("ud2");
}

static void fault_check(void)
{
	CHECK(this_cpu() == NULL);
}

static void fault_lock_order(void)
{
	lock_acquire(&inner);
	lock_acquire(&outer);
}

/* Not a fault: the vendor back end, entered with small guests. Leaves the machine as it was. */
static void run_hv(void)
{
	char why[128];

	if (hv_init(why, sizeof(why))) {
		log_warn("selftest", "%s", why);
		return;
	}
	hv_selftest();
	hv->cpu_off();
}

static const struct {
	const char *name;
	void (*fn)(void);
} tests[] = {
    {"pf", fault_page},           {"text", fault_text},   {"alias", fault_text_alias},
    {"exec", fault_execute_data}, {"df", fault_double},   {"stack", fault_stack},
    {"ud", fault_invalid_opcode}, {"check", fault_check}, {"lock", fault_lock_order},
};

void selftest_run(const char *cmdline)
{
	char name[16];

	if (!options_get(cmdline, "selftest", name, sizeof(name)))
		return;
	if (str_eq(name, "hv")) {
		run_hv();
		return;
	}
	if (str_eq(name, "blk")) {
		if (drivers_selftest())
			log_error("selftest", "block devices failed");
		return;
	}
	for (u32 i = 0; i < ARRAY_SIZE(tests); i++) {
		if (!str_eq(tests[i].name, name))
			continue;
		log_warn("selftest", "intentional fault '%s'", name);
		tests[i].fn();
		log_error("selftest", "'%s' did not fault", name);
		return;
	}
	log_warn("selftest", "no self-test '%s'", name);
}
