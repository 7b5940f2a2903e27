/* The ring of events. See events.h. */
#include "vmm/events.h"

#include "lib/format.h"
#include "lib/platform.h"
#include "lib/string.h"

static struct event ring[EVENTS_KEPT];
static u64 last;

const char *event_level_name(enum event_level l)
{
	static const char *const name[EVENT_LEVELS] = {"info", "warning", "critical"};

	return l < EVENT_LEVELS ? name[l] : "?";
}

void events_add(enum event_level level, const char *object, const char *fmt, ...)
{
	struct event *e = &ring[++last % EVENTS_KEPT];
	va_list ap;
	int len;

	*e = (struct event){.seq = last, .ns = platform_now_ns(), .level = level};
	str_copy(e->object, object, sizeof(e->object));
	va_start(ap, fmt);
	len = format_vbuf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	/* What is too long ends with a whole word: the start of a figure would be another. */
	for (size_t i = sizeof(e->text) - 1; len >= (int)sizeof(e->text) && i--;)
		if (e->text[i] == ' ') {
			e->text[i] = '\0';
			break;
		}
	for (char *c = e->text; *c; c++)
		if (*c < ' ' || (u8)*c > '~')
			*c = '?';
}

bool events_read(u64 *seq, struct event *out)
{
	u64 oldest = last > EVENTS_KEPT ? last - EVENTS_KEPT + 1 : 1, at = MAX(*seq, oldest);

	if (at > last)
		return false;
	*out = ring[at % EVENTS_KEPT];
	*seq = at + 1;
	return true;
}

u64 events_last(void)
{
	return last;
}
