"""A headless Chromium, spoken to over a pair of pipes (DevTools protocol): no driver, no network."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_PACKAGE = "chromium"
_DRAWN = """new Promise((done) => {
  const root = document.documentElement;
  const ready = () => root.dataset.drawn || !document.querySelector("[data-chart]");
  if (ready()) return done(true);
  new MutationObserver(() => ready() && done(true)).observe(root, { attributes: true });
})"""


class NoBrowserError(Exception):
    """There is none, and none may be installed."""


def ensure_browser() -> str:
    """Path of a Chromium, installed as root on Debian if need be."""
    if found := _find():
        return found
    wish = f"apt-get install --no-install-recommends {_PACKAGE}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoBrowserError(f"{_PACKAGE} is missing; as root: {wish}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], [*wish.split(), "--yes"]):
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoBrowserError(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")
    found = _find()
    if found is None:
        raise NoBrowserError(f"{_PACKAGE} was installed and is not on the PATH")
    return found


def _find() -> str | None:
    return next((path for name in _PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """One page in one headless browser; remembers what it asked for and what it complained of."""

    def __init__(self, program: str) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="shardline-chromium-")
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        flags = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self._home.name}"]
        flags += ["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        # As root, as in most containers, Chromium starts only without its sandbox.
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        # The protocol is spoken on descriptors 3 and 4: the shell puts the pipes there.
        plumbing = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", plumbing, program, *flags, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest, self._last_id, self._session = b"", 0, None
        self.requests: list[str] = []
        self.failures: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._write)
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        shutil.rmtree(self._home.name, ignore_errors=True)

    def open(self, page: Path, width: int, *, dark: bool = False, media: str = "") -> None:
        """Show a file as wide as this, and wait until its charts are drawn."""
        self.requests, self.failures, self.complaints = [], [], []
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.call("Page.navigate", url=page.as_uri())
        self._await("Page.loadEventFired")
        self.evaluate(_DRAWN)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        done = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def screenshot(self) -> bytes:
        """The whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(
            self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"]
        )

    def press(self, key: str) -> None:
        """A key, down and up."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a point of the viewport."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its answer."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last_id:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _await(self, event: str) -> None:
        while self._next().get("method") != event:
            pass

    def _next(self) -> dict[str, Any]:
        """The next message; what the page asked for and complained of is noted on the way."""
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        raw, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(raw)
        match message.get("method"), message.get("params"):
            case "Network.requestWillBeSent", params:
                self.requests.append(params["request"]["url"])
            case "Network.loadingFailed", params:
                self.failures.append(params["errorText"])
            case "Log.entryAdded", params:
                self.complaints.append(f"{params['entry']['level']}: {params['entry']['text']}")
            case "Runtime.consoleAPICalled", params if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(f"{params['type']}: {params['args']}")
            case "Runtime.exceptionThrown", params:
                self.complaints.append(str(params["exceptionDetails"]))
        return message
