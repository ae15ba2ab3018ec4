"""Corrections by hand, through the page's own socket, make a weak policy better: DAgger in small, three seeds."""

import base64
import contextlib
import dataclasses
import json
import threading
import time

import pytest
import torch
from demonstrations import tiny_network, tiny_training
from point_mass import SPEED_M, PointMassEnv
from websockets.sync.client import connect

from policies.collect import ExecutionNoise, collect
from policies.data.corrections import copy_corrections
from policies.data.dataset import DemonstrationDataset
from policies.evaluation import evaluate
from policies.expert import ExpertPolicy
from policies.imitation.stages import Stage
from policies.imitation.trainer import train
from policies.robots.choosing import Chooser, Timing
from policies.robots.commands import Commander
from policies.robots.driving import RobotRun
from policies.robots.heartbeat import NobodyAsked
from policies.robots.recorder import RunRecorder
from policies.robots.simulated import SimulatedRobot
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.config import ServeConfig
from policies.serving.line import LINE_KEY, RobotLine
from policies.serving.server import PolicyServer, running
from policies.vla_policy import VLAPolicy

SEEDS = (0, 1, 2)
DEMONSTRATIONS, CORRECTED, EVALUATED = 6, 30, 100
LEFT_ALONE = 8
"""Steps that the policy goes alone before it is taken over."""
EPISODE_STEPS = 45
SLOWER = 3.0


class DotEnv(PointMassEnv):
    """The dots, at 20 Hz, with actions that are changes, small enough for episodes of a second."""

    def __init__(self, num_envs, stream):
        super().__init__(num_envs, EPISODE_STEPS, stream=stream)
        action = tuple(dataclasses.replace(dim, relative=True) for dim in self.embodiment.action)
        self.embodiment = dataclasses.replace(self.embodiment, action=action, control_rate_hz=20.0)

    def step_chunk(self, actions):
        return super().step_chunk(actions / SLOWER)

    def expert_action(self):
        return (SLOWER * (self._target() - self.position) / SPEED_M).clamp(-1, 1)


class Pilot:
    """Takes the robot over in every episode once it has gone astray for a while, and steers as the expert would."""

    def __init__(self, server, env):
        word = base64.urlsafe_b64encode(server.pages.token.encode()).decode().rstrip("=")
        origin = f"http://127.0.0.1:{server.port}"
        address = f"ws://127.0.0.1:{server.port}/page/socket"
        self._page = connect(address, origin=origin, subprotocols=["vla-page", f"token.{word}"], proxy=None)
        self._env = env
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self._page.__enter__()
        self._thread.start()

    def __exit__(self, *error):
        self._done.set()
        self._thread.join()
        self._page.__exit__(*error)

    def _work(self):
        robot = {"mode": "policy", "report": {}}
        while not self._done.wait(0.02):
            with contextlib.suppress(TimeoutError):
                while True:
                    frame = self._page.recv(timeout=0.001)
                    if isinstance(frame, str) and (state := json.loads(frame))["type"] == "state":
                        (robot,) = state["robots"].values()
            astray = robot["report"].get("step", 0) >= LEFT_ALONE
            if astray and robot["mode"] == "policy":
                self._say("take", robot)
            elif robot["mode"] == "human" and astray:
                self._say("steer", robot, axes=self._env.expert_action()[0].tolist())
            elif robot["mode"] != "policy":
                self._say("release", robot)

    def _say(self, kind, robot, **more):
        self._page.send(json.dumps({"type": kind, "robot": robot["name"], **more}))


def taught(folder, stores, seed):
    config = tiny_training(
        steps=400, stages=(Stage(),), batch_size=32, lr=3e-3, save_every=400, log_every=200, seed=seed
    )
    train(folder, config, tiny_network(), stores, show_progress=False)
    return VLAPolicy.load(folder)


def success(policy):
    result = evaluate(DotEnv(50, "evaluate"), policy, range(EVALUATED), show_progress=False)
    return result.success.value


def corrected_by_hand(policy, path, seed):
    """Episodes that the policy begins and a pilot ends; their corrections as a store, and how many frames those are."""
    with contextlib.ExitStack() as scope:
        server = PolicyServer(policy, ServeConfig(port=0, page=True))
        port = scope.enter_context(running(server))
        client = scope.enter_context(PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")))
        env = DotEnv(1, "learn")
        robot = SimulatedRobot(env)
        robot.connect()
        scope.callback(robot.close)
        line = RobotLine(client.config, client.metadata[LINE_KEY], 2)
        scope.callback(line.close)
        recorder = RunRecorder(path / "run", client.embodiment, {}, True)
        scope.callback(recorder.close)
        chooser = Chooser(client, Timing(watchdog_s=5.0, stop_after_s=10.0), NobodyAsked(), line)
        run = RobotRun(
            robot, chooser, Commander(client.embodiment, robot.embodiment, robot.limits), line=line, recorder=recorder
        )
        scope.enter_context(Pilot(server, env))
        for number in range(CORRECTED):
            outcome = run.episode(1000 * seed + number, "", most_steps=20 * EPISODE_STEPS)
            assert outcome.ended_by == "task", outcome
            time.sleep(0.3)  # for the pilot to let go
    return copy_corrections(DemonstrationDataset(path / "run"), path / "corrections")


@pytest.mark.slow
def test_corrections_make_a_weak_policy_better(tmp_path):
    torch.set_num_threads(1)
    found = []
    for seed in SEEDS:
        path = tmp_path / str(seed)
        env = DotEnv(DEMONSTRATIONS, "demonstrate")
        seeds = range(100 * seed, 100 * seed + DEMONSTRATIONS)
        collect(env, ExpertPolicy(env), path / "D", seeds, noise=ExecutionNoise(std=0.0), show_progress=False)
        weak = taught(path / "weak", [path / "D"], seed)
        count, frames = corrected_by_hand(weak, path, seed)
        better = taught(path / "better", [path / "D", path / "corrections"], seed)
        found.append((success(weak), success(better), count, frames))
        print(f"seed {seed}: success {found[-1][0]:.0%} -> {found[-1][1]:.0%} ({count} corrections, {frames} frames)")
    assert all(after > before for before, after, *_ in found)
    assert sum(after - before for before, after, *_ in found) / len(found) > 0.1
