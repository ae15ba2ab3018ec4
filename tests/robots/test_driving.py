"""A simulated robot driven through a real server: what makes it hold, what stops it, and what is kept of it."""

import dataclasses
import errno
import signal
import threading
import time

import numpy as np
import pytest
import torch
from carts import CART, RATE_HZ, STEP_M, CartEnv, Creep
from websockets.sync.server import serve

from configs.commands import run as run_command
from policies.data.dataset import DemonstrationDataset
from policies.data.episode import ACTORS
from policies.robots.choosing import Timing
from policies.robots.commands import Commander
from policies.robots.driver import RobotError, StagedRobot
from policies.robots.driving import RobotRun
from policies.robots.simulated import SimulatedRobot
from policies.serving.connection import ClientConfig
from policies.serving.line import RobotLine
from policies.serving.orders import Orders


class Switch:
    """A dead-man's switch that somebody holds until he lets go."""

    def __init__(self):
        self.held = True

    def alive(self):
        return self.held


def moves(env):
    """In which steps the cart moved."""
    return [bool(action.abs().max() > 0) for action in env.seen]


def after(delay_s, act):
    timer = threading.Timer(delay_s, act)
    timer.daemon = True
    timer.start()


def test_a_simulated_world_goes_on_by_the_clock_and_stands_still_unless_commanded():
    robot = SimulatedRobot(CartEnv())
    assert isinstance(robot, StagedRobot)
    robot.connect()
    try:
        start = robot.observe()["observation.state"]
        time.sleep(0.5)
        assert robot.steps >= 2 and robot.held_steps == robot.steps
        np.testing.assert_array_equal(robot.observe()["observation.state"], start)
        robot.act(np.float32([STEP_M, 0]))
        time.sleep(0.5)
        np.testing.assert_allclose(
            robot.observe()["observation.state"], [start[0] + STEP_M, start[1]], atol=1e-6
        )  # once
        with pytest.raises(RobotError, match="finite"):
            robot.act(np.float32([np.nan, 0]))
    finally:
        robot.close()


def test_a_policy_drives_at_the_control_rate_and_all_is_kept(serving, bench, tmp_path):
    here = bench(serving(Creep()).port, path=tmp_path / "D")
    outcome = here.run.episode(3, "", most_steps=40)
    assert (outcome.ended_by, outcome.steps, outcome.by["policy"] >= 30) == ("time", 40, True)
    assert outcome.steps / outcome.wall_s < 1.1 * RATE_HZ  # never faster; how much slower is the machine's affair
    assert outcome.instruction.startswith("go to the")
    here.recorder.close()
    dataset = DemonstrationDataset(tmp_path / "D")
    episode = dataset.episode(outcome.recorded)
    assert (len(episode), episode.success, episode.seed, episode.instruction) == (40, False, 3, outcome.instruction)
    told = episode.actor == ACTORS.index("policy")
    assert told.sum() == outcome.by["policy"]
    np.testing.assert_allclose(episode.actions[told], [[0.1 * STEP_M, 0]] * int(told.sum()), rtol=1e-5)
    moved = np.diff(episode.state[:, 0])  # what was recorded is what happened, frame by frame
    np.testing.assert_allclose(moved.sum(), episode.actions[:-1, 0].sum(), atol=2.5 * 0.1 * STEP_M)


def test_numbers_that_are_not_finite_hold_the_robot_and_are_counted(serving, bench):
    here = bench(serving(Creep(say=[0.0, float("nan"), float("nan"), 0.0])).port)
    outcome = here.run.episode(0, "", most_steps=30)
    assert (outcome.ended_by, outcome.refused) == ("time", 2)
    assert outcome.by["held"] >= 2 and outcome.by["policy"] >= 10
    assert all(torch.isfinite(action).all() for action in here.env.seen)


def test_too_much_is_bent_to_the_bounds_by_the_server(serving, bench):
    server = serving(Creep(say=[5.0] * 20))
    here = bench(server.port)
    here.run.episode(0, "", most_steps=12)
    assert server.metrics.violations >= 2
    assert max(float(action.max()) for action in here.env.seen) == pytest.approx(STEP_M)


def test_a_server_that_ends_leaves_the_robot_held_and_then_stopped(serving, bench):
    server = serving(Creep())
    drive_until_it_is_gone(bench(server.port, timing=Timing(watchdog_s=2.0, stop_after_s=1.0)), server.stop)


@pytest.mark.slow
@pytest.mark.parametrize("page", [(), ("page",)], ids=["alone", "with a page"])
def test_a_server_that_is_killed_leaves_the_robot_held_and_then_stopped(server_process, bench, page):
    process, port = server_process(*page)
    drive_until_it_is_gone(bench(port, timing=Timing(watchdog_s=2.0, stop_after_s=1.0)), process.kill)


