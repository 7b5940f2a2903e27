#!/usr/bin/env python3
"""Serves what Aerostat streams on its second serial port over HTTP: a page of live charts, and metrics for Prometheus.

  bridge.py /dev/ttyUSB0                    a null-modem cable
  bridge.py unix:/tmp/com2.sock             QEMU: -serial unix:/tmp/com2.sock,server=on,wait=off
  bridge.py tcp:HOST:PORT                   serial over LAN

The page is at http://127.0.0.1:9188/. It shows what has come in since the bridge was started, at most --keep streams; its
chart library is Debian's libjs-dygraphs, and it fetches nothing from elsewhere.

`/metrics` is the last stream that came in whole; without one, or with one older than --max-age, the answer is 503, so that
Prometheus sees the target as down. The stream is switched on by `metrics-interval = 5` in [host] of aerostat.ini, or by
`set metrics-interval 5` on the console.
"""
import argparse
import http.server
import json
import os
import secrets
import socket
import sys
import termios
import threading
import time
import tty
import urllib.parse

import samples

END = b"# EOF"
STREAM_MAX = 16 << 20  # bytes without an end: not ours
KEEP_MAX = 100000
SPAN_MAX, POINTS_MAX = 10 * 86400, 2000
CLIENT_SECONDS = 20  # a client that takes longer to ask or to read is let go

CHARTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "charts")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
PAGE_FILES = {"/": "charts.html", "/charts.css": "charts.css", "/charts.js": "charts.js", "/cells.js": "cells.js"}
LIBRARY_FILES = ("dygraph.min.js", "dygraph.min.css")
# Nothing but our own files runs or is fetched, whatever a name in the stream looks like.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; " \
         "form-action 'none'; frame-ancestors 'none'"


class Latest:
    """The last whole stream, and what the streams were."""

    def __init__(self, history=None):
        self.lock = threading.Lock()
        self.history = history
        self.text, self.time, self.streams, self.garbled = b"", 0.0, 0, 0
        self.line_error = None  # why the line is not open
        self.wall = time.time() - time.monotonic()  # times go on evenly, whatever is done to the clock

    def put(self, text):
        try:
            found, events = samples.parse(text.decode("utf-8", "replace"))
        except samples.Garbled:
            with self.lock:
                self.garbled += 1
            return
        now = time.monotonic()
        if self.history:
            self.history.add(self.wall + now, found, events)
        with self.lock:
            self.text, self.time, self.streams = text, now, self.streams + 1

    def get(self, max_age):
        with self.lock:
            fresh = self.streams and time.monotonic() - self.time <= max_age
            return self.text if fresh else None

    def status(self):
        with self.lock:
            return {"age": round(time.monotonic() - self.time, 3) if self.streams else None, "garbled": self.garbled,
                    "now": round(self.wall + time.monotonic(), 3), "line": self.line_error}


class Splitter:
    """Cuts the bytes of the line into streams. What came in before the first end is a part, and dropped."""

    def __init__(self, put):
        self.put = put
        self.restart()

    def restart(self):
        """The line was opened again: what comes next does not belong to what came last."""
        self.lines, self.size, self.whole, self.rest = [], 0, False, b""

    def feed(self, data):
        *lines, self.rest = (self.rest + data.replace(b"\r", b"")).split(b"\n")
        for line in lines:
            self.line(line)
        if len(self.rest) > samples.LINE_MAX * 4:  # not ours; the stream it stands in is none
            self.rest, self.whole = b"", False

    def line(self, line):
        self.lines.append(line)
        self.size += len(line) + 1
        if line == END or self.size > STREAM_MAX:
            if line == END and self.whole:
                self.put(b"\n".join(self.lines) + b"\n")
            self.whole = line == END
            self.lines, self.size = [], 0


def open_source(name):
    """A function that reads some bytes; b"" at the end."""
    if name.startswith("unix:"):
        line = socket.socket(socket.AF_UNIX)
        line.connect(name[5:])
        return lambda: line.recv(65536)
    if name.startswith("tcp:"):
        host, port = name[4:].rsplit(":", 1)
        line = socket.create_connection((host, int(port)))
        line.settimeout(None)
        return lambda: line.recv(65536)
    handle = os.open(name, os.O_RDONLY | os.O_NOCTTY)
    if os.isatty(handle):
        tty.setraw(handle)
        settings = termios.tcgetattr(handle)
        settings[4] = settings[5] = termios.B115200
        termios.tcsetattr(handle, termios.TCSANOW, settings)
    line = os.fdopen(handle, "rb", buffering=0)
    return lambda: line.read(65536)


