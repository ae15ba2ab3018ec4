"""``nano-4d`` through all verbs on a real table: recorded with depth, trained, evaluated, served, gone on with."""

import json

import pytest
import torch

from configs.cli import main
from envs.specs import STATE_KEY, depth_key
from envs.vector import TaskEnv
from policies.execution import Execution
from policies.history_policy import HistoryPolicy
from policies.keyframe_policy import load_vla_policy
from policies.remote import RemotePolicy
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.config import ServeConfig
from policies.serving.server import PolicyServer, running

SMALL = ["--env.image-size-px", "32", "--env.threads", "1"]
SHORT = ["--train.steps", "4", "--train.batch-size", "4", "--train.save-every", "4", "--train.log-every", "2"]


def newest(outputs, verb):
    return max((outputs / verb).glob("*/*"))


def train(data, outputs, *more):
    command = ["train", "nano-4d", "--data", str(data), "--outputs", str(outputs), *SHORT, "--train.threads", "1"]
    return main([*command, *more])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "reach"
    spoilt = ["--env.depth", "--env.perturbation", "randomised:depth"]
    assert main(["collect", "reach", "--episodes", "2", "--path", str(path), *SMALL, *spoilt]) == 0
    return path


@pytest.fixture(scope="module")
def run_dir(data, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    assert train(data, outputs) == 0
    return newest(outputs, "train")


def test_what_was_trained_remembers_and_knows_points(run_dir):
    policy = load_vla_policy(run_dir)
    assert isinstance(policy, HistoryPolicy)
    history = policy.vla.config.history
    assert (history.frames, history.gap, policy.replan_interval) == (3, 4, 4)
    moved = [weight.abs().sum() > 0 for weight in (policy.vla.backbone.points.patches.weight,)]
    assert all(moved) and policy.vla.backbone.moments.embed[-1].weight.abs().sum() > 0


def test_it_is_evaluated_also_where_depth_is_not_perfect(run_dir, tmp_path, capsys):
    command = ["eval", str(run_dir), "--tasks", "reach", "--episodes", "1", "--num-envs", "1", "--threads", "1"]
    command += ["--env.threads", "1", "--env.perturbation", "rgbd:depth/3", "--outputs", str(tmp_path)]
    assert main(command) == 0
    (result,) = json.loads((newest(tmp_path, "eval") / "results.json").read_text())
    assert result["perturbation"] == "rgbd:depth/3" and result["records"][0]["steps"] > 8
    assert "reach" in capsys.readouterr().out


def test_behind_a_server_it_acts_as_it_does_here(run_dir, monkeypatch):
    monkeypatch.delenv("VLA_SERVE_TOKEN", raising=False)
    torch.set_num_threads(1)
    env = TaskEnv("reach", 2, image_size_px=(32, 32), depth=True)
    observation = env.reset([0, 1])
    assert depth_key("front") in observation and len(observation[STATE_KEY]) == 2
    with running(PolicyServer(load_vla_policy(run_dir, blocks=(1,)), ServeConfig(port=0))) as port:
        clients = [PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) for _ in range(2)]
        remote = RemotePolicy(clients)
        here, there = Execution(load_vla_policy(run_dir, blocks=(1,)), 2), Execution(remote, 2)
        for _ in range(3):
            here.plan(observation)
            there.plan(observation)
            actions = here.advance()
            assert torch.equal(actions, there.advance())
            observation = env.step_chunk(actions).observation
        remote.close()
    env.close()


def test_its_weights_are_gone_on_with(run_dir, data, tmp_path, capsys):
    assert train(data, tmp_path, "--init-from", str(run_dir)) == 0
    assert "checkpoint:" in capsys.readouterr().out


def test_a_recording_without_depth_is_refused_in_one_line(tmp_path, capsys):
    path = tmp_path / "blind"
    assert main(["collect", "reach", "--episodes", "1", "--path", str(path), *SMALL]) == 0
    assert train(path, tmp_path) == 2
    error = capsys.readouterr().err
    assert "the policy sees in depth" in error and "--env.depth" in error and "Traceback" not in error
    assert not (tmp_path / "train").exists()
