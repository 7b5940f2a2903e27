/*
 * From the loader's hand-off to the CPU loop: the ordered list of what starts. Everything
 * here runs once, on the boot CPU, with interrupts off.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/machine.h"
#include "arch/x86/mitigate.h"
#include "arch/x86/paging.h"
#include "arch/x86/platform.h"
#include "boot/boot_info.h"
#include "boot/memory.h"
#include "boot/options.h"
#include "boot/selftest.h"
#include "boot/version.h"
#include "drivers/acpi.h"
#include "drivers/drivers.h"
#include "drivers/ramdisk.h"
#include "drivers/screen.h"
#include "drivers/uart.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "vmm/config.h"
#include "vmm/vmm.h"

void hv_main(struct boot_info *handoff);

static struct boot_info info; /* our copy: the loader's goes back to the allocator */
static const struct platform_console uart_console = {uart_write, uart_write_sync};

static void print_memory_state(void)
{
	static const char *const names[FRAME_STATES] = {
	    [FRAME_NONE] = "none",           [FRAME_FREE] = "free",     [FRAME_STOCK] = "stock",
	    [FRAME_FREE_TAIL] = "free-tail", [FRAME_HV] = "hypervisor", [FRAME_TABLE] = "table",
	    [FRAME_GUEST] = "guest",         [FRAME_SHARED] = "shared", [FRAME_ZERO] = "zero",
	};

	panic_print("  frames: free %u", frame_free_count());
	for (u32 s = FRAME_HV; s < FRAME_STATES; s++)
		panic_print(" %s %u", names[s], frame_state_count(s));
	panic_print("\n  reclaim: %s\n", reclaim_state_name(reclaim_state_now()));
}

static void check_handoff(const struct boot_info *bi)
{
	if (bi->magic != BOOT_INFO_MAGIC || bi->version != BOOT_INFO_VERSION || bi->bytes != sizeof(*bi))
		panic("hand-off of another version: magic %lx version %u bytes %u", bi->magic, bi->version, bi->bytes);
}

static void option_panic(const char *value)
{
	if (str_eq(value, "reboot"))
		panic_set_reboot(true);
	else if (!str_eq(value, "halt"))
		log_warn("boot", "option panic: expected reboot or halt, got '%s'", value);
}

static void option_log(const char *value)
{
	u32 level;

	if (config_parse_level(value, &level))
		log_warn("boot", "option log: expected error, warning, info or debug, got '%s'", value);
	else
		log_set_level(level);
}

static void option_swap(const char *value)
{
	if (str_eq(value, "off"))
		swap_keep_off("boot option");
	else if (!str_eq(value, "on"))
		log_warn("boot", "option swap: expected on or off, got '%s'", value);
}

static void option_ramdisk(const char *value)
{
	struct ramdisk_config c;

	if (ramdisk_parse(value, &c))
		log_warn("boot", "option ramdisk: expected SWAP,DATA[,LATENCY[,PAGE]] (MiB up to %u, us), got '%s'",
			 RAMDISK_MIB_MAX, value);
	else
		ramdisk_configure(&c);
}

static enum mitigate_mode mitigate_mode;

static void option_mitigations(const char *value)
{
	if (!mitigate_parse_mode(value, &mitigate_mode))
		log_warn("boot", "option mitigations: expected auto, off or full, got '%s'", value);
}

/* A word that is mistyped does nothing: that has to be told. BOOT_IMAGE is from boot loaders: the file's name. */
static void tell_unknown(const char *cmdline)
{
	static const char *const known[] = {"cpus",     "log",    "mitigations", "panic",     "ramdisk",
					    "selftest", "serial", "swap",        "BOOT_IMAGE"};
	char key[40];
	u32 i;

	while (options_next(&cmdline, key, sizeof(key))) {
		for (i = 0; i < ARRAY_SIZE(known) && !str_eq(key, known[i]);)
			i++;
		if (i == ARRAY_SIZE(known))
			log_warn(
			    "boot",
			    "option '%s': expected cpus, log, mitigations, panic, ramdisk, selftest, serial or swap",
			    key);
	}
}

