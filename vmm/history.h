/*
 * History of one object, host or VM: a sample a second, and means of a minute and of an hour, each in a ring of fixed
 * size. What a value means the table of fields says; memory is in pages.
 *
 * A mean covers the samples that were taken, 60 of them, so a machine too busy to take one each second shows longer
 * spans. Belongs to the boot CPU.
 */
#ifndef VMM_HISTORY_H
#define VMM_HISTORY_H

#include "lib/types.h"

#define HISTORY_FIELDS   18U
#define HISTORY_MEANS_OF 60U

enum history_span { HISTORY_SECONDS, HISTORY_MINUTES, HISTORY_HOURS, HISTORY_SPANS };
#define HISTORY_KEPT_SECONDS 120U
#define HISTORY_KEPT_MINUTES 60U
#define HISTORY_KEPT_HOURS   24U
#define HISTORY_KEPT         (HISTORY_KEPT_SECONDS + HISTORY_KEPT_MINUTES + HISTORY_KEPT_HOURS)

enum history_kind { HISTORY_PAGES, HISTORY_RATE, HISTORY_US, HISTORY_PERMILLE, HISTORY_NUMBER };
struct history_field {
	const char *name;
	enum history_kind kind;
};
extern const struct history_field history_vm_field[HISTORY_FIELDS], history_host_field[HISTORY_FIELDS];

struct history_sample {
	u32 second; /* since boot, at its end */
	u32 value[HISTORY_FIELDS];
};

struct history {
	struct history_sample sample[HISTORY_KEPT];
	u32 count[HISTORY_SPANS];                   /* samples ever */
	u64 sum[HISTORY_SPANS - 1][HISTORY_FIELDS]; /* of those that the next mean of the span above is of */
};

void history_push(struct history *h, const struct history_sample *s);
/* Samples of a span are numbered from 0 by age; those in [first, count) are kept. */
u32 history_first(const struct history *h, enum history_span span);
const struct history_sample *history_get(const struct history *h, enum history_span span, u32 number);

struct monitor_vm;
struct monitor_host;
void history_of_vm(const struct monitor_vm *m, struct history_sample *out);
void history_of_host(const struct monitor_host *h, struct history_sample *out);

#endif
