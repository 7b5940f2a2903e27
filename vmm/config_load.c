/* The configuration on the machine: from the boot volume's file to VMs. Runs once, on the boot CPU, before any guest.
 */
#include "boot/options.h"
#include "lib/log.h"
#include "vmm/config.h"
#include "vmm/modules.h"

static void report(void *arg, const char *line)
{
	(void)arg;
	log_warn("config", "%s", line);
}

const struct config *config_load(const char *cmdline)
{
	static struct config config;
	const struct module *m = module_config();
	char value[16];

	if (!m) {
		log_warn("config", "no " CONFIG_NAME " on the boot volume: no VMs");
		return &config;
	}
	config_parse(m->data, m->bytes, &config, report, NULL);
	if (options_get(cmdline, "log", value, sizeof(value)))
		config.host.log_level = log_get_level() + 1;
	log_info("config", CONFIG_NAME ": %u VMs, %u errors", config.vm_count, config.errors);
	return &config;
}

static void start_one(const struct vm_config *c)
{
	char why[200];
	struct vm *vm;

	if (vm_create(c, &vm, why, sizeof(why)))
		log_warn("config", "[vm %s]: not created: %s", c->name, why);
	else if (c->autostart && vm_start(vm, why, sizeof(why)))
		log_warn("config", "[vm %s]: not started: %s", c->name, why);
}

void config_start_vms(const struct config *c)
{
	for (u32 i = 0; i < c->vm_count; i++)
		start_one(&c->vm[i]);
}
