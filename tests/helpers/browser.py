"""A headless Chromium, driven by chromedriver over HTTP: the W3C WebDriver protocol, without a client library."""

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Names of both programs; where one is missing, tests that look at pages are skipped.
CHROMIUMS, DRIVER = ("chromium", "chromium-browser", "google-chrome", "chrome"), "chromedriver"
_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
# seconds until a command of a busy machine is given up
_PATIENCE = 120


def missing() -> str:
    """Return why no browser can be started; empty if one can."""
    if not any(map(shutil.which, CHROMIUMS)):
        return "no Chromium is installed, which looks at the pages"
    return "" if shutil.which(DRIVER) else "no chromedriver is installed, which drives Chromium"


class Browser:
    """An open window."""

    def __init__(self, address: str):
        self.address = address
        chromium = next(filter(None, map(shutil.which, CHROMIUMS)))
        options = {"binary": chromium, "args": list(_ARGUMENTS)}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        answer = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.address += f"/session/{answer['sessionId']}"

    def _send(self, method: str, path: str, content: Any = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.address + path, body, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            return json.load(answer)["value"]

    def close(self) -> None:
        self._send("DELETE", "")

    def open(self, page: Path | str) -> None:
        """Open a page by its file or address, and wait until all of it is there: the driver alone may return before."""
        self.run("window.isLeft = true")
        self._send("POST", "/url", {"url": page if isinstance(page, str) else page.resolve().as_uri()})
        end = time.monotonic() + _PATIENCE
        while not self.run("return !window.isLeft && performance.getEntriesByType('navigation')[0].loadEventEnd > 0"):
            assert time.monotonic() < end, f"{page} has not been loaded"
            time.sleep(0.01)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script and return what it returns, or what its promise comes to."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def press(self, keys: str) -> None:
        """Press keys where the focus is."""
        element = next(iter(self._send("GET", "/element/active").values()))
        self._send("POST", f"/element/{element}/value", {"text": keys})

    def resize(self, width: int, height: int) -> None:
        """Show the page as a screen of this size does, in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._devtools("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Ask for the `light` or `dark` colors."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._devtools("Emulation.setEmulatedMedia", {"features": features})

    def _devtools(self, command: str, values: dict[str, Any]) -> Any:
        return self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": values})

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return what came since the last time: messages of the console (`browser`), or events (`performance`)."""
        return self._send("POST", "/se/log", {"type": kind})

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the last time."""
        events = (json.loads(each["message"])["message"] for each in self.log("performance"))
        return [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]

    def screenshot(self, whole: bool = True) -> bytes:
        """Return the page as PNG."""
        shot = self._devtools("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        """Print the page."""
        return base64.b64decode(self._send("POST", "/print", {"background": True}))


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser with an empty profile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        command = [shutil.which(DRIVER), "--port=0"]
        environment = {"PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": home}
        driver = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        try:
            line = next(each for each in driver.stdout if "successfully on port" in each)
            browser = Browser(f"http://127.0.0.1:{line.split('port')[-1].strip(' .').split('.')[0].strip()}")
            try:
                yield browser
            finally:
                browser.close()
        finally:
            driver.terminate()
            driver.wait()
            driver.stdout.close()