def drive_until_it_is_gone(here, end):
    after(1.5, end)
    outcome = here.run.episode(0, "", most_steps=10_000)
    assert outcome.ended_by == "fault" and ("gone" in outcome.why or "out of reach" in outcome.why)
    assert outcome.by["policy"] >= 1 and outcome.by["held"] >= 0.5 * RATE_HZ  # held for a second, at the rate
    moved = moves(here.env)
    last = max(step for step, moving in enumerate(moved) if moving)
    assert not any(moved[last + 1 :])
    still = here.robot.observe()["observation.state"]
    time.sleep(0.3)
    np.testing.assert_array_equal(here.robot.observe()["observation.state"], still)


def test_nobody_at_the_switch_holds_the_robot_until_he_is_back(serving, bench):
    switch = Switch()
    here = bench(serving(Creep()).port, heartbeat=switch)
    after(1.0, lambda: setattr(switch, "held", False))
    after(2.5, lambda: setattr(switch, "held", True))
    outcome = here.run.episode(0, "", most_steps=80)
    assert (outcome.ended_by, outcome.steps) == ("time", 80)
    assert outcome.by["held"] >= 10
    moved = moves(here.env)
    held = "".join("m" if moving else "." for moving in moved).strip(".")
    assert "....." in held  # it moved, stood still, and moved again


def test_a_switch_that_nobody_ever_held_keeps_the_robot_where_it_is(serving, bench):
    switch = Switch()
    switch.held = False
    policy = Creep()
    here = bench(serving(policy).port, heartbeat=switch)
    asked = len(policy.asked)
    outcome = here.run.episode(0, "", most_steps=15)
    assert outcome.by == {"policy": 0, "human": 0, "held": 15}
    assert len(policy.asked) == asked and not any(moves(here.env))


class GoesMeanwhile:
    """Somebody who is there when a step begins, and gone when the policy has answered."""

    def __init__(self):
        self.asked = 0

    def alive(self):
        self.asked += 1
        return self.asked % 2 == 1


def test_who_goes_while_the_policy_is_waited_for_holds_the_robot(serving, bench):
    here = bench(serving(Creep()).port, heartbeat=GoesMeanwhile())
    outcome = here.run.episode(0, "", most_steps=20)
    assert outcome.by == {"policy": 0, "human": 0, "held": 20} and not any(moves(here.env))


def test_an_interrupt_while_an_episode_is_kept_is_heeded_when_it_is(serving, bench, tmp_path):
    here = bench(serving(Creep()).port, path=tmp_path / "D")
    append = here.recorder._writer.append

    def interrupted(episode):
        signal.raise_signal(signal.SIGINT)
        return append(episode)

    here.recorder._writer.append = interrupted
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        outcome = here.run.episode(0, "", most_steps=12)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (outcome.ended_by, outcome.recorded, here.recorder.recorded) == ("interrupt", 0, 1)


def test_what_no_one_expects_costs_nothing_of_what_was_recorded(serving, bench, tmp_path):
    here = bench(serving(Creep()).port, path=tmp_path / "D")
    act, acted = here.robot.act, []

    def breaking(action):
        acted.append(action)
        if len(acted) > 10:
            raise OSError("the serial port is gone")
        act(action)

    here.robot.act = breaking
    with pytest.raises(OSError, match="serial port"):
        here.run.episode(0, "", most_steps=100)
    assert here.recorder.recorded == 1


def test_what_was_told_otherwise_is_kept_when_all_ends(bench, serving, tmp_path):
    """Episodes of their own, as failures, also where the rest is discarded; nothing is written while a robot waits."""
    here = bench(serving(Creep()).port, path=tmp_path / "D")
    observation = {**here.robot.observe(), "task": "go"}

    def record(*instructions):
        here.recorder.begin(instructions[0], "point", 0)
        for told in (*instructions[1:], None):
            here.recorder.add(observation, np.zeros(2, np.float32), "policy")
            if told is not None:
                here.recorder.told(told)

    record("go left", "go right")
    assert here.recorder.recorded == 0
    assert here.recorder.end(True) == 1
    record("go up", "go down")
    here.recorder.drop()
    assert here.recorder.end(True) is None
    here.recorder.close()
    episodes = [DemonstrationDataset(tmp_path / "D").episode(number) for number in range(3)]
    found = [(episode.instruction, episode.success) for episode in episodes]
    assert found == [("go left", False), ("go right", True), ("go up", False)]


