"""Learning to look: resumes exactly, overlaps with rendering, and finds what it was told to."""

import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from discs import DiscScenes, DiscSource, looking_embodiment, result, run, tiny_backbone, tiny_pretraining
from safetensors.torch import load_file
from stopping import stopped_before

from envs.specs import Dimension
from policies.pretraining.config import HELD_OUT_SEEDS, PretrainConfig
from policies.pretraining.inputs import by_tables
from policies.pretraining.learner import PretrainLearner
from policies.pretraining.scenes import Request, SceneProcess
from policies.training.augment import AugmentConfig
from policies.training.checkpoint import CheckpointError
from policies.training.metrics import read_metrics
from vla.base import load_base
from vla.objectives.objective import ObjectiveWeights
from vla.objectives.saving import load_objectives

LOOKING = ObjectiveWeights(caption=0, answer=0, matching=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    run(run_dir)
    return run_dir


@pytest.mark.parametrize("step", [7, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 10))])
def test_an_interrupted_run_ends_as_an_undisturbed_one(tmp_path, whole, step):
    with stopped_before(step, PretrainLearner):
        run(tmp_path)
    torch.manual_seed(99)
    summary = run(tmp_path, resume=True)
    assert summary.resumed_from == step // 4 * 4
    assert result(tmp_path) == result(whole)


@pytest.mark.slow
def test_scenes_from_another_process_train_to_the_same_weights(tmp_path, whole):
    with SceneProcess(DiscSource) as scenes:
        run(tmp_path, scenes=scenes)
    assert result(tmp_path) == result(whole)


def test_another_seed_is_another_run(tmp_path, whole):
    run(tmp_path, seed=1)
    assert result(tmp_path) != result(whole)


class BrokenSource(DiscSource):
    def batch(self, first_seed, *rest, **more):
        if first_seed == 5:
            raise ValueError("no such table")
        if first_seed == 6:
            raise SystemExit(3)
        return super().batch(first_seed, *rest, **more)


def request(first_seed, split="train"):
    return Request(split=split, first_seed=first_seed, tables=2, sentences_per_table=2)


def test_a_process_answers_in_any_order_and_says_what_went_wrong():
    scenes = SceneProcess(BrokenSource)
    assert scenes.embodiment == looking_embodiment()
    ahead = scenes.batch(request(1), then=request(2))
    assert ahead.sentences == ("the red disc", "the blue disc") * 2
    other, second = scenes.batch(request(0, "held_out")), scenes.batch(request(2))
    assert other.sentences[0] == "that red disc there"
    assert torch.equal(second.images, DiscSource().batch(2, 2, 2).images)
    with pytest.raises(RuntimeError, match="cannot: ValueError: no such table"):
        scenes.batch(request(5))
    assert torch.equal(scenes.batch(request(1)).point_m, ahead.point_m), "it goes on after that"
    with pytest.raises(RuntimeError, match="has ended, with exit code 3"):
        scenes.batch(request(6))
    scenes.close()
    scenes.close()


def no_source(split):
    raise ValueError(f"nothing to look at for {split}")


def test_a_source_that_cannot_be_made_is_told_at_once():
    with pytest.raises(RuntimeError, match="cannot: ValueError: nothing to look at for train"):
        SceneProcess(no_source)
    assert not [child for child in multiprocessing.active_children() if child.name == "scenes"]


LEARNER = """
import time
from discs import DiscSource
from policies.pretraining.scenes import Request, SceneProcess

if __name__ == "__main__":
    scenes = SceneProcess(DiscSource)
    asked = Request(split="train", first_seed=0, tables=200, sentences_per_table=2)
    scenes.batch(asked, then=asked)
    print(scenes._process.pid, flush=True)
    time.sleep(600)
"""


def test_a_killed_learner_leaves_no_process_behind(tmp_path):
    script = tmp_path / "learner.py"
    script.write_text(LEARNER)
    paths = os.pathsep.join(str(path) for path in (*sys.path, Path(__file__).parent))
    learner = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    child = Path("/proc", learner.stdout.readline().strip(), "cmdline")
    assert child.exists()
    learner.kill()
    learner.wait()
    learner.stdout.close()
    while child.exists() and child.read_bytes():  # a zombie has none
        time.sleep(0.05)


def test_every_step_asks_for_the_next_ones_tables_and_none_comes_twice():
    scenes = DiscScenes()
    learner = PretrainLearner(tiny_pretraining(), tiny_backbone(), scenes)
    scenes.asked.clear()
    for step in range(12):
        learner.step(step)
    requests = [asked for asked, _ in scenes.asked]
    assert [then for _, then in scenes.asked] == [*requests[1:], None]
    assert [r.first_seed - HELD_OUT_SEEDS for r in requests] == list(range(0, 48, 4))
    assert {r.split for r in requests} == {"train"}
    assert PretrainConfig(seed=1).first_seed - PretrainConfig(seed=0).first_seed > 10**12


