/* The order in which the VMM starts. */
#include "vmm/vmm.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hv.h"
#include "drivers/uart.h"
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
		log_info("hv", "%s: %u address-space identifiers, nested paging %s", hv->name, hv_caps.asids, hv_caps.npt->name);
		return;
	}
	log_error("hv", "this machine cannot run guests: %s", why);
	log_error("hv", "halted");
	uart_flush(5000);
	cpu_halt();
}

_Noreturn void vmm_start(const struct boot_info *bi)
{
	const struct config *c;

	modules_init(bi);
	find_virtualisation();
	c = config_load(bi->cmdline);
	vm_init();
	memory_start(c);
	sched_init_cpu();
	console_init();
	config_start_vms(c);
	monitor_sync();
	sched_loop();
}
