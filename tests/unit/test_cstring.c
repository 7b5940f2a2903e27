/* The freestanding build's memcpy and friends, under other names, against the C library's. */
/* cmocka.h wants these first, in this order */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#define memcpy  our_memcpy
#define memmove our_memmove
#define memset  our_memset
#define memcmp  our_memcmp
#define memchr  our_memchr
#define strlen  our_strlen
#define strnlen our_strnlen
#define strcmp  our_strcmp
#define strncmp our_strncmp
#define strchr  our_strchr
#define strrchr our_strrchr
#include "lib/cstring.c"
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef memchr
#undef strlen
#undef strnlen
#undef strcmp
#undef strncmp
#undef strchr
#undef strrchr
#include <string.h>

#define BYTES 96U

static u8 a[BYTES], b[BYTES], want[BYTES];

static void fill(void)
{
	for (u32 i = 0; i < BYTES; i++)
		a[i] = b[i] = want[i] = (u8)(i * 7 + 1);
}

static void test_copy_and_set(void **state)
{
	(void)state;
	for (u32 at = 0; at < 16; at++) {
		for (u32 n = 0; n < 40; n++) {
			fill();
			assert_ptr_equal(our_memcpy(a + at, b + 50, n), a + at);
			memcpy(want + at, b + 50, n);
			assert_memory_equal(a, want, BYTES);
			assert_ptr_equal(our_memset(a + at, 0x1a5, n), a + at);
			memset(want + at, 0xa5, n);
			assert_memory_equal(a, want, BYTES);
		}
	}
}

static void test_move(void **state)
{
	(void)state;
	for (u32 from = 0; from < 32; from++) {
		for (u32 to = 0; to < 32; to++) {
			fill();
			assert_ptr_equal(our_memmove(a + to, a + from, 41), a + to);
			memmove(want + to, want + from, 41);
			assert_memory_equal(a, want, BYTES);
		}
	}
}

static int sign(int v)
{
	return (v > 0) - (v < 0);
}

static void test_compare(void **state)
{
	static const char *const word[] = {"", "a", "ab", "abc", "abcdefgh", "abcdefghi", "abcdefgi", "\xff", "b"};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(word); i++) {
		for (u32 j = 0; j < ARRAY_SIZE(word); j++) {
			assert_int_equal(sign(our_strcmp(word[i], word[j])), sign(strcmp(word[i], word[j])));
			for (u32 n = 0; n < 10; n++)
				assert_int_equal(sign(our_strncmp(word[i], word[j], n)),
						 sign(strncmp(word[i], word[j], n)));
		}
	}
	for (u32 n = 0; n < 40; n++) {
		for (u32 at = 0; at < n; at++) {
			fill();
			a[at]++;
			assert_int_equal(sign(our_memcmp(a, b, n)), sign(memcmp(a, b, n)));
			assert_int_equal(our_memcmp(a, b, at), 0);
		}
	}
}

static void test_find(void **state)
{
	const char *text = "hello world";

	(void)state;
	assert_int_equal(our_strlen(text), 11);
	assert_int_equal(our_strnlen(text, 5), 5);
	assert_int_equal(our_strnlen(text, 50), 11);
	assert_ptr_equal(our_strchr(text, 'o'), text + 4);
	assert_ptr_equal(our_strrchr(text, 'o'), text + 7);
	assert_ptr_equal(our_strchr(text, '\0'), text + 11);
	assert_ptr_equal(our_strrchr(text, '\0'), text + 11);
	assert_null(our_strchr(text, 'x'));
	assert_null(our_strrchr(text, 'x'));
	assert_ptr_equal(our_memchr(text, 'w', 11), text + 6);
	assert_null(our_memchr(text, 'w', 6));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_copy_and_set),
	    cmocka_unit_test(test_move),
	    cmocka_unit_test(test_compare),
	    cmocka_unit_test(test_find),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
