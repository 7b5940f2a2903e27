/* Guest images that the boot loader brought, checked once. They stay in memory. */
#ifndef VMM_MODULES_H
#define VMM_MODULES_H

#include "boot/boot_info.h"
#include "lib/elf.h"
#include "lib/types.h"

struct module {
	const char *name;
	const void *data;
	u64 bytes;
	struct elf_image image; /* guests only */
};

/* Takes the modules over from boot_info (names are copied); broken images are reported and left out. */
void modules_init(const struct boot_info *bi);
const struct module *module_find(const char *name); /* guest images */
const struct module *module_config(void);           /* NULL if there is none */

/* Random bytes for guests and keys, from the boot entropy and the TSC. */
void modules_random(void *buf, size_t len);

#endif
