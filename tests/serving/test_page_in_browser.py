"""The operator's page in a real browser: what it says when the network, the window or the robot goes away."""

import contextlib
import time

import pytest
from chromium import CHROMIUM, Browser
from serving_fakes import EMBODIMENT, LinearPolicy

from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.config import ServeConfig
from policies.serving.line import LINE_KEY, RobotLine
from policies.serving.server import PolicyServer, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium: apt-get install chromium"),
]
TOKEN = "a-token-of-the-servers-own"
SOCKETS = """
window.sockets = [];
window.said = [];
window.cut = false;
window.WebSocket = class extends WebSocket {
  constructor(address, protocols) {
    super(window.cut ? `${address}/nowhere` : address, protocols);
    window.sockets.push(this);
  }

  send(text) {
    window.said.push([window.sockets.indexOf(this), JSON.parse(text)]);
    super.send(text);
  }
};
"""
"""Lets a test cut the page's network: what it opens meanwhile leads nowhere."""
SEEN = """
((visible) => {
  Object.defineProperty(document, "hidden", { value: !visible, configurable: true });
  Object.defineProperty(document, "visibilityState", { value: visible ? "visible" : "hidden", configurable: true });
  window.hiddenAt = said.length;
  document.dispatchEvent(new Event("visibilitychange"));
})
"""
"""Whether the page's tab is in front, as far as it can tell."""
CUT = "(() => { window.cut = true; sockets.at(-1).close(); })()"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with contextlib.ExitStack() as scope:
        browser = Browser(tmp_path_factory.mktemp("profile"), scope)
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=SOCKETS)
        yield browser


@pytest.fixture
def scope():
    with contextlib.ExitStack() as scope:
        yield scope


class Desk:
    """A server with a page in front of a browser."""

    def __init__(self, browser, scope, tmp_path):
        self.browser, self.scope = browser, scope
        self.token_file = tmp_path / "token"
        self.token_file.write_text(TOKEN, encoding="utf-8")
        self.server = None

    def serve(self, port=0):
        """Serve, until the scope that is returned closes."""
        self.server = PolicyServer(LinearPolicy(), ServeConfig(port=port, page=True, token_file=self.token_file))
        serving = self.scope.enter_context(contextlib.ExitStack())
        serving.enter_context(running(self.server))
        self.config = ClientConfig(url=f"ws://127.0.0.1:{self.server.port}", token_file=self.token_file)
        return serving

    def robot(self):
        """The line of a robot that connects, until ``leaves`` of it closes."""
        leaves = self.scope.enter_context(contextlib.ExitStack())
        client = leaves.enter_context(PolicyClient(self.config))
        line = RobotLine(self.config, client.metadata[LINE_KEY], EMBODIMENT.action_dim)
        leaves.callback(line.close)
        line.leaves = leaves
        return line

    def open(self, token=TOKEN):
        """Open the page, with the token in its address."""
        self.browser.open("about:blank")
        self.browser.open(f"http://127.0.0.1:{self.server.port}/page#token={token}")

    def until_mode(self, mode):
        self.browser.until(f"document.body.dataset.mode === '{mode}'")

    def take(self):
        """Take the robot over."""
        self.browser.until("document.body.dataset.mode !== 'none' && !document.querySelector('#take').disabled")
        self.browser.tap("KeyT")
        self.until_mode("human")

    def text(self, css):
        return self.browser.evaluate(f"document.querySelector('{css}').textContent")


@pytest.fixture
def desk(browser, scope, tmp_path):
    """A :class:`Desk` that serves, and its page, open."""
    desk = Desk(browser, scope, tmp_path)
    desk.serving = desk.serve()
    desk.open()
    return desk


def until(true, timeout_s=20.0):
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_a_page_that_connects_anew_steers_at_the_speed_that_it_shows(desk, browser):
    line = desk.robot()
    desk.until_mode("policy")
    slider = "document.querySelector('#speed')"
    browser.evaluate(f"void ({slider}.value = 10, {slider}.dispatchEvent(new Event('input')))")
    browser.evaluate("sockets.at(-1).close()")
    browser.until("sockets.length === 2 && document.querySelector('#link').dataset.state === 'on'")
    until(lambda: len(desk.server.pages.board.pages) == 1)
    desk.take()
    browser.press("KeyW")
    until(lambda: any(line.orders.axes))
    assert (line.orders.axes, desk.text("#speed-text")) == ((0.1, 0.0, 0.0), "10 %")
    browser.release("KeyW")


