/* lib/platform.h and the address part of mm/platform.h on the machine. */
#include "lib/platform.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hv.h"
#include "arch/x86/platform.h"
#include "mm/platform.h"

static const struct platform_console *console;

void platform_set_console(const struct platform_console *c)
{
	console = c;
}

const struct platform_console *platform_get_console(void)
{
	return console;
}

struct lib_cpu *platform_this_cpu(void)
{
	return &this_cpu()->lib;
}

struct lib_cpu *platform_cpu(u32 id)
{
	return &cpu_at(id)->lib;
}

u32 platform_cpu_count(void)
{
	return cpu_count();
}

void platform_kick(u32 id)
{
	cpu_kick(id);
}

u64 platform_now_ns(void)
{
	return cpu_now_ns();
}

void platform_relax(void)
{
	__asm__ volatile("pause");
}

void platform_log_write(const char *text, size_t len)
{
	if (console)
		console->write(text, len);
}

void *mm_hfn_to_va(hfn_t hfn)
{
	return hpa_to_va(hfn_to_hpa(hfn));
}

hfn_t mm_va_to_hfn(const void *va)
{
	return hpa_to_hfn(va_to_hpa(va));
}

void mm_vectors_begin(void)
{
	hv_fpu_save_guest();
}
