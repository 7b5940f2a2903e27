"""The page of live charts in a headless Chromium: what it shows is what the metrics say, and nothing on the line can hurt it."""
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from aerostat import TOP, vm_section
from browser import Browser

sys.path.insert(0, os.path.join(TOP, "tools"))
import emu  # noqa: E402
import samples  # noqa: E402

EVIL = '</script><img src=x onerror="document.title=1">'
# What a chart reads: figure -> value, of a cell of a row.
READ = """Object.fromEntries([...[...document.querySelectorAll(".row")].find((r) => r.dataset.row === %r)
  .querySelectorAll('[data-cell="%s"] .key')].map((k) => [k.dataset.figure, k.querySelector("output").dataset.value]))"""
# How many pixels of a cell's chart are in the colour of a figure's key.
PIXELS = """(() => {
  const row = [...document.querySelectorAll(".row")].find((r) => r.dataset.row === %r);
  const cell = row.querySelector('[data-cell="%s"]');
  const mark = cell.querySelector('[data-figure="%s"] i');
  const colour = getComputedStyle(mark).backgroundColor.match(/\\d+/g).map(Number);
  const canvas = cell.querySelector("canvas");
  const dots = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < dots.length; i += 4)
    if (dots[i + 3] > 30 && [0, 1, 2].every((c) => Math.abs(dots[i + c] - colour[c]) < 12)) count++;
  return count;
})()"""
FIGURES = """[...data.series.values()].map((s) => [s.scope, s.name, s.figure, s.values])"""


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture
def browser():
    one = Browser()
    yield one
    one.close()