def test_a_page_without_its_server_goes_on_trying_and_says_stop_when_it_is_back(desk, browser):
    desk.robot()
    desk.until_mode("policy")
    desk.serving.close()
    browser.until("sockets.length >= 3 && document.querySelector('#link').dataset.state === 'off'")
    hidden = "['#desk', '#entry', '#owed'].map((css) => document.querySelector(css).hidden)"
    assert browser.evaluate(hidden) == [False, True, True]
    browser.tap("Escape")
    browser.until("!document.querySelector('#owed').hidden")
    assert desk.text("#owed").startswith("Stop is not delivered yet")
    desk.serve(desk.server.port)
    line = desk.robot()  # it has another name now
    desk.until_mode("held")
    browser.until("document.querySelector('#owed').hidden")
    until(lambda: line.orders.mode == "held")
    browser.tap("KeyG")
    until(lambda: line.orders.mode == "policy")


def test_a_stop_without_a_network_is_the_first_that_is_said_with_one(desk, browser):
    line = desk.robot()
    desk.until_mode("policy")
    browser.evaluate(CUT)
    browser.until("sockets.at(-1).readyState === WebSocket.CLOSED")
    browser.click("#stop")
    browser.until("!document.querySelector('#owed').hidden")
    assert line.orders.mode == "policy"
    browser.evaluate("void (window.cut = false)")
    desk.until_mode("held")
    (name,) = desk.server.pages.board.robots
    assert browser.evaluate("said.find(([socket]) => socket === sockets.length - 1)[1]") == {
        "robot": name,
        "type": "stop",
    }


def test_a_token_that_was_never_accepted_is_asked_for_and_an_empty_field_is_none(desk, browser):
    desk.open("another-token-that-is-wrong")
    browser.until("!document.querySelector('#entry').hidden")
    browser.click("#entry button")
    browser.until("sockets.length === 2 && !document.querySelector('#entry').hidden")
    assert browser.evaluate("sessionStorage.getItem('token')") == "another-token-that-is-wrong"
    browser.click("#token")
    browser.type(TOKEN)
    browser.click("#entry button")
    browser.until("document.querySelector('#entry').hidden && !document.querySelector('#desk').hidden")
    browser.evaluate("void (location.hash = '#token=another-token-that-is-wrong')")  # as a pasted address
    browser.until("!document.querySelector('#entry').hidden")


def test_a_page_that_is_hidden_says_so_at_once_and_steers_nothing(desk, browser):
    line = desk.robot()
    until(lambda: line.orders.attended)
    desk.take()
    pad = "[{connected: true, id: 'pad', axes: [0, -1, 0, 0], buttons: [{pressed: false}]}]"
    browser.evaluate(f"void (navigator.getGamepads = () => {pad})")
    until(lambda: line.orders.axes == (0.5, 0.0, 0.0))
    browser.evaluate(f"{SEEN}(false)")
    until(lambda: line.orders.mode == "held" and not line.orders.attended)
    kinds = "said.slice(window.hiddenAt).map(([, message]) => `${message.type} ${message.visible}`)"
    browser.until(f"{kinds}.length > 3")
    assert set(browser.evaluate(kinds)) == {"alive false"}
    browser.evaluate(f"{SEEN}(true)")
    until(lambda: line.orders.attended)
    leaving = "(() => { const n = said.length; dispatchEvent(new Event('pagehide')); return said.slice(n); })()"
    ((_, last),) = browser.evaluate(leaving)
    assert (last["type"], last["visible"]) == ("alive", False)


def test_a_robot_that_left_held_is_released_while_it_is_away(desk, browser):
    line = desk.robot()
    desk.until_mode("policy")
    browser.tap("Escape")
    desk.until_mode("held")
    line.leaves.close()
    desk.until_mode("none")
    assert desk.text("#holds li").startswith("A robot from 127.0.0.1 left while it was held")
    line = desk.robot()
    browser.until("document.querySelector('#mode-why').textContent.startsWith('It came held')")
    line.leaves.close()
    desk.until_mode("none")
    browser.click("#holds button")
    browser.until("!document.querySelector('#holds li')")
    line = desk.robot()
    desk.until_mode("policy")
    until(lambda: line.orders.mode == "policy")


def test_a_gripper_on_its_way_goes_on_while_the_robot_is_told_something(desk, browser):
    line = desk.robot()
    desk.take()
    browser.press("Space")
    until(lambda: line.orders.axes == (0.0, 0.0, 1.0))
    browser.click("#instruction")
    browser.type("and on")
    browser.click("#instruction-form button")
    until(lambda: line.orders.instruction == "and on")
    browser.press("Space", repeat=True)  # as it is still held
    browser.evaluate("void document.querySelector('#success').onclick()")
    until(lambda: line.orders.episode == "success")
    said = "said.filter(([, message]) => message.type === 'steer').map(([, message]) => message.axes[2])"
    before = browser.evaluate(f"{said}.length")
    browser.until(f"{said}.length > {before + 3}")
    assert browser.evaluate(f"new Set({said}.slice({said}.indexOf(1))).size") == 1
    browser.release("Space")
    browser.tap("Space")
    until(lambda: line.orders.axes == (0.0, 0.0, -1.0))
    browser.evaluate("dispatchEvent(new Event('blur'))")
    until(lambda: line.orders.axes == (0.0, 0.0, 0.0))
