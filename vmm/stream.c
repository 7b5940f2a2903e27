/*
 * The stream of metrics on COM2: every `metrics-interval` seconds all of them, ended by "# EOF". A piece is made,
 * handed to the port as the port takes it, then the next: one buffer, nobody waits. A stream that takes longer than the
 * interval is finished first.
 *
 * A stream begins with the events since the one before, and, because a stream may be lost on the line, with that one's
 * again; their numbers tell. To Prometheus they are comments:  # EVENT NUMBER SECONDS LEVEL OBJECT TEXT
 */
#include "drivers/com2.h"
#include "lib/log.h"
#include "lib/platform.h"
#include "lib/string.h"
#include "lib/timer.h"
#include "lib/work.h"
#include "vmm/events.h"
#include "vmm/metrics.h"
#include "vmm/settings.h"

#define FULL_NS          (2 * NSEC_PER_MSEC) /* a full FIFO at 115200 is empty after 1.4 ms */
#define OFF_NS           NSEC_PER_SEC        /* how often a stream that is off looks whether it is */
#define EVENTS_PER_PIECE 16U                 /* of less than 120 bytes */

static struct {
	struct console_out out;
	char text[METRICS_PIECE_BYTES];
	size_t at, len;
	struct metrics metrics;
	u64 event;       /* number of the next to tell in this stream */
	u64 again, once; /* where the next stream begins, and that behind it */
	bool more;       /* of this stream's pieces */
	u64 begun_ns;
	struct work work;
	struct timer timer;
} stream;

static void keep(struct console_out *o, const char *text, size_t len)
{
	(void)o;
	len = MIN(len, sizeof(stream.text) - stream.len);
	memcpy(stream.text + stream.len, text, len);
	stream.len += len;
}

static void wait(u64 until)
{
	timer_arm(&stream.timer, until);
}

static void begin_or_wait(void)
{
	u32 interval = settings_number(NUMBER_METRICS_INTERVAL);
	u64 now = platform_now_ns(), due = stream.begun_ns + interval * NSEC_PER_SEC;

	if (!interval || now < due) {
		wait(interval ? MIN(due, now + OFF_NS) : now + OFF_NS);
		return;
	}
	stream.begun_ns = now;
	stream.metrics = (struct metrics){0};
	stream.event = stream.again;
	stream.again = stream.once;
	stream.once = events_last() + 1;
	stream.more = true;
	work_queue(&stream.work);
}

/* True if there may be more. */
static bool tell_events(void)
{
	struct event e;

	for (u32 i = 0; i < EVENTS_PER_PIECE; i++) {
		if (!events_read(&stream.event, &e))
			return false;
		console_printf(&stream.out, "# EVENT %lu %lu.%09lu %s %s %s\n", e.seq, e.ns / NSEC_PER_SEC,
			       e.ns % NSEC_PER_SEC, event_level_name(e.level), e.object, e.text);
	}
	return true;
}

static void stream_some(struct work *w)
{
	if (stream.at == stream.len) {
		stream.at = stream.len = 0;
		if (!stream.more) {
			begin_or_wait();
			return;
		}
		if (!tell_events() && !stream.len)
			stream.more = metrics_piece(&stream.metrics, &stream.out);
	}
	stream.at += com2_write(stream.text + stream.at, stream.len - stream.at);
	if (stream.at < stream.len)
		wait(platform_now_ns() + FULL_NS);
	else
		work_queue(w);
}

static void on_timer(struct timer *t)
{
	(void)t;
	work_queue(&stream.work);
}

void stream_init(void)
{
	if (!com2_init())
		return;
	log_info("metrics", "COM2 is there for metrics");
	stream.out.write = keep;
	stream.again = stream.once = 1;
	work_init(&stream.work, "metrics", stream_some);
	timer_init(&stream.timer, on_timer);
	work_queue(&stream.work);
}
