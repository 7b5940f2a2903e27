/* The order in which the VMM starts. */
#include "vmm/vmm.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hv.h"
#include "arch/x86/smp.h"
#include "drivers/uart.h"
#include "lib/panic.h"
#include "lib/log.h"
#include "vmm/config.h"
#include "vmm/console.h"
#include "vmm/memory.h"
#include "vmm/modules.h"
#include "vmm/monitor.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

static void find_virtualisation(void)
{
	char why[128];

	if (hv_init(why, sizeof(why)) == 0) {
		log_info("hv", "%s: %u address-space identifiers, nested paging %s", hv->name, hv_caps.asids,
			 hv_caps.npt->name);
		return;
	}
	log_error("hv", "this machine cannot run guests: %s", why);
	log_error("hv", "halted");
	uart_flush(5000);
	cpu_halt();
}

/* On each further CPU. */
static int prepare_cpu(char *why, size_t size)
{
	int err = hv->cpu_on(why, size);

	return err ? err : sched_init_cpu();
}

static void start_cpus(const struct boot_info *bi, u32 limit)
{
	static struct smp_start s = {.prepare = prepare_cpu, .run = sched_loop};

	s.limit = limit;
	s.low_page = HPA(bi->low_page);
	smp_start(&s);
}

_Noreturn void vmm_start(const struct boot_info *bi, u32 cpus)
{
	const struct config *c;

	modules_init(bi);
	find_virtualisation();
	c = config_load(bi->cmdline);
	vm_init();
	memory_start(c);
	CHECK(sched_init_cpu() == 0);
	start_cpus(bi, cpus);
	console_init();
	config_start_vms(c);
	monitor_sync();
	console_run_commands(c->command, c->command_count);
	sched_loop();
}
