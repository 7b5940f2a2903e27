/* Any bytes on a screen of any size: the cursor stays on it and every cell holds a character. */
#include "drivers/textscreen.h"
#include "lib/panic.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct textscreen s;

	if (size < 2 || size > 4096)
		return 0;
	textscreen_init(&s, data[0], data[1]);
	for (size_t i = 2; i < size; i++) {
		textscreen_write(&s, (const char *)data + i, 1);
		CHECK(s.x <= s.cols && s.y < s.rows && s.first < s.rows);
	}
	for (u32 y = 0; y < s.rows; y++)
		for (u32 x = 0; x < s.cols; x++) {
			u16 c = textscreen_row(&s, y)[x];

			CHECK((c & 0xff) >= ' ' && !(c & ~(0xff | TEXTSCREEN_INVERSE)));
		}
	return 0;
}