def read_forever(name, splitter, latest):
    """Reads the line, opening it again when it ends."""
    told = None
    while True:
        try:
            read = open_source(name)
            splitter.restart()
            told = latest.line_error = None
            while data := read():
                splitter.feed(data)
            raise OSError("the line has ended")
        except OSError as error:
            latest.line_error = error.strerror or str(error)
            if str(error) != told:
                told = str(error)
                print(f"bridge: {name}: {error}", file=sys.stderr, flush=True)
            time.sleep(1)


def number(query, key, default, low, high):
    """A number of the query; ValueError if it is none."""
    value = int(query.get(key, [default])[0])
    return max(low, min(high, value))


class Answers:
    """What there is to get: path -> (content type, body), or None."""

    def __init__(self, latest, max_age, library):
        self.latest, self.max_age = latest, max_age
        self.instance = secrets.token_hex(8)  # a page sees that it talks to another bridge than before
        self.files = {path: os.path.join(CHARTS, name) for path, name in PAGE_FILES.items()}
        self.files.update({"/" + name: os.path.join(library, name) for name in LIBRARY_FILES})

    def missing(self):
        return [path for path in self.files.values() if not os.path.isfile(path)]

    def file(self, path):
        with open(self.files[path], "rb") as content:
            return TYPES[os.path.splitext(self.files[path])[1]], content.read()

    def look(self, query):
        found = self.latest.history.look(number(query, "span", 600, 1, SPAN_MAX), number(query, "points", 600, 2, POINTS_MAX),
                                         number(query, "stride", 0, 0, KEEP_MAX), number(query, "from", 0, 0, 1 << 60),
                                         number(query, "after", 0, 0, 1 << 60))
        found.update(self.latest.status(), instance=self.instance)
        return "application/json", json.dumps(found, separators=(",", ":"), allow_nan=False).encode()


def make_handler(answers):
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS
        server_version, sys_version = "Aerostat-bridge", ""

        def do_GET(self):  # pylint: disable=invalid-name
            path, _, query = self.path.partition("?")
            try:
                if path == "/metrics":
                    text = answers.latest.get(answers.max_age)
                    if text is None:
                        self.send_error(503, "no stream yet, or the last one is too old")
                        return
                    self.answer("text/plain; version=0.0.4; charset=utf-8", text)
                elif path == "/history.json":
                    self.answer(*answers.look(urllib.parse.parse_qs(query, max_num_fields=8)))
                elif path in answers.files:
                    self.answer(*answers.file(path))
                else:
                    self.send_error(404)
            except ValueError:
                self.send_error(400)
            except FileNotFoundError:
                self.send_error(404)

        def answer(self, kind, body):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):  # pylint: disable=redefined-builtin
            pass

    return Handler


class Server(http.server.ThreadingHTTPServer):
    """A client that goes away is nothing to tell."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a serial device, unix:PATH or tcp:HOST:PORT")
    parser.add_argument("--listen", default="127.0.0.1", help="address, default 127.0.0.1")
    parser.add_argument("--port", type=int, default=9188, help="0: any, which is printed")
    parser.add_argument("--max-age", type=float, default=60, help="seconds, default 60")
    parser.add_argument("--keep", type=int, default=7200, help="streams kept for the charts, default 7200: 10 hours of one in 5 s")
    parser.add_argument("--library", default="/usr/share/javascript/dygraphs", help="where dygraphs is, default %(default)s")
    args = parser.parse_args()
    if not 10 <= args.keep <= KEEP_MAX:
        parser.error(f"--keep: expected 10 to {KEEP_MAX}")
    latest = Latest(samples.History(args.keep))
    answers = Answers(latest, args.max_age, args.library)
    for path in answers.missing():
        print(f"bridge: {path} is missing: no charts (Debian: libjs-dygraphs)", file=sys.stderr, flush=True)
    threading.Thread(target=read_forever, args=(args.source, Splitter(latest.put), latest), daemon=True).start()
    try:
        server = Server((args.listen, args.port), make_handler(answers))
    except OSError as error:
        sys.exit(f"bridge: {args.listen}:{args.port}: {error.strerror or error}")
    address = f"http://{args.listen}:{server.server_address[1]}"
    print(f"bridge: {address}/metrics\nbridge: charts at {address}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
