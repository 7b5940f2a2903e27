/*
 * Messages: to the firmware's console, and straight to the 16550 at COM1 unless the firmware's
 * console includes that port already.
 */
#include <stdarg.h>

#include "arch/x86/asm.h"
#include "boot/efi/loader.h"
#include "lib/format.h"
#include "lib/string.h"

#define COM1         0x3f8
#define UART_IER     1
#define UART_FCR     2
#define UART_LCR     3
#define UART_MCR     4
#define UART_LSR     5
#define LSR_THRE     0x20
#define LCR_8N1      0x03
#define LCR_DLAB     0x80
#define WAIT_SECONDS 10

static bool com1_is_console;

/* Is the first 16550 (ACPI PNP0501, UID 0) one of the devices that the ConOut variable lists? */
static bool console_has_com1(void)
{
	static u8 paths[4096];
	EFI_GUID guid = EFI_GLOBAL_VARIABLE;
	UINTN bytes = sizeof(paths), at = 0;

	if (EFI_ERROR(st->RuntimeServices->GetVariable(L"ConOut", &guid, NULL, &bytes, paths)))
		return false;
	while (at + sizeof(EFI_DEVICE_PATH) <= bytes) {
		EFI_DEVICE_PATH *p = (EFI_DEVICE_PATH *)(paths + at);
		ACPI_HID_DEVICE_PATH *acpi = (ACPI_HID_DEVICE_PATH *)p;
		UINTN n = DevicePathNodeLength(p);

		if (n < sizeof(*p) || n > bytes - at)
			return false;
		if (DevicePathType(p) == ACPI_DEVICE_PATH && DevicePathSubType(p) == ACPI_DP && n >= sizeof(*acpi) &&
		    acpi->HID == EISA_PNP_ID(0x0501) && acpi->UID == 0)
			return true;
		at += n;
	}
	return false;
}

void say_init(void)
{
	com1_is_console = console_has_com1();
	if (!com1_is_console)
		say_directly();
}

void say_directly(void)
{
	com1_is_console = false;
	outb(COM1 + UART_LCR, LCR_DLAB);
	outb(COM1 + 0, 1); /* 115200 */
	outb(COM1 + 1, 0);
	outb(COM1 + UART_LCR, LCR_8N1);
	outb(COM1 + UART_IER, 0);
	outb(COM1 + UART_FCR, 0x07);
	outb(COM1 + UART_MCR, 0x03);
}

static void serial_put(char c)
{
	if (com1_is_console)
		return;
	for (u32 i = 0; i < 100000 && !(inb(COM1 + UART_LSR) & LSR_THRE); i++)
		;
	outb(COM1, c);
}

static void screen_put(char c)
{
	CHAR16 s[2] = {(u8)c, 0};

	if (st->ConOut)
		st->ConOut->OutputString(st->ConOut, s);
}

static void put_char(char c)
{
	serial_put(c);
	screen_put(c);
}

static void put_text(const char *s)
{
	for (; *s; s++) {
		if (*s == '\n')
			put_char('\r');
		put_char(*s);
	}
}

static void say_va(const char *fmt, va_list ap)
{
	char text[512];

	format_vbuf(text, sizeof(text), fmt, ap);
	put_text(text);
}

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_va(fmt, ap);
	va_end(ap);
}

static void wait_key(void)
{
	EFI_EVENT events[2];
	UINTN index;

	if (EFI_ERROR(bs->CreateEvent(EVT_TIMER, TPL_CALLBACK, NULL, NULL, &events[0])))
		return;
	bs->SetTimer(events[0], TimerRelative, WAIT_SECONDS * 10000000UL);
	events[1] = st->ConIn ? st->ConIn->WaitForKey : NULL;
	bs->WaitForEvent(events[1] ? 2 : 1, events, &index);
	bs->CloseEvent(events[0]);
}

void say_error(const char *fmt, ...)
{
	va_list ap;

	put_text("Aerostat: error: ");
	va_start(ap, fmt);
	say_va(fmt, ap);
	va_end(ap);
	put_text("\nAerostat: not started; back to the firmware after a key or 10 s\n");
	wait_key();
}

const char *status_name(EFI_STATUS s)
{
	switch (s) {
	case EFI_SUCCESS:
		return "success";
	case EFI_NOT_FOUND:
		return "not found";
	case EFI_OUT_OF_RESOURCES:
		return "out of memory";
	case EFI_DEVICE_ERROR:
		return "device error";
	case EFI_VOLUME_CORRUPTED:
		return "volume corrupted";
	case EFI_NO_MEDIA:
	case EFI_MEDIA_CHANGED:
		return "medium gone";
	case EFI_ACCESS_DENIED:
		return "access denied";
	case EFI_INVALID_PARAMETER:
		return "invalid parameter";
	default:
		return "firmware error";
	}
}
