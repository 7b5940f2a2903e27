/*
 * Messages: to the firmware's console, and straight to the 16550 at COM1 unless the firmware's
 * console includes that port already.
 */
#include <stdarg.h>

#include "boot/efi/loader.h"

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
	com1_init();
}

static void screen_put(char c)
{
	CHAR16 s[2] = {(u8)c, 0};

	if (st->ConOut)
		st->ConOut->OutputString(st->ConOut, s);
}

void say_char(char c)
{
	if (!com1_is_console)
		com1_put(c);
	screen_put(c);
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

	va_start(ap, fmt);
	say_problem(fmt, ap, "back to the firmware after a key or 10 s");
	va_end(ap);
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
