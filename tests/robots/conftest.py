import contextlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from carts import CART, CartEnv

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

torch.set_num_threads(1)
logging.getLogger("policies.serving.server.websockets").setLevel(logging.CRITICAL)
PATIENT = Timing(watchdog_s=5.0, stop_after_s=10.0)
"""For tests that are not about time, on a machine that has other things to do."""


@pytest.fixture(autouse=True)
def no_token_from_outside(monkeypatch):
    monkeypatch.delenv("VLA_SERVE_TOKEN", raising=False)


@pytest.fixture
def serving():
    """Serves a policy in a thread of this process; gives the server."""
    with contextlib.ExitStack() as scope:

        def serve(policy, **settings):
            server = PolicyServer(policy, ServeConfig(port=0, **settings))
            scope.enter_context(running(server))
            return server

        yield serve


@pytest.fixture
def server_process():
    """Starts ``cart_server.py``; gives the process and its port."""
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join(map(str, (tests.parent, tests / "robots", tests / "policies")))
    with contextlib.ExitStack() as scope:

        def start(*arguments):
            command = [sys.executable, str(tests / "robots" / "cart_server.py"), *arguments]
            environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
            process = scope.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
            scope.callback(process.kill)
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            return process, int(next(line for line in lines if line.strip().isdigit()))

        yield start


class Bench:
    """A simulated cart, a client of a server, and a run of the two."""

    def __init__(self, port, scope, *, timing=PATIENT, heartbeat=None, path=None, max_steps=10_000):
        self.client = scope.enter_context(PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}"), expected=CART))
        self.env = CartEnv(max_steps)
        self.robot = SimulatedRobot(self.env)
        self.robot.connect()
        scope.callback(self.robot.close)
        name = self.client.metadata.get(LINE_KEY)
        self.line = RobotLine(self.client.config, name, CART.action_dim) if name else None
        if self.line:
            scope.callback(self.line.close)
        self.recorder = RunRecorder(path, CART, {"verb": "run"}, True) if path else None
        if self.recorder:
            scope.callback(self.recorder.close)
        self.chooser = Chooser(self.client, timing, heartbeat or NobodyAsked(), self.line)
        commander = Commander(CART, CART, self.robot.limits)
        self.run = RobotRun(self.robot, self.chooser, commander, line=self.line, recorder=self.recorder)


@pytest.fixture
def bench():
    """Makes a :class:`Bench` on a port."""
    with contextlib.ExitStack() as scope:
        yield lambda port, **settings: Bench(port, scope, **settings)
