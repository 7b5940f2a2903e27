"""The bridge's parser, splitter and history, against lines that are cut, garbled or hostile, and its answers over HTTP."""
import json
import math
import os
import random
import re
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tools"))
import bridge  # noqa: E402
import samples  # noqa: E402

EVIL = '"><img src=x onerror=alert(1)>'


def stream(uptime, vms=("a",), balloon=4096, swapped=0, extra=""):
    """A stream as Aerostat sends it, shortened."""
    text = f"{extra}# HELP aerostat_uptime_seconds Time.\n# TYPE aerostat_uptime_seconds gauge\naerostat_uptime_seconds {uptime}\n"
    text += f"aerostat_memory_state 2\naerostat_swap_out_pages_total {swapped}\n"
    for vm in vms:
        text += f'aerostat_vm_balloon_bytes{{vm="{vm}"}} {balloon}\naerostat_vm_pages_bytes{{vm="{vm}",state="private"}} 8192\n'
        text += f'aerostat_vm_swap_in_pages_total{{vm="{vm}"}} {swapped}\n'
    return text + "# EOF\n"


def fill(history, values, start=1000.0, step=5):
    """One stream for each value of the swap counter, of a machine that started at 1000."""
    for i, value in enumerate(values):
        history.add(start + step * i, *samples.parse(stream(start + step * i - 1000, swapped=value)))


# ---- the parser ----

def test_samples_are_read():
    found, events = samples.parse(stream("12.500000000", extra="# EVENT 7 11.250000000 critical host swapping raised: 8/s\n"))
    assert found["aerostat_uptime_seconds", ()] == 12.5
    assert found["aerostat_vm_pages_bytes", (("state", "private"), ("vm", "a"))] == 8192
    assert events == [(7, 11.25, "critical", "host", "swapping raised: 8/s")]


def test_labels_are_unescaped():
    found, _ = samples.parse('x{a="q\\"b\\\\s\\nn{},=",b="2",} 1e3\ny -Inf\nz NaN 123\n')
    assert found["x", (("a", 'q"b\\s\nn{},='), ("b", "2"))] == 1000
    assert found["y", ()] == -math.inf and math.isnan(found["z", ()])


@pytest.mark.parametrize("line", [
    "x", "x ", "x 1 2 3", "x 1_0", "x 0x10", "x one", "1x 1", "x{ 1", 'x{a="1} 1', 'x{a=1} 1', 'x{a="1"b="2"} 1', 'x{a="1",a="2"} 1',
    'x{a="\\t"} 1', 'x{="1"} 1', "x}{ 1", "x\0 1", "x\ufffd 1", "x 1\nx 1", "y" * 2000 + " 1", "x" + "{" * 500 + " 1",
    "x{" + '"a' * 400 + " 1"])
def test_garbled_lines_are_refused(line):
    begun = time.process_time()
    with pytest.raises(samples.Garbled):
        samples.parse(line + "\n")
    assert time.process_time() - begun < 1


def test_a_stream_has_bounds():
    with pytest.raises(samples.Garbled):
        samples.parse("".join(f"x{i} 1\n" for i in range(samples.STREAM_SAMPLES_MAX + 1)))


# ---- the splitter ----

def test_only_whole_streams_come_through():
    seen = []
    splitter = bridge.Splitter(seen.append)
    text = stream(1).encode()
    for i in range(0, len(text), 7):  # joined in the middle: dropped
        splitter.feed(text[20:][i:i + 7])
    assert not seen
    splitter.feed((stream(2) + stream(3)).replace("\n", "\r\n").encode()[:-30])
    assert seen == [stream(2).encode()]
    splitter.restart()  # the line was cut; what follows is the end of a stream whose start was missed
    splitter.feed(stream(4).encode()[40:])
    assert len(seen) == 1
    splitter.feed(stream(5).encode())
    assert seen[1:] == [stream(5).encode()]


def test_a_line_without_end_does_not_grow():
    seen = []
    splitter = bridge.Splitter(seen.append)
    splitter.feed(b"# EOF\n")
    for _ in range(1000):
        splitter.feed(b"x" * 1000)
    assert len(splitter.rest) <= 4 * samples.LINE_MAX + 1000
    splitter.feed(b"\n# EOF\n" + stream(1).encode())
    assert seen == [stream(1).encode()]


def test_garbled_streams_are_counted_and_not_served():
    latest = bridge.Latest(samples.History(10))
    latest.put(stream(1).encode())
    latest.put(stream(2).replace("8192", "8x92").encode())
    latest.put(stream(3).encode()[:-6] + stream(4).encode())  # cut by a restart
    latest.put(b"\xff\xfe 1\n# EOF\n")
    assert (latest.streams, latest.garbled, latest.get(60)) == (1, 3, stream(1).encode())
    assert latest.history.streams == 1


