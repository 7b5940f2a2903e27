/*
 * What Debian's libinih.a and liblz4.a want from a C library and never get to use: configuration is parsed from memory
 * (ini_parse_stream with the line buffer on the stack) and LZ4's state is ours, so there are no files and no heap. Only
 * the character table and the stack guard's alarm are real. Machine only; hosts have a C library.
 */
#include "lib/panic.h"
#include "lib/types.h"

void *fopen64(const char *name, const char *mode);
int fclose(void *file);
char *fgets(char *buf, int size, void *file);
void *malloc(size_t bytes);
void *calloc(size_t count, size_t bytes);
void *realloc(void *p, size_t bytes);
void free(void *p);
const unsigned short **__ctype_b_loc(void);
_Noreturn void __stack_chk_fail(void);

void *fopen64(const char *name, const char *mode)
{
	(void)name;
	(void)mode;
	return NULL;
}

int fclose(void *file)
{
	(void)file;
	return 0;
}

char *fgets(char *buf, int size, void *file)
{
	(void)buf;
	(void)size;
	(void)file;
	return NULL;
}

void *malloc(size_t bytes)
{
	(void)bytes;
	return NULL;
}

void *calloc(size_t count, size_t bytes)
{
	(void)count;
	(void)bytes;
	return NULL;
}

void *realloc(void *p, size_t bytes)
{
	(void)p;
	(void)bytes;
	return NULL;
}

void free(void *p)
{
	(void)p;
}

/* glibc's layout: indexed by -128..255; the library asks for white space only. */
#define CTYPE_SPACE 0x2000

const unsigned short **__ctype_b_loc(void)
{
	static const unsigned short table[384] = {
	    [128 + ' '] = CTYPE_SPACE,
	    [128 + '\t' ... 128 + '\r'] = CTYPE_SPACE,
	};
	static const unsigned short *middle = table + 128;

	return &middle;
}

_Noreturn void __stack_chk_fail(void)
{
	panic("stack guard overwritten");
}
