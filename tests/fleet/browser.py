# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Chromium without a window, controlled over a pipe (its --remote-debugging-pipe: JSON messages that end with a zero byte).

It runs in its own network namespace, which has no network, and records every request of a page.
"""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import threading

from harness import process
from harness.events import Events

TIMEOUT_SEC = 60  # for a command; even a page of 2,000 nodes on a busy machine needs much less

OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
           "--disable-extensions", "--disable-background-networking", "--remote-debugging-pipe")

KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), "ArrowLeft": (37, ""), "ArrowUp": (38, ""),
        "ArrowRight": (39, ""), "ArrowDown": (40, ""), "Home": (36, ""), "End": (35, ""), "/": (191, "/")}


def pipe():
    """Returns a pipe's ends, with numbers above 4: the browser uses 3 and 4."""
    ends = os.pipe2(os.O_CLOEXEC)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in ends]
    for fd in ends:
        os.close(fd)
    return high


class Browser:
    def __init__(self, program):
        self._profile = tempfile.mkdtemp(prefix="holdfast-browser-")
        to_browser, from_us = pipe()
        from_browser, to_us = pipe()
        self._process = subprocess.Popen(
            ["unshare", "--net", "bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{to_us}', "bash", program, *OPTIONS,
             f"--user-data-dir={self._profile}"],
            pass_fds=(to_browser, to_us), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(to_us)
        self._input = os.fdopen(from_us, "wb", buffering=0)
        self._output = os.fdopen(from_browser, "rb")
        self.messages = Events("the browser's messages")
        self._last = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        rest = b""
        while data := os.read(self._output.fileno(), 1 << 20):
            *messages, rest = (rest + data).split(b"\0")
            for message in messages:
                self.messages.add(json.loads(message))
        self.messages.end()

    def send(self, method, session=None, **params):
        """Sends a command; returns its result."""
        self._last += 1
        number = self._last
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self._input.write(json.dumps(message).encode() + b"\0")
        answer = self.messages.wait(lambda m: m if m.get("id") == number else None, f"answer to {method}", TIMEOUT_SEC)
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def new_page(self, **how):
        return Page(self, **how)

    def close(self):
        self.send("Browser.close")
        self._process.wait(timeout=TIMEOUT_SEC)
        self._input.close()
        self.messages.wait_end(TIMEOUT_SEC)
        self._output.close()
        shutil.rmtree(self._profile, ignore_errors=True)
        process.assert_childless()


class Page:
    def __init__(self, browser, width=1400, height=1000, scheme="light"):
        self._browser = browser
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")
        self._send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def _send(self, method, **params):
        return self._browser.send(method, self._session, **params)

    def events(self, *methods):
        return [message for message in list(self._browser.messages.all)
                if message.get("sessionId") == self._session and message.get("method") in methods]

    def open(self, path, fragment=""):
        self._send("Page.navigate", url=f"file://{path}{fragment}")
        self._browser.messages.wait(
            lambda m: m.get("method") == "Page.loadEventFired" and m.get("sessionId") == self._session, "load", TIMEOUT_SEC)
        return self

    def eval(self, expression):
        answer = self._send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def texts(self, selector):
        """Returns the texts of the visible elements."""
        return self.eval(f"[...document.querySelectorAll({json.dumps(selector)})]"
                         ".filter((e) => e.checkVisibility()).map((e) => e.innerText)")

    def press(self, key):
        code, text = KEYS[key]
        about = {"key": key, "windowsVirtualKeyCode": code} | ({"text": text} if text else {})
        self._send("Input.dispatchKeyEvent", type="keyDown", **about)
        self._send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text):
        self._send("Input.insertText", text=text)

    def click(self, selector):
        """Clicks as a user does, at the position of the element."""
        x, y = self.eval(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView("
                         "{block: 'center'}); const r = e.getBoundingClientRect(); "
                         "return [r.x + r.width / 2, r.y + r.height / 2]; })()")
        for what in ("mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=what, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"]))

    def complaints(self):
        """Returns what the page or the browser reported: exceptions, console messages, the log (such as a violated policy)."""
        return [message["params"] for message in
                self.events("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")]

    def requests(self):
        """Returns the URLs that the page requested, except its own and those of embedded data."""
        urls = [message["params"]["request"]["url"] for message in self.events("Network.requestWillBeSent")]
        return [url for url in urls[1:] if not url.startswith("data:")]
