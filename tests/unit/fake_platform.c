/* See fake_platform.h. */
#include "tests/unit/fake_platform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

u64 fake_now_ns;
u32 fake_cpu_index;
u32 fake_kicks[FAKE_CPUS];
char fake_log[16384];
bool fake_log_echo;
void (*fake_relax)(void);
jmp_buf fake_panic_jmp;
bool fake_panic_expected;
char fake_panic_text[256];

static struct lib_cpu cpus[FAKE_CPUS];
static size_t log_len;

__attribute__((constructor)) static void start(void)
{
	fake_log_echo = getenv("FAKE_LOG") != NULL;
	fake_platform_reset();
}

void fake_platform_reset(void)
{
	for (u32 i = 0; i < FAKE_CPUS; i++)
		lib_cpu_init(&cpus[i], i);
	memset(fake_kicks, 0, sizeof(fake_kicks));
	fake_cpu_index = 0;
	fake_relax = NULL;
	fake_now_ns = NSEC_PER_SEC;
	log_len = 0;
	fake_log[0] = '\0';
}

struct lib_cpu *platform_this_cpu(void)
{
	return &cpus[fake_cpu_index];
}

struct lib_cpu *platform_cpu(u32 id)
{
	return &cpus[id];
}

u32 platform_cpu_count(void)
{
	return FAKE_CPUS;
}

void platform_kick(u32 id)
{
	fake_kicks[id]++;
}

u64 platform_now_ns(void)
{
	return fake_now_ns;
}

void platform_relax(void)
{
	if (fake_relax)
		fake_relax();
}

void platform_log_write(const char *text, size_t len)
{
	if (fake_log_echo)
		fwrite(text, 1, len, stderr);
	if (len >= sizeof(fake_log) / 2)
		return;
	if (log_len + len >= sizeof(fake_log)) {
		size_t keep = sizeof(fake_log) / 2;

		memmove(fake_log, fake_log + log_len - keep, keep);
		log_len = keep;
	}
	memcpy(fake_log + log_len, text, len);
	log_len += len;
	fake_log[log_len] = '\0';
}

bool fake_log_has(const char *text)
{
	return strstr(fake_log, text) != NULL;
}

void fake_panic_over(void)
{
	fake_panic_expected = false;
}

_Noreturn void platform_panic(const char *file, int line, const char *msg)
{
	snprintf(fake_panic_text, sizeof(fake_panic_text), "%s", msg);
	if (fake_panic_expected) {
		fake_panic_expected = false;
		cpus[fake_cpu_index].locks_held = 0;
		longjmp(fake_panic_jmp, 1);
	}
	fprintf(stderr, "PANIC at %s:%d: %s\n%s", file, line, msg, fake_log);
	abort();
}
