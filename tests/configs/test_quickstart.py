"""The quickstart on the smallest possible amounts: what it records, hands on, tests and says; and what it refuses."""

import io
import json
import os
from contextlib import redirect_stdout
from dataclasses import replace

import pytest

from configs.cli import main
from configs.commands import quickstart
from configs.environments import acts_in
from configs.machine import usable_cores
from configs.presets import nano_bridge, nano_tabletop
from configs.worlds import EnvConfig
from envs.perturbations.randomised import PROBABILITY, RANDOMISED, RGBD
from policies.data.dataset import DemonstrationDataset

CONDITIONS = ("libero-plus-7:robot_start/3", "libero-plus-7:language/4")
AMOUNTS = ["--demonstrations", "4", "--randomised", "2", "--episodes", "3", "--condition-episodes", "2"]
SHORT = ["--training.train.steps", "4", "--training.train.save-every", "4", "--training.train.threads", "1"]
SMALL = ["--env.image-size-px", "32", "--env.threads", "1", "--num-envs", "4", "--videos", "0"]


def command(outputs):
    return ["quickstart", "--tasks", "reach", *AMOUNTS, *SHORT, *SMALL, "--outputs", str(outputs)]


@pytest.fixture(scope="module")
def home_and_said(tmp_path_factory):
    """Where a run left its files, and what it printed; on one core, where it starts no processes to work beside it."""
    outputs = tmp_path_factory.mktemp("outputs")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with redirect_stdout(io.StringIO()) as said:
            assert main([*command(outputs), "--conditions", *CONDITIONS]) == 0
    finally:
        os.sched_setaffinity(0, cores)
    return outputs / "quickstart", said.getvalue()


@pytest.fixture(scope="module")
def home(home_and_said):
    return home_and_said[0]


@pytest.fixture(scope="module")
def summary(home):
    return json.loads((home / "summary.json").read_text())


def test_usual_and_randomised_worlds_are_recorded_apart(home, summary):
    usual, randomised = (DemonstrationDataset(home / "latest/data" / store) for store in ("usual", "randomised"))
    assert usual.embodiment == randomised.embodiment
    assert {record.seed for record in usual.records} <= set(range(4))
    assert {record.seed for record in randomised.records} <= {100_000, 100_001}
    assert set(usual.settings["perturbation"]) == {"robot_start"}
    assert set(randomised.settings["perturbation"]) == {*RANDOMISED, "probability"} - {*RGBD}
    assert set(randomised.settings["perturbation"]["probability"].values()) == {PROBABILITY}
    for store, dataset, tried in (("usual", usual, 4), ("randomised", randomised, 2)):
        found = summary["demonstrations"][store]["reach"]
        assert found["recorded"] == len(dataset) > 0 and found["recorded"] + found["failed"] == tried


def test_the_policy_learns_from_both(home, summary):
    config = json.loads((home / "latest/train/config.json").read_text())
    assert [store.rpartition("/data/")[2] for store in config["data"]] == ["usual", "randomised"]
    recorded = sum(found["reach"]["recorded"] for found in summary["demonstrations"].values())
    assert f"{recorded} episodes, " in (home / "latest/train/report.html").read_text()


def test_the_summary_has_every_condition_with_its_episodes(summary):
    assert summary["seeds"] == {
        "training": 0,
        "demonstrations": {"stream": "demonstrate", "usual": [0, 3], "randomised": [100_000, 100_001]},
        "evaluation": {"stream": "evaluate", "seeds": [0, 2]},
    }
    assert (summary["all_tasks"]["worlds"], summary["all_tasks"]["episodes"]) == ("usual worlds", 3)
    assert tuple(summary["conditions"]) == CONDITIONS
    for found in summary["conditions"].values():
        assert found["episodes"] == found["tasks"]["reach"]["episodes"] == 2
        assert 0 <= found["lo"] <= found["success"] <= found["hi"] <= 1 and found["hi"] - found["lo"] > 0.5


def test_table_and_report_name_every_condition_with_its_episodes(home_and_said):
    home, said = home_and_said
    rows = {line.split("  ")[0].strip(): line.split() for line in said.splitlines()}
    for name, episodes in (("usual worlds", "3"), *((condition, "2") for condition in CONDITIONS)):
        assert "…" in rows[name] and rows[name][-1] == episodes
    report = (home / "report.html").read_text()
    assert "Under test conditions" in report and "under each condition 2 episodes per task" in report
    assert all(name in report for name in (*CONDITIONS, "usual worlds", "randomised: reach"))


@pytest.mark.slow
@pytest.mark.skipif(usable_cores() < 2, reason="needs two cores")
def test_two_processes_work_side_by_side_and_learn_together(home, summary, tmp_path):
    assert main([*command(tmp_path), "--conditions", *CONDITIONS]) == 0
    together = json.loads((tmp_path / "quickstart/summary.json").read_text())
    assert together["demonstrations"] == summary["demonstrations"] and together["conditions"].keys() == set(CONDITIONS)
    configs = (
        json.loads((where / "latest/train/config.json").read_text()) for where in (tmp_path / "quickstart", home)
    )
    assert [config["train"]["processes"] for config in configs] == [2, 1]


def test_worlds_of_ones_own_are_recorded_alone():
    own = EnvConfig(perturbation="colosseum-14:light")
    recordings = quickstart._recordings(quickstart.Config(env=own, randomised=0))
    assert {store: recording.env for store, (recording, _) in recordings.items()} == {"usual": own}


def test_an_arm_that_starts_elsewhere_does_so_in_the_usual_worlds_alone():
    recordings = quickstart._recordings(quickstart.Config(arm_start_rad=0.1))
    assert [recording.arm_start_rad for recording, _ in recordings.values()] == [0.1, 0.3]


def test_the_usual_conditions_change_something_in_every_usual_task():
    config = quickstart.Config()
    assert config.conditions and 0 < config.condition_episodes <= config.num_envs, "more would take a second wave"
    assert all(acts_in(condition, task) for condition in config.conditions for task in config.tasks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--randomised", "-1"], "randomised must be at least 0, got -1"),
        (["--condition-episodes", "-1"], "condition_episodes must be at least 0, got -1"),
        (["--demonstrations", "100001"], "expected at most so many demonstrations per task, got 100,001"),
        (["--env.perturbation", "colosseum-14:light"], "expected randomised 0 beside it, got 80"),
        (["--conditions", "colosseum-14"], "colosseum-14 means several perturbations; choose one of"),
        (["--conditions", "colosseum-14:rain"], "unknown axis 'rain' of colosseum-14"),
        (["--conditions", "colosseum-14:receiver_colour"], "colosseum-14:receiver_colour changes nothing in reach"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_recorded(tmp_path, capsys, options, message):
    assert main(["quickstart", "--tasks", "reach", *options, "--outputs", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_text_window_that_is_too_short_for_the_randomised_words_is_refused_at_once():
    usual = replace(nano_bridge(), name=nano_tabletop().name)
    short = replace(usual, backbone=replace(usual.backbone, max_text_tokens=12))
    config = quickstart.Config(tasks=("reach",), training=short, num_envs=1, randomised=0)
    quickstart._check(config)
    with pytest.raises(ValueError, match=r"at most 12 tokens .* got 1\d tokens: '(hello|ok|listen|for this task), "):
        quickstart._check(replace(config, randomised=1))