@pytest.fixture
def bridge():
    """bridge(source, ...) starts one; its address."""
    made = []

    def start(source, *options, port=None):
        port = port or emu.free_port()
        process = subprocess.Popen([sys.executable, os.path.join(TOP, "tools", "bridge.py"), source, "--port", str(port), *options],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        made.append(process)
        return re.search(r"http://[\d.:]+", process.stdout.readline()).group(0)

    def stop():
        for process in made:
            process.kill()
            process.wait()
            process.stdout.close()
        made.clear()

    start.stop = stop
    yield start
    stop()


class Taker(threading.Thread):
    """Takes every /metrics it can get: {seconds since the start, as the page has them: samples}."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.taken, self.end = url, {}, threading.Event()

    def run(self):
        while not self.end.wait(0.2):
            try:
                found, _ = samples.parse(get(self.url + "/metrics"))
            except OSError:
                continue
            self.taken[rounded(found["aerostat_uptime_seconds", ()])] = found


def rounded(value):
    return float(f"{value:.6g}")


# ---- a machine under pressure ----

PRESSURE = "[host]\nmetrics-interval = 1\nalert-balloon = 5\nalert-balloon-time = 2\n\n" + vm_section("v", 96, "app=verify mem=90% zero=10%") \
    + vm_section("db", 96, "app=db size=48M cache=40%", shares="high") + vm_section("w", 64, "app=idle mem=60%", shares="low")


def compare(page, taken):
    """Everything the page has of a moment that was also taken from /metrics: equal. How many gauges, rates that are not 0."""
    series = {(scope, name, figure): values for scope, name, figure, values in page}
    row_of = {uptime: row for row, uptime in enumerate(series["host", "", "uptime"]) if uptime is not None}
    gauges, rates = 0, {}
    for uptime in sorted(set(row_of) & set(taken)):
        row = row_of[uptime]
        before = series["host", "", "uptime"][row - 1] if row else None
        for (name, labels), value in taken[uptime].items():
            key = samples.keep(name, labels)
            if not key:
                continue
            scope, thing, figure, counter = key
            shown = series["disk" if scope == "device" else scope, thing, figure][row]
            if not counter:
                gauges += 1
                assert shown == pytest.approx(value, rel=1e-5), (uptime, key)
            elif before in taken and (name, labels) in taken[before]:
                gained = value - taken[before][name, labels]
                step = taken[uptime]["aerostat_uptime_seconds", ()] - taken[before]["aerostat_uptime_seconds", ()]
                assert shown == pytest.approx(gained / step, rel=1e-5), (uptime, key)
                rates[key] = rates.get(key, 0) + (gained > 0)
    return gauges, rates


@pytest.mark.takes(60)
def test_the_page_shows_what_the_metrics_say(machine, bridge, browser, tmp_path):
    line = str(tmp_path / "com2")
    m = machine(config=PRESSURE, mem=160,
                extra=["-chardev", f"socket,id=com2,path={line},server=on,wait=off", "-serial", "chardev:com2"]).start()
    url = bridge(f"unix:{line}")
    taker = Taker(url)
    taker.start()
    m.expect(r"aerostat> ", 240)
    browser.load(url)
    browser.wait("document.querySelectorAll('.row').length === 4 && data.time.length > 3")
    assert browser.js("[...document.querySelectorAll('.row')].map((r) => r.dataset.row)") == ["host", "v", "db", "w"]

    m.wait_for(lambda: browser.js("document.querySelector('#alerts [data-alert=balloon]') !== null"), 180, every=1)
    m.ok("vm set v limit 24M")  # more than its balloon can give

    def swaps():
        """pages have gone to swap, and an alert says so"""
        m.run_for(1)
        return m.host()["swap-out"] > 0 and browser.js("document.querySelector('#alerts [data-alert=swapping]') !== null")

    m.wait_for(swaps, 180)
    browser.wait("document.getElementById('stream').textContent === 'live'")

    # The series are those of /metrics, and they move.
    def equal():
        """the page and /metrics have moments in common, and some behind each other in which the figures move"""
        page, taken = browser.js(FIGURES), dict(taker.taken)
        gauges, rates = compare(page, taken)
        moved = {(s, n, f): len({value for value in values if value is not None}) for s, n, f, values in page}
        return (len(taken) >= 12 and gauges > 500 and all(rates.get(key) for key in (
            ("vm", "db", "operations", True), ("vm", "v", "operations", True), ("host", "", "swap-out", True))) and
                moved["host", "", "ram.free"] > 2 and moved["vm", "v", "pages.private"] > 2 and
                moved["vm", "v", "pages.swapped"] > 1 and max(moved["vm", vm, "balloon"] for vm in ("v", "db", "w")) > 1)

    m.wait_for(equal, 60, every=1)
    taker.end.set()
    taker.join()

    # The reading at a moment is that moment's, in every chart at once; what is drawn has the colours of the keys.
    at = browser.js("""(() => { const c = rows.get("host").cells[0], g = c.graph, b = c.chart.getBoundingClientRect();
      return [b.left + g.getArea().x + g.getArea().w * 0.7, b.top + 30]; })()""")
    browser.point(*at)
    browser.wait("document.querySelector('#moment b') && document.querySelectorAll('.hair[style*=block]').length > 10")
    cells = [("host", "free")] + [(vm, cell) for vm in ("v", "db", "w") for cell in ("balloon", "memory")]
    # All at once: rows move when the next stream comes.
    row, series, read = browser.js(f"[rowAt(hover), {FIGURES}, [{', '.join(READ % cell for cell in cells)}]]")
    shown = {(s, n, f): values[row] for s, n, f, values in series}
    reads = dict(zip(cells, read))
    for vm in ("v", "db", "w"):
        assert float(reads[vm, "balloon"]["balloon"]) == shown["vm", vm, "balloon"], (vm, reads)
        assert float(reads[vm, "balloon"]["balloon-target"]) == shown["vm", vm, "balloon-target"], (vm, reads)
        states = {key: float(value) for key, value in reads[vm, "memory"].items()}
        assert sum(states.values()) == shown["vm", vm, "size"], "every page is in the stack"
        assert states["own"] == shown["vm", vm, "pages.private"] + shown["vm", vm, "pages.pinned"]
    assert float(reads["host", "free"]["free"]) == shown["host", "", "ram.free"]
    for cell, figure in (("memory", "own"), ("workload", "operations"), ("latency", "latency")):
        browser.wait(f"{PIXELS % ('db', cell, figure)} > 20")
    browser.screenshot(tmp_path / "charts.png")

    # At rest the page says what the console says.
    browser.point(2, 2)
    for vm in ("v", "db", "w"):
        m.ok(f"vm pause {vm}")
    m.ok("set share-rate 0")
    m.wait_for(lambda: int(browser.js(READ % ("v", "balloon"))["balloon"]) == m.mem("v")["ballooned"] * 4096, 60, every=1)

    # Events are marks and a list; those of the console are there.
    browser.wait("[...document.querySelectorAll('#events li')].some((li) => li.textContent.includes('hostset share-rate 0'))")
    known = browser.js("data.events.map((e) => e.object + e.text)")  # the list shows the last ones only
    assert any("hosthigh -> " in text for text in known) and any("running" in text for text in known), known
    assert not browser.problems, browser.problems
    assert all(request.startswith((url, "data:", "about:")) for request in browser.requests), browser.requests


# ---- a line that cannot be trusted ----

class Line(threading.Thread):
    """A machine as the bridge sees it: a stream each 0.2 s."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.uptime, self.extra, self.vms, self.cut = 0.0, "", ("a", "b"), False
        self.end = threading.Event()

    def text(self):
        text = f"aerostat_uptime_seconds {self.uptime:.1f}\naerostat_memory_state 3\naerostat_memory_size_bytes 1000000\n"
        for vm in self.vms:
            name = vm.replace("\\", "\\\\").replace('"', '\\"')
            text += f'aerostat_vm_memory_size_bytes{{vm="{name}"}} 8192\naerostat_vm_up{{vm="{name}"}} 1\n' \
                    f'aerostat_vm_balloon_bytes{{vm="{name}"}} 4096\naerostat_vm_pages_bytes{{vm="{name}",state="private"}} 4096\n' \
                    f'aerostat_vm_pages_bytes{{vm="{name}",state="ballooned"}} 4096\n'
        return self.extra + text + "# EOF\n"

    def run(self):
        while not self.end.is_set():
            connection, _ = self.listener.accept()
            try:
                while not self.end.wait(0.2):
                    self.uptime += 0.2
                    text = self.text().encode()
                    if self.cut:
                        connection.sendall(text[:len(text) // 2])
                        self.cut, self.uptime = False, 0.0
                        break
                    connection.sendall(text)
            except OSError:
                pass
            connection.close()


@pytest.mark.takes(25)
def test_the_page_survives_what_the_line_and_the_bridge_do(bridge, browser, tmp_path):
    line = Line(str(tmp_path / "line"))
    line.start()
    url = bridge("unix:" + str(tmp_path / "line"))
    browser.load(url)
    browser.wait("document.body.dataset.streams > 3 && document.querySelectorAll('.row').length === 3")
    browser.wait("document.getElementById('state').textContent === 'memory hard'")

    # Names, events and alerts are text, whatever they look like.
    line.vms = ("a", EVIL, "__proto__", "constructor")
    line.extra = f"# EVENT 1 0.1 critical {EVIL.replace(' ', '')} {EVIL}\n" \
        'aerostat_vm_alert_raised{vm="%s",alert="%s"} 1\n' % ((EVIL.replace('"', '\\"'),) * 2)
    browser.wait("document.querySelectorAll('.row').length >= 5 && document.querySelector('#events .level-critical') !== null")
    names = browser.js("[...document.querySelectorAll('.row .name strong')].map((s) => s.textContent)")
    assert {"host", "a", EVIL, "__proto__", "constructor"} <= set(names)
    assert browser.js(READ % ("__proto__", "balloon"))["balloon"] == "4096"
    assert EVIL in browser.js("document.getElementById('events').textContent")
    assert EVIL in browser.js("document.getElementById('alerts').textContent")
    assert browser.js("document.querySelectorAll('img, main script').length") == 0
    browser.wait("document.title === '(1) Aerostat'")

    # A cut in the middle of a stream, then a machine that has started again.
    line.extra, line.vms = "", ("a", "b")
    streams = browser.js("data.streams")
    line.cut = True
    browser.wait("[...document.querySelectorAll('#events li')].some((li) => li.textContent.includes('has restarted'))")
    browser.wait(f"data.streams > {streams} + 3 && document.getElementById('stream').textContent === 'live'")
    # Garbled streams are dropped, and said to be.
    line.extra = "aerostat_x 12a\n"
    browser.wait("data.garbled > 2")
    line.extra = ""

    # It fits any width, and both schemes.
    for width in (1280, 700, 360):
        browser.resize(width, 800)
        browser.wait(f"innerWidth === {width} && document.documentElement.scrollWidth <= innerWidth")
        time.sleep(0.5)  # and stays so
        assert browser.js("document.documentElement.scrollWidth <= innerWidth"), width
    browser.prefer("dark")
    browser.wait("getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 26)'")
    assert not browser.problems, browser.problems

    # The bridge ends: the page says so, and goes on with the next one.
    streams = browser.js("data.streams")
    bridge.stop()
    browser.wait("document.getElementById('stream').textContent === 'the bridge does not answer'")
    bridge("unix:" + str(tmp_path / "line"), port=int(url.rsplit(":", 1)[1]))
    browser.wait("document.getElementById('stream').textContent === 'live' && data.streams > 3")
    assert browser.js(READ % ("a", "balloon"))["balloon"] == "4096"
    line.end.set()
