/*
 * Configuration: an INI file on the boot volume (libinih), sections [host], [set] and [vm NAME].
 * Errors name line, key and what was expected; what was good stays in force.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include "vmm/vm.h"

#define CONFIG_VMS_MAX 64

struct config {
	u32 vm_count, errors;
	struct vm_config vm[CONFIG_VMS_MAX];
	/* [host]; 0 = default */
	u32 min_free_mib, share_rate, balloon_rate;
	u32 log_level; /* enum log_level + 1; 0 = default */
};

/* report is called once per error with one line: "aerostat.ini:12: memory: expected a size of 8M to 64G, got 'x'". */
void config_parse(const char *text, size_t len, struct config *out, void (*report)(void *arg, const char *line), void *arg);

/* The same key=value setter serves `vm create NAME key=value...`. E_INVAL/E_RANGE/E_NOENT with a line in why. */
int config_set_vm(struct vm_config *vm, const char *key, const char *value, char *why, size_t size) must_check;
void config_vm_defaults(struct vm_config *vm);

#endif
