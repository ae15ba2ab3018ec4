"""The verb run: a policy on a server drives a robot, be it simulated or behind rosbridge."""

import dataclasses
import json
import os
import signal
import threading
from contextlib import ExitStack, nullcontext

import numpy as np
import pytest
import torch
from fake_rosbridge import FakeRosbridge
from test_rosbridge import described, wait_until
from untaught import save_untaught

from configs.cli import main
from configs.commands.run import Config, _client_config
from configs.environments import make_env
from configs.worlds import EnvConfig
from envs.specs import STATE_KEY
from policies.data.dataset import DemonstrationDataset
from policies.policy import ChunkPolicy
from policies.random_policy import RandomPolicy
from policies.robots.robot_file import RobotDescription
from policies.serving.config import ServeConfig
from policies.serving.server import PolicyServer, running


def test_a_checkpoint_answers_one_request_at_the_cost_of_one(tmp_path, monkeypatch):
    save_untaught(tmp_path)
    served = []
    monkeypatch.setattr("policies.serving.server.running", lambda server: nullcontext(served.append(server) or 1))
    with ExitStack() as scope:
        _client_config(Config(policy=str(tmp_path)), scope)
    assert served[0].policy._blocks == (1,) and served[0].config.max_batch == 1


PATIENT = ("--watchdog-s", "5", "--stop-after-s", "10")


class Panning(ChunkPolicy):
    """Turns a robot of absolute joints by changes: 0.01 rad a step, and the lift not at all."""

    def __init__(self, embodiment):
        relative = [dataclasses.replace(dim, relative=True, low=-0.05, high=0.05) for dim in embodiment.action]
        super().__init__(dataclasses.replace(embodiment, action=tuple(relative)), 4, 4)

    def predict_chunk(self, observation):
        return torch.tensor([0.01, 0.0]).repeat(len(observation[STATE_KEY]), 4, 1)


@pytest.fixture
def bridge():
    bridge = FakeRosbridge()
    yield bridge
    bridge.close()


def test_a_robot_behind_rosbridge_is_driven_while_somebody_touches_the_file(bridge, tmp_path, capsys):
    file, switch = tmp_path / "robot.toml", tmp_path / "alive"
    file.write_text(described(bridge.port), encoding="utf-8")
    done = threading.Event()

    def touch():
        while not done.wait(0.05):
            switch.touch()

    threading.Thread(target=touch, daemon=True).start()
    server = PolicyServer(Panning(RobotDescription.read(file).embodiment), ServeConfig(port=0))
    try:
        with running(server) as port:
            robot = ["--robot", str(file), "--instruction", "look left", "--deadman", str(switch)]
            kept = ["--record", str(tmp_path / "D"), "--json", str(tmp_path / "run.json")]
            assert main(["run", f"ws://127.0.0.1:{port}", *robot, *kept, "--episode-s", "2", *PATIENT]) == 0
    finally:
        done.set()
    assert "not judged, ended by time; 40 steps" in capsys.readouterr().out
    outcome = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["episodes"][0]
    commands = np.array(bridge.commands)
    assert outcome["by"]["policy"] > 10
    np.testing.assert_allclose(commands[-1], [0.2 + 0.01 * outcome["by"]["policy"], 0.1], atol=1e-3)
    assert np.abs(np.diff(commands[:, 0])).max() < 0.011
    episode = DemonstrationDataset(tmp_path / "D").episode(0)
    assert (episode.instruction, episode.task, episode.success) == ("look left", "pantilt", False)
    acted = episode.actor == 0
    np.testing.assert_allclose(episode.actions[acted], [[0.01, 0.0]] * int(acted.sum()), atol=1e-5)
    np.testing.assert_allclose(episode.actions[~acted], 0.0, atol=1e-5)


