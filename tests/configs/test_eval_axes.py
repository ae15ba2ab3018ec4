"""``vla eval --perturb``: every axis beside the usual worlds, in the tasks where it changes anything."""

import json

import pytest
from episodes import one_episode
from untaught import save_untaught

from configs.acting import Actor
from configs.cli import main
from configs.report.results import pooled_bar
from configs.worlds import EnvConfig
from policies.evaluation import EvaluationResult


def evaluate(tmp_path, *options):
    command = ["eval", "expert", "--episodes", "2", "--num-envs", "2", "--videos", "0", "--env.image-size-px", "16"]
    status = main([*command, "--outputs", str(tmp_path), *options])
    entries = [json.loads(file.read_text()) for file in tmp_path.glob("eval/*/*/results.json")]
    return status, entries[0] if entries else []


def entries_of(outputs):
    (file,) = outputs.glob("eval/*/*/results.json")
    return json.loads(file.read_text())


def judged(kind, won, perturbation):
    """A result of four episodes which are all won or lost."""
    episodes = tuple(one_episode(seed=seed, success=won, stages_done=0) for seed in range(4))
    return EvaluationResult(
        task="reach",
        stream="evaluate",
        perturbation=perturbation,
        instructions=kind,
        horizon=1,
        replan_interval=1,
        num_envs=4,
        wall_s=1.0,
        episodes=episodes,
        latency_s=(0.1,),
    )


def test_an_axis_is_evaluated_where_it_acts_and_compared_with_the_usual_worlds(tmp_path, capsys):
    status, entries = evaluate(tmp_path, "--tasks", "reach", "place", "--perturb", "colosseum-14:receiver_size")
    assert status == 0
    assert [(entry["axis"], entry["task"]) for entry in entries] == [
        ("none", "reach"),
        ("none", "place"),
        ("colosseum-14:receiver_size", "place"),
    ]
    printed = capsys.readouterr().out
    assert "receiver_size" in printed and "change" in printed


def test_an_axis_that_changes_nothing_says_so(tmp_path, capsys):
    assert evaluate(tmp_path, "--tasks", "reach", "--perturb", "colosseum-14:receiver_colour")[0] == 0
    assert "changes nothing in these tasks" in capsys.readouterr().out


def test_depth_is_not_disturbed_for_who_does_not_see_it(tmp_path):
    axes = ("rgbd:depth/3", "rgbd:calibration/3", "libero-plus-7:robot_start/3")
    network, expert = Actor(save_untaught(tmp_path), EnvConfig()), Actor("expert", EnvConfig(depth=True))
    assert [network.heeds(axis, "reach") for axis in axes] == [False, False, True]
    assert [expert.heeds(axis, "reach") for axis in axes] == [True, True, True]


def test_unknown_presets_and_axes_are_refused_before_any_work(tmp_path, capsys):
    assert evaluate(tmp_path, "--perturb", "colosseum")[0] == 2
    assert "unknown preset 'colosseum'; expected one of colosseum-14" in capsys.readouterr().err
    assert evaluate(tmp_path, "--perturb", "colosseum-14:glare")[0] == 2
    assert "unknown axis 'glare'" in capsys.readouterr().err
    assert not list(tmp_path.glob("eval/*/*"))


def test_kinds_of_instructions_are_kept_apart(capsys):
    from configs.commands.eval import print_axes

    axis = "colosseum-14:light"
    kinds = {"given": True, "shuffled": False}
    results = {name or "none": [judged(kind, won, name) for kind, won in kinds.items()] for name in (None, axis)}
    for kind in ("given", "shuffled"):
        print_axes(results, kind)
    given, shuffled = (part.splitlines() for part in capsys.readouterr().out.split("axis (shuffled)"))
    assert all("100.0%" in line for line in given[1:3]) and all(" 0.0%" in line for line in shuffled[1:3])
    with pytest.raises(ValueError, match=r"one kind of instructions, got \['given', 'shuffled'\]"):
        pooled_bar(results[axis], "all")


def test_results_are_labelled_by_what_ran(tmp_path):
    axis = "libero-plus-7:robot_start/2"
    (entry,) = evaluate(tmp_path, "--tasks", "reach", "--env.perturbation", axis)[1]
    assert entry["axis"] == entry["perturbation"] == axis


def test_tasks_of_a_saved_evaluation_of_a_suite_can_be_replaced(tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    small = ["--episodes", "1", "--num-envs", "1", "--videos", "0", "--env.image-size-px", "16"]
    assert main(["eval", "expert", "--tasks", "pick", "--outputs", str(first), *small]) == 0
    (saved,) = first.glob("eval/*/*/config.json")
    settings = json.loads(saved.read_text())
    assert settings["tasks"] == ["pick"] and settings["suite"] is None
    assert main(["eval", "--config", str(saved), "--tasks", "reach", "--outputs", str(again)]) == 0
    assert [entry["task"] for entry in entries_of(again)] == ["reach"]
    saved.write_text(json.dumps({**settings, "suite": "tabletop-goal"}))
    assert main(["eval", "--config", str(saved), "--tasks", "reach", "--outputs", str(tmp_path / "third")]) == 2


VOID = {
    "name either a suite or tasks": ["--suite", "tabletop-goal", "--tasks", "reach"],
    "give one of them": ["--perturb", "colosseum-14:mass", "--env.perturbation", "libero-plus-7:robot_start/5"],
    "the expert reads no instructions, so they cannot be shuffled": ["--instructions", "shuffled"],
    "so they cannot be both": ["--instructions", "both"],
    "replan_interval changes nothing where expert acts": ["--replan-interval", "2"],
    "threads changes nothing where expert acts": ["--threads", "2"],
    "client changes nothing where expert acts": ["--client.call-timeout-s", "9"],
    "the expert neither reads nor looks, so it cannot be without pictures": ["--without", "pictures"],
    "rlcf changes nothing where expert acts": ["--rlcf.reward", "towers"],
    "rlcf changes nothing without a reward": ["--rlcf.steps", "2"],
    "receiver_colour changes nothing in reach": ["--env.perturbation", "colosseum-14:receiver_colour"],
    "fetch/Slide has no scripted expert: leave it out": ["--tasks", "reach", "fetch/Slide"],
    "fetch/Push is another project's": ["--tasks", "reach", "fetch/Push", "--perturb", "colosseum-14:mass"],
}


@pytest.mark.parametrize("message", VOID)
def test_settings_that_void_each_other_are_refused_before_any_work(tmp_path, capsys, message):
    assert evaluate(tmp_path, *VOID[message])[0] == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("eval/*/*"))


def test_a_server_is_spoken_to_as_the_client_settings_say(tmp_path, capsys):
    token = tmp_path / "token"
    token.write_text("short")
    arguments = ["--outputs", str(tmp_path), "--client.token-file", str(token)]
    assert main(["eval", "ws://127.0.0.1:9", *arguments]) == 2
    assert f"the token in {token} must be" in capsys.readouterr().err
    assert main(["eval", "ws://127.0.0.1:9", "--client.url", "ws://127.0.0.1:10"]) == 2
    assert "the server's address is the policy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--episodes", "1"], "at least two seeds, got one"),
        (["--training.outputs", "elsewhere"], "outputs, not training.outputs"),
        (["--training.name", "mine"], "the run is named after its tasks: leave out training.name, got mine"),
    ],
)
def test_the_quickstart_refuses_before_it_demonstrates(tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["quickstart", "--tasks", "reach", *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
