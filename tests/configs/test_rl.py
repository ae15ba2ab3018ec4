"""The verb rl on the smallest possible amounts: what it makes acts, goes on exactly, and refuses what cannot be."""

import numpy as np
import pytest
from stopping import stopped_before
from untaught import save_untaught

from configs.cli import main
from policies.training.metrics import TIMINGS_FILE, read_metrics
from rl.learner import RLLearner

SMALL = ["--rl.num-envs", "4", "--rl.decisions", "3", "--rl.epochs", "1", "--rl.minibatches", "2", "--env.threads", "1"]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return save_untaught(tmp_path_factory.mktemp("policy"))


def learn(policy, outputs, *more):
    command = ["rl", "nano-ppo", "--policy", str(policy), "--tasks", "reach", "button", *SMALL, "--outputs"]
    assert main([*command, str(outputs), *more]) == 0
    (run_dir,) = outputs.glob("rl/*/*")
    return run_dir


def test_a_run_that_goes_on_in_simulated_worlds_ends_as_one_that_never_stopped(policy, tmp_path, capsys):
    """Episodes of several tasks are under way when it stops, and a learned reward remembers them. What comes of it is
    evaluated as any policy.
    """
    reward = ["--reward", "dense", "--learned-rewards", "towers", "--rl.critic.warmup", "1", "--rl.save-every", "1"]
    reward += ["--evaluate.every", "2", "--evaluate.tasks", "button", "--evaluate.episodes", "1"]
    whole = learn(policy, tmp_path / "whole", "--rl.iterations", "3", *reward)
    run_dir = learn(policy, tmp_path / "part", "--rl.iterations", "2", *reward)
    assert main(["rl", "--resume", str(run_dir), "--rl.iterations", "3"]) == 0
    assert (run_dir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert [line["step"] for line in read_metrics(run_dir) if "evaluated/button" in line] == [2, 3]
    last = read_metrics(run_dir)[-1]
    assert last["diverged"] == 0
    assert last["decisions"] == 12 and last["first_deviation"] < 1e-5 and np.isfinite(last["approx_kl"])
    assert "decisions_per_s" in capsys.readouterr().out
    assert main(["eval", str(run_dir), "--tasks", "reach", "--episodes", "1", "--outputs", str(tmp_path)]) == 0


def test_a_small_network_of_numbers_learns_from_nothing_and_is_evaluated(tmp_path):
    """It is tried out as it learns, and gone on with; what that took is written apart from what the run must repeat."""
    small = [*SMALL, "--rl.iterations", "3", "--outputs", str(tmp_path)]
    tried = ["--evaluate.every", "2", "--evaluate.episodes", "2", "--evaluate.env.threads", "1"]
    assert main(["rl", "mlp-ppo", *small, *tried]) == 0
    (run_dir,) = tmp_path.glob("rl/*/*")
    with stopped_before(2, RLLearner):
        if main(["rl", "mlp-ppo", *small, *tried, "--outputs", str(tmp_path / "stopped")]) == 130:
            raise KeyboardInterrupt
    (stopped,) = tmp_path.glob("stopped/rl/*/*")
    assert main(["rl", "--resume", str(stopped)]) == 0  # from a checkpoint that is there for being the best alone
    assert (stopped / "metrics.jsonl").read_bytes() == (run_dir / "metrics.jsonl").read_bytes()
    evaluated = {int(line["step"]): line["evaluated/all"] for line in read_metrics(run_dir) if "evaluated/all" in line}
    assert list(evaluated) == [2, 3]
    best = max(evaluated, key=lambda step: (evaluated[step], step))
    assert (run_dir / "checkpoints/best").readlink().as_posix() == f"{best:06d}"
    report = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "evaluated/reach_lo" in report and "on reach; 2 episodes each" in report
    times = read_metrics(run_dir, TIMINGS_FILE)
    assert [line["step"] for line in times] == [1, 2, 3]
    assert all(line["decisions_per_s"] > 0 and 0 < line["share_simulate"] <= 1 for line in times)
    assert main(["eval", str(run_dir), "--tasks", "reach", "--episodes", "1", "--outputs", str(tmp_path)]) == 0


def test_what_cannot_learn_is_refused_before_a_run_directory_is_made(policy, tmp_path, capsys):
    def refused(*command):
        assert main(["rl", *command, "--outputs", str(tmp_path)]) == 2
        assert not list(tmp_path.iterdir())
        return capsys.readouterr().err

    named = ["--policy", str(policy)]
    assert "name the policy to start from" in refused("nano-ppo")
    assert "no policy.json in any of" in refused("nano-ppo", "--policy", str(tmp_path / "nowhere"))
    assert "groups of 8 cannot be shared out to 3 shards" in refused(
        "nano-grpo", *named, "--rl.num-envs", "16", "--rl.shards", "3"
    )
    assert "unknown" in refused("nano-ppo", *named, "--tasks", "juggle")
    assert "expects image_size_px 32, got 48" in refused("nano-ppo", *named, "--env.image-size-px", "48")
    tried = ["--tasks", "reach", "button", "--evaluate.every", "1"]
    assert "cannot be evaluated on reach while it learns reach+button" in refused("mlp-ppo", *tried)
    assert "several tasks, got reach alone" in refused("nano-ppo", *named, "--tasks", "reach", "--rl.weigh-tasks")