def test_a_full_disk_loses_no_episode(bench, serving, tmp_path, monkeypatch, capsys):
    here = bench(serving(Creep()).port, path=tmp_path / "D")
    append, full = here.recorder._writer.append, [True, True]

    def write(episode):
        if full and full.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(episode)

    monkeypatch.setattr(here.recorder._writer, "append", write)
    outcome = here.run.episode(0, "", most_steps=6)
    assert (outcome.ended_by, outcome.recorded, here.recorder.open_frames) == ("time", None, 6)
    monkeypatch.setattr(run_command, "RETRY_S", 0.0)
    assert run_command._kept(here.run, outcome).recorded == 0
    assert "No space left on device" in capsys.readouterr().err and here.run.unkept is None
    assert len(DemonstrationDataset(tmp_path / "D").episode(0)) == 6


class Operator:
    """His end of a line, who gives the orders of each report in turn, and the last one from then on."""

    silent = False

    def __init__(self, *orders):
        self.left = list(orders)

    @property
    def orders(self):
        return self.left[0]

    def report(self, *_):
        if len(self.left) > 1:
            del self.left[0]


def acting(instruction=None):
    return Orders(mode="policy", axes=(0.0, 0.0), instruction=instruction)


def test_the_episodes_own_instruction_comes_back(bench, serving):
    policy = Creep()
    here = bench(serving(policy).port)
    operator = Operator(*[acting()] * 5, *[acting("go back")] * 20, acting())
    driven = RobotRun(here.robot, here.chooser, Commander(CART, CART, here.robot.limits), line=operator)
    outcome = driven.episode(0, "go on", most_steps=60)
    said = [text for text, before in zip(policy.asked, [None, *policy.asked], strict=False) if text != before]
    assert said[-3:] == ["go on", "go back", "go on"] and outcome.instruction == "go on"


def test_a_robot_that_is_lost_between_episodes_may_come_back(bench, serving, capsys):
    here = bench(serving(Creep()).port, timing=Timing(watchdog_s=5.0, stop_after_s=0.3))
    observe, gone = here.robot.observe, [True]

    def lost():
        if gone:
            raise RobotError("nothing is heard of it")
        return observe()

    here.robot.observe, here.robot.connect = lost, gone.clear
    start = Orders(axes=(0.0, 0.0), episode="start", episode_number=1)
    operator = Operator(acting(), start)
    driven = RobotRun(here.robot, here.chooser, Commander(CART, CART, here.robot.limits), line=operator)
    config = run_command.Config(policy="ws://127.0.0.1:1", robot="cart.toml", from_page=True, come_back_s=5.0)
    assert run_command._started(driven, here.robot, config)
    gone.append(True)
    here.robot.connect = lost
    assert not run_command._started(driven, here.robot, dataclasses.replace(config, come_back_s=0.0))
    assert "nothing is heard of it" in capsys.readouterr().err


def test_answers_that_are_always_late_stop_the_robot(bench, serving):
    class Slow(Creep):
        def predict_chunk(self, observation):
            time.sleep(0.8)
            return super().predict_chunk(observation)

    here = bench(serving(Slow()).port, timing=Timing(watchdog_s=0.4, stop_after_s=1.2))
    outcome = here.run.episode(0, "", most_steps=200)
    assert outcome.ended_by == "fault" and outcome.steps < 100 and not any(moves(here.env))


def test_a_page_that_reads_nothing_ends_the_line_and_not_the_run():
    held = threading.Event()
    noise = {"front": np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)}
    with serve(lambda _: held.wait(), "127.0.0.1", 0, max_queue=1, max_size=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = ClientConfig(url=f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        line = RobotLine(config, "cart", 2)
        telling = line._threads[1]
        began = time.monotonic()
        while telling.is_alive() and time.monotonic() - began < 20:
            line.report(noise, {}, urgent=True)
            time.sleep(0.002)
        assert not telling.is_alive(), "who tells has given up"
        began = time.monotonic()
        line.close()
        assert time.monotonic() - began < 15
        held.set()


def test_a_robot_that_breaks_down_ends_the_run(serving, bench):
    here = bench(serving(Creep()).port, timing=Timing(watchdog_s=5.0, stop_after_s=0.5))
    here.env.step = lambda actions: 1 / 0
    outcome = here.run.episode(0, "", most_steps=1000)
    assert outcome.ended_by == "fault" and "broke down" in outcome.why


def test_an_interrupt_stops_the_robot_and_keeps_what_was_done(serving, bench, tmp_path):
    here = bench(serving(Creep()).port, path=tmp_path / "D")
    here.chooser.choose = _interrupted(here.chooser.choose, after_steps=12)
    outcome = here.run.episode(0, "", most_steps=1000)
    assert (outcome.ended_by, outcome.recorded) == ("interrupt", 0)
    assert here.recorder.recorded == 1
    steps = len([moving for moving in moves(here.env) if moving])
    time.sleep(0.3)
    assert len([moving for moving in moves(here.env) if moving]) == steps


def _interrupted(choose, after_steps):
    asked = []

    def interrupting(*args):
        asked.append(1)
        if len(asked) > after_steps:
            raise KeyboardInterrupt
        return choose(*args)

    return interrupting
