"""A headless Chromium, driven by its DevTools protocol over two pipes: pages are loaded, pointed at, and asked for what is in them."""
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

BINARY = "chromium-headless-shell"
ANSWER_SECONDS = 300  # a hang detector


class Browser:
    """One page. problems: errors and warnings of its console, exceptions, what its policy has refused."""

    def __init__(self, width=1280, height=800):
        self.folder = tempfile.mkdtemp(prefix="browser")
        their_in, self.out = self._pipe()
        self.in_, their_out = self._pipe()
        # The protocol is on descriptors 3 and 4.
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{their_in} 4>&{their_out}', "browser", BINARY, "--headless", "--no-sandbox", "--disable-gpu",
             "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={self.folder}", "about:blank"],
            pass_fds=(their_in, their_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(their_in)
        os.close(their_out)
        self.rest, self.number, self.session, self.loads, self.problems, self.requests = b"", 0, None, 0, [], []
        target = self.call("Target.createTarget", url="about:blank", width=width, height=height)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        self.resize(width, height)

    @staticmethod
    def _pipe():
        """Both ends above what the shell uses for itself."""
        ends = []
        for end in os.pipe():
            ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20))
            os.close(end)
        return ends

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.in_)
        os.close(self.out)
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- the protocol ----

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + ANSWER_SECONDS
        while True:
            answer = self._message(end)
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self._note(answer)

    def _message(self, end):
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.in_], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self.in_, 1 << 20)
            assert data, "the browser has ended"
            self.rest += data
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def _note(self, event):
        method, params = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self.loads += 1
        elif method == "Runtime.exceptionThrown" or method == "Page.javascriptDialogOpening":
            self.problems.append(params)
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(params)
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params)
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    # ---- what a user does and sees ----

    def load(self, url):
        before = self.loads
        self.call("Page.navigate", url=url)
        end = time.monotonic() + ANSWER_SECONDS
        while self.loads == before:
            self._note(self._message(end))

    def resize(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def point(self, x, y):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def js(self, expression):
        """The value of an expression in the page."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, (expression, done["exceptionDetails"])
        return done["result"].get("value")

    def wait(self, expression, timeout=ANSWER_SECONDS):
        """Until the expression is true; its value."""
        end = time.monotonic() + timeout
        while True:
            value = self.js(expression)
            if value:
                return value
            assert time.monotonic() < end, f"still not so after {timeout} s: {expression}; problems: {self.problems}"
            time.sleep(0.2)

    def screenshot(self, path):
        with open(path, "wb") as out:
            out.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
