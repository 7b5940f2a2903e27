/* See console.h. */
#include "guest/kernel/console.h"
#include "guest/abi/aerostat.h"
#include "guest/kernel/arch.h"
#include "guest/kernel/smp.h"
#include "lib/format.h"
#include "lib/string.h"

#define OUT_BYTES 1024 /* what one call takes */
#define IN_BYTES  256

static struct {
	char *out, *in;
	u64 out_gpa, in_gpa;
	u32 used;
	u32 in_at, in_count; /* typed but not looked at yet */
	u32 line_used;
	char line[CONSOLE_LINE_BYTES];
} console;

void console_init(void *buf, u64 gpa)
{
	console.out = buf;
	console.out_gpa = gpa;
	console.in = (char *)buf + OUT_BYTES;
	console.in_gpa = gpa + OUT_BYTES;
	console.used = console.in_at = console.in_count = console.line_used = 0;
}

static void flush(void)
{
	u32 done = 0;

	while (done < console.used) {
		s64 n = arch_hypercall(AERO_CALL_CONSOLE_WRITE, console.out_gpa + done, console.used - done, 0, NULL);

		if (n <= 0)
			break; /* nobody listens: the text is lost */
		done += (u32)MIN((u64)n, console.used - done);
	}
	console.used = 0;
}

void console_flush(void)
{
	kernel_lock();
	flush();
	kernel_unlock();
}

static void print_args(const char *fmt, va_list ap)
{
	va_list again;
	int len;

	va_copy(again, ap);
	len = format_vbuf(console.out + console.used, OUT_BYTES - console.used, fmt, ap);
	if (console.used && console.used + len >= OUT_BYTES) {
		flush();
		len = format_vbuf(console.out, OUT_BYTES, fmt, again);
	}
	va_end(again);
	console.used = MIN(console.used + len, OUT_BYTES - 1);
	if (console.used && console.out[console.used - 1] == '\n')
		flush();
}

void print(const char *fmt, ...)
{
	va_list ap;

	if (!console.out)
		return;
	kernel_lock();
	va_start(ap, fmt);
	print_args(fmt, ap);
	va_end(ap);
	kernel_unlock();
}

static int next_byte(void)
{
	if (console.in_at == console.in_count) {
		s64 n = arch_hypercall(AERO_CALL_CONSOLE_READ, console.in_gpa, IN_BYTES, 0, NULL);

		console.in_at = 0;
		console.in_count = n > 0 ? (u32)MIN(n, IN_BYTES) : 0;
	}
	return console.in_at < console.in_count ? (u8)console.in[console.in_at++] : -1;
}

/* One typed byte. True: the line is complete. */
static bool edit(int c)
{
	if (c == '\r' || c == '\n') {
		print("\n");
		console.line[console.line_used] = '\0';
		console.line_used = 0;
		return true;
	}
	if (c == '\b' || c == 0x7f) {
		if (console.line_used) {
			console.line_used--;
			print("\b \b");
		}
	} else if (c >= ' ' && c < 0x7f && console.line_used < sizeof(console.line) - 1) {
		console.line[console.line_used++] = (char)c;
		print("%c", c);
	}
	return false;
}

char *console_poll(void)
{
	int c;

	while ((c = next_byte()) >= 0) {
		if (edit(c))
			return console.line;
	}
	console_flush();
	return NULL;
}
