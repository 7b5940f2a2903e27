/* The machine's side of drivers/acpi.c: reading physical memory, and a line for the log. */
#include "arch/x86/paging.h"
#include "drivers/acpi.h"
#include "lib/err.h"
#include "lib/log.h"

static const void *view(const struct acpi_reader *r, u64 pa, size_t len)
{
	(void)r;
	return paging_view(HPA(pa), len);
}

void acpi_init(u64 rsdp, struct machine *m)
{
	static const struct acpi_reader reader = {view};
	u32 bad = 0;
	int err = acpi_parse(&reader, rsdp, m, &bad);

	if (err) {
		log_info("acpi", "no usable tables (%s): one CPU, 8259, probed timers", err_name(err));
		return;
	}
	if (bad)
		log_warn("acpi", "%u broken tables left out", bad);
	log_info("acpi", "%u CPUs, %u IOAPICs, PM timer at 0x%x, power-off %s, reset register %s", m->cpu_count,
		 m->ioapic_count, m->pm_timer_port, m->s5_valid ? "yes" : "no", m->reset.bits ? "yes" : "no");
}