static void apply_options(const char *cmdline)
{
	static const struct {
		const char *key;
		void (*fn)(const char *value);
	} option[] = {{"panic", option_panic},
		      {"log", option_log},
		      {"swap", option_swap},
		      {"ramdisk", option_ramdisk},
		      {"mitigations", option_mitigations}};
	char value[40];

	for (u32 i = 0; i < ARRAY_SIZE(option); i++)
		if (options_get(cmdline, option[i].key, value, sizeof(value)))
			option[i].fn(value);
	tell_unknown(cmdline);
}

/* A second view of the console where the firmware left a picture. */
static void start_screen(void)
{
	const struct boot_framebuffer *fb = &info.fb;
	u64 bytes = (u64)fb->pitch_bytes * fb->height;
	int err;

	if (!fb->base)
		return;
	err = memory_has_ram(&info, fb->base, bytes)
		  ? E_INVAL
		  : screen_init(HPA(fb->base), fb->width, fb->height, fb->pitch_bytes);
	if (err)
		log_warn("screen", "frame buffer at 0x%lx, %ux%u, is not used: %s", fb->base, fb->width, fb->height,
			 err_name(err));
	else
		uart_set_mirror(screen_write, screen_write_sync);
}

/* Boot option cpus=N: at most so many. */
static u32 cpus_wanted(const char *cmdline)
{
	char value[16];
	u64 n = 0;

	if (!options_get(cmdline, "cpus", value, sizeof(value)))
		return CPUS_MAX;
	if (parse_u64(value, ~0UL, &n) || n == 0) {
		log_warn("boot", "option cpus: expected a number from 1, got '%s'", value);
		return CPUS_MAX;
	}
	return (u32)MIN(n, CPUS_MAX);
}

static void print_banner(void)
{
	char cpu[64], in_force[MITIGATE_TEXT], exposed[MITIGATE_TEXT];

	cpu_describe(cpu, sizeof(cpu));
	mitigate_describe(&mitigations, in_force, sizeof(in_force));
	mitigate_describe_exposed(&mitigations, exposed, sizeof(exposed));
	log_info("boot", "Aerostat " AEROSTAT_VERSION);
	log_info("boot", "CPU: %s, TSC %lu kHz", cpu, cpu_tsc_khz());
	log_info("boot", "memory: %lu MiB RAM, %lu MiB free", memory_ram_bytes() / MIB,
		 (u64)frame_free_count() * PAGE_SIZE / MIB);
	log_info("boot", "mitigations (%s): %s; exposed: %s", mitigate_mode_name(mitigations.mode), in_force, exposed);
	if (info.cmdline[0])
		log_info("boot", "options: %s", info.cmdline);
}

/* The option wins over the firmware's table, and that over COM1. */
static void place_serial(void)
{
	struct machine_serial to = machine.serial;
	char value[24];
	int err;

	if (options_get(info.cmdline, "serial", value, sizeof(value)) && options_serial(value, &to))
		log_warn("boot",
			 "option serial: expected com1 to com4 or a port, and perhaps a baud rate "
			 "(0x2f8,9600), got '%s'",
			 value);
	if (!to.addr)
		return;
	err = uart_move(&to);
	if (err)
		log_warn("uart", "the console stays where it is: %s 0x%lx: %s", to.memory ? "memory" : "port", to.addr,
			 err_name(err));
	else
		log_info("uart", "console at %s 0x%lx", to.memory ? "memory" : "port", to.addr);
}

static void init_machine(void)
{
	machine_init(&machine);
	acpi_init(info.rsdp, &machine);
	place_serial();
	if (!machine.pm_timer_port)
		machine_probe_piix4(&machine);
	time_init();
	irq_init();
	timer_hw_init();
	uart_init_irq();
}

/* On the boot CPU's guarded stack, in our own address space. */
static void start(void *arg)
{
	(void)arg;
	start_screen();
	init_machine();
	screen_start();
	memory_free_loader(&info);
	print_banner();
	drivers_init();
	selftest_run(info.cmdline);
	vmm_start(&info, cpus_wanted(info.cmdline));
}

void hv_main(struct boot_info *handoff)
{
	time_mark_entry();
	cpu_init_boot();
	uart_init();
	platform_set_console(&uart_console);
	check_handoff(handoff);
	info = *handoff;
	apply_options(info.cmdline);
	cpu_init_features();
	mitigate_init(mitigate_mode);
	memory_init(&info);
	panic_add_section("memory", print_memory_state);
	cpu_continue_on_stack(this_cpu()->stack_top, start, NULL);
}