@pytest.mark.slow
def test_a_simulated_robot_is_driven_and_stopped_by_a_signal(tmp_path, capsys):
    """SIGINT in mid-run: the episode is kept, the status says so, and the robot is not left moving."""
    env = make_env("reach", 1, stream="evaluate", config=EnvConfig())
    policy = RandomPolicy(env.embodiment)
    env.close()
    with running(PolicyServer(policy, ServeConfig(port=0))) as port:
        record = tmp_path / "D"
        timer = threading.Timer(8.0, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        status = main(
            ["run", f"ws://127.0.0.1:{port}", "--task", "reach", "--episodes", "9", "--record", str(record), *PATIENT]
        )
        timer.cancel()
    assert status == 130
    assert "ended by interrupt" in capsys.readouterr().out
    dataset = DemonstrationDataset(record)
    assert len(dataset) >= 1 and dataset.embodiment == policy.embodiment


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"policy": "ws://h:1", "page": True}, "page, port, device and threads are for a checkpoint"),
        ({"policy": "run", "episode_s": 0.0}, "episode_s must be positive"),
        ({"policy": "run", "come_back_s": 5.0}, "come_back_s is for a robot that can be lost"),
    ],
)
def test_settings_that_cannot_work(settings, says):
    with pytest.raises(ValueError, match=says):
        Config(**settings)


def test_a_page_is_needed_for_its_switch(tmp_path, bridge, capsys):
    file = tmp_path / "robot.toml"
    file.write_text(described(bridge.port), encoding="utf-8")
    with running(PolicyServer(Panning(RobotDescription.read(file).embodiment), ServeConfig(port=0))) as port:
        robot = ["--robot", str(file), "--instruction", "look", "--deadman", "page"]
        assert main(["run", f"ws://127.0.0.1:{port}", *robot]) == 2
    assert "the server has no page: start it with vla serve --page" in capsys.readouterr().err


def test_a_robot_that_is_lost_in_mid_episode_costs_nothing_of_what_was_recorded(bridge, tmp_path, capsys):
    file = tmp_path / "robot.toml"
    file.write_text(described(bridge.port), encoding="utf-8")
    with running(PolicyServer(Panning(RobotDescription.read(file).embodiment), ServeConfig(port=0))) as port:
        threading.Thread(target=lambda: (wait_until(lambda: len(bridge.commands) > 9), bridge.close())).start()
        robot = ["--robot", str(file), "--instruction", "look left", "--episodes", "3"]
        kept = ["--record", str(tmp_path / "D"), "--json", str(tmp_path / "run.json")]
        assert main(["run", f"ws://127.0.0.1:{port}", *robot, *kept, *PATIENT]) == 1
    (outcome,) = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["episodes"]
    assert outcome["ended_by"] == "fault" and "the robot: " in outcome["why"] and outcome["recorded"] == 0
    assert len(DemonstrationDataset(tmp_path / "D").episode(0).actions) >= 9
    assert outcome["robot_lost"] and "ended by fault" in capsys.readouterr().out


def test_who_interrupts_a_run_that_waits_for_its_robot_ends_it(bridge, tmp_path, capsys):
    file = tmp_path / "robot.toml"
    file.write_text(described(bridge.port), encoding="utf-8")

    def lose():
        wait_until(lambda: len(bridge.commands) > 9)
        bridge.close()
        os.kill(os.getpid(), signal.SIGINT)

    with running(PolicyServer(Panning(RobotDescription.read(file).embodiment), ServeConfig(port=0))) as port:
        threading.Thread(target=lose).start()
        robot = ["--robot", str(file), "--instruction", "look left", "--episodes", "3", "--come-back-s", "20"]
        assert main(["run", f"ws://127.0.0.1:{port}", *robot, *PATIENT]) == 130
    assert capsys.readouterr().out.count("seed ") == 1


def test_a_robot_that_comes_back_goes_on_with_the_next_episode(bridge, tmp_path, capsys):
    file, again = tmp_path / "robot.toml", []
    file.write_text(described(bridge.port), encoding="utf-8")

    def restart():
        wait_until(lambda: len(bridge.commands) > 9)
        bridge.close()
        again.append(FakeRosbridge(bridge.port))

    with running(PolicyServer(Panning(RobotDescription.read(file).embodiment), ServeConfig(port=0))) as port:
        threading.Thread(target=restart).start()
        robot = ["--robot", str(file), "--instruction", "look left", "--episodes", "2", "--episode-s", "2"]
        kept = ["--json", str(tmp_path / "run.json"), "--come-back-s", "20"]
        assert main(["run", f"ws://127.0.0.1:{port}", *robot, *kept, *PATIENT]) == 0
    again[0].close()
    first, second = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["episodes"]
    assert (first["ended_by"], second["ended_by"]) == ("fault", "time") and not second["robot_lost"]
    assert second["by"]["policy"] > 10 and again[0].commands
