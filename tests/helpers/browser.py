"""A headless Chromium, driven over a pipe by its DevTools protocol: no package is needed."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic", "--disable-extensions", "--hide-scrollbars"),
    "--remote-debugging-pipe",
)
TIMEOUT_S = 60.0


class Browser:
    """A page in a browser of its own; a context manager that ends it.

    Attributes
    ----------
    events
        What the browser told, by the name of the event.
    """

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        command_out, self._write = os.pipe()
        self._read, answer_in = os.pipe()
        # The browser reads its file 3 and writes its file 4.
        wanted = (command_out, answer_in)
        high = [os.dup2(file, 60 + place, inheritable=True) for place, file in enumerate(wanted)]
        script = f'exec 3<&{high[0]} 4>&{high[1]}; exec "$@"'
        command = [*("bash", "-c", script, "bash"), PROGRAM, *OPTIONS, f"--user-data-dir={profile}"]
        self._log = (profile.parent / "browser.log").open("wb")
        self._process = subprocess.Popen(
            command, pass_fds=high, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
        )
        for file in (*wanted, *high):
            os.close(file)
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self.events: dict[str, list[dict[str, Any]]] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Ask for something and wait for the answer; events meanwhile are kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + TIMEOUT_S
        while True:
            answer = self._next(end)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self._keep(answer)

    def _keep(self, answer: dict[str, Any]) -> None:
        if "method" in answer:
            self.events.setdefault(answer["method"], []).append(answer["params"])

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise ConnectionError("the browser has ended")
            self._rest += chunk
        text, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def value(self, expression: str) -> Any:
        """The value of JavaScript in the page; a promise's when it is kept."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until JavaScript in the page is true."""
        end = time.monotonic() + TIMEOUT_S
        while not self.value(expression):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.05)

    def screen(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window, and which colours the reader prefers."""
        is_phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if is_phone else 1,
            mobile=is_phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path) -> None:
        """Open a file, and wait until its scripts have run."""
        self.call("Page.navigate", url=page.as_uri())
        end = time.monotonic() + TIMEOUT_S
        while "Page.loadEventFired" not in self.events:
            self._keep(self._next(end))

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Save a screenshot of the window, or of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions."""
        console = self.events.get("Runtime.consoleAPICalled", [])
        said = [str(one["args"]) for one in console if one["type"] in ("error", "warning")]
        thrown = [str(one) for one in self.events.get("Runtime.exceptionThrown", [])]
        logged = [str(one) for one in self.events.get("Log.entryAdded", [])]
        return said + thrown + logged

    @property
    def requests(self) -> list[str]:
        """The addresses that were asked for."""
        asked = self.events.get("Network.requestWillBeSent", [])
        return [one["request"]["url"] for one in asked]

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._write)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        self._log.close()
