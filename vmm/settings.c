/* The host's settings. See settings.h. */
#include "vmm/settings.h"

#include "mm/balloon.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/wss.h"
#include "mm/zip.h"
#include "vmm/vm.h"

static struct host_config current = {.share_rate = SETTINGS_SHARE_RATE,
				     .balloon_rate = BALLOON_RATE_DEFAULT,
				     .zip_percent = ZIP_PERCENT_DEFAULT,
				     .log_level = LOG_INFO + 1};

const struct host_config *settings_get(void)
{
	return &current;
}

u32 settings_number(enum number n)
{
	return current.number[n] ? current.number[n] - 1 : number_key[n].standard;
}

u32 settings_balloon_rate(const struct vm_config *c)
{
	return c->balloon_rate ? c->balloon_rate : current.balloon_rate;
}

static void apply_balloon_rate(void)
{
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm))
		if (vm->gs_valid)
			WRITE_ONCE(vm->gs.balloon_rate, settings_balloon_rate(&vm->config));
}

static void apply_policy(const struct host_config *h)
{
	if (h->number[NUMBER_IDLE_TAX])
		reclaim_set_tax(settings_number(NUMBER_IDLE_TAX));
	wss_configure(settings_number(NUMBER_WSS_SAMPLES), settings_number(NUMBER_WSS_PERIOD),
		      settings_number(NUMBER_WSS_UNMAP));
	for (struct vm *vm = vm_next(NULL); vm && h->number[NUMBER_BALLOON_RATE_DOWN]; vm = vm_next(vm))
		if (vm->gs_valid)
			WRITE_ONCE(vm->gs.balloon_rate_down, settings_number(NUMBER_BALLOON_RATE_DOWN));
}

void settings_apply(const struct host_config *h)
{
	u32 share;

	if (h->log_level) {
		current.log_level = h->log_level;
		log_set_level(h->log_level - 1);
	}
	if (h->share_rate) {
		current.share_rate = h->share_rate;
		share = h->share_rate == CONFIG_RATE_OFF ? 0 : h->share_rate;
		share_set_rate(share, DIV_ROUND_UP(share, SETTINGS_SHARE_VM_PART));
	}
	if (h->balloon_rate) {
		current.balloon_rate = h->balloon_rate;
		apply_balloon_rate();
	}
	if (h->zip_percent) {
		current.zip_percent = h->zip_percent;
		zip_set_percent(h->zip_percent == ZIP_NONE ? 0 : h->zip_percent);
	}
	if (h->min_free_pages) {
		current.min_free_pages = h->min_free_pages == CONFIG_MIN_FREE_AUTO ? 0 : h->min_free_pages;
		reclaim_set_min_free(current.min_free_pages);
	}
	for (u32 i = 0; i < NUMBERS; i++)
		if (h->number[i])
			current.number[i] = h->number[i];
	apply_policy(h);
}
