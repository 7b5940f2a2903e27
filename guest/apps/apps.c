/* The list of workloads. */
#include "guest/apps/apps.h"
#include "lib/string.h"

static const struct app *const apps[] = {&app_verify, &app_idle,  &app_desktop, &app_db,    &app_crash,
					 &app_abi,    &app_bench, &app_tide,    &app_stream};

const struct app *app_find(const char *name)
{
	for (u32 i = 0; i < ARRAY_SIZE(apps); i++) {
		if (str_eq(apps[i]->name, name))
			return apps[i];
	}
	return NULL;
}

const char *app_names(void)
{
	return "verify idle desktop db crash abi bench tide stream";
}
