"""vla reward: what is refused, what instructions show when they are done, and one go through the simulator."""

import json

import pytest

from configs.cli import main
from configs.commands.reward import REPORT_FILE, REWARD_FOLDER
from configs.experts import content_digest
from configs.goals import goal_describer
from envs.suites import find_task


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["train", "critic"], "towers"),
        (["train", "classifier", "process"], "one reward is trained at a time"),
        (["train", "process"], "--dataset PATH"),
        (["eval", "towers", "--dataset", "somewhere"], "--dataset PATH"),
        (["eval", "towers", "--episodes", "1"], "at least two episodes"),
        (["eval", "towers", "--scorer.alpha", "2"], "alpha must lie in"),
        (["eval", "towers", "--tasks", "juggle"], "unknown task or suite 'juggle'"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(args, said, capsys):
    try:
        status = main(["reward", *args])
    except SystemExit as refused:  # by the settings themselves
        status = refused.code
    assert status == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_every_phrasing_is_described_by_its_own_task(split):
    names = ("reach", "pick", "place")
    describe = goal_describer(names)
    words = {"block": "dark red cube", "bin": "white bin"}
    for name in names:
        task = find_task(name)
        for template in getattr(task.phrasings, split):
            assert describe(template.format(**words)) == task.achieved.format(**words), template
    assert describe("juggle the cubes") == "juggle the cubes"
    assert goal_describer(("push",))("push the red cube") == "push the red cube"


@pytest.mark.slow
def test_a_classifier_is_trained_and_tried(tmp_path, capsys):
    few = ["--tasks", "reach", "--episodes", "2", "--calibration-episodes", "2", "--every", "6", "--env.threads", "1"]
    few += ["--env.image-size-px", "32", "--env.render-limit-s", "300", "--outputs", str(tmp_path)]
    assert main(["reward", "train", "classifier", *few, "--head.steps", "20"]) == 0
    (folder,) = tmp_path.glob(f"reward/*/*_classifier/{REWARD_FOLDER}")
    assert main(["reward", "eval", "towers", str(folder), *few, "--scorer.baseline", "a table"]) == 0
    (path,) = tmp_path.glob(f"reward/*/*_eval/{REPORT_FILE}")
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert [each["name"] for each in saved["scores"]] == ["nano-towers-projected", "classifier"]
    assert saved["seeds"] == [0, 1] and saved["episodes"]["expert"]["episodes"] == 2
    said = capsys.readouterr().out
    assert "false positives" in said and str(path) in said and "threshold for a precision of 90%" in said
    learning = ["--rlcf.reward", str(folder), "--rlcf.steps", "1", "--rlcf.candidates", "2"]
    small = ["--tasks", "reach", "--episodes", "1", "--num-envs", "1", "--videos", "0", "--outputs", str(tmp_path)]
    assert main(["eval", "shipped", *small, *learning, "--env.threads", "1"]) == 0
    (path,) = tmp_path.glob("eval/*/*/provenance.json")
    made_by = json.loads(path.read_text(encoding="utf-8"))
    assert made_by["rlcf"]["reward"] == str(folder) and made_by["rlcf_sha256"] == content_digest(folder)
