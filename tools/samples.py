"""What bridge.py makes of the streams it reads: samples out of the text, and their history for the page of charts.

Nothing that comes in on the line is trusted: what does not parse is refused as a whole, and everything is bounded - the length
of a line, the number of samples of a stream, of series, of events kept. Names are kept as they are: whoever shows them has to
escape them.
"""
import array
import math
import re
import threading

LINE_MAX = 1024  # characters
STREAM_SAMPLES_MAX = 50000
SERIES_MAX = 8192
EVENTS_MAX = 1000
NAME_MAX, TEXT_MAX = 64, 160  # characters kept of names, of an event's text
STATES = ("high", "clear", "soft", "hard", "low")
CRITICAL_OF_VMS = {"starved"}  # other alerts of VMs are warnings
LEVELS = ("info", "warning", "critical")

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[^"\\{}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)(?: -?\d+)?')
LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\[\\"n])*)"\s*(?:,|$)')
ESCAPE = re.compile(r"\\(.)")
# An event in the stream is a comment for Prometheus: number, seconds since the start, level, object, text.
EVENT = re.compile(r"# EVENT (\d{1,19}) (\d{1,12}\.\d{1,9}) (\w{1,16}) (\S{1,64}) (.*)")


class Garbled(ValueError):
    """A stream that is not what was sent."""


def parse_labels(text):
    labels, at = {}, 0
    while at < len(text):
        match = LABEL.match(text, at)
        if not match or match.group(1) in labels:
            raise Garbled("labels")
        labels[match.group(1)] = ESCAPE.sub(lambda m: "\n" if m.group(1) == "n" else m.group(1), match.group(2))
        at = match.end()
    return labels


def parse_value(text):
    if "_" in text:  # Python takes it
        raise Garbled("value")
    try:
        return float(text)
    except ValueError:
        raise Garbled("value") from None


def parse(text):
    """All samples of a stream, {(name, ((label, value), ...)): number}, and its events. Raises Garbled."""
    samples, events = {}, []
    for line in text.split("\n"):
        if len(line) > LINE_MAX or "\0" in line or "\ufffd" in line:
            raise Garbled("line")
        if not line or line.startswith("#"):
            event = EVENT.fullmatch(line)
            if event and len(events) < EVENTS_MAX:
                events.append((int(event.group(1)), float(event.group(2)), event.group(3), event.group(4), event.group(5)))
            continue
        match = SAMPLE.fullmatch(line)
        if not match:
            raise Garbled("sample")
        key = (match.group(1), tuple(sorted(parse_labels(match.group(2) or "").items())))
        if key in samples or len(samples) >= STREAM_SAMPLES_MAX:  # the start of one and the end of another
            raise Garbled("twice" if key in samples else "too many samples")
        samples[key] = parse_value(match.group(3))
    return samples, events


# What is kept: family -> (figure, is it a counter). A label besides the object's becomes part of the figure's name.
HOST = {
    "memory_size_bytes": ("total", False), "memory_bytes": ("ram", False), "memory_min_free_bytes": ("min-free", False),
    "memory_state": ("state", False), "overcommit_ratio": ("overcommit", False), "pages_bytes": ("pages", False),
    "sharing_saved_bytes": ("saved", False), "swap_size_bytes": ("swap-size", False), "swap_used_bytes": ("swap-used", False),
    "swap_in_pages_total": ("swap-in", True), "swap_out_pages_total": ("swap-out", True),
    "zip_stored_pages_total": ("zip-in", True), "zip_expanded_pages_total": ("zip-out", True), "uptime_seconds": ("uptime", False),
}
DISK = {
    "disk_reads_total": ("reads", True), "disk_writes_total": ("writes", True), "disk_time_seconds_total": ("time", True),
}
VM = {
    "vm_up": ("up", False), "vm_memory_size_bytes": ("size", False), "vm_pages_bytes": ("pages", False),
    "vm_memory_consumed_bytes": ("consumed", False), "vm_memory_target_bytes": ("target", False),
    "vm_memory_reservation_bytes": ("reservation", False), "vm_memory_limit_bytes": ("limit", False),
    "vm_memory_active_bytes": ("active", False), "vm_balloon_bytes": ("balloon", False),
    "vm_balloon_target_bytes": ("balloon-target", False), "vm_swap_in_pages_total": ("swap-in", True),
    "vm_swap_out_pages_total": ("swap-out", True), "vm_zip_stored_pages_total": ("zip-in", True),
    "vm_zip_expanded_pages_total": ("zip-out", True), "vm_guest_refaults_total": ("refaults", True),
    "vm_memory_wait_seconds_total": ("waiting", True), "vm_cpu_seconds_total": ("cpu", True),
    "vm_disk_reads_total": ("reads", True), "vm_disk_writes_total": ("writes", True), "vm_disk_time_seconds_total": ("time", True),
    "vm_guest_operations_total": ("operations", True), "vm_guest_latency_seconds": ("latency", False),
    "vm_guest_hit_ratio": ("hit", False), "vm_guest_errors_total": ("errors", True),
}
SCOPES = (("vm", VM), ("device", DISK), (None, HOST))


def keep(name, labels):
    """The key (scope, object, figure, counter) of a sample that is kept, or None."""
    if not name.startswith("aerostat_"):
        return None
    labels = dict(labels)
    for label, families in SCOPES:
        if label is None or label in labels:
            found = families.get(name[9:])
            if not found:
                return None
            part = [value for key, value in labels.items() if key != label]
            if len(part) > 1:
                return None
            figure = found[0] + "".join("." + value[:NAME_MAX] for value in part)
            return (label or "host", labels.get(label, "")[:NAME_MAX], figure, found[1])
    return None


def alerts_of(samples):
    """(object, alert) of every alert that is raised; the host's object is ""."""
    raised = set()
    for (name, labels), value in samples.items():
        if name in ("aerostat_alert_raised", "aerostat_vm_alert_raised") and value == 1:
            labels = dict(labels)
            raised.add((labels.get("vm", "")[:NAME_MAX], labels.get("alert", "")[:NAME_MAX]))
    return raised


class History:
    """The last `size` streams: one ring of times, one a figure. Counters are kept raw, and become rates when asked for, so that
    a coarser look shows exact means. A row of no figures stands where the line was silent."""

    def __init__(self, size):
        self.lock = threading.Lock()
        self.size = size
        self.streams = 0  # rows ever, those of no figures too
        self.time = array.array("d", [math.nan]) * size   # seconds since 1970, rising
        self.clock = array.array("d", [math.nan]) * size  # the machine's, for rates
        self.series, self.last_row = {}, {}
        self.events, self.event_number, self.told = [], 0, 0
        self.alerts = {}  # raised: since when
        self.interval = None

    # ---- what comes in ----

    def add(self, now, samples, events):
        """A stream that came in whole at this time."""
        with self.lock:
            self._note_restart(now, samples)
            self._note_silence(now)
            self._row(now, samples)
            self._note_events(now, samples, events)
            self._note_alerts(now, samples)
            self._forget()

    def _last(self, ring):
        return ring[(self.streams - 1) % self.size] if self.streams else math.nan

    def _uptime(self, samples):
        return samples.get(("aerostat_uptime_seconds", ()), math.nan)

    def _note_restart(self, now, samples):
        if self._uptime(samples) < self._last(self.clock):
            self.told = 0
            self._event(now, "warning", "host", "the hypervisor has restarted")

    def _note_silence(self, now):
        last = self._last(self.time)
        if math.isnan(last):
            return
        gap = now - last
        if self.interval and gap > max(5.0, 4 * self.interval):
            self._event(now, "info", "bridge", f"no stream for {gap:.0f} s")
            self._row(last + self.interval, {})
            return
        self.interval = gap if self.interval is None else 0.8 * self.interval + 0.2 * gap

    def _row(self, now, samples):
        row = self.streams
        at = row % self.size
        for ring in self.series.values():
            ring[at] = math.nan
        self.time[at], self.clock[at] = now, self._uptime(samples)
        for (name, labels), value in samples.items():
            key = keep(name, labels)
            if not key or not math.isfinite(value):
                continue
            if key not in self.series:
                if len(self.series) >= SERIES_MAX:
                    continue
                self.series[key] = array.array("d", [math.nan]) * self.size
            self.series[key][at] = value
            self.last_row[key] = row
        self.streams += 1

    def _event(self, when, level, thing, text):
        self.event_number += 1
        self.events.append({"number": self.event_number, "time": round(when, 3), "level": level if level in LEVELS else "info",
                            "object": thing[:NAME_MAX], "text": text[:TEXT_MAX]})
        del self.events[:-EVENTS_MAX]

    def _note_events(self, now, samples, events):
        """Events come more than once, with numbers that rise."""
        uptime = self._uptime(samples)
        for number, seconds, level, thing, text in sorted(events):
            if number > self.told and not math.isnan(uptime):
                self.told = number
                self._event(now - max(0.0, uptime - seconds), level, thing, text)

    def _note_alerts(self, now, samples):
        raised = alerts_of(samples)
        self.alerts = {key: self.alerts.get(key, now) for key in raised}

    def _forget(self):
        """Series of which nothing is left in the ring."""
        for key in [key for key, row in self.last_row.items() if row <= self.streams - self.size]:
            del self.series[key], self.last_row[key]

    # ---- what is asked for ----

    def _first_row(self, span):
        """The first row of the last `span` seconds."""
        low, high = max(0, self.streams - self.size), self.streams - 1
        start = self._last(self.time) - span
        while low < high:
            middle = (low + high) // 2
            if self.time[middle % self.size] < start:
                low = middle + 1
            else:
                high = middle
        return low

    def look(self, span, points, stride, start, after=0):
        """The last `span` seconds as at most `points` buckets, each of `stride` rows. A reader that has the buckets of this
        stride up to start-1 gets the others; one with another stride gets all. Events: those with numbers above `after`."""
        with self.lock:
            if not self.streams:
                return {"streams": 0, "stride": 1, "first": 0, "time": [], "host": {}, "disk": {}, "vm": {}, "events": [],
                        "alerts": [], "state": None, "interval": None}
            low = self._first_row(span)
            fit = 1
            while (self.streams - low) // fit > points:
                fit *= 2
            first = low // fit
            if stride == fit and start > first:
                first = min(start, (self.streams - 1) // fit)
            oldest = max(0, self.streams - self.size)
            # The rows whose values stand for a bucket: the last of each. The one before the first is for its rates.
            rows = [min((bucket + 1) * fit, self.streams) - 1 for bucket in range(first - 1, (self.streams - 1) // fit + 1)]
            rows = [row if row >= oldest else None for row in rows]
            return dict(self._figures(rows), streams=self.streams, stride=fit, first=first,
                        events=[event for event in self.events if event["number"] > after],
                        alerts=self._alert_list(), state=self._state_name(), interval=self.interval)

    def _alert_list(self):
        return [{"object": thing, "alert": alert, "since": round(since, 3),
                 "level": "warning" if thing and alert not in CRITICAL_OF_VMS else "critical"}
                for (thing, alert), since in sorted(self.alerts.items())]

    def _state_name(self):
        ring = self.series.get(("host", "", "state", False))
        state = self._last(ring) if ring else math.nan
        return STATES[int(state)] if 0 <= state < len(STATES) else None

    def _at(self, ring, row):
        return math.nan if row is None else ring[row % self.size]

    def _figures(self, rows):
        times = [round(self._at(self.time, row), 3) for row in rows[1:]]
        steps = self._steps(rows)
        raw, out = {}, {"time": times, "host": {}, "disk": {}, "vm": {}}
        for (scope, thing, figure, counter), ring in self.series.items():
            values = [self._at(ring, row) for row in rows]
            gains = self._gains(values)
            if counter:
                raw[scope, thing, figure] = gains
                values = [gain / step for gain, step in zip(gains, steps)]
            else:
                values = values[1:]
            place = out["disk" if scope == "device" else scope]
            if scope != "host":
                place = place.setdefault(thing, {})
            place[figure] = [None if math.isnan(v) else int(v) if v == int(v) else float(f"{v:.6g}") for v in values]
        for (scope, thing, figure), gains in raw.items():
            if figure == "time" and (scope, thing, "reads") in raw and (scope, thing, "writes") in raw:
                place = out["disk" if scope == "device" else scope][thing]
                place["disk-latency"] = [
                    float(f"{spent / (reads + writes):.6g}") if reads + writes > 0 else None
                    for spent, reads, writes in zip(gains, raw[scope, thing, "reads"], raw[scope, thing, "writes"])]
        return out

    def _steps(self, rows):
        """Seconds between buckets: by the machine's clock if it has gone on, else by ours."""
        steps = []
        for before, row in zip(rows, rows[1:]):
            step = self._at(self.clock, row) - self._at(self.clock, before)
            steps.append(step if step > 0 else math.nan)
        return steps

    @staticmethod
    def _gains(values):
        """What a counter has gained from bucket to bucket; nothing is known of one that has begun again."""
        return [now - before if now >= before else math.nan for before, now in zip(values, values[1:])]
