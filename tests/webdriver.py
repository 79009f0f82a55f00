# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A headless Chromium to look at pages with, spoken to in W3C WebDriver over loopback.

Debian has it in the packages ``chromium`` and ``chromium-driver``.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["Browser", "browser", "why_no_browser"]

# For one script or page.
_SECONDS = 120
_ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def why_no_browser() -> str | None:
    """A reason to skip, or ``None``."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if not missing:
        return None
    return f"{' and '.join(missing)} not installed (apt-get install chromium chromium-driver)"


class Browser:
    """A session of a browser."""

    def __init__(self, port: int, driver: int) -> None:
        self._driver = driver
        self._root = f"http://127.0.0.1:{port}/session"
        options = {"binary": shutil.which("chromium"), "args": list(_ARGUMENTS)}
        capabilities = {
            "alwaysMatch": {
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
        }
        session = self._send("POST", "", {"capabilities": capabilities})
        self._root += f"/{session['sessionId']}"
        self._send("POST", "/timeouts", {"script": 1000 * _SECONDS})

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self._root + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        # Not through a proxy, whatever the environment says.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_SECONDS + 10) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path | str, width: int, height: int) -> None:
        """Open a file, or an address."""
        url = page if isinstance(page, str) else page.as_uri()
        self._send("POST", "/window/rect", {"width": width, "height": height})
        self._send("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a script returns, or the promise that it returns holds in the end."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def screenshot(self) -> Image.Image:
        data = base64.b64decode(self._send("GET", "/screenshot"))
        return Image.open(io.BytesIO(data)).convert("RGB")

    def complaints(self) -> list[str]:
        """What the page caused in the browser's console."""
        return [entry["message"] for entry in self._send("POST", "/se/log", {"type": "browser"})]

    def peak_memory(self) -> int:
        """Most bytes that the process of a page has held, of those that this browser started."""
        peaks = []
        for process in _descendants(self._driver):
            text = (process / "status").read_text()
            if "--type=renderer" in (process / "cmdline").read_text().replace("\0", " "):
                peaks.append(1024 * int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]))
        return max(peaks)

    def close(self) -> None:
        self._send("DELETE", "")


def _descendants(pid: int) -> list[Path]:
    """Folders in /proc of all processes that a process has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [Path("/proc") / child, *_descendants(int(child))]
    return found


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser that is ended afterwards."""
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        for line in driver.stdout:
            started = re.search(r"started successfully on port (\d+)", line)
            if started:
                break
        session = Browser(int(started[1]), driver.pid)
        try:
            yield session
        finally:
            session.close()
    finally:
        driver.terminate()
        driver.wait()
        driver.stdout.close()
