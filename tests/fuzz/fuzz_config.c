/* Any file as configuration: bounded reports of one printable line, and only VMs that make sense. */
#include <string.h>

#include "lib/panic.h"
#include "vmm/config.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static u32 reports;

static void report(void *arg, const char *line)
{
	(void)arg;
	reports++;
	CHECK(!strncmp(line, "aerostat.ini:", 13));
	for (; *line; line++)
		CHECK(*line >= ' ' && *line <= '~');
}

static void check_vm(const struct vm_config *vm)
{
	CHECK(config_name_ok(vm->name));
	CHECK(vm->memory_bytes >= VM_MEMORY_MIN && vm->memory_bytes <= VM_MEMORY_MAX &&
	      vm->memory_bytes % PAGE_SIZE == 0);
	CHECK(vm->reservation_bytes <= VM_MEMORY_MAX && vm->limit_bytes <= VM_MEMORY_MAX);
	CHECK(vm->vcpus >= 1 && vm->vcpus <= VM_VCPUS_MAX && vm->balloon_max_percent <= 95);
	CHECK(memchr(vm->image, 0, sizeof(vm->image)) && memchr(vm->cmdline, 0, sizeof(vm->cmdline)));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct config config;

	reports = 0;
	config_parse((const char *)data, size, &config, report, NULL);
	CHECK(config.vm_count <= CONFIG_VMS_MAX);
	CHECK((config.errors == 0) == (reports == 0) && reports <= CONFIG_REPORTS_MAX + 1);
	for (u32 i = 0; i < config.vm_count; i++)
		check_vm(&config.vm[i]);
	return 0;
}