def test_noise_never_stops_it():
    """Bytes lost, changed, doubled: what is served always parses, and most streams get through."""
    dice = random.Random(1)
    latest = bridge.Latest(samples.History(50))
    splitter = bridge.Splitter(latest.put)
    for i in range(400):
        data = bytearray(stream(i, vms=("a", "b"), swapped=i).encode())
        if dice.random() < 0.5:
            for _ in range(dice.randrange(1, 6)):
                at = dice.randrange(len(data))
                data[at:at + dice.randrange(4)] = bytes(dice.randrange(256) for _ in range(dice.randrange(4)))
        splitter.feed(bytes(data))
        json.dumps(latest.history.look(600, 20, 0, 0), allow_nan=False)
        if latest.streams:
            samples.parse(latest.text.decode())
    assert latest.streams > 150 and latest.garbled > 50


# ---- the history ----

def test_gauges_and_rates():
    history = samples.History(100)
    fill(history, [0, 10, 10, 60])
    seen = history.look(600, 100, 0, 0)
    assert seen["time"] == [1000, 1005, 1010, 1015] and seen["stride"] == 1 and seen["state"] == "soft"
    assert seen["host"]["swap-out"] == [None, 2, 0, 10]
    assert seen["vm"]["a"] == {"balloon": [4096] * 4, "pages.private": [8192] * 4, "swap-in": [None, 2, 0, 10]}


def test_the_ring_is_bounded_and_coarser_buckets_have_exact_means():
    history = samples.History(64)
    fill(history, [i * i for i in range(200)])
    seen = history.look(10000, 16, 0, 0)
    assert seen["stride"] == 4 and seen["first"] == 136 // 4 and len(seen["time"]) == 16
    for time_, rate in list(zip(seen["time"], seen["host"]["swap-out"]))[1:]:
        row = int((time_ - 1000) / 5)
        assert rate == pytest.approx((row ** 2 - (row - 4) ** 2) / 20, rel=1e-4)
    # A bucket that was not full yet is told again; the reader has all before it.
    again = history.look(10000, 16, 4, 49)
    assert again["first"] == 49 and again["time"] == seen["time"][-1:]
    assert again["host"]["swap-out"] == seen["host"]["swap-out"][-1:]
    assert history.look(10000, 16, 2, 49)["first"] == 34, "another stride: everything"
    assert len(history.look(20, 100, 0, 0)["time"]) == 5, "the span only"


def test_a_reader_that_follows_sees_what_one_that_comes_late_sees():
    history, dice = samples.History(40), random.Random(2)
    kept, stride, first, total = [], 0, 0, 0
    for i in range(150):
        total += dice.randrange(100)
        history.add(1000 + i, *samples.parse(stream(i, swapped=total)))
        seen = history.look(30, 16, stride, first + len(kept) - 1 if kept else 0)
        keep = seen["first"] - first
        if seen["stride"] != stride or not 0 <= keep <= len(kept):
            kept, first, keep = [], seen["first"], 0
        stride = seen["stride"]
        kept = kept[:keep] + list(zip(seen["time"], seen["host"]["swap-out"]))
        late = history.look(30, 16, 0, 0)
        fresh = list(zip(late["time"], late["host"]["swap-out"]))
        assert kept[-len(fresh):][1:] == fresh[1:]


def test_a_restart_is_a_gap_and_an_event():
    history = samples.History(100)
    fill(history, [0, 10, 500])
    history.add(1015, *samples.parse(stream(2, swapped=3, extra="# EVENT 1 1.5 info a created -> running\n")))
    history.add(1020, *samples.parse(stream(7, swapped=8, extra="# EVENT 1 1.5 info a created -> running\n")))
    seen = history.look(600, 100, 0, 0)
    assert seen["host"]["swap-out"] == [None, 2, 98, None, 1]
    assert [(e["object"], e["text"], e["time"]) for e in seen["events"]] == [
        ("host", "the hypervisor has restarted", 1015), ("a", "created -> running", 1014.5)]
    assert [e["object"] for e in history.look(600, 100, 0, 0, seen["events"][0]["number"])["events"]] == ["a"]


def test_silence_is_a_gap():
    history = samples.History(100)
    fill(history, [0, 10, 20])
    fill(history, [1000], start=1300)
    seen = history.look(600, 100, 0, 0)
    assert seen["host"]["swap-out"][-2:] == [None, None] and seen["vm"]["a"]["balloon"] == [4096] * 3 + [None, 4096]
    assert "no stream for 290 s" in seen["events"][0]["text"]


def test_vms_come_and_go():
    history = samples.History(20)
    for i in range(30):
        history.add(1000 + i, *samples.parse(stream(i, vms=("a", "b") if 5 <= i < 15 else ("a",))))
    seen = history.look(600, 100, 0, 0)["vm"]
    assert seen["b"]["balloon"] == [4096] * 5 + [None] * 15
    for i in range(30, 40):
        history.add(1000 + i, *samples.parse(stream(i)))
    assert list(history.look(600, 100, 0, 0)["vm"]) == ["a"], "nothing of it is left"


