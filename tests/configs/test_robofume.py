"""The preset robofume on the smallest possible amounts: real worlds, demonstrations and classifier."""

import json
import shutil

import pytest
from stopping import stopped_before
from untaught import save_untaught

from configs.cli import main
from policies.training.metrics import read_metrics
from rl.robofume.learner import RoboFuMELearner

SMALLEST = [
    *("--robofume.offline", "1", "--robofume.updates", "2", "--robofume.batch-size", "8", "--robofume.refined", "8"),
    *("--robofume.head.steps", "20", "--robofume.precision", "0.2", "--robofume.folds", "2"),
    *("--robofume.attempt-steps", "6"),
]
"""The least that RoboFuME can be asked for, apart from how much it acts."""
SMALL = [
    *(
        "--rl.num-envs",
        "3",
        "--rl.decisions",
        "3",
        "--rl.iterations",
        "3",
        "--rl.save-every",
        "1",
        "--env.threads",
        "1",
    ),
    *SMALLEST,
    *("--robofume.calql.width", "8", "--robofume.calql.actions", "2"),
]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return save_untaught(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "drawer"
    tasks = ["open-drawer", "close-drawer"]
    few = ["--episodes", "2", "--num-envs", "2", "--env.image-size-px", "32", "--env.threads", "1"]
    assert main(["collect", *tasks, *few, "--path", str(path)]) == 0
    return path


def result(run_dir):
    """Everything that two runs must share bit by bit."""
    last = run_dir / "checkpoints" / "last"
    files = [run_dir / "metrics.jsonl", *sorted(last.rglob("*.safetensors")), last / "policy/policy.json"]
    return [path.read_bytes() for path in files]


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_an_undisturbed_one_and_its_policy_acts(policy, demonstrations, tmp_path):
    named = ["rl", "robofume", "--policy", str(policy), "--data", str(demonstrations), *SMALL, "--outputs"]
    assert main([*named, str(tmp_path / "whole")]) == 0
    (whole,) = tmp_path.glob("whole/rl/*/*")
    with stopped_before(2, RoboFuMELearner):
        if main([*named, str(tmp_path / "stopped")]) == 130:
            raise KeyboardInterrupt
    (stopped,) = tmp_path.glob("stopped/rl/*/*")
    assert main(["rl", "--resume", str(stopped)]) == 0
    assert result(stopped) == result(whole)
    last = read_metrics(whole)[-1]
    assert last["attempts"] > 0 and last["floored"] >= 0 and 0 <= last["resets_per_attempt"] <= 1
    assert "resets_per_attempt" in (whole / "report.html").read_text(encoding="utf-8")
    evaluated = ["--tasks", "open-drawer", "close-drawer", "--episodes", "1", "--env.threads", "1"]
    assert main(["eval", str(whole), *evaluated, "--outputs", str(tmp_path)]) == 0


def test_what_cannot_be_learned_without_resets_is_refused(policy, demonstrations, tmp_path, capsys):
    def refused(*command):
        assert main(["rl", "robofume", *command, "--outputs", str(tmp_path / "outputs")]) == 2
        assert not (tmp_path / "outputs").exists()
        return capsys.readouterr().err

    named = ["--policy", str(policy), "--data", str(demonstrations)]
    assert "name the policy to start from" in refused("--data", str(demonstrations))
    assert "that another one undoes 'reach'; expected one of open-drawer, open-door" in refused(
        *named, "--tasks", "reach"
    )
    assert "name the demonstrations to learn from" in refused("--policy", str(policy))
    assert "of open-door and close-door, got those of close-drawer, open-drawer" in refused(
        *named, "--tasks", "open-door"
    )
    assert "the policy is for panda" in refused(*named, "--env.robot", "so100")
    assert "in one process" in refused(*named, "--rl.processes", "2")
    assert "rl.iterations is 5" in refused(*named, "--rl.iterations", "5")
    with pytest.raises(SystemExit):
        main(["rl", "nano-ppo", *named, "--outputs", str(tmp_path / "outputs")])
    assert "are for the preset robofume" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_classifier_of_other_tasks_is_refused(policy, demonstrations, tmp_path, capsys):
    named = ["--policy", str(policy), "--data", str(demonstrations), "--outputs", str(tmp_path)]
    assert main(["rl", "robofume", *named, *SMALL, "--rl.iterations", "1"]) == 0
    (fitted,) = tmp_path.glob("rl/*/*/classifier")
    other = shutil.copytree(fitted, tmp_path / "other")
    content = json.loads((other / "reward.json").read_text())
    assert content["about"]["tasks"] == ["close-drawer", "open-drawer"]
    content["about"]["tasks"] = ["reach"]
    (other / "reward.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["rl", "robofume", *named, "--classifier", str(other)]) == 2
    assert "has learned reach, expected one of open-drawer and close-drawer" in capsys.readouterr().err
