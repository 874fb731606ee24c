"""Chromium over its DevTools protocol: opens one page at a width, light or dark, and answers questions about it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
REQUIRED = "TEST_CHROMIUM"  # set: a missing browser is a failure, not a reason to skip
START_S, ANSWER_S = 60.0, 60.0


def find_chromium() -> str | None:
    """The browser's path: on PATH, or as playwright has installed it."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache" / "ms-playwright"))
    return next((str(path) for path in sorted(cache.glob("chromium-*/chrome-linux*/chrome"))), None)


class Tab:
    """One tab. `troubles` collects what the console and the browser's log said, and what was asked of a network."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.sent, self.troubles, self.requested = socket, 0, [], []
        for domain in ("Page", "Runtime", "Log", "Network", "Security"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command; what happens meanwhile is noted."""
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.sent:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.note(message)

    def wait(self, event: str) -> None:
        """Until an event comes."""
        while True:
            message = json.loads(self.socket.recv())
            self.note(message)
            if message.get("method") == event:
                return

    def note(self, message: dict[str, Any]) -> None:
        """Console messages, log entries, exceptions and requests."""
        method, params = message.get("method"), message.get("params", {})
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.troubles.append(json.dumps(params)[:500])
        elif method == "Log.entryAdded":
            self.troubles.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])

    def open(self, path: Path, width: int, height: int, *, dark: bool) -> None:
        """Load a file at a width in CSS pixels, in a colour scheme, as a phone where it is narrow."""
        self.troubles.clear()
        self.requested.clear()
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=path.resolve().as_uri())
        self.wait("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression. The page runs no script of its own; DevTools may."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def screenshot(self, path: Path) -> bytes:
        """A PNG of the whole page, also written to `path`."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        data = base64.b64decode(shot["data"])
        path.write_bytes(data)
        return data

    def pdf(self) -> bytes:
        """The page as it would be printed, on the paper that its sheet asks for."""
        return base64.b64decode(self.ask("Page.printToPDF", preferCSSPageSize=True)["data"])


@contextlib.contextmanager
def chromium(program: str, folder: Path) -> Iterator[Tab]:
    """A headless browser with its profile in `folder`, ended afterwards."""
    import websocket

    arguments = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    arguments += ["--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={folder}"]
    arguments += ["--no-first-run", "--disable-extensions", "--disable-component-update", "--hide-scrollbars"]
    arguments += ["--disable-background-networking", "--enable-logging=stderr", "about:blank"]
    with (folder / "stderr").open("wb") as log:
        browser = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=log)
        try:
            port = _port(folder / "DevToolsActivePort", browser, folder / "stderr")
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=ANSWER_S) as answer:
                page = next(tab for tab in json.load(answer) if tab["type"] == "page")
            socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=ANSWER_S)
            try:
                yield Tab(socket)
            finally:
                socket.close()
        finally:
            browser.terminate()
            try:
                browser.wait(10)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()


def _port(file: Path, browser: subprocess.Popen[bytes], log: Path) -> int:
    """The port that the browser says it listens on."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert browser.poll() is None, f"chromium ended at once: {log.read_text(errors='replace')[-2000:]}"
        if file.exists() and file.read_text().count("\n") >= 1:
            return int(file.read_text().splitlines()[0])
        time.sleep(0.05)
    raise AssertionError(f"chromium did not start: {log.read_text(errors='replace')[-2000:]}")