def test_held_out_scenes_are_looked_at_on_time_and_at_the_end(whole, tmp_path):
    reports = {report["step"]: report for report in read_metrics(whole)}
    assert {step for step, report in reports.items() if "held_out_world_cm" in report} == {6, 10, 12}
    summary = run(tmp_path)
    assert summary.held_out["world_cm_median"] == reports[12]["held_out_world_cm_median"]
    looks = {"world_cm", "world_cm_median", "within_3cm", "within_3px", "loss"}
    tells = {"caption_nll", "answers", "answers_yes_no", "answers_words"}
    assert set(summary.held_out) >= looks | tells | {"caption_to_table", "table_to_caption", "told_apart"}
    assert run(tmp_path, resume=True).held_out == summary.held_out, "a finished run remembers"


@pytest.mark.slow
def test_what_it_learns_finds_discs_in_words_that_it_never_heard(tmp_path):
    fields = {"steps": 400, "tables": 16, "lr": 5e-3, "evaluate_every": 400, "ema_decay": 0.98, "save_every": 400}
    fields |= {"held_out_tables": 64, "statistics_tables": 64, "warmup_steps": 20, "weights": LOOKING}
    fresh = run(tmp_path / "fresh", **(fields | {"steps": 1})).held_out
    learned = run(tmp_path / "learned", **fields).held_out
    assert learned["world_cm_median"] < 0.4 * fresh["world_cm_median"], (fresh, learned)
    assert learned["within_3px"] > fresh["within_3px"] + 0.4, (fresh, learned)


def test_the_backbone_holds_what_learned_and_nothing_else(whole, tmp_path):
    base = load_base(whole / "checkpoints/last/backbone")
    parts = {name.partition(".")[0] for name in base.weights}
    whole_backbone = {name.partition(".")[0] for name, _ in base.config.build().named_parameters()}
    assert parts == whole_backbone - {"queries", "query_position"}
    assert base.config.cameras == ("front", "side") and base.config.waypoint_dims == (0, 1, 2)
    assert base.config.state_names == ("tool_x", "tool_y", "tool_z") and len(base.config.vocabulary) == 64
    state = load_file(whole / "checkpoints/last/training_state/tensors.safetensors")
    assert torch.equal(base.weights["camera_embedding"], state["average/backbone.camera_embedding"])

    run(tmp_path, weights=LOOKING)
    product = tmp_path / "checkpoints/last/backbone"
    learned = load_base(product).weights
    assert {name for name in learned if name.startswith("blocks.")} == {
        name for name in base.weights if name.startswith("blocks.0.")
    }
    assert not (product / "objectives.safetensors").exists()
    with pytest.raises(CheckpointError, match="expected what objectives own at"):
        load_objectives(product)


def test_what_objectives_own_is_kept_beside_the_backbone(whole):
    learned = load_objectives(whole / "checkpoints/last/backbone")
    state = load_file(whole / "checkpoints/last/training_state/tensors.safetensors")
    own = {name: value for name, value in learned.named_parameters() if f"average/{name}" in state}
    assert {name.split(".")[1] for name in own if name.startswith("parts.")} == {"telling", "matching"}
    assert all(torch.equal(value, state[f"average/{name}"]) for name, value in own.items())
    assert {name for name in state if name.startswith("average/")} == {f"average/{name}" for name in own}


@pytest.mark.parametrize(
    ("weights", "asked"),
    [
        (LOOKING, (0, False)),
        (ObjectiveWeights(caption=0, matching=0), (2, False)),
        (ObjectiveWeights(answer=0, caption=0), (0, True)),
        (ObjectiveWeights(), (2, True)),
    ],
)
def test_what_has_no_weight_is_neither_asked_for_nor_learned(weights, asked):
    scenes = DiscScenes()
    learner = PretrainLearner(tiny_pretraining(weights=weights), tiny_backbone(), scenes)
    values = learner.step(0)
    assert {(request.questions_per_table, request.captions) for request, _ in scenes.asked} == {asked}
    terms = {"point", "pixel", "heatmap", "caption", "answer", "blind", "matching", "teacher"}
    live = {name for name, weight in vars(weights).items() if weight} - {"teacher"}
    assert terms & values.keys() == live
    assert values["loss"] == pytest.approx(sum(getattr(weights, name) * values[name] for name in live), rel=1e-5)


class SilentScenes(DiscScenes):
    def batch(self, request, then=None):
        return super().batch(replace(request, captions=False), then)


def test_scenes_that_lack_what_is_learned_from_them_are_refused():
    with pytest.raises(ValueError, match="expected captions of the held-out scenes, got none"):
        PretrainLearner(tiny_pretraining(), tiny_backbone(), SilentScenes())


