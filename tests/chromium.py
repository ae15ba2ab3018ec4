"""A real browser without a window, driven over Chromium's own DevTools protocol."""

import base64
import itertools
import json
import re
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from websockets.sync.client import connect

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
LISTENING = re.compile(r"DevTools listening on ws://.*?:(\d+)/")
KEY_TEXTS = {"Escape": "Escape", "Space": " "}


class Browser:
    """One page in one browser with a profile of its own; ends with the ``scope``."""

    def __init__(self, profile: Path, scope: ExitStack, width_px=1360, height_px=1100):
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", f"--window-size={width_px},{height_px}"]
        self.process = scope.enter_context(
            subprocess.Popen([*command, "about:blank"], stderr=subprocess.PIPE, text=True)
        )
        scope.callback(self.process.kill)
        port = self._debugging_port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            target = next(one for one in json.load(answer) if one["type"] == "page")
        self._socket = scope.enter_context(connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None))
        self._numbers = itertools.count(1)
        self.console = []
        self.call("Runtime.enable")
        self.call("Page.enable")

    def call(self, method, **parameters):
        """One command; its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                self.console.append(message["params"])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def open(self, url):
        self.call("Page.navigate", url=url)

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression, timeout_s=30.0):
        """Wait until an expression is true; one that cannot be evaluated yet is not."""
        tried = f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()"
        end_s = time.monotonic() + timeout_s
        while not (value := self.evaluate(tried)):
            assert time.monotonic() < end_s, f"{expression}: {self.evaluate('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def press(self, code, repeat=False):
        self._key("keyDown", code, autoRepeat=repeat)

    def release(self, code):
        self._key("keyUp", code)

    def tap(self, code):
        self.press(code)
        self.release(code)

    def click(self, css):
        place = self.evaluate(
            f"(() => {{ const b = document.querySelector({css!r}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def screenshot(self, file: Path):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _key(self, kind, code, **more):
        key = KEY_TEXTS.get(code, code.removeprefix("Key").lower())
        self.call("Input.dispatchKeyEvent", type=kind, code=code, key=key, **more)

    def _debugging_port(self):
        lines = iter(self.process.stderr.readline, "")
        port = next(
            int(found[1]) for line in lines if (found := re.search(r"DevTools listening on ws://.*?:(\d+)/", line))
        )
        threading.Thread(target=lambda: list(lines), daemon=True).start()  # or the browser would wait for its reader
        return port
