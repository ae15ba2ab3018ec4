"""``vla eval --perturb``: every axis beside the usual worlds, in the tasks where it changes anything."""

import json

from configs.cli import main


def evaluate(tmp_path, *options):
    command = ["eval", "expert", "--episodes", "2", "--num-envs", "2", "--videos", "0", "--env.image-size-px", "16"]
    status = main([*command, "--outputs", str(tmp_path), *options])
    entries = [json.loads(file.read_text()) for file in tmp_path.glob("eval/*/*/results.json")]
    return status, entries[0] if entries else []


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


def test_unknown_presets_and_axes_are_refused_before_any_work(tmp_path, capsys):
    assert evaluate(tmp_path, "--perturb", "colosseum")[0] == 2
    assert "unknown preset 'colosseum'; expected one of colosseum-14" in capsys.readouterr().err
    assert evaluate(tmp_path, "--perturb", "colosseum-14:glare")[0] == 2
    assert "unknown axis 'glare'" in capsys.readouterr().err
    assert not list(tmp_path.glob("eval/*/*"))