def test_a_damaged_backbone_is_refused(whole, tmp_path):
    folder = tmp_path / "backbone"
    folder.mkdir()
    source = whole / "checkpoints/last/backbone"
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match="is damaged: its hash is"):
        load_base(folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "format_version": 9}))
    with pytest.raises(CheckpointError, match="expected a backbone of format 1, got format 9"):
        load_base(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr": 0.5}, "train.lr: 0.002 then, 0.5 now"),
        ({"steps": 11}, "train.steps: 12 then, 11 now"),
        ({"backbone": tiny_backbone(channels=8)}, r"backbone.backbone: .*'channels': 16.* then"),
        ({"statistics_tables": 20}, "scenes: .* then, .* now"),
    ],
)
def test_a_run_cannot_go_on_with_other_settings(whole, tmp_path, fields, message):
    (tmp_path / "checkpoints").symlink_to(whole / "checkpoints")
    with pytest.raises(CheckpointError, match=message):
        run(tmp_path, resume=True, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"augment": AugmentConfig()}, "shift_fraction must be 0 where the places"),
        ({"tables": 0}, "tables must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps and threads must be 0 or more"),
        ({"lr": math.nan}, "lr and grad_clip must be positive"),
        ({"seed": -1}, "seed must lie in 0"),
        ({"questions_per_table": 0}, "questions_per_table must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_pretraining(**fields)


def test_a_robot_without_a_tool_in_the_world_cannot_learn_to_point():
    scenes = DiscScenes()
    joints = tuple(Dimension(name=f"joint_{i}", unit="rad", low=-1, high=1, frame="joint") for i in range(3))
    scenes.embodiment = replace(looking_embodiment(), state=joints)
    with pytest.raises(ValueError, match="a waypoint of three numbers in metres, the backbone's has 0"):
        PretrainLearner(tiny_pretraining(), tiny_backbone(), scenes)


def test_a_sentence_beyond_the_window_is_refused():
    with pytest.raises(ValueError, match=r"at most 3 tokens .* got \d+ tokens: 'a red disc left of a blue disc'"):
        PretrainLearner(tiny_pretraining(), tiny_backbone(max_text_tokens=3), DiscScenes())


class LongSource(DiscSource):
    def batch(self, *arguments, **more):
        made = super().batch(*arguments, **more)
        if made.asked.questions and self.split == "held_out":
            asked = replace(made.asked, questions=(*made.asked.questions[:-1], "which " * 30))
            made = replace(made, asked=asked)
        return made


def test_a_question_beyond_the_window_is_refused_wherever_it_is():
    scenes = DiscScenes()
    scenes._sources["held_out"] = LongSource("held_out")
    with pytest.raises(ValueError, match=r"at most 24 tokens .* got \d+ tokens: 'which which"):
        PretrainLearner(tiny_pretraining(), tiny_backbone(), scenes)


def test_scenes_in_pieces_are_the_whole():
    scenes = DiscSource().batch(0, 7, 2, 2, True)
    pieces = list(by_tables(scenes, 3))
    assert [len(piece.images) for piece in pieces] == [3, 3, 1]
    for name in ("images", "state", "point_m", "cover", "seen"):
        assert torch.equal(torch.cat([getattr(piece, name) for piece in pieces]), getattr(scenes, name))
    offsets = [piece.table + 3 * index for index, piece in enumerate(pieces)]
    assert torch.equal(torch.cat(offsets), scenes.table)
    assert sum((piece.sentences for piece in pieces), ()) == scenes.sentences
    for part, texts in (("told", ("sentences", "false")), ("asked", ("questions", "answers"))):
        cut = [getattr(piece, part) for piece in pieces]
        assert torch.equal(torch.cat([p.table + 3 * i for i, p in enumerate(cut)]), getattr(scenes, part).table)
        for name in texts:
            assert sum((getattr(p, name) for p in cut), ()) == getattr(getattr(scenes, part), name)


def test_what_is_told_and_asked_comes_through_the_process():
    wanted = Request(split="train", first_seed=3, tables=2, sentences_per_table=1, questions_per_table=2, captions=True)
    with SceneProcess(DiscSource) as scenes:
        made, plain = scenes.batch(wanted), scenes.batch(request(3))
    here = DiscSource().batch(3, 2, 1, 2, True)
    assert (made.told.sentences, made.told.false) == (here.told.sentences, here.told.false)
    assert (made.asked.questions, made.asked.answers) == (here.asked.questions, here.asked.answers)
    assert torch.equal(made.told.table, here.told.table) and torch.equal(made.asked.table, here.asked.table)
    assert (len(made.told.sentences), len(made.asked.questions)) == (2, 4)
    assert len(plain.told.table) == len(plain.asked.table) == 0
