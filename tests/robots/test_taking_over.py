"""A person in a real browser takes a robot over, corrects it, gives it back; it lands in a store with who acted."""

import contextlib
import itertools
import threading
import time

import numpy as np
import pytest
from carts import RATE_HZ, STEP_M, Creep
from chromium import CHROMIUM, Browser

from policies.data.dataset import DemonstrationDataset
from policies.data.episode import ACTORS
from policies.robots.choosing import RunStoppedError, Timing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium: apt-get install chromium"),
]
POLICY, HUMAN, HELD = range(len(ACTORS))


@pytest.fixture
def browser(tmp_path):
    with contextlib.ExitStack() as scope:
        yield Browser(tmp_path / "profile", scope)


@pytest.fixture
def driving(serving, bench, tmp_path):
    """A robot under way in a thread, its server, and the outcomes of its episodes."""
    policy = Creep()
    server = serving(policy, page=True)
    here = bench(server.port, path=tmp_path / "D", timing=Timing(watchdog_s=5.0, stop_after_s=3.0))
    here.policy, here.outcomes = policy, []
    here.url = server.pages.url("127.0.0.1", server.port)

    def drive():
        with contextlib.suppress(RunStoppedError):
            for seed in range(2):
                here.run.wait_for_start("")
                here.outcomes.append(here.run.episode(seed, "", most_steps=int(120 * RATE_HZ)))

    here.thread = threading.Thread(target=drive, daemon=True)
    here.thread.start()
    yield here
    here.line.close()  # nothing else ends a run whose operator is gone
    here.thread.join(timeout=30)
    assert not here.thread.is_alive()


def x_of(here):
    return float(here.robot.observe()["observation.state"][0])


def until(true, timeout_s=20.0):
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def runs(actors):
    """Who acted, one after the other, without those who acted for a moment."""
    changes = [0, *(np.flatnonzero(np.diff(actors)) + 1), len(actors)]
    spans = [(int(actors[a]), b - a) for a, b in itertools.pairwise(changes)]
    return [who for who, length in spans if length > 1]


def test_a_whole_correction(driving, browser, tmp_path):
    browser.open(driving.url)
    browser.until("document.body.dataset.mode === 'policy'")
    assert browser.evaluate("location.hash") == ""  # the token is not left in the address
    browser.until("!document.querySelector('#start').disabled")
    browser.click("#start")
    browser.until("document.querySelector('#mode-why').textContent === '' && document.body.dataset.mode === 'policy'")
    start = x_of(driving)
    until(lambda: x_of(driving) > start + 0.005)  # the policy goes right
    browser.until("document.querySelector('.curve path.policy').getAttribute('d').length > 20")
    drawn = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 16, 16).data"
    assert browser.evaluate(f"new Set({drawn}).size") > 3  # a picture, not a blank

    browser.tap("KeyT")
    browser.until("document.body.dataset.mode === 'human'")
    assert browser.evaluate("document.querySelector('#mode-name').textContent") == "You steer"
    before = x_of(driving)
    time.sleep(0.5)
    assert x_of(driving) == before  # hands off the keys: it stays
    browser.press("KeyS")
    until(lambda: x_of(driving) < before - 0.1)  # to the left, faster than the policy
    browser.release("KeyS")
    browser.press("KeyA")
    time.sleep(0.3)
    browser.release("KeyA")
    pad = "[{connected: true, id: 'pad', axes: [0, -1, 0, 0], buttons: [{pressed: false}]}]"
    steered = x_of(driving)
    browser.evaluate(f"void (navigator.getGamepads = () => {pad})")
    until(lambda: x_of(driving) > steered + 0.05)  # a stick pushed forward
    browser.evaluate("void (navigator.getGamepads = () => [])")
    time.sleep(0.3)
    turned = x_of(driving)

    browser.tap("KeyG")
    browser.until("document.body.dataset.mode === 'policy'")
    until(lambda: x_of(driving) > turned + 0.005)
    browser.tap("Escape")
    browser.until("document.body.dataset.mode === 'held'")
    time.sleep(0.3)
    held = x_of(driving)
    time.sleep(0.5)
    assert x_of(driving) == held
    browser.click("#success")
    until(lambda: driving.outcomes)
    outcome = driving.outcomes[0]
    assert (outcome.ended_by, outcome.success, outcome.recorded) == ("operator", True, 0)

    browser.click("#release")
    browser.until("!document.querySelector('#start').disabled")
    browser.click("#start")
    browser.until("/^Episode 2, step .* 1 recorded before/.test(document.querySelector('#record').textContent)")
    browser.click("#instruction")
    browser.evaluate("document.querySelector('#instruction').value = ''")
    browser.type("go to the blue dot")
    browser.click("#instruction-form button")
    until(lambda: "go to the blue dot" in driving.policy.asked)
    browser.click("#discard")
    until(lambda: len(driving.outcomes) == 2)
    assert (driving.outcomes[1].recorded, driving.outcomes[1].success) == (None, None)
    assert not browser.console

    driving.recorder.close()
    dataset = DemonstrationDataset(tmp_path / "D")
    episode = dataset.episode(0)
    assert runs(episode.actor)[:1] == [POLICY] and runs(episode.actor)[-1:] == [HELD]
    order = [who for who in runs(episode.actor) if who != HELD]
    assert order == [POLICY, HUMAN, POLICY]
    human, policy = episode.actor == HUMAN, episode.actor == POLICY
    assert episode.actions[human, 0].min() == pytest.approx(-0.5 * STEP_M)  # half speed, as the page begins with
    assert episode.actions[human, 1].max() == pytest.approx(0.5 * STEP_M)
    np.testing.assert_allclose(episode.actions[policy], [[0.1 * STEP_M, 0]] * int(policy.sum()), rtol=1e-5)
    np.testing.assert_array_equal(episode.actions[episode.actor == HELD], 0)
    moved, told = np.diff(episode.state, axis=0).sum(0), episode.actions[:-1].sum(0)
    np.testing.assert_allclose(moved, told, atol=2.5 * STEP_M)


def test_a_page_that_is_killed_in_mid_take_over_leaves_the_robot_held(driving, browser):
    browser.open(driving.url)
    browser.until("document.body.dataset.mode === 'policy'")
    browser.until("!document.querySelector('#start').disabled")
    browser.click("#start")
    browser.until("!document.querySelector('#take').disabled")
    browser.tap("KeyT")
    browser.until("document.body.dataset.mode === 'human'")
    browser.press("KeyS")
    before = x_of(driving)
    until(lambda: x_of(driving) < before - 0.05)
    browser.process.kill()
    until(lambda: driving.line.orders.mode == "held")
    time.sleep(0.3)
    held = x_of(driving)
    time.sleep(0.5)
    assert x_of(driving) == held