def test_series_and_events_are_bounded():
    history = samples.History(10)
    for i in range(3):
        history.add(1000 + i, *samples.parse(stream(i, vms=[f"v{i}-{n}" for n in range(4000)])))
    assert len(history.series) <= samples.SERIES_MAX
    for i in range(3, 40):
        text = "".join(f"# EVENT {i * 100 + n} {i}.0 info host {'e' * 500}\n" for n in range(100))
        history.add(1000 + i, *samples.parse(stream(i, extra=text)))
    assert len(history.events) == samples.EVENTS_MAX and len(history.events[-1]["text"]) == samples.TEXT_MAX
    assert len(history.series) < 10


def test_alerts_since_when():
    history = samples.History(10)
    text = 'aerostat_alert_raised{alert="swapping"} %d\naerostat_vm_alert_raised{vm="a",alert="balloon"} %d\n'
    for i, (host, vm) in enumerate([(0, 1), (1, 1), (1, 0), (1, 1)]):
        history.add(1000 + i, *samples.parse(stream(i, extra=text % (host, vm))))
    assert history.look(600, 9, 0, 0)["alerts"] == [
        {"object": "", "alert": "swapping", "since": 1001, "level": "critical"},
        {"object": "a", "alert": "balloon", "since": 1003, "level": "warning"}]


def test_what_is_kept_is_what_aerostat_tells():
    prefix = {"HOST": "", "DISK": "disk_", "VM": "vm_"}
    with open(os.path.join(TOP, "vmm", "metrics.inc"), encoding="utf-8") as source:
        rows = re.findall(r"^(HOST|DISK|VM)(?:_\w+)?\((?:gauge|counter), (\w+),", source.read(), re.M)
    told = {prefix[of] + name for of, name in rows}
    for families in (samples.HOST, samples.DISK, samples.VM):
        for name, (_, counter) in families.items():
            assert counter == name.endswith("_total") and name.removesuffix("_total") in told, name


# ---- over HTTP ----

@pytest.fixture
def served():
    latest = bridge.Latest(samples.History(100))
    answers = bridge.Answers(latest, 60, "/nowhere")
    server = bridge.Server(("127.0.0.1", 0), bridge.make_handler(answers))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield latest, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read(), answer.headers


def status(url):
    try:
        return get(url) and 200
    except urllib.error.HTTPError as error:
        return error.code


def test_http(served):
    latest, url = served
    assert status(url + "/metrics") == 503 and json.loads(get(url + "/history.json")[0])["streams"] == 0
    latest.put(stream(1, vms=(EVIL.replace('"', '\\"'),)).encode())
    assert get(url + "/metrics")[0] == latest.text
    body, headers = get(url + "/history.json?span=60&points=10&stride=1&from=0")
    assert headers["Content-Type"] == "application/json" and list(json.loads(body)["vm"]) == [EVIL]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["Content-Security-Policy"]
    assert b"<script" in get(url + "/")[0] and status(url + "/charts.js") == 200
    assert [status(url + path) for path in (
        "/dygraph.min.js", "/../bridge.py", "/charts/../../bridge.py", "/%2e%2e/bridge.py", "/etc/passwd", "/metrics/x",
        "/history.json?span=x", "/history.json?from=" + "9" * 5000)] == [404] * 6 + [400] * 2
    assert status(url + "/history.json?span=-1&points=999999999&from=-5&stride=-3") == 200


def test_the_page_fetches_nothing_from_elsewhere():
    for name in ("charts.html", "charts.css", "charts.js", "cells.js"):
        with open(os.path.join(TOP, "tools", "charts", name), encoding="utf-8") as page:
            text = page.read()
        assert "//" not in text.replace("/// ", "") and "innerHTML" not in text and "document.write" not in text, name


def test_the_line_comes_back(tmp_path):
    """Cut in a stream, and joined in another: no stream is made of both, and the next is served."""
    path = str(tmp_path / "line")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    latest = bridge.Latest(samples.History(10))
    threading.Thread(target=bridge.read_forever, args=("unix:" + path, bridge.Splitter(latest.put), latest), daemon=True).start()
    one, _ = listener.accept()
    one.sendall((stream(1) + stream(2) + stream(3)[:80]).encode())
    one.close()
    two, _ = listener.accept()
    two.sendall((stream(4)[50:] + stream(5)).encode())
    end = time.monotonic() + 120
    while latest.streams < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert latest.streams == 2 and latest.garbled == 0 and latest.text == stream(5).encode()
    two.close()
    listener.close()
    while not latest.line_error and time.monotonic() < end:
        time.sleep(0.02)
    assert latest.line_error
