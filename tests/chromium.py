"""A headless Chromium that is asked by its debugging protocol over two pipes: nothing to install, no port."""

import json
import os
import shutil
import subprocess
from base64 import b64decode
from contextlib import contextmanager, suppress
from fcntl import F_DUPFD, fcntl
from itertools import count
from pathlib import Path
from time import monotonic

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
PATIENCE = 120.0


class Tab:
    """One page: what it asked for, what it complained about, what it measures."""

    def __init__(self, read, write):
        self._read, self._write = read, write
        self._numbers, self._buffer, self._session = count(1), b"", None
        self.requests, self.complaints = [], []

    def open(self, file: Path):
        self._session = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")
        self.ask("Page.navigate", url=file.as_uri())
        self._until(lambda m: m.get("method") == "Page.loadEventFired")
        return self

    def ask(self, method, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda m: m.get("id") == number)
        assert "error" not in answer, answer
        return answer["result"]

    def show(self, width, *, height=900, dark=False, media="screen"):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def value(self, script):
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def pdf(self):
        return b64decode(self.ask("Page.printToPDF", printBackground=True)["data"])

    def png(self, clip=None):
        """The page as an image, whole or a part (x, y, width, height)."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        x, y, width, height = clip or (0, 0, size["width"], size["height"])
        box = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        return b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=box)["data"])

    def _until(self, wanted):
        end = monotonic() + PATIENCE
        while monotonic() < end:
            while b"\0" not in self._buffer:
                more = os.read(self._read, 1 << 20)
                assert more, "Chromium has gone"
                self._buffer += more
            line, _, self._buffer = self._buffer.partition(b"\0")
            message = json.loads(line)
            self._note(message)
            if wanted(message):
                return message
        raise AssertionError("Chromium does not answer")

    def _note(self, message):
        held = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(held["request"]["url"])
        if message.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(held)
        if message.get("method") == "Log.entryAdded" and held["entry"]["level"] in ("error", "warning"):
            self.complaints.append(held["entry"])


@contextmanager
def chromium(folder: Path):
    """A fresh browser with its profile under `folder`."""
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars"]
    command.append(f"--user-data-dir={folder / 'profile'}")

    def wire():  # descriptors 3 and 4 are what Chromium reads from and writes to; either may be in the other's place
        read, write = (fcntl(end, F_DUPFD, 10) for end in (theirs_in, theirs_out))
        os.dup2(read, 3)
        os.dup2(write, 4)

    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, pass_fds=(3, 4), preexec_fn=wire, stdout=log, stderr=log)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Tab(ours_in, ours_out)
    finally:
        with suppress(OSError):
            os.write(ours_out, b'{"id": 0, "method": "Browser.close"}\0')
        try:
            process.wait(20)  # its helpers write to the profile until they have gone
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(ours_in)
        os.close(ours_out)
