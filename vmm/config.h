/*
 * Configuration: an INI file on the boot volume (libinih), sections [host], [vm NAME], [commands], and [loader] for the
 * boot loader. Errors name line, key and what was expected; what was good stays in force.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include "vmm/numbers.h"
#include "vmm/vm.h"

#define CONFIG_NAME          "aerostat.ini"
#define CONFIG_VMS_MAX       64
#define CONFIG_BYTES_MAX     (256 * KIB) /* the rest of a longer file is an error and is not read */
#define CONFIG_LINE_MAX      400         /* characters of a line */
#define CONFIG_REPORTS_MAX   32          /* errors that are told one by one */
#define CONFIG_RATE_OFF      (~0u)
#define CONFIG_COMMANDS_MAX  256
#define CONFIG_COMMAND_MAX   100 /* characters of a command in [commands] */
#define CONFIG_SECONDS_MAX   86400U
#define CONFIG_MIN_FREE_AUTO (~0u)

struct host_config {         /* 0: not given */
	u32 min_free_pages;  /* CONFIG_MIN_FREE_AUTO: by the sliding scale */
	u32 share_rate;      /* pages a second; CONFIG_RATE_OFF stops the scanner */
	u32 balloon_rate;    /* pages a second and VM */
	u32 zip_percent;     /* of a VM's memory for its compressed pages; ZIP_NONE: nothing is compressed */
	u32 log_level;       /* enum log_level + 1 */
	u32 number[NUMBERS]; /* value + 1 */
};

/* A console command that runs by itself. */
struct config_command {
	u64 at_ms; /* after the start of the file's VMs; never before the one above it */
	char line[CONFIG_COMMAND_MAX + 1];
};

struct config {
	u32 vm_count, errors, command_count;
	struct config_command command[CONFIG_COMMANDS_MAX];
	struct vm_config vm[CONFIG_VMS_MAX];
	struct host_config host;
};

/* report is called once per error with one line: "aerostat.ini:12: memory: expected a size of 8M to 64G, got 'x'". */
void config_parse(const char *text, size_t len, struct config *out, void (*report)(void *arg, const char *line),
		  void *arg);

/*
 * The same key=value setter serves `vm create NAME key=value...`. E_NOENT (no such key), E_INVAL or E_RANGE with a line
 * in why. seen: which keys were set, 0 at first; a second value for a key is E_EXIST. NULL: not watched.
 */
int config_set_vm(struct vm_config *vm, u32 *seen, const char *key, const char *value, char *why,
		  size_t size) must_check;
void config_vm_defaults(struct vm_config *vm);
/* As config_set_vm, for [host] and the console's `set`. */
int config_set_host(struct host_config *h, u32 *seen, const char *key, const char *value, char *why,
		    size_t size) must_check;
const char *config_host_key(u32 i); /* for completion; NULL past the last */
const char *config_vm_key(u32 i);
bool config_name_ok(const char *name); /* of a VM: 1..VM_NAME_MAX of A-Z a-z 0-9 _ - */

/* Values that console commands share with the file. Percentages and words are of `memory` bytes; E_AGAIN if it is
 * needed and 0. */
int config_parse_portion(const char *value, u64 memory, u64 max, u64 *bytes) must_check; /* "64M", "25%" */
/* The same for a limit: 0, or at least the least memory of a VM, with which any can go on. */
int config_parse_limit(const char *value, u64 memory, u64 *bytes) must_check;
#define CONFIG_LIMIT_EXPECTED "0 (none), or a size or a percentage of memory that is 8M to 64G"
int config_parse_shares(const char *value, u64 memory, u32 *shares) must_check; /* "1000", "low", "normal", "high" */
int config_parse_level(const char *value, u32 *level) must_check;               /* enum log_level */
const char *config_level_name(u32 level);

/* ---- on the machine (config_load.c) ---- */

/* Parses the boot volume's file, once; errors go to the log. Before the first guest runs: libinih uses vector
 * registers. Boot options (in force already) win over the file. */
const struct config *config_load(const char *cmdline);
/* Creates the configured VMs and starts those with autostart; what fails is logged. */
void config_start_vms(const struct config *c);

#endif
