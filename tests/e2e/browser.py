"""A real Chromium without a window, driven over a pipe by the DevTools protocol, as far as we need it."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

# Nothing here waits longer than this, however slow the machine is.
WAIT_S_MAX = 60.0
POLL_S = 0.05
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *(
        "--headless",
        "--remote-debugging-pipe",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
    ),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-extensions",
    ),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio"),
)
# Chromium reads commands from descriptor 3 and writes to 4; this puts the ends of our pipes there.
LAUNCH = """import os, sys
for end, place in zip(sys.argv[1:3], (3, 4)):
    os.dup2(int(end), place)
os.execv(sys.argv[3], sys.argv[3:])
"""
# From here on descriptors are in nobody's way.
DESCRIPTOR_MIN = 10


def chromium() -> str | None:
    """The path of a Chromium on this machine; None where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """One process of Chromium with a profile of its own in `folder`. Get a `Tab` with `open`."""

    def __init__(self, program: str, folder: Path) -> None:
        commands_read, self._write = os.pipe()
        self._read, answers_write = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, DESCRIPTOR_MIN) for end in (commands_read, answers_write)]
        self._log = (folder / "chromium.log").open("wb")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                LAUNCH,
                *map(str, ends),
                program,
                *FLAGS,
                f"--user-data-dir={folder / 'profile'}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=ends,
            env={**os.environ, "HOME": str(folder)},
        )
        for end in (*ends, commands_read, answers_write):
            os.close(end)
        self._buffer = b""
        self._number = 0
        self._targets: list[str] = []
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """The result of one command; events that come before it are kept in `events`."""
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        os.write(self._write, orjson.dumps(command) + b"\0")
        ends_s = time.monotonic() + WAIT_S_MAX
        while True:
            message = self._next(ends_s)
            if message.get("id") == self._number:
                assert "error" not in message, (method, message)
                return message["result"]
            if "method" in message:
                self.events.append(message)

    def _next(self, ends_s: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, ends_s - time.monotonic()))
            assert ready, f"Chromium has not answered for {WAIT_S_MAX} s"
            piece = os.read(self._read, 1 << 16)
            assert piece, "Chromium has ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        document = orjson.loads(message)
        assert isinstance(document, dict)
        return document

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Tab:
        """A new tab that shows `url`; what it asked for and complained of is kept from its first byte on."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._targets.append(target)
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(f"{domain}.enable")
        tab.view(width, height, dark=dark)
        tab.call("Page.navigate", url=url)
        return tab

    def close(self) -> None:
        """End it; it has nothing to save."""
        self.process.kill()
        self.process.wait(WAIT_S_MAX)
        for end in (self._read, self._write):
            os.close(end)
        self._log.close()

    def close_tabs(self) -> None:
        """Close every tab, so that none keeps the processor busy, and forget what they told."""
        while self._targets:
            self.call("Target.closeTarget", targetId=self._targets.pop())
        self.events.clear()


class Tab:
    """One page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> Any:
        return self._browser.call(method, self._session, **parameters)

    def view(self, width: int, height: int, *, dark: bool) -> None:
        """Show the page on a screen of that size, to a person who prefers dark or light."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to, awaited; it has to be JSON."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, (expression, result["exceptionDetails"])
        return result["result"].get("value")

    def until(self, expression: str, wait_s: float = WAIT_S_MAX) -> Any:
        """Poll until `expression` comes to something true, and return that."""
        ends_s = time.monotonic() + wait_s
        while True:
            # While a page is exchanged for another there is nothing to ask.
            with contextlib.suppress(AssertionError):
                if found := self.value(expression):
                    return found
            if time.monotonic() > ends_s:
                text = self.value("document.body?.innerText")
                raise AssertionError(f"waited {wait_s} s in vain for {expression}; the page says:\n{text}")
            time.sleep(POLL_S)

    def text(self, selector: str) -> str:
        """The visible text of the first element that `selector` finds."""
        return str(self.value(f"document.querySelector({selector!r})?.innerText ?? ''"))

    def press(self, key: str, text: str = "") -> None:
        """One key, as a person presses it; `text` is what it writes."""
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            code = {"Tab": 9, "Enter": 13, "Escape": 27}.get(key, 0)
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **typed
            )

    def write(self, text: str) -> None:
        """Write into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """What is seen, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _events(self, method: str) -> Iterator[dict[str, Any]]:
        for event in self._browser.events:
            if event["method"] == method and event.get("sessionId") == self._session:
                yield event["params"]

    @property
    def requested(self) -> list[str]:
        """Every URL that the page has asked for, `data:` excepted, which asks nobody."""
        self.value("0")
        urls = (event["request"]["url"] for event in self._events("Network.requestWillBeSent"))
        return [url for url in urls if not url.startswith("data:")]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the console: of scripts, of the policy, of requests that failed."""
        self.value("0")
        found = [str(event["exceptionDetails"]) for event in self._events("Runtime.exceptionThrown")]
        found += [str(event["args"]) for event in self._events("Runtime.consoleAPICalled")]
        logged = (event["entry"] for event in self._events("Log.entryAdded"))
        return found + [f"{entry['text']} {entry.get('url', '')}" for entry in logged]


@contextmanager
def browser_in(folder: Path, program: str) -> Iterator[Browser]:
    """A browser whose files lie in `folder`, ended at the end."""
    browser = Browser(program, folder)
    try:
        yield browser
    finally:
        browser.close()
