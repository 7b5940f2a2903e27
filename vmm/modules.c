/* Boot modules and the boot entropy. */
#include "vmm/modules.h"
#include "arch/x86/cpu.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/string.h"

static struct module guest[BOOT_MODULES_MAX], config;
static char names[BOOT_MODULES_MAX][BOOT_NAME_BYTES];
static u32 guests;
static struct {
	u64 seed[4], counter;
} entropy;

static void add_guest(const struct boot_module *b, const void *data, u32 slot)
{
	struct module *m = &guest[guests];
	const char *why;

	str_copy(names[slot], b->name, BOOT_NAME_BYTES);
	*m = (struct module){.name = names[slot], .data = data, .bytes = b->bytes};
	if (elf_parse(data, b->bytes, &m->image, &why)) {
		log_warn("boot", "guest image %s: %s: left out", m->name, why);
		return;
	}
	guests++;
}

void modules_init(const struct boot_info *bi)
{
	memcpy(entropy.seed, bi->entropy, sizeof(entropy.seed));
	for (u32 i = 0; i < MIN(bi->module_count, (u32)BOOT_MODULES_MAX); i++) {
		const struct boot_module *b = &bi->module[i];
		const void *data = hpa_to_va(HPA(b->base));

		if (b->kind == BOOT_MODULE_CONFIG)
			config = (struct module){.name = "aerostat.ini", .data = data, .bytes = b->bytes};
		else
			add_guest(b, data, i);
	}
}

const struct module *module_find(const char *name)
{
	for (u32 i = 0; i < guests; i++)
		if (str_eq(guest[i].name, name))
			return &guest[i];
	return NULL;
}

const struct module *module_config(void)
{
	return config.data ? &config : NULL;
}

void modules_random(void *buf, size_t len)
{
	u8 *p = buf;

	while (len) {
		u64 word;
		size_t n = MIN(len, sizeof(word));

		entropy.counter = (entropy.counter + 1) ^ __builtin_ia32_rdtsc() << 20;
		word = hash_bytes(&entropy, sizeof(entropy), entropy.seed[0]);
		memcpy(p, &word, n);
		p += n;
		len -= n;
	}
}
