/*
 * The ground below lib on the host: CPUs, a clock that only tests move, a log that is kept, panics that can
 * be expected. Links without cmocka, so that fuzzers use it as well.
 */
#ifndef TESTS_FAKE_PLATFORM_H
#define TESTS_FAKE_PLATFORM_H

#include <setjmp.h>

#include "lib/platform.h"
#include "lib/types.h"

#define FAKE_CPUS 4

extern u64 fake_now_ns;           /* platform_now_ns() */
extern u32 fake_cpu_index;        /* which CPU platform_this_cpu() is */
extern u32 fake_kicks[FAKE_CPUS]; /* platform_kick() to each */
extern char fake_log[16384];     /* console output since the last fake_platform_reset(), cut at the front; terminated */
extern bool fake_log_echo;       /* also to stderr */
extern void (*fake_relax)(void); /* platform_relax(): lets time pass and devices work in spin loops; or NULL */

/* CPUs as new, clock at 1 s, log empty. Called by itself before first use. */
void fake_platform_reset(void);
bool fake_log_has(const char *text);

/* True if the statement panicked. Locks held by then are forgotten. */
extern jmp_buf fake_panic_jmp;
extern bool fake_panic_expected;
extern char fake_panic_text[256];
void fake_panic_over(void);
#define fake_panics(statement)                 \
	({                                     \
		volatile bool fake_hit = true; \
		fake_panic_expected = true;    \
		if (!setjmp(fake_panic_jmp)) { \
			statement;             \
			fake_hit = false;      \
		}                              \
		fake_panic_over();             \
		fake_hit;                      \
	})

#endif
