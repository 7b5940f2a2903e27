#!/usr/bin/env python3
"""Serves the metrics that Aerostat streams on its second serial port to Prometheus, over HTTP.

  bridge.py /dev/ttyUSB0                    a null-modem cable
  bridge.py unix:/tmp/com2.sock             QEMU: -serial unix:/tmp/com2.sock,server=on,wait=off
  bridge.py tcp:HOST:PORT                   serial over LAN

`/metrics` is the last stream that came in whole; without one, or with one older than --max-age, the answer is 503, so that
Prometheus sees the target as down. The stream is switched on by `metrics-interval = 5` in [host] of aerostat.ini, or by
`set metrics-interval 5` on the console.
"""
import argparse
import http.server
import os
import socket
import sys
import termios
import threading
import time
import tty

END = b"# EOF"
STREAM_MAX = 16 << 20  # bytes without an end: not ours


class Latest:
    """The last whole stream."""

    def __init__(self):
        self.lock = threading.Lock()
        self.text, self.time, self.streams = b"", 0.0, 0

    def put(self, text):
        with self.lock:
            self.text, self.time, self.streams = text, time.monotonic(), self.streams + 1

    def get(self, max_age):
        with self.lock:
            fresh = self.streams and time.monotonic() - self.time <= max_age
            return self.text if fresh else None


class Splitter:
    """Cuts the bytes of the line into streams. What came in before the first end is a part, and dropped."""

    def __init__(self, put):
        self.put, self.lines, self.size, self.whole, self.rest = put, [], 0, False, b""

    def feed(self, data):
        *lines, self.rest = (self.rest + data.replace(b"\r", b"")).split(b"\n")
        for line in lines:
            self.line(line)

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
    return lambda: os.read(handle, 65536)


def read_forever(name, splitter):
    """Reads the line, opening it again when it ends."""
    told = None
    while True:
        try:
            read = open_source(name)
            told = None
            while data := read():
                splitter.feed(data)
            raise OSError("the line has ended")
        except OSError as error:
            if str(error) != told:
                told = str(error)
                print(f"bridge: {name}: {error}", file=sys.stderr, flush=True)
            time.sleep(1)


def make_handler(latest, max_age):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # pylint: disable=invalid-name
            if self.path != "/metrics":
                self.send_error(404)
                return
            text = latest.get(max_age)
            if text is None:
                self.send_error(503, "no stream yet, or the last one is too old")
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format, *args):  # pylint: disable=redefined-builtin
            pass

    return Handler


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a serial device, unix:PATH or tcp:HOST:PORT")
    parser.add_argument("--listen", default="127.0.0.1", help="address, default 127.0.0.1")
    parser.add_argument("--port", type=int, default=9188, help="0: any, which is printed")
    parser.add_argument("--max-age", type=float, default=60, help="seconds, default 60")
    args = parser.parse_args()
    latest = Latest()
    threading.Thread(target=read_forever, args=(args.source, Splitter(latest.put)), daemon=True).start()
    server = http.server.ThreadingHTTPServer((args.listen, args.port), make_handler(latest, args.max_age))
    print(f"bridge: http://{args.listen}:{server.server_address[1]}/metrics", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
