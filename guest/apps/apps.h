/* Every workload; apps.c lists them. */
#ifndef GUEST_APPS_H
#define GUEST_APPS_H

#include "guest/kernel/app.h"

extern const struct app app_verify, app_idle, app_desktop, app_db, app_crash, app_abi, app_bench, app_tide, app_stream;

#endif
