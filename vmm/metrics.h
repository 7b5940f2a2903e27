/*
 * Metrics as Prometheus reads them: text of families with HELP and TYPE lines, an end mark "# EOF". From the monitor's
 * last sample, a bounded piece at a time. Names and units by Prometheus's conventions: bytes, seconds, ratios; counters
 * end in _total, in their TYPE lines, too, as `promtool check metrics` wants it.
 *
 * Two readers, each with a struct metrics of its own: the command `metrics` and the stream on COM2.
 */
#ifndef VMM_METRICS_H
#define VMM_METRICS_H

#include "lib/types.h"
#include "vmm/console.h"

#define METRICS_PIECE_BYTES 4096U /* most that one piece prints */

struct metrics {
	u32 family, object; /* next; object: a slot of the monitor, a device */
	bool headed;        /* the family's HELP and TYPE stand already */
};

/* Prints the next piece. True while there is more. */
bool metrics_piece(struct metrics *m, struct console_out *o);

/* The stream: on the boot CPU, once the console is up. Without a COM2 it does nothing. */
void stream_init(void);

#endif
